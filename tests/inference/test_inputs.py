"""Input of tagging: text files, JSON lines, tables, folders, patterns and standard input."""

from __future__ import annotations

import base64
import csv
import datetime
import decimal
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.inference import inputs
from musamma.inference.inputs import Inputs, Record, count_input_bytes, read_extra_columns, read_inputs

#: Both kinds of line ends, vowel signs, bidi controls, an emoji outside the Basic Multilingual Plane, a byte order mark inside.
TEXT = "\r\n قَالَ مُحَمَّدٌ\r\nفي \u202bبيروت\u202c 😀\u200f \ufeffنعم\n\n"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_all(*inputs: object, **options: Any) -> list[Record]:
    return list(read_inputs(Inputs(names=tuple(map(str, inputs)), **options)))


def documents(*inputs: object, **options: Any) -> list[Document]:
    result = []
    for record in read_all(*inputs, **options):
        if record.error is not None:
            raise record.error
        assert record.document is not None
        result.append(record.document)
    return result


def read(*inputs: object, **options: Any) -> list[tuple[str, str]]:
    return [(document.id, document.text) for document in documents(*inputs, **options)]


def feed_stdin(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


@pytest.mark.parametrize("mark", [b"", BYTE_ORDER_MARK])
def test_a_text_file_is_one_document_with_its_characters_unchanged(tmp_path, mark):
    (tmp_path / "مقال.txt").write_bytes(mark + TEXT.encode())
    assert read(tmp_path / "مقال.txt") == [("مقال", TEXT)]


def test_json_lines_keep_ids_and_meta(tmp_path):
    lines = [{"id": "b", "text": TEXT, "meta": {"n": 1}}, {"id": "a", "text": ""}]
    (tmp_path / "d.JSONL").write_bytes(BYTE_ORDER_MARK + "\n\n".join(json.dumps(line) for line in lines).encode())
    assert [(d.id, d.text, d.meta) for d in documents(tmp_path / "d.JSONL")] == [("b", TEXT, {"n": 1}), ("a", "", {})]


def test_a_folder_is_read_recursively_sorted_by_path(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b/y.text"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "a" / "c.jsonl").write_text('{"id": "x", "text": "نص"}', encoding="utf-8")
    (tmp_path / "a" / "picture.png").write_bytes(b"\x89PNG")
    assert read(tmp_path) == [("a/b/y", "a/b/y.text"), ("x", "نص"), ("a/z", "a/z.txt"), ("b", "b.txt")]


@pytest.mark.parametrize("mark", [b"", BYTE_ORDER_MARK])
def test_standard_input_is_one_text(monkeypatch, mark):
    feed_stdin(monkeypatch, mark + TEXT.encode())
    assert read("-") == [("stdin", TEXT)]


def test_standard_input_is_json_lines_if_it_begins_with_a_brace(monkeypatch):
    lines = ['{"text": "بغداد"}', "", '{"id": "ب", "text": "دمشق"}']
    feed_stdin(monkeypatch, BYTE_ORDER_MARK + b"\n  " + "\n".join(lines).encode())
    assert read("-") == [("stdin-2", "بغداد"), ("ب", "دمشق")]


def test_standard_input_is_read_as_it_comes(monkeypatch):
    """The first documents are yielded before the last line is read."""
    feed_stdin(monkeypatch, b'{"text": "a"}\n{"text": "b"}\n{"te')
    records = read_inputs(Inputs(names=("-",)))
    assert [next(records).document.text, next(records).document.text] == ["a", "b"]
    assert str(next(records).error).startswith("stdin:3: broken JSON")


@pytest.mark.parametrize("content", [b"", b" \n\t\n", BYTE_ORDER_MARK, BYTE_ORDER_MARK + b"\r\n"])
def test_standard_input_without_text_is_an_error(monkeypatch, content):
    feed_stdin(monkeypatch, content)
    with pytest.raises(InputError, match=r"^stdin: no text; expected an article, or one JSON object a line$"):
        read("-")


def test_the_error_of_a_repeated_id_names_both_places(tmp_path):
    for name in ("a/x.txt", "b/x.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("نص", encoding="utf-8")
    with pytest.raises(InputError, match=r"b/x\.txt: id 'x' is taken by .*a/x\.txt; .*the folder that holds them"):
        read(tmp_path / "a" / "x.txt", tmp_path / "b" / "x.txt")
    assert [name for name, _ in read(tmp_path)] == ["a/x", "b/x"]  # the remedy works


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            "سطر\nسطر\n".encode() + b"\xe4",
            r"a\.txt:3: byte 0xe4 is not UTF-8; expected UTF-8; convert the file",
        ),
        ("a.txt", b" \r\n", r"a\.txt: the file is empty; expected text"),
        ("a.jsonl", b'{"id": "a", "text": "\xe4"}', r"a\.jsonl:1: byte 0xe4 at byte 22 is not UTF-8"),
        ("a.jsonl", b'{"id": "a"}', r"a\.jsonl:1: text is NoneType; expected a string under 'text'"),
        ("a.jsonl", b"\n\n", r"a\.jsonl: the file holds no document"),
        ("a.csv", b"id,text\n\n", r"a\.csv: the file holds no document"),
        ("a.docx", b"x", r"a\.docx: suffix '\.docx'; expected \.txt files .* \.jsonl files .*musamma convert"),
        ("a", b"x", r"a: suffix '\(none\)'; expected"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_nothing_to_tag_is_an_error(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(InputError, match=f"^{tmp_path}: nothing to tag; expected .txt files"):
        read(tmp_path)
    with pytest.raises(InputError, match="no such file or folder; check the path, or give - for standard input"):
        read(Path("nowhere") / "x.txt")


# Tables, compressed files, patterns.


def write_compressed(path: Path, content: bytes) -> Path:
    """Write a file compressed as its suffix says, in two members or frames."""
    half = len(content) // 2
    compress = gzip.compress if path.suffix == ".gz" else lambda data: pa.Codec("zstd").compress(data, asbytes=True)
    path.write_bytes(compress(content[:half]) + compress(content[half:]))
    return path


def csv_bytes(rows: list[list[str]], delimiter: str = ",") -> bytes:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows(rows)
    return buffer.getvalue().encode()


ROWS = [["no", "body", "مصدر"], ["7", 'قال "نعم"،\nفي بيروت', "رويترز"], ["8", "بغداد", ""]]
JSON = '{"no": 7, "body": "قال \\"نعم\\"،\\nفي بيروت", "مصدر": "رويترز"}\n{"no": "8", "body": "بغداد", "مصدر": ""}\n'


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("in.csv", BYTE_ORDER_MARK + csv_bytes(ROWS)),
        ("in.TSV", csv_bytes(ROWS, "\t")),
        ("in.jsonl", JSON.encode()),
    ],
)
def test_other_columns_are_kept_as_meta(tmp_path, name, content, suffix):
    path = tmp_path / (name + suffix)
    path.write_bytes(content) if not suffix else write_compressed(path, content)
    assert documents(path, text_column="body", id_column="no") == [
        Document("7", 'قال "نعم"،\nفي بيروت', meta={"مصدر": "رويترز"}),
        Document("8", "بغداد", meta={"مصدر": ""}),
    ]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_the_id_of_a_compressed_text_has_no_suffixes(tmp_path, suffix):
    write_compressed(tmp_path / f"مقال.txt{suffix}", TEXT.encode())
    assert read(tmp_path / f"مقال.txt{suffix}") == read(tmp_path) == [("مقال", TEXT)]


def test_json_lines_with_further_keys(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"id": 3, "text": "نص", "date": "2024", "meta": {"page": 1}}\n'
        '{"id": "b", "text": "نص", "page": 2, "meta": {"page": 1}}\n'
        '{"text": "نص"}\n',
        encoding="utf-8",
    )
    first, second, third = read_all(tmp_path / "a.jsonl")
    assert first.document == Document("3", "نص", meta={"page": 1, "date": "2024"})
    assert str(second.error) == f"{tmp_path}/a.jsonl:2: 'page' is in meta and beside it; expected one value"
    assert str(third.error).startswith(f"{tmp_path}/a.jsonl:3: id is None; expected a non-empty string")


def test_parquet_cells_of_all_kinds(tmp_path):
    day = datetime.datetime(2024, 1, 12, 8, 30)
    table = pa.table(
        {
            "doc_id": pa.array([1, 2], pa.int64()),
            "text": pa.array(["بغداد", None], pa.large_string()),
            "day": [day, day],
            "price": [decimal.Decimal("3.50"), None],
            "raw": [b"\xff", b""],
            "spans": [[{"start": 90, "end": 2}], None],
            "meta": ['{"page": 4}', None],
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = read_all(tmp_path / "a.parquet")
    assert first.document == Document(
        "1", "بغداد", meta={"page": 4, "day": day, "price": decimal.Decimal("3.50"), "raw": b"\xff"}
    )
    assert json.loads(first.content()[1:])[2] == {
        "page": 4,
        "day": "2024-01-12T08:30:00",
        "price": "3.50",
        "raw": "/w==",
    }
    assert str(second.error) == f"{tmp_path}/a.parquet:2: text is NoneType; expected a string under 'text'"
    assert json.loads(second.raw)["doc_id"] == 2
    further = read_extra_columns(Inputs(names=(str(tmp_path / "a.parquet"),)))
    assert further.names == ["day", "price", "raw", "spans", "meta"]
    assert further.field("day").type == pa.timestamp("us")


def test_parquet_text_that_is_not_utf8_rejects_only_its_row(tmp_path):
    text = pa.array([b"\xd9\x86\xd8\xb5", b"caf\xe9", "نص".encode()], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"text": text}), tmp_path / "a.parquet")
    first, second, third = read_all(tmp_path / "a.parquet")
    assert (first.document, third.document) == (Document("a-00000", "نص"), Document("a-00002", "نص"))
    assert str(second.error).startswith(f"{tmp_path}/a.parquet:2:1: byte 0xe9 is not UTF-8")
    assert second.raw == b"caf\xe9"


def test_rows_without_ids_are_numbered_and_wrong_rows_rejected_alone(tmp_path):
    content = b'text,x\n"\xd9\x86\xd8\xb5\n2",1\n\ncaf\xe9,2\n\xd8\xa8,3,4\nb"c,"d"e\n\xd9\x87,5\n'
    (tmp_path / "t.csv").write_bytes(content)
    records = read_all(tmp_path / "t.csv")
    assert [(r.line, r.document.id if r.document else None) for r in records] == [
        (2, "t-00000"),
        (5, None),
        (6, None),
        (7, None),
        (8, "t-00005"),
    ]
    assert [str(r.error).removeprefix(f"{tmp_path}/t.csv:")[:40] for r in records if r.error] == [
        "5: byte 0xe9 at byte 4 is not UTF-8; exp",
        "6: 3 cells; expected 2, as in the header",
        "7: broken CSV: ',' expected after '\"'; e",
    ]
    assert [r.raw for r in records] == [
        b'"\xd9\x86\xd8\xb5\n2",1',
        b"caf\xe9,2",
        b"\xd8\xa8,3,4",
        b'b"c,"d"e',
        b"\xd9\x87,5",
    ]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_column_that_is_not_there(tmp_path, name):
    if name == "a.csv":
        (tmp_path / name).write_text("نص,b\nx,y\n", encoding="utf-8")
    else:
        pq.write_table(pa.table({"نص": ["x"], "b": ["y"]}), tmp_path / name)
    with pytest.raises(InputError, match=r"columns نص, b; expected a column 'text'; name the column .* `text_column`$"):
        read_all(tmp_path / name)
    with pytest.raises(InputError, match=r"no column 'c'; expected one of نص, b; correct `id_column`$"):
        read_all(tmp_path / name, text_column="نص", id_column="c")
    assert read(tmp_path / name, text_column="نص", id_column="b") == [("y", "x")]


def test_patterns_are_sorted_and_links_to_parent_folders_ignored(tmp_path):
    for name in ("b.txt", "a.txt", "c/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "c" / "up").symlink_to(tmp_path)
    assert [id for id, _ in read(tmp_path / "[ab].txt")] == ["a", "b"]
    assert [id for id, _ in read(tmp_path)] == ["a", "b", "c/d"]
    assert count_input_bytes(Inputs(names=(str(tmp_path),))) == len("b.txt" + "a.txt" + "c/d.txt")
    assert count_input_bytes(Inputs(names=(str(tmp_path), "-"))) is None


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst", "a.parquet"])
def test_a_truncated_file_is_reported_after_its_readable_records(tmp_path, name):
    lines = b"".join(b'{"id": "%d", "text": "%s"}\n' % (n, b"%x" % n**70) for n in range(4000))
    if name == "a.parquet":
        pq.write_table(pa.table({"text": ["نص"] * 10}), tmp_path / name)
    else:
        write_compressed(tmp_path / name, lines)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: len(content) * 3 // 4])
    (tmp_path / "z.txt").write_text("بغداد", encoding="utf-8")
    *records, broken, last = read_all(tmp_path)
    assert str(broken.error).startswith(f"{tmp_path}/{name}: cannot be read")
    assert str(broken.error).endswith("; copy it again")
    assert all(record.document for record in records)
    assert (len(records) > 1000) == (name != "a.parquet")
    assert last.document == Document("z", "بغداد")


def test_long_lines(tmp_path, monkeypatch):
    long = json.dumps({"id": "long", "text": "بغداد " * 900_000}, ensure_ascii=False)
    assert len(long.encode()) > 9_000_000
    (tmp_path / "a.jsonl").write_text(f'{long}\n{{"id": "b", "text": "نص"}}\n', encoding="utf-8")
    assert [id for id, _ in read(tmp_path / "a.jsonl")] == ["long", "b"]
    monkeypatch.setattr(inputs, "MAX_BYTES", 1000)
    monkeypatch.setattr(inputs, "_REJECT_BYTES", 10)
    first, second = read_all(tmp_path / "a.jsonl")
    assert str(first.error).startswith(f"{tmp_path}/a.jsonl:1: more than 1,000 bytes; expected shorter documents")
    assert json.loads(first.to_reject()) | {"reason": ""} == {
        "file": f"{tmp_path}/a.jsonl",
        "line": 1,
        "reason": "",
        "bytes": "the first 10",
        "text": '{"id": "lo',
    }
    assert second.document == Document("b", "نص")


def test_meta_that_cannot_be_written_is_an_error_of_its_line(tmp_path):
    deep = '{"id": "a", "text": "نص", "meta": {"x": ' + "[" * 400 + "]" * 400 + "}}"
    (tmp_path / "a.jsonl").write_text(deep, encoding="utf-8")
    (record,) = read_all(tmp_path / "a.jsonl")
    assert str(record.error).startswith(f"{tmp_path}/a.jsonl:1: meta cannot be written: ")


GOOD = json.dumps({"id": "أ", "text": "وصل إلى بغداد\x00", "meta": {"n": 1}}, ensure_ascii=False).encode()
LINES = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.integers(0, len(GOOD)), st.integers(0, len(GOOD)), st.binary(max_size=6)).map(
        lambda cut: GOOD[: cut[0]] + cut[2] + GOOD[cut[1] :]
    ),
    st.just(GOOD),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, max_size=8), name=st.sampled_from(["f.jsonl", "f.jsonl.zst", "f.csv"]))
def test_every_line_of_any_bytes_is_accounted_for(tmp_path, lines, name):
    content = (b"text\n" if name == "f.csv" else b"") + b"\n".join(lines)
    path = tmp_path / name
    path.write_bytes(pa.Codec("zstd").compress(content, asbytes=True) if name.endswith(".zst") else content)
    records = read_all(path)
    assert all((record.document is None) != (record.error is None) for record in records)
    for record in records:
        if record.error is not None:
            reject = json.loads(record.to_reject())
            kept = reject["text"].encode() if "text" in reject else base64.b64decode(reject["base64"])
            assert kept == record.raw
            assert (reject["file"], reject["reason"]) == (str(path), str(record.error))
        else:
            record.document.text.encode()  # any text can be written
    # A file of another kind, which its first bytes tell, is refused as a whole.
    if name != "f.csv" and not str(records[0].error).startswith(f"{path}: the file is "):
        split = content.removeprefix(BYTE_ORDER_MARK).split(b"\n")
        kept = [record.raw for record in records if record.line is not None]
        assert [line.rstrip(b"\r") for line in split if line.strip()] == kept


def test_links_and_names_that_cannot_be_read_are_records_of_their_own(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "sub").mkdir()
    (folder / "a.txt").write_text("نص", "utf-8")
    (folder / "b.txt").symlink_to("nothing.txt")
    (folder / "c.txt").symlink_to("c.txt")
    (folder / "d").symlink_to("../sub")
    (folder / os.fsdecode(b"\xd3\xc7.txt")).write_text("نص", "utf-8")
    records = list(read_inputs(Inputs(names=(str(folder),))))
    assert [record.document.id for record in records if record.document] == ["a"]
    rejects = [json.loads(record.to_reject()) for record in records if record.error]
    assert [Path(reject["file"]).name for reject in rejects] == ["b.txt", "c.txt", "d", "\\xd3\\xc7.txt"]
    for reject, reason in zip(
        rejects, ("No such file", "Too many levels", "a link to a folder", "not UTF-8"), strict=True
    ):
        assert reason in reject["reason"]


def test_a_folder_whose_name_is_not_utf8(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    document = json.dumps({"id": "a", "text": "نص"})
    (folder / "a.jsonl").write_text(f"{document}\nbroken\n{document}\n", "utf-8")
    (folder / "b.jsonl").touch()
    records = list(read_inputs(Inputs(names=(str(folder),))))
    assert [record.document.id for record in records if record.document] == ["a"]
    rejects = [json.loads(record.to_reject()) for record in records if record.error]
    name = str(tmp_path / "caf\\xe9")
    assert [reject["file"] for reject in rejects] == [f"{name}/a.jsonl"] * 2 + [f"{name}/b.jsonl"]
    reasons = ("a.jsonl:2: broken JSON", "a.jsonl:3: id 'a' is taken by line 1", "b.jsonl: the file holds no document")
    for reject, reason in zip(rejects, reasons, strict=True):
        assert reject["reason"].startswith(f"{name}/{reason}")
