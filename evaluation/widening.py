"""Names seen by whole words: borders widened to whitespace, and the IOB2 tags that come of it."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from musamma.data.document import Span

Chunk = tuple[int, int, str]

_WORD = re.compile(r"\S+")


class Widened(NamedTuple):
    """The names of a text by whole words: chunks (start, end, label), the offsets those of words.

    Args:
        whole_word: one chunk a name; those that fall on the same words with the same label are one. A name of
            nothing but whitespace touches no word and keeps its own borders.
        iob: the chunks that IOB2 tags can hold, one tag a word: of names that share a word, the first.
        shared_words: how many words hold characters of more than one name.
    """

    whole_word: set[Chunk]
    iob: list[Chunk]
    shared_words: int


def words(text: str) -> list[tuple[int, int]]:
    """Start and end of every whitespace-separated word of a text, in code points."""
    return [match.span() for match in _WORD.finditer(text)]


def widen(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The borders of the words that ``text[start:end]`` reaches into; ``None`` where it is all whitespace."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    if start == end:
        return None
    while start and not text[start - 1].isspace():
        start -= 1
    while end < len(text) and not text[end].isspace():
        end += 1
    return start, end


def widen_spans(
    text: str, spans: Sequence[Span], *, known: dict[tuple[int, int], tuple[int, int] | None] | None = None
) -> Widened:
    """The names of a text by whole words.

    Args:
        text: the raw text.
        spans: its names, sorted, without overlap, as a document has them.
        known: what :func:`widen` gave on this text before, which is looked up and added to: most names of one annotation
            are in the other too.
    """
    known = {} if known is None else known
    whole_word: set[Chunk] = set()
    iob: list[Chunk] = []
    shared: set[int] = set()
    taken = reach = 0
    for span in spans:
        given = span.start, span.end
        if given not in known:
            known[given] = widen(text, *given)
        if (borders := known[given]) is None:
            whole_word.add(span.key)
            continue
        start, end = borders
        whole_word.add((start, end, span.label))
        # Spans do not overlap, so the only word that one shares with those before it is its first.
        if start < reach:
            shared.add(start)
        reach = end
        if start >= taken:
            iob.append((start, end, span.label))
            taken = end
    return Widened(whole_word, iob, len(shared))


def iob2_tags(text: str, spans: Sequence[Span]) -> list[str]:
    """One IOB2 tag for every whitespace-separated word of a text; see :func:`tags_on`."""
    return tags_on(words(text), spans)


def tags_on(borders: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[str]:
    """One IOB2 tag for every word.

    A word can carry one tag: where several names share a word, the first takes it, and those that need it too
    are left out whole. A name that lies only in part within the words is tagged as far as they go.

    Args:
        borders: start and end of every word, in code points, in order.
        spans: the names of the text, sorted, without overlap.
    """
    tags = ["O"] * len(borders)
    if not borders:
        return tags
    reaching = bisect_right(spans, borders[0][0], key=lambda span: span.end)
    beyond = bisect_left(spans, borders[-1][1], key=lambda span: span.start)
    first = 0
    for span in spans[reaching:beyond]:
        while first < len(borders) and borders[first][1] <= span.start:
            first += 1
        after = first
        while after < len(borders) and borders[after][0] < span.end:
            after += 1
        if first < after and tags[first] == "O":
            tags[first:after] = [f"B-{span.label}"] + [f"I-{span.label}"] * (after - first - 1)
    return tags
