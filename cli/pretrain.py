"""`musamma encoder pretrain`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from musamma.cli.shared_options import OverwriteRun, Recipe, ResumeRun


def pretrain(
    config: Recipe,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. text=news.txt.zst."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder for the encoder and its metrics.")
    ] = None,
    resume: ResumeRun = False,
    overwrite: OverwriteRun = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only tokenize and pack the text into OUTPUT/text, to copy it elsewhere.")
    ] = False,
) -> None:
    """Continue the pre-training of an encoder on raw Arabic text. The result is a plain folder to fine-tune."""
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from musamma.training.pretraining import pretrain_run
    from musamma.training.pretraining.packed_text import TEXT_FOLDER
    from musamma.training.pretraining.pretrain_config import load_pretrain_config
    from musamma.training.pretraining.pretrain_results import format_metric
    from musamma.training.run_dir import is_main_process

    run_config = load_pretrain_config(config, changes=changes or [], output=output)
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=False, emoji=False)
    if prepare:
        counts = pretrain_run.prepare(run_config, overwrite=overwrite).counts
        # With `packing: continuous`, rows are held out and not paragraphs.
        held_out = (
            f"{counts['held_out_paragraphs']:,}"
            if run_config.packing != "continuous"
            else f"{counts['held_out_rows']:,} rows"
        )
        if is_main_process():
            console.print(
                f"{counts['paragraphs']:,} paragraphs, {held_out} held out; "
                f"{counts['train_pieces']:,} pieces in {counts['train_rows']:,} rows: "
                f"{Path(run_config.output) / TEXT_FOLDER}"
            )
        return
    result = pretrain_run.pretrain(run_config, resume=resume, overwrite=overwrite)
    if is_main_process():
        table = Table("held out", "before", "after", box=None, pad_edge=False)
        for name, value in result.after.items():
            if name not in ("step", "tokens"):
                table.add_row(name, format_metric(name, result.before[name]), format_metric(name, value))
        console.print(table)
        console.print(
            f"{result.steps:,} steps, {result.tokens:,} tokens; encoder, card and metrics: {run_config.output}"
        )
