"""Scores of an analysis as table rows with confidence intervals, and the format of their numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from musamma.evaluation.counts import GOLD, PREDICTED, SLICE_PREFIX, Counts
from musamma.evaluation.matching import STRICT
from musamma.evaluation.metrics import Average
from musamma.evaluation.significance import FEW_DOCUMENTS, Interval, Intervals

if TYPE_CHECKING:
    from musamma.evaluation.analysis import Analysis

MICRO, MACRO = "micro", "macro"

_MAX_WEAK_SLICES = 5


@dataclass(frozen=True, slots=True)
class ScoreCell:
    """A ratio in [0, 1], its interval if there is one, and whether there are enough names to show it."""

    value: float
    interval: Interval | None
    enough: bool = True


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """Precision, recall and F1 with their intervals, in [0, 1].

    Args:
        name: the mode, label, layer or slice, as in the data.
        scores: the counts, or the average of labels.
        intervals: their intervals, if there are any.
        enough: whether there are enough gold names for recall and F1.
        enough_predicted: whether there are enough predicted names for precision.
    """

    name: str
    scores: Counts | Average
    intervals: Intervals | None = None
    enough: bool = True
    enough_predicted: bool = True

    @property
    def cells(self) -> tuple[ScoreCell, ScoreCell, ScoreCell]:
        """Precision, recall and F1."""
        scores, intervals = self.scores, self.intervals
        return (
            ScoreCell(scores.precision, intervals.precision if intervals else None, self.enough_predicted),
            ScoreCell(scores.recall, intervals.recall if intervals else None, self.enough),
            ScoreCell(scores.f1, intervals.f1 if intervals else None, self.enough),
        )


def overall_row(analysis: Analysis) -> ScoreRow:
    """Strict scores of all labels."""
    return ScoreRow(STRICT, analysis.scores.strict.micro, _intervals(analysis, STRICT))


def mode_rows(analysis: Analysis) -> list[ScoreRow]:
    """Scores by mode."""
    return [ScoreRow(mode, scores.micro, _intervals(analysis, mode)) for mode, scores in analysis.scores.modes.items()]


def label_rows(analysis: Analysis) -> list[ScoreRow]:
    """Strict scores by label, most frequent label first."""
    labels = sorted(analysis.scores.strict.per_label.items(), key=lambda item: (-item[1].support, item[0]))
    return [ScoreRow(label, counts, _intervals(analysis, f"{STRICT}/{label}")) for label, counts in labels]


def total_rows(analysis: Analysis) -> list[ScoreRow]:
    """Strict micro and macro scores."""
    strict = analysis.scores.strict
    macro = ScoreRow(MACRO, strict.macro, analysis.intervals.get(f"{STRICT}/{MACRO}"))
    return [ScoreRow(MICRO, strict.micro, _intervals(analysis, STRICT)), macro]


def layer_rows(analysis: Analysis) -> list[ScoreRow]:
    """Strict scores by layer of nested names; empty if there is only one layer."""
    layers = analysis.scores.layers
    return [ScoreRow(layer, scores.micro) for layer, scores in layers.items()] if len(layers) > 1 else []


def slice_rows(analysis: Analysis) -> dict[str, list[ScoreRow]]:
    """Strict scores by slice, grouped by dimension, in the order of the analysis; without ``label``, a table of its own."""
    rows: dict[str, list[ScoreRow]] = {}
    for dimension, row in _slices(analysis):
        if dimension != "label":
            rows.setdefault(dimension, []).append(row)
    return rows


def find_weak_slices(analysis: Analysis) -> list[tuple[str, ScoreRow]]:
    """Find slices that score significantly below all names: dimension and row, lowest F1 first.

    The interval of their F1 lies below the strict F1 of all names. Slices without enough gold names, or with names in
    fewer than :data:`musamma.evaluation.significance.FEW_DOCUMENTS` documents, are never among them.
    """
    overall_f1 = analysis.scores.strict.micro.f1
    weak = [
        (dimension, row)
        for dimension, row in _slices(analysis)
        if row.enough and row.intervals is not None and row.intervals.f1.high < overall_f1
    ]
    return sorted(weak, key=lambda item: item[1].scores.f1)[:_MAX_WEAK_SLICES]


def _slices(analysis: Analysis) -> Iterator[tuple[str, ScoreRow]]:
    # The slices are in the order of the table's rows.
    keys = [key for key in analysis.table.rows if key.startswith(SLICE_PREFIX)]
    for key, part in zip(keys, analysis.slices, strict=True):
        intervals = _intervals(analysis, key)
        yield part.dimension, ScoreRow(part.value, part.counts, intervals, part.enough, part.enough_predicted)


def _intervals(analysis: Analysis, key: str) -> Intervals | None:
    """Return the intervals of a row of the count table; ``None`` if its names stand in too few documents."""
    if key not in analysis.intervals:
        return None
    counts = analysis.table.counts[:, analysis.table.rows.index(key), [PREDICTED, GOLD]]
    return analysis.intervals[key] if counts.any(axis=1).sum() >= FEW_DOCUMENTS else None


def describe_losses(analysis: Analysis) -> list[str]:
    """Describe in sentences the names that a mode could not represent."""
    sentences = []
    for side, losses in (
        ("annotated", analysis.scores.gold_losses),
        ("predicted", analysis.scores.predicted_losses),
    ):
        if losses.merged_whole_word:
            sentences.append(
                f"whole_word: {format_count(losses.merged_whole_word, f'{side} name')} merged with another."
            )
        if losses.dropped_iob:
            sentences.append(f"IOB modes: {format_count(losses.dropped_iob, f'{side} name')} without a separate tag.")
    return sentences


def format_percent(ratio: float) -> str:
    """Format a ratio in per cent with two decimals."""
    return f"{100 * ratio:.2f}"


def format_interval(interval: Interval | None) -> str:
    """Format an interval in per cent with one decimal; empty without an interval."""
    return "" if interval is None else f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"


def format_count(count: int, noun: str) -> str:
    """Format a count with its noun, which takes an s in the plural."""
    return f"{format_thousands(count)} {noun}{'' if count == 1 else 's'}"


def format_thousands(count: float) -> str:
    """Format a count with a separator of thousands."""
    return f"{count:,.0f}".replace(",", "\u202f")
