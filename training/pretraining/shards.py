"""Packed rows on disk: Arrow files small enough to be carried one by one, read by memory map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from musamma.training.pretraining.packing import Row

#: The most bytes of a file, about.
_SHARD_BYTES = 48 * 2**20
_BATCH = 256


class ShardWriter:
    """Writes rows as ``NAME-00000.arrow`` and so on.

    Args:
        folder: where to.
        name: the part's name.
        length: the most pieces in a row.
        width: the type of piece ids.
    """

    def __init__(self, folder: Path, name: str, *, length: int, width: type[np.integer[Any]]) -> None:
        self._folder, self._name = folder, name
        self._schema = pa.schema(
            {
                "input_ids": pa.list_(pa.from_numpy_dtype(np.dtype(width))),
                "units": pa.list_(pa.bool_()),
                "documents": pa.list_(pa.uint16()),
            }
        )
        # Ids, flags and the offsets of three lists; paragraphs take little beside them.
        self._limit = max(1, _SHARD_BYTES // (length * (np.dtype(width).itemsize + 1) + 12))
        self._waiting: list[Row] = []
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self.rows, self.pieces, self._shards = 0, 0, 0

    def add(self, row: Row) -> None:
        """Append a row."""
        self._waiting.append(row)
        self.rows += 1
        self.pieces += row.pieces
        if len(self._waiting) == _BATCH:
            self._flush()
        if self.rows % self._limit == 0:
            self.close()

    def close(self) -> None:
        """Write what is left and end the file."""
        if self._waiting:
            self._flush()
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _flush(self) -> None:
        if self._writer is None:
            path = self._folder / f"{self._name}-{self._shards:05}.arrow"
            self._writer = pa.ipc.new_stream(str(path), self._schema)
            self._shards += 1
        columns = (
            [np.concatenate(row.input_ids) for row in self._waiting],
            [np.concatenate(row.units) for row in self._waiting],
            [np.array(row.documents) for row in self._waiting],
        )
        arrays = [
            pa.ListArray.from_arrays(
                pa.array(np.cumsum([0, *map(len, column)]), pa.int32()),
                pa.array(np.concatenate(column).astype(field.type.value_type.to_pandas_dtype()), field.type.value_type),
            )
            for column, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._waiting = []


@dataclass(frozen=True, slots=True)
class PackedRow:
    """A row as it was written; see :class:`musamma.training.pretraining.packing.Row`. All arrays are (pieces,), but
    the last."""

    input_ids: np.ndarray
    units: np.ndarray
    documents: np.ndarray


class Rows:
    """Rows by number, from memory-mapped files.

    Args:
        dataset: the files' rows.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset.with_format("arrow")
        lengths = pc.list_value_length(dataset.data.column("input_ids"))
        #: Pieces of every row; int64, (rows,).
        self.lengths = lengths.to_numpy().astype(np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, numbers: np.ndarray) -> list[PackedRow]:
        """The rows of these numbers."""
        table = self._dataset[numbers.tolist()]
        columns = [_split(table.column(name)) for name in ("input_ids", "units", "documents")]
        return [PackedRow(*values) for values in zip(*columns, strict=True)]


def _split(column: pa.ChunkedArray) -> list[np.ndarray]:
    lists = column.combine_chunks()
    if isinstance(lists, pa.ChunkedArray):
        lists = lists.chunk(0)
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return np.split(values, np.cumsum(lists.value_lengths().to_numpy())[:-1])
