"""Records of tables: rows of CSV and Parquet, each with file, row, raw bytes and cells by column."""

from __future__ import annotations

import csv
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from musamma.data.errors import InputError, not_utf8
from musamma.data.records import (
    InputStream,
    RawRecord,
    decode_line,
    decode_text,
    file_suffix,
    numbered_lines,
    parse_record,
    to_json,
)

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

#: Names under which a table may hold texts and ids.
TEXT_COLUMNS = ("text", "sentence")
ID_COLUMNS = ("id", "doc_id", "document_id")

_LARGEST_CELL = 2**31 - 1
_ROWS_PER_BATCH = 256


@dataclass(frozen=True, slots=True)
class Table:
    """An open table.

    Args:
        columns: its columns.
        rows: its rows, which can be read once.
        metadata: information about its columns that Parquet holds.
    """

    columns: Sequence[str]
    rows: Iterator[RawRecord]
    metadata: Mapping[bytes, bytes] = field(default_factory=dict)


def read_csv(stream: InputStream, *, lone_cr: bool = False) -> Table:
    """Open CSV with a header; columns are separated by tabs if the file is a ``.tsv``. Blank lines are skipped.

    Args:
        stream: the input.
        lone_cr: whether a carriage return without line feed ends a row.

    Raises:
        InputError: the header is broken, or has a column twice.
    """
    lines: list[bytes] = []  # of the row being read

    def decoded() -> Iterator[str]:
        for _, line in numbered_lines(stream):
            for part in filter(None, re.split(rb"(?<=\r)(?!\n)", line)) if lone_cr else (line,):
                lines.append(part)
                # Bytes that are not UTF-8 become lone surrogates, so that the end of the row is still found.
                yield part.decode("utf-8", errors="surrogateescape")

    reader = _csv_reader(decoded(), stream)
    try:
        header: list[str] = next(reader, [])
    except csv.Error as error:
        raise InputError(f"broken CSV: {error}", where=f"{stream.name}:1", expected="a header") from None
    _check_columns(header, f"{stream.name}:1")
    return Table(header, _csv_rows(reader, header, lines, stream))


def _csv_rows(reader: Any, header: list[str], lines: list[bytes], stream: InputStream) -> Iterator[RawRecord]:
    for index in itertools.count():
        lines.clear()
        line = reader.line_num + 1
        row: list[str] | csv.Error
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            row = error
        if row != []:
            raw = b"".join(lines).rstrip(b"\r\n")
            parse = partial(_csv_cells, row, raw, header, f"{stream.name}:{line}")
            yield parse_record(parse, stream, line=line, index=index, raw=raw)


def _csv_cells(row: list[str] | csv.Error, raw: bytes, header: list[str], where: str) -> dict[str, str]:
    if isinstance(row, csv.Error):
        raise InputError(f"broken CSV: {row}", where=where, expected="cells in double quotes where needed")
    decode_line(raw, where)
    if len(row) != len(header):
        raise InputError(f"{len(row)} cells", where=where, expected=f"{len(header)}, as in the header")
    return dict(zip(header, row, strict=True))


def _csv_reader(lines: Iterator[str], stream: InputStream) -> Any:
    # The default limit, 128 KiB a cell, is shorter than a long article.
    csv.field_size_limit(_LARGEST_CELL if stream.max_bytes is None else stream.max_bytes)
    tabs = file_suffix(Path(stream.name)) == ".tsv"
    return csv.reader(lines, delimiter="\t" if tabs else ",", strict=True)


def read_parquet(stream: InputStream, *, text_column: str | None = None, first: int = 0) -> Table:
    """Open a Parquet file, whose rows are read in batches.

    Args:
        stream: the input, an uncompressed file.
        text_column: the column whose bytes stand for a row that cannot be decoded; by default the usual names.
        first: number of rows to skip; row groups that lie before it are not read.

    Raises:
        InputError: two columns have the same name, or the name of a column is not UTF-8.
        pyarrow.ArrowException: the file is not Parquet.
    """
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(stream.disk)
        columns = table.schema_arrow.names
    except UnicodeDecodeError as error:
        raise not_utf8(error, where=f"{stream.name}, names of columns") from None
    _check_columns(columns, stream.name)
    rows = _parquet_rows(table, text_column or first_column(TEXT_COLUMNS, columns), first, stream)
    return Table(columns, rows, table.schema_arrow.metadata or {})


def _check_columns(columns: Sequence[str], where: str) -> None:
    # Spreadsheets often end with columns without name.
    if repeated := next((name for name in columns if name and columns.count(name) > 1), None):
        raise InputError(
            f"two columns {repeated!r}",
            where=where,
            expected="columns with different names",
            remedy="rename one of them",
        )


def _parquet_rows(
    table: pq.ParquetFile, text_column: str | None, first: int, stream: InputStream
) -> Iterator[RawRecord]:
    size, total = os.fstat(stream.disk.fileno()).st_size, table.metadata.num_rows
    groups = table.metadata.num_row_groups
    group, number = 0, 0
    while group < groups and number + (rows := table.metadata.row_group(group).num_rows) <= first:
        group, number = group + 1, number + rows
    for batch in table.iter_batches(batch_size=_ROWS_PER_BATCH, row_groups=[*range(group, groups)]):
        for index, cells in enumerate(_batch_cells(batch)):
            number += 1
            if number <= first:
                continue
            try:
                raw = _cell_bytes(batch, index, text_column) if cells is None else to_json(cells)
            except TypeError:  # JSON cannot hold a cell, e.g. one nested too deeply.
                cells, raw = None, _cell_bytes(batch, index, text_column)
            parse = partial(_parquet_cells, cells, raw, f"{stream.name}:{number}")
            bytes_read = stream.base + size * number // total
            yield parse_record(parse, stream, line=number, index=number - 1, raw=raw, bytes_read=bytes_read)


def _batch_cells(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | None]:
    """Yield the cells of each row; ``None`` for a row that cannot be decoded."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist()
    except (ValueError, TypeError, OverflowError):
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except (ValueError, TypeError, OverflowError):
                yield None
        return
    yield from rows


def _cell_bytes(batch: pa.RecordBatch, index: int, column: str | None) -> bytes:
    import pyarrow as pa

    if column is None or column not in batch.schema.names:
        return b""
    cells = batch.slice(index, 1).column(batch.schema.names.index(column))
    return cells.cast(pa.binary()).to_pylist()[0] or b""


def _parquet_cells(cells: dict[str, Any] | None, raw: bytes, where: str) -> dict[str, Any]:
    if cells is None:
        decode_text(raw, where)
        raise InputError("a cell that cannot be read", where=where, expected="valid UTF-8 and times in every column")
    return cells


def read_schema(stream: InputStream) -> pa.Schema:
    """Read the columns of CSV or Parquet and their types; columns of CSV hold strings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if file_suffix(Path(stream.name)) == ".parquet":
        return pq.read_schema(stream.disk)
    line = next((line for _, line in numbered_lines(stream)), b"")
    header: list[str] = next(_csv_reader(iter([line.decode("utf-8", errors="replace")]), stream), [])
    return pa.schema([(name, pa.string()) for name in header])


def first_column(names: Iterable[str], columns: Sequence[str]) -> str | None:
    """Return the first of the names that is a column."""
    return next((name for name in names if name in columns), None)
