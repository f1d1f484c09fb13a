"""Confidence intervals and comparisons of systems, by resampling whole documents.

Names of one document are not independent: a form that a system does not know is missed every time. So documents are drawn,
not names, and each metric is computed from the counts of the documents drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.special import ndtr, stdtrit

from musamma.data.errors import InputError, not_one_of
from musamma.evaluation.counts import MACRO, CountTable, MetricLayout, align_tables

#: With fewer documents, intervals are too narrow, as measured in ``docs/significance.md``.
FEW_DOCUMENTS = 10

#: Maximum number of draws in memory at once (32 MiB as float64), and of resamples in memory at once.
_DRAWS_PER_BATCH, _RESAMPLES_PER_BATCH = 1 << 22, 1 << 10

#: Index of F1 in arrays of metrics.
_F1 = 2


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends of a confidence interval, of a ratio in [0, 1] or of a difference of ratios in [-1, 1]."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Intervals:
    """The intervals of precision, recall and F1."""

    precision: Interval
    recall: Interval
    f1: Interval

    def to_dict(self) -> dict[str, list[float]]:
        """Return the intervals as JSON, each as ``[low, high]``."""
        intervals = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {name: [interval.low, interval.high] for name, interval in intervals.items()}


@dataclass(frozen=True, slots=True)
class Comparison:
    """The F1 of two systems on the same documents.

    Args:
        row: the row of the count tables, or ``MODE/macro``.
        first: F1 of the first system, in [0, 1].
        second: F1 of the second system.
        difference: ``second - first``.
        interval: the confidence interval of the difference.
        p_value: two-sided, in (0, 1]: the probability of a difference at least as large between equal systems.
    """

    row: str
    first: float
    second: float
    difference: float
    interval: Interval
    p_value: float

    @property
    def mode(self) -> str:
        """The mode of the row."""
        return self.row.partition("/")[0]

    @property
    def label(self) -> str | None:
        """The label of the row; ``None`` for a row of all labels together."""
        label = self.row.partition("/")[2]
        return None if label in ("", MACRO) else label

    def is_significant(self, level: float) -> bool:
        """Tell whether the systems differ significantly, for a confidence level such as 0.95."""
        return self.p_value < round(1 - level, 10)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON, the interval as ``[low, high]``."""
        return {**asdict(self), "interval": [self.interval.low, self.interval.high]}


def bootstrap_intervals(
    table: CountTable, *, resamples: int = 10_000, level: float = 0.95, seed: int = 1
) -> dict[str, Intervals]:
    """Compute confidence intervals by the bootstrap over documents (Efron 1979), widened for few documents.

    The ends of an interval are percentiles of the resampled metrics. The lower one is the percentile
    ``Phi(t * sqrt(k / (k - 1)))``, where t is the lower quantile of Student's distribution with k - 1 degrees of freedom and
    Phi the normal distribution (Hesterberg 2015, "What teachers should know about the bootstrap"). k is the number of
    documents that add to the metric's denominator, so a label that occurs in few documents gets a wide interval.

    Two cases cannot be resampled:

    - All names are correct, or none is: the interval ends at the bound of Clopper and Pearson (1934) for that number of names.
    - Fewer than two documents add to the denominator: the interval is [0, 1], since nothing is known.

    The interval of a mean over labels is at least as wide as it would be for independent labels (Zou and Donner 2008).

    In a resample, a ratio with denominator 0 is 0.0, and a label without names is left out of the mean. The result depends on
    the counts, the ids of the documents and the seed. It does not depend on the order of the documents or on other rows.

    Args:
        table: the counts of every document.
        resamples: number of resamples. Each draws as many documents as the table has, with replacement.
        level: the confidence level, in (0, 1).
        seed: seed of the draws.

    Returns:
        Intervals by row, and by ``MODE/macro`` for the mean over a mode's labels. Peak memory: about 30 bytes per row and
        resample, and 32 MiB.

    Raises:
        InputError: ``resamples`` or ``level`` is out of range.
    """
    _check_options(resamples, level)
    layout = MetricLayout.for_table(table)
    counts = layout.count_array(table)
    denominators = layout.denominators(counts)
    document_counts = (denominators > 0).sum(axis=-1)
    draws = _draw_documents(len(table.documents), resamples, seed)
    replicates = _replicate(lambda drawn: layout.metrics(counts @ drawn), draws, resamples)
    ends = percentile_interval(replicates, document_counts, level)
    metrics = layout.metrics(counts.sum(axis=-1))
    all_correct, none_correct = metrics == 1, metrics == 0
    with np.errstate(divide="ignore"):
        bounds = 1 - ((1 - level) / 2) ** (1 / denominators.sum(axis=-1))
    ends[all_correct, 0], ends[all_correct, 1] = 1 - bounds[all_correct], 1.0
    ends[none_correct, 0], ends[none_correct, 1] = 0.0, bounds[none_correct]
    ends[document_counts < 2] = 0.0, 1.0
    ends = np.clip(widen_macro_intervals(ends, metrics, layout), 0.0, 1.0)
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

    The p-value is that of paired approximate randomisation (Noreen 1989, Yeh 2000): if the systems are equal, a document's
    predictions could come from either. R times, the predictions for each document are swapped with probability 1/2. If the
    difference in F1 is at least as large as the observed one in k of the R cases, p = (k + 1) / (R + 1). The interval of the
    difference is computed as in :func:`bootstrap_intervals`, with both systems scored on the same draws. It is [-1, 1] with
    fewer than two documents.

    Args:
        first: the counts of the first system.
        second: the counts of the second system. A label that one table lacks was never predicted by that system.
        rows: the rows to compare, ``MODE/macro`` included; all by default.
        resamples: R, and the number of draws for the interval.
        level: the confidence level of the interval, in (0, 1).
        seed: seed of the swaps and of the draws.

    Returns:
        One comparison per row, in the order of ``rows``.

    Raises:
        InputError: the tables differ in documents, modes or gold names, a row is unknown, or ``resamples`` or ``level`` is out
            of range.
    """
    _check_options(resamples, level)
    first, second = align_tables(first, second)
    layout = MetricLayout.for_table(first)
    selected = layout.rows if rows is None else tuple(rows)
    if unknown := [row for row in selected if row not in layout.rows]:
        raise not_one_of("row", unknown[0], layout.rows)
    counts = layout.count_array(first), layout.count_array(second)

    def f1_difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return layout.metrics(second)[_F1] - layout.metrics(first)[_F1]

    totals = counts[0].sum(axis=-1), counts[1].sum(axis=-1)
    observed = f1_difference(*totals)

    def difference_after_swaps(swaps: np.ndarray) -> np.ndarray:
        moved = (counts[1] - counts[0]) @ swaps
        return f1_difference(totals[0][..., None] + moved, totals[1][..., None] - moved)

    swaps = _draw_swaps(len(first.documents), resamples, seed)
    swapped = np.abs(_replicate(difference_after_swaps, swaps, resamples))
    extreme = (
        swapped >= np.abs(observed)[:, None] - 1e-12
    )  # The tolerance covers rounding: sums in another order may differ in the last digit.
    p_values = (extreme.sum(axis=-1) + 1) / (resamples + 1)
    draws = _draw_documents(len(first.documents), resamples, seed)
    replicates = _replicate(lambda drawn: f1_difference(counts[0] @ drawn, counts[1] @ drawn), draws, resamples)
    document_counts = (layout.denominators(counts[0] + counts[1])[_F1] > 0).sum(axis=-1)
    ends = percentile_interval(replicates, document_counts, level)
    ends[document_counts < 2] = -1.0, 1.0
    ends = np.clip(widen_macro_intervals(ends, observed, layout), -1.0, 1.0)
    f1 = [layout.metrics(total)[_F1] for total in totals]
    comparisons = {
        row: Comparison(
            row=row,
            first=float(f1[0][index]),
            second=float(f1[1][index]),
            difference=float(observed[index]),
            interval=Interval(*map(float, ends[index])),
            p_value=float(p_values[index]),
        )
        for index, row in enumerate(layout.rows)
    }
    return [comparisons[row] for row in selected]


def adjust_holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for multiple tests, so that the chance of even one false alarm stays below the level (Holm 1979).

    Holm's method holds for tests that depend on each other in any way, as those of a system's labels do. The method of Benjamini
    and Hochberg, which bounds the share of false alarms, needs assumptions on the dependence.
    """
    order = np.argsort(p_values, kind="stable")
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(np.asarray(p_values)[order] * np.arange(len(order), 0, -1))
    return [float(value) for value in np.minimum(adjusted, 1.0)]


def adjust_label_p_values(comparisons: Iterable[Comparison]) -> dict[str, float]:
    """Adjust the p-values of labels for the number of labels compared in the same mode, by Holm's method.

    Returns:
        The adjusted p-values by row, without the rows of all labels together.
    """
    by_mode: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        if comparison.label is not None:
            by_mode.setdefault(comparison.mode, []).append(comparison)
    return {
        comparison.row: p_value
        for labels in by_mode.values()
        for comparison, p_value in zip(labels, adjust_holm([one.p_value for one in labels]), strict=True)
    }


def resampling_warning(table: CountTable, *, sentences: int = 0) -> str | None:
    """Return a warning if intervals are based on too few documents or on sentences; otherwise ``None``.

    Args:
        table: the counts of every document.
        sentences: number of sentences that a document consists of; 0 if documents are whole articles.
    """
    document_count = int((table.counts > 0).any(axis=(1, 2)).sum())
    if document_count >= FEW_DOCUMENTS and not sentences:
        return None
    if document_count >= FEW_DOCUMENTS:
        return (
            f"every {'sentence is' if sentences == 1 else f'{sentences} sentences are'} a document: sentences of one article "
            "count as independent, so that intervals are too narrow and p-values too small; give articles as documents "
            "(0 sentences per document where -DOCSTART- separates articles)"
        )
    if document_count < 2:
        number = "1 document with names" if document_count else "no document with names"
        return f"{number}: nothing is known of how documents differ; give the documents of the corpus one by one"
    return (
        f"{document_count} documents with names: intervals over so few are too narrow, "
        f"and no p-value can fall below {2.0 ** (1 - document_count):.2g}"
    )


def percentile_interval(replicates: np.ndarray, document_counts: np.ndarray, level: float) -> np.ndarray:
    """Return the ends of percentile intervals, widened for few documents (Hesterberg 2015).

    Args:
        replicates: resampled metrics, (..., resamples); sorted in place.
        document_counts: number of documents on which each metric is based, (...).
        level: the confidence level, in (0, 1).

    Returns:
        Lower and upper ends, (..., 2).
    """
    replicates.sort(axis=-1)
    last = replicates.shape[-1] - 1
    k = np.maximum(document_counts, 2)
    position = last * ndtr(stdtrit(k - 1, (1 - level) / 2) * np.sqrt(k / (k - 1)))
    ends = []
    for rank in (position, last - position):
        below = np.floor(rank).astype(np.int64)
        neighbours = np.stack([below, np.minimum(below + 1, last)], axis=-1)
        low, high = np.moveaxis(np.take_along_axis(replicates, neighbours, axis=-1), -1, 0)
        ends.append(low + (rank - below) * (high - low))
    return np.stack(ends, axis=-1)


def widen_macro_intervals(ends: np.ndarray, metrics: np.ndarray, layout: MetricLayout) -> np.ndarray:
    """Widen the intervals of means over labels, as if the labels were independent (Zou and Donner 2008).

    On each side the half-width becomes at least the root of the sum of the labels' squared half-widths, divided by the number
    of labels.

    Args:
        ends: lower and upper ends, (..., rows, 2).
        metrics: the metrics to which the ends belong, (..., rows).
        layout: the layout of the rows.
    """
    widened = ends.copy()
    half_widths = ends - metrics[..., None]
    for index, (_, labels) in enumerate(layout.macros, ends.shape[-2] - len(layout.macros)):
        if labels:
            combined = np.sqrt((half_widths[..., labels, :] ** 2).sum(axis=-2)) / len(labels)
            mean = metrics[..., index]
            widened[..., index, 0] = np.minimum(ends[..., index, 0], mean - combined[..., 0])
            widened[..., index, 1] = np.maximum(ends[..., index, 1], mean + combined[..., 1])
    return widened


def _replicate(
    statistic: Callable[[np.ndarray], np.ndarray], batches: Iterable[np.ndarray], resamples: int
) -> np.ndarray:
    """Compute a statistic of each resample, batch by batch; (..., resamples)."""
    replicates, done = np.empty(0), 0
    for batch in batches:
        values = statistic(batch)
        if not done:
            replicates = np.empty((*values.shape[:-1], resamples))
        replicates[..., done : done + values.shape[-1]] = values
        done += values.shape[-1]
    return replicates


def _draw_documents(document_count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield how often each document is drawn, (documents, resamples), in batches."""
    for rng, size in _batches(document_count, resamples, seed):
        drawn = (
            rng.integers(0, document_count, size=(size, document_count))
            if document_count
            else np.empty((size, 0), dtype=np.int64)
        )
        drawn += document_count * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).T.astype(np.float64)


def _draw_swaps(document_count: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Yield 1 for each document that is swapped and 0 for the others, (documents, resamples), in batches."""
    for rng, size in _batches(document_count, resamples, seed):
        yield rng.integers(0, 2, size=(size, document_count), dtype=np.int8).T.astype(np.float64)


def _batches(document_count: int, resamples: int, seed: int) -> Iterator[tuple[np.random.Generator, int]]:
    rng = np.random.default_rng(seed)
    batch_size = max(1, min(_RESAMPLES_PER_BATCH, _DRAWS_PER_BATCH // max(1, document_count)))
    for done in range(0, resamples, batch_size):
        yield rng, min(batch_size, resamples - done)


def _check_options(resamples: int, level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level {level}", expected="a share between 0 and 1, usually 0.95")
    # With fewer resamples the tails of the interval are empty, and no p-value can be as small as a tail.
    if resamples < (minimum := round(2 / (1 - level))):
        raise InputError(f"{resamples} resamples", expected=f"{minimum} or more, usually 10000")
