"""`musamma encoder pretrain`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def pretrain(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe that comes with the project.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. text=news.txt.zst."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder for the encoder and its figures.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this run was stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the earlier run in the output folder.")
    ] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Only cut the text and write it to OUTPUT/text, to be carried elsewhere.")
    ] = False,
) -> None:
    """Pre-train an encoder further on raw Arabic text, and write it as a plain folder to fine-tune."""
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from musamma.training.pretraining import run as script
    from musamma.training.pretraining.pretrain_config import load_pretrain_config
    from musamma.training.pretraining.results import figure
    from musamma.training.pretraining.text import TEXT
    from musamma.training.run_dir import is_main_process

    settings = load_pretrain_config(config, changes=changes or [], output=output)
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False, markup=False, emoji=False)
    if prepare:
        counts = script.prepare(settings, overwrite=overwrite).counts
        console.print(
            f"{counts['paragraphs']:,} paragraphs, {counts['held_out_paragraphs']:,} held out; "
            f"{counts['train_pieces']:,} pieces in {counts['train_rows']:,} rows: {Path(settings.output) / TEXT}"
        )
        return
    result = script.pretrain(settings, resume=resume, overwrite=overwrite)
    if is_main_process():
        table = Table("held out", "before", "after", box=None, pad_edge=False)
        for name, value in result.after.items():
            if name not in ("step", "tokens"):
                table.add_row(name, figure(name, result.before[name]), figure(name, value))
        console.print(table)
        console.print(f"{result.steps:,} steps, {result.tokens:,} tokens; encoder, card and figures: {settings.output}")
