"""What can be tagged: text files, JSON lines, CSV, Parquet, folders of them, standard input."""

from __future__ import annotations

import csv
import glob
import os
import sqlite3
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa

from musamma.data.errors import InputError
from musamma.inference.readers import InputStream, read_json_lines, read_standard_input, read_text_file
from musamma.inference.records import Record, duplicate
from musamma.inference.tables import further_columns, read_csv_rows, read_parquet_rows

PACKINGS = {".gz": "gzip", ".zst": "zstd"}
REJECTS = ".rejects.jsonl"
_READERS: dict[str, Callable[[InputStream], Iterator[Record]]] = {
    **dict.fromkeys((".txt", ".text"), read_text_file),
    **dict.fromkeys((".jsonl", ".ndjson"), read_json_lines),
    **dict.fromkeys((".csv", ".tsv"), read_csv_rows),
    ".parquet": read_parquet_rows,
}
_KINDS = (
    ".txt files (an article each), .jsonl files (a document a line), .csv, .tsv or .parquet files (a document a row)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What is to be tagged, and how it is read.

    Args:
        names: files, folders, patterns such as ``news/*.jsonl``, and ``-`` for standard input.
        text_column: the column of a table, or the key of a JSON line, that holds the text; by default ``text``.
        id_column: the same for ids.
        output: the file that is going to be written, which must not be among those that are read.
    """

    names: tuple[str, ...]
    text_column: str | None = None
    id_column: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True)
class File:
    """A file to read, and what ids are made of where it has none."""

    path: Path
    stem: str


def read_inputs(inputs: Inputs) -> Generator[Record, None, None]:
    """What files, folders (searched to the bottom, in the order of their paths) and ``-`` hold, one at a time.

    A text file is one document, with its characters kept as they are, line ends too, but for a byte order mark at its start.
    Its id is the file's name without suffixes; below a folder, its path from there. A line that is no document, an id that
    came before and a file that cannot be read to its end are records with an error. Close it where you stop before the end.

    Raises:
        InputError: something is missing, of an unknown kind or without a column of texts, or there is nothing at all.
    """
    empty = True
    with closing(Identifiers()) as seen:
        for record in _records(inputs):
            empty = False
            if record.document is not None and (place := seen.taken(record.document.id, record.where)):
                record = duplicate(record, place)
            yield record
    if empty:
        raise InputError("nothing to tag", where=", ".join(inputs.names), expected=_KINDS)


def total_bytes(inputs: Inputs) -> int | None:
    """How many bytes the inputs have on disk; ``None`` where standard input is among them."""
    if "-" in inputs.names:
        return None
    return sum(file.path.stat().st_size for name in inputs.names for file in input_files(name, inputs.output))


def first_table(inputs: Inputs) -> pa.Schema | None:
    """The further columns of the first input, if it is a table."""
    name = inputs.names[0]
    file = None if name == "-" else next(input_files(name, inputs.output), None)
    if file is None or kind(file.path) not in (".csv", ".tsv", ".parquet"):
        return None
    try:
        with opened(file, 0, inputs) as source:
            return further_columns(source)
    except (OSError, pa.ArrowException, csv.Error):
        return None  # told of when its turn comes


def _records(inputs: Inputs) -> Iterator[Record]:
    base = 0
    for name in inputs.names:
        if name == "-":
            stdin = cast(BinaryIO, sys.stdin.buffer)
            yield from read_standard_input(
                InputStream(
                    name="stdin",
                    stem="stdin",
                    stream=stdin,
                    disk=stdin,
                    base=base,
                    text_column=inputs.text_column,
                    id_column=inputs.id_column,
                )
            )
            continue
        for file in input_files(name, inputs.output):
            yield from read_file(file, base, inputs)
            base += file.path.stat().st_size


@contextmanager
def opened(file: File, base: int, inputs: Inputs) -> Iterator[InputStream]:
    """A file, unpacked; ``base`` bytes of other files were read before it."""
    packing = PACKINGS.get(file.path.suffix.lower())
    with file.path.open("rb") as disk:
        # Arrow is there already; it reads members and frames that follow each other, and misses none that is cut.
        unpacked = BufferedReader(cast(RawIOBase, pa.input_stream(disk, compression=packing))) if packing else disk
        yield InputStream(
            name=str(file.path),
            stem=file.stem,
            stream=cast(BinaryIO, unpacked),
            disk=disk,
            base=base,
            text_column=inputs.text_column,
            id_column=inputs.id_column,
        )


def read_file(file: File, base: int, inputs: Inputs) -> Iterator[Record]:
    """What a file holds; what cannot be read of it is a record with an error. ``base`` as for :func:`opened`."""
    line: int | None = None
    read, empty = base, True
    try:
        with opened(file, base, inputs) as source:
            for record in _READERS[kind(file.path)](source):
                line, read, empty = record.line, record.read, False
                yield record
            if empty:
                error = InputError(
                    "the file holds no document", where=str(file.path), expected="a document a line or row"
                )
                yield Record(file=str(file.path), line=None, raw=b"", read=read, error=error)
    except (OSError, pa.ArrowException) as broken:
        behind = f" behind line {line}" if line else ""
        reason = (broken.strerror if isinstance(broken, OSError) else None) or str(broken)
        found = InputError(f"cannot be read{behind}: {reason}", where=str(file.path), remedy="copy it anew")
        yield Record(file=str(file.path), line=None, raw=b"", read=read, error=found)


def kind(path: Path) -> str:
    """What a file is by its name: its suffix, in small letters, before that of a packing."""
    suffix = path.suffix.lower()
    inner = Path(path.stem).suffix.lower()
    return inner if suffix in PACKINGS and inner != ".parquet" else suffix


def stem(path: Path) -> str:
    """A path without the suffixes of its kind and packing."""
    bare = path.with_suffix("") if path.suffix.lower() in PACKINGS else path
    return bare.with_suffix("").as_posix()


def input_files(name: str, output: str | None) -> Iterator[File]:
    """The files behind a file, folder or pattern, in the order in which they are read.

    Raises:
        InputError: there is none, one is of an unknown kind, or is the output.
    """
    path = Path(name)
    if path.exists():
        yield from _below(path, output)
        return
    found = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 (a pattern may be absolute)
    if not found:
        raise InputError("no such file or folder", where=name, remedy="check the path, or give - for standard input")
    for match in found:
        yield from _below(Path(match), output)


def _below(path: Path, output: str | None) -> Iterator[File]:
    if path.is_dir():
        for file in _walk(path):
            if kind(file) in _READERS and not file.name.endswith(REJECTS):
                yield _apart(File(file, stem(file.relative_to(path))), output)
    elif kind(path) in _READERS:
        yield _apart(File(path, stem(Path(path.name))), output)
    else:
        raise InputError(
            f"suffix {kind(path) or '(none)'!r}",
            where=str(path),
            expected=_KINDS,
            remedy="rename it, or turn it into JSONL with musamma convert",
        )


def _walk(folder: Path) -> Iterator[Path]:
    # One folder's names are in memory at a time; the order is that of the sorted paths.
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(str(error.strerror), where=str(folder), remedy="check the folder's permissions") from error
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):  # a link may lead back up
            yield from _walk(folder / entry.name)
        elif entry.is_file():
            yield folder / entry.name


def _apart(file: File, output: str | None) -> File:
    if output is not None and file.path.resolve() == Path(output).resolve():
        raise InputError(
            "an input is the output too",
            where=output,
            remedy="choose another --output",
        )
    return file


_CACHE_KIB = 32 * 1024


class Identifiers:
    """Where each id was met first.

    32 MB of them stay in memory, the others go to a file of the system's folder for temporary ones, which is gone with the
    process: about 60 MB on disk and 10 seconds a million ids.
    """

    def __init__(self) -> None:
        # SQLite makes a database without a name a temporary file, written only when its cache is full.
        # It is used by one thread at a time; one that garbage is collected in may be the one that closes it.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._table.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._table.execute("BEGIN")

    def taken(self, id: str, where: str) -> str | None:
        """Where an id was met before; else ``None``, and ``where`` is noted as its place.

        Raises:
            InputError: there is no room for more ids.
        """
        key = id.encode("utf-8", errors="surrogatepass")
        try:
            if self._table.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (key, where)).rowcount:
                return None
            return str(self._table.execute("SELECT place FROM seen WHERE id = ?", (key,)).fetchone()[0])
        except sqlite3.OperationalError as error:
            raise InputError(
                f"no room for the ids: {error}",
                where=where,
                expected="60 MB a million documents in the folder for temporary files",
                remedy="set SQLITE_TMPDIR to a larger folder",
            ) from error

    def close(self) -> None:
        """Forget all."""
        self._table.close()
