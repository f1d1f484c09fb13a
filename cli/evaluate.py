"""``musamma evaluate``: predictions, or a model, scored against annotated documents."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import write_json
from musamma.data.formats import ReadOptions, read_documents
from musamma.evaluation import MODES, print_runs, print_scores, spread
from musamma.evaluation.evaluation_pair import (
    EvaluationPair,
    LabelRenaming,
    count_evaluation_pair,
    naming_source,
    read_evaluation_pair,
    score_evaluation_pair,
)
from musamma.evaluation.matching import TAG_MODES
from musamma.evaluation.significance import bootstrap, resampling_warning

if TYPE_CHECKING:
    from musamma.evaluation.significance import Intervals

_HERE = "musamma evaluate"


def evaluate(
    gold: Annotated[str, typer.Argument(metavar="GOLD", help="Annotated documents, in any format that musamma reads.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="Tag the documents with this model: a name, a folder or a hub id. Repeatable: the seeds of one system.",
        ),
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(help="Score these documents: the same ids and texts as the gold. Repeatable as --model is."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a report with slices and errors into this folder.")
    ] = None,
    training: Annotated[
        str | None,
        typer.Option(help="What the model was trained on, for the report: names seen there and unseen ones."),
    ] = None,
    intervals: Annotated[bool, typer.Option("--intervals", help="Print confidence intervals of F1.")] = False,
    resamples: Annotated[
        int, typer.Option(min=0, help="Resamples that intervals are taken from; 0 for a report without intervals.")
    ] = 10_000,
    mode: Annotated[
        list[str] | None,
        typer.Option(help=f"Score this mode besides strict; repeatable. By default all: {', '.join(MODES)}."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Rename labels first: the name of a map, or a YAML or JSON file.")
    ] = None,
    gold_labels: Annotated[
        str | None, typer.Option(help="The same for gold and training documents alone, in place of --labels.")
    ] = None,
    predicted_labels: Annotated[
        str | None, typer.Option(help="The same for the predictions alone, in place of --labels.")
    ] = None,
    tags: Annotated[
        bool,
        typer.Option(
            "--tags",
            help="GOLD is a CoNLL file: count the IOB modes on the tags as they stand in it, and on those of the"
            " predictions if they are one too.",
        ),
    ] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Count documents without a prediction as empty ones.")
    ] = False,
    device: Annotated[
        str | None, typer.Option(help="Where the model runs: cpu, cuda, cuda:1 ...; the GPU where there is one.")
    ] = None,
    sentences: Annotated[
        int, typer.Option(min=0, help="CoNLL: sentences that make a document; 0 for all of a file.")
    ] = 1,
) -> None:
    """Score a model, or predictions made before, against annotated documents.

    The headline is strict: a name counts if its first character, its last character and its label are right.
    """
    kind, systems = _systems(model, predictions)
    _check(report=report, training=training, intervals=intervals, resamples=resamples)
    options = ReadOptions(sentences=sentences)
    modes = mode or list(MODES)
    # What is resampled are spans; the tags of a file cannot be, and their modes are not to be mistaken for those of spans.
    span_modes = [name for name in modes if not tags or name not in TAG_MODES]
    scores, bounds, records, notes = [], [], [], []
    for number, system in enumerate(systems, 1):
        ours, theirs = LabelRenaming.by(gold_labels or labels), LabelRenaming.by(predicted_labels or labels)
        sides = read_evaluation_pair(
            gold,
            system if kind == "predictions" else partial(_tagged, model=system, device=device),
            gold_labels=ours,
            predicted_labels=theirs,
            own_tags=tags,
            options=options,
        )
        if report is not None or intervals:
            sides = sides.held()
        found = None
        with naming_source(system):
            scores.append(score_evaluation_pair(sides, modes=modes, missing_as_empty=allow_missing))
            left_out = {"gold": ours.left_out, "predictions": theirs.left_out}
            if report is not None:
                found = _report(
                    sides,
                    report if len(systems) == 1 else report / f"{number}-{Path(system).stem}",
                    system=system,
                    training=_training(training, LabelRenaming.by(gold_labels or labels), options),
                    modes=span_modes,
                    resamples=resamples,
                    missing_as_empty=allow_missing,
                )
            elif intervals:
                found = _intervals(sides, modes=span_modes, resamples=resamples, missing_as_empty=allow_missing)
        bounds.append(found[0] if found and intervals else None)
        if found and intervals and found[1]:
            notes.append(found[1])
        for side, count in left_out.items():
            if count:
                name = side if side == "gold" or len(systems) == 1 else system
                notes.append(f"{name}: {count} names left out by the label map")
        shown = _bounds_record(*found, resamples) if found and intervals else {}
        records.append({kind: system, **scores[-1].to_dict(), **shown, "left_out_by_labels": left_out})
    if len(systems) == 1:
        print_scores(scores[0], Console(), intervals=bounds[0], notes=notes)
        record = {"gold": gold, **records[0]}
    else:
        together = spread(scores)
        print_runs(systems, scores, together, Console(), intervals=bounds, notes=notes)
        record = {"gold": gold, "systems": records, **together.to_dict()}
    if json_file is not None:
        write_json(record, json_file)


def _systems(model: list[str] | None, predictions: list[str] | None) -> tuple[str, list[str]]:
    """Whether models or predictions are scored, and which."""
    if bool(model) == bool(predictions):
        raise InputError(
            "both --model and --predictions" if model else "neither --model nor --predictions",
            where=_HERE,
            expected="exactly one of them",
        )
    systems = model or predictions or []
    if twice := [system for system, count in Counter(systems).items() if count > 1]:
        raise InputError(f"{twice[0]!r} comes twice", where=_HERE, expected="every run once")
    return "model" if model else "predictions", systems


def _check(*, report: Path | None, training: str | None, intervals: bool, resamples: int) -> None:
    if training is not None and report is None:
        raise InputError(
            "--training without --report", where=_HERE, expected="a report that shows it", remedy="add --report DIR"
        )
    if intervals and not resamples:
        raise InputError("--intervals with --resamples 0", where=_HERE, expected="1 or more resamples")
    if report is not None and report.exists() and not report.is_dir():
        raise InputError(
            "a file", where=str(report), expected="a folder for the report", remedy="name another --report"
        )


def _training(path: str | None, renaming: LabelRenaming, options: ReadOptions) -> Iterable[Document] | None:
    return None if path is None else renaming.documents(read_documents(path, options=options), source=path)


def _report(
    sides: EvaluationPair,
    folder: Path,
    *,
    system: str,
    training: Iterable[Document] | None,
    modes: list[str],
    resamples: int,
    missing_as_empty: bool,
) -> tuple[Mapping[str, Intervals], str | None]:
    """Write the report of a run, and give the intervals it came to and what is to be said of them."""
    from musamma.evaluation.analysis import analyse
    from musamma.evaluation.report import write_report

    analysis = analyse(
        sides.gold,
        sides.predicted,
        system=system,
        training=training,
        modes=modes,
        resamples=resamples,
        missing_as_empty=missing_as_empty,
        sentences=sides.sentences,
    )
    write_report(analysis, folder)
    return analysis.intervals, analysis.note


def _intervals(
    sides: EvaluationPair, *, modes: list[str], resamples: int, missing_as_empty: bool
) -> tuple[Mapping[str, Intervals], str | None]:
    table = count_evaluation_pair(sides, modes=modes, missing_as_empty=missing_as_empty)
    return bootstrap(table, resamples=resamples), resampling_warning(table, sentences=sides.sentences)


def _bounds_record(bounds: Mapping[str, Intervals], note: str | None, resamples: int) -> dict[str, Any]:
    return {
        "intervals": {row: found.to_dict() for row, found in bounds.items()},
        "resamples": resamples,
        "note": note,
    }


def _tagged(documents: Iterable[Document], *, model: str, device: str | None) -> Iterator[Document]:
    from musamma.inference import Tagger
    from musamma.inference.progress_bar import show_progress

    return show_progress(Tagger(model, device=device).tag_documents(documents))
