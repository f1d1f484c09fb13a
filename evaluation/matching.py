"""Which names of one document are found, mode by mode."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import NamedTuple

from musamma.data.document import Span
from musamma.evaluation.cases import differs_by_proclitic
from musamma.evaluation.figures import STRICT
from musamma.evaluation.widening import Chunk, Widened, widen_spans

PROCLITIC, WHOLE_WORD, OVERLAP = "proclitic", "whole_word", "overlap"
IOB2_STRICT, CONLLEVAL = "iob2_strict", "conlleval"

#: The modes: character-exact (always scored), exact but for proclitics, exact by whole words, two readings of IOB2 tags,
#: any overlap.
MODES = (STRICT, PROCLITIC, WHOLE_WORD, IOB2_STRICT, CONLLEVAL, OVERLAP)

#: The modes that are counted on IOB2 tags.
TAG_MODES = (IOB2_STRICT, CONLLEVAL)

_label = itemgetter(2)


class Labels(NamedTuple):
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

    modes: dict[str, Labels]
    gold_rest: Sequence[Span]
    predicted_rest: Sequence[Span]
    gold_widened: Widened
    predicted_widened: Widened


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
    gold_widened = widen_spans(text, gold, known=borders)
    predicted_widened = widen_spans(text, predicted, known=borders) if gold_rest or predicted_rest else gold_widened
    sides = [span.label for span in gold], [span.label for span in predicted]
    exact = list(map(_label, both))
    found: dict[str, Labels] = {}
    for mode in modes:
        if mode == STRICT:
            found[mode] = Labels(*sides, exact)
        elif mode == PROCLITIC:
            found[mode] = Labels(*sides, exact + behind_proclitics(text, gold_rest, predicted_rest))
        elif mode == OVERLAP:
            found[mode] = Labels(*sides, exact + overlapping(gold_rest, predicted_rest))
        elif mode == WHOLE_WORD:
            found[mode] = _of_sets(gold_widened.whole_word, predicted_widened.whole_word)
        else:
            # Tags made from spans are valid IOB2, which the strict and the lenient reading agree on.
            found[mode] = _of_sets(set(gold_widened.iob), set(predicted_widened.iob))
    return Matches(found, gold_rest, predicted_rest, gold_widened, predicted_widened)


def behind_proclitics(text: str, gold: Sequence[Span], predicted: Sequence[Span]) -> list[str]:
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
    return [span.label for span, other in partners if other is not None and differs_by_proclitic(text, span, other)]


def overlapping(gold: Sequence[Span], predicted: Sequence[Span]) -> list[str]:
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


def _of_sets(gold: set[Chunk], predicted: set[Chunk]) -> Labels:
    return Labels(*(list(map(_label, chunks)) for chunks in (gold, predicted, gold & predicted)))
