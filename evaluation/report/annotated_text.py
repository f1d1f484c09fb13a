"""Texts cut at the borders of names, so that a page can draw gold and predicted names over each other."""

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

#: Maximum number of articles on a page, and of characters in their texts.
MAX_ARTICLES, MAX_CHARACTERS = 300, 500_000

_MAX_METADATA, _MAX_METADATA_LENGTH = 6, 80


@dataclass(frozen=True, slots=True)
class Fragment:
    """Characters between two borders of names.

    Args:
        text: the characters.
        gold: the kind of the pair whose gold name covers them.
        predicted: the kind of the pair whose predicted name covers them.
        edges: ``left`` and ``right``, where the predicted name starts or ends on the screen.
    """

    text: str
    gold: str | None
    predicted: str | None
    edges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of an article. One of three fields is set.

    Args:
        text: text without names.
        fragments: names that share characters, cut into fragments.
        pairs: the outcomes of the names before it.
    """

    text: str = ""
    fragments: tuple[Fragment, ...] = ()
    pairs: tuple[NamePair, ...] = ()


@dataclass(frozen=True, slots=True)
class Article:
    """A document as a page shows it.

    Args:
        anchor: the id of its HTML element.
        id: the document's id.
        metadata: short values of its ``meta``.
        segments: the text, in order.
        names: number of name pairs.
        errors: number of pairs that are not correct.
        predicted: whether there is a prediction for it.
    """

    anchor: str
    id: str
    metadata: tuple[tuple[str, str], ...]
    segments: tuple[Segment, ...]
    names: int
    errors: int
    predicted: bool


def select_articles(
    document_pairs: Sequence[tuple[Document, Document | None]],
    name_pairs: Iterable[NamePair],
    *,
    max_articles: int = MAX_ARTICLES,
    max_characters: int = MAX_CHARACTERS,
) -> list[Article]:
    """Select the documents with most errors, most errors first, up to the limits.

    A document longer than the characters left is skipped, and later ones may still fit.
    """
    pairs_by_document: dict[str, list[NamePair]] = defaultdict(list)
    for pair in name_pairs:
        pairs_by_document[pair.document].append(pair)
    errors = {id: sum(pair.kind != CORRECT for pair in pairs) for id, pairs in pairs_by_document.items()}
    articles: list[Article] = []
    characters_left = max_characters
    for gold, predicted in sorted(document_pairs, key=lambda pair: -errors.get(pair[0].id, 0)):
        if len(articles) == max_articles:
            break
        if len(gold.text) <= characters_left:
            characters_left -= len(gold.text)
            pairs = pairs_by_document[gold.id]
            articles.append(
                Article(
                    anchor=f"doc-{len(articles) + 1}",
                    id=gold.id,
                    metadata=_short_metadata(gold.meta),
                    segments=tuple(cut_text(gold.text, pairs)),
                    names=len(pairs),
                    errors=errors.get(gold.id, 0),
                    predicted=predicted is not None,
                )
            )
    return articles


def cut_text(text: str, pairs: Iterable[NamePair]) -> Iterator[Segment]:
    """Cut a text into text without names, names, and the pairs of these names.

    The pairs follow the word in which their names end, not the name itself: an element inside a word would break the
    joining of its letters. The texts of all segments and fragments, concatenated, are ``text``.
    """
    groups = _group_overlapping(pairs)
    words = word_offsets(text)
    starts, ends = [start for start, _ in words], [end for _, end in words]
    position = 0
    pending: list[NamePair] = []
    for index, (start, end, group) in enumerate(groups):
        if start > position:
            yield Segment(text=text[position:start])
        yield Segment(fragments=tuple(_cut_names(text, group)))
        pending += group
        position = end
        word = bisect_left(ends, end)
        inside_word = word < len(ends) and starts[word] < end
        word_end = ends[word] if inside_word else end
        if word_end <= (groups[index + 1][0] if index + 1 < len(groups) else len(text)):
            if word_end > position:
                yield Segment(text=text[position:word_end])
            yield Segment(pairs=tuple(pending))
            pending, position = [], word_end
    if position < len(text):
        yield Segment(text=text[position:])


def cut_excerpt(text: str, pair: NamePair, *, width: int = 40) -> tuple[Segment, ...]:
    """Cut a pair in its context as :func:`cut_text` does: whole words, about ``width`` characters on either side."""
    first, last = _extent(pair)
    start, end = max(0, first - width), min(len(text), last + width)
    if start:
        start = next((offset for offset in range(start, first) if text[offset - 1].isspace()), start)
    if end < len(text):
        end = next((offset for offset in range(end, last, -1) if text[offset].isspace()), end)
    segments = tuple(cut_text(text[start:end], [_shift(pair, -start)]))
    return ((Segment(text="… "),) if start else ()) + segments + ((Segment(text=" …"),) if end < len(text) else ())


def text_direction(text: str) -> str:
    """Return ``rtl`` or ``ltr`` by the first letter with a direction; ``rtl`` without one."""
    classes = (unicodedata.bidirectional(character) for character in text)
    return "ltr" if next((name for name in classes if name in ("L", "R", "AL")), "R") == "L" else "rtl"


def pair_labels(pair: NamePair) -> tuple[str, ...]:
    """Return the gold and the predicted label of a pair, or a single label if they agree or one name is missing."""
    labels = [span.label for span in (pair.gold, pair.predicted) if span is not None]
    return tuple(dict.fromkeys(labels))


def _cut_names(text: str, pairs: Sequence[NamePair]) -> Iterator[Fragment]:
    gold = [(pair.gold, pair.kind) for pair in pairs if pair.gold]
    predicted = [(pair.predicted, pair.kind) for pair in pairs if pair.predicted]
    borders = sorted({border for span, _ in gold + predicted for border in (span.start, span.end)})
    for start, end in pairwise(borders):
        edges: list[str] = []
        for span, _ in predicted:
            sides = ("right", "left") if text_direction(text[span.start : span.end]) == "rtl" else ("left", "right")
            edges += [sides[0]] * (span.start == start) + [sides[1]] * (span.end == end)
        yield Fragment(text[start:end], _kind_at(gold, start), _kind_at(predicted, start), tuple(edges))


def _kind_at(names: Iterable[tuple[Span, str]], offset: int) -> str | None:
    return next((kind for span, kind in names if span.start <= offset < span.end), None)


def _group_overlapping(pairs: Iterable[NamePair]) -> list[tuple[int, int, list[NamePair]]]:
    """Return start, end and pairs of every stretch in which names share characters, in order."""
    groups: list[tuple[int, int, list[NamePair]]] = []
    for pair in sorted(pairs, key=lambda pair: _extent(pair)[0]):
        start, end = _extent(pair)
        if groups and start < groups[-1][1]:
            group_start, group_end, group = groups[-1]
            groups[-1] = group_start, max(group_end, end), [*group, pair]
        else:
            groups.append((start, end, [pair]))
    return groups


def _extent(pair: NamePair) -> tuple[int, int]:
    """Return the start of the first and the end of the last name of a pair."""
    spans = [span for span in (pair.gold, pair.predicted) if span is not None]
    return min(span.start for span in spans), max(span.end for span in spans)


def _shift(pair: NamePair, by: int) -> NamePair:
    gold, predicted = (
        Span(span.start + by, span.end + by, span.label, span.score) if span else None
        for span in (pair.gold, pair.predicted)
    )
    return NamePair(pair.document, pair.kind, gold, predicted)


def _short_metadata(meta: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    values = [(str(key), str(value)) for key, value in meta.items() if isinstance(value, str | int | float)]
    return tuple((key, value) for key, value in values if value and len(value) <= _MAX_METADATA_LENGTH)[:_MAX_METADATA]
