"""``musamma average``: the mean of several checkpoints' weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def average(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Checkpoints of one recipe, such as its seeds: at least two."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write, new or empty.")],
) -> None:
    """Write the mean of several checkpoints' weights as one checkpoint.

    Seeds of one recipe, averaged, are usually better than each of them, at the cost of one.
    """
    from musamma.models.averaging import average_checkpoints

    average_checkpoints(models, output)
    typer.echo(f"written to {output}: the mean of {len(models)} checkpoints; score it with musamma evaluate")
