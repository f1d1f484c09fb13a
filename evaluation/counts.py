"""What scoring gives: counts, and the precision, recall and F1 that follow from them."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.evaluation.matching import MODES, STRICT, match_names

if TYPE_CHECKING:  # Partial credit is counted from these figures in turn.
    from musamma.evaluation.partial_credit import PartialScores


@dataclass(frozen=True, slots=True)
class Counts:
    """Names found and missed. Every ratio with nothing below the line is 0.0.

    Args:
        tp: gold names that were predicted.
        fp: predicted names that are not gold.
        fn: gold names that were not predicted.
    """

    tp: int = 0
    fp: int = 0
    fn: int = 0

    @property
    def support(self) -> int:
        """How many names there are in the gold."""
        return self.tp + self.fn

    @property
    def predicted(self) -> int:
        """How many names were predicted."""
        return self.tp + self.fp

    @property
    def precision(self) -> float:
        """Share of the predicted names that are gold, in [0, 1]."""
        return self.tp / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the gold names that were predicted, in [0, 1]."""
        return self.tp / self.support if self.support else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]."""
        precision, recall = self.precision, self.recall
        return 2 * precision * recall / (precision + recall) if precision + recall else 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    def to_dict(self) -> dict[str, float | int]:
        """Precision, recall, F1, support and the counts, as JSON."""
        ratios = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {**ratios, "support": self.support, "tp": self.tp, "fp": self.fp, "fn": self.fn}


@dataclass(frozen=True, slots=True)
class Average:
    """Unweighted means over labels; ``support`` is the number of gold names of all labels."""

    precision: float
    recall: float
    f1: float
    support: int

    def to_dict(self) -> dict[str, float | int]:
        """The figures, as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ModeScores:
    """The figures of one mode.

    Args:
        per_label: counts of every label that stands in the gold or in the predictions, sorted by label.
    """

    per_label: Mapping[str, Counts]

    @property
    def micro(self) -> Counts:
        """All labels counted together."""
        return sum(self.per_label.values(), Counts())

    @property
    def macro(self) -> Average:
        """The mean over labels, also those without gold names, as in seqeval; 0.0 where there is no label."""
        rows = list(self.per_label.values()) or [Counts()]
        return Average(
            precision=float(np.mean([row.precision for row in rows])),
            recall=float(np.mean([row.recall for row in rows])),
            f1=float(np.mean([row.f1 for row in rows])),
            support=self.micro.support,
        )

    def to_dict(self) -> dict[str, Any]:
        """Micro, macro and per-label figures, as JSON."""
        labels = {label: counts.to_dict() for label, counts in self.per_label.items()}
        return {"micro": self.micro.to_dict(), "macro": self.macro.to_dict(), "per_label": labels}


@dataclass(frozen=True, slots=True)
class Losses:
    """Names of one side that a mode could not represent.

    Args:
        nested: names inside names, which the modes leave to the layers; see :class:`Scores`.
        shared_words: whitespace-separated words that hold characters of more than one name.
        dropped_iob: names that the IOB modes leave out: an earlier name has the tag of one of their words, or
            they cover no word at all.
        merged_whole_word: names that became the same as another one by widening both to whole words.
    """

    nested: int = 0
    shared_words: int = 0
    dropped_iob: int = 0
    merged_whole_word: int = 0

    def __add__(self, other: Losses) -> Losses:
        return Losses(
            self.nested + other.nested,
            self.shared_words + other.shared_words,
            self.dropped_iob + other.dropped_iob,
            self.merged_whole_word + other.merged_whole_word,
        )

    def to_dict(self) -> dict[str, int]:
        """The counts, as JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Scores:
    """The figures of every mode that was asked for.

    Args:
        modes: figures by mode name, see :data:`musamma.evaluation.MODES`.
        documents: how many gold documents were scored (sentences, where tags alone were scored).
        missing: gold documents without a prediction that were scored as if nothing had been found in them.
        gold_losses: what the modes could not represent of the gold.
        predicted_losses: what the modes could not represent of the predictions.
        partial: partial credit by schema, see :data:`musamma.evaluation.partial_credit.SCHEMAS`; empty where tags alone were scored.
        layers: strict figures by layer: ``outermost``, which the modes score, and where either side has names inside names
            also ``nested``, those alone, and ``all``, whatever layer a name stands in. Empty where tags alone were scored.
    """

    modes: Mapping[str, ModeScores]
    documents: int
    missing: int = 0
    gold_losses: Losses = field(default_factory=Losses)
    predicted_losses: Losses = field(default_factory=Losses)
    partial: Mapping[str, PartialScores] = field(default_factory=dict)
    layers: Mapping[str, ModeScores] = field(default_factory=dict)

    @property
    def strict(self) -> ModeScores:
        """The character-exact figures, the headline. ``KeyError`` where tags alone were scored."""
        return self.modes[STRICT]

    def to_dict(self) -> dict[str, Any]:
        """JSON: the strict figures at the top level, the other modes under names of their own."""
        record: dict[str, Any] = self.strict.to_dict() if STRICT in self.modes else {}
        record |= {name: scores.to_dict() for name, scores in self.modes.items() if name != STRICT}
        if self.partial:
            record["semeval"] = {name: scores.to_dict() for name, scores in self.partial.items()}
        if self.layers:
            record["layers"] = {name: scores.to_dict() for name, scores in self.layers.items()}
        return record | {
            "documents": self.documents,
            "missing": self.missing,
            "losses": {"gold": self.gold_losses.to_dict(), "predictions": self.predicted_losses.to_dict()},
        }


#: What the last axis of a table holds.
TRUE_POSITIVE, PREDICTED, GOLD = 0, 1, 2

#: Begins the name of a row that holds a slice of the names.
SLICE_PREFIX = "slice:"

#: The row that stands for the unweighted mean over the labels of a mode; it is computed, never counted.
MACRO = "macro"


@dataclass(frozen=True, slots=True, eq=False)
class CountTable:
    """Names found, predicted and annotated, for every document and row.

    Args:
        documents: the ids of the documents, each once.
        rows: the names of the rows, each once: a mode (``strict``), a mode and a label (``strict/PER``), or a slice
            (``slice:DIMENSION=VALUE``).
        counts: float64, (documents, rows, 3): found (right) names, predicted names, gold names.

    Raises:
        ValueError: a name comes twice, or the shape of ``counts`` is another one.
    """

    documents: tuple[str, ...]
    rows: tuple[str, ...]
    counts: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", np.asarray(self.counts, dtype=np.float64))
        for what, names in (("document", self.documents), ("row", self.rows)):
            if len(set(names)) < len(names):
                raise ValueError(f"a {what} comes twice in a count table")
        if self.counts.shape != (shape := (len(self.documents), len(self.rows), 3)):
            raise ValueError(f"counts of shape {self.counts.shape}; expected {shape}: documents, rows, 3")

    @property
    def modes(self) -> tuple[str, ...]:
        """The rows that count a mode's names of all labels."""
        return tuple(row for row in self.rows if "/" not in row and not row.startswith(SLICE_PREFIX))

    def labels_of(self, mode: str) -> tuple[str, ...]:
        """The rows of a mode's labels."""
        return tuple(row for row in self.rows if row.startswith(f"{mode}/"))

    def total(self, row: str) -> Counts:
        """The counts of a row over all documents.

        Raises:
            KeyError: there is no such row.
        """
        if row not in self.rows:
            raise KeyError(row)
        found, predicted, gold = (round(count) for count in self.counts[:, self.rows.index(row)].sum(axis=0))
        return Counts(found, predicted - found, gold - found)

    def join(self, other: CountTable) -> CountTable:
        """The rows of both tables side by side, the documents in this one's order.

        Raises:
            InputError: the tables are not over the same documents.
            ValueError: a row stands in both.
        """
        counts = other.in_order_of(self.documents).counts
        return CountTable(self.documents, self.rows + other.rows, np.concatenate([self.counts, counts], axis=1))

    def in_order_of(self, documents: tuple[str, ...]) -> CountTable:
        """The same table with its documents in another order.

        Raises:
            InputError: they are not the same documents.
        """
        if documents == self.documents:
            return self
        if unshared := sorted(set(documents) ^ set(self.documents)):
            raise InputError(
                f"document {unshared[0]!r} was counted on one side only", expected="the same documents on both sides"
            )
        position = {document: index for index, document in enumerate(self.documents)}
        return CountTable(documents, self.rows, self.counts[[position[document] for document in documents]])

    def with_rows(self, rows: tuple[str, ...]) -> CountTable:
        """These rows, which hold all of the table's; those that it has not count nothing."""
        position = {row: index for index, row in enumerate(rows)}
        counts = np.zeros((len(self.documents), len(rows), 3))
        counts[:, [position[row] for row in self.rows]] = self.counts
        return CountTable(self.documents, rows, counts)


def count_table(pairs: Iterable[tuple[Document, Document | None]], *, modes: Iterable[str] = MODES) -> CountTable:
    """Count every document by itself, in the modes of :class:`musamma.evaluation.metrics.Scorer`.

    The sums over documents are the scorer's counts, of outermost names. Rows come mode by mode: the mode, then each label
    that stands in the gold or in the predictions of any document. The pairs are streamed; the table takes 24 bytes a
    document and row.

    Args:
        pairs: documents as annotated and as predicted, see :func:`musamma.evaluation.pairing.pair_documents`; ``None``
            for a prediction counts as one without names.
        modes: the modes to count, of :data:`musamma.evaluation.MODES`; ``strict`` is always counted.

    Raises:
        InputError: a mode is unknown, or a label is called ``macro``, which is the name of the mean over labels.
    """
    wanted = {STRICT, *modes}
    if unknown := sorted(wanted - set(MODES)):
        raise InputError(f"mode {unknown[0]!r}", expected=f"one of {', '.join(MODES)}")
    chosen = [mode for mode in MODES if mode in wanted]
    documents: list[str] = []
    # For every mode and label the number of its document, once a name: found, predicted, gold.
    met: dict[tuple[str, str], tuple[array[int], array[int], array[int]]] = {}
    for number, (gold, prediction) in enumerate(pairs):
        predicted = prediction.spans if prediction is not None else ()
        documents.append(gold.id)
        for mode, labels in match_names(gold.text, gold.spans, predicted, modes=chosen).modes.items():
            for column, names in ((TRUE_POSITIVE, labels.found), (PREDICTED, labels.predicted), (GOLD, labels.gold)):
                for label in names:
                    if (mode, label) not in met:
                        _check_label(label, gold.id)
                        met[mode, label] = array("I"), array("I"), array("I")
                    met[mode, label][column].append(number)
    labels_of = {mode: sorted(label for other, label in met if other == mode) for mode in chosen}
    rows = [row for mode in chosen for row in (mode, *(f"{mode}/{label}" for label in labels_of[mode]))]
    counts = np.zeros((len(documents), len(rows), 3))
    for (mode, label), columns in met.items():
        for column, numbers in enumerate(columns):
            counted = np.bincount(numbers, minlength=len(documents))
            counts[:, rows.index(f"{mode}/{label}"), column] = counted
            counts[:, rows.index(mode), column] += counted
    return CountTable(tuple(documents), tuple(rows), counts)


def _check_label(label: str, document: str) -> None:
    if label == MACRO:
        raise InputError(
            f"a name of the label {label!r}",
            where=f"document {document!r}",
            expected="labels that are not the name of an average",
            remedy="rename it with --labels",
        )


def align_tables(first: CountTable, second: CountTable) -> tuple[CountTable, CountTable]:
    """Both tables with the documents of the first and the rows of both, where what one has not is nothing.

    Raises:
        InputError: they are not over the same documents, modes and gold names.
    """
    if unshared := sorted(set(first.modes) ^ set(second.modes)):
        raise InputError(f"mode {unshared[0]!r} was counted on one side only", expected="the same modes on both sides")
    second = second.in_order_of(first.documents)
    rows = (*first.rows, *sorted(set(second.rows) - set(first.rows)))
    first, second = first.with_rows(rows), second.with_rows(rows)
    differing = np.argwhere(first.counts[..., GOLD] != second.counts[..., GOLD])
    if len(differing):
        document, row = differing[0]
        ours, theirs = (table.counts[document, row, GOLD] for table in (first, second))
        raise InputError(
            f"{ours:g} gold names of {rows[row]!r} for the first system, {theirs:g} for the second",
            where=f"document {first.documents[document]!r}",
            expected="predictions that were counted against the same gold",
        )
    return first, second


@dataclass(frozen=True, slots=True)
class MetricLayout:
    """Rows with the means over labels behind them; arrays are (3 counts or figures, rows, ...), whatever comes last.

    Args:
        rows: the rows of the table, then ``MODE/macro`` by mode.
        means: by mode, its row and those of its labels.
    """

    rows: tuple[str, ...]
    means: tuple[tuple[int, list[int]], ...]

    @classmethod
    def of(cls, table: CountTable) -> MetricLayout:
        position = {row: index for index, row in enumerate(table.rows)}
        means = tuple((position[mode], [position[row] for row in table.labels_of(mode)]) for mode in table.modes)
        return cls((*table.rows, *(f"{mode}/{MACRO}" for mode in table.modes)), means)

    def counts(self, table: CountTable) -> np.ndarray:
        """The counts, (3 counts, rows of the table, documents), the documents in the order of their ids."""
        order = sorted(range(len(table.documents)), key=table.documents.__getitem__)
        return np.ascontiguousarray(table.counts[order].transpose(2, 1, 0))

    def figures(self, totals: np.ndarray) -> np.ndarray:
        """Precision, recall and F1 of counts, with the means."""
        found, predicted, gold = totals[TRUE_POSITIVE], totals[PREDICTED], totals[GOLD]
        ratios = np.stack([_ratio(found, predicted), _ratio(found, gold), _ratio(2 * found, predicted + gold)])
        present = predicted + gold > 0
        means = [_ratio(ratios[:, labels].sum(axis=1), present[labels].sum(axis=0)) for _, labels in self.means]
        return np.concatenate([ratios, *(mean[:, None] for mean in means)], axis=1)

    def names(self, counts: np.ndarray) -> np.ndarray:
        """How many names stand below the line of each figure: predicted ones, gold ones, their mean."""
        below = np.stack([counts[PREDICTED], counts[GOLD], (counts[PREDICTED] + counts[GOLD]) / 2])
        return np.concatenate([below, below[:, [mode for mode, _ in self.means]]], axis=1)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    below = np.broadcast_to(below, above.shape)
    return np.divide(above, below, out=np.zeros(above.shape), where=below > 0)
