"""Running a classifier over documents: windows of similar length share a batch, documents come back in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import numpy as np

from musamma.data.document import Document
from musamma.data.tags import TagSet
from musamma.data.windows import DocumentTokenizer, TokenizedDocument, Window
from musamma.models.calibration import Calibration, Logits
from musamma.models.decoding import PROCLITIC_CLASSES, decode
from musamma.models.runtimes.torch import Batch, Runtime

# Every new shape makes the CPU's matrix library compile and keep another kernel.
_MULTIPLE = 8
# Documents whose windows are sorted by length together, where nobody has put them in groups.
_GROUP = 256


def pad(rows: list[np.ndarray], value: int, *, limit: int) -> np.ndarray:
    """Rows of different length as one int64 array, (rows, pieces).

    Args:
        rows: piece ids or labels.
        value: what to fill up with, to the next multiple of 8 of the longest row.
        limit: the longest row there can be, which is not exceeded.
    """
    longest = min(limit, -(-max(map(len, rows)) // _MULTIPLE) * _MULTIPLE)
    batch = np.full((len(rows), longest), value, dtype=np.int64)
    for index, row in enumerate(rows):
        batch[index, : len(row)] = row
    return batch


def batches(lengths: list[int], *, tokens: int) -> list[list[int]]:
    """Indices in batches of similar length, each of at most ``tokens`` pieces with its padding (or one row)."""
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    groups: list[list[int]] = []
    for index in order:
        # Rows come longest first: the first one of a group sets its padded length.
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


@dataclass(eq=False, slots=True)
class _Group:
    """Documents whose windows are batched together.

    Args:
        encoded: the documents.
        logits: what is known of their words by now.
        batches: how many of their batches are still to come.
    """

    encoded: list[TokenizedDocument]
    logits: list[Logits]
    batches: int


class Predictor:
    """A classifier with its encoder and tag set. Several threads may use one.

    Args:
        runtime: computes the logits.
        encoder: cuts documents as in training.
        tags: the tag set.
        columns: ``logits[..., columns]`` are in the tag set's order; int, (tags,).
        batch_tokens: pieces a batch, padding included.
        calibration: the temperatures that scores are made with.
    """

    def __init__(
        self,
        runtime: Runtime,
        encoder: DocumentTokenizer,
        tags: TagSet,
        columns: np.ndarray,
        *,
        batch_tokens: int = 4096,
        calibration: Calibration | None = None,
    ) -> None:
        self.runtime, self.encoder, self.tags, self.columns = runtime, encoder, tags, columns
        self.batch_tokens = batch_tokens
        self.calibration = calibration or Calibration()

    def predict(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents with the names found in them, in order; a few hundred of them are in memory at a time."""
        return chain.from_iterable(self.predict_groups(_groups(documents)))

    def predict_groups(self, groups: Iterable[list[Document]]) -> Iterator[list[Document]]:
        """Groups of documents with the names found in them, in order.

        No batch holds windows of two groups: what is found in a group does not depend on its neighbours.
        """
        for group in self._classified(groups):
            yield [self.decoded(*item, self.calibration) for item in zip(group.encoded, group.logits, strict=True)]

    def classify(self, documents: Iterable[Document]) -> Iterator[tuple[TokenizedDocument, Logits]]:
        """The documents, in order, with what the classifier says of their words.

        That is (words, tags), and (words, proclitic classes), or ``None`` without a proclitic head.
        """
        for group in self._classified(_groups(documents)):
            yield from zip(group.encoded, group.logits, strict=True)

    def decoded(self, encoded: TokenizedDocument, logits: Logits, calibration: Calibration) -> Document:
        """A document with the names that its logits say, scored as the calibration says."""
        spans = decode(
            encoded,
            *logits,
            self.tags,
            tag_temperature=calibration.tag_temperature,
            proclitic_temperature=calibration.proclitic_temperature,
        )
        return encoded.document.with_spans(spans)

    def _classified(self, groups: Iterable[list[Document]]) -> Iterator[_Group]:
        """The groups, in order, with all their logits. While one is computed, the next is cut."""
        waiting: deque[_Group] = deque()
        sent: deque[tuple[_Group, list[tuple[int, Window]]]] = deque()

        def work() -> Iterator[Batch]:
            padding, limit = self.encoder.tokenizer.pad_token_id or 0, self.encoder.max_length
            for documents in groups:
                group = self._group(documents)
                windows = [(index, window) for index, item in enumerate(group.encoded) for window in item.windows]
                rows = batches([len(window.input_ids) for _, window in windows], tokens=self.batch_tokens)
                group.batches = len(rows)
                waiting.append(group)
                for row in rows:
                    chosen = [windows[index] for index in row]
                    sent.append((group, chosen))
                    ids = [window.input_ids for _, window in chosen]
                    yield Batch(pad(ids, padding, limit=limit), pad([np.ones_like(row) for row in ids], 0, limit=limit))

        for tag_logits, proclitic_logits in self.runtime.stream(work()):
            group, chosen = sent.popleft()
            tag_rows = tag_logits[..., self.columns]
            for row, (index, window) in enumerate(chosen):
                words, positions = window.words[window.owned], window.positions[window.owned]
                tag_result, proclitic_result = group.logits[index]
                tag_result[words] = tag_rows[row, positions]
                if proclitic_result is not None and proclitic_logits is not None:
                    proclitic_result[words] = proclitic_logits[row, positions]
            group.batches -= 1
            while waiting and not waiting[0].batches:
                yield waiting.popleft()
        yield from waiting  # texts without a word at the very end

    def _group(self, documents: list[Document]) -> _Group:
        encoded = list(self.encoder.tokenize_all(documents))
        logits: list[Logits] = [
            (
                np.zeros((len(item.words), len(self.tags)), dtype=np.float32),
                np.zeros((len(item.words), PROCLITIC_CLASSES), dtype=np.float32) if self.runtime.proclitics else None,
            )
            for item in encoded
        ]
        return _Group(encoded, logits, 0)


def _groups(documents: Iterable[Document]) -> Iterator[list[Document]]:
    stream = iter(documents)
    while group := list(islice(stream, _GROUP)):
        yield group
