"""Full analysis of one system on one test set: scores with intervals, slices, errors, and reliability of names' scores."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.evaluation.counts import SLICE_PREFIX, CountTable, CountTableBuilder
from musamma.evaluation.document_pairing import pair_documents
from musamma.evaluation.error_analysis import ErrorAnalysis, analyse_errors
from musamma.evaluation.matching import MODES, NamePair, match_by_mode, pair_matches
from musamma.evaluation.metrics import Scorer, Scores
from musamma.evaluation.reliability import Reliability, reliability_of_pairs
from musamma.evaluation.significance import Intervals, bootstrap_intervals, resampling_warning
from musamma.evaluation.slices import Slice, Slicer, count_slices, score_slices


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """The analysis of a system's predictions for a test set.

    Args:
        system: the name of the system.
        document_pairs: the annotated and predicted documents, in the order of the gold; a missing prediction is ``None`` and
            counts as one without names.
        name_pairs: the gold names and the predicted names, paired, document by document.
        scores: the scores in every requested mode, partial credit included.
        table: the counts of every document: modes, their labels, slices.
        intervals: the intervals by row of ``table`` and ``MODE/macro``; empty without resamples.
        slices: the strict scores of the slices.
        errors: the errors in detail.
        reliability: how well the scores of predicted names fit their precision; ``None`` if no name has a score.
        resamples: number of resamples for the intervals.
        seed: seed of the resampling.
        note: a warning about the intervals, see :func:`musamma.evaluation.significance.resampling_warning`.
    """

    system: str
    document_pairs: tuple[tuple[Document, Document | None], ...]
    name_pairs: tuple[NamePair, ...]
    scores: Scores
    table: CountTable
    intervals: dict[str, Intervals]
    slices: tuple[Slice, ...]
    errors: ErrorAnalysis
    reliability: Reliability | None
    resamples: int = 10_000
    seed: int = 1
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the analysis as JSON: no text except for errors in context, at most fifty of each kind."""
        return {
            "system": self.system,
            "documents": len(self.document_pairs),
            "scores": self.scores.to_dict(),
            "intervals": {
                row: intervals.to_dict()
                for row, intervals in self.intervals.items()
                if not row.startswith(SLICE_PREFIX)  # Slices contain their intervals.
            },
            "resampling": {"resamples": self.resamples, "seed": self.seed, "note": self.note},
            "slices": [part.to_dict() for part in self.slices],
            "reliability": None if self.reliability is None else self.reliability.to_dict(),
            "mistakes": self.errors.to_dict(),
        }


def analyse(
    gold: Iterable[Document],
    predictions: Iterable[Document],
    *,
    system: str,
    training: Iterable[Document] | None = None,
    modes: Iterable[str] = MODES,
    resamples: int = 10_000,
    seed: int = 1,
    missing_as_empty: bool = False,
    sentences: int = 0,
) -> Analysis:
    """Analyse the predictions of a system. All documents are kept in memory.

    Args:
        gold: the annotated documents.
        predictions: the predicted documents, in any order, on the same texts, with or without scores.
        system: the name of the system.
        training: the system's training documents, to separate names seen in training from others.
        modes: some of :data:`musamma.evaluation.MODES`; ``strict`` is always scored.
        resamples: number of resamples for the intervals; 0 for no intervals.
        seed: seed of the resampling.
        missing_as_empty: count gold documents without a prediction as predicted without names.
        sentences: number of sentences that a document consists of; 0 if documents are whole articles.

    Raises:
        InputError: there is no document; a document is missing, unknown to the gold, repeated or different in its text; a mode
            is unknown; a score is outside [0, 1]; the training documents have no label of the gold.
    """
    gold = list(gold)
    scorer = Scorer(modes=modes)
    table_builder = CountTableBuilder(scorer.modes)
    paired = pair_documents(gold, predictions, missing_as_empty=missing_as_empty)
    predicted = {document.id: prediction for document, prediction in paired}
    if not gold:
        raise InputError("no gold document", expected="at least one to score")
    document_pairs = tuple((document, predicted[document.id]) for document in gold)
    name_pairs: list[NamePair] = []
    for document, prediction in document_pairs:
        spans = prediction.spans if prediction is not None else ()
        matches = match_by_mode(document.text, document.spans, spans, modes=scorer.modes)
        scorer.add_matches(document, prediction, matches)
        table_builder.add(document.id, matches.modes)
        name_pairs += pair_matches(document, matches)
    slicer = Slicer(training=training)
    _check_training_labels(slicer.training_labels, gold)
    table = table_builder.table().join(count_slices(document_pairs, slicer))
    intervals = bootstrap_intervals(table, resamples=resamples, seed=seed) if resamples else {}
    return Analysis(
        system=system,
        document_pairs=document_pairs,
        name_pairs=tuple(name_pairs),
        scores=scorer.scores(),
        table=table,
        intervals=intervals,
        slices=score_slices(table, intervals),
        errors=analyse_errors(document_pairs, name_pairs),
        reliability=reliability_of_pairs(name_pairs),
        resamples=resamples,
        seed=seed,
        note=resampling_warning(table, sentences=sentences) if resamples else None,
    )


def _check_training_labels(training_labels: Sequence[str] | None, gold: Iterable[Document]) -> None:
    gold_labels = {span.label for document in gold for span in document.spans}
    if training_labels is None or not gold_labels or not gold_labels.isdisjoint(training_labels):
        return
    names = f"names of other labels: {', '.join(training_labels)}" if training_labels else "no name"
    raise InputError(
        f"training documents with {names}",
        expected=f"labels of the gold: {', '.join(sorted(gold_labels))}",
        remedy="give the system's training documents, with their labels renamed like those of the gold",
    )
