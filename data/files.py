"""Files and folders that appear under their name only when they are complete."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from musamma.data.errors import CHOOSE_WRITABLE, InputError, not_writable


@contextmanager
def atomic_write(path: Path, *, remedy: str = CHOOSE_WRITABLE) -> Iterator[Path]:
    """Yield ``PATH.part`` to write to, and rename it to ``path`` at the end; after an error, delete it instead.

    Missing parent folders are made.

    Args:
        path: the file.
        remedy: the remedy an error names.

    Raises:
        InputError: the file cannot be written.
    """
    if path.is_dir():
        raise InputError("a folder", where=str(path), expected="a file to write", remedy=remedy)
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(path)
    except OSError as error:
        raise not_writable(path, error, remedy=remedy) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path, *, remedy: str = CHOOSE_WRITABLE) -> Iterator[Path]:
    """Yield the new folder ``FOLDER.part``, and rename it to ``folder`` at the end; after an error, delete it instead.

    A folder that is there already is replaced. A leftover ``FOLDER.part`` is deleted first.

    Args:
        folder: the folder.
        remedy: the remedy an error names.

    Raises:
        InputError: the folder cannot be written.
    """
    partial, old = (folder.with_name(folder.name + suffix) for suffix in (".part", ".old"))
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        if folder.exists():
            folder.replace(old)
        partial.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise InputError(str(error.strerror or error), where=str(folder), remedy=remedy) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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
    """Format a record as indented JSON with a final newline."""
    return orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


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
