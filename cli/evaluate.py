"""``musamma evaluate``: score predictions or models against annotated documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from musamma.cli.shared_options import Device
from musamma.data.document import Document
from musamma.data.errors import InputError, not_writable
from musamma.data.files import FOLDER, check_outputs, path_kind, write_json
from musamma.data.formats.options import ReadOptions
from musamma.evaluation.matching import MODES

if TYPE_CHECKING:
    from musamma.evaluation.system_evaluation import SystemEvaluation

_COMMAND = "musamma evaluate"


def evaluate(
    gold: Annotated[str, typer.Argument(metavar="GOLD", help="Annotated documents in any supported format.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Score this model: a name, a folder or a hub id. Repeat for several seeds of one system.",
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            help="Score these documents, with the ids and texts of GOLD. Repeat for several seeds of one system."
        ),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all scores to this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a report with slices and errors to this folder.")
    ] = None,
    training: Annotated[
        str | None,
        typer.Option(help="Training documents of the model: the report then scores seen and unseen names separately."),
    ] = None,
    intervals: Annotated[bool, typer.Option("--intervals", help="Print confidence intervals of F1.")] = False,
    resamples: Annotated[
        int, typer.Option(min=0, help="Number of resamples for intervals; 0 for a report without intervals.")
    ] = 10_000,
    mode: Annotated[
        list[str] | None,
        typer.Option(help=f"Score this mode as well as strict; repeatable. Default: {', '.join(MODES)}."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Rename labels before scoring: name of a label map, or a YAML or JSON file.")
    ] = None,
    gold_labels: Annotated[
        str | None, typer.Option(help="Label map for the gold and training documents only; overrides --labels.")
    ] = None,
    predicted_labels: Annotated[
        str | None, typer.Option(help="Label map for the predictions only; overrides --labels.")
    ] = None,
    tags: Annotated[
        bool,
        typer.Option(
            "--tags",
            help="Count the IOB modes on the tags of the CoNLL file GOLD as they stand, and on those of the predictions"
            " if they are CoNLL too.",
        ),
    ] = False,
    missing_as_empty: Annotated[
        bool, typer.Option("--allow-missing", help="Count documents without a prediction as documents without names.")
    ] = False,
    device: Device = None,
    sentences: Annotated[
        int, typer.Option(min=0, help="CoNLL: number of sentences per document; 0 for the whole file.")
    ] = 1,
) -> None:
    """Score a model, or existing predictions, against annotated documents.

    The main score is strict: a name is correct if its first character, last character and label are correct.
    """
    from musamma.evaluation import print_runs, print_scores, spread
    from musamma.evaluation.system_evaluation import evaluate_system

    kind, systems = _check_systems(model, predictions)
    _check_options(report=report, training=training, intervals=intervals, resamples=resamples)
    reports = _report_folders(report, systems)
    files = [
        ("report", folder / f"report.{suffix}") for folder in reports if folder for suffix in ("html", "md", "json")
    ]
    check_outputs([*files, ("json", json_file)], [gold, training or "", *(predictions or [])])
    evaluations = [
        evaluate_system(
            gold,
            system if kind == "predictions" else partial(_tag_documents, model=system, device=device),
            system=system,
            gold_labels=gold_labels or labels,
            predicted_labels=predicted_labels or labels,
            modes=mode or list(MODES),
            tags=tags,
            missing_as_empty=missing_as_empty,
            intervals=intervals,
            resamples=resamples,
            report=folder,
            training=training,
            options=ReadOptions(sentences=sentences),
        )
        for system, folder in zip(systems, reports, strict=True)
    ]
    records = [{kind: system, **evaluation.to_dict()} for system, evaluation in zip(systems, evaluations, strict=True)]
    scores = [evaluation.scores for evaluation in evaluations]
    bounds = [evaluation.intervals for evaluation in evaluations]
    notes = _format_notes(systems, evaluations)
    if len(systems) == 1:
        print_scores(scores[0], Console(), intervals=bounds[0], notes=notes)
        record = {"gold": gold, **records[0]}
    else:
        seed_scores = spread(scores)
        print_runs(systems, scores, seed_scores, Console(), intervals=bounds, notes=notes)
        record = {"gold": gold, "systems": records, **seed_scores.to_dict()}
    if json_file is not None:
        write_json(record, json_file)


def _check_systems(model: list[str] | None, predictions: list[str] | None) -> tuple[str, list[str]]:
    """Return ``model`` or ``predictions`` and the systems given by that option."""
    if bool(model) == bool(predictions):
        raise InputError(
            "both --model and --predictions" if model else "neither --model nor --predictions",
            where=_COMMAND,
            expected="exactly one of them",
        )
    systems = model or predictions or []
    if repeated := [system for system, count in Counter(systems).items() if count > 1]:
        raise InputError(f"{repeated[0]!r} is given twice", where=_COMMAND, expected="each run once")
    return "model" if model else "predictions", systems


def _report_folders(report: Path | None, systems: list[str]) -> list[Path | None]:
    """Return the folder of each system's report: the given one, or one inside it for each of several systems."""
    if report is None or len(systems) == 1:
        return [report] * len(systems)
    return [report / f"{number}-{Path(system).stem}" for number, system in enumerate(systems, 1)]


def _check_options(*, report: Path | None, training: str | None, intervals: bool, resamples: int) -> None:
    if training is not None and report is None:
        raise InputError(
            "--training without --report", where=_COMMAND, expected="a report to show it in", remedy="add --report DIR"
        )
    if intervals and not resamples:
        raise InputError("--intervals with --resamples 0", where=_COMMAND, expected="1 or more resamples")
    if report is None:
        return
    try:
        kind = path_kind(report)
    except OSError as error:
        raise not_writable(report, error, remedy="choose another --report") from error
    if kind not in (None, FOLDER):
        raise InputError(
            str(kind), where=str(report), expected="a folder for the report", remedy="choose another --report"
        )


def _format_notes(systems: list[str], evaluations: list[SystemEvaluation]) -> list[str]:
    """Return the lines below the tables: warnings on intervals, and names left out by label maps."""
    notes = []
    for system, evaluation in zip(systems, evaluations, strict=True):
        if evaluation.warning:
            notes.append(evaluation.warning)
        for side, count in evaluation.left_out.items():
            if count:
                name = side if side == "gold" or len(systems) == 1 else system
                notes.append(f"{name}: {count} names left out by the label map")
    return notes


def _tag_documents(documents: Iterable[Document], *, model: str, device: str | None) -> Iterator[Document]:
    from musamma.inference import Tagger
    from musamma.inference.progress_bar import show_progress

    return show_progress(Tagger(model, device=device).tag_documents(documents))
