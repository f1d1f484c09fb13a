"""Strict scores of some of the names: by what they are, where they stand and where their document comes from."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musamma.data.arabic import proclitic_offsets, strip_marks, word_offsets
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation.counts import GOLD, PREDICTED, SLICE_PREFIX, TRUE_POSITIVE, Counts, CountTable
from musamma.evaluation.significance import Intervals


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


def count_slices(pairs: Iterable[tuple[Document, Document | None]], slicer: Slicer) -> CountTable:
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
                        by_row[row].append((index, TRUE_POSITIVE))
    ordered = sorted(by_row, key=lambda row: _order(row, by_row[row]))
    counts = np.zeros((len(pairs), len(ordered), 3))
    for number, row in enumerate(ordered):
        for (index, column), count in Counter(by_row[row]).items():
            counts[index, number, column] = count
    return CountTable(tuple(gold.id for gold in golds), tuple(_row_name(*row) for row in ordered), counts)


def score_slices(table: CountTable, intervals: Mapping[str, Intervals], *, least: int = 30) -> tuple[Slice, ...]:
    """The figures of the slices of a table, in its order.

    Args:
        table: as :func:`count_slices` makes it; other rows are passed over.
        intervals: by row, as :func:`musamma.evaluation.significance.bootstrap` gives them; rows may be missing.
        least: how many names of a side there must be for a figure on it to be a finding.
    """
    found = []
    for row in table.rows:
        if row.startswith(SLICE_PREFIX):
            dimension, _, value = row.removeprefix(SLICE_PREFIX).partition("=")
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
    return f"{SLICE_PREFIX}{dimension.replace('%', '%25').replace('=', '%3D')}={value}"


def _order(row: tuple[str, str], cells: Sequence[tuple[int, int]]) -> tuple[Any, ...]:
    dimension, value = row
    if dimension in DIMENSIONS:
        names, values = list(DIMENSIONS), DIMENSIONS[dimension]
        return (names.index(dimension), "", values.index(value) if values else 0, 0, value)
    support = sum(column == GOLD for _, column in cells)
    rest = 1 + (ABSENT, OTHER).index(value) if value in (ABSENT, OTHER) else 0
    return (len(DIMENSIONS), dimension, rest, 0 if re.fullmatch(r"\d{4}", value) else -support, value)


LABEL, SEEN, FREQUENCY, PROCLITIC = "label", "seen", "frequency", "proclitic"
LENGTH, POSITION, DOCUMENT_LENGTH = "length", "position", "document_length"

#: The dimensions that every name has, with their values in order. Labels are whatever there is; ``seen`` and ``frequency``
#: need training documents. The documents' metadata come after them, sorted by key.
DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    LABEL: (),
    SEEN: ("same label", "another label", "unseen"),
    FREQUENCY: ("0", "1", "2-5", "6+"),
    PROCLITIC: ("no", "yes"),
    LENGTH: ("1", "2", "3", "4+"),
    POSITION: ("first tenth", "rest"),
    DOCUMENT_LENGTH: ("0-50", "51-200", "201-500", "501+"),
}

#: The value of a document without the key, and the one that stands for the values beyond the first ``MAX_META_VALUES``.
ABSENT, OTHER = "(none)", "(other)"

#: How many values a key of the metadata keeps for itself.
MAX_META_VALUES = 20

_DATE = re.compile(r"(\d{4})-\d{2}(-\d{2}([T ].*)?)?")


class Slicer:
    """Tells which slices a name belongs to.

    Forms are compared by their letters (see :func:`musamma.data.arabic.strip_marks`). Only outermost names of the training documents count.

    Args:
        training: what the system was trained on, for ``seen`` and ``frequency``; ``None`` leaves these out.
        meta: keys of the documents' metadata to slice by. By default those with few values: more than one, fewer than
            there are documents, and no more than :data:`MAX_META_VALUES` or half the number of documents.
    """

    def __init__(self, *, training: Iterable[Document] | None = None, meta: Sequence[str] | None = None) -> None:
        self._meta = None if meta is None else tuple(meta)
        self._trained: dict[str, Counter[str]] | None = None
        if training is not None:
            self._trained = defaultdict(Counter)
            for document in training:
                for span in document.spans:
                    self._trained[strip_marks(document.surface(span))][span.label] += 1

    @property
    def training_labels(self) -> tuple[str, ...] | None:
        """The labels of the training documents, sorted; ``None`` without such documents."""
        if self._trained is None:
            return None
        return tuple(sorted({label for labels in self._trained.values() for label in labels}))

    def names(self, document: Document, spans: Sequence[Span]) -> list[dict[str, str]]:
        """The value of every name in each dimension that tells names apart, one mapping a name.

        Args:
            document: the text; its own spans are not looked at.
            spans: names of it.
        """
        words = word_offsets(document.text)
        starts = [start for start, _ in words]
        return [self._name(document, span, words, starts) for span in spans]

    def documents(self, documents: Sequence[Document]) -> list[dict[str, str]]:
        """The value of every document in each dimension that tells documents apart, one mapping a document.

        Raises:
            InputError: no document has a key that was asked for.
        """
        found: list[dict[str, str]] = [{DOCUMENT_LENGTH: _length_band(document)} for document in documents]
        present = {key for document in documents for key in document.meta}
        if self._meta is not None and (unknown := sorted(set(self._meta) - present)):
            raise InputError(
                f"metadata key {unknown[0]!r}",
                expected=f"one that a document has: {', '.join(sorted(present)) or 'there is none'}",
            )
        for key in sorted(present if self._meta is None else self._meta):
            values = _values(documents, key)
            if values is None or (self._meta is None and not _few(values)):
                continue
            support: Counter[str] = Counter()
            for document, value in zip(documents, values, strict=True):
                support[value] += len(document.spans)
            kept = sorted(support, key=lambda value: (-support[value], value))[:MAX_META_VALUES]
            # A key may be called as a dimension is.
            dimension = f"meta.{key}" if key in DIMENSIONS else key
            for record, value in zip(found, values, strict=True):
                record[dimension] = value if value in kept else OTHER
        return found

    def _name(
        self, document: Document, span: Span, words: Sequence[tuple[int, int]], starts: Sequence[int]
    ) -> dict[str, str]:
        text = document.text
        values = {LABEL: span.label}
        if self._trained is not None:
            labels = self._trained.get(strip_marks(document.surface(span)), Counter())
            seen = 0 if span.label in labels else 1 if labels else 2
            values[SEEN] = DIMENSIONS[SEEN][seen]
            values[FREQUENCY] = DIMENSIONS[FREQUENCY][bisect_left((0, 1, 5), labels.total())]
        at = bisect_right(starts, span.start) - 1
        behind = at >= 0 and span.start in proclitic_offsets(text, *words[at])[1:]
        values[PROCLITIC] = DIMENSIONS[PROCLITIC][behind]
        touched = words[max(at, 0) : bisect_left(starts, span.end)]
        length = sum(_is_word(text, max(start, span.start), min(end, span.end)) for start, end in touched)
        values[LENGTH] = DIMENSIONS[LENGTH][bisect_left((1, 2, 3), length)]
        values[POSITION] = DIMENSIONS[POSITION][10 * span.start >= len(text)]
        return values


def _values(documents: Sequence[Document], key: str) -> list[str] | None:
    """The value of every document, dates by year; ``None`` where some are lists or objects."""
    raw = [document.meta.get(key) for document in documents]
    if not all(value is None or isinstance(value, str | int | float) for value in raw):
        return None
    texts = [ABSENT if value is None else str(value) for value in raw]
    dates = [_DATE.fullmatch(text) for text in texts]
    if all(date or text == ABSENT for date, text in zip(dates, texts, strict=True)):
        return [date[1] if date else ABSENT for date in dates]
    return texts


def _few(values: Sequence[str]) -> bool:
    count = len(set(values))
    return 1 < count < len(values) and (count <= MAX_META_VALUES or 2 * count <= len(values))


def _length_band(document: Document) -> str:
    words = sum(_is_word(document.text, start, end) for start, end in word_offsets(document.text))
    return DIMENSIONS[DOCUMENT_LENGTH][bisect_left((50, 200, 500), words)]


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether a stretch holds a letter or a digit, which punctuation does not."""
    return any(character.isalnum() for character in text[start:end])
