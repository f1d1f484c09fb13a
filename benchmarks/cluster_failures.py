"""Kill workers of a run on a Ray cluster and compare its output with that of a run without a cluster. No network.

    python benchmarks/cluster_failures.py [--documents N] [--model MODEL] [--nodes N] [--cpus N] [--size N] [--kills N]

The documents are Khabar's texts, repeated as needed. The cluster consists of --nodes nodes of --cpus cores on this machine. Workers are
killed (SIGKILL) one after another during the run, each after a further part was finished. The concatenated parts must equal the
output of one process byte by byte. Without ``--model`` a checkpoint with random heads is made from the packaged encoder.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import cycle, islice
from pathlib import Path

import resume

from musamma.data.corpora import load_khabar
from musamma.data.import_audit import ImportAudit
from musamma.inference.batch_run import LoadedTagger, tag_records
from musamma.inference.inputs import Inputs, read_inputs
from musamma.inference.output_formats import build_output_format
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.ray.cluster import ClusterOptions, tag_on_cluster
from musamma.inference.ray.parts_folder import SUCCESS_FILE, PartsFolder
from musamma.inference.ray.shards import cut_shards
from musamma.inference.resumable_file import ResumableFile
from musamma.inference.run_state import RunStats


def write_documents(path: Path, count: int) -> int:
    """Write Khabar's texts with new ids as JSON lines; return the number of words."""
    texts = [document.text for split in ("train", "dev", "test") for document in load_khabar(split)]
    words = 0
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(islice(cycle(texts), count)):
            words += len(text.split())
            file.write(json.dumps({"id": str(number), "text": text}, ensure_ascii=False) + "\n")
    return words


def find_worker_pids() -> list[int]:
    """Return the Ray processes of this user that tag."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::MapWorker") and path.stat().st_uid == os.getuid():
                pids.append(int(path.parent.name))
        except OSError:
            continue  # the process has ended
    return pids


def kill_workers(folder: Path, killed: list[int], *, kills: int, ended: threading.Event) -> None:
    """Kill ``kills`` workers, each while it tags and after a further part was finished.

    Args:
        folder: the output.
        killed: gets the number of finished parts at each kill.
        kills: workers to kill.
        ended: set at the end of the run.
    """
    parts_before = 0
    while len(killed) < kills and not ended.wait(0.1):
        parts = len(list(folder.glob("part-*")))
        unfinished = list(folder.glob("_run/attempt-*/*.part.json"))  # at least one group of the part is written
        if parts > parts_before and unfinished and (pids := find_worker_pids()):
            parts_before = parts
            os.kill(pids[len(killed) % len(pids)], signal.SIGKILL)
            killed.append(parts)


def tag_in_one_process(load: Callable[[], LoadedTagger], source: Path, output: Path) -> float:
    """Tag without a cluster; return the seconds."""
    start = time.perf_counter()
    with ProgressBar(None) as progress_bar, ResumableFile(output) as file:
        output_format = build_output_format("jsonl", compression=None, audit=ImportAudit(), table=None)
        records = read_inputs(Inputs(names=(str(source),)))
        tag_records(records, load, file, output_format, audit=ImportAudit(), progress_bar=progress_bar)
    return time.perf_counter() - start


def tag_on_nodes(
    load: Callable[[], LoadedTagger], source: Path, output: Path, options: argparse.Namespace
) -> tuple[RunStats, float, int]:
    """Tag on a cluster of this machine while workers are killed; return the stats, the seconds and the number of workers killed."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": options.cpus, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    ended = threading.Event()
    killed: list[int] = []
    killer = threading.Thread(
        target=kill_workers, args=(output, killed), kwargs={"kills": options.kills, "ended": ended}
    )
    try:
        for _ in range(options.nodes - 1):
            cluster.add_node(**node)
        killer.start()
        start = time.perf_counter()
        with ProgressBar(None) as progress_bar:
            stats, _ = tag_on_cluster(
                Inputs(names=(str(source),), output=str(output)),
                load,
                PartsFolder(output, "jsonl"),
                cluster=ClusterOptions(address=cluster.address),
                audit=ImportAudit(),
                progress_bar=progress_bar,
                shard_size=options.size,
            )
        seconds = time.perf_counter() - start
    finally:
        ended.set()
        cluster.shutdown()
    return stats, seconds, len(killed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=2_000)
    parser.add_argument("--model")
    parser.add_argument("--nodes", type=int, default=2)
    parser.add_argument("--cpus", type=int, default=1, help="per node")
    parser.add_argument("--size", type=int, default=256, help="minimum records per shard")
    parser.add_argument("--kills", type=int, default=1)
    options = parser.parse_args()
    # Read by the processes that Ray starts; one thread per worker, as in the run without a cluster.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_BACKEND_LOG_LEVEL": "fatal", "OMP_NUM_THREADS": "1"}
    os.environ["RAY_DEDUP_LOGS_SKIP_REGEX"] = ".*"  # messages of killed workers
    os.environ.pop("RAY_ADDRESS", None)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = str(Path(options.model).resolve()) if options.model else resume.make_model(folder / "model")
        source, output = folder / "in.jsonl", folder / "out"
        words = write_documents(source, options.documents)

        def load() -> LoadedTagger:
            import torch

            from musamma.inference.tagger import Tagger

            torch.set_num_threads(1)
            tagger = Tagger(model, device="cpu")
            return LoadedTagger(tagger=tagger, settings=tagger.settings())

        start = time.perf_counter()
        shards = list(cut_shards(Inputs(names=(str(source),)), size=options.size))
        seconds = time.perf_counter() - start
        print(f"first reading: {len(shards)} shards, {options.documents / seconds:,.0f} documents/s")

        seconds = tag_in_one_process(load, source, folder / "local.jsonl")
        print(
            f"one process: {options.documents:,} documents, {words:,} words, {seconds:.1f} s, "
            f"{words / seconds:,.0f} words/s"
        )

        stats, seconds, killed = tag_on_nodes(load, source, output, options)
        success = json.loads((output / SUCCESS_FILE).read_bytes())
        print(
            f"{options.nodes} nodes: {stats.documents:,} documents, {success['shards']} shards, {seconds:.1f} s, "
            f"{words / seconds:,.0f} words/s; {killed} workers killed, {success['retried']} shards repeated"
        )
        parts = b"".join(path.read_bytes() for path in sorted(output.glob("part-*.jsonl")))
        if parts != (folder / "local.jsonl").read_bytes() or stats.documents != options.documents:
            raise SystemExit("the outputs differ")
        print("the parts equal the output of one process byte by byte")


if __name__ == "__main__":
    main()
