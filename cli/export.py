"""``musamma export``: write a copy of a checkpoint for another runtime, after checking it against the checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from musamma.models.model_names import DEFAULT_MODEL

if TYPE_CHECKING:
    from musamma.models.export.export_record import ExportRecord


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help=f"A checkpoint: a name, a folder or a hub id; by default {DEFAULT_MODEL}.",
            show_default=False,
        ),
    ] = DEFAULT_MODEL,
    runtime: Annotated[
        Literal["openvino", "onnx"],
        typer.Option("--format", help="The runtime to export for; OpenVINO is faster here."),
    ] = "openvino",
    quantize: Annotated[
        Literal["int8"] | None, typer.Option(help="Write most matrices as 8-bit integers; requires --dev.")
    ] = None,
    dev: Annotated[
        str | None,
        typer.Option(
            metavar="GOLD",
            help="Annotated documents on which to measure F1 before and after, or khabar for Khabar's dev part.",
        ),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Rename the labels of GOLD first: the name of a map, or a YAML or JSON file.")
    ] = None,
    max_f1_loss: Annotated[
        float,
        typer.Option(
            min=0,
            help="Write nothing if strict micro F1 falls by more than this many points of 100, beyond chance: its whole 95% "
            "interval is worse.",
        ),
    ] = 0.3,
    min_agreement: Annotated[
        float,
        typer.Option(
            min=0, max=100, metavar="PERCENT", help="int8: write nothing if fewer names agree with the checkpoint's."
        ),
    ] = 97.0,
    sample: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="OpenVINO int8: texts to measure activations on, instead of Khabar's."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
) -> None:
    """Write a copy of a checkpoint for OpenVINO or ONNX Runtime, if it predicts the same names."""
    from musamma.inference.progress_bar import show_progress
    from musamma.models.export.pipeline import export_model

    record = export_model(
        model,
        output,
        runtime=runtime,
        quantize=quantize,
        dev=dev,
        labels=labels,
        max_f1_loss=max_f1_loss,
        min_agreement=min_agreement,
        sample=sample,
        overwrite=overwrite,
        warn=lambda warning: typer.echo(f"musamma: {warning}", err=True),
        progress=show_progress,
    )
    _print_record(record, Console())
    typer.echo(f"\nwritten to {output}")


def _print_record(record: ExportRecord, console: Console) -> None:
    from musamma.evaluation.score_tables import build_table, print_table

    quality, parity = record.quality, record.parity
    table = build_table("", "strict F1", "weights, MB", "words/s, about")
    scores = ("", "") if quality is None else (f"{100 * quality.before:.2f}", f"{100 * quality.after:.2f}")
    title = f"{record.runtime} {record.quantization or ''}".strip()
    for name, score, size, speed in zip(
        ("checkpoint", title), scores, record.bytes, record.words_per_second, strict=True
    ):
        table.add_row(name, score, f"{size / 1e6:.1f}", f"{speed:,.0f}")
    print_table(table, console)
    lines = [
        "",
        f"{parity.windows:,} windows, {parity.words:,} words, {parity.names:,} names compared with the checkpoint: "
        f"{100 * parity.words_agreeing:.2f}% of the words and {100 * parity.names_agreeing:.2f}% of the names agree",
        f"log probabilities differ by {parity.mean_difference:.2g} on average, "
        f"{parity.greatest_difference:.2g} at most",
    ]
    if quality is not None:
        agreement = quality.agreement
        nested = ""
        if agreement.all_agreeing is not None:
            nested = f", with {agreement.nested_names:,} nested ones {100 * agreement.all_agreeing:.2f}%"
        lines += [
            f"F1 on {quality.documents} documents with {quality.names:,} names of {quality.gold}; names compared with the "
            f"checkpoint's in {agreement.documents:,} texts with {agreement.words:,} words and {agreement.names:,} names: "
            f"{100 * agreement.agreeing:.2f}% agree{nested}",
            f"passed: {quality.reason}",
        ]
    for line in lines:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
