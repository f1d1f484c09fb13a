"""What a name is told apart by: its label, whether training had it, where it stands, what its document is."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.words import folded, proclitic_offsets, segment

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

#: The value of a document without the key, and the one that stands for the values beyond the first ``MOST_VALUES``.
ABSENT, OTHER = "(none)", "(other)"

#: How many values a key of the metadata keeps for itself.
MOST_VALUES = 20

_DATE = re.compile(r"(\d{4})-\d{2}(-\d{2}([T ].*)?)?")


class Slicer:
    """Tells which slices a name belongs to.

    Forms are compared by their letters (see :func:`musamma.data.words.folded`). Only outermost names of the training documents count.

    Args:
        training: what the system was trained on, for ``seen`` and ``frequency``; ``None`` leaves these out.
        meta: keys of the documents' metadata to slice by. By default those with few values: more than one, fewer than
            there are documents, and no more than :data:`MOST_VALUES` or half the number of documents.
    """

    def __init__(self, *, training: Iterable[Document] | None = None, meta: Sequence[str] | None = None) -> None:
        self._meta = None if meta is None else tuple(meta)
        self._trained: dict[str, Counter[str]] | None = None
        if training is not None:
            self._trained = defaultdict(Counter)
            for document in training:
                for span in document.spans:
                    self._trained[folded(document.surface(span))][span.label] += 1

    @property
    def trained_labels(self) -> tuple[str, ...] | None:
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
        words = segment(document.text)
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
            kept = sorted(support, key=lambda value: (-support[value], value))[:MOST_VALUES]
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
            labels = self._trained.get(folded(document.surface(span)), Counter())
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
    return 1 < count < len(values) and (count <= MOST_VALUES or 2 * count <= len(values))


def _length_band(document: Document) -> str:
    words = sum(_is_word(document.text, start, end) for start, end in segment(document.text))
    return DIMENSIONS[DOCUMENT_LENGTH][bisect_left((50, 200, 500), words)]


def _is_word(text: str, start: int, end: int) -> bool:
    """Whether a stretch holds a letter or a digit, which punctuation does not."""
    return any(character.isalnum() for character in text[start:end])
