"""Lines of plain, compressed and document files."""

import gzip
import json

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.errors import InputError
from musamma.data.input_files import read_lines

TEXT = "وصل الوزير إلى بغداد\r\n\n   \nغادر الوفد دمشق، أمس\nانتهت القمة"
LINES = ["وصل الوزير إلى بغداد", "غادر الوفد دمشق، أمس", "انتهت القمة"]


def zstd(content: bytes) -> bytes:
    return pyarrow.Codec("zstd").compress(content, asbytes=True)


@pytest.mark.parametrize(("name", "pack"), [("a.txt", bytes), ("a.txt.gz", gzip.compress), ("a.txt.zst", zstd)])
def test_compressed_files_are_read_like_plain_ones(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(b"\xef\xbb\xbf" + TEXT.encode()))
    assert list(read_lines([tmp_path / name])) == LINES
    assert list(read_lines([tmp_path / name, tmp_path / name])) == LINES * 2


def test_lines_of_documents_are_those_of_their_texts(tmp_path):
    records = [{"id": str(i), "text": text, "spans": []} for i, text in enumerate(["أ\nب", "ج"])]
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    assert list(read_lines([tmp_path / "d.jsonl"])) == ["أ", "ب", "ج"]


@given(st.integers(0, 60), st.integers(1, 9), st.none() | st.integers(1, 9))
def test_a_sample_takes_every_nth_line_up_to_the_limit(tmp_path_factory, total, every, limit):
    file = tmp_path_factory.mktemp("lines") / "a.txt"
    file.write_text("".join(f"سطر {i}\n" for i in range(total)), encoding="utf-8")
    expected = [f"سطر {i}" for i in range(0, total, every)][:limit]
    assert list(read_lines([file], every=every, limit=limit)) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("cp.txt", "سطر\n".encode() + "قمة".encode("cp1256"), "cp.txt:2: byte 0xde at byte 1 is not UTF-8"),
        ("cut.zst", zstd(TEXT.encode() * 50)[:-9], "cut.zst: cannot be read"),
        (
            "not.gz",
            b"plain text",
            "not.gz: the file is not gzip; expected gzip, as its suffix says; remove .gz from its name",
        ),
    ],
)
def test_the_error_names_a_damaged_file(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as error:
        list(read_lines([tmp_path / name]))
    assert message in str(error.value)


def test_a_missing_file_and_a_number_out_of_range(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt: no such file"):
        list(read_lines([tmp_path / "none.txt"]))
    with pytest.raises(InputError, match="every 0, limit None; expected numbers from 1"):
        list(read_lines([], every=0))
