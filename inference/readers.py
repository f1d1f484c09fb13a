"""Records of one file, by kind: a text, JSON lines, CSV, Parquet. A line that is no document is a record, too."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.lines import decode_text
from musamma.data.formats.rows import IDS, TEXT
from musamma.inference.records import (
    LONGEST,
    Record,
    dump,
    first_column,
    json_document,
    numbered_lines,
    read_record,
    row_document,
)

MARK = b"\xef\xbb\xbf"
_BLANK = MARK + b" \t\r\n"
_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A file that is being read.

    Args:
        name: the file, as errors name it.
        stem: what ids are made of where the file has none.
        stream: its bytes, unpacked.
        disk: its bytes as they lie on disk; where it stands tells how much has been read.
        base: bytes of the files before it.
        text_column: the column or key that holds the text, where it is not the usual one.
        id_column: the same for the id.
    """

    name: str
    stem: str
    stream: BinaryIO
    disk: BinaryIO
    base: int
    text_column: str | None = None
    id_column: str | None = None

    @property
    def read(self) -> int:
        """Bytes of all files that have been read so far; 0 for what has no position."""
        return self.base + self.disk.tell() if self.disk.seekable() else 0


def read_text_file(source: Opened) -> Iterator[Record]:
    """The one document of a text file."""
    content = source.stream.read(LONGEST + 1)
    yield _text(content, source, found="the file is empty", expected="text", remedy="remove it from the input")


def read_json_lines(source: Opened) -> Iterator[Record]:
    """The documents of JSON lines. Blank lines are passed over."""
    empty = True
    for number, line in numbered_lines(source.stream):
        line = line.removeprefix(MARK) if number == 1 else line
        if line.strip():
            empty = False
            yield _json(line, number, source, default_id=None)
    if empty:
        error = InputError("the file holds no document", where=source.name, expected="one JSON object a line")
        yield Record(file=source.name, line=None, raw=b"", read=source.read, error=error)


def read_standard_input(source: Opened) -> Iterator[Record]:
    """JSON lines if the first character is ``{``, else one text. The ids of lines without one are ``stdin-1``, ..."""
    lines = numbered_lines(source.stream)
    # What stands before the first character that is not a space belongs to a text, too.
    head: list[tuple[int, bytes]] = []
    for number, line in lines:
        head.append((number, line))
        if line.strip(_BLANK):
            break
    if not head or not head[-1][1].lstrip(_BLANK).startswith(b"{"):
        content = b"".join(line for _, line in head) + source.stream.read(LONGEST + 1)
        yield _text(content, source, found="no text", expected="an article, or one JSON object a line")
        return
    for number, line in itertools.chain(head, lines):
        if line.strip(_BLANK):
            line = line.removeprefix(MARK) if number == 1 else line
            yield _json(line, number, source, default_id=f"{source.name}-{number}")


def _text(content: bytes, source: Opened, *, found: str, expected: str, remedy: str | None = None) -> Record:
    def document() -> Document:
        text = decode_text(content.removeprefix(MARK), source.name)
        if not text.strip():
            raise InputError(found, where=source.name, expected=expected, remedy=remedy)
        return Document(source.stem, text)

    return read_record(document, file=source.name, line=None, raw=content, read=source.read)


def _json(line: bytes, number: int, source: Opened, *, default_id: str | None) -> Record:
    def document() -> Document:
        return json_document(
            line,
            text_column=source.text_column,
            id_column=source.id_column,
            default_id=default_id,
            where=f"{source.name}:{number}",
        )

    raw = line if len(line) > LONGEST else line.rstrip(b"\r\n")
    return read_record(document, file=source.name, line=number, raw=raw, read=source.read)


def read_csv_rows(source: Opened) -> Iterator[Record]:
    """The rows of CSV with a header, or of tabs where the file is a ``.tsv``. Blank lines are passed over.

    Raises:
        InputError: the header has no column of texts.
    """
    csv.field_size_limit(LONGEST)  # The default, 128 KiB a cell, is shorter than a long article.
    lines: list[bytes] = []  # of the row that is being read

    def decoded() -> Iterator[str]:
        for number, line in numbered_lines(source.stream):
            line = line.removeprefix(MARK) if number == 1 else line
            lines.append(line)
            # Bytes that are no UTF-8 come as lone surrogates, so that the row's end is found in spite of them.
            yield line.decode("utf-8", errors="surrogateescape")

    reader = csv.reader(decoded(), delimiter="\t" if ".tsv" in Path(source.name).suffixes else ",", strict=True)
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise InputError(f"broken CSV: {error}", where=f"{source.name}:1", expected="a header") from None
    text, id = columns(header, source)
    for number in itertools.count():
        lines.clear()
        line, row, error = reader.line_num + 1, None, None
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as broken:
            error = broken
        if row == []:
            continue
        raw, where = b"".join(lines).rstrip(b"\r\n"), f"{source.name}:{line}"

        def document(row=row, error=error, raw=raw, where=where, number=number) -> Document:  # type: ignore[no-untyped-def]
            if error is not None:
                raise InputError(
                    f"broken CSV: {error}", where=where, expected="cells in double quotes where needed"
                ) from None
            decode_text(raw, where)
            if len(row) != len(header):
                raise InputError(f"{len(row)} cells", where=where, expected=f"{len(header)}, as in the header")
            cells = dict(zip(header, row, strict=True))
            return row_document(cells, text=text, id=id, default_id=f"{source.stem}-{number:05d}", where=where)

        yield read_record(document, file=source.name, line=line, raw=raw, read=source.read)


def read_parquet_rows(source: Opened) -> Iterator[Record]:
    """The rows of a Parquet file, some at a time.

    Raises:
        InputError: there is no column of texts.
    """
    with pq.ParquetFile(source.disk) as table:
        text, id = columns(table.schema_arrow.names, source)
        size, rows, number = source.base + _size(source.disk), table.metadata.num_rows or 1, 0
        for batch in table.iter_batches(batch_size=_ROWS):
            for index in range(batch.num_rows):
                number += 1
                where, default_id = f"{source.name}:{number}", f"{source.stem}-{number - 1:05d}"
                part, raw = batch.slice(index, 1), b""
                row: dict[str, Any] | None
                try:
                    row = part.to_pylist()[0]
                    raw = dump(row)
                except (UnicodeDecodeError, ValueError, TypeError):
                    row, raw = None, _bytes(part, text)

                def document(row=row, raw=raw, where=where, default_id=default_id) -> Document:  # type: ignore[no-untyped-def]
                    if row is None:
                        decode_text(raw, where)
                        raise InputError("a cell that cannot be read", where=where, expected="UTF-8 in every column")
                    return row_document(row, text=text, id=id, default_id=default_id, where=where)

                read = source.base + int((size - source.base) * number / rows)
                yield read_record(document, file=source.name, line=number, raw=raw, read=read)


def _bytes(row: pa.RecordBatch, column: str) -> bytes:
    """The text of a row, whatever it holds."""
    return row.column(row.schema.get_field_index(column)).cast(pa.binary()).to_pylist()[0] or b""


def _size(file: BinaryIO) -> int:
    return Path(file.name).stat().st_size


def columns(names: list[str], source: Opened) -> tuple[str, str | None]:
    """The columns of text and id.

    Raises:
        InputError: there are none of the names asked for, or no text.
    """
    for wanted, option in ((source.text_column, "--text-column"), (source.id_column, "--id-column")):
        if wanted and wanted not in names:
            raise InputError(
                f"no column {wanted!r}",
                where=source.name,
                expected=f"one of {', '.join(names)}",
                remedy=f"correct {option}",
            )
    text = source.text_column or first_column(TEXT, names)
    if text is None:
        raise InputError(
            f"columns {', '.join(names) or '(none)'}",
            where=source.name,
            expected="a column 'text'",
            remedy="name the column that holds the texts with --text-column",
        )
    return text, source.id_column or first_column(IDS, names)
