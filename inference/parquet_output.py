"""Tagged documents as Parquet: a row for each document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.records import to_json

_SPAN = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string()), ("score", pa.float64())])
_COLUMNS = (("id", pa.string()), ("text", pa.string()), ("spans", pa.list_(_SPAN)))
_NESTED = ("nested", pa.list_(_SPAN))
_META = ("meta", pa.string())
_ROW_GROUP = 8192


def build_encoder(table: pa.Schema | None, *, nested: bool) -> tuple[bytes, Callable[[list[Document]], bytes]]:
    """Build the encoder of the unfinished file.

    It is in Arrow's stream format, which can be cut after any batch and continued. A Parquet file cannot: its index is at the end.

    Args:
        table: further columns of the first input, which become columns of the output.
        nested: add a column of nested names.

    Returns:
        The bytes before the first document, and a function that returns the bytes of some documents.
    """
    columns = (*_COLUMNS, _NESTED) if nested else _COLUMNS
    reserved = {name for name, _ in (*_COLUMNS, _NESTED, _META)}
    further = [field.remove_metadata().with_nullable(True) for field in table or () if field.name not in reserved]
    schema = pa.schema([*map(pa.field, *zip(*columns, strict=True)), *further, pa.field(*_META)])
    names = {field.name for field in further}

    def encode(documents: list[Document]) -> bytes:
        rows = [_parquet_row(document, names, nested=nested) for document in documents]
        try:
            return pa.RecordBatch.from_pylist(rows, schema=schema).serialize().to_pybytes() if rows else b""
        except pa.ArrowException as error:
            raise InputError(
                f"a cell of another type than the column of the first table: {error}",
                where=f"documents {documents[0].id!r} to {documents[-1].id!r}",
                expected="tables with the same columns",
                remedy="tag them one by one, or write JSONL",
            ) from error

    return schema.serialize().to_pybytes(), encode


def _parquet_row(document: Document, names: set[str], *, nested: bool) -> dict[str, Any]:
    """Return the cells of a document; entries of ``meta`` with one of these names have separate columns."""
    columns = {name: value for name, value in document.meta.items() if name in names}
    rest = {name: value for name, value in document.meta.items() if name not in names}
    return {
        "id": document.id,
        "text": document.text,
        "spans": [span.to_dict() for span in document.spans],
        **({"nested": [span.to_dict() for span in document.nested]} if nested else {}),
        **columns,
        "meta": to_json(rest).decode(),
    }


def write_parquet(part: Path, target: Path) -> None:
    """Convert the unfinished file ``part`` to the Parquet file ``target``."""
    new = target.with_name(target.name + ".part.new")
    with (
        pa.OSFile(str(part)) as file,
        pa.ipc.open_stream(file) as stream,
        pq.ParquetWriter(new, stream.schema) as writer,
    ):
        batches: list[pa.RecordBatch] = []
        rows = 0
        for batch in stream:
            batches.append(batch)
            rows += batch.num_rows
            if rows >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(batches, stream.schema))
                batches, rows = [], 0
        if batches:
            writer.write_table(pa.Table.from_batches(batches, stream.schema))
    new.replace(target)
    part.unlink()
