"""Rows as batches: which row comes when, what is masked in it, and how many tokens that makes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import Dataset

from musamma.data.encoding import IGNORED
from musamma.training.pretraining.masking import HELD_OUT, Special, masked_pieces, plain_pieces
from musamma.training.pretraining.shards import PackedRow, Rows


@dataclass(frozen=True, slots=True)
class Masks:
    """How rows are masked.

    Args:
        special: special tokens around each paragraph.
        share: of the pieces to mask.
        seed: the run's.
    """

    special: Special
    share: float
    seed: int


@dataclass(frozen=True, slots=True)
class MaskedRow:
    """A row, the pieces of it that are masked, and those that are text; (pieces,)."""

    row: PackedRow
    masked: np.ndarray
    plain: np.ndarray


class Course(Dataset):
    """All rows of a run in the order in which they come, pass after pass, each pass in an order of its own.

    An item is a pure function of its number, so that a run that goes on, and any number of workers and processes,
    sees the same.

    Args:
        rows: the text.
        items: rows of the whole run.
        masks: how they are masked.
        stream: separates the random numbers of this course from others'.
    """

    def __init__(self, rows: Rows, *, items: int, masks: Masks, stream: int) -> None:
        self._rows, self._items, self._masks, self._stream = rows, items, masks, stream
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __len__(self) -> int:
        return self._items

    def __getstate__(self) -> dict[str, object]:
        return {key: value for key, value in self.__dict__.items() if key != "_order"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def __getitem__(self, item: int) -> MaskedRow:
        return self.__getitems__([item])[0]

    def __getitems__(self, items: list[int]) -> list[MaskedRow]:
        """Several rows at once, as a data loader asks for them."""
        turns = [divmod(item, len(self._rows)) for item in items]
        numbers = np.array([self._order(turn)[place] for turn, place in turns])
        return [
            _masked(row, self._masks, (self._masks.seed, self._stream, turn, int(number)))
            for row, (turn, _), number in zip(self._rows.take(numbers), turns, numbers, strict=True)
        ]

    def tokens(self, items: int) -> int:
        """Pieces in the first ``items`` rows of the course."""
        turns, rest = divmod(items, len(self._rows))
        lengths = self._rows.lengths
        return int(turns * lengths.sum() + (lengths[self._order(turns)[:rest]].sum() if rest else 0))

    def passes(self, items: int) -> float:
        """How often the first ``items`` rows go over the text."""
        return round(items / len(self._rows), 4)

    def items_for(self, tokens: int) -> int:
        """The least number of rows that make ``tokens`` pieces; may be more than the course has."""
        lengths = self._rows.lengths
        turns, rest = divmod(tokens, int(lengths.sum()))
        if not rest:
            return turns * len(lengths)
        return turns * len(lengths) + int(np.searchsorted(np.cumsum(lengths[self._order(turns)]), rest)) + 1

    def _shuffled(self, turn: int) -> np.ndarray:
        return np.random.default_rng((self._masks.seed, self._stream, turn)).permutation(len(self._rows))


def held_out_rows(rows: Rows, *, limit: int, masks: Masks) -> list[MaskedRow]:
    """At most ``limit`` rows, spread evenly, with masks that are always the same."""
    numbers = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(np.int64))
    return [
        _masked(row, masks, (masks.seed, HELD_OUT, 0, int(number)))
        for row, number in zip(rows.take(numbers), numbers, strict=True)
    ]


def _masked(row: PackedRow, masks: Masks, key: tuple[int, ...]) -> MaskedRow:
    masked = masked_pieces(row.units, row.documents, masks.special, share=masks.share, key=key)
    return MaskedRow(row, masked, plain_pieces(row.documents, masks.special))


@dataclass(frozen=True, slots=True)
class MaskCollator:
    """Rows as a batch.

    Args:
        padding: the tokenizer's padding id.
        mask: its mask id.
        length: pieces to pad to; by default those of the batch's longest row.
    """

    padding: int
    mask: int
    length: int | None = None

    def __call__(self, rows: list[MaskedRow]) -> dict[str, torch.Tensor]:
        """A batch, all (rows, pieces).

        Returns:
            ``input_ids`` with masks; ``documents``, the number of each piece's paragraph in its row, 0 for padding;
            ``labels``, the original ids of masked pieces, :data:`IGNORED` elsewhere; ``plain``, whether a piece is
            text.
        """
        width = self.length or max(len(row.row.input_ids) for row in rows)
        ids = np.full((len(rows), width), self.padding, dtype=np.int64)
        labels = np.full_like(ids, IGNORED)
        documents = np.zeros_like(ids)
        plain = np.zeros(ids.shape, dtype=bool)
        for index, row in enumerate(rows):
            length, pieces = len(row.row.input_ids), row.row.input_ids.astype(np.int64)
            ids[index, :length] = np.where(row.masked, self.mask, pieces)
            labels[index, :length] = np.where(row.masked, pieces, IGNORED)
            documents[index, :length] = np.repeat(np.arange(1, len(row.row.documents) + 1), row.row.documents)
            plain[index, :length] = row.plain
        arrays = {"input_ids": ids, "documents": documents, "labels": labels, "plain": plain}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
