"""Confidence intervals: what they hold, and their ends, from figures that were resampled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, stdtrit

from musamma.evaluation.counting import Layout


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends of a confidence interval: of a ratio in [0, 1], of a difference of ratios in [-1, 1]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """The intervals of precision, recall and F1."""

    precision: Interval
    recall: Interval
    f1: Interval

    def to_dict(self) -> dict[str, list[float]]:
        """The intervals as JSON, each as ``[low, high]``."""
        sides = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: [interval.low, interval.high] for name, interval in sides.items()}


def percentile_ends(replicates: np.ndarray, documents: np.ndarray, level: float) -> np.ndarray:
    """The ends of percentile intervals, widened for few documents (Hesterberg 2015).

    Args:
        replicates: resampled figures, (..., resamples); they are sorted in place.
        documents: how many documents each figure comes from, (...).
        level: of the interval, in (0, 1).

    Returns:
        Lower and upper ends, (..., 2).
    """
    replicates.sort(axis=-1)
    last = replicates.shape[-1] - 1
    k = np.maximum(documents, 2)
    position = last * ndtr(stdtrit(k - 1, (1 - level) / 2) * np.sqrt(k / (k - 1)))
    ends = []
    for at in (position, last - position):
        below = np.floor(at).astype(np.int64)
        around = np.stack([below, np.minimum(below + 1, last)], axis=-1)
        low, high = np.moveaxis(np.take_along_axis(replicates, around, axis=-1), -1, 0)
        ends.append(low + (at - below) * (high - low))
    return np.stack(ends, axis=-1)


def with_label_doubts(ends: np.ndarray, figures: np.ndarray, layout: Layout) -> np.ndarray:
    """The ends, those of means over labels widened to the root of the squared reaches of their labels (Zou and Donner 2008).

    Args:
        ends: lower and upper ends, (..., rows, 2).
        figures: what they are the ends of, (..., rows).
        layout: of the rows.
    """
    widened = ends.copy()
    reach = ends - figures[..., None]
    for index, (_, labels) in enumerate(layout.means, ends.shape[-2] - len(layout.means)):
        if labels:
            together = np.sqrt((reach[..., labels, :] ** 2).sum(axis=-2)) / len(labels)
            mean = figures[..., index]
            widened[..., index, 0] = np.minimum(ends[..., index, 0], mean - together[..., 0])
            widened[..., index, 1] = np.maximum(ends[..., index, 1], mean + together[..., 1])
    return widened
