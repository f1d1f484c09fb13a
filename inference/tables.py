"""Records of tables: CSV and Parquet, a document a row."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.records import ID_COLUMNS as IDS
from musamma.data.records import TEXT_COLUMNS as TEXT
from musamma.data.records import decode_text
from musamma.inference.readers import MARK, InputStream
from musamma.inference.records import LONGEST, Record, dump, first_column, numbered_lines, read_record, row_document

#: Rows of a Parquet file that are read together.
ROWS = 256


def read_csv_rows(source: InputStream) -> Iterator[Record]:
    """The rows of CSV with a header, or of tabs where the file is a ``.tsv``. Blank lines are passed over.

    Raises:
        InputError: the header has no column of texts.
    """
    lines: list[bytes] = []  # of the row that is being read

    def decoded() -> Iterator[str]:
        for number, line in numbered_lines(source.stream):
            line = line.removeprefix(MARK) if number == 1 else line
            lines.append(line)
            # Bytes that are no UTF-8 come as lone surrogates, so that the row's end is found in spite of them.
            yield line.decode("utf-8", errors="surrogateescape")

    reader = _csv_reader(decoded(), source)
    try:
        header: list[str] = next(reader, [])
    except csv.Error as error:
        raise InputError(f"broken CSV: {error}", where=f"{source.name}:1", expected="a header") from None
    text, id = text_columns(header, source)
    for number in itertools.count():
        lines.clear()
        line = reader.line_num + 1
        row: list[str] | csv.Error
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = error
        if row == []:
            continue
        raw = b"".join(lines).rstrip(b"\r\n")
        make = partial(
            _csv_document,
            row,
            raw,
            header,
            text=text,
            id=id,
            default_id=f"{source.stem}-{number:05d}",
            where=f"{source.name}:{line}",
        )
        yield read_record(make, file=source.name, line=line, raw=raw, read=source.read)


def _csv_document(
    row: list[str] | csv.Error,
    raw: bytes,
    header: list[str],
    *,
    text: str,
    id: str | None,
    default_id: str,
    where: str,
) -> Document:
    if isinstance(row, csv.Error):
        raise InputError(f"broken CSV: {row}", where=where, expected="cells in double quotes where needed")
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{raw[error.start]:02x} at byte {error.start + 1} is not UTF-8"
        remedy = "convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8"
        raise InputError(found, where=where, expected="UTF-8", remedy=remedy) from None
    if len(row) != len(header):
        raise InputError(f"{len(row)} cells", where=where, expected=f"{len(header)}, as in the header")
    cells = dict(zip(header, row, strict=True))
    return row_document(cells, text=text, id=id, default_id=default_id, where=where)


def _csv_reader(lines: Iterator[str], source: InputStream) -> Any:
    csv.field_size_limit(LONGEST)  # The default, 128 KiB a cell, is shorter than a long article.
    tabs = source.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(".tsv")
    return csv.reader(lines, delimiter="\t" if tabs else ",", strict=True)


def read_parquet_rows(source: InputStream, *, first: int = 0) -> Iterator[Record]:
    """The rows of a Parquet file, some at a time.

    Args:
        source: the file.
        first: how many rows to leave out; whole groups of them are not read.

    Raises:
        InputError: there is no column of texts.
    """
    with pq.ParquetFile(source.disk) as table:
        text, id = text_columns(table.schema_arrow.names, source)
        size, rows = Path(source.disk.name).stat().st_size, table.metadata.num_rows
        group, number = 0, 0
        total = table.metadata.num_row_groups
        while group < total and number + (here := table.metadata.row_group(group).num_rows) <= first:
            group, number = group + 1, number + here
        for batch in table.iter_batches(batch_size=ROWS, row_groups=[*range(group, total)]):
            for index in range(batch.num_rows):
                number += 1
                if number <= first:
                    continue
                row, raw = parquet_row(batch.slice(index, 1), text)
                make = partial(
                    parquet_document,
                    row,
                    raw,
                    text=text,
                    id=id,
                    default_id=f"{source.stem}-{number - 1:05d}",
                    where=f"{source.name}:{number}",
                )
                read = source.base + size * number // rows
                yield read_record(make, file=source.name, line=number, raw=raw, read=read)


def parquet_row(row: pa.RecordBatch, text: str) -> tuple[dict[str, Any] | None, bytes]:
    """A row's cells and their JSON; or of one that cannot be read, the bytes of its text."""
    try:
        cells = row.to_pylist()[0]
        return cells, dump(cells)
    except (UnicodeDecodeError, ValueError, TypeError):
        column = row.column(row.schema.names.index(text))
        return None, column.cast(pa.binary()).to_pylist()[0] or b""


def parquet_document(
    row: dict[str, Any] | None, raw: bytes, *, text: str, id: str | None, default_id: str, where: str
) -> Document:
    """The document of what :func:`parquet_row` gave; see :func:`row_document`."""
    if row is None:
        decode_text(raw, where)
        raise InputError(
            "a cell that cannot be read", where=where, expected="UTF-8 and times that can be, in every column"
        )
    return row_document(row, text=text, id=id, default_id=default_id, where=where)


def further_columns(source: InputStream) -> pa.Schema:
    """The columns of a table but those of text and id; of CSV they hold strings.

    Raises:
        InputError: there is no column of texts.
    """
    if source.name.lower().endswith(".parquet"):
        schema = pq.read_schema(source.disk)
    else:
        line = next((line for _, line in numbered_lines(source.stream)), b"").removeprefix(MARK)
        header: list[str] = next(_csv_reader(iter([line.decode("utf-8", errors="replace")]), source), [])
        schema = pa.schema([(name, pa.string()) for name in header])
    held = text_columns(schema.names, source)
    return pa.schema([column for column in schema if column.name not in held])


def text_columns(names: list[str], source: InputStream) -> tuple[str, str | None]:
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
