"""One system on one test set, all of it: scores with intervals, slices, mistakes, calibration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.evaluation.counts import SLICE_PREFIX, CountTable, Scores, count_table
from musamma.evaluation.error_analysis import ErrorAnalysis, analyse_errors
from musamma.evaluation.matching import CORRECT, NamePair, pair_names
from musamma.evaluation.metrics import MODES, Scorer
from musamma.evaluation.pairing import PredictionError, pair_documents
from musamma.evaluation.partial_credit import PartialScores
from musamma.evaluation.reliability import Reliability, measure_reliability
from musamma.evaluation.significance import Intervals, bootstrap, resampling_warning
from musamma.evaluation.slices import Slice, Slicer, count_slices, score_slices


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """What can be said of a system from its predictions for a test set.

    Args:
        system: what to call it.
        document_pairs: the documents as annotated and as predicted, in the order of the gold; ``None`` for a prediction that is missing
            and counts as one without names.
        name_pairs: what became of every name, document by document.
        scores: the figures in every mode that was asked for.
        partial: partial credit by schema, the same as ``scores.partial``.
        table: the counts of every document: modes, their labels, slices.
        intervals: by row of ``table``, and ``MODE/macro``; empty without resamples.
        slices: the strict figures of parts of the names.
        errors: the errors.
        reliability: how far the scores of predicted names can be trusted; ``None`` where none has a score.
        resamples: how many resamples the intervals come from.
        seed: of the resampling.
        note: what has to be known to read the intervals, see :func:`musamma.evaluation.significance.resampling_warning`.
    """

    system: str
    document_pairs: tuple[tuple[Document, Document | None], ...]
    name_pairs: tuple[NamePair, ...]
    scores: Scores
    partial: Mapping[str, PartialScores]
    table: CountTable
    intervals: Mapping[str, Intervals]
    slices: tuple[Slice, ...]
    errors: ErrorAnalysis
    reliability: Reliability | None
    resamples: int = 10_000
    seed: int = 1
    note: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The analysis as JSON: no text but errors in their context, and of these no more than fifty of a kind."""
        return {
            "system": self.system,
            "documents": len(self.document_pairs),
            "scores": self.scores.to_dict(),
            "intervals": {
                row: intervals.to_dict()
                for row, intervals in self.intervals.items()
                if not row.startswith(SLICE_PREFIX)  # The slices have theirs.
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
    """Analyse the predictions of a system; all documents are held in memory.

    Args:
        gold: the annotated documents.
        predictions: the predicted ones, in any order, on the same texts; with scores or without.
        system: what to call the system.
        training: the documents that it was trained on, to tell names seen in training from others.
        modes: the modes to score, of :data:`musamma.evaluation.MODES`; ``strict`` is always scored.
        resamples: how many resamples the intervals come from; 0 for no intervals.
        seed: of the resampling.
        missing_as_empty: count gold documents without a prediction as documents in which nothing was found.
        sentences: how many sentences of a file make a document; 0 for whole documents.

    Raises:
        InputError: there is no document; one is missing, surplus, comes twice or differs in its text; a mode is unknown; a
            score lies outside [0, 1]; the training documents have no label of the gold.
    """
    gold, modes = list(gold), tuple(modes)
    scorer = Scorer(modes=modes)
    predicted = {
        document.id: other for document, other in pair_documents(gold, predictions, missing_as_empty=missing_as_empty)
    }
    if not gold:
        raise InputError("no gold document", expected="at least one to score")
    pairs = tuple((document, predicted[document.id]) for document in gold)
    cases: list[NamePair] = []
    for document, prediction in pairs:
        scorer.add(document, prediction)
        cases += pair_names(document, prediction.spans if prediction is not None else ())
    scores = scorer.scores()
    slicer = Slicer(training=training)
    _check_training(slicer.trained_labels, gold)
    table = count_table(pairs, modes=modes).join(count_slices(pairs, slicer))
    intervals = bootstrap(table, resamples=resamples, seed=seed) if resamples else {}
    return Analysis(
        system=system,
        document_pairs=pairs,
        name_pairs=tuple(cases),
        scores=scores,
        partial=scores.partial,
        table=table,
        intervals=intervals,
        slices=score_slices(table, intervals),
        errors=analyse_errors(pairs, cases),
        reliability=reliability_of_pairs(cases),
        resamples=resamples,
        seed=seed,
        note=resampling_warning(table, sentences=sentences) if resamples else None,
    )


def _check_training(trained: Sequence[str] | None, gold: Iterable[Document]) -> None:
    annotated = {span.label for document in gold for span in document.spans}
    if trained is None or not annotated or not annotated.isdisjoint(trained):
        return
    raise InputError(
        f"training documents with {'no name' if not trained else 'names of other labels: ' + ', '.join(trained)}",
        expected=f"labels of the gold: {', '.join(sorted(annotated))}",
        remedy="give what the system was trained on, with its labels renamed as those of the gold",
    )


def reliability_of_pairs(cases: Iterable[NamePair]) -> Reliability | None:
    """How far the scores of the predicted names can be trusted, by strict correctness; ``None`` where none has a score.

    Names without a score are left out; ``count`` of the outcome says how many had one.

    Raises:
        PredictionError: a score lies outside [0, 1].
    """
    scored: list[float] = []
    correct: list[bool] = []
    for case in cases:
        if case.predicted is None or case.predicted.score is None:
            continue
        if not 0 <= case.predicted.score <= 1:
            raise PredictionError(
                f"score {case.predicted.score} of the name [{case.predicted.start}, {case.predicted.end})",
                where=f"document {case.document!r}",
                expected="a confidence in [0, 1]",
                remedy="rescale the scores or leave them out",
            )
        scored.append(case.predicted.score)
        correct.append(case.kind == CORRECT)
    return measure_reliability(scored, correct) if scored else None
