"""Inputs of an evaluation: gold and predictions from files, with labels renamed, and with ids if a format has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import tee

from musamma.data.corpus_files import ReadOptions, guess_format, read_documents
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.options import DEFAULT_READ_OPTIONS
from musamma.data.import_audit import ImportAudit
from musamma.data.labels import LabelMap, apply_labels, load_label_map
from musamma.evaluation.conll_tags import TaggedSentence, read_tagged_sentences, score_conll_tags
from musamma.evaluation.counts import CountTable, count_table
from musamma.evaluation.document_pairing import PredictionError, pair_documents, take_ids_in_order
from musamma.evaluation.matching import MODES
from musamma.evaluation.metrics import Scores, score_documents


@dataclass(frozen=True, slots=True)
class LabelRenaming:
    """The label map of one side, if any, and the count of the names it dropped."""

    labels: LabelMap | None = None
    audit: ImportAudit = field(default_factory=lambda: ImportAudit(limit=0))

    @classmethod
    def load(cls, name: str | None) -> LabelRenaming:
        """Load a label map by name or file; ``None`` renames nothing.

        Raises:
            InputError: there is no such map.
        """
        return cls() if name is None else cls(load_label_map(name))

    @property
    def dropped(self) -> int:
        """Number of names that the map has dropped so far."""
        return self.audit.kinds["unmapped"]

    def rename_documents(self, documents: Iterable[Document], *, source: str | None = None) -> Iterator[Document]:
        """Yield the documents with their labels renamed.

        Args:
            documents: the documents.
            source: the file or model that they come from, for error messages.

        Raises:
            InputError: a label is missing from the map.
        """
        for document in documents:
            if self.labels is not None:
                try:
                    document = apply_labels(document, self.labels, audit=self.audit)
                except InputError as error:
                    raise _with_source(source, error) from None
            yield document

    def rename_label(self, label: str) -> str | None:
        """Return the new name of a label, or ``None`` if its names are dropped.

        A label that the map lacks is returned as it is: :meth:`rename_documents` raises the error.
        """
        return self.labels[label] if self.labels is not None and label in self.labels else label


@dataclass(frozen=True, slots=True)
class EvaluationPair:
    """Gold and predictions, read lazily.

    Args:
        gold: the annotated documents.
        predicted: the predicted documents.
        gold_tags: the sentences of the gold's CoNLL file, if requested.
        predicted_tags: the sentences of the predictions' CoNLL file, if requested and if it is one.
        sentences: number of sentences per document of a CoNLL file; 0 for whole documents.
    """

    gold: Iterable[Document]
    predicted: Iterable[Document]
    gold_tags: Iterable[TaggedSentence] | None = None
    predicted_tags: Iterable[TaggedSentence] | None = None
    sentences: int = 0

    def in_memory(self) -> EvaluationPair:
        """Return the pair with its documents in memory, to be read several times."""
        return replace(self, gold=list(self.gold), predicted=list(self.predicted))


def read_evaluation_pair(
    gold: str,
    predictions: str | Callable[[Iterable[Document]], Iterable[Document]],
    *,
    gold_labels: LabelRenaming,
    predicted_labels: LabelRenaming,
    tags: bool = False,
    options: ReadOptions = DEFAULT_READ_OPTIONS,
) -> EvaluationPair:
    """Open the gold and the predictions to score against it.

    Args:
        gold: path of the annotated documents, in any format that musamma reads.
        predictions: path of the predicted documents, or a function that predicts documents. The function receives the
            documents without their names.
        gold_labels: how to rename the labels of the gold.
        predicted_labels: how to rename the labels of the predictions.
        tags: also read the tags of CoNLL files as they are.
        options: how to read both.

    Raises:
        InputError: a path cannot be read, or tags are requested and the gold is not a CoNLL file.
    """
    gold_format = guess_format(gold)  # Report a wrong path before a model is loaded.
    if tags and gold_format != "conll":
        raise InputError(
            f"`tags=True` with a gold file in {gold_format}",
            where=gold,
            expected="a CoNLL file",
            remedy="score without `tags`",
        )
    annotated = read_documents(gold, options=options)
    predicted_tags = None
    predicted: Iterable[Document]
    if callable(predictions):
        annotated, texts = tee(annotated)
        predicted = predictions(document.with_spans(()) for document in texts)
    else:
        annotated, order = tee(annotated)
        predicted = read_predictions(predictions, order, options=options)
        if tags and guess_format(predictions) == "conll":
            predicted_tags = read_tagged_sentences(predictions, relabel=predicted_labels.rename_label)
    return EvaluationPair(
        gold_labels.rename_documents(annotated, source=gold),
        predicted_labels.rename_documents(predicted, source=None if callable(predictions) else predictions),
        read_tagged_sentences(gold, relabel=gold_labels.rename_label) if tags else None,
        predicted_tags,
        sentences=options.sentences if gold_format == "conll" else 0,
    )


def read_predictions(
    path: str, gold: Iterable[Document], *, options: ReadOptions = DEFAULT_READ_OPTIONS
) -> Iterator[Document]:
    """Read predicted documents, in any format that musamma reads.

    Args:
        path: the file.
        gold: the annotated documents. If the format has no ids (CoNLL), the predictions take the gold ids in order; otherwise
            the gold is not read.
        options: how to read.

    Raises:
        InputError: the file cannot be read.
    """
    predictions = read_documents(path, options=options)
    return take_ids_in_order(gold, predictions) if guess_format(path) == "conll" else predictions


@contextmanager
def naming_source(source: str) -> Iterator[None]:
    """Add the file or model that predictions come from to the errors about them."""
    try:
        yield
    except PredictionError as error:
        raise _with_source(source, error) from None


def count_evaluation_pair(
    pair: EvaluationPair, *, modes: Iterable[str] = MODES, layers: bool = False, missing_as_empty: bool = False
) -> CountTable:
    """Count the names of every document, on spans; with ``layers``, also those of the layers of nested names.

    Raises:
        InputError: as for :func:`musamma.evaluation.counts.count_table` and
            :func:`musamma.evaluation.document_pairing.pair_documents`.
    """
    pairs = pair_documents(pair.gold, pair.predicted, missing_as_empty=missing_as_empty)
    return count_table(pairs, modes=modes, layers=layers)


def score_evaluation_pair(
    pair: EvaluationPair, *, modes: Iterable[str] = MODES, missing_as_empty: bool = False
) -> Scores:
    """Score the predictions, with the IOB2 modes on the tags of the files if there are any.

    Raises:
        InputError: as for :func:`musamma.evaluation.score_documents` and
            :func:`musamma.evaluation.conll_tags.score_conll_tags`.
    """
    if pair.gold_tags is None:
        return score_documents(pair.gold, pair.predicted, modes=modes, missing_as_empty=missing_as_empty)
    return score_conll_tags(
        pair.gold,
        pair.gold_tags,
        pair.predicted,
        pair.predicted_tags,
        modes=modes,
        missing_as_empty=missing_as_empty,
    )


def _with_source(source: str | None, error: InputError) -> InputError:
    return error.replace(where=", ".join(filter(None, (source, error.where))) or None)
