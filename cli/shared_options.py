"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from musamma.data.errors import InputError

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
