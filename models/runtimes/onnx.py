"""ONNX Runtime: runs graphs that ``musamma export --format onnx`` wrote, on the CPU."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from musamma.models.runtimes.runtime import Batch, BatchLogits


class OnnxRuntime:
    """An ONNX graph with the inputs and outputs of :class:`~musamma.models.runtimes.openvino.OpenVinoRuntime`.

    Args:
        path: the ``.onnx`` file.
        threads: total number of threads.
        proclitics: whether to read the second output.
    """

    def __init__(self, path: Path, *, threads: int, proclitics: bool) -> None:
        import onnxruntime

        self.proclitics = proclitics
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._outputs = ["tags", "proclitics"] if proclitics else ["tags"]

    def stream(self, batches: Iterable[Batch]) -> Generator[BatchLogits, None, None]:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        for batch in batches:
            tags, *proclitics = self._session.run(
                self._outputs, {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            )
            yield tags, proclitics[0] if proclitics else None

    def settings(self) -> dict[str, Any]:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        return {"runtime": "onnx", "device": "cpu", "bfloat16": False}
