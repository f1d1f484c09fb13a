"""Annotated documents that a model is measured on, as the command takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from musamma.data.corpora import khabar
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats import read_documents
from musamma.data.labels import apply_labels, load_label_map


def annotated(dev: str, labels: str | None) -> list[Document]:
    """Annotated documents to measure a model on: of a file, or ``khabar``, the included corpus's development part.

    Args:
        dev: the file.
        labels: a label map, by name or file.

    Raises:
        InputError: there are no names in them.
    """
    mapping = None if labels is None else load_label_map(labels)
    read = khabar("dev") if dev == "khabar" and not Path(dev).exists() else read_documents(dev)
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
