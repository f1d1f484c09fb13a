"""Never losing work on a cluster: kill a worker of a run of ``--engine ray`` and compare with a run without a cluster. No network.

    python benchmarks/cluster.py [--documents N] [--model MODEL] [--nodes N] [--cpus N] [--size N] [--kills N]

The documents are Khabar's texts, as often as it takes. The cluster has nodes of its own on this machine, each with so many cores;
while the run lasts, workers are killed (SIGKILL) one after the other, each when a part has come since the last. The parts, put
together, must be what one process writes, byte by byte. Without ``--model`` a checkpoint with random heads is made of the encoder
that comes with the project.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path

import resume

from musamma.data.corpora import load_khabar
from musamma.data.import_audit import ImportAudit
from musamma.inference.batch_run import LoadedTagger, tag_records
from musamma.inference.inputs import Inputs, read_inputs
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.ray.cluster import ClusterOptions, tag_on_cluster
from musamma.inference.ray.parts_folder import SUCCESS_FILE, PartsFolder
from musamma.inference.ray.shards import cut_shards
from musamma.inference.resumable_file import ResumableFile
from musamma.inference.writers import build_output_format


def write_documents(path: Path, count: int) -> int:
    """Khabar's texts as JSON lines with ids of their own; the words in them."""
    texts = [document.text for split in ("train", "dev", "test") for document in load_khabar(split)]
    words = 0
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(islice(cycle(texts), count)):
            words += len(text.split())
            file.write(json.dumps({"id": str(number), "text": text}, ensure_ascii=False) + "\n")
    return words


def worker_pids() -> list[int]:
    """Processes of this user that Ray has tagging."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::MapWorker") and path.stat().st_uid == os.getuid():
                found.append(int(path.parent.name))
        except OSError:
            continue  # gone in between
    return found


def kill_workers(folder: Path, killed: list[int], *, kills: int, ended: threading.Event) -> None:
    """Kill so many workers, each while it tags and when a part has come since the last."""
    before = 0
    while len(killed) < kills and not ended.wait(0.1):
        parts = len(list(folder.glob("part-*")))
        busy = list(folder.glob("_run/attempt-*/*.part.json"))  # a group of a part is there
        if parts > before and busy and (pids := worker_pids()):
            before = parts
            os.kill(pids[len(killed) % len(pids)], signal.SIGKILL)
            killed.append(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2_000)
    parser.add_argument("--model")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=1)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--kills", type=int, default=1)
    given = parser.parse_args()
    # What Ray starts reads these; a thread a worker, as is compared with.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "OMP_NUM_THREADS": "1"}
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = ".*"  # of the killed workers
    os.environ.pop("RAY_ADDRESS", None)
    from ray.cluster_utils import ClusterOptions as Nodes

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = str(Path(given.model).resolve()) if given.model else resume.make_model(folder / "model")
        source, out = folder / "in.jsonl", folder / "out"
        words = write_documents(source, given.documents)

        def load() -> LoadedTagger:
            import torch

            from musamma.inference.tagger import Tagger

            torch.set_num_threads(1)
            tagger = Tagger(model, device="cpu")
            return LoadedTagger(tagger=tagger, settings=tagger.settings())

        began = time.perf_counter()
        shards = list(cut_shards(Inputs(names=(str(source),)), size=given.size))
        seconds = time.perf_counter() - began
        print(f"first reading: {len(shards)} shards, {given.documents / seconds:,.0f} documents/s")

        began = time.perf_counter()
        with ProgressBar(None) as progress_bar, ResumableFile(folder / "local.jsonl") as part:
            written = build_output_format("jsonl", packing=None, audit=ImportAudit(), table=None)
            records = read_inputs(Inputs(names=(str(source),)))
            tag_records(records, load, part, written, audit=ImportAudit(), progress_bar=progress_bar)
        alone = time.perf_counter() - began
        print(
            f"one process: {given.documents:,} documents, {words:,} words, {alone:.1f} s, {words / alone:,.0f} words/s"
        )

        small = {"num_cpus": given.cpus, "object_store_memory": 100 * 2**20}
        nodes = Nodes(initialize_head=True, head_node_args=small | {"include_dashboard": False})
        ended = threading.Event()
        killed: list[int] = []
        killer = threading.Thread(
            target=kill_workers, args=(out, killed), kwargs={"kills": given.kills, "ended": ended}
        )
        try:
            for _ in range(given.nodes - 1):
                nodes.add_node(**small)
            killer.start()
            began = time.perf_counter()
            with ProgressBar(None) as progress_bar:
                done, _ = tag_on_cluster(
                    Inputs(names=(str(source),), output=str(out)),
                    load,
                    PartsFolder(out, "jsonl"),
                    cluster=ClusterOptions(address=nodes.address),
                    audit=ImportAudit(),
                    progress_bar=progress_bar,
                    shard_size=given.size,
                )
            seconds = time.perf_counter() - began
        finally:
            ended.set()
            nodes.shutdown()
        told = json.loads((out / SUCCESS_FILE).read_bytes())
        print(
            f"{given.nodes} nodes: {done.documents:,} documents, {told['shards']} shards, {seconds:.1f} s, "
            f"{words / seconds:,.0f} words/s; {len(killed)} workers killed, {told['retried']} shards begun again"
        )
        parts = b"".join(path.read_bytes() for path in sorted(out.glob("part-*.jsonl")))
        if parts != (folder / "local.jsonl").read_bytes() or done.documents != given.documents:
            raise SystemExit("the outputs differ")
        print("the parts are what one process wrote, byte by byte")


if __name__ == "__main__":
    main()
