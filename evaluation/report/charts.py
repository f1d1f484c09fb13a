"""Shapes of the charts, in the units of their SVG; the templates only draw them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from musamma.evaluation.error_analysis import ConfusionMatrix
from musamma.evaluation.reliability import Reliability

#: Side of the square in which the reliability of scores is drawn.
SIDE = 200

#: Shades of the confusion matrix, from none to full.
SHADES = 6


@dataclass(frozen=True, slots=True)
class Bar:
    """A bin of scores: what lies above ``precision`` up to ``confidence`` is trust that was not earned.

    Args:
        x: left side.
        width: of the bar.
        y: upper side; the chart's origin is its upper left corner.
        height: down to the axis.
        mean: horizontal place of the bin's mean score.
        count: names in it.
        share: height of the count's own bar, of :data:`SIDE` for the fullest bin.
    """

    x: float
    width: float
    y: float
    height: float
    mean: float
    count: int
    share: float


def reliability_bars(reliability: Reliability) -> list[Bar]:
    """The bins that hold names."""
    fullest = max((part.count for part in reliability.bins), default=0)
    return [
        Bar(
            x=round(SIDE * part.low, 2),
            width=round(SIDE * (part.high - part.low), 2),
            y=round(SIDE * (1 - part.precision), 2),
            height=round(SIDE * part.precision, 2),
            mean=round(SIDE * part.confidence, 2),
            count=part.count,
            share=round(SIDE * part.count / fullest, 2),
        )
        for part in reliability.bins
        if part.count
    ]


def shades(confusion: ConfusionMatrix) -> list[list[int]]:
    """The shade of every cell, 0 for none up to :data:`SHADES`, by the root of its share of the row.

    The root, rounded up, lets a few errors among many names be seen.
    """
    shares = confusion.matrix / np.maximum(1, confusion.matrix.sum(axis=1, keepdims=True))
    return [[int(shade) for shade in row] for row in np.ceil(SHADES * np.sqrt(shares))]
