"""Least scores, as the command takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats import read_documents
from musamma.data.labels import apply_labels, load_label_map

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


def annotated(dev: str, labels: str | None) -> list[Document]:
    """Annotated documents to measure a model on: of a file, or ``khabar``, the included corpus's development part.

    Args:
        dev: the file.
        labels: a label map, by name or file.

    Raises:
        InputError: there are no names in them.
    """
    mapping = None if labels is None else load_label_map(labels)
    read = load_khabar("dev") if dev == "khabar" and not Path(dev).exists() else read_documents(dev)
    documents = [document if mapping is None else apply_labels(document, mapping) for document in read]
    if not any(document.spans for document in documents):
        raise InputError(
            f"{len(documents)} documents and no names",
            where=dev,
            expected="annotated documents",
            remedy="give the development part that the model was chosen on",
        )
    return documents


def check_labels(documents: Sequence[Document], known: Sequence[str], dev: str) -> None:
    """All labels of annotated documents must be among those that a model knows.

    Raises:
        InputError: they are not; it names them.
    """
    found = {span.label for document in documents for span in document.spans}
    if strange := sorted(found - set(known)):
        raise InputError(
            f"labels that the model has not: {', '.join(strange)}",
            where=dev,
            expected=f"some of {', '.join(known)}",
            remedy="rename them with --labels MAP",
        )
