"""What tagging writes: JSON lines, CoNLL, or a page to look at."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.conll import to_conll
from musamma.data.jsonl import to_line
from musamma.inference.page import page


def write_predictions(documents: Iterable[Document], output: str | None, format: str) -> None:
    """Write tagged documents as they come; a file appears under its name only when it is whole.

    Args:
        documents: tagged documents.
        output: a file, or ``None`` for standard output.
        format: ``jsonl``, ``conll`` or ``html``.
    """
    chunks = {"jsonl": _lines, "conll": _conll, "html": _html}[format](documents)
    if output is None:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return
    path = Path(output)
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        partial.replace(path)
    except OSError as error:
        raise InputError(
            str(error.strerror), where=str(error.filename or path), remedy="choose an --output that can be written"
        ) from error


def _lines(documents: Iterable[Document]) -> Iterator[bytes]:
    return (to_line(document) for document in documents)


def _conll(documents: Iterable[Document]) -> Iterator[bytes]:
    return (to_conll(document).encode() for document in documents)


def _html(documents: Iterable[Document]) -> Iterator[bytes]:
    return (part.encode() for part in page(documents))
