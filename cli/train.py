"""``musamma train``."""

from __future__ import annotations

from typing import Annotated

import typer


def train(
    config: Annotated[str, typer.Argument(help="A YAML file, or the name of a recipe that comes with the project.")],
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. trainer.num_train_epochs=3."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder for the checkpoint and its scores.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where this run was stopped.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the earlier run in the output folder.")
    ] = False,
) -> None:
    """Fine-tune an encoder on annotated articles, score it, and write a checkpoint."""
    from rich.console import Console

    from musamma.training.cards import print_results
    from musamma.training.config import load_config
    from musamma.training.finetune import finetune
    from musamma.training.run_dir import is_main_process

    settings = load_config(config, changes=changes or [], output=output)
    results = finetune(settings, resume=resume, overwrite=overwrite)
    if is_main_process():
        print_results(results, settings.output, Console(markup=False, emoji=False))
