"""Runs on a cluster of two nodes on this machine: the same comes out as without one, whoever is killed on the way."""

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
import torch

from musamma.cli.main import run
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.data.normalization import install_normalizer
from musamma.data.tags import TagSet
from musamma.inference.batch_run import GROUP_SIZE, LoadedTagger, tag_records
from musamma.inference.inputs import Inputs, read_inputs
from musamma.inference.progress_bar import ProgressBar
from musamma.inference.ray.cluster import MAX_ATTEMPTS, ClusterOptions, tag_on_cluster
from musamma.inference.ray.parts_folder import PartsFolder
from musamma.inference.resumable_file import ResumableFile
from musamma.inference.run_state import RunStats
from musamma.inference.writers import build_output_format
from musamma.models.classifier import WindowOptions
from musamma.models.loading import build_classifier, load_tokenizer

ray = pytest.importorskip("ray")
Nodes = pytest.importorskip("ray.cluster_utils").Cluster

pytestmark = [
    pytest.mark.xdist_group("ray"),
    # Ray Data warns of settings of its own that it sets to their default itself.
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context"),
]
COUNT = 6 * GROUP_SIZE + 17


class Finder:
    """Finds every Baghdad; ``meets`` is called with each document."""

    def __init__(self, meets: Callable[[Document], None]) -> None:
        self.meets = meets

    def tag_groups(self, groups: Iterable[list[Document]]) -> Iterator[tuple[list[Document], int]]:
        for group in groups:
            yield [self.tagged(document) for document in group], len(group)

    def tagged(self, document: Document) -> Document:
        self.meets(document)
        spans = [Span(found.start(), found.end(), "LOC", 0.5) for found in re.finditer("بغداد", document.text)]
        return document.with_spans(spans)


def finder(meets: Callable[[Document], None] = lambda document: None, **settings: Any) -> Callable[[], LoadedTagger]:
    return lambda: LoadedTagger(tagger=Finder(meets), settings=settings)


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    small = {"num_cpus": 1, "object_store_memory": 80 * 2**20}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_BACKEND_LOG_LEVEL", "fatal")
        # A node that does not answer is given up in seconds, but not one that waits for a core: a process falls with its node.
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "20")
        patch.delenv("RAY_ADDRESS", raising=False)
        cluster = Nodes(initialize_head=True, head_node_args=small | {"include_dashboard": False})
        try:
            cluster.add_node(**small)
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
def call(nodes: Nodes, archive: Path, tmp_path: Path) -> Callable[..., tuple[RunStats, RunStats]]:
    """Runs on the cluster."""

    def called(
        load: Callable[[], LoadedTagger],
        *,
        source: Path = archive,
        format: str = "jsonl",
        packing: str | None = None,
        workers: int = 2,
        progress_bar: ProgressBar | None = None,
        **options: Any,
    ) -> tuple[RunStats, RunStats]:
        return tag_on_cluster(
            Inputs(names=(str(source),), output=str(tmp_path / "out")),
            load,
            PartsFolder(tmp_path / "out", format, packing),
            cluster=ClusterOptions(address=nodes.address, workers=workers),
            audit=ImportAudit(),
            progress_bar=progress_bar or ProgressBar(None),
            **{"size": GROUP_SIZE, **options},
        )

    return called


def locally(load: Callable[[], LoadedTagger], source: Path, target: Path, *, packing: str | None = None) -> RunStats:
    """A run without a cluster."""
    audit = ImportAudit()
    written = build_output_format("jsonl", packing=packing, audit=audit, table=None)
    with (
        ProgressBar(None) as progress_bar,
        ResumableFile(target) as part,
        closing(read_inputs(Inputs(names=(str(source),)))) as records,
    ):
        return tag_records(records, load, part, written, audit=audit, progress_bar=progress_bar, skip=True)


def joined(folder: Path, pattern: str = "part-[0-9][0-9][0-9][0-9][0-9].jsonl*") -> bytes:
    """What the parts hold, in their order; there is nothing else in the folder but what tells that it is whole."""
    assert (folder / "_SUCCESS.json").exists()
    assert not [path.name for path in folder.iterdir() if not path.name.startswith(("part-", "_SUCCESS"))]
    return b"".join(path.read_bytes() for path in sorted(folder.glob(pattern)))


def told(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "_SUCCESS.json").read_bytes())


def test_the_command_writes_what_it_writes_without_a_cluster(
    nodes: Nodes, wordpiece_encoder: Path, archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(5)
    classifier = build_classifier(str(wordpiece_encoder), TagSet.from_labels(["PER", "LOC", "ORG"]))
    torch.nn.init.normal_(classifier.backbone.classifier.weight, std=2)
    tokenizer = install_normalizer(load_tokenizer(str(wordpiece_encoder)))
    model = str(tmp_path / "model")
    classifier.save_pretrained(Path(model), tokenizer, WindowOptions(max_length=64, overlap=16))
    capsys.readouterr()  # transformers shows how it saves
    common = ["predict", str(archive), "--model", model, "--device", "cpu", "--min-score", "0.5", "--output"]
    spread = ["--engine", "ray", "--address", nodes.address, "--workers", "2", "--shard-size", str(2 * GROUP_SIZE)]

    assert run([*common, str(tmp_path / "local.jsonl.zst")]) == 0
    account = capsys.readouterr().err
    assert run([*common, str(tmp_path / "out.jsonl.zst"), *spread]) == 0
    assert [re.sub(r", [\d,]+ words/s", "", said) for said in (capsys.readouterr().err, account)] == [
        re.sub(r", [\d,]+ words/s", "", account)
    ] * 2
    assert re.match(rf"{COUNT:,} documents, [\d,]+ names, 0 rejected, ", account)
    assert "names below their threshold left out" in account
    assert joined(tmp_path / "out.jsonl.zst") == (tmp_path / "local.jsonl.zst").read_bytes()
    assert len(list((tmp_path / "out.jsonl.zst").glob("part-*"))) == 4
    assert told(tmp_path / "out.jsonl.zst")["settings"]["model"] == model


def test_a_worker_that_is_killed(call: Callable[..., tuple[RunStats, RunStats]], archive: Path, tmp_path: Path) -> None:
    flag = tmp_path / "killed"

    def meets(document: Document) -> None:
        if document.id == f"م/{2 * GROUP_SIZE + 100}" and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    done, _ = call(finder(meets, made="so"))
    assert flag.exists()
    locally(finder(), archive, tmp_path / "local.jsonl")
    assert joined(tmp_path / "out") == (tmp_path / "local.jsonl").read_bytes()
    content = told(tmp_path / "out")
    assert (content["records"], content["documents"], content["shards"], content["retried"]) == (COUNT, COUNT, 7, 1)
    assert content["settings"]["made"] == "so"
    assert done.left_out == COUNT


def test_a_node_that_is_gone(
    call: Callable[..., tuple[RunStats, RunStats]], nodes: Nodes, archive: Path, tmp_path: Path
) -> None:
    doomed = nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    name, there = doomed.node_id, tmp_path / "there"

    def meets(document: Document) -> None:
        if ray.get_runtime_context().get_node_id() == name:
            there.touch()
            time.sleep(600)
        elif not there.exists():
            time.sleep(0.02)  # so that there is something left for the third node, which is the last one ready

    def remove() -> None:
        while not there.exists():
            time.sleep(0.05)
        nodes.remove_node(doomed, allow_graceful=False)

    remover = threading.Thread(target=remove, daemon=True)
    remover.start()
    call(finder(meets), workers=3)
    assert there.exists()
    remover.join(10)
    assert not remover.is_alive()
    locally(finder(), archive, tmp_path / "local.jsonl")
    assert joined(tmp_path / "out") == (tmp_path / "local.jsonl").read_bytes()
    assert told(tmp_path / "out")["retried"] == 1


class Stopped(BaseException):
    """As a kill of the driver: nothing of ours handles it."""


class StoppingMeter(ProgressBar):
    """Stops the driver when two parts are there."""

    shown = 0

    def show(self, *, read: int, documents: int, names: int, rejected: int) -> None:
        self.shown += 1
        if self.shown == 2:
            raise Stopped


def test_a_run_that_stops_goes_on(
    call: Callable[..., tuple[RunStats, RunStats]], archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(Stopped):
        call(finder(made="so"), progress_bar=StoppingMeter(None))
    assert not (out / "_SUCCESS.json").exists()
    with pytest.raises(InputError, match=r"an unfinished output; .* or continue it with `resume=True`"):
        call(finder(made="so"))
    with pytest.raises(InputError, match="started with shard size 256 and is resumed with shard size 512"):
        call(finder(made="so"), resume=True, size=512)
    parts = {path: path.stat().st_mtime_ns for path in out.glob("part-*")}
    assert 2 <= len(parts) < 7
    with pytest.raises(InputError, match=r'worker on .*started with made "so" and is resumed with made "otherwise"'):
        call(finder(made="otherwise"), resume=True)
    text = archive.read_text(encoding="utf-8")
    archive.write_text(text.replace("نعم", "لا"), encoding="utf-8")
    with pytest.raises(InputError, match=r"the input of part-0000\d.jsonl is not what it was made of"):
        call(finder(made="so"), resume=True)
    archive.write_text(text, encoding="utf-8")
    done, before = call(finder(made="so"), resume=True)
    assert before.documents >= 2 * GROUP_SIZE
    assert {path: path.stat().st_mtime_ns for path in parts} == parts
    locally(finder(), archive, tmp_path / "local.jsonl")
    assert joined(out) == (tmp_path / "local.jsonl").read_bytes()
    assert done.documents == COUNT
    for options in ({}, {"resume": True}):
        with pytest.raises(InputError, match=r"the output is complete; .*`overwrite=True` tags everything again"):
            call(finder(), **options)


def test_lines_that_are_no_documents(
    call: Callable[..., tuple[RunStats, RunStats]], archive: Path, tmp_path: Path
) -> None:
    lines = archive.read_bytes().splitlines(keepends=True)
    lines[300], lines[301], lines[1200] = b"broken\n", b"\n", lines[5]
    archive.write_bytes(b"".join(lines))
    with pytest.raises(InputError, match=rf"{archive}:301: .*JSON"):
        call(finder())
    assert not (tmp_path / "out").exists()
    done, _ = call(finder(), skip=True)
    locally(finder(), archive, tmp_path / "local.jsonl")
    assert joined(tmp_path / "out") == (tmp_path / "local.jsonl").read_bytes()
    rejects = joined(tmp_path / "out", "*.rejects.jsonl")
    assert rejects == (tmp_path / "local.jsonl.rejects.jsonl").read_bytes()
    assert [json.loads(line)["line"] for line in rejects.splitlines()] == [301, 1201]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.rejects.jsonl")) == [
        "part-00001.rejects.jsonl",
        "part-00004.rejects.jsonl",
    ]
    assert (done.records, done.documents, done.rejected) == (COUNT - 1, COUNT - 3, 2)


def test_parquet_out(call: Callable[..., tuple[RunStats, RunStats]], tmp_path: Path) -> None:
    call(finder(), format="parquet", size=4 * GROUP_SIZE)
    tables = [pq.read_table(path) for path in sorted((tmp_path / "out").glob("part-*.parquet"))]
    assert [id for table in tables for id in table["id"].to_pylist()] == [f"م/{n}" for n in range(COUNT)]
    assert [len(table) for table in tables] == [4 * GROUP_SIZE, 2 * GROUP_SIZE + 17]


def test_what_kills_every_worker_is_given_up(call: Callable[..., tuple[RunStats, RunStats]], tmp_path: Path) -> None:
    def meets(document: Document) -> None:
        if document.id == "م/3":
            os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(RuntimeError, match=rf"part-00000.jsonl has brought {MAX_ATTEMPTS} workers down: .*in.jsonl"):
        call(finder(meets), size=4 * GROUP_SIZE)


def test_errors_of_a_worker_end_the_run(call: Callable[..., tuple[RunStats, RunStats]], tmp_path: Path) -> None:
    def load() -> LoadedTagger:
        raise InputError("no such model", where="nothing", remedy="another one")

    with pytest.raises(InputError, match=r"^nothing: no such model; another one$"):
        call(load)
    assert not (tmp_path / "out").exists()


def test_calls_that_cannot_be(
    call: Callable[..., tuple[RunStats, RunStats]], archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def called(format: str = "jsonl", folder: Path = tmp_path / "new", **cluster: Any) -> None:
        tag_on_cluster(
            Inputs(names=(str(archive),)),
            finder(),
            PartsFolder(folder, format),
            cluster=ClusterOptions(**cluster),
            audit=ImportAudit(),
            progress_bar=ProgressBar(None),
        )

    with pytest.raises(InputError, match="--engine ray with --format brat; expected one of jsonl, parquet, conll"):
        called(format="brat")
    with pytest.raises(InputError, match="--workers 0; expected 1 or more"):
        called(workers=0)
    with pytest.raises(InputError, match="a ray:// address"):
        called(address="ray://127.0.0.1:10001")
    with pytest.raises(InputError, match=r"--address 127.0.0.1:1: no Ray cluster: .*Connection refused.* ray start"):
        called(address="127.0.0.1:1")
    with pytest.raises(InputError, match="a folder with other files in it"):
        called(folder=tmp_path)
    with pytest.raises(InputError, match="a file; expected a folder to write"):
        called(folder=archive)
    monkeypatch.setattr("musamma.inference.ray.cluster.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"ray is not installed; pip install 'musamma\[ray\]'"):
        called()
    assert not (tmp_path / "new").exists()
