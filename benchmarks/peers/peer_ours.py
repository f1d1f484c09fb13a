"""This project's tagger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from musamma.data.document import Document


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """Return the documents with the names that a model of this project predicts; the call itself loads the model.

    Args:
        documents: their spans are ignored.
        model: the name of a model that comes with the project, a folder, or a hub id.
        device: ``cpu``, ``cuda`` or ``cuda:1``...
    """
    from musamma.inference import Tagger

    tagger = Tagger(model, device=device)
    return tagger.tag_documents(document.with_spans(()) for document in documents)
