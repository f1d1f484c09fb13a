"""What of a row is masked: a pure function of the seed, the pass and the row, so that neither a kill nor workers
change it.

All chosen pieces become the mask token. BERT left a tenth as they are and put random pieces for another; Wettig et
al. (2023), "Should You Mask 15% in Masked Language Modeling?", found both to cost more than they give, and more than
15 % to be better, the less so the less uniform the masks: a fifth, in whole words, is the default here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch.utils.data import Dataset

from musamma.data.arabic import clitic_borders, word_offsets
from musamma.data.windows import IGNORE_INDEX
from musamma.training.pretraining.packing import PackedRow, RowStore

#: Streams of random numbers that must not meet.
HEAD, MAIN, HELD_OUT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class SpecialTokenCount:
    """How many special tokens stand before and behind a paragraph."""

    before: int
    behind: int


def plain_pieces(documents: np.ndarray, special: SpecialTokenCount) -> np.ndarray:
    """Which pieces of a row are text, not special tokens.

    Args:
        documents: pieces of each paragraph, (paragraphs,).
        special: around each of them.

    Returns:
        bool, (pieces,).
    """
    ends = np.cumsum(documents)
    starts = ends - documents
    plain = np.ones(int(ends[-1]), dtype=bool)
    for step in range(special.before):
        plain[starts + step] = False
    for step in range(1, special.behind + 1):
        plain[ends - step] = False
    return plain


def choose_masked(units: np.ndarray, plain: np.ndarray, *, share: float, random: np.random.Generator) -> np.ndarray:
    """Choose whole units, in random order, until their share of the pieces is nearest to ``share``; at least one.

    Args:
        units: whether a piece begins a unit; (pieces,).
        plain: whether it may be masked; (pieces,).
        share: of the pieces that may be masked.
        random: where the order comes from.

    Returns:
        bool, (pieces,).
    """
    numbers = np.cumsum(units) - 1
    sizes = np.bincount(numbers[plain], minlength=int(numbers[-1]) + 1)
    order = random.permutation(np.flatnonzero(sizes))
    total = np.cumsum(sizes[order])
    chosen = total - sizes[order] / 2 <= share * plain.sum()
    chosen[:1] = True
    picked = np.zeros(len(sizes), dtype=bool)
    picked[order[chosen]] = True
    return picked[numbers] & plain


def masked_pieces(
    units: np.ndarray, documents: np.ndarray, special: SpecialTokenCount, *, share: float, key: tuple[int, ...]
) -> np.ndarray:
    """The masked pieces of a row, the same for the same key.

    Args:
        units: whether a piece begins a unit; (pieces,).
        documents: pieces of each paragraph, (paragraphs,).
        special: around each of them.
        share: of the text's pieces to mask.
        key: seed, stream, pass, row.
    """
    plain = plain_pieces(documents, special)
    return choose_masked(units, plain, share=share, random=np.random.default_rng(key))


def piece_borders(text: str, offsets: np.ndarray, *, clitics: bool) -> tuple[np.ndarray, np.ndarray]:
    """Which pieces begin a word, and which begin a unit that is masked as one.

    A piece that straddles a border, with letters of the proclitic and of the stem in it, goes with the stem.

    Args:
        text: the raw text.
        offsets: start and end of every piece in it; (pieces, 2).
        clitics: whether proclitics are units of their own.

    Returns:
        Two arrays of bool, (pieces,); the first piece begins both.
    """
    words = np.array(word_offsets(text), dtype=np.int64).reshape(-1, 2)
    if not len(words) or not len(offsets):
        first = np.arange(len(offsets)) == 0
        return first, first
    # A piece may hold the space before its word, or nothing but it: it reaches one letter into the word all the same.
    owner = np.minimum(np.searchsorted(words[:, 1], offsets[:, 0], side="right"), len(words) - 1)
    ends = np.maximum(offsets[:, 1], words[owner, 0] + 1)
    starts = _begins(words[:, 0], ends)
    borders = clitic_borders(text) if clitics else []
    return starts, _begins(np.union1d(words[:, 0], borders), ends) if borders else starts


def _begins(cuts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whether a piece reaches behind another cut than the piece before it."""
    behind = np.maximum.accumulate(np.searchsorted(cuts, ends, side="left"))
    return np.diff(behind, prepend=-1) != 0


@dataclass(frozen=True, slots=True)
class MaskingConfig:
    """How rows are masked.

    Args:
        special: special tokens around each paragraph.
        share: of the pieces to mask.
        seed: the run's.
    """

    special: SpecialTokenCount
    share: float
    seed: int


@dataclass(frozen=True, slots=True)
class MaskedRow:
    """A row, the pieces of it that are masked, and those that are text; (pieces,)."""

    row: PackedRow
    masked: np.ndarray
    plain: np.ndarray


class RowSchedule(Dataset):
    """All rows of a run in the order in which they come, pass after pass, each pass in an order of its own.

    An item is a pure function of its number, so that a run that goes on, and any number of workers and processes,
    sees the same.

    Args:
        rows: the text.
        items: rows of the whole run.
        masks: how they are masked.
        stream: separates the random numbers of this course from others'.
    """

    def __init__(self, rows: RowStore, *, items: int, masks: MaskingConfig, stream: int) -> None:
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


def held_out_rows(rows: RowStore, *, limit: int, masks: MaskingConfig) -> list[MaskedRow]:
    """At most ``limit`` rows, spread evenly, with masks that are always the same."""
    numbers = np.unique(np.linspace(0, len(rows) - 1, min(limit, len(rows))).round().astype(np.int64))
    return [
        _masked(row, masks, (masks.seed, HELD_OUT, 0, int(number)))
        for row, number in zip(rows.take(numbers), numbers, strict=True)
    ]


def _masked(row: PackedRow, masks: MaskingConfig, key: tuple[int, ...]) -> MaskedRow:
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
            ``labels``, the original ids of masked pieces, :data:`IGNORE_INDEX` elsewhere; ``plain``, whether a piece is
            text.
        """
        width = self.length or max(len(row.row.input_ids) for row in rows)
        ids = np.full((len(rows), width), self.padding, dtype=np.int64)
        labels = np.full_like(ids, IGNORE_INDEX)
        documents = np.zeros_like(ids)
        plain = np.zeros(ids.shape, dtype=bool)
        for index, row in enumerate(rows):
            length, pieces = len(row.row.input_ids), row.row.input_ids.astype(np.int64)
            ids[index, :length] = np.where(row.masked, self.mask, pieces)
            labels[index, :length] = np.where(row.masked, pieces, IGNORE_INDEX)
            documents[index, :length] = np.repeat(np.arange(1, len(row.row.documents) + 1), row.row.documents)
            plain[index, :length] = row.plain
        arrays = {"input_ids": ids, "documents": documents, "labels": labels, "plain": plain}
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
