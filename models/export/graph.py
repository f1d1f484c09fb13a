"""Conversion of classifiers to graphs for OpenVINO and ONNX Runtime.

A graph has the inputs ``input_ids`` and ``attention_mask``, int64, (windows, pieces), and the outputs ``tags``, float32,
(windows, pieces, tags), and, if the classifier has these heads, ``proclitics``, float32, (windows, pieces, 3), and ``nested``,
float32, (windows, pieces, nested tags).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from musamma.models.classifier import TokenClassifier, max_positions
from musamma.models.export.activation_ranges import measure_inputs
from musamma.models.export.outlier_channels import divide_outliers, find_body_layers
from musamma.models.export.quantize import (
    DEFAULT_SETTINGS,
    GraphInputs,
    QuantizationSettings,
    choose_quantizations,
    quantize_onnx,
    select_float_layers,
)
from musamma.models.export.quantize_openvino import quantize_openvino
from musamma.models.nested_labels import NESTED_KEY, describe_nested
from musamma.models.optional_packages import disable_telemetry, require_packages, silence_libraries
from musamma.models.runtimes.runtime import GRAPH_FILES, GRAPH_INPUTS, GraphDescription
from musamma.models.tokenizer_files import save_tokenizer
from musamma.models.window_options import WindowOptions

if TYPE_CHECKING:
    import openvino

# Packages that make and run a graph, by runtime and whether it is quantised.
_PACKAGES = {
    ("openvino", False): ("openvino",),
    ("openvino", True): ("openvino",),
    ("onnx", False): ("onnx", "onnxscript", "onnxruntime"),
    ("onnx", True): ("onnx", "onnxscript", "onnxruntime"),
}
_OPSET = 20
# The attribute of a traced module that holds the classifier, with which the names of its modules begin.
_CLASSIFIER = "classifier"


class TraceableClassifier(nn.Module):
    """A classifier whose outputs are all tensors, as tracers require.

    Args:
        classifier: the classifier.
    """

    def __init__(self, classifier: TokenClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Compute the logits of every piece: of tags, and of proclitics and nested tags if the classifier has these heads."""
        return tuple(logits for logits in self.classifier(input_ids, attention_mask) if logits is not None)


def check_packages(runtime: str, *, quantized: bool) -> None:
    """Check that the packages that make and run a graph are installed.

    Raises:
        InputError: a package is not installed.
    """
    require_packages(*_PACKAGES[runtime, quantized], extra="export", purpose=f"makes {runtime} models")


def write_exported(
    classifier: TokenClassifier,
    options: WindowOptions,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    *,
    runtime: str,
    samples: Sequence[GraphInputs] = (),
    quantize: bool = False,
    settings: QuantizationSettings = DEFAULT_SETTINGS,
) -> tuple[str, ...]:
    """Write everything that running a classifier elsewhere requires: its graph, configuration and tokenizer.

    Args:
        classifier: the classifier, in float32, on the CPU and in evaluation mode.
        options: its window options.
        tokenizer: its tokenizer.
        folder: an existing folder.
        runtime: a key of :data:`GRAPH_FILES`.
        samples: windows on which activations are measured, to quantise for OpenVINO.
        quantize: whether to write 8-bit integers.
        settings: settings of quantisation for OpenVINO.

    Returns:
        Paths of the linear layers that quantisation leaves in floating point; empty without quantisation.

    Raises:
        InputError: a package is missing.
    """
    check_packages(runtime, quantized=quantize)
    float_layers = select_float_layers(classifier, share=settings.float_share) if quantize else ()
    path = folder / GRAPH_FILES[runtime][0]
    if runtime == "openvino" and quantize:
        model, float_layers = _quantized_openvino(classifier, samples, float_layers, settings)
        save_openvino(model, path)
    elif runtime == "openvino":
        save_openvino(convert_openvino(TraceableClassifier(classifier)), path)
    elif quantize:
        float_path = folder / "float.onnx"
        write_onnx(TraceableClassifier(classifier), float_path)
        quantize_onnx(float_path, path, [f"{_CLASSIFIER}.{layer}" for layer in float_layers])
        float_path.unlink()
    else:
        write_onnx(TraceableClassifier(classifier), path)
    _write_config(classifier, options, folder, runtime=runtime, quantization="int8" if quantize else None)
    save_tokenizer(tokenizer, folder)
    return float_layers


def _quantized_openvino(
    classifier: TokenClassifier,
    samples: Sequence[GraphInputs],
    float_layers: Sequence[str],
    settings: QuantizationSettings,
) -> tuple[openvino.Model, tuple[str, ...]]:
    """Return a quantised graph of a classifier, and the paths of its linear layers in floating point."""
    divisors = dict[str, np.ndarray]()
    if settings.divide_outliers:
        kept = select_float_layers(classifier, share=settings.divided_float_share)
        classifier, divisors = divide_outliers(classifier, samples, skip=kept)
        float_layers = [layer for layer in float_layers if layer not in divisors]
    layers = [path for path in find_body_layers(classifier) if path not in float_layers]
    inputs = measure_inputs(classifier, layers, samples)
    quantizations = choose_quantizations(classifier, inputs, divisors, settings)
    model = convert_openvino(TraceableClassifier(classifier))
    quantize_openvino(
        model,
        {f"{_CLASSIFIER}.{path}": quantization for path, quantization in quantizations.items()},
        {f"{_CLASSIFIER}.{path}": measured.rows for path, measured in inputs.items()},
    )
    return model, tuple(float_layers)


def convert_openvino(graph: TraceableClassifier) -> openvino.Model:
    """Convert a classifier to an OpenVINO graph."""
    disable_telemetry()
    with silence_libraries(), torch.inference_mode():
        import openvino

        model = openvino.convert_model(graph.eval(), example_input=_example(graph.classifier))
    for port, name in zip(model.inputs, GRAPH_INPUTS, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, _describe_graph(graph.classifier, "openvino", None).outputs, strict=True):
        port.get_tensor().set_names({name})
    return model


def save_openvino(model: openvino.Model, path: Path) -> None:
    """Write a graph as ``.xml`` and its weights next to it as ``.bin``, floating-point weights in 16 bits."""
    import openvino

    openvino.save_model(model, path, compress_to_fp16=True)


def write_onnx(graph: TraceableClassifier, path: Path) -> None:
    """Write a classifier as an ONNX graph in a single file, in float32."""
    limit = max_positions(graph.classifier.backbone)
    pieces = torch.export.Dim("pieces", max=limit) if limit is not None else torch.export.Dim("pieces")
    with silence_libraries(), torch.inference_mode():
        torch.onnx.export(
            graph.eval(),
            _example(graph.classifier),
            path,
            dynamo=True,
            input_names=list(GRAPH_INPUTS),
            output_names=_describe_graph(graph.classifier, "onnx", None).outputs,
            dynamic_shapes={name: {0: torch.export.Dim("batch"), 1: pieces} for name in GRAPH_INPUTS},
            external_data=False,
            opset_version=_OPSET,
            verbose=False,
        )


def _describe_graph(classifier: TokenClassifier, runtime: str, quantization: str | None) -> GraphDescription:
    return GraphDescription(
        runtime=runtime,
        quantization=quantization,
        proclitics=classifier.proclitic_head is not None,
        nested=classifier.nested_head is not None,
    )


def _example(classifier: TokenClassifier) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two windows of different length: without padding, a tracer would conclude that the mask has no effect."""
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
    stored = getattr(config, "musamma", None)
    graph = _describe_graph(classifier, runtime, quantization)
    config.musamma = {
        **(stored if isinstance(stored, dict) else {"format": 1}),
        # Always written, because the encoder's number of positions cannot be found out from a folder without weights.
        "encoding": asdict(options),
        **({} if classifier.nested_tag_set is None else {NESTED_KEY: describe_nested(classifier.nested_tag_set)}),
        "export": graph.to_dict(),
    }
    config.save_pretrained(folder)
