"""OpenVINO runtime: runs graphs that ``musamma export --format openvino`` wrote, on the CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from musamma.models.optional_packages import disable_telemetry
from musamma.models.runtimes.runtime import Batch, BatchLogits, GraphDescription, name_outputs

if TYPE_CHECKING:
    import openvino

# Number of compiled kernels, each for one shape, that OpenVINO caches. With the default, 5,000, memory grows for hours, because
# batches rarely share a shape. Compiling some kernels again takes no measurable time.
_CACHED_KERNELS = 128


class OpenVinoRuntime:
    """An OpenVINO graph with inputs ``input_ids`` and ``attention_mask`` and outputs ``tags``, ``proclitics`` and ``nested``.

    It computes several batches at once, each with few threads: threads that do not wait for each other get more done, and
    continue if another process takes a core.

    Args:
        model: the ``.xml`` file, with the ``.bin`` file next to it, or the graph in memory.
        threads: total number of threads.
        bfloat16: compute in bfloat16 what is not quantised.
        graph: the outputs to read.
    """

    def __init__(self, model: Path | openvino.Model, *, threads: int, bfloat16: bool, graph: GraphDescription) -> None:
        disable_telemetry()
        import openvino
        from openvino import properties

        self._graph, self._bfloat16 = graph, bfloat16
        self.proclitics, self.nested = graph.proclitics, graph.nested
        hint = properties.hint
        self._model = openvino.Core().compile_model(
            model,
            "CPU",
            {
                hint.performance_mode(): hint.PerformanceMode.THROUGHPUT,
                hint.inference_precision(): openvino.Type.bf16 if bfloat16 else openvino.Type.f32,
                properties.inference_num_threads(): threads,
                "CPU_RUNTIME_CACHE_CAPACITY": _CACHED_KERNELS,
            },
        )
        self._outputs = [self._model.output(name) for name in graph.outputs]
        # One more than OpenVINO computes at once, so that none of them waits while a result is read.
        self._max_pending = int(self._model.get_property(properties.optimal_number_of_infer_requests())) + 1
        # Idle requests are reused, because they own the memory of a batch's activations. No lock is needed: operations of a deque
        # are atomic.
        self._idle: deque[Any] = deque()

    def stream(self, batches: Iterable[Batch]) -> Generator[BatchLogits, None, None]:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        pending: deque[Any] = deque()
        try:
            for batch in batches:
                request = self._acquire_request()
                request.start_async({"input_ids": batch.input_ids, "attention_mask": batch.attention_mask})
                pending.append(request)
                if len(pending) >= self._max_pending:
                    yield self._fetch(pending.popleft())
            while pending:
                yield self._fetch(pending.popleft())
        finally:
            # If the caller stops early, running requests must end before anything else writes into their memory.
            for request in pending:
                request.wait()
                self._idle.append(request)

    def settings(self) -> dict[str, Any]:
        """See :class:`~musamma.models.runtimes.runtime.Runtime`."""
        return {"runtime": "openvino", "device": "cpu", "bfloat16": self._bfloat16}

    def _acquire_request(self) -> Any:
        try:
            return self._idle.popleft()
        except IndexError:
            return self._model.create_infer_request()

    def _fetch(self, request: Any) -> BatchLogits:
        request.wait()
        outputs = [np.array(request.get_tensor(output).data, dtype=np.float32) for output in self._outputs]
        self._idle.append(request)
        return name_outputs(outputs, self._graph)
