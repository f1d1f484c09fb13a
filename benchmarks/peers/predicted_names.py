"""Conversion of a system's output to documents: offsets into the raw text are checked, and every change is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.data.labels import check_label
from musamma.data.span_repair import CandidateSpan, RawDocument, repair_spans
from musamma.data.tags import decode_tags

#: The key of a predicted document's ``meta`` with the counts of what was changed or cut, by kind.
CHANGES_KEY = "changes"

#: Number of documents that a system gets at a time.
BATCH_SIZE = 32


@dataclass(frozen=True, slots=True)
class PredictedName:
    """A name as a system predicts it.

    Args:
        start, end: offsets into the text that the system was given, in code points.
        label: its label.
        score: in [0, 1]; ``None`` if the system has no scores.
        surface: the characters at these offsets according to the system, to be checked; ``None`` if it returns none.
    """

    start: int
    end: int
    label: str
    score: float | None = None
    surface: str | None = None


@dataclass(frozen=True, slots=True)
class TextPrediction:
    """A system's output for one text: the names, and the counts of what was cut or skipped, by kind."""

    names: tuple[PredictedName, ...] = ()
    changes: Counter[str] = field(default_factory=Counter)


def predict_documents(
    documents: Iterable[Document],
    predict: Callable[[Sequence[Document]], Iterable[TextPrediction]],
    *,
    batch_size: int = BATCH_SIZE,
) -> Iterator[Document]:
    """Yield the documents with the names that a system predicts, in order. Texts of whitespace only are not passed to it.

    Args:
        documents: their spans are ignored and replaced.
        predict: returns the predictions for a batch of documents, in order.
        batch_size: documents per batch.

    Raises:
        InputError: as :func:`build_document`.
    """
    iterator = iter(documents)
    while batch := list(islice(iterator, batch_size)):
        with_text = [document for document in batch if document.text.strip()]
        results = list(predict(with_text)) if with_text else []
        if len(results) != len(with_text):
            raise InputError(f"predictions for {len(results)} texts", expected=f"{len(with_text)}, one per text")
        predictions = iter(results)
        for document in batch:
            yield build_document(document, next(predictions) if document.text.strip() else TextPrediction())


def build_document(document: Document, prediction: TextPrediction) -> Document:
    """Return the document with the predicted names in place of its spans.

    Whitespace at the borders is cut off; names that are empty or outside the text are dropped; of overlapping names the longest
    is retained. Each change is counted in ``meta["changes"]``, together with the changes of the prediction.

    Raises:
        InputError: the text at a name's offsets differs from its surface, or a label contains spaces.
    """
    where = f"document {document.id!r}"
    for name in prediction.names:
        check_label(name.label, where=where)
        if name.surface is not None and document.text[name.start : name.end] != name.surface:
            raise InputError(
                f"the system found {name.surface!r} at [{name.start}, {name.end}), where the text has"
                f" {document.text[name.start : name.end]!r}",
                where=where,
                expected="offsets into the text as it was given",
                remedy="the system rewrites its text: align its words with the text first",
            )
    audit = ImportAudit(limit=0)
    candidates = tuple(CandidateSpan(name.start, name.end, name.label, name.score) for name in prediction.names)
    repaired = repair_spans(
        RawDocument(document.id, document.text, candidates, where=where), overlaps="longest", audit=audit
    )
    changes = prediction.changes + audit.kinds
    meta = {key: value for key, value in document.meta.items() if key != CHANGES_KEY}
    return replace(repaired, meta={**meta, CHANGES_KEY: dict(sorted(changes.items()))} if changes else meta)


def find_word_offsets(
    text: str, words: Sequence[str], *, start: int = 0, where: str | None = None
) -> list[tuple[int, int]]:
    """Return start and end of the words of a tokenizer that only splits.

    Args:
        text: the raw text.
        words: its words in order; only whitespace may lie between them.
        start: where to start the search.
        where: the text's name in an error.

    Raises:
        InputError: a word does not follow the one before.
    """
    offsets = []
    for word in words:
        word_start = text.find(word, start)
        if word_start < 0 or not word or text[start:word_start].strip():
            raise InputError(
                f"the word {word!r} does not follow at character {start}, where the text has {text[start : start + 20]!r}",
                where=where,
                expected="words of the raw text, one after another",
                remedy="use a tokenizer that splits and rewrites nothing",
            )
        start = word_start + len(word)
        offsets.append((word_start, start))
    return offsets


def decode_word_tags(
    offsets: Sequence[tuple[int, int]], tags: Sequence[str], *, where: str | None = None
) -> TextPrediction:
    """Return the names of IOB2 tags, one per word; a tag that continues nothing starts a name, counted as ``repaired_tag``.

    Args:
        offsets: start and end of every word in the text, in code points.
        tags: ``O``, ``B-label`` or ``I-label``.
        where: the text's name in an error.

    Raises:
        InputError: the numbers of words and tags differ, or a tag is not IOB2.
    """
    if len(offsets) != len(tags):
        raise InputError(f"{len(tags)} tags for {len(offsets)} words", where=where, expected="one per word")
    names, repairs = decode_tags([(tag,) for tag in tags], scheme="iob2", where=[where or ""] * len(tags))
    predicted = tuple(PredictedName(offsets[name.start][0], offsets[name.end - 1][1], name.label) for name in names)
    return TextPrediction(predicted, +Counter({"repaired_tag": len(repairs)}))
