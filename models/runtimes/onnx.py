"""ONNX Runtime: runs graphs that ``musamma export --format onnx`` wrote, on the CPU."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

from musamma.models.runtimes.runtime import Batch, BatchLogits, GraphDescription, name_outputs


class OnnxRuntime:
    """An ONNX graph with the inputs and outputs of :class:`~musamma.models.runtimes.openvino.OpenVinoRuntime`.

    Args:
        path: the ``.onnx`` file.
        threads: total number of threads.
        graph: the outputs to read.
    """

    def __init__(self, path: Path, *, threads: int, graph: GraphDescription) -> None:
        import onnxruntime

        self._graph = graph
        self.proclitics, self.nested = graph.proclitics, graph.nested
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def stream(self, batches: Iterable[Batch]) -> Generator[BatchLogits, None, None]:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        for batch in batches:
            outputs = self._session.run(
                self._graph.outputs, {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            )
            yield name_outputs(outputs, self._graph)

    def settings(self) -> dict[str, Any]:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        return {"runtime": "onnx", "device": "cpu", "bfloat16": False}
