"""The predictor: runs a classifier over documents. Windows of similar length share a batch; documents keep their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TypeAlias

import numpy as np

from musamma.data.document import Document
from musamma.data.tags import TagSet
from musamma.data.windows import DocumentTokenizer, TokenizedDocument, Window
from musamma.models.calibration import Calibration, WordLogits, decode_names
from musamma.models.decoding import PROCLITIC_CLASSES
from musamma.models.runtimes.runtime import Batch, BatchLogits, Runtime, VectorRuntime

# Lengths are padded to a multiple of this: the CPU's matrix library compiles and caches a kernel for each new shape.
_LENGTH_MULTIPLE = 8
#: Number of documents whose windows are batched together if the caller formed no groups.
GROUP_SIZE = 256

# The windows of a batch, each with the index of its document in the group.
_WindowBatch: TypeAlias = list[tuple[int, Window]]


class Predictor:
    """A classifier with its tokenizer, tag set and calibration. Several threads may use one.

    Args:
        runtime: computes the logits.
        document_tokenizer: cuts documents into windows as in training.
        tag_set: the tag set.
        columns: index of each tag in the runtime's logits, in the tag set's order; int, (tags,).
        batch_tokens: pieces per batch, padding included.
        calibration: the temperatures of the scores.
        nested_tag_set: the tag set of nested names, in the order of the runtime's logits; ``None`` for a classifier without them.
    """

    def __init__(
        self,
        runtime: Runtime,
        document_tokenizer: DocumentTokenizer,
        tag_set: TagSet,
        columns: np.ndarray,
        *,
        batch_tokens: int = 4096,
        calibration: Calibration | None = None,
        nested_tag_set: TagSet | None = None,
    ) -> None:
        self.runtime, self.document_tokenizer = runtime, document_tokenizer
        self.tag_set, self.columns = tag_set, columns
        self.nested_tag_set = nested_tag_set if runtime.nested else None
        self.batch_tokens = batch_tokens
        self.calibration = calibration or Calibration()

    def predict(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield the documents with their predicted names, in order. A few hundred documents are in memory at a time."""
        return chain.from_iterable(self.predict_groups(_group_documents(documents)))

    def predict_groups(self, groups: Iterable[list[Document]]) -> Iterator[list[Document]]:
        """Yield groups of documents with their predicted names, in order.

        No batch mixes windows of two groups, so predictions do not depend on neighbouring groups.
        """
        for group in self._classify_groups(groups):
            yield self._decode_group(group)

    def predict_in_steps(self, documents: Sequence[Document]) -> Generator[float, None, list[Document]]:
        """Predict the names of documents in steps of one batch, between which the caller may do other work.

        The result is that of :meth:`predict`, down to the last digit of a score: the batches are the same. A generator that is
        closed early computes no further batch.

        Yields:
            The share of the work that is done, in [0, 1]. The first step tokenizes and the last one decodes.

        Returns:
            The documents with their predicted names, in order.
        """
        predicted: list[Document] = []
        for documents_of_group in _group_documents(documents):
            group, batches = self._prepare_group(documents_of_group)
            yield len(predicted) / len(documents)
            with closing(self.runtime.stream(map(self.build_batch, batches))) as computed:
                for done, (batch, logits) in enumerate(zip(batches, computed, strict=True), start=1):
                    self.store_logits(group.logits, batch, logits)
                    yield (len(predicted) + len(documents_of_group) * done / len(batches)) / len(documents)
            predicted += self._decode_group(group)
        return predicted

    def classify(self, documents: Iterable[Document]) -> Iterator[tuple[TokenizedDocument, WordLogits]]:
        """Yield the documents with the logits of their words, in order."""
        for group in self._classify_groups(_group_documents(documents)):
            yield from zip(group.tokenized, group.logits, strict=True)

    def classify_groups(
        self, groups: Iterable[list[Document]], *, vectors: bool = False
    ) -> Iterator[list[tuple[TokenizedDocument, WordLogits, np.ndarray | None]]]:
        """Yield groups of documents with the logits of their words and, on request, a vector of each text.

        Args:
            groups: the documents.
            vectors: compute the vectors, for which the runtime must be a :class:`VectorRuntime`. The vector of a text is the mean
                of the embeddings of its pieces; float32, (vector size,). A text without words has zeros.
        """
        if not vectors:
            for group in self._classify_groups(groups):
                yield [(*item, None) for item in zip(group.tokenized, group.logits, strict=True)]
            return
        runtime = self.runtime
        if not isinstance(runtime, VectorRuntime):
            raise TypeError(f"{type(runtime).__name__} gives no vectors")
        for documents in groups:
            group, batches = self._prepare_group(documents)
            sums = np.zeros((len(documents), runtime.vector_size), dtype=np.float32)
            pieces = np.zeros(len(documents), dtype=np.int64)
            computed = runtime.stream_with_vectors(map(self.build_batch, batches))
            for batch, (logits, means) in zip(batches, computed, strict=True):
                self.store_logits(group.logits, batch, logits)
                for mean, (index, window) in zip(means, batch, strict=True):
                    sums[index] += mean * len(window.input_ids)
                    pieces[index] += len(window.input_ids)
            sums /= np.maximum(pieces, 1)[:, None]
            yield list(zip(group.tokenized, group.logits, sums, strict=True))

    def decode(self, tokenized: TokenizedDocument, logits: WordLogits, calibration: Calibration) -> Document:
        """Return a document with the names decoded from its logits, and their calibrated scores."""
        spans, nested = decode_names(tokenized, logits, self.tag_set, calibration, nested=self.nested_tag_set)
        return replace(tokenized.document, spans=tuple(spans), nested=tuple(nested))

    def allocate_logits(self, tokenized: TokenizedDocument) -> WordLogits:
        """Return zeros for the logits of a document's words."""
        words = len(tokenized.words)
        return WordLogits(
            np.zeros((words, len(self.tag_set)), dtype=np.float32),
            np.zeros((words, PROCLITIC_CLASSES), dtype=np.float32) if self.runtime.proclitics else None,
            None if self.nested_tag_set is None else np.zeros((words, len(self.nested_tag_set)), dtype=np.float32),
        )

    def build_batch(self, windows: _WindowBatch) -> Batch:
        """Pad windows to one batch. Each comes with the index of its document, which is not used here."""
        padding, limit = self.document_tokenizer.padding_id, self.document_tokenizer.max_length
        ids = [window.input_ids for _, window in windows]
        return Batch(pad_rows(ids, padding, limit=limit), pad_rows([np.ones_like(row) for row in ids], 0, limit=limit))

    def _classify_groups(self, groups: Iterable[list[Document]]) -> Iterator[_Group]:
        """Yield the groups with all their logits, in order. While one is computed, the next is tokenized."""
        pending: deque[_Group] = deque()
        sent_batches: deque[tuple[_Group, _WindowBatch]] = deque()

        def batches() -> Iterator[Batch]:
            for documents in groups:
                group, window_batches = self._prepare_group(documents)
                pending.append(group)
                for batch in window_batches:
                    sent_batches.append((group, batch))
                    yield self.build_batch(batch)

        for logits in self.runtime.stream(batches()):
            group, batch = sent_batches.popleft()
            self.store_logits(group.logits, batch, logits)
            group.pending_batches -= 1
            while pending and not pending[0].pending_batches:
                yield pending.popleft()
        yield from pending  # groups at the end whose texts have no words, and so no batches

    def _prepare_group(self, documents: list[Document]) -> tuple[_Group, list[_WindowBatch]]:
        """Tokenize documents and form their batches."""
        tokenized = list(self.document_tokenizer.tokenize_all(documents))
        windows = [(index, window) for index, item in enumerate(tokenized) for window in item.windows]
        lengths = [len(window.input_ids) for _, window in windows]
        batches = [[windows[index] for index in batch] for batch in batch_by_length(lengths, tokens=self.batch_tokens)]
        return _Group(tokenized, [self.allocate_logits(item) for item in tokenized], len(batches)), batches

    def store_logits(self, results: Sequence[WordLogits], batch: _WindowBatch, logits: BatchLogits) -> None:
        """Store the logits of a batch's words, each from the window that owns the word.

        Args:
            results: the logits of each document's words, as :meth:`allocate_logits` returns them; changed in place.
            batch: the windows, each with the index of its document in ``results``.
            logits: the logits of the batch.
        """
        sources = BatchLogits(logits.tags[..., self.columns], logits.proclitics, logits.nested)
        for row, (index, window) in enumerate(batch):
            words, positions = window.words[window.owned], window.positions[window.owned]
            for result, source in zip(results[index], sources, strict=True):
                if result is not None and source is not None:
                    result[words] = source[row, positions]

    def _decode_group(self, group: _Group) -> list[Document]:
        return [self.decode(*item, self.calibration) for item in zip(group.tokenized, group.logits, strict=True)]


def pad_rows(rows: list[np.ndarray], value: int, *, limit: int) -> np.ndarray:
    """Pad rows of different length to one int64 array, (rows, pieces).

    Args:
        rows: piece ids or labels.
        value: the padding value. The longest row is padded to the next multiple of 8.
        limit: the greatest possible length of a row; padding does not exceed it.
    """
    longest = min(limit, -(-max(map(len, rows)) // _LENGTH_MULTIPLE) * _LENGTH_MULTIPLE)
    batch = np.full((len(rows), longest), value, dtype=np.int64)
    for index, row in enumerate(rows):
        batch[index, : len(row)] = row
    return batch


def batch_by_length(lengths: list[int], *, tokens: int) -> list[list[int]]:
    """Group the indices of rows into batches of similar length.

    A batch has at most ``tokens`` pieces, padding included, unless it is a single row.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    batches: list[list[int]] = []
    for index in order:
        # Rows come longest first: the first row of a batch sets its padded length.
        if batches and (len(batches[-1]) + 1) * lengths[batches[-1][0]] <= tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


@dataclass(eq=False, slots=True)
class _Group:
    """Documents whose windows are batched together.

    Args:
        tokenized: the documents.
        logits: the logits of their words; zeros where not computed yet.
        pending_batches: number of their batches still to be computed.
    """

    tokenized: list[TokenizedDocument]
    logits: list[WordLogits]
    pending_batches: int


def _group_documents(documents: Iterable[Document]) -> Iterator[list[Document]]:
    stream = iter(documents)
    while group := list(islice(stream, GROUP_SIZE)):
        yield group
