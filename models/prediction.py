"""Running a classifier over documents: windows of similar length share a batch, documents come back in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from musamma.data.document import Document
from musamma.data.encoding import Encoded, Encoder
from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.models.calibration import Calibration, Logits
from musamma.models.decoding import PROCLITIC_CLASSES, decode
from musamma.models.token_classifier import TokenClassifier

# Every new shape makes the CPU's matrix library compile and keep another kernel.
_MULTIPLE = 8


def pad(rows: list[np.ndarray], value: int, *, limit: int) -> torch.Tensor:
    """Rows of different length as one int64 tensor, (rows, pieces).

    Args:
        rows: piece ids or labels.
        value: what to fill up with, to the next multiple of 8 of the longest row.
        limit: the longest row there can be, which is not exceeded.
    """
    longest = min(limit, -(-max(map(len, rows)) // _MULTIPLE) * _MULTIPLE)
    batch = np.full((len(rows), longest), value, dtype=np.int64)
    for index, row in enumerate(rows):
        batch[index, : len(row)] = row
    return torch.from_numpy(batch)


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


class Predictor:
    """A classifier with its encoder, tag set and device.

    Args:
        classifier: the model; it is neither moved nor switched to evaluation mode here.
        encoder: cuts documents as in training.
        tags: the tag set.
        columns: ``logits[..., columns]`` are in the tag set's order; int, (tags,).
        device: where the classifier is.
        autocast: the type to compute in, ``None`` for the weights' own.
        batch_tokens: pieces a batch, padding included.
        calibration: the temperatures that scores are made with.
    """

    def __init__(
        self,
        classifier: TokenClassifier,
        encoder: Encoder,
        tags: TagSet,
        columns: np.ndarray,
        *,
        device: torch.device,
        autocast: torch.dtype | None = None,
        batch_tokens: int = 4096,
        calibration: Calibration | None = None,
    ) -> None:
        self.classifier, self.encoder, self.tags, self.columns = classifier, encoder, tags, columns
        self.device, self.autocast, self.batch_tokens = device, autocast, batch_tokens
        self.calibration = calibration or Calibration()

    def predict(self, documents: Iterable[Document], *, chunk: int = 256) -> Iterator[Document]:
        """The documents with the names found in them, in order; see :meth:`classify` for the arguments."""
        for encoded, logits in self.classify(documents, chunk=chunk):
            yield self.decoded(encoded, logits, self.calibration)

    def classify(self, documents: Iterable[Document], *, chunk: int = 256) -> Iterator[tuple[Encoded, Logits]]:
        """The documents, in order, with what the classifier says of their words.

        Args:
            documents: any number; ``chunk`` of them are in memory at a time.
            chunk: documents whose windows are sorted by length together.
        """
        stream = iter(documents)
        while group := list(islice(stream, chunk)):
            encoded = list(self.encoder.encode_all(group))
            yield from zip(encoded, self.logits(encoded), strict=True)

    def decoded(self, encoded: Encoded, logits: Logits, calibration: Calibration) -> Document:
        """A document with the names that its logits say, scored as the calibration says."""
        spans = decode(
            encoded,
            *logits,
            self.tags,
            tag_temperature=calibration.tag_temperature,
            proclitic_temperature=calibration.proclitic_temperature,
        )
        return encoded.document.with_spans(spans)

    @torch.inference_mode()
    def logits(self, encoded: list[Encoded]) -> list[Logits]:
        """Logits of every word of every document: (words, tags), and (words, proclitic classes) or ``None``."""
        has_head = self.classifier.proclitic_head is not None
        results: list[Logits] = [
            (
                np.zeros((len(item.words), len(self.tags)), dtype=np.float32),
                np.zeros((len(item.words), PROCLITIC_CLASSES), dtype=np.float32) if has_head else None,
            )
            for item in encoded
        ]
        windows = [(index, window) for index, item in enumerate(encoded) for window in item.windows]
        padding, limit = self.encoder.tokenizer.pad_token_id or 0, self.encoder.max_length
        for rows in batches([len(window.input_ids) for _, window in windows], tokens=self.batch_tokens):
            group = [windows[row] for row in rows]
            input_ids = pad([window.input_ids for _, window in group], padding, limit=limit)
            attention_mask = pad([np.ones_like(window.input_ids) for _, window in group], 0, limit=limit)
            with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
                tag_logits, proclitic_logits = self.classifier(
                    input_ids.to(self.device), attention_mask.to(self.device)
                )
            tag_rows = tag_logits.float().cpu().numpy()[..., self.columns]
            proclitic_rows = None if proclitic_logits is None else proclitic_logits.float().cpu().numpy()
            for row, (index, window) in enumerate(group):
                words, positions = window.words[window.owned], window.positions[window.owned]
                tag_result, proclitic_result = results[index]
                tag_result[words] = tag_rows[row, positions]
                if proclitic_result is not None and proclitic_rows is not None:
                    proclitic_result[words] = proclitic_rows[row, positions]
        return results


def choose_device(name: str | None) -> torch.device:
    """The device of that name; the GPU where there is one, if ``name`` is ``None``.

    Raises:
        InputError: there is no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        there = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise InputError(f"device {name!r}", expected=f"one that is there, such as {', '.join(there)}") from error
    return device


def supports_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices in hardware, so that it is faster than float32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # oneDNN also emulates bfloat16 on processors without such instructions, where it is slower than float32.
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return False
