"""What tagging writes: JSON lines, CoNLL, or a page to look at."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from musamma.data.audit import ImportAudit
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.files import whole_file
from musamma.data.formats.conll import to_conll
from musamma.data.formats.options import WriteOptions
from musamma.data.jsonl import to_line
from musamma.inference.page import page

# Tokens as the tagger sees words: of two names in "بغداد/الموصل" none is lost.
_CONLL = WriteOptions(split_punctuation=True)


def write_predictions(documents: Iterable[Document], output: str | None, format: str) -> ImportAudit:
    """Write tagged documents as they come; a file appears under its name only when it is whole.

    Args:
        documents: tagged documents; the first one is asked for when the file is open.
        output: a file, or ``None`` for standard output.
        format: ``jsonl``, ``conll`` or ``html``.

    Returns:
        An account of what the format could not hold: of CoNLL, ids, scores, meta, and names that cover part of a word.

    Raises:
        InputError: the file cannot be written.
    """
    audit = ImportAudit(source=output or "standard output", limit=1)
    chunks = _chunks(documents, format, audit)
    if output is None:
        for chunk in chunks:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    else:
        with (
            whole_file(Path(output), remedy="choose an --output that can be written") as partial,
            partial.open("wb") as file,
        ):
            file.writelines(chunks)
    return audit


def _chunks(documents: Iterable[Document], format: str, audit: ImportAudit) -> Iterator[bytes]:
    match format:
        case "jsonl":
            return (to_line(document) for document in documents)
        case "html":
            return (part.encode() for part in page(documents))
        case "conll":
            return (_conll(document, audit) for document in documents)
        case _:
            raise InputError(f"format {format!r}", expected="jsonl, conll or html")


def _conll(document: Document, audit: ImportAudit) -> bytes:
    audit.add("lost_id")
    audit.add("lost_meta", count=len(document.meta))
    audit.add("lost_score", count=sum(span.score is not None for span in document.spans))
    return to_conll(document, options=_CONLL, audit=audit).encode()
