"""Slices: strict scores of the names with a common attribute, position or kind of document."""

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

_LABEL, _SEEN, _FREQUENCY, _PROCLITIC = "label", "seen", "frequency", "proclitic"
_LENGTH, _POSITION, _DOCUMENT_LENGTH = "length", "position", "document_length"

#: The dimensions of every name, with their values in order. The values of ``label`` are the labels that occur; ``seen`` and
#: ``frequency`` need training documents. The keys of the documents' metadata are further dimensions, sorted.
DIMENSIONS: Mapping[str, tuple[str, ...]] = {
    _LABEL: (),
    _SEEN: ("same label", "another label", "unseen"),
    _FREQUENCY: ("0", "1", "2-5", "6+"),
    _PROCLITIC: ("no", "yes"),
    _LENGTH: ("1", "2", "3", "4+"),
    _POSITION: ("first tenth", "rest"),
    _DOCUMENT_LENGTH: ("0-50", "51-200", "201-500", "501+"),
}

#: The value of documents without a metadata key, and the value of all values beyond the first :data:`MAX_META_VALUES`.
ABSENT, OTHER = "(none)", "(other)"

#: Maximum number of values of a metadata key with a separate slice.
MAX_META_VALUES = 20

_DATE = re.compile(r"(\d{4})-\d{2}(-\d{2}([T ].*)?)?")


@dataclass(frozen=True, slots=True)
class Slice:
    """The strict scores of one slice.

    Args:
        dimension: one of :data:`DIMENSIONS`, or a key of the documents' metadata.
        value: the value that its names have in common.
        counts: ``tp`` correct names, ``fp`` wrong predicted names of the slice, ``fn`` missed gold names of the slice. A name
            with wrong borders can be missed in one slice and wrong in another.
        intervals: the intervals of precision, recall and F1; ``None`` if not computed.
        enough: True if there are enough gold names for recall and F1 to be meaningful.
        enough_predicted: True if there are enough predicted names for precision to be meaningful.
    """

    dimension: str
    value: str
    counts: Counts
    intervals: Intervals | None
    enough: bool
    enough_predicted: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the slice as a JSON object, its intervals as pairs of numbers."""
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

    A gold name counts by the attributes of its gold span, a predicted name by those of its predicted span. For a correct name
    they are the same.

    Args:
        pairs: annotated and predicted documents. A prediction that is ``None`` counts as one without names.
        slicer: assigns names and documents to slices.

    Returns:
        A row ``slice:DIMENSION=VALUE`` for every slice that has a name: dimensions and values in the order of
        :data:`DIMENSIONS`, labels and years sorted, other metadata by support, ``(none)`` and ``(other)`` last.
    """
    pairs = list(pairs)
    gold_documents = [gold for gold, _ in pairs]
    cells_of: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    document_values = slicer.document_values(gold_documents)
    for index, ((gold, prediction), of_document) in enumerate(zip(pairs, document_values, strict=True)):
        predicted = prediction.spans if prediction is not None else ()
        gold_keys = {span.key for span in gold.spans}
        for column, spans in ((GOLD, gold.spans), (PREDICTED, predicted)):
            for span, of_name in zip(spans, slicer.name_values(gold, spans), strict=True):
                correct = column == PREDICTED and span.key in gold_keys
                for row in (*of_name.items(), *of_document.items()):
                    cells_of[row].append((index, column))
                    if correct:
                        cells_of[row].append((index, TRUE_POSITIVE))
    rows = sorted(cells_of, key=lambda row: _sort_key(row, cells_of[row]))
    counts = np.zeros((len(pairs), len(rows), 3))
    for row_index, row in enumerate(rows):
        for (index, column), count in Counter(cells_of[row]).items():
            counts[index, row_index, column] = count
    return CountTable(tuple(gold.id for gold in gold_documents), tuple(_row_name(*row) for row in rows), counts)


def score_slices(table: CountTable, intervals: Mapping[str, Intervals], *, min_names: int = 30) -> tuple[Slice, ...]:
    """Return the scores of the slices of a table, in its order.

    Args:
        table: a table with the rows of :func:`count_slices`; other rows are ignored.
        intervals: by row, see :func:`musamma.evaluation.significance.bootstrap_intervals`; rows may be missing.
        min_names: number of names of a side for metrics of that side to be meaningful.
    """
    slices = []
    for row in table.rows:
        if row.startswith(SLICE_PREFIX):
            dimension, _, value = row.removeprefix(SLICE_PREFIX).partition("=")
            counts = table.total(row)
            slices.append(
                Slice(
                    dimension.replace("%3D", "=").replace("%25", "%"),
                    value,
                    counts,
                    intervals.get(row),
                    enough=counts.support >= min_names,
                    enough_predicted=counts.predicted >= min_names,
                )
            )
    return tuple(slices)


class Slicer:
    """Assigns names and documents to slices.

    Forms are compared by their letters (see :func:`musamma.data.arabic.strip_marks`). Of the training documents, only the
    outermost names count.

    Args:
        training: the system's training documents, for ``seen`` and ``frequency``; ``None`` leaves these out.
        meta: metadata keys to slice by. By default those with few values: more than one, fewer than there are documents, and
            at most :data:`MAX_META_VALUES` or half the number of documents.
    """

    def __init__(self, *, training: Iterable[Document] | None = None, meta: Sequence[str] | None = None) -> None:
        self._meta = None if meta is None else tuple(meta)
        self._training_names: dict[str, Counter[str]] | None = None
        if training is not None:
            self._training_names = defaultdict(Counter)
            for document in training:
                for span in document.spans:
                    self._training_names[strip_marks(document.surface(span))][span.label] += 1

    @property
    def training_labels(self) -> tuple[str, ...] | None:
        """The labels of the training documents, sorted; ``None`` without training documents."""
        if self._training_names is None:
            return None
        return tuple(sorted({label for labels in self._training_names.values() for label in labels}))

    def name_values(self, document: Document, spans: Sequence[Span]) -> list[dict[str, str]]:
        """Return the value of every name in each dimension of names, one mapping per name.

        Args:
            document: the text; its own spans are ignored.
            spans: names of it.
        """
        words = word_offsets(document.text)
        starts = [start for start, _ in words]
        return [self._values_of_name(document, span, words, starts) for span in spans]

    def document_values(self, documents: Sequence[Document]) -> list[dict[str, str]]:
        """Return the value of every document in each dimension of documents, one mapping per document.

        Raises:
            InputError: no document has a requested key.
        """
        by_document: list[dict[str, str]] = [{_DOCUMENT_LENGTH: _length_band(document)} for document in documents]
        present = {key for document in documents for key in document.meta}
        if self._meta is not None and (unknown := sorted(set(self._meta) - present)):
            raise InputError(
                f"metadata key {unknown[0]!r}",
                expected=f"a key that a document has: {', '.join(sorted(present)) or 'there is none'}",
            )
        for key in sorted(present if self._meta is None else self._meta):
            values = _meta_values(documents, key)
            if values is None or (self._meta is None and not _has_few_values(values)):
                continue
            support: Counter[str] = Counter()
            for document, value in zip(documents, values, strict=True):
                support[value] += len(document.spans)
            frequent = sorted(support, key=lambda value: (-support[value], value))[:MAX_META_VALUES]
            # A metadata key may have the name of a dimension.
            dimension = f"meta.{key}" if key in DIMENSIONS else key
            for mapping, value in zip(by_document, values, strict=True):
                mapping[dimension] = value if value in frequent else OTHER
        return by_document

    def _values_of_name(
        self, document: Document, span: Span, words: Sequence[tuple[int, int]], starts: Sequence[int]
    ) -> dict[str, str]:
        text = document.text
        values = {_LABEL: span.label}
        if self._training_names is not None:
            labels = self._training_names.get(strip_marks(document.surface(span)), Counter())
            seen = 0 if span.label in labels else 1 if labels else 2
            values[_SEEN] = DIMENSIONS[_SEEN][seen]
            values[_FREQUENCY] = DIMENSIONS[_FREQUENCY][bisect_left((0, 1, 5), labels.total())]
        first = bisect_right(starts, span.start) - 1
        after_proclitic = first >= 0 and span.start in proclitic_offsets(text, *words[first])[1:]
        values[_PROCLITIC] = DIMENSIONS[_PROCLITIC][after_proclitic]
        touched = words[max(first, 0) : bisect_left(starts, span.end)]
        length = sum(_has_letter_or_digit(text, max(start, span.start), min(end, span.end)) for start, end in touched)
        values[_LENGTH] = DIMENSIONS[_LENGTH][bisect_left((1, 2, 3), length)]
        values[_POSITION] = DIMENSIONS[_POSITION][10 * span.start >= len(text)]
        return values


def _row_name(dimension: str, value: str) -> str:
    # The first equals sign separates the two; equals signs of a metadata key are escaped.
    return f"{SLICE_PREFIX}{dimension.replace('%', '%25').replace('=', '%3D')}={value}"


def _sort_key(row: tuple[str, str], cells: Sequence[tuple[int, int]]) -> tuple[Any, ...]:
    dimension, value = row
    if dimension in DIMENSIONS:
        dimensions, values = list(DIMENSIONS), DIMENSIONS[dimension]
        return (dimensions.index(dimension), "", values.index(value) if values else 0, 0, value)
    support = sum(column == GOLD for _, column in cells)
    last = 1 + (ABSENT, OTHER).index(value) if value in (ABSENT, OTHER) else 0
    return (len(DIMENSIONS), dimension, last, 0 if re.fullmatch(r"\d{4}", value) else -support, value)


def _meta_values(documents: Sequence[Document], key: str) -> list[str] | None:
    """Return the value of every document, dates by year; ``None`` if a value is a list or an object."""
    values = [document.meta.get(key) for document in documents]
    if not all(value is None or isinstance(value, str | int | float) for value in values):
        return None
    texts = [ABSENT if value is None else str(value) for value in values]
    dates = [_DATE.fullmatch(text) for text in texts]
    if all(date or text == ABSENT for date, text in zip(dates, texts, strict=True)):
        return [date[1] if date else ABSENT for date in dates]
    return texts


def _has_few_values(values: Sequence[str]) -> bool:
    count = len(set(values))
    return 1 < count < len(values) and (count <= MAX_META_VALUES or 2 * count <= len(values))


def _length_band(document: Document) -> str:
    words = sum(_has_letter_or_digit(document.text, start, end) for start, end in word_offsets(document.text))
    return DIMENSIONS[_DOCUMENT_LENGTH][bisect_left((50, 200, 500), words)]


def _has_letter_or_digit(text: str, start: int, end: int) -> bool:
    """Tell whether a stretch of text has a letter or digit, so that it is a word and not punctuation."""
    return any(character.isalnum() for character in text[start:end])
