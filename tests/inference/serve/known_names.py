"""A tagger whose result is known, for tests of the service."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence

from musamma.data.document import Document, Span
from musamma.data.errors import InputError

NAMES = {"بيروت": ("GPE", 0.9), "بغداد": ("GPE", 0.6), "محمد": ("PER", 0.3), "😀": ("ORG", 0.5)}

#: Limit for everything that must happen at some time, also on a busy machine.
SECONDS = 60


class Tagger:
    """Knows four names and fails at two words. May be slow, or wait at a gate."""

    model, labels, batch_tokens = "runs/<known>", ("GPE", "ORG", "PER"), 512

    def __init__(self, *, seconds: float = 0.0) -> None:
        self.seconds, self.seen = seconds, 0
        self.gate = threading.Event()
        self.gate.set()

    def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            self.seen += 1
            assert self.gate.wait(SECONDS)
            time.sleep(self.seconds)
            if "يفشل" in document.text:
                raise OSError("secret/path")
            if "يرفض" in document.text:
                raise InputError("a text that cannot be", where=document.id)
            found = re.finditer("|".join(NAMES), document.text)
            yield document.with_spans(Span(name.start(), name.end(), *NAMES[name[0]]) for name in found)

    def tag_in_steps(self, documents: Sequence[Document]) -> Generator[float, None, list[Document]]:
        tagged = []
        for document in documents:
            yield len(tagged) / len(documents)
            tagged += self.tag_documents([document])
        return tagged
