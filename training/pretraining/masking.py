"""The choice of the pieces to mask: whole words, apart from their proclitics.

The masks are a pure function of seed, pass and row, so neither a kill nor the number of workers changes them.

All chosen pieces become the mask token. BERT leaves a tenth unchanged and replaces a tenth by random pieces; Wettig et
al. (2023), "Should You Mask 15% in Masked Language Modeling?", found that both do more harm than good. They also found
rates above 15 % to be better, but by less for masks of longer units: the default here is a fifth, in whole words.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from musamma.data.arabic import clitic_borders, word_offsets


class RandomStream(IntEnum):
    """Independent streams of random numbers: for the stage of the heads, the main stage, and the held-out rows."""

    HEADS = 0
    MAIN = 1
    HELD_OUT = 2


@dataclass(frozen=True, slots=True)
class SpecialTokenCount:
    """The number of special tokens before and after a paragraph."""

    before: int
    after: int


@dataclass(frozen=True, slots=True)
class MaskingConfig:
    """The masking of a run.

    Args:
        special: special tokens around each paragraph.
        share: share of the pieces to mask.
        seed: the run's seed.
    """

    special: SpecialTokenCount
    share: float
    seed: int


def choose_masks(unit_starts: np.ndarray, is_text: np.ndarray, *, share: float, key: tuple[int, ...]) -> np.ndarray:
    """Choose the pieces of a row to mask, by whole-word masking. The same key gives the same masks.

    Args:
        unit_starts: whether a piece starts a unit; (pieces,).
        is_text: whether a piece is text, not a special token; (pieces,).
        share: share of the text pieces to mask.
        key: seed, stream, pass, row.

    Returns:
        bool, (pieces,).
    """
    return choose_units(unit_starts, is_text, share=share, random=np.random.default_rng(key))


def choose_units(
    unit_starts: np.ndarray, is_text: np.ndarray, *, share: float, random: np.random.Generator
) -> np.ndarray:
    """Choose whole units in random order, at least one, so that their share of the text is closest to ``share``.

    Args:
        unit_starts: whether a piece starts a unit; (pieces,).
        is_text: whether a piece may be masked; (pieces,).
        share: share of these pieces to mask.
        random: source of the random order.

    Returns:
        bool, (pieces,).
    """
    units = np.cumsum(unit_starts) - 1
    sizes = np.bincount(units[is_text], minlength=int(units[-1]) + 1)
    order = random.permutation(np.flatnonzero(sizes))
    totals = np.cumsum(sizes[order])
    within_share = totals - sizes[order] / 2 <= share * is_text.sum()
    within_share[:1] = True
    chosen = np.zeros(len(sizes), dtype=bool)
    chosen[order[within_share]] = True
    return chosen[units] & is_text


def find_text_pieces(paragraph_lengths: np.ndarray, special: SpecialTokenCount) -> np.ndarray:
    """Return which pieces of a row are text, not special tokens.

    Args:
        paragraph_lengths: number of pieces of each paragraph; (paragraphs,).
        special: special tokens around each paragraph.

    Returns:
        bool, (pieces,).
    """
    ends = np.cumsum(paragraph_lengths)
    starts = ends - paragraph_lengths
    is_text = np.ones(int(ends[-1]), dtype=bool)
    for offset in range(special.before):
        is_text[starts + offset] = False
    for offset in range(1, special.after + 1):
        is_text[ends - offset] = False
    return is_text


def find_starts(text: str, offsets: np.ndarray, *, clitics: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return which pieces start a word, and which start a unit.

    A unit is masked as a whole. It is a word; with ``clitics``, the proclitics of a word are one unit and the rest of the word
    is another. A piece with letters of both belongs to the rest.

    Args:
        text: the raw text.
        offsets: start and end of every piece in it; (pieces, 2).
        clitics: whether proclitics are separate units.

    Returns:
        Two boolean arrays, (pieces,); the first piece starts both.
    """
    words = np.array(word_offsets(text), dtype=np.int64).reshape(-1, 2)
    if not len(words) or not len(offsets):
        first = np.arange(len(offsets)) == 0
        return first, first
    # A piece may hold the space before its word, or only this space: extend it by one letter into the word.
    word_of_piece = np.minimum(np.searchsorted(words[:, 1], offsets[:, 0], side="right"), len(words) - 1)
    ends = np.maximum(offsets[:, 1], words[word_of_piece, 0] + 1)
    word_starts = _pass_new_border(words[:, 0], ends)
    borders = clitic_borders(text) if clitics else []
    return word_starts, _pass_new_border(np.union1d(words[:, 0], borders), ends) if borders else word_starts


def _pass_new_border(borders: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Return whether a piece ends after a border that the piece before it does not reach; bool, (pieces,)."""
    passed = np.maximum.accumulate(np.searchsorted(borders, ends, side="left"))
    return np.diff(passed, prepend=-1) != 0
