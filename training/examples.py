"""The annotated windows that a run trains on, with their loss, and how many of each corpus an epoch has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from datasets import Dataset

from musamma.data.document import Document
from musamma.data.windows import DocumentTokenizer, Misalignment
from musamma.training.config import NoiseSection
from musamma.training.dataset import Corpus, build_noisy_copies, build_window_dataset, joint_loss
from musamma.training.mixture import build_mixture


@dataclass(frozen=True)
class Examples:
    """The annotated windows of a run.

    Args:
        windows: the windows with their targets, corpus after corpus.
        misalignments: the annotated names that tags cannot represent exactly.
        sizes: number of windows of each corpus.
        sampling_factors: number of passes over the windows of each corpus in an epoch.
        loss: the loss of a batch of windows, with the arguments of :func:`joint_loss`.
    """

    windows: Dataset
    misalignments: Sequence[tuple[Document, Misalignment]]
    sizes: Sequence[int]
    sampling_factors: Sequence[float]
    loss: Callable[..., torch.Tensor] = joint_loss


def build_examples(
    corpus: Corpus,
    document_tokenizer: DocumentTokenizer,
    *,
    proclitics: bool,
    device: torch.device,
    noise: NoiseSection | None = None,
    seed: int = 1,
) -> Examples:
    """Build the windows of the training documents; those of several sources are a mixture with a loss of its own.

    Args:
        corpus: the documents and their tags.
        document_tokenizer: cuts documents into windows.
        proclitics: whether the model learns where names start after proclitics.
        device: the device on which the loss is computed.
        noise: noisy copies to add; their misalignments are not returned.
        seed: seed of the noise.
    """
    if not corpus.sources:
        windows, misalignments = build_window_dataset(
            _with_noisy_copies(corpus.train, noise, seed),
            document_tokenizer,
            corpus.tag_set,
            proclitics=proclitics,
            nested=corpus.nested_tag_set,
            nested_ids=corpus.nested_ids,
        )
        return Examples(windows, _of_documents(misalignments, corpus.train), [len(windows)], [1.0])
    mixture = build_mixture(
        [replace(source, train=_with_noisy_copies(source.train, noise, seed)) for source in corpus.sources],
        document_tokenizer,
        corpus.tag_set,
        proclitics=proclitics,
        nested=corpus.nested_tag_set,
    )
    loss: Callable[..., torch.Tensor] = joint_loss
    if len(mixture.tag_sets):
        loss = partial(joint_loss, tag_sets=torch.from_numpy(mixture.tag_sets).to(device))
    factors = [source.sampling_factor for source in corpus.sources]
    misalignments = _of_documents(mixture.misalignments, corpus.train)
    return Examples(mixture.windows, misalignments, mixture.sizes, factors, loss)


def _with_noisy_copies(documents: list[Document], noise: NoiseSection | None, seed: int) -> list[Document]:
    if noise is None:
        return documents
    return [*documents, *build_noisy_copies(documents, noise, seed=seed)]


def _of_documents(
    misalignments: Sequence[tuple[Document, Misalignment]], documents: Sequence[Document]
) -> list[tuple[Document, Misalignment]]:
    """Return the misalignments of documents, without those of their noisy copies, which have the same ids."""
    originals = {id(document) for document in documents}
    return [(document, misalignment) for document, misalignment in misalignments if id(document) in originals]
