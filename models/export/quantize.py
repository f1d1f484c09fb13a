"""Eight-bit integers for the matrices of an exported classifier, all but those that suffer from it.

What the activations of a down-projection (from a layer's wide hidden part back to its width) span is far wider in a few
channels than in the others (Bondarenko et al. 2021, "Understanding and overcoming the challenges of efficient
transformer quantization"). Those of the first half of the layers stay in floating point, and so do the heads.
"""

from __future__ import annotations

import ast
import logging
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from torch import nn

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.windows import DocumentTokenizer
from musamma.models.classifier import TokenClassifier
from musamma.models.optional_packages import silence_libraries

if TYPE_CHECKING:
    import openvino

#: Windows that the ranges of activations are measured on.
SAMPLES = 200
#: How far outliers of activations are moved into the weights (Xiao et al. 2023, "SmoothQuant"); NNCF's default is 0.95.
_SMOOTHING = 0.8

#: The inputs of a graph for one window: ``input_ids`` and ``attention_mask``, both int64, (1, pieces).
GraphInputs: TypeAlias = dict[str, np.ndarray]


def sample_windows(
    documents: Iterable[Document], encoder: DocumentTokenizer, *, limit: int = SAMPLES, seed: int = 1
) -> list[GraphInputs]:
    """Windows of documents, drawn at random but the same ones every time.

    Args:
        documents: texts such as the classifier will read; their names are not looked at.
        encoder: cuts them.
        limit: the most windows.
        seed: of the draw.

    Raises:
        InputError: there is no word in them.
    """
    windows = [window.input_ids[None] for item in encoder.tokenize_all(documents) for window in item.windows]
    if not windows:
        raise InputError(
            "texts without a word", expected="texts such as the model will read, to measure its activations on"
        )
    random.Random(seed).shuffle(windows)
    return [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in windows[:limit]]


def select_float_layers(classifier: TokenClassifier) -> tuple[str, ...]:
    """The linear layers that stay in floating point, by their paths in the classifier.

    Those are the heads, and the down-projections in the first half of the encoder's layers: linear layers in a list of
    layers that make a wider vector narrower.
    """
    body = classifier.backbone.base_model
    inside = {id(module) for module in body.modules()}
    linear = [(path, module) for path, module in classifier.named_modules() if isinstance(module, nn.Linear)]
    heads = [path for path, module in linear if id(module) not in inside]
    lists = [path for path, module in classifier.named_modules() if isinstance(module, nn.ModuleList)]
    narrowing: dict[tuple[str, int], list[str]] = {}
    for path, module in linear:
        stack = next((name for name in lists if path.startswith(f"{name}.")), None)
        if stack is not None and id(module) in inside and module.in_features > module.out_features:
            layer = int(path.removeprefix(f"{stack}.").partition(".")[0])
            narrowing.setdefault((stack, layer), []).append(path)
    layers = sorted(narrowing)
    return (*(path for layer in layers[: (len(layers) + 1) // 2] for path in narrowing[layer]), *heads)


def quantize_openvino(model: openvino.Model, windows: Sequence[GraphInputs], kept: Sequence[str]) -> openvino.Model:
    """Quantise weights and activations; ranges of activations are measured on samples.

    Args:
        model: the graph, in floating point.
        windows: see :func:`sample_windows`.
        kept: the paths of modules in the graph's classifier that stay as they are.
    """
    with silence_libraries():
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters

        nncf.set_log_level(logging.ERROR)
        own = tuple(f"__module.{path}/" for path in kept)
        names = [
            operation.get_friendly_name()
            for operation in model.get_ops()
            if operation.get_type_name() == "MatMul" and operation.get_friendly_name().startswith(own)
        ]
        return nncf.quantize(
            model,
            nncf.Dataset(windows),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(windows),
            ignored_scope=nncf.IgnoredScope(names=names),
            advanced_parameters=AdvancedQuantizationParameters(
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=_SMOOTHING)
            ),
        )


def quantize_onnx(source: Path, target: Path, kept: Sequence[str]) -> None:
    """Quantise weights; activations are quantised as they come, by what a batch of them spans.

    Args:
        source: the graph, in floating point.
        target: the file to write.
        kept: as in :func:`quantize_openvino`.
    """
    with silence_libraries():
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        graph = onnx.load(source).graph
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=[node.name for node in graph.node if not read_scopes(node).isdisjoint(kept)],
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Seven bits: on processors without VNNI the sums of products of eight bits overflow.
            reduce_range=True,
        )


def read_scopes(node: Any) -> set[str]:
    """The paths of the modules that a node of an ONNX graph belongs to."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            return set(ast.literal_eval(entry.value))
    return set()
