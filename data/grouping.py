"""Sentences as documents: neighbours joined, so that each is read with the text around it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from musamma.data.document import Document, Span

SEPARATOR = "\n"


def group_documents(documents: Iterable[Document], size: int) -> Iterator[Document]:
    """Join every ``size`` documents that follow each other into one, a line each.

    Corpora that are cut into sentences keep them in the order of the article, so that neighbours are context. Names stay what they
    are, at offsets into the joined text; what is scored is the same.

    Args:
        documents: in the order in which they were written.
        size: documents to join; the last group may be smaller.
    """
    stream = iter(documents)
    while members := list(islice(stream, size)):
        spans: list[Span] = []
        nested: list[Span] = []
        offset = 0
        for member in members:
            for source, target in ((member.spans, spans), (member.nested, nested)):
                target += [replace(span, start=span.start + offset, end=span.end + offset) for span in source]
            offset += len(member.text) + len(SEPARATOR)
        text = SEPARATOR.join(member.text for member in members)
        yield Document(members[0].id, text, tuple(spans), tuple(nested), members[0].meta)
