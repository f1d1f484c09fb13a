"""Files that appear under their name only when they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson

from musamma.data.errors import InputError


@contextmanager
def whole_file(path: Path, *, remedy: str = "choose a path that can be written") -> Iterator[Path]:
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
    with whole_file(path) as partial:
        partial.write_bytes(orjson.dumps(record, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
