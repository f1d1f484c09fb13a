"""Shards: wherever an input is cut, the shards hold the same records as a run without shards reads."""

from __future__ import annotations

import gzip
import itertools
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musamma.data.errors import InputError
from musamma.inference import batch_run as batch
from musamma.inference.batch_run import group_records
from musamma.inference.inputs import Inputs, Record, count_input_bytes, read_inputs
from musamma.inference.ray.shards import cut_shards, read_shard
from musamma.inference.run_state import update_digest

LINES = st.lists(
    st.one_of(
        st.sampled_from([b"", b"  ", b"\t", b"{}", b"not json", b"\xff\xfe", b'{"id": "same", "text": "x"}']),
        st.text(max_size=60).map(lambda text: json.dumps({"id": text[:2], "text": text}).encode()),
        st.integers(0, 10**6).map(lambda n: json.dumps({"id": f"م{n}", "text": "بغداد " * (n % 50)}).encode()),
    ),
    min_size=1,
    max_size=40,
)


def comparable(record: Record) -> tuple[object, ...]:
    """Return a record without the position in the input."""
    return record.file, record.line, record.raw, record.document, str(record.error)


def check_shards(names: list[Path], *, size: int, **options: str) -> list[Record]:
    """Cut an input, read the shards independently of each other and compare with the whole; return its records."""
    inputs = Inputs(names=tuple(map(str, names)), **options)
    whole = list(read_inputs(inputs))
    shards = list(cut_shards(inputs, size=size, skip=True))
    parts = [list(read_shard(shard, inputs)) for shard in reversed(shards)][::-1]
    assert [comparable(record) for part in parts for record in part] == [comparable(record) for record in whole]
    assert [group for part in parts for group in _comparable_groups(part)] == _comparable_groups(whole)
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert [shard.records for shard in shards] == list(map(len, parts))
    assert [shard.rejected for shard in shards] == [sum(record.error is not None for record in part) for part in parts]
    assert all(shard.records >= size for shard in shards[:-1])
    positions = [0, *(shard.bytes_read for shard in shards), count_input_bytes(inputs)]
    assert positions == sorted(positions)
    for shard, part in zip(shards, parts, strict=True):
        digest = ""
        for group in group_records(part, skip=True):
            digest = update_digest(digest, group)
        assert shard.digest == digest
    return whole


def _comparable_groups(records: list[Record]) -> list[list[tuple[object, ...]]]:
    return [[comparable(record) for record in group] for group in group_records(records, skip=True)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=LINES,
    ends=st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=1, max_size=3),
    last=st.booleans(),
    mark=st.booleans(),
    size=st.integers(1, 20),
    group=st.integers(1, 7),
    group_bytes=st.integers(20, 2000),
    packed=st.booleans(),
)
def test_json_lines_cut_at_any_record(
    tmp_path: Path,
    lines: list[bytes],
    ends: list[bytes],
    last: bool,
    mark: bool,
    size: int,
    group: int,
    group_bytes: int,
    packed: bool,
) -> None:
    content = b"".join(line + end for line, end in zip(lines, itertools.cycle(ends), strict=False))
    content = (b"\xef\xbb\xbf" if mark else b"") + (content if last else content.rstrip(b"\r\n"))
    first, second = tmp_path / ("in.jsonl.gz" if packed else "in.jsonl"), tmp_path / "second.ndjson"
    first.write_bytes(gzip.compress(content) if packed else content)
    second.write_bytes(b"\n" + content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "GROUP_SIZE", group)
        patch.setattr(batch, "GROUP_BYTES", group_bytes)
        check_shards([first, second], size=size)


@pytest.fixture
def _small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "GROUP_SIZE", 3)


@pytest.mark.usefixtures("_small_groups")
@pytest.mark.parametrize("size", [1, 5, 1000])
def test_every_kind_of_file(tmp_path: Path, size: int) -> None:
    for number in range(7):
        path = tmp_path / f"news/{number % 2}/{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"وصل {number}" if number != 3 else "", encoding="utf-8")
    rows = [f'"سطر\n{number}",x{number}' for number in range(20)] + ["short", '"a"b,c']
    (tmp_path / "news/table.csv").write_text("\n".join(["text,kind", *rows]), encoding="utf-8")
    table = pa.table({"body": [f"وصل {n}" if n % 9 else None for n in range(40)], "n": range(40)})
    pq.write_table(table.rename_columns(["text", "n"]), tmp_path / "news/rows.parquet", row_group_size=7)
    (tmp_path / "news/z.jsonl").write_text("".join(f'{{"id": "{n % 9}", "text": "ن"}}\n' for n in range(12)))
    records = check_shards([tmp_path / "news"], size=size)
    ids = [record.document.id for record in records if record.document]
    assert {"1/1", "table-00019", "rows-00039", "8"} <= set(ids)
    twice = [str(record.error) for record in records if "is taken by" in str(record.error)]
    assert [error.partition(": ")[2] for error in twice] == [
        f"id '{n}' is taken by line {n + 1}; expected unique ids" for n in range(3)
    ]


@pytest.mark.usefixtures("_small_groups")
def test_chosen_columns_and_ids_across_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["ا"] * 8, "key": list("abcdefgh")}), tmp_path / "a.parquet", row_group_size=3)
    pq.write_table(pa.table({"body": ["ا"] * 8, "key": list("zbydefgh")}), tmp_path / "b.parquet", row_group_size=8)
    records = check_shards(
        [tmp_path / "a.parquet", tmp_path / "b.parquet"], size=4, text_column="body", id_column="key"
    )
    taken = [record.error for record in records if record.error]
    assert len(taken) == 6
    assert f"is taken by {tmp_path / 'a.parquet'}:2;" in str(taken[0])


@pytest.mark.usefixtures("_small_groups")
def test_a_truncated_file(tmp_path: Path) -> None:
    content = b"".join(json.dumps({"id": str(n), "text": "ن" * 2000}).encode() + b"\n" for n in range(60))
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(content, 1)[:-200])
    (tmp_path / "empty.jsonl").write_bytes(b"\n\n")
    records = check_shards([tmp_path / "cut.jsonl.gz", tmp_path / "empty.jsonl"], size=2)
    errors = [str(record.error) for record in records if record.error]
    assert "cannot be read beyond line" in errors[0]
    assert "the file holds no document" in errors[1]


def test_long_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("musamma.inference.inputs.MAX_BYTES", 100)
    lines = [json.dumps({"id": str(n), "text": "x" * (n * 20)}).encode() for n in range(12)]
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(lines))
    monkeypatch.setattr(batch, "GROUP_SIZE", 1)
    records = check_shards([tmp_path / "in.jsonl"], size=1)
    assert ["more than 100 bytes" in str(record.error) for record in records] == [n > 3 for n in range(12)]


def test_a_changed_file_has_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id": "1", "text": "a"}\n{"id": "2", "text": "b"}\n')
    inputs = Inputs(names=(str(path),))
    (shard,) = cut_shards(inputs)
    path.write_bytes(b'{"id": "1", "text": "a"}\n')
    records = list(read_shard(shard, inputs))
    assert len(records) == 1
    assert update_digest("", records) != shard.digest


def test_inputs_that_cannot_be_cut(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/part-00000.jsonl").write_text('{"id": "1", "text": "a"}\n')
    with pytest.raises(InputError, match="an input lies in the output's folder"):
        list(cut_shards(Inputs(names=(str(tmp_path),), output=str(tmp_path / "out"))))
    with pytest.raises(InputError, match="standard input; expected files"):
        list(cut_shards(Inputs(names=("-",))))
    with pytest.raises(InputError, match="shards of 0 records; expected 1 or more"):
        list(cut_shards(Inputs(names=(str(tmp_path),)), size=0))
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="nothing to tag"):
        list(cut_shards(Inputs(names=(str(tmp_path / "none"),))))
    (tmp_path / "bad.jsonl").write_text('{"id": "1", "text": "a"}\n{"id": "1", "text": "b"}\n')
    with pytest.raises(InputError, match=r"bad\.jsonl:2: id '1' is taken by line 1"):
        list(cut_shards(Inputs(names=(str(tmp_path / "bad.jsonl"),))))


def test_blank_lines_of_compressed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "GROUP_SIZE", 1)
    lines = [b"\n" * (n % 3) + json.dumps({"id": str(n), "text": "ن"}).encode() + b"\r\n" for n in range(9)]
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(b"".join(lines)))
    records = check_shards([tmp_path / "in.jsonl.gz"], size=2)
    assert [record.line for record in records] == [1, 3, 6, 7, 9, 12, 13, 15, 18]
