"""What ``musamma predict`` writes: which format, where, and what it says of it at the end."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from musamma.data.audit import ImportAudit
from musamma.data.errors import InputError

if TYPE_CHECKING:
    from musamma.inference.journal import Account


class Format(StrEnum):
    """What predict writes."""

    jsonl = "jsonl"
    parquet = "parquet"
    conll = "conll"
    brat = "brat"
    html = "html"


_SUFFIXES = {
    ".jsonl": Format.jsonl,
    ".ndjson": Format.jsonl,
    ".parquet": Format.parquet,
    ".conll": Format.conll,
    ".html": Format.html,
}
_PACKINGS = {".gz": "gzip", ".zst": "zstd"}
_PACKED = (Format.jsonl, Format.conll)


def format_of(output: str | None, given: Format | None) -> tuple[Format, str | None]:
    """What to write, and how it is packed."""
    path = Path(output or "")
    packing = _PACKINGS.get(path.suffix.lower())
    suffix = Path(path.stem if packing else path.name).suffix.lower()
    if given is None and suffix and suffix not in _SUFFIXES:
        raise InputError(
            f"suffix {suffix!r}",
            where=output,
            expected=f"one of {', '.join(_SUFFIXES)}",
            remedy="name the file so, or give --format",
        )
    format = given or _SUFFIXES.get(suffix, Format.jsonl)
    if packing and format not in _PACKED:
        raise InputError(
            f"{format.value} packed as {path.suffix.lower()}",
            where=output,
            expected=f"no {path.suffix.lower()}, or one of {', '.join(_PACKED)}",
        )
    return format, packing


def keep_apart(inputs: list[str], output: str) -> None:
    """Fail where the output would take the place of an input, whose own annotation would be lost."""
    for name in inputs:
        if Path(name).is_file() and Path(name).resolve() == Path(output).resolve():
            raise InputError("an input is the output too", where=output, remedy="choose another --output")


def report(done: Account, before: Account, *, seconds: float, rejects: str, audit: ImportAudit, format: Format) -> None:
    """Say on stderr what became of all that was read.

    Args:
        done: the whole run.
        before: what of it an earlier run has done.
        seconds: how long this one tagged.
        rejects: where lines are that were no documents.
        audit: what the format could not hold.
        format: the format.
    """
    rate = (done.words - before.words) / max(seconds, 1e-9)
    rejected = f"{done.rejected:,} rejected" + (f" ({rejects})" if done.rejected else "")
    typer.echo(f"{done.documents:,} documents, {done.names:,} names, {rejected}, {rate:,.0f} words/s", err=True)
    if done.left_out:
        typer.echo(f"{done.left_out} names below their threshold left out", err=True)
    if changes := ", ".join(f"{count} {kind}" for kind, count in sorted(audit.kinds.items()) if count):
        typer.echo(f"{audit.source}: {format.value} cannot hold all: {changes}; jsonl can", err=True)
