"""Whether a score means what it says: reliability of scores, and the score from which a label's names can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from musamma.data.errors import InputError


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Predicted names whose scores are close.

    Args:
        low: their scores are above this (the first bin: from 0 on).
        high: and up to this.
        count: how many there are.
        confidence: the mean of their scores; 0.0 without any.
        precision: the share of them that is right; 0.0 without any.
    """

    low: float
    high: float
    count: int
    confidence: float
    precision: float

    @property
    def gap(self) -> float:
        """How much the scores promise beyond what they keep; negative where they promise less."""
        return self.confidence - self.precision


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far the scores of predicted names are from the share of them that is right.

    Args:
        bins: of equal width over [0, 1], empty ones too.
        ece: expected calibration error (Guo et al. 2017): the mean gap of ``bins`` without its sign, weighted by count.
        ace: the same over bins of equal mass (Nguyen and O'Connor 2015), where scores crowd near 1; equal scores stay together.
        brier: mean squared difference of score and outcome (Brier 1950); the lower, the better calibrated *and* the sharper.
        count: predicted names.
        confidence: mean score.
        precision: the share that is right.

    Without any name all figures are 0.0.
    """

    bins: tuple[ReliabilityBin, ...]
    ece: float
    ace: float
    brier: float
    count: int
    confidence: float
    precision: float

    def to_dict(self) -> dict[str, Any]:
        """The figures as JSON."""
        return {**asdict(self), "bins": [asdict(part) for part in self.bins]}


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score from which a label's predicted names are precise enough.

    Args:
        value: keep names whose score is at least this; ``None`` where no score is shown to be enough.
        precision: the share of the kept names that is right; of all where ``value`` is ``None``.
        recall: the share of the gold names that is kept and right; of all where ``value`` is ``None``.
        support: gold names of the label.
    """

    value: float | None
    precision: float
    recall: float
    support: int


def measure_reliability(scores: ArrayLike, correct: ArrayLike, *, bins: int = 10) -> Reliability:
    """Compare the scores of predicted names with what became of them.

    Args:
        scores: probabilities; (names,).
        correct: whether each name is strictly right; bool or 0 and 1, (names,).
        bins: how many bins, of equal width and of equal mass.

    Raises:
        InputError: the two differ in length, a score is no probability, or there is no bin.
    """
    score, right = _checked(scores, correct)
    if bins < 1:
        raise InputError(f"bins {bins}", expected="a number from 1")
    edges = np.linspace(0.0, 1.0, bins + 1)
    parts = _bins(score, right, edges)
    ordered = np.sort(score)
    # The last score of every share of the sorted names; where scores are equal, shares merge.
    cuts = np.round(np.arange(1, bins) * len(score) / bins).astype(np.int64)
    masses = np.unique(np.concatenate([[0.0], ordered[cuts[cuts > 0] - 1], [1.0]]))
    return Reliability(
        bins=parts,
        ece=_gap(parts),
        ace=_gap(_bins(score, right, masses)),
        brier=_mean((score - right) ** 2),
        count=len(score),
        confidence=_mean(score),
        precision=_mean(right),
    )


def find_thresholds(
    scores: ArrayLike,
    correct: ArrayLike,
    labels: Sequence[str],
    *,
    precision: float,
    support: Mapping[str, int],
    least: int = 10,
) -> dict[str, Threshold]:
    """The smallest score of each label from which its names reach a precision.

    A threshold is taken from few names and would be chosen for their luck: what counts is not the share that is right among the
    names from a score on, but the lower end of its Wilson interval (1927) of one standard error (z = 1, one-sided 84 %), for at
    least ``least`` names.

    Args:
        scores: of the predicted names of a development set; (names,).
        correct: whether each is strictly right; (names,).
        labels: the label of each; (names,).
        precision: the wanted share of right names, in (0, 1).
        support: gold names by label; every label in it gets an answer, as does every predicted one.
        least: the fewest predicted names that can show anything.

    Returns:
        By label, sorted.

    Raises:
        InputError: the inputs differ in length, a score is no probability, or the precision cannot be wanted.
    """
    score, right = _checked(scores, correct)
    if len(labels) != len(score):
        raise InputError(f"{len(score)} scores and {len(labels)} labels", expected="one label a name")
    check_precision(precision)
    names = np.array(labels, dtype=object)
    return {
        label: _threshold(score[names == label], right[names == label], precision, support.get(label, 0), least)
        for label in sorted({*labels, *support})
    }


def check_precision(precision: float) -> None:
    """Fail where a precision cannot be wanted of :func:`find_thresholds`.

    Raises:
        InputError: it is not in (0, 1).
    """
    if not 0.0 < precision < 1.0:
        raise InputError(
            f"precision {precision:g}",
            expected="a share between 0 and 1, such as 0.9",
            remedy="no finite sample can show a precision of 1; ask for 0.99 or less",
        )


def wilson_lower_bound(right: ArrayLike, count: ArrayLike, *, z: float = 1.0) -> np.ndarray:
    """The lower end of Wilson's score interval (1927) of a share.

    Args:
        right: successes.
        count: trials, at least 1 each; of the same shape.
        z: half the interval's width in standard errors.
    """
    n = np.asarray(count, dtype=np.float64)
    share = np.asarray(right, dtype=np.float64) / n
    margin = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (share + z**2 / (2 * n) - margin) / (1 + z**2 / n)


def _threshold(score: np.ndarray, right: np.ndarray, precision: float, support: int, least: int) -> Threshold:
    order = np.argsort(-score)
    score, hits = score[order], np.cumsum(right[order])
    count = np.arange(1, len(score) + 1)
    # A threshold cannot part equal scores.
    ends = np.append(score[1:] != score[:-1], True)[: len(score)]
    reached = np.flatnonzero(ends & (count >= least) & (wilson_lower_bound(hits, count) >= precision))
    value = float(score[reached[-1]]) if len(reached) else None
    kept = int(reached[-1]) + 1 if len(reached) else len(score)
    found = float(hits[kept - 1]) if kept else 0.0
    return Threshold(value, found / kept if kept else 0.0, found / support if support else 0.0, support)


def _bins(score: np.ndarray, right: np.ndarray, edges: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """Names by score in bins that are open below and closed above; ``edges`` are ascending."""
    at = np.searchsorted(edges[1:-1], score, side="left")
    parts = []
    for index, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        inside = at == index
        parts.append(ReliabilityBin(low, high, int(inside.sum()), _mean(score[inside]), _mean(right[inside])))
    return tuple(parts)


def _gap(bins: Sequence[ReliabilityBin]) -> float:
    count = sum(part.count for part in bins)
    return sum(part.count * abs(part.gap) for part in bins) / count if count else 0.0


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0


def _checked(scores: ArrayLike, correct: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    score, right = np.asarray(scores, dtype=np.float64).ravel(), np.asarray(correct, dtype=np.float64).ravel()
    if len(score) != len(right):
        raise InputError(f"{len(score)} scores and {len(right)} outcomes", expected="one outcome a name")
    # Written so that NaN is outside too.
    if (outside := score[~((score >= 0.0) & (score <= 1.0))]).size:
        raise InputError(
            f"score {outside[0]:g}",
            expected="probabilities from 0 to 1",
            remedy="turn the system's scores into probabilities, or leave them out",
        )
    return score, right
