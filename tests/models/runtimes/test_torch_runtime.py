"""The PyTorch runtime: bfloat16, and the queue of a device that computes on its own, simulated on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from musamma.data.document import Document
from musamma.data.tags import TagSet
from musamma.models.checkpoint import build_classifier
from musamma.models.loading import load_predictor
from musamma.models.runtimes.runtime import Batch
from musamma.models.runtimes.torch import TorchRuntime

CPU = torch.device("cpu")


class Asynchronous(TorchRuntime):
    """A runtime whose device, the CPU, is treated as a GPU."""

    asynchronous = True


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """What happened to the events of a simulated GPU, in order: recorded or waited for, and the number of the event."""
    happened: list[tuple[str, int]] = []

    class Event:
        def __init__(self) -> None:
            self.number = len({number for _, number in happened})

        def record(self, stream: object) -> None:
            happened.append(("record", self.number))

        def synchronize(self) -> None:
            happened.append(("wait", self.number))

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
    return happened


def batches(count: int) -> Iterator[Batch]:
    for number in range(count):
        ids = np.arange(2 * (5 + number)).reshape(2, -1) + 5
        yield Batch(ids, np.ones_like(ids))


def test_batches_are_queued_and_read_in_order_after_their_events(
    wordpiece_encoder: Path, events: list[tuple[str, int]]
) -> None:
    torch.manual_seed(1)
    tags = TagSet.from_labels(["LOC"])
    classifier = build_classifier(str(wordpiece_encoder), tags, nested=tags).eval()
    expected = list(TorchRuntime(classifier, device=CPU).stream(batches(4)))
    assert events == []
    stream = Asynchronous(classifier, device=CPU).stream(batches(4))
    found = [next(stream)]
    # Two further batches are queued when the first result is read.
    assert events == [("record", 0), ("record", 1), ("record", 2), ("wait", 0)]
    found += stream
    assert events[4:] == [("record", 3), ("wait", 1), ("wait", 2), ("wait", 3)]
    for logits, reference in zip(found, expected, strict=True):
        for values, reference_values in zip(logits, reference, strict=True):
            np.testing.assert_array_equal(values, reference_values)


def test_bfloat16_finds_the_same_names_and_gives_float32_logits(checkpoint: Path, known: list[Document]) -> None:
    predictor = load_predictor(str(checkpoint), device="cpu", bfloat16=True)
    assert predictor.runtime.settings() == {"runtime": "torch", "device": "cpu", "bfloat16": True}
    bare = [document.with_spans([]) for document in known]
    assert [[span.key for span in d.spans] for d in predictor.predict(bare)] == [
        [span.key for span in d.spans] for d in known
    ]
    half, full = (
        next(iter(load_predictor(str(checkpoint), device="cpu", bfloat16=bfloat16).runtime.stream(batches(1))))
        for bfloat16 in (True, False)
    )
    assert half.tags.dtype == full.tags.dtype == np.float32
    assert not np.array_equal(half.tags, full.tags)
    np.testing.assert_allclose(half.tags, full.tags, atol=0.3)


def test_a_checkpoint_is_moved_whole_to_its_device(checkpoint: Path) -> None:
    """The meta device stands in for a GPU: it holds no numbers, and refuses to compute with tensors of another device."""
    runtime = load_predictor(str(checkpoint), device="meta", bfloat16=False).runtime
    assert isinstance(runtime, TorchRuntime)
    tensors = [*runtime.classifier.parameters(), *runtime.classifier.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
