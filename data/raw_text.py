"""Raw text as a stream of lines, from plain and compressed files."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow

from musamma.data.document import read_jsonl
from musamma.data.errors import InputError


def read_lines(paths: Iterable[str | Path], *, every: int = 1, limit: int | None = None) -> Iterator[str]:
    """The lines of text files, one at a time, without blank ones.

    Args:
        paths: plain text, ``.gz`` or ``.zst``, in UTF-8; or ``.jsonl`` documents, whose texts are taken.
        every: take the first of so many lines, which samples a file evenly from end to end.
        limit: the most lines to take from one file.

    Raises:
        InputError: a number is out of range, a file is missing, cannot be unpacked or is not UTF-8; names file and line.
    """
    if every < 1 or (limit is not None and limit < 1):
        raise InputError(f"every {every}, limit {limit}", where="text", expected="numbers from 1")
    for path in map(Path, paths):
        full = (line for line in _texts(path) if line.strip())
        yield from islice(islice(full, 0, None, every), limit)


def _texts(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise InputError("no such file", where=str(path), remedy="check the path")
    if path.suffix == ".jsonl":
        for document in read_jsonl(path):
            yield from document.text.splitlines()
        return
    number = 0
    try:
        # Arrow unpacks .gz and .zst by the name's end, and is there already.
        with io.BufferedReader(pyarrow.input_stream(str(path), compression="detect")) as stream:
            for number, line in enumerate(stream, 1):
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"byte 0x{error.object[error.start]:02x} at byte {error.start + 1} is not UTF-8",
            where=f"{path}:{number}",
            expected="UTF-8",
            remedy="convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8",
        ) from None
    except (OSError, pyarrow.ArrowException) as error:
        raise InputError(
            f"cannot be read behind line {number}: {error}", where=str(path), remedy="copy it anew"
        ) from error
