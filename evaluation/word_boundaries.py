"""Names on whitespace-separated words: the words a name covers, and the IOB2 tags of the words."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from musamma.data.document import Span
from musamma.data.tags import OUTSIDE

#: Start, end and label of a name, as :attr:`musamma.data.document.Span.key` gives them.
SpanKey: TypeAlias = tuple[int, int, str]

_WORD = re.compile(r"\S+")


class WordAlignedNames(NamedTuple):
    """The names of a text extended to whole words; the offsets are those of words, in code points.

    Args:
        whole_word: all names. Names with the same words and the same label become one. A name that is only whitespace covers
            no word and keeps its borders.
        iob2: the names that IOB2 tags can represent, one tag per word. If names share a word, only the first of them.
        shared_words: number of words that hold characters of more than one name.
    """

    whole_word: set[SpanKey]
    iob2: list[SpanKey]
    shared_words: int


def whitespace_words(text: str) -> list[tuple[int, int]]:
    """Return start and end of every whitespace-separated word of a text, in code points."""
    return [match.span() for match in _WORD.finditer(text)]


def enclosing_words(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Return the borders of the words that ``text[start:end]`` touches, or ``None`` if it is all whitespace."""
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


def align_to_words(
    text: str, spans: Sequence[Span], *, cache: dict[tuple[int, int], tuple[int, int] | None] | None = None
) -> WordAlignedNames:
    """Extend the names of a text to whole words.

    Args:
        text: the raw text.
        spans: its names, sorted, without overlap.
        cache: results of :func:`enclosing_words` on this text, read and extended. Gold and predictions share most of their
            names, so one cache serves both.
    """
    cache = {} if cache is None else cache
    whole_word: set[SpanKey] = set()
    iob2: list[SpanKey] = []
    shared: set[int] = set()
    tagged_until = last_end = 0
    for span in spans:
        offsets = span.start, span.end
        if offsets not in cache:
            cache[offsets] = enclosing_words(text, *offsets)
        if (borders := cache[offsets]) is None:
            whole_word.add(span.key)
            continue
        start, end = borders
        whole_word.add((start, end, span.label))
        # Spans do not overlap, so a span can share only its first word with the spans before it.
        if start < last_end:
            shared.add(start)
        last_end = end
        if start >= tagged_until:
            iob2.append((start, end, span.label))
            tagged_until = end
    return WordAlignedNames(whole_word, iob2, len(shared))


def tag_words(words: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[str]:
    """Return one IOB2 tag for every word.

    A word carries one tag. If several names share a word, the first takes it and the others are left out entirely. A name
    that lies only partly within the words is tagged on the words it touches.

    Args:
        words: start and end of every word, in code points, in order.
        spans: the names of the text, sorted, without overlap.
    """
    tags = [OUTSIDE] * len(words)
    if not words:
        return tags
    first_span = bisect_right(spans, words[0][0], key=lambda span: span.end)
    stop_span = bisect_left(spans, words[-1][1], key=lambda span: span.start)
    first = 0
    for span in spans[first_span:stop_span]:
        while first < len(words) and words[first][1] <= span.start:
            first += 1
        stop = first
        while stop < len(words) and words[stop][0] < span.end:
            stop += 1
        if first < stop and tags[first] == OUTSIDE:
            tags[first:stop] = [f"B-{span.label}"] + [f"I-{span.label}"] * (stop - first - 1)
    return tags
