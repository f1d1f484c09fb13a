"""The masked rows of a run: their order over all passes, the held-out rows, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import Dataset

from musamma.data.windows import IGNORE_INDEX
from musamma.training.pretraining.masking import MaskingConfig, RandomStream, choose_masks, find_text_pieces
from musamma.training.pretraining.packed_text import RowStore
from musamma.training.pretraining.packing import PackedRow


@dataclass(frozen=True, slots=True)
class MaskedRow:
    """A row with its masks.

    Args:
        row: the row.
        masked: whether a piece is masked; (pieces,).
        is_text: whether a piece is text, not a special token; (pieces,).
    """

    row: PackedRow
    masked: np.ndarray
    is_text: np.ndarray


def mask_row(row: PackedRow, masking: MaskingConfig, key: tuple[int, ...]) -> MaskedRow:
    """Mask a row. The same key (seed, stream, pass, row) gives the same masks."""
    is_text = find_text_pieces(row.paragraph_lengths, masking.special)
    return MaskedRow(row, choose_masks(row.unit_starts, is_text, share=masking.share, key=key), is_text)


class RowSchedule(Dataset):
    """All rows of a run in training order: pass after pass over the text, each pass in another random order.

    An item depends only on its number, so a resuming run and any number of workers and processes see the same items.

    Args:
        rows: the text.
        items: number of rows in the whole run.
        masking: the masking.
        stream: the stream from which random numbers are drawn.
    """

    def __init__(self, rows: RowStore, *, items: int, masking: MaskingConfig, stream: RandomStream) -> None:
        self._rows, self._items, self._masking, self._stream = rows, items, masking, stream
        self._order = lru_cache(maxsize=2)(self._shuffle_rows)

    def __len__(self) -> int:
        return self._items

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._shuffle_rows)

    def __getitem__(self, item: int) -> MaskedRow:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: list[int]) -> list[MaskedRow]:
        """Return several items; data loaders call this."""
        positions = [divmod(item, len(self._rows)) for item in items]
        numbers = np.array([self._order(epoch)[index] for epoch, index in positions])
        return [
            mask_row(row, self._masking, (self._masking.seed, self._stream, epoch, int(number)))
            for row, (epoch, _), number in zip(self._rows.take(numbers), positions, numbers, strict=True)
        ]

    def count_tokens(self, items: int) -> int:
        """Return the number of pieces in the first ``items`` rows."""
        epochs, rest = divmod(items, len(self._rows))
        lengths = self._rows.lengths
        return int(epochs * lengths.sum() + (lengths[self._order(epochs)[:rest]].sum() if rest else 0))

    def count_passes(self, items: int) -> float:
        """Return the number of passes over the text in the first ``items`` rows."""
        return round(items / len(self._rows), 4)

    def items_for_tokens(self, tokens: int) -> int:
        """Return the smallest number of rows, from the first one on, with ``tokens`` pieces; it may exceed the length of the schedule."""
        lengths = self._rows.lengths
        epochs, rest = divmod(tokens, int(lengths.sum()))
        if not rest:
            return epochs * len(lengths)
        return epochs * len(lengths) + int(np.searchsorted(np.cumsum(lengths[self._order(epochs)]), rest)) + 1

    def _shuffle_rows(self, epoch: int) -> np.ndarray:
        return np.random.default_rng((self._masking.seed, self._stream, epoch)).permutation(len(self._rows))


def select_held_out_rows(rows: RowStore, *, limit: int, masking: MaskingConfig) -> list[MaskedRow]:
    """Select at most ``limit`` evenly spaced rows, with fixed masks."""
    numbers = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(np.int64))
    return [
        mask_row(row, masking, (masking.seed, RandomStream.HELD_OUT, 0, int(number)))
        for row, number in zip(rows.take(numbers), numbers, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class MaskCollator:
    """Makes batches of masked rows.

    Args:
        padding: the tokenizer's padding id.
        mask: the tokenizer's mask id.
        length: number of pieces to pad to; by default that of the longest row in the batch.
    """

    padding: int
    mask: int
    length: int | None = None

    def __call__(self, rows: list[MaskedRow]) -> dict[str, torch.Tensor]:
        """Make a batch.

        Returns:
            Tensors of (rows, pieces): ``input_ids``, with masks; ``paragraph_ids``, the number of each piece's paragraph
            in its row, 0 for padding; ``labels``, the original ids of masked pieces, :data:`IGNORE_INDEX` elsewhere;
            ``is_text``, whether a piece is text.
        """
        width = self.length or max(len(row.row.input_ids) for row in rows)
        ids = np.full((len(rows), width), self.padding, dtype=np.int64)
        labels = np.full_like(ids, IGNORE_INDEX)
        paragraph_ids = np.zeros_like(ids)
        is_text = np.zeros(ids.shape, dtype=bool)
        for index, masked_row in enumerate(rows):
            row, masked = masked_row.row, masked_row.masked
            length, pieces = len(row.input_ids), row.input_ids.astype(np.int64)
            ids[index, :length] = np.where(masked, self.mask, pieces)
            labels[index, :length] = np.where(masked, pieces, IGNORE_INDEX)
            paragraphs = np.arange(1, len(row.paragraph_lengths) + 1)
            paragraph_ids[index, :length] = np.repeat(paragraphs, row.paragraph_lengths)
            is_text[index, :length] = masked_row.is_text
        arrays = {"input_ids": ids, "paragraph_ids": paragraph_ids, "labels": labels, "is_text": is_text}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
