"""Files that appear under their name only when they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from musamma.data.errors import InputError


@contextmanager
def atomic_write(path: Path, *, remedy: str = "choose a path that can be written") -> Iterator[Path]:
    """Give a path to write to; what is there at the end takes the place of ``path``, and nothing does if an error came.

    Args:
        path: the file.
        remedy: the way out that an error names.

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
        where = str(error.filename or path)
        raise InputError(str(error.strerror or error), where=where, remedy=remedy) from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def write_json(record: Any, path: Path) -> None:
    """Write a record as indented JSON.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_write(path) as partial:
        partial.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def document_path(folder: Path, id: str) -> Path:
    """Where a document goes, without suffix: its id below the folder; ``/`` makes folders.

    Raises:
        InputError: the id cannot be a path, or would leave the folder.
    """
    parts = PurePosixPath(id).parts
    if "/".join(parts) != id or any(part in (".", "..") or part.startswith("/") for part in parts) or "\0" in id:
        raise InputError(
            f"id {id!r} cannot name a file", expected="an id like 'news/0012'", remedy="write a single file, e.g. JSONL"
        )
    return folder.joinpath(*parts)
