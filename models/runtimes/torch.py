"""What computes a classifier's logits: PyTorch here; OpenVINO and ONNX Runtime for exported classifiers."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from musamma.data.errors import InputError
from musamma.models.classifier import TokenClassifier

#: Tag logits, (rows, pieces, tags), and proclitic logits, (rows, pieces, classes), or ``None`` without such a head; float32.
Output = tuple[np.ndarray, np.ndarray | None]

# Batches that a GPU has before it while the one before them is fetched and the next one is cut.
_AHEAD = 2


@dataclass(frozen=True, slots=True)
class Batch:
    """Windows of similar length, padded.

    Args:
        input_ids: piece ids; int64, (rows, pieces).
        attention_mask: 1 for pieces, 0 for padding; int64, (rows, pieces).
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray


class Runtime(Protocol):
    """A classifier where it runs. Several threads may stream through one."""

    @property
    def proclitics(self) -> bool:
        """Whether it has a proclitic head."""

    def stream(self, batches: Iterable[Batch]) -> Iterator[Output]:
        """The logits of every batch, in order. A few batches are read ahead, so that the next is cut while one is computed."""

    def settings(self) -> dict[str, Any]:
        """What of the runtime decides the logits, by names that users know."""


class TorchRuntime:
    """A classifier in PyTorch.

    Args:
        classifier: the model, on its device; it is not switched to evaluation mode here.
        device: where it is.
        autocast: the type to compute in, ``None`` for the weights' own.
    """

    def __init__(
        self, classifier: TokenClassifier, *, device: torch.device, autocast: torch.dtype | None = None
    ) -> None:
        self.classifier, self.device, self.autocast = classifier, device, autocast

    @property
    def proclitics(self) -> bool:
        """Whether the classifier has a proclitic head."""
        return self.classifier.proclitic_head is not None

    def stream(self, batches: Iterable[Batch]) -> Iterator[Output]:
        """See :class:`Runtime`."""
        ahead: deque[tuple[torch.Tensor, torch.Tensor | None, torch.cuda.Event | None]] = deque()
        limit = _AHEAD if self.device.type == "cuda" else 0
        for batch in batches:
            ahead.append(self._launch(batch))
            if len(ahead) > limit:
                yield _fetched(*ahead.popleft())
        while ahead:
            yield _fetched(*ahead.popleft())

    def settings(self) -> dict[str, Any]:
        """See :class:`Runtime`."""
        return {"runtime": "torch", "device": str(self.device), "bfloat16": self.autocast is not None}

    @torch.inference_mode()
    def _launch(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None, torch.cuda.Event | None]:
        ids, mask = (self._moved(array) for array in (batch.input_ids, batch.attention_mask))
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            tags, proclitics = self.classifier(ids, mask)
        # On a GPU both copies are queued behind this batch, and before the next one's computation.
        there = self.device.type == "cuda"
        tags = tags.float().to("cpu", non_blocking=there)
        if proclitics is not None:
            proclitics = proclitics.float().to("cpu", non_blocking=there)
        done = None
        if there:
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self.device))
        return tags, proclitics, done

    def _moved(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor


def _fetched(tags: torch.Tensor, proclitics: torch.Tensor | None, done: torch.cuda.Event | None) -> Output:
    if done is not None:
        done.synchronize()
    return tags.numpy(), None if proclitics is None else proclitics.numpy()


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
