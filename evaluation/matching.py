"""Which names of one document are found, mode by mode."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple

from musamma.data.arabic import is_proclitic
from musamma.data.document import Document, Span

STRICT = "strict"
PROCLITIC, WHOLE_WORD, OVERLAP = "proclitic", "whole_word", "overlap"
IOB2_STRICT, CONLLEVAL = "iob2_strict", "conlleval"

#: The modes: character-exact (always scored), exact but for proclitics, exact by whole words, two readings of IOB2 tags,
#: any overlap.
MODES = (STRICT, PROCLITIC, WHOLE_WORD, IOB2_STRICT, CONLLEVAL, OVERLAP)

#: The modes that are counted on IOB2 tags.
TAG_MODES = (IOB2_STRICT, CONLLEVAL)

_label = itemgetter(2)


class MatchedLabels(NamedTuple):
    """The labels of a document's names in one mode, one a name: of the gold, of the predictions, of those found."""

    gold: Sequence[str]
    predicted: Sequence[str]
    found: Sequence[str]


@dataclass(frozen=True, slots=True)
class Matches:
    """One document compared.

    Args:
        modes: the labels by mode.
        gold_rest: the gold names that were not found exactly, sorted.
        predicted_rest: the predicted names that are not gold exactly, sorted.
        gold_widened: the gold names by whole words.
        predicted_widened: the predicted names by whole words.
    """

    modes: dict[str, MatchedLabels]
    gold_rest: Sequence[Span]
    predicted_rest: Sequence[Span]
    gold_widened: WordAlignedNames
    predicted_widened: WordAlignedNames


def match_names(text: str, gold: Sequence[Span], predicted: Sequence[Span], *, modes: Collection[str]) -> Matches:
    """Compare the names of a text in every mode.

    A name that is found exactly overlaps no other name of either side, so that the modes that forgive borders look at the
    rest alone.

    Args:
        text: the raw text.
        gold: its annotated names, sorted, without overlap.
        predicted: its predicted names, the same.
        modes: of :data:`MODES`.
    """
    ours = {(span.start, span.end, span.label) for span in gold}
    theirs = {(span.start, span.end, span.label) for span in predicted}
    both = ours & theirs
    gold_rest = [s for s in gold if (s.start, s.end, s.label) not in both] if len(both) < len(ours) else ()
    predicted_rest = [s for s in predicted if (s.start, s.end, s.label) not in both] if len(both) < len(theirs) else ()
    borders: dict[tuple[int, int], tuple[int, int] | None] = {}
    gold_widened = align_to_words(text, gold, known=borders)
    predicted_widened = align_to_words(text, predicted, known=borders) if gold_rest or predicted_rest else gold_widened
    sides = [span.label for span in gold], [span.label for span in predicted]
    exact = list(map(_label, both))
    found: dict[str, MatchedLabels] = {}
    for mode in modes:
        if mode == STRICT:
            found[mode] = MatchedLabels(*sides, exact)
        elif mode == PROCLITIC:
            found[mode] = MatchedLabels(*sides, exact + match_behind_proclitics(text, gold_rest, predicted_rest))
        elif mode == OVERLAP:
            found[mode] = MatchedLabels(*sides, exact + match_overlapping(gold_rest, predicted_rest))
        elif mode == WHOLE_WORD:
            found[mode] = _of_sets(gold_widened.whole_word, predicted_widened.whole_word)
        else:
            # Tags made from spans are valid IOB2, which the strict and the lenient reading agree on.
            found[mode] = _of_sets(set(gold_widened.iob), set(predicted_widened.iob))
    return Matches(found, gold_rest, predicted_rest, gold_widened, predicted_widened)


def match_behind_proclitics(text: str, gold: Sequence[Span], predicted: Sequence[Span]) -> list[str]:
    """The labels of the names that both sides end alike and begin alike but for proclitic letters.

    Args:
        text: the raw text.
        gold: names, sorted, without overlap; no two of a side end together, so that each has one partner at most.
        predicted: the same.
    """
    if not gold or not predicted:
        return []
    by_end = {(span.end, span.label): span for span in predicted}
    partners = ((span, by_end.get((span.end, span.label))) for span in gold)
    return [span.label for span, other in partners if other is not None and differ_by_proclitic(text, span, other)]


def match_overlapping(gold: Sequence[Span], predicted: Sequence[Span]) -> list[str]:
    """The largest one-to-one matching of gold and predicted names that share a label and a character.

    Args:
        gold: names, sorted, without overlap.
        predicted: the same.

    Returns:
        The label of every pair.
    """
    found = []
    waiting: dict[str, list[Span]] = {}
    for span in predicted:
        waiting.setdefault(span.label, []).append(span)
    position = dict.fromkeys(waiting, 0)
    # Neither side overlaps itself, so taking the leftmost partner each time gives as many pairs as can be.
    for span in gold:
        candidates = waiting.get(span.label, [])
        index = position.get(span.label, 0)
        while index < len(candidates) and candidates[index].end <= span.start:
            index += 1
        if index < len(candidates) and candidates[index].start < span.end:
            found.append(span.label)
            index += 1
        if candidates:
            position[span.label] = index
    return found


def _of_sets(gold: set[SpanKey], predicted: set[SpanKey]) -> MatchedLabels:
    return MatchedLabels(*(list(map(_label, chunks)) for chunks in (gold, predicted, gold & predicted)))


CORRECT, WRONG_LABEL, PROCLITIC_BORDER, WRONG_BORDER, WRONG_LABEL_AND_BORDER = (
    "correct",
    "label",
    "proclitic",
    "border",
    "label_and_border",
)
MISSED, SPURIOUS = "missed", "spurious"

#: The kinds of case, from right to wrong; of two possible partners a name takes the one whose kind comes first.
PAIR_KINDS = (CORRECT, WRONG_LABEL, PROCLITIC_BORDER, WRONG_BORDER, WRONG_LABEL_AND_BORDER, MISSED, SPURIOUS)


@dataclass(frozen=True, slots=True)
class NamePair:
    """A gold name and the predicted name that was paired with it; one of them is ``None`` where there is no partner.

    Args:
        document: the document's id.
        kind: one of :data:`PAIR_KINDS`. ``proclitic``: right but for proclitic letters at the start; ``border``: the right
            label, sharing a character; ``label``: the right borders.
        gold: the annotated name.
        predicted: the predicted name.
    """

    document: str
    kind: str
    gold: Span | None
    predicted: Span | None

    @property
    def position(self) -> int:
        """Where the case begins in the text."""
        return min(span.start for span in (self.gold, self.predicted) if span is not None)

    def to_dict(self) -> dict[str, Any]:
        """The case as a JSON object."""
        sides = {"gold": self.gold, "predicted": self.predicted}
        return {
            "document": self.document,
            "kind": self.kind,
            **{name: span.to_dict() for name, span in sides.items() if span is not None},
        }


def pair_names(gold: Document, predicted: Sequence[Span]) -> list[NamePair]:
    """Pair the names of a document with the names predicted for it, one to one.

    Exact pairs are made first, then those of the other kinds in the order of :data:`PAIR_KINDS`, with the larger common part
    first, then the earlier one.

    Args:
        gold: the annotated document; its outermost names are compared.
        predicted: names of the same text, sorted, without overlap.

    Returns:
        The cases in the order of the text; every name of either side stands in exactly one.
    """
    pairs = sorted(
        (PAIR_KINDS.index(kind), -common, ours, theirs)
        for ours, theirs, kind, common in _candidates(gold.text, gold.spans, predicted)
    )
    partner_of: dict[int, int] = {}
    taken: set[int] = set()
    cases = []
    for rank, _, ours, theirs in pairs:
        if ours not in partner_of and theirs not in taken:
            partner_of[ours] = theirs
            taken.add(theirs)
            cases.append(NamePair(gold.id, PAIR_KINDS[rank], gold.spans[ours], predicted[theirs]))
    cases += [NamePair(gold.id, MISSED, span, None) for index, span in enumerate(gold.spans) if index not in partner_of]
    cases += [NamePair(gold.id, SPURIOUS, None, span) for index, span in enumerate(predicted) if index not in taken]
    return sorted(cases, key=lambda case: (case.position, PAIR_KINDS.index(case.kind)))


def differ_by_proclitic(text: str, one: Span, other: Span) -> bool:
    """Whether two names end together and the longer one has nothing but proclitic letters (و ف ب ل ك س) before the other."""
    if one.end != other.end or one.start == other.start:
        return False
    return is_proclitic(text[min(one.start, other.start) : max(one.start, other.start)])


def _candidates(text: str, gold: Sequence[Span], predicted: Sequence[Span]) -> Iterator[tuple[int, int, str, int]]:
    """Index of the gold name, of the predicted name, kind of case and common characters, of all that share a character."""
    first = 0
    for ours, span in enumerate(gold):
        while first < len(predicted) and predicted[first].end <= span.start:
            first += 1
        for theirs in range(first, len(predicted)):
            other = predicted[theirs]
            if other.start >= span.end:
                break
            yield ours, theirs, _kind(text, span, other), min(span.end, other.end) - max(span.start, other.start)


def _kind(text: str, gold: Span, predicted: Span) -> str:
    same = (gold.start, gold.end) == (predicted.start, predicted.end)
    if gold.label != predicted.label:
        return WRONG_LABEL if same else WRONG_LABEL_AND_BORDER
    if same:
        return CORRECT
    return PROCLITIC_BORDER if differ_by_proclitic(text, gold, predicted) else WRONG_BORDER


SpanKey = tuple[int, int, str]

_WORD = re.compile(r"\S+")


class WordAlignedNames(NamedTuple):
    """The names of a text by whole words: chunks (start, end, label), the offsets those of words.

    Args:
        whole_word: one chunk a name; those that fall on the same words with the same label are one. A name of
            nothing but whitespace touches no word and keeps its own borders.
        iob: the chunks that IOB2 tags can hold, one tag a word: of names that share a word, the first.
        shared_words: how many words hold characters of more than one name.
    """

    whole_word: set[SpanKey]
    iob: list[SpanKey]
    shared_words: int


def whitespace_words(text: str) -> list[tuple[int, int]]:
    """Start and end of every whitespace-separated word of a text, in code points."""
    return [match.span() for match in _WORD.finditer(text)]


def enclosing_words(text: str, start: int, end: int) -> tuple[int, int] | None:
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


def align_to_words(
    text: str, spans: Sequence[Span], *, known: dict[tuple[int, int], tuple[int, int] | None] | None = None
) -> WordAlignedNames:
    """The names of a text by whole words.

    Args:
        text: the raw text.
        spans: its names, sorted, without overlap, as a document has them.
        known: what :func:`enclosing_words` gave on this text before, which is looked up and added to: most names of one annotation
            are in the other too.
    """
    known = {} if known is None else known
    whole_word: set[SpanKey] = set()
    iob: list[SpanKey] = []
    shared: set[int] = set()
    taken = reach = 0
    for span in spans:
        given = span.start, span.end
        if given not in known:
            known[given] = enclosing_words(text, *given)
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
    return WordAlignedNames(whole_word, iob, len(shared))


def iob2_tags(text: str, spans: Sequence[Span]) -> list[str]:
    """One IOB2 tag for every whitespace-separated word of a text; see :func:`tag_words`."""
    return tag_words(whitespace_words(text), spans)


def tag_words(borders: Sequence[tuple[int, int]], spans: Sequence[Span]) -> list[str]:
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
