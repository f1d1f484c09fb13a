"""Score thresholds: the score of each label from which its predicted names are precise enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from musamma.data.errors import InputError
from musamma.evaluation.reliability import check_scores


@dataclass(frozen=True, slots=True)
class Threshold:
    """The score from which a label's predicted names are precise enough.

    Args:
        value: retain names with at least this score; ``None`` if no score is shown to be high enough.
        precision: share of the retained names that is correct; of all names if ``value`` is ``None``.
        recall: share of the gold names that is retained and correct; of all names if ``value`` is ``None``.
        support: number of gold names of the label.
    """

    value: float | None
    precision: float
    recall: float
    support: int


def find_thresholds(
    scores: ArrayLike,
    correct: ArrayLike,
    labels: Sequence[str],
    *,
    precision: float,
    support: Mapping[str, int],
    min_names: int = 10,
) -> dict[str, Threshold]:
    """Find the lowest score of each label from which its names reach a precision.

    The names are few, so the plain share of correct names would often reach the precision by luck. Instead, the lower bound of
    the share's Wilson interval (1927) at one standard error (z = 1, one-sided 84 %) must reach it, over at least ``min_names``
    names.

    Args:
        scores: the scores of the predicted names of a development set; (names,).
        correct: True or 1 for each name that is strictly correct; (names,).
        labels: the label of each name; (names,).
        precision: the target share of correct names, in (0, 1).
        support: number of gold names by label. Every label in it gets a threshold, as does every predicted label.
        min_names: the smallest number of predicted names that can show a precision.

    Returns:
        The thresholds by label, sorted.

    Raises:
        InputError: the inputs differ in length, a score is not a probability, or ``precision`` is outside (0, 1).
    """
    score, outcome = check_scores(scores, correct)
    if len(labels) != len(score):
        raise InputError(f"{len(score)} scores and {len(labels)} labels", expected="one label per name")
    check_precision(precision)
    names = np.array(labels, dtype=object)
    return {
        label: _find_threshold(
            score[names == label], outcome[names == label], precision, support.get(label, 0), min_names
        )
        for label in sorted({*labels, *support})
    }


def check_precision(precision: float) -> None:
    """Check that a precision can be the target of :func:`find_thresholds`.

    Raises:
        InputError: the precision is outside (0, 1).
    """
    if not 0.0 < precision < 1.0:
        raise InputError(
            f"precision {precision:g}",
            expected="a share between 0 and 1, such as 0.9",
            remedy="no finite sample can show a precision of 1; ask for 0.99 or less",
        )


def wilson_lower_bound(successes: ArrayLike, trials: ArrayLike, *, z: float = 1.0) -> np.ndarray:
    """Return the lower bound of Wilson's score interval (1927) of a share.

    Args:
        successes: number of successes.
        trials: number of trials, at least 1 each; of the same shape.
        z: half the width of the interval in standard errors.
    """
    n = np.asarray(trials, dtype=np.float64)
    share = np.asarray(successes, dtype=np.float64) / n
    margin = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return (share + z**2 / (2 * n) - margin) / (1 + z**2 / n)


def _find_threshold(
    score: np.ndarray, outcome: np.ndarray, precision: float, support: int, min_names: int
) -> Threshold:
    order = np.argsort(-score)
    score, correct = score[order], np.cumsum(outcome[order])
    count = np.arange(1, len(score) + 1)
    # A threshold cannot separate equal scores, so it can only be the last of a run of them.
    ends = np.append(score[1:] != score[:-1], True)[: len(score)]
    reached = np.flatnonzero(ends & (count >= min_names) & (wilson_lower_bound(correct, count) >= precision))
    value = float(score[reached[-1]]) if len(reached) else None
    retained = int(reached[-1]) + 1 if len(reached) else len(score)
    retained_correct = float(correct[retained - 1]) if retained else 0.0
    return Threshold(
        value,
        precision=retained_correct / retained if retained else 0.0,
        recall=retained_correct / support if support else 0.0,
        support=support,
    )
