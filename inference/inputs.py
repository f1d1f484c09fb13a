"""Input of tagging: documents from text files, JSON lines, CSV, Parquet, folders of them, and standard input."""

from __future__ import annotations

import base64
import csv
import sqlite3
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import orjson

from musamma.data.document import DOCUMENT_KEYS, Document, parse_id
from musamma.data.errors import InputError, duplicate_id, meta_not_json, printable_path
from musamma.data.input_files import (
    CSV_SUFFIXES,
    FILE_TYPES,
    JSON_LINES_SUFFIXES,
    PARQUET_SUFFIX,
    TEXT_SUFFIXES,
    InputFile,
    find_files,
    find_unread_files,
)
from musamma.data.records import (
    InputStream,
    RawRecord,
    file_suffix,
    open_input,
    read_file,
    read_json_lines,
    read_standard_input,
    read_text_record,
    reading_exceptions,
    to_json,
)
from musamma.data.tables import ID_COLUMNS, TEXT_COLUMNS, first_column, read_csv, read_parquet, read_schema

if TYPE_CHECKING:
    import pyarrow as pa

#: Maximum number of bytes of a line, text file or cell. It bounds the memory that any input takes.
MAX_BYTES = 64 * 2**20
#: Maximum number of characters without a space. No real text has more, and finding words in them takes unbounded memory.
MAX_WORD_LENGTH = 10**6
#: End of the names of files with rejected records. Such files are never read as input.
REJECTS_SUFFIX = ".rejects.jsonl"
# Number of bytes that a reject holds of a line longer than MAX_BYTES.
_REJECT_BYTES = 64 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The inputs of a run, and how to read them.

    Args:
        names: files, folders, patterns such as ``news/*.jsonl``, and ``-`` for standard input.
        text_column: the column of a table, or the key of a JSON line, that holds the text; by default ``text``.
        id_column: the same for ids.
        output: the file to be written, which must not be among the inputs.
    """

    names: tuple[str, ...]
    text_column: str | None = None
    id_column: str | None = None
    output: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One text file, line or row, with either ``document`` or ``error``.

    Args:
        file: the file, or ``stdin``.
        line: its line or row in the file, from 1; ``None`` for a whole file.
        raw: its bytes; for a Parquet row, the row as JSON.
        bytes_read: bytes of all inputs read so far, this record included, as they are on disk.
        document: the document to tag.
        error: why there is no document.
    """

    file: str
    line: int | None
    raw: bytes
    bytes_read: int
    document: Document | None = None
    error: InputError | None = None

    @property
    def where(self) -> str:
        """File and line."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def content(self) -> bytes:
        """Return the bytes to digest, on which the output depends: the document without spans, or the raw bytes."""
        if (document := self.document) is None:
            return b"-" + self.raw
        return b"+" + to_json([document.id, document.text, document.meta])

    def to_reject(self) -> bytes:
        """Return a line of JSON for the file of rejects: place, reason and bytes."""
        fields: dict[str, Any] = {"file": self.file, "line": self.line, "reason": str(self.error)}
        raw = self.raw
        if len(raw) > MAX_BYTES:
            raw, fields["bytes"] = raw[:_REJECT_BYTES], f"the first {_REJECT_BYTES}"
        try:
            fields["text"] = raw.decode("utf-8")
        except UnicodeDecodeError:
            fields["base64"] = base64.b64encode(raw).decode("ascii")
        return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def read_inputs(inputs: Inputs) -> Generator[Record, None, None]:
    """Read all inputs in order, one record at a time. Close the generator if you stop before its end.

    A text file is one document. Its characters are kept, including line ends; only a byte order mark at the start is removed.
    Its id is the file's name without suffixes or, in a folder, its path in the folder. A line that is not a document, a
    repeated id and a file that cannot be read to its end become records with an error.

    Raises:
        InputError: a file is missing, of an unknown type or without a column of texts, or there is no record at all.
    """
    empty = True
    with closing(SeenIds()) as seen:
        for record in _read_all(inputs):
            empty = False
            if record.document is not None and (first := seen.add(record.document.id, record.where)):
                record = reject_duplicate(record, first)
            yield record
    if empty:
        raise InputError("nothing to tag", where=", ".join(inputs.names), expected=FILE_TYPES)


def _read_all(inputs: Inputs) -> Iterator[Record]:
    base = 0
    for name in inputs.names:
        if name == "-":
            yield from _read_stdin(inputs, base)
            continue
        for file in find_input_files(name, inputs.output):
            yield from read_input_file(file, inputs, base=base)
            base += file.size


def count_input_bytes(inputs: Inputs) -> int | None:
    """Count the bytes of the inputs on disk; ``None`` if standard input is among them."""
    if "-" in inputs.names:
        return None
    return sum(file.size for name in inputs.names for file in find_input_files(name, inputs.output))


def find_input_files(name: str, output: str | None) -> Iterator[InputFile]:
    """Find the files that a path, folder or pattern names, in reading order.

    Raises:
        InputError: there is no such file, or one is of an unknown type or is the output.
    """
    target = None if output is None else Path(output).resolve()
    for file in find_files(name, ignored_suffix=REJECTS_SUFFIX):
        if target is not None and file.target == target:
            raise InputError("an input is also the output", where=output, remedy="choose another `output`")
        yield file


def find_unread_inputs(inputs: Inputs) -> list[Path]:
    """Return the files in the input folders that are not read: other types, pipes and devices. The run's own files are not listed."""
    own = None if inputs.output is None else str(Path(inputs.output).absolute())
    return [
        file
        for name in inputs.names
        if name != "-" and (folder := Path(name)).is_dir()
        for file in find_unread_files(folder, ignored_suffix=REJECTS_SUFFIX)
        if own is None or not str(file.absolute()).startswith(own)
    ]


def read_extra_columns(inputs: Inputs) -> pa.Schema | None:
    """Read the columns of the first input that hold neither text nor id; ``None`` if it is not a table.

    Raises:
        InputError: the table has no column of texts.
    """
    name = inputs.names[0]
    file = None if name == "-" else next(find_input_files(name, inputs.output), None)
    if file is None or file_suffix(file.path) not in (*CSV_SUFFIXES, PARQUET_SUFFIX):
        return None
    try:
        with open_input(file.path, max_bytes=MAX_BYTES) as stream:
            schema = read_schema(stream)
    except (csv.Error, InputError):
        return None  # Reading the file later reports the error.
    except reading_exceptions():
        return None
    used = _find_columns(schema.names, inputs, where=str(file.path))
    import pyarrow as pa

    return pa.schema([column for column in schema if column.name not in used])


# One file.


def read_input_file(
    file: InputFile, inputs: Inputs, *, base: int = 0, after: int = 0, after_line: int = 0, offset: int = 0
) -> Iterator[Record]:
    """Read the records of a file, from its start or after some of them. A part that cannot be read is a record with an error.

    Args:
        file: the file.
        inputs: how to read it.
        base: bytes of the inputs before this file.
        after: number of records to skip. Skipped JSON lines and Parquet rows are not parsed.
        after_line: line or row of the last record skipped.
        offset: decompressed bytes up to the end of that line.

    Raises:
        InputError: a table has no column of texts.
    """
    if problem := file.find_problem():
        if not after:
            yield Record(file=printable_path(file.path), line=None, raw=b"", bytes_read=base, error=problem)
        return
    reader = _FileReader(file, inputs, after=after, after_line=after_line, offset=offset)
    records = read_file(file.path, reader.read, base=base, after_line=after_line or None, max_bytes=MAX_BYTES)
    bytes_read, empty = base, not after
    # Closed explicitly: an error's traceback refers to this frame, a cycle that the garbage collector may end much later.
    with closing(records):
        for raw in records:
            bytes_read, empty = raw.bytes_read, False
            yield to_record(raw, reader.build_document)
    if empty:
        where = printable_path(file.path)
        error = InputError("the file holds no document", where=where, expected="a document a line or row")
        yield Record(file=where, line=None, raw=b"", bytes_read=bytes_read, error=error)


@dataclass(slots=True)
class _FileReader:
    """Reads the records of one file and, once the file is open, builds their documents."""

    file: InputFile
    inputs: Inputs
    after: int = 0
    after_line: int = 0
    offset: int = 0
    _columns: tuple[str, str | None] | None = None

    def read(self, stream: InputStream) -> Iterator[RawRecord]:
        suffix = file_suffix(self.file.path)
        if suffix in JSON_LINES_SUFFIXES:
            return read_json_lines(stream, after_line=self.after_line, offset=self.offset)
        if suffix in TEXT_SUFFIXES:
            return islice(read_text_record(stream), self.after, None)
        if suffix == PARQUET_SUFFIX:
            table = read_parquet(stream, text_column=self.inputs.text_column, first=self.after)
        else:
            table = read_csv(stream)
        self._columns = _find_columns(table.columns, self.inputs, where=stream.name)
        return table.rows if suffix == PARQUET_SUFFIX else islice(table.rows, self.after, None)

    def build_document(self, raw: RawRecord) -> Document:
        if self._columns is not None:
            text, id = self._columns
            default_id = f"{self.file.stem}-{raw.index:05d}"
            return document_from_row(raw.value, text=text, id=id, default_id=default_id, where=raw.where)
        if raw.line is not None:
            return document_from_json(raw.value, self.inputs, default_id=None, where=raw.where)
        if not raw.value.strip():
            raise InputError("the file is empty", where=raw.where, expected="text", remedy="remove it from the input")
        return Document(self.file.stem, raw.value)


def _read_stdin(inputs: Inputs, base: int) -> Iterator[Record]:
    stdin = cast(BinaryIO, sys.stdin.buffer)

    def build_document(raw: RawRecord) -> Document:
        if raw.line is not None:
            return document_from_json(raw.value, inputs, default_id=f"stdin-{raw.line}", where=raw.where)
        if not raw.value.strip():
            raise InputError("no text", where=raw.where, expected="an article, or one JSON object a line")
        return Document("stdin", raw.value)

    for raw in read_standard_input(InputStream(name="stdin", file=stdin, disk=stdin, base=base, max_bytes=MAX_BYTES)):
        yield to_record(raw, build_document)


# Documents.


def to_record(raw: RawRecord, build_document: Callable[[RawRecord], Document]) -> Record:
    """Convert a raw record. If ``build_document`` fails, or the text or ``meta`` cannot be processed, the record has the error."""
    record = partial(Record, file=raw.file, line=raw.line, raw=raw.raw, bytes_read=raw.bytes_read)
    if raw.error is not None:
        return record(error=raw.error)
    try:
        document = build_document(raw)
        _check_document(document, where=raw.where)
        return record(document=document)
    except InputError as error:
        return record(error=error)


def _check_document(document: Document, *, where: str) -> None:
    if (
        len(document.text) > MAX_WORD_LENGTH
        and (longest := max(map(len, document.text.split()), default=0)) > MAX_WORD_LENGTH
    ):
        raise InputError(
            f"{longest:,} characters without a space", where=where, expected=f"at most {MAX_WORD_LENGTH:,}"
        )
    if document.meta:
        try:
            to_json(document.meta)
        except orjson.JSONEncodeError as error:
            raise meta_not_json(error, where=where) from None


def document_from_json(value: Any, inputs: Inputs, *, default_id: str | None, where: str) -> Document:
    """Build the document of a JSON line. Keys that a document does not have go to ``meta``.

    Args:
        value: the parsed line.
        inputs: keys of text and id.
        default_id: the id if the line has none; ``None`` makes a missing id an error.
        where: file and line, for errors.

    Raises:
        InputError: the text or the id is missing, or a key has another type.
    """
    if isinstance(value, dict):
        if inputs.text_column or inputs.id_column:
            keys = list(value)
            text = inputs.text_column or first_column(TEXT_COLUMNS, keys) or TEXT_COLUMNS[0]
            id = inputs.id_column or first_column(ID_COLUMNS, keys)
            return document_from_row(value, text=text, id=id, default_id=default_id, where=where)
        # Without the key "text", another key may hold the text, so unknown keys remain an error.
        if "text" in value:
            further = {key: value.pop(key) for key in sorted(set(value) - set(DOCUMENT_KEYS))}
            if further:
                value["meta"] = _merge_meta(value.get("meta"), further, where)
    return Document.from_dict(value, where=where, default_id=default_id)


def document_from_row(
    row: Mapping[str, Any], *, text: str, id: str | None, default_id: str | None, where: str
) -> Document:
    """Build the document of a table's row, without spans, which tagging replaces. Other columns go to ``meta``.

    Args:
        row: cells by column.
        text: the column that holds the text.
        id: the column that holds the id, if any.
        default_id: the id of a row that has none; without it that is an error.
        where: file and row, for errors.

    Raises:
        InputError: the text is not a string, there is no id, or ``meta`` is not an object.
    """
    content = row.get(text)
    if not isinstance(content, str):
        raise InputError(f"{text} is {type(content).__name__}", where=where, expected=f"a string under {text!r}")
    name = parse_id(row.get(id) if id else None, default_id or "", where)
    if not name:
        raise InputError(f"no {id or 'id'}", where=where, expected=f"an id under {id or 'id'!r}")
    used = {text, id, "meta", "spans", "nested"}
    further = {key: value for key, value in row.items() if key not in used and value is not None}
    return Document(name, content, meta=_merge_meta(row.get("meta"), further, where))


def _merge_meta(meta: Any, further: dict[str, Any], where: str) -> dict[str, Any]:
    if isinstance(meta, str) and meta:
        try:
            meta = orjson.loads(meta)
        except orjson.JSONDecodeError:
            return {"meta": meta, **further}
    if not meta:
        return further
    if not isinstance(meta, dict):
        raise InputError(f"meta is {type(meta).__name__}", where=where, expected="an object under 'meta'")
    if twice := sorted(set(meta) & set(further)):
        raise InputError(f"{twice[0]!r} is in meta and beside it", where=where, expected="one value")
    return {**meta, **further}


def _find_columns(columns: Sequence[str], inputs: Inputs, *, where: str) -> tuple[str, str | None]:
    """Return the columns of text and id."""
    for column, option in ((inputs.text_column, "text_column"), (inputs.id_column, "id_column")):
        if column and column not in columns:
            raise InputError(
                f"no column {column!r}",
                where=where,
                expected=f"one of {', '.join(columns)}",
                remedy=f"correct `{option}`",
            )
    text = inputs.text_column or first_column(TEXT_COLUMNS, columns)
    if text is None:
        raise InputError(
            f"columns {', '.join(columns) or '(none)'}",
            where=where,
            expected="a column 'text'",
            remedy="name the column that holds the texts with `text_column`",
        )
    return text, inputs.id_column or first_column(ID_COLUMNS, columns)


# Ids.

_CACHE_KIB = 32 * 1024


class SeenIds:
    """Ids and where each occurred first.

    Up to 32 MB stay in memory. The rest goes to a file in the system's folder for temporary files, deleted with the process:
    about 60 MB on disk and 10 seconds per million ids.
    """

    def __init__(self) -> None:
        # SQLite makes a database without a name a temporary file, which is written only when the cache is full.
        # Only one thread uses it at a time, but garbage collection in another thread may close it.
        self._table = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._table.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._table.execute("PRAGMA journal_mode = OFF")
        self._table.execute("CREATE TABLE seen (id BLOB PRIMARY KEY, place TEXT) WITHOUT ROWID")
        self._table.execute("BEGIN")

    def add(self, id: str, where: str) -> str | None:
        """Add an id and return ``None``; if it was added before, return the place of that.

        Raises:
            InputError: there is no disk space for more ids.
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
                expected="60 MB per million documents in the folder for temporary files",
                remedy="set SQLITE_TMPDIR to a larger folder",
            ) from error

    def close(self) -> None:
        """Delete all ids."""
        self._table.close()


def reject_duplicate(record: Record, first: str) -> Record:
    """Replace a document whose id occurred before, at ``first``, by the error."""
    assert record.document is not None
    file, _, line = first.rpartition(":")
    remedy = None
    if record.line is None:
        remedy = "give every input once, or the folder that holds them: ids are then paths in it"
    error = duplicate_id(
        record.document.id,
        first=f"line {line}" if file == record.file else first,
        where=record.where,
        remedy=remedy,
    )
    return replace(record, document=None, error=error)
