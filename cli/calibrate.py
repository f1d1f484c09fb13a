"""``musamma calibrate``: make a model's scores mean what they say, and find the scores from which its names can be trusted."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.evaluation.development_set import check_known_labels, read_development_set
from musamma.evaluation.reliability import Reliability, Threshold, check_precision, find_thresholds, measure_reliability
from musamma.evaluation.score_tables import table_of

if TYPE_CHECKING:
    from musamma.models.calibration import Calibration
    from musamma.models.predictor import Predictor

_WIDTH = 120


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a development set says of a model's scores.

    Args:
        calibration: what goes into the checkpoint.
        before: the names' scores as the model gives them.
        after: the same, calibrated.
        thresholds: by label.
    """

    calibration: Calibration
    before: Reliability
    after: Reliability
    thresholds: dict[str, Threshold]


def calibrate(
    dev: Annotated[
        str,
        typer.Argument(metavar="DEV", help="Annotated documents that the model was not trained on, nor is scored on."),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="A folder; with --output also a name or a hub id.")],
    precision: Annotated[
        float, typer.Option(help="Find the scores from which so large a share of a label's names is right.")
    ] = 0.9,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a calibrated copy to this folder; without it the model is changed."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Rename the labels of DEV first: the name of a map, or a YAML or JSON file.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Where the model runs: cpu, cuda, cuda:1 ...; the GPU where there is one.")
    ] = None,
) -> None:
    """Fit a model's scores on annotated documents, and keep what was found in its config.json.

    The names that it finds stay the same. Their scores come to mean how many of such names are right, and musamma predict
    --thresholds leaves out those that fall short of the precision.
    """
    check_precision(precision)
    documents = read_development_set(dev, labels=labels)

    from musamma.inference.progress_bar import show_progress
    from musamma.models.loading import load_predictor

    source = _source(model, output)
    predictor = load_predictor(model, device=device)
    check_known_labels(documents, predictor.tag_set.labels, where=dev)
    fitted = fit(predictor, list(show_progress(documents)), precision=precision)
    if not fitted.before.count:
        raise InputError(
            f"the model finds none of the {fitted.calibration.names} names, nor any other",
            where=dev,
            expected="documents such as the model was trained for",
        )
    target = _write(fitted.calibration, source, output)
    _print(fitted, precision, Console(width=_WIDTH))
    typer.echo(f"\nwritten to {target / 'config.json'}")


def fit(predictor: Predictor, documents: Sequence[Document], *, precision: float) -> Fitted:
    """Fit temperatures and thresholds on annotated documents.

    Args:
        predictor: the model.
        documents: documents with their names, all of them with labels that the model knows.
        precision: what is wanted of the names of each label, in (0, 1).
    """
    from musamma.models.calibration import Calibration, fit_temperatures

    classified = list(predictor.classify(documents))
    raw = Calibration()
    warm = Calibration(*fit_temperatures(classified, predictor.tag_set))

    def names(calibration: Calibration) -> tuple[list[float], list[bool], list[str]]:
        spans = [
            (span, span.key in gold)
            for encoded, logits in classified
            for gold in [{annotated.key for annotated in encoded.document.spans}]
            for span in predictor.decode(encoded, logits, calibration).spans
        ]
        return [s.score or 0.0 for s, _ in spans], [right for _, right in spans], [s.label for s, _ in spans]

    scores, correct, found = names(warm)
    before, after = measure_reliability(*names(raw)[:2]), measure_reliability(scores, correct)
    support = Counter(dict.fromkeys(predictor.tag_set.labels, 0))
    support.update(span.label for document in documents for span in document.spans)
    reached = find_thresholds(scores, correct, found, precision=precision, support=support)
    calibration = replace(
        warm,
        thresholds={label: threshold.value for label, threshold in reached.items()},
        precision=precision,
        documents=len(documents),
        names=sum(support.values()),
        ece_before=round(before.ece, 6),
        ece_after=round(after.ece, 6),
    )
    return Fitted(calibration, before, after, reached)


def _source(model: str, output: Path | None) -> Path:
    """The folder of the checkpoint; fails where it, or the output, cannot be written."""
    from musamma.models.loading import packaged_models, resolve_model

    name = resolve_model(model)
    folder = Path(model).expanduser()
    bundled = {path.resolve() for path in packaged_models().values()}
    if output is None:
        if not folder.is_dir() or folder.resolve() in bundled:
            raise InputError(
                "a model that is not in a folder of yours",
                where=model,
                remedy="give --output FOLDER for a calibrated copy of it",
            )
        return folder
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(
            "is there already",
            where=str(output),
            expected="a folder that is new or empty",
            remedy="choose another --output, or leave it out to change the model itself",
        )
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.model", "*.safetensors", "*.md"]))


def _write(calibration: Calibration, source: Path, output: Path | None) -> Path:
    """Put the calibration into the checkpoint, or into a copy of its files that is there whole or not at all."""
    from musamma.models.calibration import write_calibration

    if output is None:
        write_calibration(calibration, source)
        return source
    partial = output.with_name(output.name + ".part")
    try:
        partial.mkdir(parents=True, exist_ok=True)
        for file in source.iterdir():
            if file.is_file():
                shutil.copy(file, partial / file.name)
        write_calibration(calibration, partial)
        partial.replace(output)
    except OSError as error:
        reason = str(error.strerror or error)
        raise InputError(reason, where=str(output), remedy="choose an --output that can be written") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


def _print(fitted: Fitted, precision: float, console: Console) -> None:
    calibration = fitted.calibration
    before, after = fitted.before, fitted.after
    table = table_of("scores", "T tags", "T borders", "mean score", "right", "ECE", "ACE", "Brier")
    for title, heat, found in (
        ("before", (1.0, 1.0), before),
        ("after", (calibration.tag_temperature, calibration.proclitic_temperature), after),
    ):
        figures = (found.confidence, found.precision, found.ece, found.ace, found.brier)
        table.add_row(title, *(f"{value:.2f}" for value in heat), *(f"{value:.4f}" for value in figures))
    console.print(table)
    bins = table_of("score", "names before", "mean score", "right", "names after", "mean score", "right")
    for one, other in zip(before.bins, after.bins, strict=True):
        cells = (
            cell
            for part in (one, other)
            for cell in (
                str(part.count),
                *(f"{value:.2f}" if part.count else "" for value in (part.confidence, part.precision)),
            )
        )
        bins.add_row(f"{one.low:.1f}-{one.high:.1f}", *cells)
    console.print()
    console.print(bins)
    kept = table_of("label", f"{precision:g} right from", "precision", "recall", "gold names")
    for label, threshold in fitted.thresholds.items():
        start = "not reached" if threshold.value is None else f"{threshold.value:.4f}"
        kept.add_row(label, start, f"{threshold.precision:.4f}", f"{threshold.recall:.4f}", str(threshold.support))
    console.print()
    console.print(kept)
    console.print(f"\n{calibration.documents} documents, {calibration.names} names, {before.count} predicted")
