"""Files and folders appear under their name only when complete; errors have one line."""

import os
from pathlib import Path

import pytest

from musamma.data.errors import (
    InputError,
    not_installed,
    not_one_of,
    not_readable,
    not_utf8,
    output_exists,
)
from musamma.data.files import (
    apply_default_mode,
    atomic_folder,
    atomic_write,
    document_path,
    write_durably,
    write_json,
    write_lines,
)


def test_a_file_is_replaced_at_the_end(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as partial:
        assert partial.parent == tmp_path / "new"
        partial.write_text("نص")
        assert not path.exists()
    assert path.read_text() == "نص"
    with pytest.raises(ZeroDivisionError), atomic_write(path) as partial:
        partial.write_text(str(1 // 0))
    assert path.read_text() == "نص"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]


def test_a_folder_is_replaced_at_the_end(tmp_path):
    folder = tmp_path / "model"
    (tmp_path / "model.part").mkdir()
    (tmp_path / "model.part" / "leftover").touch()
    with atomic_folder(folder) as partial:
        (partial / "a").touch()
        assert not folder.exists()
    with atomic_folder(folder) as partial:
        (partial / "b").touch()
    assert [file.name for file in folder.iterdir()] == ["b"]
    with pytest.raises(ZeroDivisionError), atomic_folder(folder) as partial:
        (partial / "c").write_text(str(1 // 0))
    assert [file.name for file in folder.iterdir()] == ["b"]
    assert [file.name for file in tmp_path.iterdir()] == ["model"]


def test_paths_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file: File exists; choose a path that can be written$"):
        write_lines([], tmp_path / "file" / "a.txt")
    message = r": a folder; expected a file to write; choose another$"
    with pytest.raises(InputError, match=message), atomic_write(tmp_path, remedy="choose another"):
        pytest.fail("the folder was taken for a file")
    message = r"file/model: Not a directory; choose a path that can be written$"
    with pytest.raises(InputError, match=message), atomic_folder(tmp_path / "file" / "model"):
        pytest.fail("a folder was made in a file")


def test_the_bytes_of_json_and_text(tmp_path):
    write_json({"b": "نص", "a": [1]}, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n  "b": "نص",\n  "a": [\n    1\n  ]\n}\n'
    write_lines(["a\r\n", "b"], tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_bytes() == b"a\r\nb"


def test_a_durable_file_is_synchronised_before_it_is_renamed(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", lambda handle: calls.append("fsync"))
    replace = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: calls.append("replace") or replace(self, to))
    write_durably(b"1", tmp_path / "state")
    write_durably(b"2", tmp_path / "state")
    assert (tmp_path / "state").read_bytes() == b"2"
    assert calls == ["fsync", "replace", "fsync"] * 2


@pytest.mark.parametrize("id", ["../a", "/a", "a/", "a//b", "./a", "a\0b", ""])
def test_ids_that_are_no_path_below_a_folder(id):
    with pytest.raises(InputError, match=r"cannot name a file"):
        document_path(Path("out"), id)
    assert document_path(Path("out"), "news/0012") == Path("out/news/0012")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
def test_the_mode_of_a_file_becomes_that_of_a_new_one(tmp_path, umask, mode):
    files = [tmp_path / "a", tmp_path / "b"]
    for file, before in zip(files, (0o600, 0o777), strict=True):
        file.touch()
        file.chmod(before)
    previous = os.umask(umask)
    try:
        apply_default_mode(*files)
    finally:
        os.umask(previous)
    assert [file.stat().st_mode & 0o777 for file in files] == [mode, mode]
    assert sorted(tmp_path.iterdir()) == files
    apply_default_mode()


def test_recurring_messages():
    with pytest.raises(UnicodeDecodeError) as decoding:
        b"caf\xe9".decode()
    assert [
        str(error)
        for error in (
            not_utf8(decoding.value, where="a.txt:2"),
            not_utf8(decoding.value, where="a.txt:2", column=False),
            not_one_of("format", "xml", ["jsonl", "conll"]),
            not_installed("nncf", extra="openvino", purpose="quantizes"),
            not_installed("onnxruntime", extra="onnx", where="model", remedy="give a checkpoint"),
            output_exists("out"),
            not_readable("a", PermissionError(13, "Permission denied")),
            not_readable("a", FileNotFoundError(2, "No such file or directory")),
            not_readable("a.gz", OSError("zlib inflate failed"), line=7),
            InputError("x", where="a", remedy="old").replace(where="b", remedy="new"),
        )
    ] == [
        "a.txt:2: byte 0xe9 at byte 4 is not UTF-8; expected UTF-8; convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8",
        "a.txt:2: byte 0xe9 is not UTF-8; expected UTF-8; convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8",
        "format 'xml'; expected one of jsonl, conll",
        "nncf is not installed, which quantizes; pip install 'musamma[openvino]'",
        "model: onnxruntime is not installed; pip install 'musamma[onnx]', or give a checkpoint",
        "out: is there already; expected a folder that is new or empty; choose another output",
        "a: Permission denied; check its permissions",
        "a: No such file or directory; check the path",
        "a.gz: cannot be read beyond line 7: zlib inflate failed; copy it again",
        "b: x; new",
    ]
