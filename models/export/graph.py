"""Classifiers as graphs for other runtimes: OpenVINO and ONNX.

A graph has the inputs ``input_ids`` and ``attention_mask``, int64, (windows, pieces), and the outputs ``tags``,
float32, (windows, pieces, tags), and, of a classifier with that head, ``proclitics``, float32, (windows, pieces, 3).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.models.classifier import TokenClassifier, WindowOptions, max_positions
from musamma.models.export.quantize import (
    GraphInputs,
    quantize_onnx,
    quantize_openvino,
    sample_windows,
    select_float_layers,
)
from musamma.models.loading import load_tokenizer, resolve_model
from musamma.models.optional_packages import disable_telemetry, require_packages, silence_libraries
from musamma.models.predictor import Predictor
from musamma.models.runtimes.runtime import GRAPH_FILES
from musamma.models.runtimes.torch import TorchRuntime

if TYPE_CHECKING:
    import openvino

INPUTS = ("input_ids", "attention_mask")
OUTPUTS = ("tags", "proclitics")
#: What a graph is made with, by runtime and whether it is quantised.
_PACKAGES = {
    ("openvino", False): ("openvino",),
    ("openvino", True): ("openvino", "nncf"),
    ("onnx", False): ("onnx", "onnxscript", "onnxruntime"),
    ("onnx", True): ("onnx", "onnxscript", "onnxruntime"),
}
_OPSET = 20


class TraceableClassifier(nn.Module):
    """A classifier whose outputs are tensors alone, as tracers want it.

    Args:
        classifier: the classifier.
    """

    def __init__(self, classifier: TokenClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Logits of every piece: the tags', and the proclitics' where there is that head."""
        return tuple(logits for logits in self.classifier(input_ids, attention_mask) if logits is not None)


def export_checkpoint(
    predictor: Predictor,
    model: str,
    folder: Path,
    *,
    runtime: str,
    quantize: bool = False,
    texts: Sequence[Document] | None = None,
) -> tuple[tuple[str, ...], int]:
    """Write what is needed to run a checkpoint elsewhere.

    Args:
        predictor: the checkpoint, in PyTorch, in float32 and on the CPU.
        model: its name, folder or hub id.
        folder: a folder that is there.
        runtime: a key of :data:`GRAPH_FILES`.
        quantize: whether to write 8-bit integers.
        texts: what activations are measured on, to quantise for OpenVINO; by default the project's own articles.

    Returns:
        The linear layers that stay in floating point, by path, and how many windows were measured; if any.

    Raises:
        InputError: a package is missing, or the model cannot be converted.
    """
    if not isinstance(predictor.runtime, TorchRuntime):
        raise InputError("an exported model cannot be exported again", where=model)
    classifier, encoder = predictor.runtime.classifier, predictor.document_tokenizer
    windows: list[GraphInputs] = []
    if quantize and runtime == "openvino":
        windows = sample_windows(load_khabar("train") if texts is None else texts, encoder)
    try:
        write_export(
            classifier,
            WindowOptions(max_length=encoder.max_length, overlap=encoder.overlap),
            # Not the encoder's, which keeps the settings of its last call.
            load_tokenizer(resolve_model(model)),
            folder,
            runtime=runtime,
            windows=windows,
            quantize=quantize,
        )
    except (InputError, OSError):
        raise
    except Exception as error:  # converters have more ways to fail than can be named
        raise InputError(
            f"its {type(classifier.backbone).__name__} cannot be converted: {' '.join(str(error).split())[:200]}",
            where=model,
            remedy=f"try --format {'onnx' if runtime == 'openvino' else 'openvino'}",
        ) from error
    return select_float_layers(classifier) if quantize else (), len(windows)


def check_packages(runtime: str, *, quantized: bool) -> None:
    """Fail where a package that makes or runs such a graph is missing.

    Raises:
        InputError: it is not installed.
    """
    require_packages(*_PACKAGES[runtime, quantized], extra=runtime, purpose=f"makes {runtime} models")


def write_export(
    classifier: TokenClassifier,
    options: WindowOptions,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    runtime: str,
    windows: Sequence[GraphInputs] = (),
    quantize: bool = False,
) -> None:
    """Write what is needed to run a classifier elsewhere: its graph, configuration and tokenizer.

    Args:
        classifier: the classifier, in float32, on the CPU and in evaluation mode.
        options: how documents are cut for it.
        tokenizer: its tokenizer.
        folder: a folder that is there.
        runtime: a key of :data:`GRAPH_FILES`.
        windows: what activations are measured on, to quantise for OpenVINO.
        quantize: whether to write 8-bit integers.

    Raises:
        InputError: a package is missing.
    """
    check_packages(runtime, quantized=quantize)
    path = folder / GRAPH_FILES[runtime][0]
    graph = TraceableClassifier(classifier)
    kept = [f"classifier.{layer}" for layer in select_float_layers(classifier)]
    if runtime == "openvino":
        model = convert_openvino(graph)
        if quantize:
            model = quantize_openvino(model, windows, kept)
        save_openvino(model, path)
    elif quantize:
        whole = folder / "float.onnx"
        write_onnx(graph, whole)
        quantize_onnx(whole, path, kept)
        whole.unlink()
    else:
        write_onnx(graph, path)
    _write_config(classifier, options, folder, runtime=runtime, quantization="int8" if quantize else None)
    tokenizer.save_pretrained(folder)


def convert_openvino(graph: TraceableClassifier) -> openvino.Model:
    """The OpenVINO graph of a classifier."""
    disable_telemetry()
    with silence_libraries(), torch.inference_mode():
        import openvino

        model = openvino.convert_model(graph.eval(), example_input=_example(graph.classifier))
    for port, name in zip(model.inputs, INPUTS, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, OUTPUTS, strict=False):
        port.get_tensor().set_names({name})
    return model


def save_openvino(model: openvino.Model, path: Path) -> None:
    """Write a graph as ``.xml``, with its weights beside it as ``.bin``; those in floating point in 16 bits."""
    import openvino

    openvino.save_model(model, path, compress_to_fp16=True)


def write_onnx(graph: TraceableClassifier, path: Path) -> None:
    """Write a classifier as an ONNX graph, in one file, in float32."""
    limit = max_positions(graph.classifier.backbone)
    pieces = torch.export.Dim("pieces", max=limit) if limit is not None else torch.export.Dim("pieces")
    with silence_libraries(), torch.inference_mode():
        torch.onnx.export(
            graph.eval(),
            _example(graph.classifier),
            path,
            dynamo=True,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS[: 1 + (graph.classifier.proclitic_head is not None)]),
            dynamic_shapes={name: {0: torch.export.Dim("batch"), 1: pieces} for name in INPUTS},
            external_data=False,
            opset_version=_OPSET,
            verbose=False,
        )


def _example(classifier: TokenClassifier) -> tuple[torch.Tensor, torch.Tensor]:
    """Two windows of different length. Without padding a tracer would find that the mask makes no difference."""
    pieces = min(32, max_positions(classifier.backbone) or 32)
    mask = torch.ones(2, pieces, dtype=torch.long)
    mask[1, pieces // 2 :] = 0
    padding = classifier.config.pad_token_id or 0
    size = len(next(classifier.backbone.get_input_embeddings().parameters()))
    ids = torch.arange(2 * pieces).reshape(2, pieces) % size
    ids[ids == padding] = (padding + 1) % size
    return ids.masked_fill(mask == 0, padding), mask


def _write_config(
    classifier: TokenClassifier, options: WindowOptions, folder: Path, *, runtime: str, quantization: str | None
) -> None:
    config = copy.deepcopy(classifier.config)
    own = getattr(config, "musamma", None)
    config.musamma = {
        **(own if isinstance(own, dict) else {"format": 1}),
        # Always written: without the weights nobody can see how many positions the encoder has.
        "encoding": asdict(options),
        "export": {
            "format": 1,
            "runtime": runtime,
            "quantization": quantization,
            "proclitics": classifier.proclitic_head is not None,
        },
    }
    config.save_pretrained(folder)
