"""Gold and predictions as they are read from files: labels renamed, ids given where a format holds none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import tee

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats import ReadOptions, guess_format, read_documents
from musamma.data.formats.options import DEFAULT_READ_OPTIONS
from musamma.data.import_audit import ImportAudit
from musamma.data.labels import LabelMap, apply_labels, load_label_map
from musamma.evaluation.counts import CountTable, Scores, count_table
from musamma.evaluation.matching import MODES
from musamma.evaluation.metrics import score_documents
from musamma.evaluation.pairing import PredictionError, pair_documents, take_ids_in_order
from musamma.evaluation.tag_files import TaggedSentence, read_tagged_sentences, score_conll_tags


@dataclass(frozen=True, slots=True)
class LabelRenaming:
    """The labels of one side: the map, if there is one, and the account of what it left out."""

    labels: LabelMap | None = None
    audit: ImportAudit = field(default_factory=lambda: ImportAudit(limit=0))

    @classmethod
    def by(cls, name: str | None) -> LabelRenaming:
        """With the map of this name or file; ``None`` renames nothing.

        Raises:
            InputError: there is no such map.
        """
        return cls() if name is None else cls(load_label_map(name))

    @property
    def left_out(self) -> int:
        """How many names the map has left out so far."""
        return self.audit.kinds["unmapped"]

    def documents(self, documents: Iterable[Document], *, source: str | None = None) -> Iterator[Document]:
        """The documents with their labels renamed.

        Args:
            documents: as they were read.
            source: where from, for the message of an error.

        Raises:
            InputError: a label is missing from the map.
        """
        for document in documents:
            if self.labels is not None:
                try:
                    document = apply_labels(document, self.labels, audit=self.audit)
                except InputError as error:
                    raise _of(source, error) from None
            yield document

    def label(self, label: str) -> str | None:
        """The new name of a label, ``None`` where names of it are left out. A label without entry stays for the error."""
        return self.labels[label] if self.labels is not None and label in self.labels else label


@dataclass(frozen=True, slots=True)
class EvaluationPair:
    """Gold and predictions, read as they are asked for.

    Args:
        gold: the annotated documents.
        predicted: the predicted ones.
        gold_tags: the sentences of the gold's CoNLL file, where they were asked for.
        predicted_tags: those of the predictions' own CoNLL file, where it is one.
        sentences: how many sentences of a CoNLL file make a document; 0 where documents are whole.
    """

    gold: Iterable[Document]
    predicted: Iterable[Document]
    gold_tags: Iterable[TaggedSentence] | None = None
    predicted_tags: Iterable[TaggedSentence] | None = None
    sentences: int = 0

    def held(self) -> EvaluationPair:
        """The same with the documents in memory, to be gone through several times."""
        return replace(self, gold=list(self.gold), predicted=list(self.predicted))


def read_evaluation_pair(
    gold: str,
    predictions: str | Callable[[Iterable[Document]], Iterable[Document]],
    *,
    gold_labels: LabelRenaming,
    predicted_labels: LabelRenaming,
    own_tags: bool = False,
    options: ReadOptions = DEFAULT_READ_OPTIONS,
) -> EvaluationPair:
    """Open the gold and what is to be scored against it.

    Args:
        gold: the annotated documents, in any format that musamma reads.
        predictions: the predicted ones, or a tagger: what makes predictions of documents, whose names it is not shown.
        gold_labels: how to rename the labels of the gold.
        predicted_labels: how to rename those of the predictions.
        own_tags: whether the tags of CoNLL files are wanted as they stand.
        options: how to read both.

    Raises:
        InputError: a path cannot be read, or tags are wanted and the gold is no CoNLL file.
    """
    gold_format = guess_format(gold)  # A wrong path is told of before a model is loaded.
    if own_tags and gold_format != "conll":
        raise InputError(
            f"--tags with a gold file in {gold_format}", where=gold, expected="a CoNLL file", remedy="leave --tags out"
        )
    annotated = read_documents(gold, options=options)
    predicted_tags = None
    predicted: Iterable[Document]
    if callable(predictions):
        annotated, shown = tee(annotated)
        predicted = predictions(document.with_spans(()) for document in shown)
    else:
        annotated, order = tee(annotated)
        predicted = read_predictions(predictions, order, options=options)
        if own_tags and guess_format(predictions) == "conll":
            predicted_tags = read_tagged_sentences(predictions, relabel=predicted_labels.label)
    return EvaluationPair(
        gold_labels.documents(annotated, source=gold),
        predicted_labels.documents(predicted, source=None if callable(predictions) else predictions),
        read_tagged_sentences(gold, relabel=gold_labels.label) if own_tags else None,
        predicted_tags,
        sentences=options.sentences if gold_format == "conll" else 0,
    )


def read_predictions(
    path: str, gold: Iterable[Document], *, options: ReadOptions = DEFAULT_READ_OPTIONS
) -> Iterator[Document]:
    """The predicted documents of a file, in any format that musamma reads.

    Args:
        path: the file.
        gold: the annotated documents, whose ids they take in their order where the format holds none (CoNLL); else they are
            not looked at.
        options: how to read.

    Raises:
        InputError: the file cannot be read.
    """
    predictions = read_documents(path, options=options)
    return take_ids_in_order(gold, predictions) if guess_format(path) == "conll" else predictions


@contextmanager
def naming_source(source: str) -> Iterator[None]:
    """Let errors about predictions name the file, or the model, that they come from."""
    try:
        yield
    except PredictionError as error:
        raise _of(source, error) from None


def _of(source: str | None, error: InputError) -> InputError:
    where = ", ".join(filter(None, (source, error.where)))
    return InputError(error.found, where=where or None, expected=error.expected, remedy=error.remedy)


def count_evaluation_pair(
    sides: EvaluationPair, *, modes: Iterable[str] = MODES, missing_as_empty: bool = False
) -> CountTable:
    """Count one side against the other document by document, on spans.

    Raises:
        InputError: as :func:`musamma.evaluation.counts.count_table` and :func:`musamma.evaluation.pairing.pair_documents`.
    """
    return count_table(pair_documents(sides.gold, sides.predicted, missing_as_empty=missing_as_empty), modes=modes)


def score_evaluation_pair(
    sides: EvaluationPair, *, modes: Iterable[str] = MODES, missing_as_empty: bool = False
) -> Scores:
    """Score one side against the other, the IOB modes on the tags of the files where there are any.

    Raises:
        InputError: as :func:`musamma.evaluation.score_documents` and :func:`musamma.evaluation.tag_files.score_conll_tags`.
    """
    if sides.gold_tags is None:
        return score_documents(sides.gold, sides.predicted, modes=modes, missing_as_empty=missing_as_empty)
    return score_conll_tags(
        sides.gold,
        sides.gold_tags,
        sides.predicted,
        sides.predicted_tags,
        modes=modes,
        missing_as_empty=missing_as_empty,
    )
