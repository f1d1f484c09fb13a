"""Outputs: files and folders that appear under their name only when they are complete, and streams such as FIFOs."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO
from uuid import uuid4

import orjson

from musamma.data.errors import CHOOSE_WRITABLE, InputError, not_writable, output_exists

FILE, FOLDER = "a file", "a folder"
_KINDS = {
    stat.S_IFREG: FILE,
    stat.S_IFDIR: FOLDER,
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}
_STREAMS = ("a FIFO", "a device")
_MAX_NAME_BYTES = 255
_MAX_LINKS = 40


# What a path is.


def path_kind(path: Path) -> str | None:
    """Return what is at a path, links followed: ``a file``, ``a folder``, ``a FIFO`` and so on; ``None`` for nothing.

    Raises:
        OSError: it cannot be found out: a folder above is closed to this user, links lead in a circle, the name is too long.
    """
    try:
        return _KINDS.get(stat.S_IFMT(path.stat().st_mode), "no file")
    except (FileNotFoundError, NotADirectoryError):
        return None


def stream_kind(path: Path) -> str | None:
    """Return what is at a path if it can only be written from start to end; ``None`` for all others.

    These are FIFOs, character devices such as ``/dev/null``, and open descriptors such as ``/dev/stdout``, whatever they lead to.

    Raises:
        OSError: see :func:`path_kind`; or the descriptor is not open.
    """
    number = _descriptor(path)
    if number is not None:
        os.fstat(number)
        return "an open descriptor"
    kind = path_kind(path)
    return kind if kind in _STREAMS else None


def _descriptor(path: Path) -> int | None:
    """Return the number in ``/dev/fd/1`` or ``/proc/self/fd/1``, also if links lead there; ``None`` for other paths."""
    folders = ("/dev/fd", f"/proc/{os.getpid()}/fd")
    for _ in range(_MAX_LINKS):
        if path.name.isdigit() and os.path.realpath(path.parent) in folders:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def open_stream(path: Path) -> BinaryIO:
    """Open a stream for writing. Opening a FIFO waits for its reader.

    An open descriptor is written from its present position, so ``-o /dev/stdout >> log`` appends to ``log``.

    Raises:
        OSError: it cannot be opened.
    """
    number = _descriptor(path)
    if number is None:
        return os.fdopen(os.open(path, os.O_WRONLY), "wb")
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return os.fdopen(os.dup(number), "wb")


def resolve_link(path: Path, *, remedy: str = CHOOSE_WRITABLE) -> Path:
    """Return the path to which a link leads, which need not exist; other paths are returned as they are.

    Raises:
        InputError: the folder to which it leads does not exist.
        OSError: see :func:`path_kind`.
    """
    if not path.is_symlink():
        return path
    path_kind(path)  # Raises OSError for a circle.
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise InputError(f"a link to {target}, whose folder does not exist", where=str(path), remedy=remedy)
    return target


def check_output_file(path: Path, *, remedy: str = CHOOSE_WRITABLE) -> Path:
    """Check that a file can be written, before the work that makes its content, and return the file that links lead to.

    Raises:
        InputError: there is something else at the path, or this user may not write there.
    """
    try:
        kind = path_kind(path)
        if kind not in (None, FILE):
            raise InputError(str(kind), where=str(path), expected="a file to write", remedy=remedy)
        target = resolve_link(path, remedy=remedy)
        if kind == FILE:
            # Renaming a new file over it would ignore that it is write-protected.
            os.close(os.open(target, os.O_WRONLY))
        _check_folder_permission(target.parent)
        return target
    except OSError as error:
        raise not_writable(path, error, remedy=remedy) from error


def _check_folder_permission(folder: Path) -> None:
    """Raise an OSError if entries cannot be made in a folder, or in the nearest one above it that exists."""
    while path_kind(folder) is None and folder != folder.parent:
        folder = folder.parent
    if folder.is_dir() and not _may_write(folder):
        read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
        code = errno.EROFS if read_only else errno.EACCES
        raise OSError(code, os.strerror(code), str(folder))


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def check_outputs(outputs: Iterable[tuple[str, Path | None]], inputs: Iterable[str] = ()) -> None:
    """Check the output files of a command before it starts to work.

    Args:
        outputs: the name of the parameter and the file; ``None`` for a parameter that is not given.
        inputs: the files that are read. Names that are not files are ignored.

    Raises:
        InputError: a file cannot be written, two of them are the same or one is a folder of the other, or one is an input.
    """
    paths: list[tuple[str, Path, Path]] = []
    for name, path in outputs:
        if path is None:
            continue
        try:
            is_stream = stream_kind(path) is not None
        except OSError as error:
            raise not_writable(path, error) from error
        if not is_stream:
            check_output_file(path)
            paths.append((name, path, Path(os.path.realpath(path))))
    for number, (name, path, target) in enumerate(paths):
        for earlier_name, earlier_path, earlier in paths[:number]:
            if earlier_name != name and (target == earlier or target in earlier.parents or earlier in target.parents):
                raise InputError(
                    f"`{earlier_name}` and `{name}` are the same path",
                    where=str(min(path, earlier_path, key=lambda given: len(given.parts))),
                    expected="an own path for each",
                )
        for source in inputs:
            if Path(os.path.realpath(source)) == target and Path(source).is_file():
                raise InputError(
                    f"`{name}` is also an input", where=str(path), remedy="choose another path, so that it is not lost"
                )


# Writing.


@contextmanager
def atomic_write(path: Path, *, remedy: str = CHOOSE_WRITABLE) -> Iterator[Path]:
    """Yield a new file beside ``path`` to write to, and rename it to ``path`` at the end; after an error, delete it instead.

    Missing parent folders are made. A link stays: the file to which it leads is replaced. A FIFO, a device or an open
    descriptor receives the complete content at the end.

    Args:
        path: the file.
        remedy: the remedy an error names.

    Raises:
        InputError: the file cannot be written.
    """
    partial: Path | None = None
    try:
        if stream_kind(path):
            with open_stream(path) as stream, TemporaryDirectory(prefix="musamma-") as folder:
                content = Path(folder) / "content"
                yield content
                with content.open("rb") as source:
                    shutil.copyfileobj(source, stream)
            return
        target = check_output_file(path, remedy=remedy)
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = _new_name(target, ".part")
        yield partial
        partial.replace(target)
    except OSError as error:
        if partial is not None and error.filename == str(partial):
            error.filename = None  # The message names the file that the user knows.
        raise not_writable(path, error, remedy=remedy) from error
    finally:
        if partial is not None:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def _new_name(path: Path, suffix: str) -> Path:
    """Return a name beside a path that no other process uses, and that is not too long if the path's own name is not."""
    suffix = f".{uuid4().hex[:8]}{suffix}"
    name = os.fsencode(path.name)[: _MAX_NAME_BYTES - len(suffix)]
    return path.with_name(name.decode("utf-8", "ignore") + suffix)


@contextmanager
def atomic_folder(folder: Path, *, merge: bool = False, remedy: str = CHOOSE_WRITABLE) -> Iterator[Path]:
    """Yield the new folder ``FOLDER.part``, and rename it to ``folder`` at the end; after an error, delete it instead.

    A folder that is there already is replaced. A leftover ``FOLDER.part`` is deleted first. A link stays: the folder to which
    it leads is written. Where the folder cannot be renamed, because it is a mounted volume or the folder above is closed to
    this user, the new folder is made in it and its entries are moved.

    Args:
        folder: the folder.
        merge: retain the files of a folder that is there already, except those of the same names.
        remedy: the remedy an error names.

    Raises:
        InputError: the folder cannot be written, or another process is writing it.
    """
    partial: Path | None = None
    lock: int | None = None
    try:
        kind = path_kind(folder)
        if kind not in (None, FOLDER):
            raise InputError(str(kind), where=str(folder), expected="a folder to write", remedy=remedy)
        target = resolve_link(folder, remedy=remedy)
        in_place = kind == FOLDER and (target.is_mount() or not _may_write(target.parent))
        partial = target / ".part" if in_place else target.with_name(target.name + ".part")
        _delete_leftover(partial)
        partial.mkdir(parents=True)
        lock = lock_path(partial)
        yield partial
        if kind == FOLDER and (merge or in_place):
            if not merge:
                for path in target.iterdir():
                    if path != partial:
                        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            _move_files(partial, target)
        else:
            old = _new_name(target, ".old")
            if target.exists():
                target.replace(old)
            partial.replace(target)
            unlock(lock)
            lock = None  # Another run may make its own FOLDER.part from now on.
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(str(error.strerror or error), where=str(folder), remedy=remedy) from error
    except InputError as error:
        if partial is None or not error.where:
            raise
        raise error.replace(where=error.where.replace(str(partial), str(folder))) from error
    finally:
        if lock is not None:
            shutil.rmtree(partial or "", ignore_errors=True)
            unlock(lock)


def _delete_leftover(partial: Path) -> None:
    if partial.is_dir() and not partial.is_symlink():
        lock = lock_path(partial)
        shutil.rmtree(partial, ignore_errors=True)
        unlock(lock)


def _move_files(source: Path, target: Path) -> None:
    """Move all files below a folder to the same places below another; raises before the first if one cannot be moved."""
    files = [(path, target / path.relative_to(source)) for path in sorted(source.rglob("*")) if path.is_file()]
    for _, place in files:
        if place.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"a folder in the place of {place.name}", str(place))
        place.parent.mkdir(parents=True, exist_ok=True)
    for path, place in files:
        path.replace(place)


#: Descriptors of :func:`lock_path`.
_LOCKS: set[int] = set()


def lock_path(path: Path) -> int:
    """Open a file or folder and lock it, until :func:`unlock` or the end of this process.

    Processes that are forked meanwhile, such as the workers of a data loader, do not hold the lock: they may outlive this one.
    Does nothing on systems other than POSIX, where folders cannot be opened.

    Returns:
        The handle to unlock.

    Raises:
        InputError: another process has locked it.
        OSError: it cannot be opened.
    """
    if os.name != "posix":
        return -1
    _close_locks_in_children()
    handle = os.open(path, os.O_RDONLY)
    _LOCKS.add(handle)
    try:
        lock_descriptor(handle, path)
    except InputError:
        unlock(handle)
        raise
    return handle


def unlock(handle: int) -> None:
    """Release a lock of :func:`lock_path`. Does nothing in a process that was forked while this one held it."""
    if handle in _LOCKS:
        _LOCKS.remove(handle)
        os.close(handle)


@cache
def _close_locks_in_children() -> None:
    """Let forked processes close the descriptors of locks; otherwise a lock would last as long as the last of them."""
    os.register_at_fork(after_in_child=_close_locks)


def _close_locks() -> None:
    while _LOCKS:
        os.close(_LOCKS.pop())


def lock_descriptor(handle: int, path: Path) -> None:
    """Lock an open file. Does nothing where the system or the file system has no locks.

    Raises:
        InputError: another process has locked it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            "another run is writing it",
            where=str(path),
            expected="one run at a time",
            remedy="wait until it has ended, or choose another `output`",
        ) from error
    except OSError:
        return


@contextmanager
def new_folder(folder: Path, *, overwrite: bool | None = None) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``folder`` at the end; after an error, nothing is written.

    Args:
        folder: a new or empty folder.
        overwrite: allow a folder that holds files; files of the same names are replaced, all others stay. ``None`` refuses such a
            folder for callers without this option, which the error then does not name.

    Raises:
        InputError: the folder holds files, or cannot be written.
    """
    try:
        occupied = path_kind(folder) == FOLDER and any(folder.iterdir())
    except OSError as error:
        raise not_writable(folder, error) from error
    if occupied and not overwrite:
        remedy = "choose another `output`"
        if overwrite is not None:
            remedy += ", or replace its files of the same names with `overwrite=True`"
        raise output_exists(folder, found="a folder with files in it", remedy=remedy)
    with atomic_folder(folder, merge=True) as partial:
        yield partial


def check_replaceable(folder: Path, marker: str, *, kind: str, overwrite: bool) -> None:
    """Check that an output folder is new or empty, or holds what may be replaced.

    Args:
        folder: the folder.
        marker: name of the file that all outputs of this kind have.
        kind: what these outputs are, with the indefinite article, e.g. ``"an exported model"``.
        overwrite: whether an earlier output of this kind may be replaced.

    Raises:
        InputError: ``folder`` is a file, a folder that holds anything else, or an output that may not be replaced.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / marker).is_file():
        noun = kind.partition(" ")[2]
        raise output_exists(folder, found=f"is there already and is no {noun}", remedy="choose another `output`")
    if not overwrite:
        raise output_exists(folder, found=f"holds {kind}", remedy="choose another `output`, or add `overwrite=True`")


def apply_default_mode(*files: Path) -> None:
    """Give files the permissions of a new file, which follow the umask; safetensors writes files only their owner can read.

    Args:
        files: files of one folder, which can be written.
    """
    if not files:
        return
    # The mode of a new file, as the umask of a process cannot be read without setting it for all its threads.
    probe = files[0].with_name(f".mode-{os.getpid()}-{threading.get_ident()}")
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for file in files:
        file.chmod(mode)


def write_durably(data: bytes, path: Path) -> None:
    """Replace a small file so that even a power cut leaves the old or the new one, complete.

    Raises:
        OSError: the file cannot be written.
    """
    new = path.with_name(path.name + ".new")
    with new.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Flush a folder's entries (files made, renamed and deleted in it) to disk, where the system supports it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def write_json(record: Any, path: Path) -> None:
    """Write a record as indented JSON, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_write(path) as partial:
        partial.write_bytes(format_json(record))


def format_json(record: Any) -> bytes:
    """Format a record as indented JSON with a final newline. Bytes of file names that are not UTF-8 become ``\\udce9``."""
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    try:
        return orjson.dumps(record, option=options)
    except TypeError:
        return orjson.dumps(_printable(record), option=options)


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return [_printable(item) for item in value] if isinstance(value, list | tuple) else value


def write_lines(lines: Iterable[str], path: Path) -> None:
    """Write strings, each with its line end, as UTF-8 text, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_write(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        file.writelines(lines)


def document_path(folder: Path, id: str) -> Path:
    """Return the path of a document below a folder, without suffix. ``/`` in the id makes folders.

    Raises:
        InputError: the id cannot be a path, or the path would leave the folder.
    """
    parts = PurePosixPath(id).parts
    if (
        not id
        or "/".join(parts) != id
        or any(part in (".", "..") or part.startswith("/") for part in parts)
        or "\0" in id
    ):
        raise InputError(
            f"id {id!r} cannot name a file", expected="an id like 'news/0012'", remedy="write a single file, e.g. JSONL"
        )
    return folder.joinpath(*parts)
