"""Input files: the files that a path, folder or pattern names, and the lines of text in them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from musamma.data.document import read_jsonl
from musamma.data.errors import InputError, not_found, not_readable
from musamma.data.records import file_stem, file_suffix, read_text_lines

TEXT_SUFFIXES = (".txt", ".text")
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")
CSV_SUFFIXES = (".csv", ".tsv")
PARQUET_SUFFIX = ".parquet"
#: Types of files that hold texts, by suffix.
SUFFIXES = (*TEXT_SUFFIXES, *JSON_LINES_SUFFIXES, *CSV_SUFFIXES, PARQUET_SUFFIX)
#: The same types in words.
FILE_TYPES = (
    ".txt files (an article each), .jsonl files (a document a line), .csv, .tsv or .parquet files (a document a row)"
)


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file to read.

    Args:
        path: the file.
        stem: the id, or the start of the ids, of documents without one: the path below the folder that was searched,
            without suffixes.
    """

    path: Path
    stem: str


def find_files(name: str, *, ignored_suffix: str) -> Iterator[InputFile]:
    """Find the files that a path, folder or pattern names. Folders are searched recursively, sorted by path.

    Args:
        name: a path, or a pattern such as ``news/*.jsonl``.
        ignored_suffix: the end of names that are passed over in folders.

    Raises:
        InputError: there is no such file, or its type is unknown.
    """
    path = Path(name)
    paths = [path] if path.exists() else map(Path, sorted(glob.glob(name, recursive=True)))  # noqa: PTH207 (may be absolute)
    found = False
    for match in paths:
        found = True
        if match.is_dir():
            for file in _walk(match):
                if file_suffix(file) in SUFFIXES and not file.name.endswith(ignored_suffix):
                    yield InputFile(file, file_stem(file.relative_to(match)))
        elif file_suffix(match) in SUFFIXES:
            yield InputFile(match, file_stem(Path(match.name)))
        else:
            raise InputError(
                f"suffix {file_suffix(match) or '(none)'!r}",
                where=str(match),
                expected=FILE_TYPES,
                remedy="rename it, or turn it into JSONL with musamma convert",
            )
    if not found:
        raise not_found(name, kind="file or folder", remedy="check the path, or give - for standard input")


def _walk(folder: Path) -> Iterator[Path]:
    # Only one folder's names are in memory at a time.
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise not_readable(folder, error) from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):  # A link may lead to a parent folder.
            yield from _walk(folder / entry.name)
        elif entry.is_file():
            yield folder / entry.name


def read_lines(paths: Iterable[str | Path], *, every: int = 1, limit: int | None = None) -> Iterator[str]:
    """Read the lines of text files one at a time, without blank ones.

    Args:
        paths: UTF-8 text, plain, ``.gz`` or ``.zst``; or ``.jsonl`` documents, whose texts are taken.
        every: take the first of every so many lines, which samples a file evenly from start to end.
        limit: maximum number of lines to take from one file.

    Raises:
        InputError: a number is out of range, or a file is missing, damaged or not UTF-8; names file and line.
    """
    if every < 1 or (limit is not None and limit < 1):
        raise InputError(f"every {every}, limit {limit}", where="text", expected="numbers from 1")
    for path in map(Path, paths):
        full = (line for line in _lines(path) if line.strip())
        yield from islice(islice(full, 0, None, every), limit)


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise not_found(path)
    if file_suffix(path) == ".jsonl":
        for document in read_jsonl(path):
            yield from document.text.splitlines()
    else:
        for _, line in read_text_lines(path):
            yield line
