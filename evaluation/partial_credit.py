"""Partial credit, counted as in SemEval-2013 task 9.1 and as nervaluate does it, but summed over documents as counts.

The task (Segura-Bedmar et al. 2013) takes every name into one of five classes, by one of four schemas. nervaluate, the usual
implementation, pairs names greedily, and its figures for a single document are followed here to the last count, also where
they are odd:

- Predicted names choose one after another, in the order of the text: the first overlapping gold name that is left (``type``:
  of those with the right label the one with the closest borders). That is not always the largest matching.
- Less than one per cent of a gold name is no overlap: one character of a name of 101 does not touch it.
- Per label, only the names of that label are laid beside each other. A name with the wrong label is ``incorrect`` in the
  micro counts, but one missed and one spurious name per label, so that labels do not add up to micro.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from musamma.data.document import Span

if TYPE_CHECKING:  # The figures hold these in turn.
    from musamma.evaluation.counts import Counts, ModeScores

SEMEVAL_STRICT, SEMEVAL_EXACT, SEMEVAL_PARTIAL, SEMEVAL_TYPE = "strict", "exact", "partial", "type"

#: The schemas: borders and label; borders alone; borders alone, half a point for an overlap; label alone, on an overlap.
SCHEMAS = (SEMEVAL_STRICT, SEMEVAL_EXACT, SEMEVAL_PARTIAL, SEMEVAL_TYPE)

#: The share of a gold name that a prediction must cover to overlap it, in per cent; nervaluate's default.
MIN_OVERLAP_PERCENT = 1

#: What can become of a pair.
_PAIRED = _CORRECT, _INCORRECT, _PARTIAL = "correct", "incorrect", "partial"


@dataclass(frozen=True, slots=True)
class PartialCounts:
    """Names by what became of them, in one schema. Every ratio with nothing below the line is 0.0.

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
    def support(self) -> int:
        """How many names there are in the gold (``possible`` in nervaluate)."""
        return self.correct + self.incorrect + self.partial + self.missed

    @property
    def predicted(self) -> int:
        """How many names were predicted (``actual`` in nervaluate)."""
        return self.correct + self.incorrect + self.partial + self.spurious

    @property
    def points(self) -> float:
        """One for every correct pair, half of one for a partial one."""
        return self.correct + 0.5 * self.partial

    @property
    def precision(self) -> float:
        """Points for each predicted name, in [0, 1]."""
        return self.points / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Points for each gold name, in [0, 1]."""
        return self.points / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]."""
        precision, recall = self.precision, self.recall
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def __add__(self, other: PartialCounts) -> PartialCounts:
        return PartialCounts(
            self.correct + other.correct,
            self.incorrect + other.incorrect,
            self.partial + other.partial,
            self.missed + other.missed,
            self.spurious + other.spurious,
        )

    def to_dict(self) -> dict[str, float | int]:
        """Precision, recall, F1, support and the counts, as JSON."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {**ratios, "support": self.support, **asdict(self)}


@dataclass(frozen=True, slots=True)
class PartialScores:
    """The figures of one schema.

    Args:
        micro: all names laid beside each other. Not the sum of ``per_label``: see the module.
        per_label: for every label of the gold or the predictions, its names alone, sorted by label.
    """

    micro: PartialCounts
    per_label: Mapping[str, PartialCounts]

    def to_dict(self) -> dict[str, Any]:
        """Micro and per-label figures, as JSON."""
        return {
            "micro": self.micro.to_dict(),
            "per_label": {label: counts.to_dict() for label, counts in self.per_label.items()},
        }


class PartialTally:
    """Counts partial credit as documents come; holds counts only.

    A name that was found exactly overlaps no other, as neither side overlaps itself, and is ``correct`` in every schema: only
    the rest is looked at here.
    """

    def __init__(self) -> None:
        self._micro: Counter[tuple[str, str]] = Counter()
        self._per_label: Counter[tuple[str, str, str]] = Counter()

    def add(self, gold: Sequence[Span], predicted: Sequence[Span]) -> None:
        """Count a document.

        Args:
            gold: its names that were not found exactly, sorted, without overlap.
            predicted: the predicted names that are not gold, the same.
        """
        if not gold or not predicted:
            return
        touched = _overlapping(gold, predicted)
        for theirs, ours in _pair([options for _, options in touched]):
            name, partner = touched[theirs][0], gold[ours]
            same = (name.start, name.end) == (partner.start, partner.end)
            self._micro[SEMEVAL_STRICT, _INCORRECT] += 1
            self._micro[SEMEVAL_EXACT, _CORRECT if same else _INCORRECT] += 1
            self._micro[SEMEVAL_PARTIAL, _CORRECT if same else _PARTIAL] += 1
        by_type = [sorted(options, key=partial(_by_label, gold, name)) for name, options in touched]
        for theirs, ours in _pair(by_type):
            self._micro[SEMEVAL_TYPE, _CORRECT if touched[theirs][0].label == gold[ours].label else _INCORRECT] += 1
        alike = [[ours for ours in options if gold[ours].label == name.label] for name, options in touched]
        for theirs, _ in _pair(alike):
            label = touched[theirs][0].label
            self._per_label[SEMEVAL_STRICT, _INCORRECT, label] += 1
            self._per_label[SEMEVAL_EXACT, _INCORRECT, label] += 1
            self._per_label[SEMEVAL_PARTIAL, _PARTIAL, label] += 1
        nearest = [[ours for ours in options if gold[ours].label == name.label]
                   for (name, _), options in zip(touched, by_type, strict=True)]  # fmt: skip
        for theirs, _ in _pair(nearest):
            self._per_label[SEMEVAL_TYPE, _CORRECT, touched[theirs][0].label] += 1

    def scores(self, strict: ModeScores) -> dict[str, PartialScores]:
        """The figures so far by schema.

        Args:
            strict: the character-exact counts of the same documents.
        """
        return {
            schema: PartialScores(
                _complete(strict.micro, *(self._micro[schema, kind] for kind in _PAIRED)),
                {
                    label: _complete(counts, *(self._per_label[schema, kind, label] for kind in _PAIRED))
                    for label, counts in strict.per_label.items()
                },
            )
            for schema in SCHEMAS
        }


def _complete(exact: Counts, correct: int, incorrect: int, partly: int) -> PartialCounts:
    """The counts with the names found exactly and those left without a partner."""
    pairs = correct + incorrect + partly
    return PartialCounts(exact.tp + correct, incorrect, partly, exact.fn - pairs, exact.fp - pairs)


def _overlapping(gold: Sequence[Span], predicted: Sequence[Span]) -> list[tuple[Span, list[int]]]:
    """The predicted names that overlap gold names enough, and the indices of those in the order of the text."""
    found = []
    first = 0
    for name in predicted:
        while first < len(gold) and gold[first].end <= name.start:
            first += 1
        options = []
        for ours in range(first, len(gold)):
            other = gold[ours]
            if other.start >= name.end:
                break
            common = min(name.end, other.end) - max(name.start, other.start)
            if 100 * common >= MIN_OVERLAP_PERCENT * (other.end - other.start):
                options.append(ours)
        if options:
            found.append((name, options))
    return found


def _pair(wanted: Iterable[Sequence[int]]) -> list[tuple[int, int]]:
    """Pairs of a name and its partner: one name after another takes the first partner it wants that is left."""
    taken: set[int] = set()
    pairs = []
    for theirs, options in enumerate(wanted):
        for ours in options:
            if ours not in taken:
                taken.add(ours)
                pairs.append((theirs, ours))
                break
    return pairs


def _by_label(gold: Sequence[Span], name: Span, ours: int) -> tuple[bool, int]:
    """Sorts names of the same label first, by the distance of the borders; the others keep their order."""
    other = gold[ours]
    if other.label != name.label:
        return True, 0
    return False, abs(name.start - other.start) + abs(name.end - other.end)
