"""``musamma distill``."""

from __future__ import annotations

from typing import Annotated

import typer

from musamma.cli.shared_options import OverwriteRun, Recipe, ResumeRun
from musamma.cli.train import print_results


def distill(
    config: Recipe,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a value, e.g. teacher=runs/arabert."),
    ] = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Folder for the checkpoint and its scores.")
    ] = None,
    resume: ResumeRun = False,
    overwrite: OverwriteRun = False,
) -> None:
    """Train a small, fast model that reproduces a large one, score it, and write a checkpoint."""
    from rich.console import Console

    from musamma.training.distillation.distill_config import load_distill_config
    from musamma.training.distillation.distill_run import distill as run_distillation
    from musamma.training.run_dir import is_main_process

    run_config = load_distill_config(config, changes=changes or [], output=output)
    results = run_distillation(run_config, resume=resume, overwrite=overwrite)
    if is_main_process():
        print_results(results, run_config.output, Console(markup=False, emoji=False))
