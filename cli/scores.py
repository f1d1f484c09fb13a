"""Least scores, as the command takes them."""

from __future__ import annotations

from typing import Annotated

import typer

from musamma.data.errors import InputError

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
    typer.Option("--thresholds", help="Leave out names below the thresholds that musamma calibrate has found."),
]


def least_scores(given: list[str]) -> tuple[float, dict[str, float]]:
    """The least score of all names, and those of single labels, from ``SCORE`` and ``LABEL=SCORE``."""
    general, by_label = 0.0, {}
    for item in given:
        label, _, number = item.rpartition("=")
        try:
            score = float(number)
        except ValueError:
            score = -1.0
        if not 0.0 <= score <= 1.0 or item.startswith("="):
            raise InputError(
                f"--min-score {item!r}", expected="a number from 0 to 1, or one with its label, such as PER=0.9"
            )
        if label:
            by_label[label] = score
        else:
            general = score
    return general, by_label
