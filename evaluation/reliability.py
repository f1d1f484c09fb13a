"""Reliability of the scores of predicted names: how far they are from the share of these names that is correct."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from musamma.data.errors import InputError
from musamma.evaluation.document_pairing import PredictionError
from musamma.evaluation.matching import CORRECT, NamePair


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predicted names with similar scores.

    Args:
        low: their scores are above this (the first bin includes 0).
        high: and at most this.
        count: number of names.
        confidence: mean of their scores; 0.0 without names.
        precision: share of correct names; 0.0 without names.
    """

    low: float
    high: float
    count: int
    confidence: float
    precision: float

    @property
    def gap(self) -> float:
        """Mean score minus precision: positive if the scores are too high."""
        return self.confidence - self.precision


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far the scores of predicted names are from the share of these names that is correct.

    Args:
        bins: bins of equal width over [0, 1], including empty ones.
        ece: expected calibration error (Guo et al. 2017): the mean absolute gap of ``bins``, weighted by count.
        ace: the same over bins of equal mass (Nguyen and O'Connor 2015), since scores are concentrated near 1; equal scores
            stay in one bin.
        brier: mean squared difference of score and outcome (Brier 1950); lower if better calibrated *and* sharper.
        count: number of predicted names.
        confidence: mean score.
        precision: share of correct names.

    Without names all figures are 0.0.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: float
    ace: float
    brier: float
    count: int
    confidence: float
    precision: float

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON."""
        return {**asdict(self), "bins": [asdict(part) for part in self.bins]}


def measure_reliability(scores: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> Reliability:
    """Compare the scores of predicted names with their correctness.

    Args:
        scores: probabilities; (names,).
        correct: True or 1 for each name that is strictly correct; (names,).
        bins: number of bins of equal width, and of equal mass.

    Raises:
        InputError: the inputs differ in length, a score is not a probability, or ``bins`` is below 1.
    """
    score, outcome = check_scores(scores, correct)
    if bins < 1:
        raise InputError(f"bins {bins}", expected="1 or more")
    edges = np.linspace(0.0, 1.0, bins + 1)
    equal_width = _bins(score, outcome, edges)
    ordered = np.sort(score)
    # The last score of each equal share of the sorted names; shares that end in equal scores merge.
    cuts = np.round(np.arange(1, bins) * len(score) / bins).astype(np.int64)
    equal_mass = np.unique(np.concatenate([[0.0], ordered[cuts[cuts > 0] - 1], [1.0]]))
    return Reliability(
        bins=equal_width,
        ece=_mean_gap(equal_width),
        ace=_mean_gap(_bins(score, outcome, equal_mass)),
        brier=_mean((score - outcome) ** 2),
        count=len(score),
        confidence=_mean(score),
        precision=_mean(outcome),
    )


def reliability_of_pairs(pairs: Iterable[NamePair]) -> Reliability | None:
    """Measure the reliability of the scores in paired names, by strict correctness; ``None`` if no name has a score.

    Names without a score are ignored; ``count`` of the result is the number of names with one.

    Raises:
        PredictionError: a score is outside [0, 1].
    """
    scores: list[float] = []
    correct: list[bool] = []
    for pair in pairs:
        if pair.predicted is None or pair.predicted.score is None:
            continue
        if not 0 <= pair.predicted.score <= 1:
            raise PredictionError(
                f"score {pair.predicted.score} of the name [{pair.predicted.start}, {pair.predicted.end})",
                where=f"document {pair.document!r}",
                expected="a confidence in [0, 1]",
                remedy="rescale the scores or leave them out",
            )
        scores.append(pair.predicted.score)
        correct.append(pair.kind == CORRECT)
    return measure_reliability(scores, correct) if scores else None


def check_scores(scores: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and outcomes as arrays of floats, (names,) each.

    Raises:
        InputError: scores and outcomes differ in length, or a score is not a probability.
    """
    score, outcome = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(correct, dtype=np.float64).ravel()
    if len(score) != len(outcome):
        raise InputError(f"{len(score)} scores and {len(outcome)} outcomes", expected="one outcome per name")
    # This form of the condition also catches NaN.
    if (outside := score[~((score >= 0.0) & (score <= 1.0))]).size:
        raise InputError(
            f"score {outside[0]:g}",
            expected="probabilities from 0 to 1",
            remedy="turn the system's scores into probabilities, or leave them out",
        )
    return score, outcome


def _bins(score: np.ndarray, outcome: np.ndarray, edges: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """Sort names by score into bins that are open below and closed above; ``edges`` are ascending."""
    bin_of = np.searchsorted(edges[1:-1], score, side="left")
    bins = []
    for index, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        inside = bin_of == index
        bins.append(ReliabilityBin(low, high, int(inside.sum()), _mean(score[inside]), _mean(outcome[inside])))
    return tuple(bins)


def _mean_gap(bins: Sequence[ReliabilityBin]) -> float:
    count = sum(part.count for part in bins)
    return sum(part.count * abs(part.gap) for part in bins) / count if count else 0.0


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
