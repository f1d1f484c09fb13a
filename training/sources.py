"""The sources of a run that trains on several corpora: their documents, and what their annotation says about the model's labels."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from musamma.data.allowed_labels import AllowedLabels
from musamma.data.corpora import load_khabar
from musamma.data.corpus_files import ReadOptions, read_documents
from musamma.data.document import Document, group_documents
from musamma.data.errors import InputError
from musamma.data.labels import LabelMap, apply_labels, load_label_map
from musamma.data.shared_sentences import drop_shared
from musamma.data.tags import OUTSIDE, TagSet
from musamma.training.data_config import DataConfig, SourceConfig

#: Packaged corpora by name.
PACKAGED_CORPORA = {"khabar": load_khabar}

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """The documents of a source.

    Args:
        name: its name in logs and scores.
        train: training documents; empty if it is for development only.
        dev: development documents; may be empty.
        allows: the labels of the model that its labels allow.
        sampling_factor: number of passes over its training windows in an epoch.
        nested: whether its nested names are annotated.
        group: number of consecutive documents to join into one; see :func:`group_source`.
    """

    name: str
    train: list[Document]
    dev: list[Document]
    allows: AllowedLabels = field(default_factory=AllowedLabels)
    sampling_factor: float = 1.0
    nested: bool = False
    group: int = 1

    @property
    def train_labels(self) -> set[str]:
        """The labels of its training documents."""
        return _span_labels(self.train)

    @property
    def example_labels(self) -> set[str]:
        """The labels of the model that names of its training documents have, or may have."""
        return {new for label in self.train_labels for new in self.allows.of(label)} - {OUTSIDE}

    @property
    def certain_labels(self) -> set[str]:
        """The labels of its training documents that are labels of the model, too."""
        return {label for label in self.train_labels if label in self.allows.of(label)}

    @property
    def nested_labels(self) -> set[str]:
        """The labels of its nested training names that the model may learn: none that may be other labels in the model."""
        labels = {span.label for document in self.train for span in document.nested}
        return labels - self.uncertain_nested if self.nested else set()

    @property
    def uncertain_nested(self) -> set[str]:
        """The labels of its nested training names that may be other labels in the model."""
        labels = {span.label for document in self.train for span in document.nested}
        return {label for label in labels if self.allows.of(label) != (label,)}


def is_packaged(name: str) -> bool:
    """True if an entry of the configuration is a packaged corpus. A file or folder of that name comes first."""
    return name in PACKAGED_CORPORA and not Path(name).exists()


def read_files(
    names: Iterable[str], split: str, *, format: str | None, labels: LabelMap | None, rejoin_clitics: bool = False
) -> list[Document]:
    """Read files and parts of packaged corpora.

    Args:
        names: files, or names of :data:`PACKAGED_CORPORA`.
        split: the part of a packaged corpus.
        format: format of the files; guessed by default.
        labels: a label map.
        rejoin_clitics: join clitics that are tokens to their word.

    Raises:
        InputError: a file cannot be read, or a label is not in the map.
    """
    documents: list[Document] = []
    for name in names:
        if is_packaged(name):
            documents += PACKAGED_CORPORA[name](split)
        else:
            documents += read_documents(name, format=format, options=ReadOptions(rejoin_clitics=rejoin_clitics))
    return documents if labels is None else [apply_labels(document, labels) for document in documents]


def split_by_position(documents: list[Document], dev_share: float) -> tuple[list[Document], list[Document]]:
    """Split off the last ``dev_share`` of the documents, at least one.

    They are not drawn at random: neighbouring documents often cover the same story, and must not be in both parts.
    """
    cut = len(documents) - max(1, round(len(documents) * dev_share))
    return documents[:cut], documents[cut:]


def check_part_names(part: str, documents: Sequence[Document], *, where: str, expected: str, remedy: str) -> None:
    """Check that a part has names.

    Args:
        part: what to call it, e.g. ``training``.
        documents: its documents.
        where, expected, remedy: as of :class:`musamma.data.errors.InputError`.

    Raises:
        InputError: none of its documents has a name.
    """
    if not any(document.spans for document in documents):
        raise InputError(
            f"the {part} part has {len(documents)} documents and no names",
            where=where,
            expected=expected,
            remedy=remedy,
        )


def load_sources(
    data: DataConfig, test: Sequence[Document], labels: Sequence[str] | None
) -> tuple[list[Source], TagSet]:
    """Read the sources of a run, and determine the tags to learn.

    Training documents that share a sentence with a development or test document are dropped; their number is logged, and each label
    that has no example without them. Documents are not grouped yet, so that ids can be checked across parts.

    Args:
        data: the section of the configuration.
        test: the test documents.
        labels: the labels of the model; by default those that the training sources allow.

    Raises:
        InputError: a file cannot be read, a part has no names, an id is used twice in a source, no source has a development part, a
            label is unknown, or all training examples of a label that is needed were dropped.
    """
    sources = [
        *(_read_source(config, for_training=True) for config in data.train_sources),
        *(_read_source(config, for_training=False) for config in data.dev_sources),
    ]
    if not any(source.dev for source in sources):
        raise InputError(
            "no source has a development part",
            where="data",
            expected="'dev' or 'dev_share' in a source, or sources under data.dev",
            remedy="add one; the epoch is chosen on it",
        )
    remaining = [_drop_held_out(source, sources, test) for source in sources]
    _check_dropped_labels(sources, remaining, test, labels)
    return remaining, _build_tag_set(remaining, labels)


def _read_source(config: SourceConfig, *, for_training: bool) -> Source:
    label_map = load_label_map(config.labels) if config.labels else None

    def read(names: Iterable[str], split: str) -> list[Document]:
        return read_files(names, split, format=config.format, labels=label_map, rejoin_clitics=config.rejoin_clitics)

    train, dev = (read(config.files, "train"), []) if for_training else ([], read(config.files, "dev"))
    if for_training and config.dev_share is not None:
        train, dev = split_by_position(train, config.dev_share)
    elif for_training:
        own = [name for name in config.files if is_packaged(name)]
        dev = read(own if config.dev is None else config.dev, "dev")
    annotated = _span_labels((*train, *dev))
    table = {label: tuple(allowed) for label, allowed in config.allows.items()}
    allows = AllowedLabels(table, whole_words=config.whole_words, labels=frozenset(annotated))
    nested = config.nested
    if nested is None:
        nested = any(document.nested for document in (*train, *dev))
    source = Source(config.name, train, dev, allows, config.sampling_factor, nested, config.group)
    _check_names(source, for_training=for_training, with_dev=bool(dev) or not for_training)
    inner = {span.label for document in (*train, *dev) for span in document.nested}
    known = annotated | inner | ({new for new in label_map.table.values() if new} if label_map else set())
    if unknown := sorted(set(config.allows) - known - {OUTSIDE}):
        raise InputError(
            f"'allows' has the label {unknown[0]!r}",
            where=f"source {config.name!r}",
            expected=f"a label of the source, or O: {', '.join(sorted(known))}",
            remedy="correct the label, or remove it from 'allows'",
        )
    return source


def _check_names(source: Source, *, for_training: bool, with_dev: bool) -> None:
    """Check that each part has names and that no id occurs twice."""
    for part, documents, needed in (("training", source.train, for_training), ("development", source.dev, with_dev)):
        if needed:
            check_part_names(
                part,
                documents,
                where=f"source {source.name!r}",
                expected="annotated documents",
                remedy=f"give annotated documents, or leave out {'the source' if part == 'training' else 'that part'}",
            )
    seen: set[str] = set()
    for document in (*source.train, *source.dev):
        if document.id in seen:
            raise InputError(
                "the id occurs twice",
                where=f"source {source.name!r}, document {document.id!r}",
                expected="unique ids within a source",
                remedy="remove one of them, or give it another id",
            )
        seen.add(document.id)


def _drop_held_out(source: Source, sources: Sequence[Source], test: Sequence[Document]) -> Source:
    """Drop the training documents that share a sentence with a held-out document."""
    if not source.train:
        return source
    held_out = [*(document for other in sources for document in other.dev), *test]
    kept, dropped = drop_shared(source.train, held_out)
    if not dropped:
        return source
    names = sum(len(document.spans) for document in dropped)
    _LOG.warning(
        "source %s: %s of %s training documents (%s names) are dropped: they share a sentence with a development or test document",
        *(source.name, f"{len(dropped):,}", f"{len(source.train):,}", f"{names:,}"),
    )
    source = replace(source, train=kept)
    _check_names(source, for_training=True, with_dev=False)
    return source


def _check_dropped_labels(
    sources: Sequence[Source], remaining: Sequence[Source], test: Sequence[Document], labels: Sequence[str] | None
) -> None:
    """Report the labels whose training examples were all dropped.

    Args:
        sources: the sources before training documents were dropped.
        remaining: the same afterwards.
        test: the test documents.
        labels: the labels of the model, if they are given.

    Raises:
        InputError: the model would lack such a label, and a held-out document or another source has it.
    """
    reason = "the documents with it share a sentence with a development or test document, and are dropped"
    dropped = _join(source.example_labels for source in sources) - _join(source.example_labels for source in remaining)
    if labels:
        dropped &= set(labels)
    else:
        # Another source may still allow the label, as one of several.
        dropped |= _join(s.certain_labels for s in sources) - _join(s.certain_labels for s in remaining)
        if needed := sorted(dropped & (_needed_labels(sources) | _span_labels(test))):
            raise InputError(
                f"no training example of the label {needed[0]!r} is left: {reason}",
                where="data.train",
                expected="an example in another document",
                remedy="add one, list the labels of the model under 'labels', or map the label with the 'labels' of its source",
            )
    for label in sorted(dropped):
        _LOG.warning("no training example of the label %r is left: %s", label, reason)
    for label in sorted(_join(s.nested_labels for s in sources) - _join(s.nested_labels for s in remaining)):
        _LOG.warning("no training example of nested names with the label %r is left: %s", label, reason)


def _needed_labels(sources: Sequence[Source]) -> set[str]:
    """Return the labels of the model that the development parts and the tables of sources name."""
    annotated = {new for source in sources for label in _span_labels(source.dev) for new in source.allows.of(label)}
    return annotated | {new for source in sources for row in source.allows.table.values() for new in row}


def _span_labels(documents: Iterable[Document]) -> set[str]:
    return {span.label for document in documents for span in document.spans}


def _join(sets: Iterable[set[str]]) -> set[str]:
    return set().union(*sets)


def _build_tag_set(sources: Sequence[Source], labels: Sequence[str] | None) -> TagSet:
    """Determine the labels of the model, and check that the labels of all sources fit."""
    trained = [source for source in sources if source.train]
    allowed = {label for source in trained for label in source.allows.model_labels(source.train_labels)}
    if not labels and not allowed:
        raise InputError(
            "the training sources allow no label but O",
            where="data.train",
            expected="at least one label to learn",
            remedy="correct 'allows'",
        )
    tag_set = TagSet(tuple(labels)) if labels else TagSet.from_labels(allowed)
    certain = _join(source.certain_labels for source in trained)
    for source in sources:
        annotated = _span_labels((*source.train, *source.dev))
        for label in sorted(source.allows.model_labels({*source.allows.table, *annotated} - {OUTSIDE})):
            in_table = label in {new for row in source.allows.table.values() for new in row}
            if label not in tag_set.labels:
                raise InputError(
                    f"the label {label!r}" + (" in 'allows'" if in_table else ""),
                    where=f"source {source.name!r}",
                    expected=f"a label of the model: {', '.join(tag_set.labels)}",
                    remedy="add it to 'labels', list it in 'allows', or map it with the 'labels' of the source",
                )
            if not labels and label not in certain:
                raise InputError(
                    f"the label {label!r} in 'allows'",
                    where=f"source {source.name!r}",
                    expected=f"a label that a source annotates: {', '.join(sorted(certain))}",
                    remedy="correct it, or list the labels of the model under 'labels'",
                )
    return tag_set


def group_source(source: Source) -> Source:
    """Join consecutive documents of a source, as many as its ``group`` says."""
    train, dev = (list(group_documents(documents, source.group)) for documents in (source.train, source.dev))
    return replace(source, train=train, dev=dev)


def with_source_ids(source: Source) -> Source:
    """Put the name of the source before the ids of its documents: ids are unique in a source, not in a run."""
    train, dev = (
        [replace(document, id=f"{source.name}/{document.id}") for document in documents]
        for documents in (source.train, source.dev)
    )
    return replace(source, train=train, dev=dev)
