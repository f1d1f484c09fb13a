"""This project's own tagger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from musamma.data.document import Document


def tag(documents: Iterable[Document], *, model: str, device: str) -> Iterator[Document]:
    """The documents with the names that a model of this project finds; the model is loaded at the call.

    Args:
        documents: their own spans are not looked at.
        model: the name of a model that comes with the project, a folder, or a hub id.
        device: ``cpu``, ``cuda`` or ``cuda:1``...
    """
    from musamma.inference import Tagger

    tagger = Tagger(model, device=device)
    return tagger.tag_documents(document.with_spans(()) for document in documents)
