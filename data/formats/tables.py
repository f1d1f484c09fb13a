"""CSV and Parquet: a document a row, columns ``id``, ``text``, ``spans``, ``nested``, ``meta``; or tokens and tags.

In CSV, lists and objects are JSON in their cell. CSV is read with the standard library, which knows the line of a row.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from musamma.data.alignment import RawDocument
from musamma.data.audit import ImportAudit
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import whole_file
from musamma.data.formats.options import ReadOptions
from musamma.data.formats.rows import Row, documents

COLUMNS = ("id", "text", "spans", "nested", "meta")
_LARGEST_CELL = 2**31 - 1
_BATCH = 512


def read_csv(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """The rows of a CSV file with a header; ``.tsv`` is parted by tabs.

    Raises:
        InputError: the file is no UTF-8, a row has more or fewer cells than the header, or a cell is wrong; names file and line.
    """
    header = next((list(row) for _, row in _csv_rows(path)), None)
    if header is None:
        header = _csv_header(path)
    yield from documents(
        lambda: _csv_rows(path), header, stem=path.stem, where=f"{path}:1", names={}, options=options, audit=audit
    )


def read_parquet(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """The rows of a Parquet file, batch by batch.

    Raises:
        InputError: the file is no Parquet file, or a cell is wrong; names file and row.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            columns = table.schema_arrow.names
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"not readable as Parquet: {error}", where=str(path), expected="a Parquet file") from None

    def rows() -> Iterator[Row]:
        number = 0
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}, row {number}", row

    yield from documents(rows, columns, stem=path.stem, where=str(path), names={}, options=options, audit=audit)


def write_csv(items: Iterable[Document]) -> Iterator[str]:
    """The lines of a CSV file."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(COLUMNS)
    for document in items:
        row = _row(document)
        writer.writerow(
            [row["id"], row["text"], *(orjson.dumps(row[key]).decode() for key in ("spans", "nested")), row["meta"]]
        )
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def write_parquet(items: Iterable[Document], path: Path) -> None:
    """Write a Parquet file, ``meta`` as JSON text.

    Raises:
        InputError: the path cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    offsets = [pa.field("start", pa.int64()), pa.field("end", pa.int64())]
    span = pa.struct([*offsets, pa.field("label", pa.string()), pa.field("score", pa.float64())])
    types = {
        "id": pa.string(),
        "text": pa.string(),
        "spans": pa.list_(span),
        "nested": pa.list_(span),
        "meta": pa.string(),
    }
    schema = pa.schema(list(types.items()))
    rows = (_row(document) for document in items)
    with whole_file(path) as partial, pq.ParquetWriter(partial, schema) as writer:
        while batch := list(islice(rows, _BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))


def _row(document: Document) -> dict[str, Any]:
    return {
        "id": document.id,
        "text": document.text,
        "spans": [span.to_dict() for span in document.spans],
        "nested": [span.to_dict() for span in document.nested],
        "meta": orjson.dumps(dict(document.meta)).decode(),
    }


def _reader(path: Path, file: io.TextIOWrapper) -> Any:
    csv.field_size_limit(_LARGEST_CELL)  # The default, 128 KiB a cell, is shorter than a long article.
    return csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)


def _csv_header(path: Path) -> list[str]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return next(_reader(path, file), [])


def _csv_rows(path: Path) -> Iterator[Row]:
    line = 1
    try:
        # Bytes that are no UTF-8 come as lone surrogates, so that the error can name their row.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = _reader(path, file)
            header: list[str] = next(reader, [])
            line = reader.line_num + 1
            for row in reader:
                where = f"{path}:{line}"
                line = reader.line_num + 1
                if not row:
                    continue
                if len(row) != len(header):
                    raise InputError(f"{len(row)} cells", where=where, expected=f"{len(header)}, as in the header")
                if any("\ud800" <= character <= "\udfff" for cell in row for character in cell):
                    raise InputError(
                        "bytes that are not UTF-8",
                        where=where,
                        expected="UTF-8",
                        remedy="convert the file, e.g. iconv -f WINDOWS-1256 -t UTF-8",
                    )
                yield where, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise InputError(
            f"broken CSV: {error}", where=f"{path}:{line}", expected="cells in double quotes where needed"
        ) from None
    except OSError as error:
        raise InputError(str(error.strerror), where=str(path), remedy="check the path") from error
