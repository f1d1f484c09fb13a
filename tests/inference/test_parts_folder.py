"""The output folder of a run on a cluster: its file names, which unfinished runs of earlier releases share, and its life."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from musamma.data.errors import InputError
from musamma.inference.inputs import Inputs
from musamma.inference.ray.parts_folder import PartsFolder, sum_stats
from musamma.inference.ray.shards import Shard, cut_shards
from musamma.inference.run_state import RunState, RunStats

SETTINGS = {"inputs": ["in.jsonl"], "shard size": 1}


def state_of(shard: Shard, **settings: object) -> RunState:
    return RunState(
        settings=settings or {"model": "m"}, stats=RunStats(records=1, documents=1, names=2, digest=shard.digest)
    )


def publish(folder: PartsFolder, shard: Shard, content: str, **settings: object) -> None:
    attempt = folder.start_attempt(shard.number)
    (attempt / folder.part_path(shard.number).name).write_text(content, encoding="utf-8")
    folder.publish(shard.number, state_of(shard, **settings), attempt)


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    (tmp_path / "in.jsonl").write_text('{"id": "1", "text": "بغداد"}\n', encoding="utf-8")
    (shard,) = cut_shards(Inputs(names=(str(tmp_path / "in.jsonl"),)), size=1)
    return shard


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_files_of_a_run(tmp_path: Path, shard: Shard) -> None:
    folder = PartsFolder(tmp_path / "out", "jsonl", "gzip")
    folder.check_start(SETTINGS, resume=False, overwrite=False)
    folder.start(SETTINGS, overwrite=False)
    assert files(folder.path) == ["_run", "_run.json"]
    assert json.loads((folder.path / "_run.json").read_bytes())["settings"] == SETTINGS
    attempt = folder.start_attempt(0)
    assert folder.count_attempts() == folder.count_attempts(0) == 1
    assert folder.count_attempts(1) == 0
    part = attempt / "part-00000.jsonl.gz"
    part.write_bytes(b"tagged")
    Path(f"{part}.rejects.jsonl").write_bytes(b"rejected")
    folder.publish(0, state_of(shard), attempt)
    assert files(folder.path) == [
        "_run", "_run.json", "_run/part-00000.json", "part-00000.jsonl.gz", "part-00000.rejects.jsonl",
    ]  # fmt: skip
    assert folder.read_finished([shard]) == {0: state_of(shard)}
    folder.start_attempt(0)  # of a worker that died
    folder.finish(RunStats(records=1, documents=1, names=2), shards=1, settings=SETTINGS)
    assert files(folder.path) == ["_SUCCESS.json", "part-00000.jsonl.gz", "part-00000.rejects.jsonl"]
    success = json.loads((folder.path / "_SUCCESS.json").read_bytes())
    assert success == {
        "records": 1, "documents": 1, "rejected": 0, "names": 2, "words": 0, "left_out": 0, "lost": {},
        "shards": 1, "retried": 1, "settings": SETTINGS,
    }  # fmt: skip
    folder.remove()
    assert files(folder.path) == []


def test_a_part_without_its_state_or_of_other_settings_is_not_finished(tmp_path: Path, shard: Shard) -> None:
    folder = PartsFolder(tmp_path / "out", "jsonl")
    folder.start(SETTINGS, overwrite=False)
    publish(folder, shard, "first")
    second = replace(shard, number=1)
    publish(folder, second, "second", model="another")
    third = replace(shard, number=2)
    folder.part_path(2).write_text("without a state", encoding="utf-8")
    assert list(folder.read_finished([shard, second, third])) == [0]
    assert not folder.part_path(1).exists()
    changed = replace(shard, digest="another")
    with pytest.raises(InputError, match=r"the input of part-00000\.jsonl has changed"):
        folder.read_finished([changed])


def test_an_unfinished_run_is_resumed_or_overwritten(tmp_path: Path, shard: Shard) -> None:
    folder = PartsFolder(tmp_path / "out", "jsonl")
    folder.start(SETTINGS, overwrite=False)
    publish(folder, shard, "tagged")
    left = folder.start_attempt(1)
    with pytest.raises(InputError, match="an unfinished output"):
        folder.check_start(SETTINGS, resume=False, overwrite=False)
    with pytest.raises(InputError, match="started with shard size 1 and is resumed with shard size 2"):
        folder.check_start(SETTINGS | {"shard size": 2}, resume=True, overwrite=False)
    folder.check_start(SETTINGS, resume=True, overwrite=False)
    folder.start(SETTINGS, overwrite=False)
    assert not left.exists()
    assert folder.part_path(0).read_text(encoding="utf-8") == "tagged"
    folder.check_start(SETTINGS | {"shard size": 2}, resume=False, overwrite=True)
    folder.start(SETTINGS, overwrite=True)
    assert files(folder.path) == ["_run", "_run.json"]


def test_the_sum_of_statistics() -> None:
    parts = [
        RunStats(records=3, documents=2, rejected=1, names=4, words=9, lost={"nested": 1}, bytes=7, digest="a"),
        RunStats(records=1, documents=1, names=1, words=2, left_out=5, lost={"nested": 2, "score": 3}, digest="b"),
    ]
    assert sum_stats(parts) == RunStats(
        records=4, documents=3, rejected=1, names=5, words=11, left_out=5, lost={"nested": 3, "score": 3}
    )
    assert sum_stats([]) == RunStats()
