"""``musamma calibrate``: fit the scores of a model, and find the scores from which its names are precise enough."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from musamma.cli.shared_options import Device
from musamma.data.errors import InputError, output_exists

if TYPE_CHECKING:
    from musamma.models.calibration import CalibrationFit

_WIDTH = 120


def calibrate(
    dev: Annotated[
        str,
        typer.Argument(
            metavar="DEV", help="Annotated documents that are used neither to train the model nor to score it."
        ),
    ],
    model: Annotated[str, typer.Option("--model", "-m", help="A folder; with --output also a name or a hub id.")],
    precision: Annotated[
        float, typer.Option(help="Target share of correct names above the threshold of each label.")
    ] = 0.9,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write a calibrated copy to this folder; by default the model is changed."),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Rename the labels of DEV first: the name of a map, or a YAML or JSON file.")
    ] = None,
    device: Device = None,
) -> None:
    """Fit a model's scores on annotated documents and write the result to its config.json.

    The model finds the same names as before. A score becomes the share of names with that score that are correct, and
    musamma predict --thresholds leaves out names below the precision.
    """
    # Imported here, as in the other verbs: `musamma --help` must not wait for libraries.
    from musamma.evaluation.development_set import check_known_labels, read_development_set
    from musamma.evaluation.thresholds import check_precision

    check_precision(precision)
    documents = read_development_set(dev, labels=labels)

    from musamma.inference.progress_bar import show_progress
    from musamma.models.calibration import fit_calibration, write_calibrated_copy, write_calibration
    from musamma.models.loading import load_predictor

    checkpoint = _find_checkpoint(model, output)
    predictor = load_predictor(model, device=device)
    check_known_labels(documents, predictor.tag_set.labels, where=dev)
    classified = predictor.classify(show_progress(documents))
    fit = fit_calibration(classified, predictor.tag_set, precision=precision, nested=predictor.nested_tag_set)
    if not fit.before.count:
        raise InputError(
            f"the model predicts no name, and the documents have {fit.calibration.names}",
            where=dev,
            expected="documents like those the model was trained on",
        )
    if output is None:
        write_calibration(fit.calibration, checkpoint)
    else:
        write_calibrated_copy(fit.calibration, checkpoint, output)
    _print_fit(fit, precision, Console(width=_WIDTH))
    typer.echo(f"\nwritten to {(output or checkpoint) / 'config.json'}")


def _find_checkpoint(model: str, output: Path | None) -> Path:
    """Return the checkpoint's folder.

    Raises:
        InputError: there is no such model, the output exists, or the model itself must not be changed and no output is given.
    """
    from musamma.models.model_names import packaged_models, resolve_model

    name = resolve_model(model)
    folder = Path(model).expanduser()
    packaged = {path.resolve() for path in packaged_models().values()}
    if output is None:
        if not folder.is_dir() or folder.resolve() in packaged:
            raise InputError(
                "not a folder of your own, so the model cannot be changed",
                where=model,
                remedy="give --output FOLDER to write a calibrated copy",
            )
        return folder
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise output_exists(output, remedy="choose another --output, or leave it out to change the model itself")
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    files = ["*.json", "*.txt", "*.model", "*.safetensors", "*.md", "pytorch_model*.bin", "openvino_model.*", "*.onnx"]
    return Path(snapshot_download(name, allow_patterns=files))


def _print_fit(fit: CalibrationFit, precision: float, console: Console) -> None:
    from musamma.evaluation.score_tables import build_table

    calibration = fit.calibration
    scores = build_table("scores", "T tags", "T borders", "mean score", "right", "ECE", "ACE", "Brier")
    for title, temperatures, reliability in (
        ("before", (1.0, 1.0), fit.before),
        ("after", (calibration.tag_temperature, calibration.proclitic_temperature), fit.after),
    ):
        figures = (
            reliability.confidence,
            reliability.precision,
            reliability.ece,
            reliability.ace,
            reliability.brier,
        )
        scores.add_row(title, *(f"{value:.2f}" for value in temperatures), *(f"{value:.4f}" for value in figures))
    console.print(scores)
    bins = build_table("score", "names before", "mean score", "right", "names after", "mean score", "right")
    for before, after in zip(fit.before.bins, fit.after.bins, strict=True):
        cells = (
            cell
            for part in (before, after)
            for cell in (
                str(part.count),
                *(f"{value:.2f}" if part.count else "" for value in (part.confidence, part.precision)),
            )
        )
        bins.add_row(f"{before.low:.1f}-{before.high:.1f}", *cells)
    console.print()
    console.print(bins)
    thresholds = build_table("label", f"{precision:g} right from", "precision", "recall", "gold names")
    nested = {f"{label} (nested)": threshold for label, threshold in fit.nested_thresholds.items()}
    for label, threshold in {**fit.thresholds, **nested}.items():
        lowest = "not reached" if threshold.value is None else f"{threshold.value:.4f}"
        thresholds.add_row(
            label, lowest, f"{threshold.precision:.4f}", f"{threshold.recall:.4f}", str(threshold.support)
        )
    console.print()
    console.print(thresholds)
    console.print(f"\n{calibration.documents} documents, {calibration.names} names, {fit.before.count} predicted")
