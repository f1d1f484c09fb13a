"""Texts cut at every border of a name, so that a page can draw gold and predicted names over each other."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from musamma.data.arabic import word_offsets
from musamma.data.document import Document, Span
from musamma.evaluation.matching import CORRECT, NamePair

#: The most articles, and the most characters of their texts, that a page shows.
MOST_ARTICLES, MOST_CHARACTERS = 300, 500_000

_MOST_FACTS, _LONGEST_FACT = 6, 80


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters between two borders.

    Args:
        text: the characters.
        gold: the kind of case of the gold name that covers them.
        predicted: the kind of case of the predicted name that covers them.
        edges: ``left`` and ``right``, where the predicted name begins or ends, as its script runs.
    """

    text: str
    gold: str | None
    predicted: str | None
    edges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of an article: bare text, or names that share characters, or what became of the names before it."""

    text: str = ""
    pieces: tuple[Piece, ...] = ()
    cases: tuple[NamePair, ...] = ()


@dataclass(frozen=True, slots=True)
class Article:
    """A document as a page shows it.

    Args:
        anchor: the id of its element.
        id: the document's id.
        facts: short values of its ``meta``.
        parts: the text, in order.
        names: how many cases there are.
        errors: how many of them are not correct.
        predicted: whether there is a prediction for it.
    """

    anchor: str
    id: str
    facts: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]
    names: int
    errors: int
    predicted: bool


def articles(
    pairs: Sequence[tuple[Document, Document | None]],
    cases: Iterable[NamePair],
    *,
    most: int = MOST_ARTICLES,
    most_characters: int = MOST_CHARACTERS,
) -> list[Article]:
    """The documents with most errors first, at most ``most`` of them and ``most_characters`` characters together.

    A document that is longer than the room left is passed over.
    """
    cases_of: dict[str, list[NamePair]] = defaultdict(list)
    for case in cases:
        cases_of[case.document].append(case)
    errors = {name: sum(case.kind != CORRECT for case in own) for name, own in cases_of.items()}
    shown: list[Article] = []
    room = most_characters
    for gold, predicted in sorted(pairs, key=lambda pair: -errors.get(pair[0].id, 0)):
        if len(shown) == most:
            break
        if len(gold.text) <= room:
            room -= len(gold.text)
            own = cases_of[gold.id]
            shown.append(Article(f"doc-{len(shown) + 1}", gold.id, _facts(gold.meta), tuple(parts(gold.text, own)),
                                 len(own), errors.get(gold.id, 0), predicted is not None))  # fmt: skip
    return shown


def parts(text: str, cases: Iterable[NamePair]) -> Iterator[Part]:
    """Cut a text: what is bare, what is in names, and after the word in which names end, their cases.

    The cases come after the word, not after the name, as anything inside a word would break the joining of its letters.
    The texts of all parts and pieces, put together, are ``text``.
    """
    groups = _groups(cases)
    ends = [end for _, end in word_offsets(text)]
    starts = [start for start, _ in word_offsets(text)]
    at = 0
    pending: list[NamePair] = []
    for index, (start, end, group) in enumerate(groups):
        if start > at:
            yield Part(text=text[at:start])
        yield Part(pieces=tuple(_pieces(text, group)))
        pending += group
        at = end
        word = bisect_left(ends, end)
        inside = word < len(ends) and starts[word] < end
        stop = ends[word] if inside else end
        if stop <= (groups[index + 1][0] if index + 1 < len(groups) else len(text)):
            if stop > at:
                yield Part(text=text[at:stop])
            yield Part(cases=tuple(pending))
            pending, at = [], stop
    if at < len(text):
        yield Part(text=text[at:])


def excerpt(text: str, case: NamePair, *, width: int = 40) -> tuple[Part, ...]:
    """A case in its context, cut as :func:`parts` does: about ``width`` characters on either side, whole words."""
    low, high = _hull(case)
    start, end = max(0, low - width), min(len(text), high + width)
    if start:
        start = next((at for at in range(start, low) if text[at - 1].isspace()), start)
    if end < len(text):
        end = next((at for at in range(end, high, -1) if text[at].isspace()), end)
    window = tuple(parts(text[start:end], [_moved(case, -start)]))
    return ((Part(text="… "),) if start else ()) + window + ((Part(text=" …"),) if end < len(text) else ())


def direction(text: str) -> str:
    """``rtl`` or ``ltr``, by the first letter that has a direction; ``rtl`` where none has."""
    kinds = (unicodedata.bidirectional(character) for character in text)
    return "ltr" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "R") == "L" else "rtl"


def _pieces(text: str, group: Sequence[NamePair]) -> Iterator[Piece]:
    gold = [(case.gold, case.kind) for case in group if case.gold]
    predicted = [(case.predicted, case.kind) for case in group if case.predicted]
    borders = sorted({border for span, _ in gold + predicted for border in (span.start, span.end)})
    for start, end in pairwise(borders):
        edges: list[str] = []
        for span, _ in predicted:
            sides = ("right", "left") if direction(text[span.start : span.end]) == "rtl" else ("left", "right")
            edges += [sides[0]] * (span.start == start) + [sides[1]] * (span.end == end)
        yield Piece(text[start:end], _kind_at(gold, start), _kind_at(predicted, start), tuple(edges))


def _kind_at(names: Iterable[tuple[Span, str]], offset: int) -> str | None:
    return next((kind for span, kind in names if span.start <= offset < span.end), None)


def _groups(cases: Iterable[NamePair]) -> list[tuple[int, int, list[NamePair]]]:
    """Start, end and cases of every stretch in which names share characters, in order."""
    groups: list[tuple[int, int, list[NamePair]]] = []
    for case in sorted(cases, key=lambda case: _hull(case)[0]):
        start, end = _hull(case)
        if groups and start < groups[-1][1]:
            first, last, own = groups[-1]
            groups[-1] = first, max(last, end), [*own, case]
        else:
            groups.append((start, end, [case]))
    return groups


def _hull(case: NamePair) -> tuple[int, int]:
    spans = [span for span in (case.gold, case.predicted) if span is not None]
    return min(span.start for span in spans), max(span.end for span in spans)


def _moved(case: NamePair, by: int) -> NamePair:
    gold, predicted = (
        Span(span.start + by, span.end + by, span.label, span.score) if span else None
        for span in (case.gold, case.predicted)
    )
    return NamePair(case.document, case.kind, gold, predicted)


def _facts(meta: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    short = [(str(key), str(value)) for key, value in meta.items() if isinstance(value, str | int | float)]
    return tuple((key, value) for key, value in short if value and len(value) <= _LONGEST_FACT)[:_MOST_FACTS]
