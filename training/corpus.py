"""The documents of a run: read, mapped, split, and checked against its labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from musamma.data.corpora import khabar
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats import read_documents
from musamma.data.grouping import group_documents
from musamma.data.labels import apply_labels, load_label_map
from musamma.data.tags import TagSet
from musamma.training.config import DataConfig, RunConfig

#: Corpora that come with the project, by name.
CORPORA = {"khabar": khabar}


@dataclass(frozen=True)
class Corpus:
    """Training, development and test documents (the last may be none), and the tags to learn."""

    train: list[Document]
    dev: list[Document]
    test: list[Document]
    tags: TagSet


def load_corpus(config: RunConfig) -> Corpus:
    """Read everything that a run needs.

    Raises:
        InputError: a file cannot be read, a part is empty, or a label is not among ``config.labels``.
    """
    data = config.data
    train = _read(data.train, "train", data)
    test = _read(data.test, "test", data)
    if data.dev or any(name in CORPORA for name in data.train):
        dev = _read(data.dev or [name for name in data.train if name in CORPORA], "dev", data)
    else:
        # By position, not at random: neighbouring documents are often of one story.
        cut = len(train) - max(1, round(len(train) * data.dev_share))
        train, dev = train[:cut], train[cut:]
    for part, documents in (("training", train), ("development", dev)):
        if not any(document.spans for document in documents):
            raise InputError(
                f"the {part} part has {len(documents)} documents and no names",
                where=", ".join(data.train),
                expected="annotated documents in both parts",
                remedy="give more documents, or a development part of their own under data.dev",
            )
    _check_ids((*train, *dev, *test))
    found = {span.label for document in train for span in document.spans}
    tags = TagSet(tuple(config.labels)) if config.labels else TagSet.from_labels(found)
    for document in (*train, *dev, *test):
        tags.check(document)
    if data.group > 1:
        train, dev, test = (list(group_documents(documents, data.group)) for documents in (train, dev, test))
    return Corpus(train, dev, test, tags)


def _check_ids(documents: Iterable[Document]) -> None:
    """An id names one document in all parts: scores are matched by it, and what is trained on must not be scored."""
    texts: dict[str, str] = {}
    for document in documents:
        if document.id in texts:
            same = "with the same text" if texts[document.id] == document.text else "with another text"
            raise InputError(
                f"the id comes twice, {same}",
                where=f"document {document.id!r}",
                expected="unique ids over training, development and test documents",
                remedy="take one of them out, or give it an id of its own",
            )
        texts[document.id] = document.text


def _read(names: Iterable[str], split: str, data: DataConfig) -> list[Document]:
    documents: list[Document] = []
    for name in names:
        if name in CORPORA and not Path(name).exists():
            documents += CORPORA[name](split)
        else:
            documents += read_documents(name, format=data.format)
    if data.labels:
        mapping = load_label_map(data.labels)
        documents = [apply_labels(document, mapping) for document in documents]
    return documents
