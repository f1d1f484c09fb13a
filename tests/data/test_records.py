"""Records of files: places, raw bytes, values and errors."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musamma.data.errors import InputError
from musamma.data.records import (
    file_stem,
    file_suffix,
    open_input,
    parse_json,
    raise_first_error,
    read_file,
    read_json_lines,
    read_text,
    read_text_lines,
)
from musamma.data.tables import read_csv, read_parquet

LINES = b'\xef\xbb\xbf{"id": 1}\r\n\n[2]\nbroken\n"\xff"\n4'


def read_lines(path, **options):
    return [
        (record.where, record.raw, record.value, record.error and record.error.found)
        for record in read_file(path, read_json_lines, **options)
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines_have_places_bytes_and_values_or_errors(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(gzip.compress(LINES) if name.endswith(".gz") else LINES)
    assert read_lines(path) == [
        (f"{path}:1", b'{"id": 1}', {"id": 1}, None),
        (f"{path}:3", b"[2]", [2], None),
        (f"{path}:4", b"broken", None, "broken JSON: unexpected character, expected a JSON value at column 1"),
        (f"{path}:5", b'"\xff"', None, "byte 0xff at byte 2 is not UTF-8"),
        (f"{path}:6", b"4", 4, None),
    ]
    with pytest.raises(InputError, match=r":4: broken JSON"):
        list(raise_first_error(read_file(path, read_json_lines)))
    with open_input(path) as stream:
        following = [(record.line, record.value) for record in read_json_lines(stream, after_line=5, offset=30)]
    assert following == [(6, 4)]


def test_bytes_read_count_what_is_on_disk(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(LINES)
    records = list(read_file(tmp_path / "a.jsonl", read_json_lines, base=100))
    assert [record.bytes_read for record in records] == [114, 119, 126, 130, 131]


def test_a_line_longer_than_the_limit_is_cut_off(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'"123456789"\n"1"\n')
    first, second = read_lines(tmp_path / "a.jsonl", max_bytes=5)
    assert first[1:] == (b'"12345'[:6], None, "more than 5 bytes")
    assert second[1:] == (b'"1"', "1", None)


def test_rows_of_csv_keep_their_line_and_their_index(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,"a\nb"\n\n2,c\n')
    with open_input(tmp_path / "a.csv") as stream:
        table = read_csv(stream)
        rows = [(row.line, row.index, row.raw, row.value) for row in table.rows]
    assert table.columns == ["id", "text"]
    assert rows == [
        (2, 0, b'1,"a\nb"', {"id": "1", "text": "a\nb"}),
        (5, 2, b"2,c", {"id": "2", "text": "c"}),
    ]


@pytest.mark.parametrize(("lone_cr", "values"), [(True, [{"text": "a"}, {"text": "b"}]), (False, [None])])
def test_a_lone_carriage_return_ends_a_row_of_csv_on_request(tmp_path, lone_cr, values):
    (tmp_path / "a.csv").write_bytes(b"text\na\rb\r\n")
    with open_input(tmp_path / "a.csv") as stream:
        assert [row.value for row in read_csv(stream, lone_cr=lone_cr).rows] == values


def test_rows_of_parquet_are_read_from_any_row_on(tmp_path):
    pq.write_table(pa.table({"text": [str(n) for n in range(7)]}), tmp_path / "a.parquet", row_group_size=2)
    with open_input(tmp_path / "a.parquet") as stream:
        table = read_parquet(stream, first=3)
        assert table.columns == ["text"]
        assert [(row.line, row.index, row.raw) for row in table.rows] == [
            (n + 1, n, b'{"text":"%d"}' % n) for n in range(3, 7)
        ]


@pytest.mark.parametrize(
    ("name", "suffix", "stem"),
    [
        ("a/b.JSONL", ".jsonl", "a/b"),
        ("a.b.csv.GZ", ".csv", "a.b"),
        ("a.zst", "", "a"),
        ("a", "", "a"),
        ("a.parquet.gz", ".gz", "a"),
    ],
)
def test_names_without_suffixes(tmp_path, name, suffix, stem):
    assert (file_suffix(tmp_path / name), file_stem(tmp_path / name)) == (suffix, (tmp_path / stem).as_posix())


def test_texts_keep_their_line_ends(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\rc\x0b\n")
    assert read_text(tmp_path / "a.txt") == "\ufeffa\r\nb\rc\x0b\n"
    assert list(read_text_lines(tmp_path / "a.txt")) == [(1, "a"), (2, "b\rc\x0b")]
    with pytest.raises(InputError, match=r"none\.txt: No such file or directory; check the path"):
        read_text(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("line", "key", "column"),
    [
        ('{"text": "a", "text": "b"}', "text", 15),
        ('{"id": "a", "text": "b", "id": "c"}', "id", 26),
        ('{"text": "b", "spans": [], "spans": [1]}', "spans", 28),
        ('[{"text": "b"}, {"text": "b", "text": "c"}]', "text", 31),
    ],
)
def test_a_key_given_twice_is_an_error(line, key, column):
    with pytest.raises(
        InputError, match=f"a.jsonl:1: broken JSON: the key '{key}' twice in one object at column {column}"
    ):
        parse_json(line.encode(), "a.jsonl:1")


def test_a_key_may_occur_once_in_each_object():
    line = (
        '{"text": "\\"text\\"", "spans": [{"id": 1, "text": "a"}, {"id": 2, "text": "b"}], "meta": {"text": 1, "x": 2}}'
    )
    assert parse_json(line.encode(), "a:1") == json.loads(line)
