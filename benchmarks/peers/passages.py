"""A text in parts that a system can take whole: sentences, and as many of them together as fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

# A dot after a single letter is an abbreviation (د. محمد), which stands inside names.
_GAP = re.compile(r"(?<!\b\w\.)(?<=[.!?؟…])\s+|\s*\n\s*")
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class Passages:
    """Parts of a text.

    Args:
        borders: start and end of each, in code points, in order and without overlap; between them lies whitespace.
        cut: how many sentences did not fit whole and were cut between words, which may lie inside a name.
    """

    borders: tuple[tuple[int, int], ...]
    cut: int


def sentences(text: str) -> list[tuple[int, int]]:
    """Start and end of every sentence of a text, in code points, without the whitespace around it.

    A sentence ends with a line break, and behind ``. ! ? ؟ …`` where whitespace follows.
    """
    found, start = [], 0
    gaps = [match.span() for match in _GAP.finditer(text)]
    for end, after in [*gaps, (len(text), len(text))]:
        piece = text[start:end]
        if content := piece.strip():
            begin = end - len(piece.lstrip())
            found.append((begin, begin + len(content)))
        start = after
    return found


def passages(text: str, *, fits: Callable[[str], bool]) -> Passages:
    """A text in as few passages as hold whole sentences.

    Args:
        text: the raw text.
        fits: whether the system takes such a passage whole. A single word is handed on even where it does not fit.
    """
    pieces: list[tuple[int, int]] = []
    cut = 0
    for start, end in sentences(text):
        parts = _halved(text, start, end, fits)
        cut += len(parts) > 1 or not fits(text[start:end])
        pieces += parts
    packed: list[tuple[int, int]] = []
    for start, end in pieces:
        if packed and fits(text[packed[-1][0] : end]):
            start = packed.pop()[0]
        packed.append((start, end))
    return Passages(tuple(packed), cut)


def _halved(text: str, start: int, end: int, fits: Callable[[str], bool]) -> list[tuple[int, int]]:
    if fits(text[start:end]):
        return [(start, end)]
    words = [match.span() for match in _WORD.finditer(text, start, end)]
    if len(words) == 1:
        return [(start, end)]
    middle = len(words) // 2
    return [
        *_halved(text, start, words[middle - 1][1], fits),
        *_halved(text, words[middle][0], end, fits),
    ]
