"""Annotated documents that a model is measured on, to choose its settings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from musamma.data.corpora import load_khabar
from musamma.data.corpus_files import read_documents
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.labels import apply_labels, load_label_map


def read_development_set(source: str, *, labels: str | None = None) -> list[Document]:
    """Read annotated documents.

    Args:
        source: a file or folder in any supported format, or ``khabar`` for the development part of the included corpus.
        labels: the name or file of a label map to rename labels with.

    Raises:
        InputError: the documents cannot be read, or contain no names.
    """
    label_map = None if labels is None else load_label_map(labels)
    if source == "khabar" and not Path(source).exists():
        documents: Iterable[Document] = load_khabar("dev")
    else:
        documents = read_documents(source)
    development_set = [document if label_map is None else apply_labels(document, label_map) for document in documents]
    if not any(document.spans for document in development_set):
        raise InputError(
            f"{len(development_set)} documents without names",
            where=source,
            expected="annotated documents",
            remedy="give the development set that was used to choose the model",
        )
    return development_set


def check_known_labels(documents: Iterable[Document], known: Sequence[str], *, where: str) -> None:
    """Check that a model has every label of annotated documents.

    Args:
        documents: the documents.
        known: the labels of the model.
        where: the source of the documents, for the message.

    Raises:
        InputError: the model does not have some of the labels; the message lists them.
    """
    used = {span.label for document in documents for span in document.spans}
    if unknown := sorted(used - set(known)):
        raise InputError(
            f"labels the model does not have: {', '.join(unknown)}",
            where=where,
            expected=f"only {', '.join(known)}",
            remedy="rename them with `labels`",
        )
