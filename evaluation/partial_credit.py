"""Partial credit as defined by SemEval-2013 task 9.1 and counted by nervaluate, as counts added up over documents.

The task (Segura-Bedmar et al. 2013) puts every name into one of five classes, by one of four schemas. nervaluate, the usual
implementation, pairs names greedily. Its counts for a single document are reproduced exactly, including their oddities:

- Predicted names choose a partner one after another, in the order of the text: the first overlapping gold name that is free
  (``type``: of those with the right label, the one with the closest borders). This is not always the largest matching.
- An overlap of less than one per cent of a gold name does not count: one character of a name of 101 is no overlap.
- Per label, only the names of that label are compared. A name with the wrong label is ``incorrect`` in the micro counts, but
  one missed and one spurious name per label. The labels therefore do not add up to micro.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from musamma.data.document import Span
from musamma.evaluation.counts import Counts, NameCounts
from musamma.evaluation.matching import common_characters, overlapping_pairs

SEMEVAL_STRICT, SEMEVAL_EXACT, SEMEVAL_PARTIAL, SEMEVAL_TYPE = "strict", "exact", "partial", "type"

#: The schemas: borders and label; borders only; borders only, with half a point for an overlap; label only, on an overlap.
SCHEMAS = (SEMEVAL_STRICT, SEMEVAL_EXACT, SEMEVAL_PARTIAL, SEMEVAL_TYPE)

#: Percentage of a gold name that a prediction must cover to overlap it; nervaluate's default.
MIN_OVERLAP_PERCENT = 1

#: The classes of a pair.
_PAIR_CLASSES = _CORRECT, _INCORRECT, _PARTIAL = "correct", "incorrect", "partial"


@dataclass(frozen=True, slots=True)
class PartialCounts(NameCounts):
    """Names by class, in one schema; a ratio with denominator 0 is 0.0.

    Args:
        correct: pairs that agree by the schema.
        incorrect: pairs that overlap and do not agree.
        partial: pairs that overlap, in the schema ``partial``; each is worth half a point.
        missed: gold names without a partner.
        spurious: predicted names without a partner.
    """

    correct: int = 0
    incorrect: int = 0
    partial: int = 0
    missed: int = 0
    spurious: int = 0

    @property
    def points(self) -> float:
        """One point for every correct pair, half a point for a partial one."""
        return self.correct + 0.5 * self.partial

    @property
    def support(self) -> int:
        """Number of gold names (``possible`` in nervaluate)."""
        return self.correct + self.incorrect + self.partial + self.missed

    @property
    def predicted(self) -> int:
        """Number of predicted names (``actual`` in nervaluate)."""
        return self.correct + self.incorrect + self.partial + self.spurious


@dataclass(frozen=True, slots=True)
class PartialScores:
    """The scores of one schema.

    Args:
        micro: all names compared together; not the sum of ``per_label``, see the module's docstring.
        per_label: for every label of the gold or the predictions, its names alone, sorted by label.
    """

    micro: PartialCounts
    per_label: Mapping[str, PartialCounts]

    def to_dict(self) -> dict[str, Any]:
        """Return micro and per-label metrics as JSON."""
        return {
            "micro": self.micro.to_dict(),
            "per_label": {label: counts.to_dict() for label, counts in self.per_label.items()},
        }


class PartialTally:
    """Counts of partial credit, added up over documents.

    A name that is both gold and predicted is ``correct`` in every schema and overlaps no other name, since names of one side
    do not overlap. So only the other names are compared here.
    """

    def __init__(self) -> None:
        self._micro: Counter[tuple[str, str]] = Counter()
        self._per_label: Counter[tuple[str, str, str]] = Counter()

    def add(self, gold: Sequence[Span], predicted: Sequence[Span]) -> None:
        """Count a document.

        Args:
            gold: its gold names that were not predicted exactly, sorted, without overlap.
            predicted: the predicted names that are not gold, likewise.
        """
        if not gold or not predicted:
            return
        names, candidates = _overlapping(gold, predicted)
        for index, partner in _pair_greedily(candidates):
            span, gold_span = names[index], gold[partner]
            same_borders = (span.start, span.end) == (gold_span.start, gold_span.end)
            self._micro[SEMEVAL_STRICT, _INCORRECT] += 1
            self._micro[SEMEVAL_EXACT, _CORRECT if same_borders else _INCORRECT] += 1
            self._micro[SEMEVAL_PARTIAL, _CORRECT if same_borders else _PARTIAL] += 1
        closest = [
            sorted(c, key=partial(_label_and_distance, gold, span)) for span, c in zip(names, candidates, strict=True)
        ]
        for index, partner in _pair_greedily(closest):
            same_label = names[index].label == gold[partner].label
            self._micro[SEMEVAL_TYPE, _CORRECT if same_label else _INCORRECT] += 1
        for index, _ in _pair_greedily(_of_same_label(gold, names, candidates)):
            label = names[index].label
            self._per_label[SEMEVAL_STRICT, _INCORRECT, label] += 1
            self._per_label[SEMEVAL_EXACT, _INCORRECT, label] += 1
            self._per_label[SEMEVAL_PARTIAL, _PARTIAL, label] += 1
        for index, _ in _pair_greedily(_of_same_label(gold, names, closest)):
            self._per_label[SEMEVAL_TYPE, _CORRECT, names[index].label] += 1

    def scores(self, exact: Mapping[str, Counts]) -> dict[str, PartialScores]:
        """Return the scores so far by schema.

        Args:
            exact: the character-exact counts of the same documents by label.
        """
        micro = sum(exact.values(), Counts())
        return {
            schema: PartialScores(
                _complete(micro, *(self._micro[schema, kind] for kind in _PAIR_CLASSES)),
                {
                    label: _complete(counts, *(self._per_label[schema, kind, label] for kind in _PAIR_CLASSES))
                    for label, counts in exact.items()
                },
            )
            for schema in SCHEMAS
        }


def _complete(exact: Counts, correct: int, incorrect: int, partly: int) -> PartialCounts:
    """Add the names predicted exactly and those without a partner."""
    pairs = correct + incorrect + partly
    return PartialCounts(exact.tp + correct, incorrect, partly, exact.fn - pairs, exact.fp - pairs)


def _overlapping(gold: Sequence[Span], predicted: Sequence[Span]) -> tuple[list[Span], list[list[int]]]:
    """Return the predicted names that overlap gold names enough, and for each the indices of these, in text order."""
    candidates: dict[int, list[int]] = {}
    for index, partner in overlapping_pairs(predicted, gold):
        gold_span = gold[partner]
        common = common_characters(predicted[index], gold_span)
        if 100 * common >= MIN_OVERLAP_PERCENT * (gold_span.end - gold_span.start):
            candidates.setdefault(index, []).append(partner)
    return [predicted[index] for index in candidates], list(candidates.values())


def _pair_greedily(candidates: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """Pair each name in turn with its first candidate that is free; return the indices of name and partner."""
    taken: set[int] = set()
    pairs = []
    for index, options in enumerate(candidates):
        for partner in options:
            if partner not in taken:
                taken.add(partner)
                pairs.append((index, partner))
                break
    return pairs


def _of_same_label(gold: Sequence[Span], names: Sequence[Span], candidates: Sequence[Sequence[int]]) -> list[list[int]]:
    """Keep the candidates that have the label of the predicted name."""
    return [
        [partner for partner in options if gold[partner].label == span.label]
        for span, options in zip(names, candidates, strict=True)
    ]


def _label_and_distance(gold: Sequence[Span], span: Span, partner: int) -> tuple[bool, int]:
    """Sort names of the same label first, by the distance of the borders; the others keep their order."""
    gold_span = gold[partner]
    if gold_span.label != span.label:
        return True, 0
    return False, abs(span.start - gold_span.start) + abs(span.end - gold_span.end)
