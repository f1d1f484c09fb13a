"""The training data of a fine-tuning run: documents, windows with targets, batches and their loss."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy

from musamma.data.document import Document, group_documents
from musamma.data.errors import InputError
from musamma.data.labels import load_label_map
from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX, DocumentTokenizer, Misalignment, build_targets
from musamma.models.predictor import pad_rows
from musamma.training.arguments import LENGTH_COLUMN
from musamma.training.config import DataConfig, RunConfig
from musamma.training.sources import (
    PACKAGED_CORPORA,
    Source,
    load_sources,
    read_files,
    split_by_position,
    with_source_ids,
)


@dataclass(frozen=True)
class Corpus:
    """The documents of a run and their tags.

    Args:
        train: training documents.
        dev: development documents.
        test: test documents; may be empty.
        tag_set: the tags to learn.
        sources: the sources of the training and development documents; empty if these are files without options of their own.
    """

    train: list[Document]
    dev: list[Document]
    test: list[Document]
    tag_set: TagSet
    sources: tuple[Source, ...] = ()


def load_corpus(config: RunConfig) -> Corpus:
    """Read the documents of a run and split them into parts.

    Raises:
        InputError: a file cannot be read, a part has no names, an id is used twice, or a label is not one of ``config.labels``.
    """
    data = config.data
    test = _read_part(data.test, "test", data)
    if data.has_sources:
        return _load_mixed_corpus(config, test)
    train = _read_part(data.train_names, "train", data)
    if data.dev or any(name in PACKAGED_CORPORA for name in data.train_names):
        files = [name for name in data.dev if isinstance(name, str)]
        dev = _read_part(files or [name for name in data.train_names if name in PACKAGED_CORPORA], "dev", data)
    else:
        train, dev = split_by_position(train, data.dev_share)
    for part, documents in (("training", train), ("development", dev)):
        if not any(document.spans for document in documents):
            raise InputError(
                f"the {part} part has {len(documents)} documents and no names",
                where=", ".join(data.train_names),
                expected="annotated documents in both parts",
                remedy="give more documents, or a separate development part under data.dev",
            )
    _check_ids((*train, *dev, *test))
    labels = {span.label for document in train for span in document.spans}
    tag_set = TagSet(tuple(config.labels)) if config.labels else TagSet.from_labels(labels)
    for document in (*train, *dev, *test):
        tag_set.check_labels(document)
    if data.group > 1:
        train, dev, test = (list(group_documents(documents, data.group)) for documents in (train, dev, test))
    return Corpus(train, dev, test, tag_set)


def _check_ids(documents: Iterable[Document]) -> None:
    """Check that no id occurs twice in all parts. Documents are scored by id, and none may be trained on and scored."""
    texts: dict[str, str] = {}
    for document in documents:
        if document.id in texts:
            same = "with the same text" if texts[document.id] == document.text else "with another text"
            raise InputError(
                f"the id occurs twice, {same}",
                where=f"document {document.id!r}",
                expected="unique ids across training, development and test documents",
                remedy="remove one of them, or give it another id",
            )
        texts[document.id] = document.text


def _load_mixed_corpus(config: RunConfig, test: list[Document]) -> Corpus:
    sources, tag_set = load_sources(config.data, test, config.labels)
    if len(sources) > 1:
        sources = [with_source_ids(source) for source in sources]
    for document in test:
        tag_set.check_labels(document)
    if config.data.group > 1:
        test = list(group_documents(test, config.data.group))
    train, dev = ([d for source in sources for d in getattr(source, part)] for part in ("train", "dev"))
    _check_ids((*train, *dev, *test))
    return Corpus(train, dev, test, tag_set, tuple(sources))


def _read_part(names: Iterable[str], split: str, data: DataConfig) -> list[Document]:
    return read_files(names, split, format=data.format, labels=load_label_map(data.labels) if data.labels else None)


def build_window_dataset(
    documents: list[Document], document_tokenizer: DocumentTokenizer, tag_set: TagSet, *, proclitics: bool
) -> tuple[Dataset, list[tuple[Document, Misalignment]]]:
    """Build the data set of all windows, with targets for the words each window owns.

    Args:
        documents: annotated documents.
        document_tokenizer: cuts documents into windows.
        tag_set: the tags to learn.
        proclitics: whether names start after proclitics; see :func:`musamma.data.windows.build_targets`.

    Returns:
        A data set with the columns ``input_ids``, ``tags`` and ``proclitics`` (one value per piece; :data:`IGNORE_INDEX` except
        at the first piece of an owned word) and ``length``; and the annotated names that tags cannot represent exactly.
    """
    rows: dict[str, list[Any]] = {"input_ids": [], "tags": [], "proclitics": [], LENGTH_COLUMN: []}
    misalignments = []
    for tokenized in document_tokenizer.tokenize_all(documents):
        word_targets = build_targets(tokenized, tag_set, proclitics=proclitics)
        misalignments += [(tokenized.document, misalignment) for misalignment in word_targets.misalignments]
        for window in tokenized.windows:
            words, positions = window.words[window.owned], window.positions[window.owned]
            for column, values in (("tags", word_targets.tags), ("proclitics", word_targets.proclitics)):
                row = np.full(len(window.input_ids), IGNORE_INDEX)
                row[positions] = values[words]
                rows[column].append(row)
            rows["input_ids"].append(window.input_ids)
            rows[LENGTH_COLUMN].append(len(window.input_ids))
    return Dataset.from_dict(rows), misalignments


@dataclass(frozen=True)
class WindowCollator:
    """Makes padded batches of windows.

    Args:
        padding: the tokenizer's padding id.
        max_length: maximum number of pieces in a window.
    """

    padding: int
    max_length: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad rows of the data set to a batch.

        Returns:
            ``input_ids`` and ``attention_mask``, (windows, pieces); ``labels``, (windows, 2, pieces): tags, then proclitics.
        """
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
    *,
    tag_sets: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the joint negative log likelihood of tags and proclitic counts, averaged over targets.

    Args:
        outputs: logits of `TokenClassifier`.
        labels: (windows, 2, pieces); see :class:`WindowCollator`.
        num_items_in_batch: number of targets in the whole accumulated batch; by default in this batch.
        tag_sets: the sets that tags from the number of tags on stand for; see :class:`musamma.training.mixture.Mixture`.
            Bool, (sets, tags). The loss of a set is the negative log of its tags' summed probability.
    """
    total = torch.zeros((), device=labels.device)
    for head, (logits, target) in enumerate(zip(outputs, labels.unbind(dim=1), strict=True)):
        if logits is not None and head == 0 and tag_sets is not None:
            total = total + _marginal_loss(logits.float().flatten(0, 1), target.flatten(), tag_sets)
        elif logits is not None:
            total = total + cross_entropy(
                logits.float().flatten(0, 1), target.flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
            )
    count = labels.ne(IGNORE_INDEX).sum() if num_items_in_batch is None else num_items_in_batch
    return total / torch.as_tensor(count, device=labels.device).clamp(min=1)


def _marginal_loss(logits: torch.Tensor, targets: torch.Tensor, tag_sets: torch.Tensor) -> torch.Tensor:
    """Compute the summed negative log of the probability of each target's tags.

    Args:
        logits: (pieces, tags).
        targets: a tag, or the number of tags plus the row of a set; :data:`IGNORE_INDEX` for no target. (pieces,).
        tag_sets: bool, (sets, tags).
    """
    single = torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device)
    allowed = torch.cat([single, tag_sets.to(logits.device)])[targets.clamp(min=0)]
    # Without a look at the targets on the CPU, which a GPU would have to wait for.
    losses = logits.logsumexp(dim=-1) - logits.masked_fill(~allowed, -math.inf).logsumexp(dim=-1)
    return losses.masked_fill(targets.eq(IGNORE_INDEX), 0.0).sum()
