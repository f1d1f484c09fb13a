"""Input files: the files that a path, folder or pattern names, and the lines of text in them."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from musamma.data.document import read_jsonl
from musamma.data.errors import InputError, not_found, not_readable, printable_path
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

    @property
    def size(self) -> int:
        """Bytes on disk; 0 where there is no file to read."""
        try:
            return 0 if self.path.is_dir() else self.path.stat().st_size
        except OSError:
            return 0

    @property
    def target(self) -> Path:
        """The absolute path without links; of links that lead to themselves, the path as it is."""
        try:
            return self.path.resolve()
        except (OSError, RuntimeError):
            return self.path.absolute()

    def find_problem(self) -> InputError | None:
        """Return why the file cannot be read or its documents cannot have ids, if that shows before it is opened."""
        where = printable_path(self.path)
        try:
            self.stem.encode("utf-8")
        except UnicodeEncodeError:
            return InputError(
                "the name is not UTF-8", where=where, expected="UTF-8, since ids are made of it", remedy="rename it"
            )
        if not self.path.is_dir():
            return None
        if self.path.is_symlink():
            remedy = "give that folder as an input, or remove the link"
            return InputError("a link to a folder, which is not followed", where=where, expected="files", remedy=remedy)
        try:
            os.scandir(self.path).close()
        except OSError as error:
            return not_readable(self.path, error)
        return None


def find_folder_files(folder: Path, suffix: str) -> Iterator[Path]:
    """Find the files of one type below a folder, sorted by path.

    Raises:
        InputError: a folder or file cannot be read, a link leads to a folder, or a name is not UTF-8.
    """
    for path in _walk(folder):
        if path.suffix == suffix or _is_unread_folder(path, folder):
            if problem := InputFile(path, str(path.relative_to(folder))).find_problem():
                raise problem
            yield path


def find_files(name: str, *, ignored_suffix: str) -> Iterator[InputFile]:
    """Find the files that a path, folder or pattern names. Folders are searched recursively, sorted by path.

    Folders that cannot be read and links to other folders are among the results, so that their reader reports them.

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
                if (file_suffix(file) in SUFFIXES and not file.name.endswith(ignored_suffix)) or _is_unread_folder(
                    file, match
                ):
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


def find_unread_files(folder: Path, *, ignored_suffix: str) -> Iterator[Path]:
    """Find the files below a folder that :func:`find_files` passes over: other types, pipes and devices; hidden files aside."""
    for file in _walk(folder, special=True):
        known = file_suffix(file) in SUFFIXES and (file.is_file() or file.is_symlink())
        if not (known or file.name.endswith(ignored_suffix) or file.is_dir()):
            yield file


def _is_unread_folder(path: Path, root: Path) -> bool:
    """Whether a result of ``_walk`` is a folder whose files are not read; those of a link to a folder below the root are."""
    return path.is_dir() and not (path.is_symlink() and path.resolve().is_relative_to(root.resolve()))


def _walk(folder: Path, *, special: bool = False) -> Iterator[Path]:
    """Yield the files and links below a folder, and the folders that cannot be read; with ``special``
    pipes and devices too, but nothing hidden."""
    # Only one folder's names are in memory at a time.
    try:
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
    except OSError:
        yield folder
        return
    for entry in entries:
        if special and entry.name.startswith("."):
            continue
        if entry.is_dir(follow_symlinks=False):  # A link may lead to a parent folder.
            yield from _walk(folder / entry.name, special=special)
        elif special or entry.is_symlink() or entry.is_file():
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


def require_text(paths: Iterable[str | Path]) -> None:
    """Check that text files exist and are not empty.

    Raises:
        InputError: a file is missing or empty.
    """
    for path in map(Path, paths):
        if not path.is_file():
            raise not_found(path)
        if path.stat().st_size == 0:
            raise InputError(
                "the file is empty", where=str(path), expected="one paragraph a line", remedy="remove it from text"
            )


def _lines(path: Path) -> Iterator[str]:
    if not path.is_file():
        raise not_found(path)
    if file_suffix(path) == ".jsonl":
        for document in read_jsonl(path):
            yield from document.text.splitlines()
    else:
        for _, line in read_text_lines(path):
            yield line
