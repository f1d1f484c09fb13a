"""Rows of several paragraphs: filled first-fit, and read by the encoder as if each paragraph stood alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from transformers import PreTrainedModel

from musamma.data.errors import InputError

#: Rows that are filled at the same time.
_OPEN = 64


@dataclass(slots=True)
class Row:
    """Paragraphs that are read together.

    Args:
        input_ids: piece ids, special tokens around each paragraph.
        units: whether a piece begins what is masked as one.
        documents: pieces of each paragraph, special tokens included.
    """

    input_ids: list[np.ndarray] = field(default_factory=list)
    units: list[np.ndarray] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)

    @property
    def pieces(self) -> int:
        """Pieces in the row."""
        return sum(self.documents)

    def add(self, input_ids: np.ndarray, units: np.ndarray) -> None:
        """Append a paragraph."""
        self.input_ids.append(input_ids)
        self.units.append(units)
        self.documents.append(len(input_ids))


def fill_rows(paragraphs: Iterable[tuple[np.ndarray, np.ndarray]], *, length: int, packing: bool) -> Iterator[Row]:
    """Put each paragraph into the first of up to 64 open rows that has room for it; the fullest is closed for a new
    one.

    The same paragraphs give the same rows.

    Args:
        paragraphs: ids and beginnings of units; each at most ``length`` long.
        length: the most pieces in a row.
        packing: without it every paragraph is a row.
    """
    rows: list[Row] = []
    room: list[int] = []
    for ids, units in paragraphs:
        index = next((i for i, left in enumerate(room) if left >= len(ids)), -1) if packing else -1
        if index < 0:
            if len(rows) == _OPEN:
                fullest = room.index(min(room))
                room.pop(fullest)
                yield rows.pop(fullest)
            rows.append(Row())
            room.append(length)
            index = len(rows) - 1
        rows[index].add(ids, units)
        room[index] -= len(ids)
        if not packing or not room[index]:
            room.pop(index)
            yield rows.pop(index)
    yield from rows


def position_offset(encoder: PreTrainedModel) -> int:
    """The position id of a text's first piece: behind the padding's in models of the RoBERTa kind."""
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.padding_idx) + 1
    return 0


def packed_positions(documents: torch.Tensor, offset: int) -> torch.Tensor:
    """Position ids that begin anew with every paragraph.

    Args:
        documents: the number of the paragraph that each piece belongs to, 0 for padding; (rows, pieces).
        offset: the first id.
    """
    index = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
    begins = torch.ones_like(documents, dtype=torch.bool)
    begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
    return index - torch.where(begins, index, 0).cummax(dim=1).values + offset


def attention_mask(documents: torch.Tensor, attention: str) -> torch.Tensor:
    """A mask in blocks: every piece sees its own paragraph, padding sees padding.

    Args:
        documents: as in :func:`packed_positions`.
        attention: the encoder's implementation of attention, ``eager`` or ``sdpa``.

    Returns:
        (rows, 1, pieces, pieces): bool for ``sdpa``; for ``eager`` 0 or the lowest number, in the type that is
        computed in, for a wider one would take softmax, and all that follows, with it.
    """
    same = (documents[:, :, None] == documents[:, None, :])[:, None]
    if attention != "eager":
        return same
    device = documents.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
    return torch.zeros(same.shape, dtype=dtype, device=documents.device).masked_fill(~same, torch.finfo(dtype).min)


def hidden_states(
    encoder: PreTrainedModel, input_ids: torch.Tensor, documents: torch.Tensor, *, packing: bool
) -> torch.Tensor:
    """The encoder's last hidden states of packed, or of padded, rows.

    Args:
        encoder: the encoder.
        input_ids: (rows, pieces).
        documents: as in :func:`packed_positions`.
        packing: whether rows hold several paragraphs; without it the encoder makes its own mask and positions.

    Returns:
        (rows, pieces, hidden).
    """
    if not packing:
        return encoder(input_ids=input_ids, attention_mask=documents.ne(0).long()).last_hidden_state
    return encoder(
        input_ids=input_ids,
        position_ids=packed_positions(documents, position_offset(encoder)),
        attention_mask=attention_mask(documents, encoder.config._attn_implementation),
    ).last_hidden_state


@torch.no_grad()
def check_packing(encoder: PreTrainedModel, where: str, *, length: int) -> None:
    """Try whether an encoder reads packed paragraphs as it reads them alone.

    Args:
        encoder: the encoder.
        where: its name.
        length: pieces in the row that is tried; layers with a window show only in rows that are longer.

    Raises:
        InputError: it does not, or cannot take their masks and positions.
    """
    training = encoder.training
    encoder.eval()
    try:
        size = int(encoder.config.vocab_size)
        ids = torch.arange(length)[None] * 7 % (size - 5) + 5
        documents = torch.tensor([[1] * 6 + [2] * (length - 6)])
        both = hidden_states(encoder, ids, documents, packing=True)
        other = torch.where(documents == 1, ids, (ids + 3) % (size - 5) + 5)
        changed = hidden_states(encoder, other, documents, packing=True)
        alone = hidden_states(encoder, ids[:, 6:], documents[:, 6:] - 1, packing=False)
        right = torch.equal(both[:, :6], changed[:, :6]) and torch.allclose(both[:, 6:], alone, rtol=1e-3, atol=1e-3)
        reason = "" if right else ": paragraphs of a row change each other"
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        right, reason = False, f": {' '.join(str(error).split())[:200]}"
    finally:
        encoder.train(training)
    if not right:
        raise InputError(
            f"a {type(encoder).__name__} cannot read several paragraphs in a row" + reason,
            where=where,
            expected="an encoder that takes position_ids and a mask of (rows, 1, pieces, pieces)",
            remedy="set packing: false, one paragraph a row",
        )


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


class RowStore:
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
