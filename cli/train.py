"""``musamma train``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from musamma.cli.shared_options import OverwriteRun, Recipe, ResumeRun

if TYPE_CHECKING:
    from rich.console import Console

    from musamma.training.run_dir import SeedResult


_NO_NAMES = (
    "note: no name of the development part was found. With few articles, an encoder without a head learns nothing in few steps: start "
    "from the packaged tagger (musamma train adapt), or raise trainer.num_train_epochs"
)


def train(
    config: Recipe,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. trainer.num_train_epochs=3."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder for the checkpoint and its scores.")
    ] = None,
    resume: ResumeRun = False,
    overwrite: OverwriteRun = False,
) -> None:
    """Fine-tune an encoder on annotated articles, score it, and write a checkpoint."""
    from rich.console import Console

    from musamma.training.config import load_config
    from musamma.training.finetune import finetune
    from musamma.training.run_dir import is_main_process

    run_config = load_config(config, changes=changes or [], output=output)
    results = finetune(run_config, resume=resume, overwrite=overwrite)
    if is_main_process():
        print_results(results, run_config.output, Console(markup=False, emoji=False))
        if not any(result.dev_f1 for result in results):
            typer.echo(_NO_NAMES, err=True)


def print_results(results: Sequence[SeedResult], output: str, console: Console) -> None:
    """Print micro F1 by scoring mode and part, over all seeds, and the folder of the checkpoint."""
    from rich.table import Table

    from musamma.training.cards import f1_rows, scored_parts

    seeds = "1 seed" if len(results) == 1 else f"{len(results)} seeds, mean ± standard deviation"
    table = Table(title=f"micro F1, {seeds}", title_justify="left")
    table.add_column("counted by")
    for part in scored_parts(results):
        table.add_column(part, justify="right")
    for row in f1_rows(results):
        table.add_row(*row)
    console.print(table)
    minutes = sum(result.seconds for result in results) / 60
    console.print(f"trained in {minutes:.1f} min; checkpoint, card and scores: {output}", soft_wrap=True)
