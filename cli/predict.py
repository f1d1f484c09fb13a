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
) -> None:
    """Find the names in articles: the same documents come out, with character-exact spans and scores."""
    target = None if output in (None, "-") else output
    chosen = format or _format_of(target)
    if target is not None:
        _keep_apart(inputs, target)

    from musamma.inference.progress import counted
    from musamma.inference.sources import read_inputs
    from musamma.inference.writers import write_predictions

    def tagged() -> Iterator[Document]:
        documents = read_inputs(inputs)
        first = next(documents)  # a wrong path is told of before the model is loaded, as is a wrong output

        from musamma.inference.tagger import Tagger

        tagger = Tagger(model, device=device, batch_tokens=batch_tokens)
        yield from counted(tagger.tag_documents(chain([first], documents)))

    audit = write_predictions(tagged(), target, chosen.value)
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


def _keep_apart(inputs: list[str], output: str) -> None:
    """Fail where the output would take the place of an input, whose own annotation would be lost."""
    for name in inputs:
        if Path(name).is_file() and Path(name).resolve() == Path(output).resolve():
            raise InputError("an input is the output too", where=output, remedy="choose another --output")
