"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.models.model_names import DEFAULT_MODEL

if TYPE_CHECKING:
    from musamma.inference.inputs import Inputs


class OnError(StrEnum):
    """Treatment of a line or row that is not a document."""

    fail = "fail"
    skip = "skip"


#: For verbs that tag; its default is :data:`musamma.models.model_names.DEFAULT_MODEL`.
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help=f"A folder, a hub id, or a model included in the project; by default {DEFAULT_MODEL}.",
        show_default=False,
    ),
]
#: For verbs that run a recipe.
Recipe = Annotated[str, typer.Argument(help="A YAML file, or the name of a packaged recipe.")]
ResumeRun = Annotated[bool, typer.Option("--resume", help="Continue a run that was stopped.")]
OverwriteRun = Annotated[bool, typer.Option("--overwrite", help="Delete the earlier run in the output folder.")]
TextColumn = Annotated[
    str | None, typer.Option("--text-column", help="Column or JSON key of the text; text by default.")
]
IdColumn = Annotated[str | None, typer.Option("--id-column", help="Column or JSON key of the id; id by default.")]
BatchTokens = Annotated[int | None, typer.Option("--batch-tokens", min=1, help="Pieces per batch.")]
Device = Annotated[
    str | None,
    typer.Option("--device", help="Device for the model: cpu, cuda, cuda:1 ...; by default a GPU if there is one."),
]
MinScores = Annotated[
    list[str] | None,
    typer.Option(
        "--min-score",
        metavar="[LABEL=]SCORE",
        help="Leave out names with a lower score, from 0 to 1; repeatable. With LABEL= for names of that label.",
    ),
]
Thresholds = Annotated[
    bool,
    typer.Option("--thresholds", help="Leave out names below the thresholds that musamma calibrate has set."),
]
RulesFile = Annotated[
    Path | None,
    typer.Option(
        "--rules",
        metavar="FILE",
        help="YAML file of names to mark beside the model, names never to mark, and other labels.",
    ),
]


def parse_min_scores(values: Iterable[str]) -> tuple[float, dict[str, float]]:
    """Parse the values of ``--min-score``.

    Args:
        values: each ``SCORE``, for all names, or ``LABEL=SCORE``.

    Returns:
        The minimum for all names, 0 by default, and the minimum by label.

    Raises:
        InputError: a score is not a number from 0 to 1, or a label is empty.
    """
    minimum, by_label = 0.0, {}
    for value in values:
        label, _, number = value.rpartition("=")
        try:
            score = float(number)
        except ValueError:
            score = -1.0
        if not 0.0 <= score <= 1.0 or value.startswith("="):
            raise InputError(
                f"--min-score {value!r}", expected="a number from 0 to 1, or one with its label, such as PER=0.9"
            )
        if label:
            by_label[label] = score
        else:
            minimum = score
    return minimum, by_label


def report_lost(audit: ImportAudit, format: str) -> None:
    """Print on stderr what the output format could not hold, if anything."""
    if lost := ", ".join(f"{count} {kind}" for kind, count in sorted(audit.kinds.items()) if count):
        typer.echo(f"{audit.source}: {format} cannot hold all: {lost}; jsonl can", err=True)


def report_unread_files(inputs: Inputs) -> None:
    """Print on stderr how many files of the input folders were passed over, if any."""
    from musamma.data.errors import printable_path
    from musamma.inference.inputs import find_unread_inputs

    if unread := find_unread_inputs(inputs):
        example = printable_path(unread[0])
        typer.echo(f"{len(unread):,} files of other types in the input folders were not read, e.g. {example}", err=True)
