"""``musamma predict``."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer

from musamma.data.document import Document
from musamma.data.errors import InputError


class Format(StrEnum):
    """What predict writes."""

    jsonl = "jsonl"
    conll = "conll"
    html = "html"


_SUFFIXES = {".jsonl": Format.jsonl, ".ndjson": Format.jsonl, ".conll": Format.conll, ".html": Format.html}


def predict(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Text files, JSONL files, folders, or - for stdin.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A folder, a hub id, or a model that comes with the project.")
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File to write; standard output by default.")
    ] = None,
    format: Annotated[
        Format | None, typer.Option("--format", "-f", help="By default from the output's suffix, jsonl without one.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, cuda:1 ...; the GPU where there is one.")
    ] = None,
    batch_tokens: Annotated[int | None, typer.Option("--batch-tokens", min=1, help="Pieces a batch.")] = None,
    min_score: Annotated[
        list[str] | None,
        typer.Option(
            "--min-score",
            metavar="[LABEL=]SCORE",
            help="Leave out names with a lower score, from 0 to 1; repeatable. With LABEL= for names of that label.",
        ),
    ] = None,
    thresholds: Annotated[
        bool,
        typer.Option("--thresholds", help="Leave out names below the thresholds that musamma calibrate has found."),
    ] = False,
) -> None:
    """Find the names in articles: the same documents come out, with character-exact spans and scores."""
    target = None if output in (None, "-") else output
    chosen = format or _format_of(target)
    least, by_label = _min_scores(min_score or [])
    if target is not None:
        _keep_apart(inputs, target)

    from musamma.inference.progress import counted
    from musamma.inference.sources import read_inputs
    from musamma.inference.writers import write_predictions

    left_out = 0

    def tagged() -> Iterator[Document]:
        nonlocal left_out
        documents = read_inputs(inputs)
        first = next(documents)  # a wrong path is told of before the model is loaded, as is a wrong output

        from musamma.inference.tagger import Tagger

        tagger = Tagger(
            model,
            device=device,
            batch_tokens=batch_tokens,
            min_score=least,
            label_min_scores=by_label,
            thresholds=thresholds,
        )
        yield from counted(tagger.tag_documents(chain([first], documents)))
        left_out = tagger.left_out

    audit = write_predictions(tagged(), target, chosen.value)
    if left_out:
        typer.echo(f"{left_out} names below their threshold left out", err=True)
    if changes := ", ".join(f"{count} {kind}" for kind, count in sorted(audit.kinds.items()) if count):
        typer.echo(f"{audit.source}: {chosen.value} cannot hold all: {changes}; jsonl can", err=True)


def _format_of(output: str | None) -> Format:
    suffix = Path(output).suffix.lower() if output else ""
    if suffix and suffix not in _SUFFIXES:
        raise InputError(
            f"suffix {suffix!r}",
            where=output,
            expected=f"one of {', '.join(_SUFFIXES)}",
            remedy="name the file so, or give --format",
        )
    return _SUFFIXES.get(suffix, Format.jsonl)


def _min_scores(given: list[str]) -> tuple[float, dict[str, float]]:
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


def _keep_apart(inputs: list[str], output: str) -> None:
    """Fail where the output would take the place of an input, whose own annotation would be lost."""
    for name in inputs:
        if Path(name).is_file() and Path(name).resolve() == Path(output).resolve():
            raise InputError("an input is the output too", where=output, remedy="choose another --output")
