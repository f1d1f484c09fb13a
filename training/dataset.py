"""The training data of a fine-tuning run: documents, windows with targets, batches and their loss."""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy

from musamma.data.document import Document, group_documents
from musamma.data.errors import InputError
from musamma.data.labels import load_label_map
from musamma.data.tags import TagSet
from musamma.data.text_noise import add_noise
from musamma.data.windows import IGNORE_INDEX, DocumentTokenizer, Misalignment, build_targets
from musamma.models.model_names import read_model_json, resolve_model
from musamma.models.nested_labels import read_nested_tag_set
from musamma.models.predictor import pad_rows
from musamma.training.arguments import LENGTH_COLUMN
from musamma.training.config import NoiseSection, RunConfig
from musamma.training.data_config import DataConfig
from musamma.training.sources import (
    Source,
    check_part_names,
    group_source,
    is_packaged,
    load_sources,
    read_files,
    split_by_position,
    with_source_ids,
)

#: The columns of a data set with one target per piece: the attributes of :class:`musamma.data.windows.WordTargets`. Their order is
#: that of the classifier's outputs.
TARGETS = ("tags", "proclitics", "nested")


@dataclass(frozen=True)
class Corpus:
    """The documents of a run and their tags.

    Args:
        train: training documents.
        dev: development documents.
        test: test documents; may be empty.
        tag_set: the tags to learn.
        sources: the sources of the training and development documents; empty if these are files without options of their own.
        nested_tag_set: the tags of nested names to learn; ``None`` for a run without them.
        nested_ids: ids of the documents whose nested names are annotated.
    """

    train: list[Document]
    dev: list[Document]
    test: list[Document]
    tag_set: TagSet
    sources: tuple[Source, ...] = ()
    nested_tag_set: TagSet | None = None
    nested_ids: frozenset[str] = frozenset()


def load_corpus(config: RunConfig) -> Corpus:
    """Read the documents of a fine-tuning run; see :func:`read_corpus`."""
    return read_corpus(config.data, labels=config.labels, nested=config.nested)


def keep_nested_layer(corpus: Corpus, config: RunConfig) -> Corpus:
    """Return the corpus with the tags of nested names of the run's encoder, if it is a tagger and ``nested: auto`` found none to learn.

    The layer is kept as far as its labels are those of the run, although no document trains it.

    Raises:
        InputError: there is no such encoder, or its configuration is damaged.
    """
    if config.nested != "auto" or corpus.nested_tag_set is not None:
        return corpus
    settings = read_model_json(resolve_model(config.encoder), "config.json")
    found = read_nested_tag_set(settings.get("musamma"), where=config.encoder)
    kept = () if found is None else tuple(label for label in found.labels if label in corpus.tag_set.labels)
    return replace(corpus, nested_tag_set=TagSet(kept)) if kept else corpus


def read_corpus(data: DataConfig, *, labels: Sequence[str] | None, nested: bool | Literal["auto"]) -> Corpus:
    """Read the documents of a run and split them into parts.

    Args:
        data: the section of the configuration.
        labels: the labels of the model; by default those of the training documents.
        nested: learn nested names; ``"auto"`` does so if training documents have any.

    Raises:
        InputError: a file cannot be read, a part has no names, an id is used twice, a label is not one of ``labels``, or nested
            names are to be learnt and the training part has none.
    """
    nested_ids: set[str] = set()
    test = _read_part(data.test, "test", data, nested_ids)
    if data.has_sources:
        return _load_mixed_corpus(data, test, nested_ids, labels=labels, nested=nested)
    train = _read_part(data.train_names, "train", data, nested_ids)
    files = [name for name in data.dev if isinstance(name, str)]
    packaged = [name for name in data.train_names if is_packaged(name)]
    if files or packaged:
        dev = _read_part(files or packaged, "dev", data, nested_ids)
    else:
        train, dev = split_by_position(train, data.dev_share)
    for part, documents in (("training", train), ("development", dev)):
        check_part_names(
            part,
            documents,
            where=", ".join(data.train_names),
            expected="annotated documents in both parts",
            remedy="give more documents, or a separate development part under data.dev",
        )
    _check_ids((*train, *dev, *test))
    annotated = {span.label for document in train for span in document.spans}
    tag_set = TagSet(tuple(labels)) if labels else TagSet.from_labels(annotated)
    for document in (*train, *dev, *test):
        tag_set.check_labels(document)
    if data.group > 1:
        train, dev, test = (list(group_documents(documents, data.group)) for documents in (train, dev, test))
    inner = {span.label for document in train for span in document.nested}
    nested_tag_set = _choose_nested_tag_set(data, inner, nested=nested)
    return Corpus(train, dev, test, tag_set, nested_tag_set=nested_tag_set, nested_ids=frozenset(nested_ids))


def _choose_nested_tag_set(
    data: DataConfig, labels: Collection[str], *, nested: bool | Literal["auto"]
) -> TagSet | None:
    """Return the tags of nested names to learn, ``None`` for a run without them.

    Args:
        data: the section of the configuration.
        labels: the labels of the nested names of the training documents.
        nested: as of :func:`read_corpus`.

    Raises:
        InputError: nested names are to be learnt, and there are none.
    """
    if nested is True and not labels:
        raise InputError(
            "`nested: true`, and no training document has nested names",
            where=", ".join(data.train_names),
            expected="documents with names under 'nested'",
            remedy="give such documents, or set `nested: false`",
        )
    return TagSet.from_labels(labels) if nested and labels else None


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


def _load_mixed_corpus(
    data: DataConfig,
    test: list[Document],
    nested_ids: set[str],
    *,
    labels: Sequence[str] | None,
    nested: bool | Literal["auto"],
) -> Corpus:
    sources, tag_set = load_sources(data, test, labels)
    if len(sources) > 1:
        sources = [with_source_ids(source) for source in sources]
    for document in test:
        tag_set.check_labels(document)
    # Ids are checked before documents are grouped, since a group has only the id of its first document.
    _check_ids((*(document for source in sources for document in (*source.train, *source.dev)), *test))
    sources = [group_source(source) for source in sources]
    test = list(group_documents(test, data.group))
    train, dev = ([d for source in sources for d in getattr(source, part)] for part in ("train", "dev"))
    nested_ids |= {document.id for source in sources if source.nested for document in (*source.train, *source.dev)}
    inner = {label for source in sources for label in source.nested_labels}
    nested_tag_set = _choose_nested_tag_set(data, inner, nested=nested)
    return Corpus(train, dev, test, tag_set, tuple(sources), nested_tag_set, frozenset(nested_ids))


def _read_part(names: Iterable[str], split: str, data: DataConfig, nested_ids: set[str]) -> list[Document]:
    """Read a part. Nested names count as annotated in all documents of a file of which one has some: their ids are added."""
    labels = load_label_map(data.labels) if data.labels else None
    documents: list[Document] = []
    for name in names:
        read = read_files([name], split, format=data.format, labels=labels)
        if any(document.nested for document in read):
            nested_ids.update(document.id for document in read)
        documents += read
    return documents


def build_noisy_copies(documents: Iterable[Document], noise: NoiseSection, *, seed: int) -> list[Document]:
    """Build noisy copies of documents; each keeps the id of its document.

    Args:
        documents: the documents.
        noise: number of copies and kinds of noise.
        seed: seed of the run, on which the noise of every copy depends, beside its id.

    Returns:
        The copies to which at least one kind applies. The others would equal their documents.
    """
    copies = []
    for document in documents:
        for number in range(noise.copies):
            draw = random.Random(f"{seed} {number} {document.id}")
            if kinds := [kind for kind, share in noise.kinds.items() if draw.random() < share]:
                copies.append(add_noise(document, kinds, seed=f"{seed} {number}"))
    return copies


def build_window_dataset(
    documents: list[Document],
    document_tokenizer: DocumentTokenizer,
    tag_set: TagSet,
    *,
    proclitics: bool,
    nested: TagSet | None = None,
    nested_ids: Collection[str] = (),
    uncertain: Collection[str] = (),
) -> tuple[Dataset, list[tuple[Document, Misalignment]]]:
    """Build the data set of all windows, with targets for the words each window owns.

    Args:
        documents: annotated documents.
        document_tokenizer: cuts documents into windows.
        tag_set: the tags to learn.
        proclitics: whether names start after proclitics; see :func:`musamma.data.windows.build_targets`.
        nested: the tags of nested names to learn; ``None`` for none.
        nested_ids: ids of the documents whose nested names are annotated.
        uncertain: labels of nested names that may stand for others, and so give no targets at their words.

    Returns:
        A data set with the columns ``input_ids``, ``tags``, ``proclitics`` and, if there are ``nested`` tags, ``nested`` (one value per
        piece; :data:`IGNORE_INDEX` except at the first piece of an owned word) and ``length``; and the annotated names that tags
        cannot represent exactly.
    """
    targets = TARGETS if nested is not None else TARGETS[:-1]
    rows: dict[str, list[Any]] = {"input_ids": [], **{column: [] for column in targets}, LENGTH_COLUMN: []}
    misalignments = []
    for tokenized in document_tokenizer.tokenize_all(documents):
        annotated = nested if tokenized.document.id in nested_ids else None
        word_targets = build_targets(tokenized, tag_set, proclitics=proclitics, nested=annotated, uncertain=uncertain)
        misalignments += [(tokenized.document, misalignment) for misalignment in word_targets.misalignments]
        for window in tokenized.windows:
            words, positions = window.words[window.owned], window.positions[window.owned]
            for column in targets:
                row = np.full(len(window.input_ids), IGNORE_INDEX)
                row[positions] = getattr(word_targets, column)[words]
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
            ``input_ids`` and ``attention_mask``, (windows, pieces); ``labels``, (windows, 2 or 3, pieces): tags, proclitics and, if
            the data set has them, nested tags.
        """
        ids = [np.asarray(row["input_ids"]) for row in rows]
        labels = [
            torch.from_numpy(pad_rows([np.asarray(row[column]) for row in rows], IGNORE_INDEX, limit=self.max_length))
            for column in TARGETS
            if column in rows[0]
        ]
        return {
            "input_ids": torch.from_numpy(pad_rows(ids, self.padding, limit=self.max_length)),
            "attention_mask": torch.from_numpy(pad_rows([np.ones_like(row) for row in ids], 0, limit=self.max_length)),
            "labels": torch.stack(labels, dim=1),
        }


def joint_loss(
    outputs: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None],
    labels: torch.Tensor,
    num_items_in_batch: torch.Tensor | int | None = None,
    *,
    tag_sets: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the joint negative log likelihood of tags, proclitic counts and nested tags, averaged over targets.

    Args:
        outputs: logits of `TokenClassifier`.
        labels: (windows, 2 or 3, pieces); see :class:`WindowCollator`.
        num_items_in_batch: number of targets in the whole accumulated batch; by default in this batch.
        tag_sets: the sets that tags from the number of tags on stand for; see :class:`musamma.training.mixture.Mixture`.
            Bool, (sets, tags). The loss of a set is the negative log of its tags' summed probability.
    """
    total = torch.zeros((), device=labels.device)
    # A run without nested names has no labels for them, and no logits.
    for head, (logits, target) in enumerate(zip(outputs, labels.unbind(dim=1), strict=False)):
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
