"""The figures of an analysis in the order in which a table shows them, each with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from musamma.evaluation.counts import GOLD, PREDICTED, SLICE_PREFIX, Counts
from musamma.evaluation.matching import STRICT
from musamma.evaluation.metrics import Average
from musamma.evaluation.significance import FEW_DOCUMENTS, Interval, Intervals

if TYPE_CHECKING:  # An analysis is only read here.
    from musamma.evaluation.analysis import Analysis

MICRO, MACRO = "micro", "macro"

#: What makes a predicted name right, by mode.
MODES = {
    "strict": "first character, last character and label are right",
    "proclitic": "the same, but for prefixed letters (و ف ب ل ك س) at the start",
    "whole_word": "label and borders are right by whole words, proclitics included",
    "iob2_strict": "its IOB2 tags, one a word, are right, and valid as they stand",
    "conlleval": "its IOB2 tags are right as the CoNLL shared tasks read them, valid or not",
    "overlap": "label right, and at least one character in common",
}

#: What counts in the schemas of SemEval-2013.
SCHEMAS = {
    "strict": "borders and label",
    "exact": "borders, whatever the label",
    "partial": "borders; half a point for an overlap",
    "type": "label; any overlap will do",
}

#: Heading and explanation of the dimensions that every analysis has; others are keys of the documents' meta.
DIMENSIONS = {
    "label": ("Label", ""),
    "seen": (
        "Seen in training",
        "Whether the name, letter by letter, is a name in the training data: with this label, or only with another one.",
    ),
    "proclitic": ("Behind a prefix", "Whether a conjunction or preposition (و ف ب ل ك س) is written onto the name."),
    "length": ("Length of the name", "In words."),
    "frequency": ("Times in training", "How often the name, letter by letter, is a name in the training data."),
    "position": ("Position in the document", "Whether the name begins in the first tenth of the text."),
    "document_length": ("Length of the document", "In words."),
}

#: What the layers hold.
LAYERS = {
    "outermost": "names that stand in no other name: what the modes score",
    "nested": "names inside names",
    "all": "names of every layer",
}

_MOST_FINDINGS = 5


@dataclass(frozen=True, slots=True)
class Cell:
    """A ratio in [0, 1], its interval where there is one, and whether there are enough names for it to be shown."""

    value: float
    interval: Interval | None
    enough: bool = True


@dataclass(frozen=True, slots=True)
class Row:
    """Precision, recall and F1 with their intervals, in [0, 1].

    Args:
        name: what the row is of, as it stands in the data.
        figures: the counts, or the average of labels.
        intervals: their intervals, where there are any.
        enough: whether there are enough gold names for recall and F1 to mean something.
        enough_predicted: whether there are enough predicted names for precision to mean something.
    """

    name: str
    figures: Counts | Average
    intervals: Intervals | None = None
    enough: bool = True
    enough_predicted: bool = True

    @property
    def cells(self) -> tuple[Cell, Cell, Cell]:
        """Precision, recall and F1."""
        figures, given = self.figures, self.intervals
        return (
            Cell(figures.precision, given.precision if given else None, self.enough_predicted),
            Cell(figures.recall, given.recall if given else None, self.enough),
            Cell(figures.f1, given.f1 if given else None, self.enough),
        )


def headline(analysis: Analysis) -> Row:
    """The character-exact figures of all labels."""
    return Row(STRICT, analysis.scores.strict.micro, _intervals(analysis, STRICT))


def mode_rows(analysis: Analysis) -> list[Row]:
    """The modes side by side."""
    return [Row(mode, scores.micro, _intervals(analysis, mode)) for mode, scores in analysis.scores.modes.items()]


def label_rows(analysis: Analysis) -> list[Row]:
    """The labels by the strict mode, most frequent first."""
    labels = sorted(analysis.scores.strict.per_label.items(), key=lambda item: (-item[1].support, item[0]))
    return [Row(label, counts, _intervals(analysis, f"{STRICT}/{label}")) for label, counts in labels]


def total_rows(analysis: Analysis) -> list[Row]:
    """All labels counted together, and their mean."""
    strict = analysis.scores.strict
    macro = Row(MACRO, strict.macro, analysis.intervals.get(f"{STRICT}/{MACRO}"))
    return [Row(MICRO, strict.micro, _intervals(analysis, STRICT)), macro]


def layer_rows(analysis: Analysis) -> list[Row]:
    """The layers of names inside names, strict; empty where there is only one layer."""
    layers = analysis.scores.layers
    return [Row(layer, scores.micro) for layer, scores in layers.items()] if len(layers) > 1 else []


def slice_rows(analysis: Analysis) -> dict[str, list[Row]]:
    """The slices by dimension, both in the order of the analysis. The dimension ``label`` is a table of its own already."""
    rows: dict[str, list[Row]] = {}
    for dimension, row in _slices(analysis):
        if dimension != "label":
            rows.setdefault(dimension, []).append(row)
    return rows


def findings(analysis: Analysis) -> list[tuple[str, Row]]:
    """The slices that are worse than the whole by more than chance explains, the worst first: dimension and row.

    Those whose interval of F1 lies below the strict F1 of all names. Slices without enough gold names, or with
    names in fewer than :data:`musamma.evaluation.significance.FEW_DOCUMENTS` documents, are never among them.
    """
    whole = analysis.scores.strict.micro.f1
    below = [
        (dimension, row)
        for dimension, row in _slices(analysis)
        if row.enough and row.intervals is not None and row.intervals.f1.high < whole
    ]
    return sorted(below, key=lambda item: item[1].figures.f1)[:_MOST_FINDINGS]


def _slices(analysis: Analysis) -> Iterator[tuple[str, Row]]:
    names = [
        row for row in analysis.table.rows if row.startswith(SLICE_PREFIX)
    ]  # The slices are in the order of the table.
    for name, part in zip(names, analysis.slices, strict=True):
        intervals = _intervals(analysis, name)
        yield part.dimension, Row(part.value, part.counts, intervals, part.enough, part.enough_predicted)


def _intervals(analysis: Analysis, name: str) -> Intervals | None:
    """The intervals of a row of the table; none where its names stand in few documents, which say little of others."""
    if name not in analysis.intervals:
        return None
    counts = analysis.table.counts[:, analysis.table.rows.index(name), [PREDICTED, GOLD]]
    return analysis.intervals[name] if counts.any(axis=1).sum() >= FEW_DOCUMENTS else None


def remarks(analysis: Analysis) -> list[str]:
    """What a mode could not represent, in sentences."""
    scores = analysis.scores
    told = []
    for side, losses in (("annotated", scores.gold_losses), ("predicted", scores.predicted_losses)):
        if losses.merged_whole_word:
            told.append(f"whole_word: {counted(losses.merged_whole_word, f'{side} name')} merged with another.")
        if losses.dropped_iob:
            told.append(f"IOB modes: {counted(losses.dropped_iob, f'{side} name')} without a tag of their own.")
    return told


def dimension_title(dimension: str) -> tuple[str, str]:
    """Heading and explanation of a dimension."""
    return DIMENSIONS.get(dimension, (dimension, "From what the documents say of themselves (meta)."))


def percent(ratio: float) -> str:
    """A ratio in per cent with two decimals."""
    return f"{100 * ratio:.2f}"


def between(interval: Interval | None) -> str:
    """An interval in per cent with one decimal; empty where there is none."""
    return "" if interval is None else f"{100 * interval.low:.1f}–{100 * interval.high:.1f}"


def counted(count: int, noun: str) -> str:
    """A count and what it is of, which takes an s in the plural."""
    return f"{thousands(count)} {noun}{'' if count == 1 else 's'}"


def thousands(count: float) -> str:
    """A count with its thousands apart."""
    return f"{count:,.0f}".replace(",", "\u202f")
