"""Running classifiers that ``musamma export`` wrote: OpenVINO graphs and ONNX graphs, on the CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, PreTrainedConfig

from musamma.data.errors import InputError
from musamma.models.classifier import hub_file, load_error
from musamma.models.optional_packages import forgo_telemetry
from musamma.models.runtimes.torch import Batch, Output, Runtime, supports_bfloat16

#: The files of a graph, by the runtime that takes them: the first is the one that is opened.
GRAPH_FILES = {"openvino": ("openvino_model.xml", "openvino_model.bin"), "onnx": ("model.onnx",)}

# Kernels that OpenVINO keeps, each for one shape. By default it keeps 5,000, and memory grows for hours of batches, of which
# hardly two have the same shape; to compile some of them again takes no time that could be measured.
_KERNELS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What ``config.json`` says of an exported classifier, under ``musamma.export``.

    Args:
        runtime: a key of :data:`GRAPH_FILES`.
        quantization: ``"int8"``, or ``None``.
        proclitics: whether the graph has the proclitic head's output too.
    """

    runtime: str
    quantization: str | None
    proclitics: bool


def read_export(model: str) -> tuple[PreTrainedConfig, Export] | None:
    """The configuration of an exported classifier, and what it says of the export; ``None`` for one that is none.

    Args:
        model: a folder or a hub id.

    Raises:
        InputError: the configuration cannot be read, or what it says of the export is not known here.
    """
    try:
        config = AutoConfig.from_pretrained(model)
    except Exception as error:
        raise load_error(model, error) from error
    own = getattr(config, "musamma", None)
    if not isinstance(own, dict) or "export" not in own:
        return None
    stored = own["export"]
    try:
        if stored["format"] != 1 or stored["runtime"] not in GRAPH_FILES:
            raise ValueError(stored)
        export = Export(
            runtime=stored["runtime"], quantization=stored["quantization"], proclitics=bool(stored["proclitics"])
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"'musamma.export' in config.json is {stored!r}",
            where=model,
            expected=f"'format' 1, with 'runtime' {' or '.join(GRAPH_FILES)}, 'quantization' and 'proclitics'",
            remedy="export the checkpoint again with musamma export",
        ) from error
    return config, export


def load_exported(model: str, export: Export, *, device: str | None, bfloat16: bool | None) -> Runtime:
    """The runtime of an exported classifier, on as many threads as PyTorch would take (``OMP_NUM_THREADS``).

    Args:
        model: a folder or a hub id.
        export: what its configuration says.
        device: ``None`` or ``"cpu"``.
        bfloat16: compute what is not quantised in bfloat16; by default where the processor does so in hardware. Only
            OpenVINO can.

    Raises:
        InputError: another device, no graph or a broken one, or the runtime is not installed.
    """
    if device not in (None, "cpu"):
        raise InputError(
            f"device {device!r} for a classifier that was exported for the CPU",
            where=model,
            expected="cpu",
            remedy="give the checkpoint that it was exported from",
        )
    files = [_file(model, name) for name in GRAPH_FILES[export.runtime]]
    half = supports_bfloat16(torch.device("cpu")) if bfloat16 is None else bfloat16
    try:
        if export.runtime == "openvino":
            return OpenVinoRuntime(
                files[0], threads=torch.get_num_threads(), bfloat16=half, proclitics=export.proclitics
            )
        return OnnxRuntime(files[0], threads=torch.get_num_threads(), proclitics=export.proclitics)
    except ImportError as error:
        raise InputError(
            f"{error.name or error} is not installed, which runs this model",
            where=model,
            remedy=f"pip install 'musamma[{export.runtime}]', or give the checkpoint that it was exported from",
        ) from error
    except Exception as error:  # each runtime has exceptions of its own
        raise InputError(
            f"the graph cannot be loaded: {' '.join(str(error).split())[:200]}",
            where=str(files[0]),
            remedy="export the checkpoint again with musamma export",
        ) from error


class OpenVinoRuntime:
    """An OpenVINO graph with inputs ``input_ids`` and ``attention_mask`` and outputs ``tags`` and ``proclitics``.

    Several batches are computed at once, each by few threads: threads that need not wait for each other get more done, and go on
    where another process takes a core.

    Args:
        path: the ``.xml``, with the ``.bin`` beside it.
        threads: threads in all.
        bfloat16: compute what is not quantised in bfloat16.
        proclitics: whether to read the second output.
    """

    def __init__(self, path: Path, *, threads: int, bfloat16: bool, proclitics: bool) -> None:
        forgo_telemetry()
        import openvino
        from openvino import properties

        self.proclitics, self._bfloat16 = proclitics, bfloat16
        hint = properties.hint
        self._model = openvino.Core().compile_model(
            path,
            "CPU",
            {
                hint.performance_mode(): hint.PerformanceMode.THROUGHPUT,
                hint.inference_precision(): openvino.Type.bf16 if bfloat16 else openvino.Type.f32,
                properties.inference_num_threads(): threads,
                "CPU_RUNTIME_CACHE_CAPACITY": _KERNELS,
            },
        )
        self._outputs = [self._model.output(name) for name in (("tags", "proclitics") if proclitics else ("tags",))]
        # One more than are computed at once, so that none of them waits while a result is read.
        self._limit = int(self._model.get_property(properties.optimal_number_of_infer_requests())) + 1
        # Requests own the memory of a batch's activations; appending and popping are atomic.
        self._idle: deque[Any] = deque()

    def stream(self, batches: Iterable[Batch]) -> Iterator[Output]:
        """See :class:`Runtime`."""
        ahead: deque[Any] = deque()
        try:
            for batch in batches:
                request = self._request()
                request.start_async({"input_ids": batch.input_ids, "attention_mask": batch.attention_mask})
                ahead.append(request)
                if len(ahead) >= self._limit:
                    yield self._fetched(ahead.popleft())
            while ahead:
                yield self._fetched(ahead.popleft())
        finally:
            # Left early: what is being computed has to end before anybody else writes into it.
            for request in ahead:
                request.wait()
                self._idle.append(request)

    def settings(self) -> dict[str, Any]:
        """See :class:`Runtime`."""
        return {"runtime": "openvino", "device": "cpu", "bfloat16": self._bfloat16}

    def _request(self) -> Any:
        try:
            return self._idle.popleft()
        except IndexError:
            return self._model.create_infer_request()

    def _fetched(self, request: Any) -> Output:
        request.wait()
        tags, *proclitics = (np.array(request.get_tensor(output).data, dtype=np.float32) for output in self._outputs)
        self._idle.append(request)
        return tags, proclitics[0] if proclitics else None


class OnnxRuntime:
    """An ONNX graph, in ONNX Runtime; with inputs and outputs as :class:`OpenVinoRuntime`.

    Args:
        path: the ``.onnx``.
        threads: threads in all.
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

    def stream(self, batches: Iterable[Batch]) -> Iterator[Output]:
        """See :class:`Runtime`."""
        for batch in batches:
            tags, *proclitics = self._session.run(
                self._outputs, {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            )
            yield tags, proclitics[0] if proclitics else None

    def settings(self) -> dict[str, Any]:
        """See :class:`Runtime`."""
        return {"runtime": "onnx", "device": "cpu", "bfloat16": False}


def _file(model: str, name: str) -> Path:
    path = Path(model) / name if Path(model).is_dir() else hub_file(model, name)
    if path is None or not path.is_file():
        raise InputError(
            f"no {name}", where=model, expected="the graph of an exported model", remedy="run musamma export again"
        )
    return path
