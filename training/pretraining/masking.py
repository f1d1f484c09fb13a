"""What of a row is masked: a pure function of the seed, the pass and the row, so that neither a kill nor workers
change it.

All chosen pieces become the mask token. BERT left a tenth as they are and put random pieces for another; Wettig et
al. (2023), "Should You Mask 15% in Masked Language Modeling?", found both to cost more than they give, and more than
15 % to be better, the less so the less uniform the masks: a fifth, in whole words, is the default here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: Streams of random numbers that must not meet.
HEAD, MAIN, HELD_OUT = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Special:
    """How many special tokens stand before and behind a paragraph."""

    before: int
    behind: int


def plain_pieces(documents: np.ndarray, special: Special) -> np.ndarray:
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
    units: np.ndarray, documents: np.ndarray, special: Special, *, share: float, key: tuple[int, ...]
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
