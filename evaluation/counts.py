"""Counts of gold, predicted and correct names, by label or by document and row; precision, recall and F1 follow from them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from array import array
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Self

import numpy as np

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.evaluation.matching import (
    ALL,
    MODES,
    NESTED,
    MatchedLabels,
    match_by_mode,
    match_layers,
    select_modes,
)

#: Indices of the last axis of a count table: names predicted correctly, predicted names, gold names.
TRUE_POSITIVE, PREDICTED, GOLD = 0, 1, 2

#: Prefix of the name of a row that counts a slice of the names.
SLICE_PREFIX = "slice:"

#: Suffix of the row of the unweighted mean over a mode's labels. That row is computed from other rows, not counted.
MACRO = "macro"

#: Number of labels to collect before counting: ``Counter.update`` costs more per call than per label.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class NameCounts(ABC):
    """Precision, recall and F1 of counted names; a ratio with denominator 0 is 0.0."""

    @property
    @abstractmethod
    def points(self) -> float:
        """Number of names predicted correctly; a name predicted partly may count as a fraction."""

    @property
    @abstractmethod
    def support(self) -> int:
        """Number of gold names."""

    @property
    @abstractmethod
    def predicted(self) -> int:
        """Number of predicted names."""

    @property
    def precision(self) -> float:
        """Points per predicted name, in [0, 1]."""
        return self.points / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Points per gold name, in [0, 1]."""
        return self.points / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]."""
        precision, recall = self.precision, self.recall
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))

    def to_dict(self) -> dict[str, float | int]:
        """Return precision, recall, F1, support and the counts, as JSON."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {**ratios, "support": self.support, **asdict(self)}


@dataclass(frozen=True, slots=True)
class Counts(NameCounts):
    """Names predicted correctly, predicted wrongly and missed.

    Args:
        tp: gold names that were predicted.
        fp: predicted names that are not gold.
        fn: gold names that were not predicted.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def points(self) -> int:
        """Number of gold names that were predicted."""
        return self.tp

    @property
    def support(self) -> int:
        """Number of gold names."""
        return self.tp + self.fn

    @property
    def predicted(self) -> int:
        """Number of predicted names."""
        return self.tp + self.fp


class LabelTally:
    """Counts of names by label, added up over documents."""

    def __init__(self) -> None:
        self._counters: tuple[Counter[str], Counter[str], Counter[str]] = Counter(), Counter(), Counter()
        self._uncounted: tuple[list[str], list[str], list[str]] = [], [], []

    def add(self, gold: Iterable[str], predicted: Iterable[str], matched: Iterable[str]) -> None:
        """Count the labels of gold, predicted and matched names."""
        for uncounted, labels in zip(self._uncounted, (gold, predicted, matched), strict=True):
            uncounted.extend(labels)
            if len(uncounted) > _BATCH:
                self._count()

    def counts(self) -> dict[str, Counts]:
        """Return the counts so far for every label of the gold or the predictions, sorted by label."""
        self._count()
        gold, predicted, matched = self._counters
        return {
            label: Counts(tp := matched[label], predicted[label] - tp, gold[label] - tp)
            for label in sorted(gold.keys() | predicted.keys())
        }

    def _count(self) -> None:
        for counter, uncounted in zip(self._counters, self._uncounted, strict=True):
            counter.update(uncounted)
            uncounted.clear()


@dataclass(frozen=True, slots=True, eq=False)
class CountTable:
    """Counts of names for every document and row.

    Args:
        documents: the ids of the documents, unique.
        rows: the names of the rows, unique: a mode (``strict``), a mode and a label (``strict/PER``), or a slice
            (``slice:DIMENSION=VALUE``).
        counts: float64, (documents, rows, 3): names predicted correctly, predicted names, gold names.

    Raises:
        ValueError: an id or a row is repeated, or ``counts`` has another shape.
    """

    documents: tuple[str, ...]
    rows: tuple[str, ...]
    counts: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", np.asarray(self.counts, dtype=np.float64))
        for axis, names in (("document", self.documents), ("row", self.rows)):
            if len(set(names)) < len(names):
                raise ValueError(f"a {axis} comes twice in a count table")
        if self.counts.shape != (shape := (len(self.documents), len(self.rows), 3)):
            raise ValueError(f"counts of shape {self.counts.shape}; expected {shape}: documents, rows, 3")

    @property
    def modes(self) -> tuple[str, ...]:
        """The rows that count all labels of a mode together."""
        return tuple(row for row in self.rows if "/" not in row and not row.startswith(SLICE_PREFIX))

    def labels_of(self, mode: str) -> tuple[str, ...]:
        """Return the rows of a mode's labels."""
        return tuple(row for row in self.rows if row.startswith(f"{mode}/"))

    def total(self, row: str) -> Counts:
        """Return the counts of a row over all documents.

        Raises:
            KeyError: there is no such row.
        """
        if row not in self.rows:
            raise KeyError(row)
        correct, predicted, gold = (round(count) for count in self.counts[:, self.rows.index(row)].sum(axis=0))
        return Counts(correct, predicted - correct, gold - correct)

    def join(self, other: CountTable) -> CountTable:
        """Return the rows of both tables side by side, with the documents in the order of this one.

        Raises:
            InputError: the tables have different documents.
            ValueError: a row is in both.
        """
        counts = other.in_order_of(self.documents).counts
        return CountTable(self.documents, self.rows + other.rows, np.concatenate([self.counts, counts], axis=1))

    def in_order_of(self, documents: tuple[str, ...]) -> CountTable:
        """Return the same table with its documents in another order.

        Raises:
            InputError: the table has different documents.
        """
        if documents == self.documents:
            return self
        if unshared := sorted(set(documents) ^ set(self.documents)):
            raise InputError(
                f"document {unshared[0]!r} was counted on one side only", expected="the same documents on both sides"
            )
        position = {document: index for index, document in enumerate(self.documents)}
        return CountTable(documents, self.rows, self.counts[[position[document] for document in documents]])

    def without_modes(self, modes: Collection[str]) -> CountTable:
        """Return the table without the rows of some modes and of their labels."""
        kept = [index for index, row in enumerate(self.rows) if row.partition("/")[0] not in modes]
        return CountTable(self.documents, tuple(self.rows[index] for index in kept), self.counts[:, kept])

    def with_rows(self, rows: tuple[str, ...]) -> CountTable:
        """Return the table with more rows: ``rows`` include those of the table, and the counts of new ones are 0."""
        position = {row: index for index, row in enumerate(rows)}
        counts = np.zeros((len(self.documents), len(rows), 3))
        counts[:, [position[row] for row in self.rows]] = self.counts
        return CountTable(self.documents, rows, counts)


class CountTableBuilder:
    """Builds a count table from one compared document after another.

    Args:
        modes: the modes to count, in the order of the rows.
    """

    def __init__(self, modes: Iterable[str]) -> None:
        self._modes = tuple(modes)
        self._documents: list[str] = []
        # For each mode and label, the document index of each name: of correct, of predicted and of gold names.
        self._occurrences: dict[tuple[str, str], tuple[array[int], array[int], array[int]]] = {}

    def add(self, document: str, modes: Mapping[str, MatchedLabels]) -> None:
        """Count one document.

        Args:
            document: its id.
            modes: the labels of its names by mode, see :func:`musamma.evaluation.matching.match_by_mode`.

        Raises:
            InputError: a label is called ``macro``, the name of the mean over labels.
        """
        index = len(self._documents)
        self._documents.append(document)
        for mode, labels in modes.items():
            columns = ((TRUE_POSITIVE, labels.matched), (PREDICTED, labels.predicted), (GOLD, labels.gold))
            for column, names in columns:
                for label in names:
                    if (mode, label) not in self._occurrences:
                        _check_label(label, document)
                        self._occurrences[mode, label] = array("I"), array("I"), array("I")
                    self._occurrences[mode, label][column].append(index)

    def table(self) -> CountTable:
        """Return the table of the documents so far: mode by mode a row for the mode, then one for each label."""
        labels = {mode: sorted(label for other, label in self._occurrences if other == mode) for mode in self._modes}
        rows = [row for mode in self._modes for row in (mode, *(f"{mode}/{label}" for label in labels[mode]))]
        counts = np.zeros((len(self._documents), len(rows), 3))
        for (mode, label), columns in self._occurrences.items():
            for column, indices in enumerate(columns):
                by_document = np.bincount(indices, minlength=len(self._documents))
                counts[:, rows.index(f"{mode}/{label}"), column] = by_document
                counts[:, rows.index(mode), column] += by_document
        return CountTable(tuple(self._documents), tuple(rows), counts)


def count_table(
    pairs: Iterable[tuple[Document, Document | None]], *, modes: Iterable[str] = MODES, layers: bool = False
) -> CountTable:
    """Count each document separately, in the modes of :class:`musamma.evaluation.metrics.Scorer`.

    The sums over documents equal the scorer's counts of outermost names. For each mode there is a row for the mode, then one
    for each label of the gold or the predictions of any document. The pairs are streamed; the table takes 24 bytes per document and
    row.

    Args:
        pairs: annotated and predicted documents, see :func:`musamma.evaluation.document_pairing.pair_documents`. A prediction that
            is ``None`` counts as one without names.
        modes: some of :data:`musamma.evaluation.MODES`; ``strict`` is always counted.
        layers: add rows for the layers ``nested`` and ``all`` and their labels, after those of the modes; see
            :class:`musamma.evaluation.metrics.Scores`.

    Raises:
        InputError: a mode is unknown, or a label is called ``macro``, the name of the mean over labels.
    """
    selected = select_modes(modes)
    builder = CountTableBuilder((*selected, NESTED, ALL) if layers else selected)
    for gold, prediction in pairs:
        predicted = prediction.spans if prediction is not None else ()
        matches = match_by_mode(gold.text, gold.spans, predicted, modes=selected).modes
        builder.add(gold.id, {**matches, **match_layers(gold, prediction)} if layers else matches)
    return builder.table()


def align_tables(first: CountTable, second: CountTable) -> tuple[CountTable, CountTable]:
    """Give both tables the document order of the first and the rows of both; the counts of rows that one lacks are 0 there.

    Raises:
        InputError: the tables differ in documents, modes or gold names.
    """
    if unshared := sorted(set(first.modes) ^ set(second.modes)):
        raise InputError(f"mode {unshared[0]!r} was counted on one side only", expected="the same modes on both sides")
    second = second.in_order_of(first.documents)
    rows = (*first.rows, *sorted(set(second.rows) - set(first.rows)))
    first, second = first.with_rows(rows), second.with_rows(rows)
    differing = np.argwhere(first.counts[..., GOLD] != second.counts[..., GOLD])
    if len(differing):
        document, row = differing[0]
        in_first, in_second = (table.counts[document, row, GOLD] for table in (first, second))
        raise InputError(
            f"{in_first:g} gold names of {rows[row]!r} for the first system, {in_second:g} for the second",
            where=f"document {first.documents[document]!r}",
            expected="predictions counted against the same gold",
        )
    return first, second


@dataclass(frozen=True, slots=True)
class MetricLayout:
    """The rows of arrays of metrics: those of a count table, then the means over labels.

    The arrays have the shape (3, rows, ...). The first axis holds the three counts, or precision, recall and F1; the last
    one holds documents, resamples or nothing.

    Args:
        rows: the rows of the table, then ``MODE/macro`` for each mode.
        macros: for each mode, the index of its row and those of its labels.
    """

    rows: tuple[str, ...]
    macros: tuple[tuple[int, list[int]], ...]

    @classmethod
    def for_table(cls, table: CountTable) -> MetricLayout:
        """Return the layout of a table's metrics."""
        position = {row: index for index, row in enumerate(table.rows)}
        macros = tuple((position[mode], [position[row] for row in table.labels_of(mode)]) for mode in table.modes)
        return cls((*table.rows, *(f"{mode}/{MACRO}" for mode in table.modes)), macros)

    def count_array(self, table: CountTable) -> np.ndarray:
        """Return the counts as (3, rows of the table, documents), with the documents in the order of their ids."""
        order = sorted(range(len(table.documents)), key=table.documents.__getitem__)
        return np.ascontiguousarray(table.counts[order].transpose(2, 1, 0))

    def metrics(self, counts: np.ndarray) -> np.ndarray:
        """Return precision, recall and F1 of counts, means over labels included."""
        correct, predicted, gold = counts[TRUE_POSITIVE], counts[PREDICTED], counts[GOLD]
        ratios = np.stack([_ratio(correct, predicted), _ratio(correct, gold), _ratio(2 * correct, predicted + gold)])
        present = predicted + gold > 0
        means = [_ratio(ratios[:, labels].sum(axis=1), present[labels].sum(axis=0)) for _, labels in self.macros]
        return np.concatenate([ratios, *(mean[:, None] for mean in means)], axis=1)

    def denominators(self, counts: np.ndarray) -> np.ndarray:
        """Return the number of names in the denominator of each metric: predicted names, gold names, their mean."""
        below = np.stack([counts[PREDICTED], counts[GOLD], (counts[PREDICTED] + counts[GOLD]) / 2])
        return np.concatenate([below, below[:, [mode for mode, _ in self.macros]]], axis=1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    denominator = np.broadcast_to(denominator, numerator.shape)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator > 0)


def _check_label(label: str, document: str) -> None:
    if label == MACRO:
        raise InputError(
            f"a name with the label {label!r}",
            where=f"document {document!r}",
            expected="labels other than the name of the average over labels",
            remedy="rename the label with `labels`",
        )
