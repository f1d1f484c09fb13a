"""Lines of plain, compressed and document files."""

import gzip
import json
import os
import sys
from pathlib import Path

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.corpus_files import read_documents
from musamma.data.errors import InputError
from musamma.data.input_files import find_files, find_folder_files, read_lines

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


def make_folder(tmp_path):
    """A folder with a text, and links in it to the text, to nothing, to itself, to another folder and to the folder."""
    folder, other = tmp_path / "in", tmp_path / "other"
    folder.mkdir()
    other.mkdir()
    (folder / "text.txt").write_text("نص", "utf-8")
    (other / "more.txt").write_text("نص", "utf-8")
    for name, target in {
        "alias.txt": "text.txt",
        "broken.txt": "nothing.txt",
        "loop.txt": "loop.txt",
        "more": "../other",
        "self": ".",
    }.items():
        (folder / name).symlink_to(target)
    return folder


def test_links_in_folders_are_found(tmp_path):
    folder = make_folder(tmp_path)
    files = {file.path.name: file for file in find_files(str(folder), ignored_suffix=".rejects.jsonl")}
    assert list(files) == ["alias.txt", "broken.txt", "loop.txt", "more", "text.txt"]
    problems = {name: str(problem) for name, file in files.items() if (problem := file.find_problem())}
    assert list(problems) == ["more"]
    assert "a link to a folder, which is not followed; expected files; give that folder as an input" in problems["more"]
    assert [files[name].size for name in ("alias.txt", "loop.txt", "more", "broken.txt")] == [4, 0, 0, 0]
    assert files["loop.txt"].target.name == "loop.txt"


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are Unicode there")
def test_names_that_are_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"\xd3\xc7.txt")
    path.write_text("نص", "utf-8")
    [file] = find_files(str(tmp_path), ignored_suffix=".rejects.jsonl")
    message = f"{tmp_path}/\\xd3\\xc7.txt: the name is not UTF-8; expected UTF-8, since ids are made of it; rename it"
    assert str(file.find_problem()) == message
    with pytest.raises(InputError, match="the name is not UTF-8"):
        list(find_folder_files(tmp_path, ".txt"))
    with pytest.raises(InputError, match="the name is not UTF-8"):
        list(read_documents(path, format="khabar"))


def test_a_folder_that_cannot_be_read_is_found(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b.txt").write_text("نص", "utf-8")
    scan = os.scandir

    def forbid(path):
        if Path(path).name == "a":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbid)
    first, second = find_files(str(tmp_path), ignored_suffix=".rejects.jsonl")
    assert (first.path.name, second.path.name, second.find_problem()) == ("a", "b.txt", None)
    assert str(first.find_problem()) == f"{tmp_path}/a: Permission denied; check its permissions"
