"""Evaluation of one system: scores, and on request confidence intervals and a report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musamma.data.corpus_files import ReadOptions, read_documents
from musamma.data.document import Document
from musamma.data.formats.options import DEFAULT_READ_OPTIONS
from musamma.evaluation.evaluation_inputs import (
    LabelRenaming,
    count_evaluation_pair,
    naming_source,
    read_evaluation_pair,
    score_evaluation_pair,
)
from musamma.evaluation.matching import MODES, TAG_MODES
from musamma.evaluation.metrics import Scores
from musamma.evaluation.significance import Intervals, bootstrap_intervals, resampling_warning


@dataclass(frozen=True, slots=True)
class SystemEvaluation:
    """Scores of one system.

    Args:
        scores: the scores by mode.
        left_out: number of names the label maps left out, by ``gold`` and ``predictions``.
        intervals: confidence intervals as of :func:`musamma.evaluation.significance.bootstrap_intervals`; ``None`` if not requested.
        resamples: number of resamples for the intervals.
        warning: what a reader of the intervals must know.
    """

    scores: Scores
    left_out: Mapping[str, int]
    intervals: Mapping[str, Intervals] | None = None
    resamples: int = 0
    warning: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the evaluation as JSON."""
        record = self.scores.to_dict()
        if self.intervals is not None:
            record["intervals"] = {row: intervals.to_dict() for row, intervals in self.intervals.items()}
            record |= {"resamples": self.resamples, "note": self.warning}
        return {**record, "left_out_by_labels": dict(self.left_out)}


def evaluate_system(
    gold: str,
    predictions: str | Callable[[Iterable[Document]], Iterable[Document]],
    *,
    system: str,
    gold_labels: str | None = None,
    predicted_labels: str | None = None,
    modes: Sequence[str] = MODES,
    tags: bool = False,
    missing_as_empty: bool = False,
    intervals: bool = False,
    resamples: int = 10_000,
    report: Path | None = None,
    training: str | None = None,
    options: ReadOptions = DEFAULT_READ_OPTIONS,
) -> SystemEvaluation:
    """Score predictions against annotated documents.

    Args:
        gold: the annotated documents, in any supported format.
        predictions: the predicted documents, or a function that tags documents.
        system: the name of the system, for errors and the report.
        gold_labels: name or file of a label map for the gold and training documents.
        predicted_labels: name or file of a label map for the predictions.
        modes: the modes to score; ``strict`` is always scored.
        tags: count the IOB modes on the tags of CoNLL files as they stand.
        missing_as_empty: count gold documents without a prediction as documents without names.
        intervals: compute confidence intervals.
        resamples: number of resamples for intervals.
        report: folder to write a report to.
        training: the training documents, for slices of the report by names seen in training.
        options: how to read the documents.

    Raises:
        InputError: the input cannot be read, or gold and predictions do not belong together.
    """
    gold_renaming, predicted_renaming = LabelRenaming.load(gold_labels), LabelRenaming.load(predicted_labels)
    evaluation_pair = read_evaluation_pair(
        gold,
        predictions,
        gold_labels=gold_renaming,
        predicted_labels=predicted_renaming,
        tags=tags,
        options=options,
    )
    if report is not None or intervals:
        evaluation_pair = evaluation_pair.in_memory()  # The documents are read more than once.
    # Documents are resampled by their spans, so modes counted on the tags of a file have no intervals.
    span_modes = [mode for mode in modes if not tags or mode not in TAG_MODES]
    bounds: Mapping[str, Intervals] | None = None
    warning = None
    with naming_source(system):
        scores = score_evaluation_pair(evaluation_pair, modes=modes, missing_as_empty=missing_as_empty)
        left_out = {"gold": gold_renaming.dropped, "predictions": predicted_renaming.dropped}
        if report is not None:
            from musamma.evaluation.analysis import analyse
            from musamma.evaluation.report import write_report

            analysis = analyse(
                evaluation_pair.gold,
                evaluation_pair.predicted,
                system=system,
                training=None if training is None else _read_training(training, gold_labels, options),
                modes=span_modes,
                resamples=resamples,
                missing_as_empty=missing_as_empty,
                sentences=evaluation_pair.sentences,
            )
            write_report(analysis, report)
            bounds, warning = analysis.intervals, analysis.note
        elif intervals:
            table = count_evaluation_pair(evaluation_pair, modes=span_modes, missing_as_empty=missing_as_empty)
            bounds, warning = (
                bootstrap_intervals(table, resamples=resamples),
                resampling_warning(table, sentences=evaluation_pair.sentences),
            )
    if not intervals:
        return SystemEvaluation(scores, left_out)
    return SystemEvaluation(scores, left_out, bounds, resamples, warning)


def _read_training(path: str, labels: str | None, options: ReadOptions) -> Iterable[Document]:
    return LabelRenaming.load(labels).rename_documents(read_documents(path, options=options), source=path)
