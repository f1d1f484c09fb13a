"""What scoring gives: counts, and the precision, recall and F1 that follow from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # Partial credit is counted from these figures in turn.
    from musamma.evaluation.partial import PartialScores

STRICT = "strict"


@dataclass(frozen=True, slots=True)
class Counts:
    """Names found and missed. Every ratio with nothing below the line is 0.0.

    Args:
        tp: gold names that were predicted.
        fp: predicted names that are not gold.
        fn: gold names that were not predicted.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def support(self) -> int:
        """How many names there are in the gold."""
        return self.tp + self.fn

    @property
    def predicted(self) -> int:
        """How many names were predicted."""
        return self.tp + self.fp

    @property
    def precision(self) -> float:
        """Share of the predicted names that are gold, in [0, 1]."""
        return self.tp / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold names that were predicted, in [0, 1]."""
        return self.tp / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]."""
        precision, recall = self.precision, self.recall
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    def to_dict(self) -> dict[str, float | int]:
        """Precision, recall, F1, support and the counts, as JSON."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {**ratios, "support": self.support, "tp": self.tp, "fp": self.fp, "fn": self.fn}


@dataclass(frozen=True, slots=True)
class Average:
    """Unweighted means over labels; ``support`` is the number of gold names of all labels."""

    precision: float
    recall: float
    f1: float
    support: int

    def to_dict(self) -> dict[str, float | int]:
        """The figures, as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ModeScores:
    """The figures of one mode.

    Args:
        per_label: counts of every label that stands in the gold or in the predictions, sorted by label.
    """

    per_label: Mapping[str, Counts]

    @property
    def micro(self) -> Counts:
        """All labels counted together."""
        return sum(self.per_label.values(), Counts())

    @property
    def macro(self) -> Average:
        """The mean over labels, also those without gold names, as in seqeval; 0.0 where there is no label."""
        rows = list(self.per_label.values()) or [Counts()]
        return Average(
            precision=float(np.mean([row.precision for row in rows])),
            recall=float(np.mean([row.recall for row in rows])),
            f1=float(np.mean([row.f1 for row in rows])),
            support=self.micro.support,
        )

    def to_dict(self) -> dict[str, Any]:
        """Micro, macro and per-label figures, as JSON."""
        labels = {label: counts.to_dict() for label, counts in self.per_label.items()}
        return {"micro": self.micro.to_dict(), "macro": self.macro.to_dict(), "per_label": labels}


@dataclass(frozen=True, slots=True)
class Losses:
    """Names of one side that a mode could not represent.

    Args:
        nested: names inside names, which the modes leave to the layers; see :class:`Scores`.
        shared_words: whitespace-separated words that hold characters of more than one name.
        dropped_iob: names that the IOB modes leave out: an earlier name has the tag of one of their words, or
            they cover no word at all.
        merged_whole_word: names that became the same as another one by widening both to whole words.
    """

    nested: int = 0
    shared_words: int = 0
    dropped_iob: int = 0
    merged_whole_word: int = 0

    def __add__(self, other: Losses) -> Losses:
        return Losses(
            self.nested + other.nested,
            self.shared_words + other.shared_words,
            self.dropped_iob + other.dropped_iob,
            self.merged_whole_word + other.merged_whole_word,
        )

    def to_dict(self) -> dict[str, int]:
        """The counts, as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Scores:
    """The figures of every mode that was asked for.

    Args:
        modes: figures by mode name, see :data:`musamma.evaluation.MODES`.
        documents: how many gold documents were scored (sentences, where tags alone were scored).
        missing: gold documents without a prediction that were scored as if nothing had been found in them.
        gold_losses: what the modes could not represent of the gold.
        predicted_losses: what the modes could not represent of the predictions.
        partial: partial credit by schema, see :data:`musamma.evaluation.partial.SCHEMAS`; empty where tags alone were scored.
        layers: strict figures by layer: ``outermost``, which the modes score, and where either side has names inside names
            also ``nested``, those alone, and ``all``, whatever layer a name stands in. Empty where tags alone were scored.
    """

    modes: Mapping[str, ModeScores]
    documents: int
    missing: int = 0
    gold_losses: Losses = field(default_factory=Losses)
    predicted_losses: Losses = field(default_factory=Losses)
    partial: Mapping[str, PartialScores] = field(default_factory=dict)
    layers: Mapping[str, ModeScores] = field(default_factory=dict)

    @property
    def strict(self) -> ModeScores:
        """The character-exact figures, the headline. ``KeyError`` where tags alone were scored."""
        return self.modes[STRICT]

    def to_dict(self) -> dict[str, Any]:
        """JSON: the strict figures at the top level, the other modes under names of their own."""
        record: dict[str, Any] = self.strict.to_dict() if STRICT in self.modes else {}
        record |= {name: scores.to_dict() for name, scores in self.modes.items() if name != STRICT}
        if self.partial:
            record["semeval"] = {name: scores.to_dict() for name, scores in self.partial.items()}
        if self.layers:
            record["layers"] = {name: scores.to_dict() for name, scores in self.layers.items()}
        return record | {
            "documents": self.documents,
            "missing": self.missing,
            "losses": {"gold": self.gold_losses.to_dict(), "predictions": self.predicted_losses.to_dict()},
        }
