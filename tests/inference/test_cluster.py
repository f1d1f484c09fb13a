"""Runs on a cluster of two nodes on this machine: the output is that of a run without a cluster, whichever process dies."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from musamma.cli.main import run
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.inference.batch_run import GROUP_SIZE, LoadedTagger, tag_records
from musamma.inference.inputs import Inputs, read_inputs
from musamma.inference.output_formats import build_output_format
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.ray.cluster import MAX_ATTEMPTS, ClusterOptions, tag_on_cluster
from musamma.inference.ray.parts_folder import PartsFolder
from musamma.inference.resumable_file import ResumableFile
from musamma.inference.rule_file import load_rules
from musamma.inference.run_state import RunStats
from tests.support import write_random_checkpoint

ray = pytest.importorskip("ray")
Nodes = pytest.importorskip("ray.cluster_utils").Cluster

pytestmark = [
    # Ray keeps a connection per process, and a test that kills nodes may bring down its own.
    pytest.mark.own_process(timeout=600),
    pytest.mark.xdist_group("ray"),
    # Ray Data warns about settings that it sets to their defaults itself.
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context"),
]
COUNT = 6 * GROUP_SIZE + 17
Run = Callable[..., tuple[RunStats, RunStats]]


class FakeTagger:
    """Finds every Baghdad, and calls ``on_document`` with each document."""

    def __init__(self, on_document: Callable[[Document], None]) -> None:
        self.on_document = on_document

    def tag_groups(self, groups: Iterable[list[Document]]) -> Iterator[tuple[list[Document], int]]:
        for group in groups:
            yield [self.tag(document) for document in group], len(group)

    def tag(self, document: Document) -> Document:
        self.on_document(document)
        spans = [Span(match.start(), match.end(), "LOC", 0.5) for match in re.finditer("بغداد", document.text)]
        return document.with_spans(spans)


def fake_tagger(
    on_document: Callable[[Document], None] = lambda document: None, **settings: Any
) -> Callable[[], LoadedTagger]:
    return lambda: LoadedTagger(tagger=FakeTagger(on_document), settings=settings)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """A cluster of two nodes of one core."""
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        # A node that does not answer is given up after 10 s: soon enough for the test, late enough on a busy machine.
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "20")
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster = Nodes(initialize_head=True, head_node_args=node | {"include_dashboard": False})
        try:
            cluster.add_node(**node)
            yield cluster
        finally:
            cluster.shutdown()


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    lines = [{"id": f"م/{n}", "text": "وصل إلى بغداد " * (n % 5) + "نعم"} for n in range(COUNT)]
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def tag(nodes: Nodes, archive: Path, tmp_path: Path) -> Run:
    """Tags on the cluster."""

    def run_on_cluster(
        load: Callable[[], LoadedTagger],
        *,
        source: Path = archive,
        target: Path = tmp_path / "out",
        format: str = "jsonl",
        workers: int = 2,
        address: str | None = nodes.address,
        progress_bar: ProgressBar | None = None,
        **options: Any,
    ) -> tuple[RunStats, RunStats]:
        return tag_on_cluster(
            Inputs(names=(str(source),), output=str(target)),
            load,
            PartsFolder(target, format),
            cluster=ClusterOptions(address=address, workers=workers),
            audit=ImportAudit(),
            progress_bar=progress_bar or ProgressBar(None),
            **{"shard_size": GROUP_SIZE, **options},
        )

    return run_on_cluster


def tag_locally(load: Callable[[], LoadedTagger], source: Path, target: Path) -> RunStats:
    """Tag without a cluster."""
    audit = ImportAudit()
    output_format = build_output_format("jsonl", compression=None, audit=audit, table=None)
    with (
        ProgressBar(None) as progress_bar,
        ResumableFile(target) as output,
        closing(read_inputs(Inputs(names=(str(source),)))) as records,
    ):
        return tag_records(records, load, output, output_format, audit=audit, progress_bar=progress_bar, skip=True)


def join_parts(folder: Path, pattern: str = "part-[0-9][0-9][0-9][0-9][0-9].jsonl*") -> bytes:
    """Return the concatenated parts of a finished folder, which holds nothing else."""
    assert (folder / "_SUCCESS.json").exists()
    assert not [path.name for path in folder.iterdir() if not path.name.startswith(("part-", "_SUCCESS"))]
    return b"".join(path.read_bytes() for path in sorted(folder.glob(pattern)))


def read_success(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "_SUCCESS.json").read_bytes())


def test_the_command_writes_the_same_as_without_a_cluster(
    nodes: Nodes, wordpiece_encoder: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(write_random_checkpoint(tmp_path / "model", wordpiece_encoder, proclitic_std=None))
    rules = tmp_path / "rules.yaml"
    rules.write_text("lists: [{label: CAPITAL, names: [بغداد]}]", encoding="utf-8")
    capsys.readouterr()  # transformers shows a progress bar when it saves
    common = ["predict", str(archive), "--model", model, "--device", "cpu", "--min-score", "0.5"]
    common += ["--rules", str(rules), "--output"]
    on_ray = ["--engine", "ray", "--address", nodes.address, "--workers", "2", "--shard-size", str(2 * GROUP_SIZE)]

    assert run([*common, str(tmp_path / "local.jsonl.zst")]) == 0
    summary = re.sub(r", [\d,]+ words/s", "", capsys.readouterr().err)
    assert run([*common, str(tmp_path / "out.jsonl.zst"), *on_ray]) == 0
    assert re.sub(r", [\d,]+ words/s", "", capsys.readouterr().err) == summary
    assert re.match(rf"{COUNT:,} documents, [\d,]+ names, 0 rejected", summary)
    assert "names below their threshold left out" in summary
    assert join_parts(tmp_path / "out.jsonl.zst") == (tmp_path / "local.jsonl.zst").read_bytes()
    assert len(list((tmp_path / "out.jsonl.zst").glob("part-*"))) == 4
    settings = read_success(tmp_path / "out.jsonl.zst")["settings"]
    assert (settings["model"], settings["rules"]) == (model, load_rules(rules).digest())


def test_the_shard_of_a_killed_worker_is_tagged_again(tag: Run, archive: Path, tmp_path: Path) -> None:
    flag = tmp_path / "killed"

    def on_document(document: Document) -> None:
        if document.id == f"م/{2 * GROUP_SIZE + 100}" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    done, _ = tag(fake_tagger(on_document, made="so"))
    assert flag.exists()
    tag_locally(fake_tagger(), archive, tmp_path / "local.jsonl")
    assert join_parts(tmp_path / "out") == (tmp_path / "local.jsonl").read_bytes()
    content = read_success(tmp_path / "out")
    assert (content["records"], content["documents"], content["shards"], content["retried"]) == (COUNT, COUNT, 7, 1)
    assert content["settings"]["made"] == "so"
    assert done.left_out == COUNT


class Stopped(BaseException):
    """Ends the driver like a kill: the code under test does not handle it."""


class StoppingProgressBar(ProgressBar):
    """Stops the driver when two parts are finished."""

    count = 0

    def show(self, *, read: int, documents: int, names: int, rejected: int) -> None:
        self.count += 1
        if self.count == 2:
            raise Stopped


def test_a_stopped_run_is_resumed(tag: Run, archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        tag(fake_tagger(made="so"), progress_bar=StoppingProgressBar(None))
    assert not (out / "_SUCCESS.json").exists()
    with pytest.raises(InputError, match=r"an unfinished output; .* or continue it with `resume=True`"):
        tag(fake_tagger(made="so"))
    with pytest.raises(InputError, match="started with shard size 256 and is resumed with shard size 512"):
        tag(fake_tagger(made="so"), resume=True, shard_size=512)
    parts = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 2 <= len(parts) < 7
    with pytest.raises(InputError, match=r'worker on .*started with made "so" and is resumed with made "otherwise"'):
        tag(fake_tagger(made="otherwise"), resume=True)
    text = archive.read_text(encoding="utf-8")
    archive.write_text(text.replace("نعم", "لا"), encoding="utf-8")
    with pytest.raises(InputError, match=r"the input of part-0000\d.jsonl has changed"):
        tag(fake_tagger(made="so"), resume=True)
    archive.write_text(text, encoding="utf-8")
    done, before = tag(fake_tagger(made="so"), resume=True)
    assert before.documents >= 2 * GROUP_SIZE
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    tag_locally(fake_tagger(), archive, tmp_path / "local.jsonl")
    assert join_parts(out) == (tmp_path / "local.jsonl").read_bytes()
    assert done.documents == COUNT
    for options in ({}, {"resume": True}):
        with pytest.raises(InputError, match=r"the output is complete; .*`overwrite=True` tags everything again"):
            tag(fake_tagger(), **options)


def test_records_that_are_not_documents(tag: Run, archive: Path, tmp_path: Path) -> None:
    lines = archive.read_bytes().splitlines(keepends=True)
    lines[300], lines[301], lines[1200] = b"broken\n", b"\n", lines[5]
    archive.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=rf"{archive}:301: .*JSON"):
        tag(fake_tagger())
    assert not (tmp_path / "out").exists()
    done, _ = tag(fake_tagger(), skip=True)
    tag_locally(fake_tagger(), archive, tmp_path / "local.jsonl")
    assert join_parts(tmp_path / "out") == (tmp_path / "local.jsonl").read_bytes()
    rejects = join_parts(tmp_path / "out", "*.rejects.jsonl")
    assert rejects == (tmp_path / "local.jsonl.rejects.jsonl").read_bytes()
    assert [json.loads(line)["line"] for line in rejects.splitlines()] == [301, 1201]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.rejects.jsonl")) == [
        "part-00001.rejects.jsonl",
        "part-00004.rejects.jsonl",
    ]
    assert (done.records, done.documents, done.rejected) == (COUNT - 1, COUNT - 3, 2)


def test_names_that_are_not_utf8(tag: Run, archive: Path, tmp_path: Path) -> None:
    folder, target = (tmp_path / os.fsdecode(name) for name in (b"caf\xe9", b"sortie \xe0"))
    folder.mkdir()
    archive = archive.rename(folder / "in.jsonl")
    archive.write_bytes(archive.read_bytes() + b"broken\n")
    with pytest.raises(InputError, match=r"caf\\xe9/in.jsonl:\d+: broken JSON"):
        tag(fake_tagger(), source=folder, target=target)
    assert not target.exists()
    tag(fake_tagger(), source=folder, target=target, skip=True, shard_size=4 * GROUP_SIZE)
    tag_locally(fake_tagger(), folder, tmp_path / "local.jsonl")
    assert join_parts(target) == (tmp_path / "local.jsonl").read_bytes()
    rejects = join_parts(target, "*.rejects.jsonl")
    assert rejects == (tmp_path / "local.jsonl.rejects.jsonl").read_bytes()
    assert json.loads(rejects)["file"] == f"{tmp_path}/caf\\xe9/in.jsonl"
    assert read_success(target)["settings"]["inputs"] == [f"{tmp_path}/caf\\xe9"]


def test_parquet_parts(tag: Run, tmp_path: Path) -> None:
    tag(fake_tagger(), format="parquet", shard_size=4 * GROUP_SIZE)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "out").glob("part-*.parquet"))]
    assert [id for table in tables for id in table["id"].to_pylist()] == [f"م/{n}" for n in range(COUNT)]
    assert [len(table) for table in tables] == [4 * GROUP_SIZE, 2 * GROUP_SIZE + 17]


def test_a_shard_that_crashes_every_worker_is_abandoned(tag: Run) -> None:
    def on_document(document: Document) -> None:
        if document.id == "م/3":
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match=rf"part-00000.jsonl crashed {MAX_ATTEMPTS} workers: .*in.jsonl"):
        tag(fake_tagger(on_document), shard_size=4 * GROUP_SIZE)


def test_an_error_in_a_worker_ends_the_run(tag: Run, tmp_path: Path) -> None:
    def load() -> LoadedTagger:
        raise InputError("no such model", where="nothing", remedy="another one")

    with pytest.raises(InputError, match=r"^nothing: no such model; another one$"):
        tag(load)
    assert not (tmp_path / "out").exists()
    assert not ray.is_initialized()


def test_no_thread_outlives_the_connection(tag: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any call of Ray after the connection is closed opens another, to a cluster that nobody named."""

    def prefetch_blocks(self: Any, blocks: list[Any]) -> None:
        raise AssertionError("a thread that nobody joins prefetches")

    monkeypatch.setattr("ray.data._internal.block_batching.util.WaitBlockPrefetcher.prefetch_blocks", prefetch_blocks)
    tag(fake_tagger())
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith(("Streaming", "ray-data"))]
    assert not ray.is_initialized()


@pytest.fixture
def connection(nodes: Nodes) -> Iterator[str]:
    """The address of the cluster, to which this process is connected during the test."""
    ray.init(address=nodes.address, log_to_driver=False)
    try:
        yield nodes.address
    finally:
        ray.shutdown()


def test_an_existing_connection_is_used_only_for_its_own_address(
    tag: Run, connection: str, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = f"this process is connected to the Ray cluster at {connection}; expected that address, or no connection"
    for address in ("127.0.0.1:1", "local", f"192.0.2.1:{connection.rpartition(':')[2]}"):
        with pytest.raises(InputError, match=f"^`address='{address}'`: {expected}"):
            tag(fake_tagger(), address=address)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=f"^RAY_ADDRESS=127.0.0.1:1: {expected}"):
        tag(fake_tagger(), address=None)
    monkeypatch.delenv("RAY_ADDRESS")
    assert not (tmp_path / "out").exists()
    assert ray.is_initialized()
    tag_locally(fake_tagger(), archive, tmp_path / "local.jsonl")
    for address in (None, f"localhost:{connection.rpartition(':')[2]}"):
        tag(fake_tagger(), address=address, shard_size=4 * GROUP_SIZE, overwrite=True)
        assert join_parts(tmp_path / "out") == (tmp_path / "local.jsonl").read_bytes()
        assert ray.get_runtime_context().gcs_address == connection


def test_invalid_options(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tag(format: str = "jsonl", folder: Path = tmp_path / "new", **cluster: Any) -> None:
        tag_on_cluster(
            Inputs(names=(str(archive),)),
            fake_tagger(),
            PartsFolder(folder, format),
            cluster=ClusterOptions(**cluster),
            audit=ImportAudit(),
            progress_bar=ProgressBar(None),
        )

    with pytest.raises(InputError, match="`engine='ray'`: format 'brat'; expected one of jsonl, parquet, conll"):
        tag(format="brat")
    with pytest.raises(InputError, match="`workers` 0; expected 1 or more"):
        tag(workers=0)
    with pytest.raises(InputError, match="a ray:// address"):
        tag(address="ray://127.0.0.1:10001")
    refused = "no Ray cluster: .*Connection refused.* ray start"
    with pytest.raises(InputError, match=f"^`address='127.0.0.1:1'`: {refused}"):
        tag(address="127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=f"^RAY_ADDRESS=127.0.0.1:1: {refused}"):
        tag()
    with pytest.raises(InputError, match="a folder with other files in it"):
        tag(folder=tmp_path)
    with pytest.raises(InputError, match="a file; expected a folder to write"):
        tag(folder=archive)
    monkeypatch.setattr("musamma.inference.ray.cluster.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"ray is not installed; pip install 'musamma\[ray\]'"):
        tag()
    assert not (tmp_path / "new").exists()


# Ray ended the process of its driver some seconds after a node was lost, in the test that came next.
@pytest.mark.own_process(timeout=600, alone=True)
def test_the_shard_of_a_lost_node_is_tagged_again(tag: Run, nodes: Nodes, archive: Path, tmp_path: Path) -> None:
    node = nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    node_id, flag = node.node_id, tmp_path / "on-node"

    def on_document(document: Document) -> None:
        if ray.get_runtime_context().get_node_id() == node_id:
            flag.touch()
            time.sleep(600)
        elif not flag.exists():
            time.sleep(0.02)  # leaves shards for the third node, which is ready last

    def remove_node() -> None:
        while not flag.exists():
            time.sleep(0.05)
        nodes.remove_node(node, allow_graceful=False)

    remover = threading.Thread(target=remove_node, daemon=True)
    remover.start()
    tag(fake_tagger(on_document), workers=3)
    assert flag.exists()
    remover.join(30)
    assert not remover.is_alive()
    tag_locally(fake_tagger(), archive, tmp_path / "local.jsonl")
    assert join_parts(tmp_path / "out") == (tmp_path / "local.jsonl").read_bytes()
    assert read_success(tmp_path / "out")["retried"] == 1
