"""The mixture of several sources: their windows with the tags that each word may have, and the windows of each epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler
from transformers import TrainingArguments
from transformers.trainer_pt_utils import get_length_grouped_indices

from musamma.data.document import Document
from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX, DocumentTokenizer, Misalignment
from musamma.training.dataset import build_window_dataset
from musamma.training.sources import Source


@dataclass(frozen=True)
class Mixture:
    """The training windows of all sources, one after another.

    Args:
        windows: as of :func:`build_window_dataset`. A tag from the number of tags on is a set of tags: a row of ``tag_sets``, from
            which that number is subtracted.
        misalignments: the annotated names that tags cannot represent exactly.
        tag_sets: the sets of several tags that occur; bool, (sets, tags). Empty if every word has one tag.
        sizes: number of windows of each source.
    """

    windows: Dataset
    misalignments: list[tuple[Document, Misalignment]]
    tag_sets: np.ndarray
    sizes: tuple[int, ...]


def build_mixture(
    sources: Sequence[Source],
    document_tokenizer: DocumentTokenizer,
    tag_set: TagSet,
    *,
    proclitics: bool,
    nested: TagSet | None = None,
) -> Mixture:
    """Build the windows of all sources.

    A source of whole words gives no targets for proclitics: its names allow every border that the letters of their first word
    allow, and decoding chooses among these alone, so that the marginal likelihood of the borders is 1 whatever the model says.

    Args:
        sources: the sources; those without training documents are passed over.
        document_tokenizer: cuts documents into windows.
        tag_set: the tags to learn.
        proclitics: whether the model learns where names start after proclitics.
        nested: the tags of nested names to learn, from the sources that annotate them; ``None`` for none.
    """
    sets: dict[bytes, int] = {}
    rows: list[np.ndarray] = []
    datasets, misalignments, sizes = [], [], []
    for source in sources:
        if not source.train:
            sizes.append(0)
            continue
        labels = TagSet.from_labels(source.train_labels)
        whole_words = source.allows.whole_words
        windows, lost = build_window_dataset(
            source.train,
            document_tokenizer,
            labels,
            proclitics=proclitics and not whole_words,
            nested=nested,
            nested_ids={document.id for document in source.train} if source.nested else (),
            uncertain=source.uncertain_nested,
        )
        targets = np.zeros(len(labels), dtype=np.int64)
        for tag, allowed in enumerate(source.allows.tag_sets(labels, tag_set)):
            if allowed.sum() == 1:
                targets[tag] = int(np.flatnonzero(allowed)[0])
                continue
            if (key := allowed.tobytes()) not in sets:
                sets[key] = len(rows)
                rows.append(allowed)
            targets[tag] = len(tag_set) + sets[key]
        datasets.append(_with_targets(windows, targets, ignore_proclitics=whole_words))
        misalignments += lost
        sizes.append(len(windows))
    tag_sets = np.array(rows) if rows else np.zeros((0, len(tag_set)), dtype=bool)
    return Mixture(concatenate_datasets(datasets), misalignments, tag_sets, tuple(sizes))


def _with_targets(windows: Dataset, targets: np.ndarray, *, ignore_proclitics: bool) -> Dataset:
    """Replace each tag of a source by its target."""
    columns: dict[str, Any] = {name: windows[name] for name in windows.column_names}
    tags = [np.asarray(row) for row in columns["tags"]]
    columns["tags"] = [np.where(row == IGNORE_INDEX, IGNORE_INDEX, targets[row.clip(min=0)]) for row in tags]
    if ignore_proclitics:
        columns["proclitics"] = [np.full(len(row), IGNORE_INDEX) for row in tags]
    return Dataset.from_dict({name: list(values) for name, values in columns.items()})


class MixtureSampler(Sampler[int]):
    """Draws the windows of an epoch from each source, as many as its sampling factor says.

    The windows of a source are drawn without replacement, in a new random order for each pass over it; an epoch continues
    where the one before it stopped. What an epoch draws depends on seed and epoch alone.

    Args:
        sizes: number of windows of each source, which follow each other in the data set.
        factors: number of passes over each source in an epoch.
        seed: the seed.
        lengths: length of every window, to group windows of similar length; ``None`` for a random order.
        batch_size: number of windows to group.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        factors: Sequence[float],
        *,
        seed: int,
        lengths: Sequence[int] | None,
        batch_size: int,
    ) -> None:
        self._starts = np.cumsum([0, *sizes])[:-1]
        self._sizes, self._seed, self._lengths, self._batch_size = sizes, seed, lengths, batch_size
        #: Number of windows of each source in an epoch.
        self.counts = [max(1, round(size * factor)) if size else 0 for size, factor in zip(sizes, factors, strict=True)]
        self.epoch = 0

    def __len__(self) -> int:
        return sum(self.counts)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch to draw next; the Trainer calls it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        drawn = np.concatenate([self._draw(index) for index in range(len(self.counts))])
        generator = torch.Generator().manual_seed(_derive_seed(self._seed, self.epoch))
        if self._lengths is None:
            order = torch.randperm(len(drawn), generator=generator).tolist()
        else:
            lengths = [self._lengths[index] for index in drawn]
            order = get_length_grouped_indices(lengths, self._batch_size, generator=generator)
        return (int(drawn[index]) for index in order)

    def _draw(self, index: int) -> np.ndarray:
        """Draw the windows of one source."""
        size, count = self._sizes[index], self.counts[index]
        if not size:
            return np.empty(0, dtype=np.int64)
        first, stop = self.epoch * count, (self.epoch + 1) * count
        passes = range(first // size, -(-stop // size))
        orders = [np.random.default_rng([self._seed, index, number]).permutation(size) for number in passes]
        offset = first - passes.start * size
        return self._starts[index] + np.concatenate(orders)[offset : offset + count]


def build_sampler(
    sizes: Sequence[int], factors: Sequence[float], lengths: Sequence[int], arguments: TrainingArguments
) -> MixtureSampler:
    """Build the sampler of a run.

    Args:
        sizes, factors: as of :class:`MixtureSampler`.
        lengths: length of every window; windows of similar length are grouped if the arguments say so.
        arguments: the arguments of the training.
    """
    by_length = arguments.train_sampling_strategy == "group_by_length"
    return MixtureSampler(
        sizes,
        factors,
        seed=arguments.seed,
        lengths=lengths if by_length else None,
        batch_size=arguments.train_batch_size * arguments.gradient_accumulation_steps,
    )


def _derive_seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
