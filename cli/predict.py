"""``musamma predict``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Format(StrEnum):
    """What predict writes."""

    jsonl = "jsonl"
    conll = "conll"
    html = "html"


def predict(
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Text files, JSONL files, folders, or - for stdin.")],
    model: Annotated[str, typer.Option("--model", "-m", help="A folder, a hub id, or a model of this package.")],
    output: Annotated[str | None, typer.Option("--output", "-o", help="File to write; standard output by default.")] = None,
    format: Annotated[
        Format | None, typer.Option("--format", "-f", help="jsonl, conll or html; by default from the output's suffix.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1 ...; the GPU where there is one.")] = None,
    batch_tokens: Annotated[int | None, typer.Option("--batch-tokens", min=1, help="Pieces a batch.")] = None,
) -> None:
    """Find the names in articles: the same documents come out, with character-exact spans and scores."""
    from musamma.data.errors import InputError
    from musamma.inference.progress import counted
    from musamma.inference.sources import read_inputs
    from musamma.inference.writers import write_predictions

    suffix = output.rsplit(".", 1)[-1].lower() if output and "." in output else "jsonl"
    chosen = format or {"jsonl": Format.jsonl, "conll": Format.conll, "html": Format.html, "htm": Format.html}.get(suffix)
    if chosen is None:
        raise InputError(f"suffix .{suffix}", where=str(output), expected=".jsonl, .conll or .html", remedy="give --format")
    documents = read_inputs(inputs)
    first = next(documents)  # a wrong path is told before the model is loaded

    from musamma.inference.tagger import Tagger

    tagger = Tagger(model, device=device, batch_tokens=batch_tokens)

    def chain():
        yield first
        yield from documents

    write_predictions(counted(tagger.tag_documents(chain())), output, chosen.value)
