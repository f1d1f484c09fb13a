"""Splitting of a text into passages that a system can take whole: sentences, and as many of them together as fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from musamma.data.arabic import word_offsets

# A dot after a single letter is an abbreviation (د. محمد), which may be inside a name.
_SENTENCE_END = re.compile(r"(?<!\b\w\.)(?<=[.!?؟…])\s+|\s*\n\s*")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Passages:
    """The passages of a text.

    Args:
        borders: start and end of each, in code points, in order and without overlap; only whitespace lies between them.
        cut: number of sentences that did not fit and were cut between words, possibly inside a name.
    """

    borders: tuple[tuple[int, int], ...]
    cut: int


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Return start and end of every sentence of a text, in code points, without the whitespace around it.

    A sentence ends at a line break, and after ``. ! ? ؟ …`` followed by whitespace.
    """
    borders, start = [], 0
    gaps = [match.span() for match in _SENTENCE_END.finditer(text)]
    for end, next_start in [*gaps, (len(text), len(text))]:
        segment = text[start:end]
        if content := segment.strip():
            content_start = end - len(segment.lstrip())
            borders.append((content_start, content_start + len(content)))
        start = next_start
    return borders


def split_words(text: str, borders: Iterable[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Return start and end of the words of every passage that has some, in code points of the whole text.

    Args:
        text: the raw text.
        borders: start and end of each passage.
    """
    words = ([(start + first, start + last) for first, last in word_offsets(text[start:end])] for start, end in borders)
    return [passage for passage in words if passage]


def split_passages(text: str, *, fits: Callable[[str], bool]) -> Passages:
    """Split a text into as few passages of whole sentences as possible.

    Args:
        text: the raw text.
        fits: returns whether the system takes a passage whole. A single word becomes a passage even if it does not fit.
    """
    segments: list[tuple[int, int]] = []
    cut = 0
    for start, end in split_sentences(text):
        parts = _halve(text, start, end, fits)
        cut += len(parts) > 1 or not fits(text[start:end])
        segments += parts
    borders: list[tuple[int, int]] = []
    for start, end in segments:
        if borders and fits(text[borders[-1][0] : end]):
            start = borders.pop()[0]
        borders.append((start, end))
    return Passages(tuple(borders), cut)


def _halve(text: str, start: int, end: int, fits: Callable[[str], bool]) -> list[tuple[int, int]]:
    """Halve a segment between words until every part fits or is a single word."""
    if fits(text[start:end]):
        return [(start, end)]
    words = [match.span() for match in _WORD.finditer(text, start, end)]
    if len(words) == 1:
        return [(start, end)]
    middle = len(words) // 2
    return [
        *_halve(text, start, words[middle - 1][1], fits),
        *_halve(text, words[middle][0], end, fits),
    ]
