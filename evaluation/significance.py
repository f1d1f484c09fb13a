"""Intervals and comparisons by resampling whole documents.

Names of one document stand and fall together: a form that a system does not know is missed every time. So documents are
drawn, not names, and a figure is computed anew from the counts of those that were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtrit

from musamma.data.errors import InputError
from musamma.evaluation.counts import CountTable, MetricLayout, align_tables

#: With fewer documents than this, intervals are too narrow: measured, see ``docs/significance.md``.
FEW_DOCUMENTS = 10

#: How many draws of a document are held at once (32 MiB as float64), and in how many resamples at most.
_BATCH, _RESAMPLES = 1 << 22, 1 << 10

_F1 = 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """The F1 of two systems on the same documents.

    Args:
        row: the row of the count tables, or ``MODE/macro``.
        first: F1 of the first system, in [0, 1].
        second: F1 of the second.
        difference: ``second - first``.
        interval: the confidence interval of the difference.
        p_value: two-sided, in (0, 1]: how often two systems that are alike would differ by as much.
    """

    row: str
    first: float
    second: float
    difference: float
    interval: Interval
    p_value: float

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON; the interval as ``[low, high]``."""
        return {**asdict(self), "interval": [self.interval.low, self.interval.high]}


def bootstrap(
    table: CountTable, *, resamples: int = 10_000, level: float = 0.95, seed: int = 1
) -> dict[str, Intervals]:
    """Confidence intervals by the bootstrap over documents (Efron 1979), with its percentiles widened for few documents.

    With k documents the tails are cut off at the normal probability of ``t * sqrt(k / (k - 1))``, t of k - 1 degrees of
    freedom (Hesterberg 2015, "What teachers should know about the bootstrap"). k counts the documents with names below the
    figure's line, so that the interval of a label is as wide as the few documents that have it ask for. Where resampling
    has nothing to go by:

    - every name is right, or none: the bound of Clopper and Pearson (1934) for as many names;
    - fewer than two documents have such names: [0, 1], for nothing is known.

    The mean over labels is as doubtful as they are: its interval reaches at least as far as theirs do when they are taken
    to be independent (Zou and Donner 2008).

    In a resample a ratio with nothing below the line is 0.0, and a label without names is not part of the mean. The outcome
    depends on the counts, the documents' ids and the seed, neither on the order of the documents nor on other rows.

    Args:
        table: the counts of every document.
        resamples: how many times documents are drawn, with replacement, as many as there are.
        level: how often such an interval should hold the true figure, in (0, 1).
        seed: of the draws.

    Returns:
        Intervals by row, and by ``MODE/macro`` for the mean over the labels of a mode. Memory while at work: about 30 bytes
        a row and resample, and 32 MiB.

    Raises:
        InputError: ``resamples`` or ``level`` cannot be.
    """
    _check(resamples, level)
    layout = MetricLayout.for_table(table)
    counts = layout.count_array(table)
    names = layout.denominators(counts)
    documents = (names > 0).sum(axis=-1)
    draws = _draws(len(table.documents), resamples, seed)
    replicates = _replicates(lambda drawn: layout.metrics(counts @ drawn), draws, resamples)
    ends = percentile_interval(replicates, documents, level)
    figures = layout.metrics(counts.sum(axis=-1))
    right, wrong = figures == 1, figures == 0
    with np.errstate(divide="ignore"):
        bounds = 1 - ((1 - level) / 2) ** (1 / names.sum(axis=-1))
    ends[right, 0], ends[right, 1] = 1 - bounds[right], 1.0
    ends[wrong, 0], ends[wrong, 1] = 0.0, bounds[wrong]
    ends[documents < 2] = 0.0, 1.0
    ends = np.clip(widen_macro_intervals(ends, figures, layout), 0.0, 1.0)
    return {
        row: Intervals(*(Interval(*map(float, pair)) for pair in ends[:, index]))
        for index, row in enumerate(layout.rows)
    }


def compare_systems(
    first: CountTable,
    second: CountTable,
    *,
    rows: Sequence[str] | None = None,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 1,
) -> list[Comparison]:
    """Compare the F1 of two systems on the same documents.

    The p-value is that of paired approximate randomisation (Noreen 1989, Yeh 2000): if the systems are alike, it does not
    matter which of them a document's predictions come from. They are swapped, document by document, with probability 1/2;
    where k of R such swaps differ in F1 by at least as much as the systems do, p = (k + 1) / (R + 1). The interval of the
    difference is that of :func:`bootstrap`, both systems scored on the same draws; [-1, 1] with fewer than two documents.

    Args:
        first: the counts of the first system.
        second: those of the second. A label that one side has not is one that it predicted nowhere.
        rows: what to compare, ``MODE/macro`` included; everything by default.
        resamples: R, and the number of draws for the interval.
        level: of the interval, in (0, 1).
        seed: of both.

    Returns:
        One comparison a row, in the order of ``rows``.

    Raises:
        InputError: the tables differ in documents, modes or gold names, a row is unknown, ``resamples`` or ``level`` cannot be.
    """
    _check(resamples, level)
    first, second = align_tables(first, second)
    layout = MetricLayout.for_table(first)
    chosen = layout.rows if rows is None else tuple(rows)
    if unknown := [row for row in chosen if row not in layout.rows]:
        raise InputError(f"row {unknown[0]!r}", expected=f"one of {', '.join(layout.rows)}")
    ours, theirs = layout.count_array(first), layout.count_array(second)

    def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return layout.metrics(other)[_F1] - layout.metrics(one)[_F1]

    totals = ours.sum(axis=-1), theirs.sum(axis=-1)
    observed = difference(*totals)

    def swapped(swaps: np.ndarray) -> np.ndarray:
        moved = (theirs - ours) @ swaps
        return difference(totals[0][..., None] + moved, totals[1][..., None] - moved)

    apart = np.abs(_replicates(swapped, _swaps(len(first.documents), resamples, seed), resamples))
    extreme = apart >= np.abs(observed)[:, None] - 1e-12  # Sums in another order may differ in the last digit.
    p_values = (extreme.sum(axis=-1) + 1) / (resamples + 1)
    draws = _draws(len(first.documents), resamples, seed)
    replicates = _replicates(lambda drawn: difference(ours @ drawn, theirs @ drawn), draws, resamples)
    documents = (layout.denominators(ours + theirs)[_F1] > 0).sum(axis=-1)
    ends = percentile_interval(replicates, documents, level)
    ends[documents < 2] = -1.0, 1.0
    ends = np.clip(widen_macro_intervals(ends, observed, layout), -1.0, 1.0)
    figures = [layout.metrics(total)[_F1] for total in totals]
    found = {
        row: Comparison(
            row=row,
            first=float(figures[0][index]),
            second=float(figures[1][index]),
            difference=float(observed[index]),
            interval=Interval(*map(float, ends[index])),
            p_value=float(p_values[index]),
        )
        for index, row in enumerate(layout.rows)
    }
    return [found[row] for row in chosen]


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several (Holm 1979): the chance of any false alarm among them stays below the level.

    Unlike Benjamini and Hochberg's, which bounds the share of false alarms, this needs nothing of how the tests depend on
    each other, and labels of one system do.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    return [float(value) for value in np.minimum(adjusted, 1.0)]


def resampling_warning(table: CountTable, *, sentences: int = 0) -> str | None:
    """What to say of a table whose documents are too few for its intervals, or no documents; ``None`` where all is well.

    Args:
        table: the counts of every document.
        sentences: how many sentences of a file make a document, where it is cut by their number; 0 for whole documents.
    """
    documents = int((table.counts > 0).any(axis=(1, 2)).sum())
    if documents >= FEW_DOCUMENTS and not sentences:
        return None
    if documents >= FEW_DOCUMENTS:
        return (
            f"every {'sentence is' if sentences == 1 else f'{sentences} sentences are'} a document: sentences of one article "
            "count as independent, so that intervals are too narrow and p-values too small; give articles as documents "
            "(--sentences 0 where -DOCSTART- parts them)"
        )
    if documents < 2:
        found = "1 document with names" if documents else "no document with names"
        return f"{found}: nothing is known of how documents differ; give the documents of the corpus one by one"
    return (
        f"{documents} documents with names: intervals over so few are too narrow, "
        f"and no p-value can fall below {2.0 ** (1 - documents):.2g}"
    )


def _replicates(
    statistic: Callable[[np.ndarray], np.ndarray], batches: Iterable[np.ndarray], resamples: int
) -> np.ndarray:
    replicates, done = np.empty(0), 0
    for batch in batches:
        values = statistic(batch)
        if not done:
            replicates = np.empty((*values.shape[:-1], resamples))
        replicates[..., done : done + values.shape[-1]] = values
        done += values.shape[-1]
    return replicates


def _draws(documents: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """How often each document is drawn, (documents, resamples), in batches."""
    for rng, size in _batches(documents, resamples, seed):
        drawn = rng.integers(0, documents, size=(size, documents)) if documents else np.empty((size, 0), dtype=np.int64)
        drawn += documents * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).T.astype(np.float64)


def _swaps(documents: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Whether each document is swapped, 0 or 1, (documents, resamples), in batches."""
    for rng, size in _batches(documents, resamples, seed):
        yield rng.integers(0, 2, size=(size, documents), dtype=np.int8).T.astype(np.float64)


def _batches(documents: int, resamples: int, seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    rng = np.random.default_rng(seed)
    most = max(1, min(_RESAMPLES, _BATCH // max(1, documents)))
    for done in range(0, resamples, most):
        yield rng, min(most, resamples - done)


def _check(resamples: int, level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level {level}", expected="a share between 0 and 1, as a rule 0.95")
    # With fewer there is not one resample in a tail, and no p-value as small as a tail.
    if resamples < (least := round(2 / (1 - level))):
        raise InputError(f"{resamples} resamples", expected=f"{least} or more, as a rule 10000")


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


def percentile_interval(replicates: np.ndarray, documents: np.ndarray, level: float) -> np.ndarray:
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


def widen_macro_intervals(ends: np.ndarray, figures: np.ndarray, layout: MetricLayout) -> np.ndarray:
    """The ends, those of means over labels widened to the root of the squared reaches of their labels (Zou and Donner 2008).

    Args:
        ends: lower and upper ends, (..., rows, 2).
        figures: what they are the ends of, (..., rows).
        layout: of the rows.
    """
    widened = ends.copy()
    reach = ends - figures[..., None]
    for index, (_, labels) in enumerate(layout.macros, ends.shape[-2] - len(layout.macros)):
        if labels:
            together = np.sqrt((reach[..., labels, :] ** 2).sum(axis=-2)) / len(labels)
            mean = figures[..., index]
            widened[..., index, 0] = np.minimum(ends[..., index, 0], mean - together[..., 0])
            widened[..., index, 1] = np.maximum(ends[..., index, 1], mean + together[..., 1])
    return widened
