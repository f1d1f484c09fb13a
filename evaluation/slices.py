"""Strict scores of some of the names: by what they are, where they stand and where their document comes from."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musamma.data.document import Document
from musamma.evaluation.counting import FOUND, GOLD, PREDICTED, SLICE, CountTable
from musamma.evaluation.figures import Counts
from musamma.evaluation.intervals import Intervals
from musamma.evaluation.slicer import ABSENT, DIMENSIONS, OTHER, Slicer


@dataclass(frozen=True, slots=True)
class Slice:
    """The strict figures of one slice.

    Args:
        dimension: what the names are told apart by, one of :data:`DIMENSIONS` or a key of the documents' metadata.
        value: what the names of this slice have in common.
        counts: ``tp`` correct names, ``fp`` predicted names of the slice that are wrong, ``fn`` gold names of it not found.
            A name with wrong borders can be a miss in one slice and a false name in another.
        intervals: of precision, recall and F1; ``None`` where none were computed.
        enough: there are enough gold names for recall and F1 to mean something.
        enough_predicted: there are enough predicted names for precision to mean something.
    """

    dimension: str
    value: str
    counts: Counts
    intervals: Intervals | None
    enough: bool
    enough_predicted: bool = True

    def to_dict(self) -> dict[str, Any]:
        """The slice as a JSON object, its intervals as pairs of numbers."""
        return {
            "dimension": self.dimension,
            "value": self.value,
            **self.counts.to_dict(),
            "intervals": None if self.intervals is None else self.intervals.to_dict(),
            "enough": self.enough,
            "enough_predicted": self.enough_predicted,
        }


def slice_table(pairs: Iterable[tuple[Document, Document | None]], slicer: Slicer) -> CountTable:
    """Count the names of every slice, document by document, strictly: first character, last character and label.

    Gold names count by their own attributes and predicted names by theirs; a correct name has the same on both sides.

    Args:
        pairs: documents as annotated and as predicted; ``None`` for a prediction counts as one without names.
        slicer: tells the slices of a name.

    Returns:
        A row ``slice:DIMENSION=VALUE`` for every slice that holds a name: dimensions and values in the order of
        :data:`DIMENSIONS`, labels and years sorted, other metadata by support, ``(none)`` and ``(other)`` last.
    """
    pairs = list(pairs)
    golds = [gold for gold, _ in pairs]
    by_row: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for index, ((gold, prediction), of_document) in enumerate(zip(pairs, slicer.documents(golds), strict=True)):
        predicted = prediction.spans if prediction is not None else ()
        annotated = {span.key for span in gold.spans}
        for column, spans in ((GOLD, gold.spans), (PREDICTED, predicted)):
            for span, of_name in zip(spans, slicer.names(gold, spans), strict=True):
                correct = column == PREDICTED and span.key in annotated
                for row in (*of_name.items(), *of_document.items()):
                    by_row[row].append((index, column))
                    if correct:
                        by_row[row].append((index, FOUND))
    ordered = sorted(by_row, key=lambda row: _order(row, by_row[row]))
    counts = np.zeros((len(pairs), len(ordered), 3))
    for number, row in enumerate(ordered):
        for (index, column), count in Counter(by_row[row]).items():
            counts[index, number, column] = count
    return CountTable(tuple(gold.id for gold in golds), tuple(_row_name(*row) for row in ordered), counts)


def slices(table: CountTable, intervals: Mapping[str, Intervals], *, least: int = 30) -> tuple[Slice, ...]:
    """The figures of the slices of a table, in its order.

    Args:
        table: as :func:`slice_table` makes it; other rows are passed over.
        intervals: by row, as :func:`musamma.evaluation.resampling.bootstrap` gives them; rows may be missing.
        least: how many names of a side there must be for a figure on it to be a finding.
    """
    found = []
    for row in table.rows:
        if row.startswith(SLICE):
            dimension, _, value = row.removeprefix(SLICE).partition("=")
            counts = table.total(row)
            found.append(
                Slice(
                    dimension.replace("%3D", "=").replace("%25", "%"),
                    value,
                    counts,
                    intervals.get(row),
                    enough=counts.support >= least,
                    enough_predicted=counts.predicted >= least,
                )
            )
    return tuple(found)


def _row_name(dimension: str, value: str) -> str:
    # The first equals sign parts the two; a key of the metadata may hold one of its own.
    return f"{SLICE}{dimension.replace('%', '%25').replace('=', '%3D')}={value}"


def _order(row: tuple[str, str], cells: Sequence[tuple[int, int]]) -> tuple[Any, ...]:
    dimension, value = row
    if dimension in DIMENSIONS:
        names, values = list(DIMENSIONS), DIMENSIONS[dimension]
        return (names.index(dimension), "", values.index(value) if values else 0, 0, value)
    support = sum(column == GOLD for _, column in cells)
    rest = 1 + (ABSENT, OTHER).index(value) if value in (ABSENT, OTHER) else 0
    return (len(DIMENSIONS), dimension, rest, 0 if re.fullmatch(r"\d{4}", value) else -support, value)
