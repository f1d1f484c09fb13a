"""PyTorch runtime: runs checkpoints on a CPU or GPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from typing import Any

import numpy as np
import torch

from musamma.data.errors import InputError
from musamma.models.classifier import TokenClassifier
from musamma.models.runtimes.runtime import Batch, BatchLogits

# Number of batches queued on a GPU before the first result is fetched, so that the next batch is prepared meanwhile.
_QUEUED = 2


class TorchRuntime:
    """A classifier in PyTorch.

    Args:
        classifier: the model, on its device. The runtime does not switch it to evaluation mode.
        device: the model's device.
        autocast: the type to compute in; ``None`` for the type of the weights.
    """

    def __init__(
        self, classifier: TokenClassifier, *, device: torch.device, autocast: torch.dtype | None = None
    ) -> None:
        self.classifier, self.device, self.autocast = classifier, device, autocast

    @property
    def asynchronous(self) -> bool:
        """True if the device computes while this process prepares the next batch."""
        return self.device.type == "cuda"

    @property
    def proclitics(self) -> bool:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        return self.classifier.proclitic_head is not None

    @property
    def nested(self) -> bool:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        return self.classifier.nested_head is not None

    def stream(self, batches: Iterable[Batch]) -> Generator[BatchLogits, None, None]:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        pending: deque[tuple[list[torch.Tensor | None], torch.cuda.Event | None]] = deque()
        max_pending = _QUEUED if self.asynchronous else 0
        for batch in batches:
            pending.append(self._launch(batch))
            if len(pending) > max_pending:
                yield _fetch(*pending.popleft())
        while pending:
            yield _fetch(*pending.popleft())

    @property
    def vector_size(self) -> int:
        """See :class:`~musamma.models.runtimes.runtime.VectorRuntime`."""
        return int(self.classifier.config.hidden_size)

    def stream_with_vectors(self, batches: Iterable[Batch]) -> Generator[tuple[BatchLogits, np.ndarray], None, None]:
        """See :class:`~musamma.models.runtimes.runtime.VectorRuntime`."""
        for batch in batches:
            yield self._compute_with_vectors(batch)

    def settings(self) -> dict[str, Any]:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        return {"runtime": "torch", "device": str(self.device), "bfloat16": self.autocast is not None}

    @torch.inference_mode()
    def _launch(self, batch: Batch) -> tuple[list[torch.Tensor | None], torch.cuda.Event | None]:
        ids, mask = (self._to_device(array) for array in (batch.input_ids, batch.attention_mask))
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            outputs = self.classifier(ids, mask)
        # On a GPU all copies are queued after this batch and before the computation of the next one.
        asynchronous = self.asynchronous
        logits = [None if output is None else output.float().to("cpu", non_blocking=asynchronous) for output in outputs]
        done = None
        if asynchronous:
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self.device))
        return logits, done

    @torch.inference_mode()
    def _compute_with_vectors(self, batch: Batch) -> tuple[BatchLogits, np.ndarray]:
        ids, mask = (self._to_device(array) for array in (batch.input_ids, batch.attention_mask))
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            *outputs, states = self.classifier.forward_with_states(ids, mask)
        means = (states[0].float() * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return _fetch(
            [None if output is None else output.float().cpu() for output in outputs], None
        ), means.cpu().numpy()

    def _to_device(self, array: np.ndarray) -> torch.Tensor:
        tensor = torch.from_numpy(array)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.asynchronous else tensor


def _fetch(logits: list[torch.Tensor | None], done: torch.cuda.Event | None) -> BatchLogits:
    if done is not None:
        done.synchronize()
    tags, proclitics, nested = (None if tensor is None else tensor.numpy() for tensor in logits)
    assert tags is not None, "every classifier has a tag head"
    return BatchLogits(tags, proclitics, nested)


def choose_device(name: str | None) -> torch.device:
    """Return the named device; by default the GPU if there is one.

    Raises:
        InputError: there is no such device.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        available = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
        raise InputError(f"device {name!r}", expected=f"an available device, such as {', '.join(available)}") from error
    return device


def supports_bfloat16(device: torch.device) -> bool:
    """True if the device multiplies bfloat16 matrices in hardware, so that they are faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # Checked by instruction set: on processors without these instructions oneDNN emulates bfloat16, slower than float32.
        checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return False
