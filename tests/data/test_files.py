"""Files and folders appear under their name only when complete; errors have one line."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree
from threading import Thread

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
    check_outputs,
    document_path,
    lock_path,
    stream_kind,
    unlock,
    write_durably,
    write_json,
    write_lines,
)
from tests.support import ordinary_user


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


# Outputs that are no regular file.


@contextmanager
def reader(fifo: Path) -> Iterator[list[bytes]]:
    """Make a FIFO and read it in another thread; yields the list that receives its content."""
    os.mkfifo(fifo)
    received: list[bytes] = []
    thread = Thread(target=lambda: received.append(fifo.read_bytes()), daemon=True)
    thread.start()
    yield received
    thread.join(timeout=20)


def test_a_fifo_receives_the_content_and_stays(tmp_path):
    with reader(tmp_path / "fifo") as received:
        write_lines(["a\n", "b\n"], tmp_path / "fifo")
    assert received == [b"a\nb\n"]
    assert stream_kind(tmp_path / "fifo") == "a FIFO"
    assert [path.name for path in tmp_path.iterdir()] == ["fifo"]


def test_a_device_receives_the_content_and_stays(tmp_path):
    """Devices like /dev/null and /dev/full, which a rename would turn into files."""
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.mknod(tmp_path / "full", stat.S_IFCHR | 0o666, os.makedev(1, 7))
        os.mknod(tmp_path / "disk", stat.S_IFBLK | 0o600, os.makedev(250, 250))
        (tmp_path / "null").write_bytes(b"")
    except PermissionError:
        pytest.skip("devices cannot be made or used here")
    (tmp_path / "link").symlink_to("null")
    for name in ("null", "link"):
        write_json({}, tmp_path / name)
        assert stream_kind(tmp_path / name) == "a device"
    with pytest.raises(InputError, match=r"full: No space left on device; choose"):
        write_json({}, tmp_path / "full")
    with pytest.raises(InputError, match=r"disk: a block device; expected a file to write; choose"):
        write_json({}, tmp_path / "disk")
    kinds = {path.name: stat.S_IFMT(path.lstat().st_mode) for path in tmp_path.iterdir()}
    assert kinds == {
        "null": stat.S_IFCHR,
        "full": stat.S_IFCHR,
        "disk": stat.S_IFBLK,
        "link": stat.S_IFLNK,
    }


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="no /dev/fd")
def test_an_open_descriptor_is_written_at_its_position(tmp_path):
    """As in ``musamma ... -o /dev/stdout >> log``: the log is neither replaced nor emptied."""
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("ab") as file:
        (tmp_path / "link").symlink_to(f"/dev/fd/{file.fileno()}")
        write_lines(["a\n"], Path(f"/dev/fd/{file.fileno()}"))
        write_lines(["b\n"], Path(f"/proc/self/fd/{file.fileno()}"))
        write_lines(["c\n"], tmp_path / "link")
        number = file.fileno()
    assert log.read_text() == "before\na\nb\nc\n"
    with pytest.raises(InputError, match=rf"/dev/fd/{number}: Bad file descriptor; choose"):
        write_lines([], Path(f"/dev/fd/{number}"))


def test_a_link_stays_and_its_file_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "old").write_text("old")
    for name in ("old", "new"):
        (tmp_path / name).symlink_to(f"far/{name}")
        write_lines(["text"], tmp_path / name)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "far" / name).read_text() == "text"
    (tmp_path / "lost").symlink_to("nowhere/x")
    with pytest.raises(InputError, match=r"lost: a link to .*/nowhere/x, whose folder does not exist; choose"):
        write_lines([], tmp_path / "lost")
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InputError, match=r"circle: Too many levels of symbolic links; choose"):
        write_lines([], tmp_path / "circle")
    (tmp_path / "model").symlink_to("far/model")
    for name in ("a", "b"):
        with atomic_folder(tmp_path / "model") as partial:
            (partial / name).touch()
        assert (tmp_path / "model").is_symlink()
        assert [path.name for path in (tmp_path / "far" / "model").iterdir()] == [name]
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["model", "new", "old"]


def test_sockets_are_no_outputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket is at most 108 bytes long
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(InputError, match=r"^s: a socket; expected a file to write; choose"):
            write_lines([], Path("s"))
        with pytest.raises(InputError, match=r"^s: a socket; expected a folder to write; "), atomic_folder(Path("s")):
            pytest.fail("the socket was taken for a folder")


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path):
    for path in (tmp_path / ("x" * 255), tmp_path / ("م" * 127)):
        write_lines(["text"], path)
        assert path.read_text() == "text"
    with pytest.raises(InputError, match=r"xxx: File name too long; choose a path that can be written$"):
        write_lines([], tmp_path / ("x" * 256))


def test_names_that_are_not_utf8(tmp_path):
    path = tmp_path / os.fsdecode(b"caf\xe9")
    write_json({"source": str(path), path.name: [path.name]}, path)
    record = json.loads(path.read_text("utf-8"))
    assert record["source"].endswith("caf\\udce9")
    assert record["caf\\udce9"] == ["caf\\udce9"]


def test_permission_denied_names_the_path(tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    (tmp_path / "closed").mkdir(mode=0o000)
    (tmp_path / "protected").write_text("text")
    (tmp_path / "protected").chmod(0o400)
    try:
        with ordinary_user():
            for name, where in (
                ("locked/x", "locked"),
                ("locked/new/x", "locked"),
                ("closed/x", "closed/x"),
                ("protected", "protected"),
            ):
                message = rf"/{where}: Permission denied; choose a path that can be written$"
                with pytest.raises(InputError, match=message):
                    check_outputs([("json", tmp_path / name)])
                with pytest.raises(InputError, match=message):
                    write_lines([], tmp_path / name)
            for name in ("locked/x", "closed/x"):
                message = rf"/{name}: Permission denied; choose a path that can be written$"
                with pytest.raises(InputError, match=message), atomic_folder(tmp_path / name):
                    pytest.fail("a folder was made")
    finally:
        (tmp_path / "closed").chmod(0o700)
    assert (tmp_path / "protected").read_text() == "text"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["closed", "locked", "protected"]


def test_a_folder_that_cannot_be_renamed_is_filled(tmp_path):
    """A mounted volume, or a folder in one that is closed to the user."""
    (tmp_path / "above" / "model").mkdir(parents=True)
    (tmp_path / "above" / "model" / "old").touch()
    (tmp_path / "above").chmod(0o500)
    with ordinary_user(), atomic_folder(tmp_path / "above" / "model") as partial:
        (partial / "new").touch()
    assert [path.name for path in (tmp_path / "above" / "model").iterdir()] == ["new"]


def test_one_run_at_a_time_writes_a_folder(tmp_path):
    with atomic_folder(tmp_path / "model") as partial:
        message = r"/model: another run is writing it; expected one run at a time; wait until it has ended, or choose"
        with pytest.raises(InputError, match=message), atomic_folder(tmp_path / "model"):
            pytest.fail("two runs write one folder")
        (partial / "a").touch()
    assert (tmp_path / "model" / "a").exists()
    (tmp_path / "out.part").touch()  # the unfinished output of a run of predict
    with pytest.raises(InputError, match=r"/out: File exists; choose"), atomic_folder(tmp_path / "out"):
        pytest.fail("an unfinished output was deleted")
    assert (tmp_path / "out.part").exists()


_RUN_WITH_A_WORKER = """
import os, sys
from pathlib import Path
from musamma.data.files import lock_path
lock_path(Path(sys.argv[1]))
if not os.fork():
    print("worker runs", flush=True)
    sys.stdin.read()
    print("worker ends", flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")
def test_a_lock_ends_with_its_process_while_a_worker_of_it_lives(tmp_path):
    command = [sys.executable, "-c", _RUN_WITH_A_WORKER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "worker runs\n"
        with pytest.raises(InputError, match="another run is writing it"):
            lock_path(tmp_path)
        process.kill()
        process.wait()
        unlock(lock_path(tmp_path))
        process.stdin.close()
        assert process.stdout.read() == "worker ends\n"


def test_an_unfinished_output_beside_a_file_stays(tmp_path):
    (tmp_path / "a.jsonl.part").write_text("unfinished")
    write_lines(["text"], tmp_path / "a.jsonl")
    assert (tmp_path / "a.jsonl.part").read_text() == "unfinished"


def test_a_folder_is_merged_only_when_all_files_can_be_moved(tmp_path):
    folder = tmp_path / "corpus"
    (folder / "b.txt").mkdir(parents=True)
    (folder / "a.txt").write_text("old")
    (tmp_path / "new").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "new" / name).write_text("new")
    message = r"corpus: a folder in the place of b\.txt; "
    with pytest.raises(InputError, match=message), atomic_folder(folder, merge=True) as partial:
        copytree(folder.with_name("new"), partial, dirs_exist_ok=True)
    assert (folder / "a.txt").read_text() == "old"
    (folder / "b.txt").rmdir()
    (folder / "c.txt").write_text("old")
    with atomic_folder(folder, merge=True) as partial:
        (partial / "sub").mkdir()
        for name in ("a.txt", "sub/d.txt"):
            (partial / name).write_text("new")
    texts = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*.txt")}
    assert texts == {"a.txt": "new", "c.txt": "old", "sub/d.txt": "new"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "new"]


def test_every_output_has_a_path_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gold.jsonl").touch()
    Path("link").symlink_to("gold.jsonl")
    os.mkfifo("fifo")
    check_outputs([("json", Path("a")), ("audit", Path("b")), ("report", None)], ["gold.jsonl", "hf:a", "gold"])
    check_outputs([("json", Path("fifo")), ("audit", Path("fifo"))])
    for outputs, message in (
        (
            [("json", Path("a")), ("audit", Path("./a"))],
            "a: `json` and `audit` are the same path; expected an own path",
        ),
        ([("report", Path("r/report.html")), ("json", Path("r"))], "r: `report` and `json` are the same path; "),
        ([("json", Path("gold.jsonl"))], "gold.jsonl: `json` is also an input; choose another path, so that"),
        ([("json", Path("link"))], "link: `json` is also an input; choose another path, so that"),
    ):
        with pytest.raises(InputError) as refused:
            check_outputs(outputs, ["gold.jsonl"])
        assert str(refused.value).startswith(message)


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
            not_installed("openvino", extra="export", purpose="converts"),
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
        "openvino is not installed, which converts; pip install 'musamma[export]'",
        "model: onnxruntime is not installed; pip install 'musamma[onnx]', or give a checkpoint",
        "out: is there already; expected a folder that is new or empty; choose another output",
        "a: Permission denied; check its permissions",
        "a: No such file or directory; check the path",
        "a.gz: cannot be read beyond line 7: zlib inflate failed; copy it again",
        "b: x; new",
    ]
