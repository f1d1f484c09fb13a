"""The documents of a run: read, mapped, split, and checked against its labels."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy

from musamma.data.corpora import load_khabar
from musamma.data.document import Document, group_documents
from musamma.data.errors import InputError
from musamma.data.formats import read_documents
from musamma.data.labels import apply_labels, load_label_map
from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX, DocumentTokenizer, Misalignment, build_targets
from musamma.models.predictor import pad_rows
from musamma.training.config import DataConfig, RunConfig

#: Corpora that come with the project, by name.
PACKAGED_CORPORA = {"khabar": load_khabar}


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
    if data.dev or any(name in PACKAGED_CORPORA for name in data.train):
        dev = _read(data.dev or [name for name in data.train if name in PACKAGED_CORPORA], "dev", data)
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
        tags.check_labels(document)
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
        if name in PACKAGED_CORPORA and not Path(name).exists():
            documents += PACKAGED_CORPORA[name](split)
        else:
            documents += read_documents(name, format=data.format)
    if data.labels:
        mapping = load_label_map(data.labels)
        documents = [apply_labels(document, mapping) for document in documents]
    return documents


#: The column by which the sampler groups windows.
LENGTH = "length"


def build_window_dataset(
    documents: list[Document], encoder: DocumentTokenizer, tags: TagSet, *, proclitics: bool
) -> tuple[Dataset, list[tuple[Document, Misalignment]]]:
    """Every window of the documents, with the targets of the words that it owns.

    Returns:
        A data set with columns ``input_ids``, ``tags`` and ``proclitics`` (one value a piece, :data:`IGNORE_INDEX` but on owned words'
        first pieces) and ``length``; and the annotated names that tags cannot carry as they stand.
    """
    rows: dict[str, list[Any]] = {"input_ids": [], "tags": [], "proclitics": [], LENGTH: []}
    losses = []
    for encoded in encoder.tokenize_all(documents):
        goal = build_targets(encoded, tags, proclitics=proclitics)
        losses += [(encoded.document, loss) for loss in goal.misalignments]
        for window in encoded.windows:
            words, positions = window.words[window.owned], window.positions[window.owned]
            for column, values in (("tags", goal.tags), ("proclitics", goal.proclitics)):
                row = np.full(len(window.input_ids), IGNORE_INDEX)
                row[positions] = values[words]
                rows[column].append(row)
            rows["input_ids"].append(window.input_ids)
            rows[LENGTH].append(len(window.input_ids))
    return Dataset.from_dict(rows), losses


@dataclass(frozen=True)
class WindowCollator:
    """Rows of the data set as a padded batch.

    Args:
        padding: the tokenizer's padding id.
        max_length: the longest window, in pieces.
    """

    padding: int
    max_length: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """``input_ids`` and ``attention_mask`` (windows, pieces), ``labels`` (windows, 2, pieces): tags, then proclitics."""
        ids = [np.asarray(row["input_ids"]) for row in rows]
        labels = [
            torch.from_numpy(pad_rows([np.asarray(row[column]) for row in rows], IGNORE_INDEX, limit=self.max_length))
            for column in ("tags", "proclitics")
        ]
        return {
            "input_ids": torch.from_numpy(pad_rows(ids, self.padding, limit=self.max_length)),
            "attention_mask": torch.from_numpy(pad_rows([np.ones_like(row) for row in ids], 0, limit=self.max_length)),
            "labels": torch.stack(labels, dim=1),
        }


def joint_loss(
    outputs: tuple[torch.Tensor, torch.Tensor | None],
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
) -> torch.Tensor:
    """Negative log likelihood of tags and proclitic counts together, a target.

    Args:
        outputs: logits of `TokenClassifier`.
        labels: (windows, 2, pieces), see :class:`WindowCollator`.
        num_items_in_batch: targets in the whole accumulated batch; by default those of this one.
    """
    total = torch.zeros((), device=labels.device)
    for logits, goal in zip(outputs, labels.unbind(dim=1), strict=True):
        if logits is not None:
            total = total + cross_entropy(
                logits.float().flatten(0, 1), goal.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
            )
    count = labels.ne(IGNORE_INDEX).sum() if num_items_in_batch is None else num_items_in_batch
    return total / torch.as_tensor(count, device=labels.device).clamp(min=1)
