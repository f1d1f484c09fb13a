"""Quantisation of an exported classifier: 8-bit integers for all matrices except those that lose too much.

A down-projection maps the wide hidden state inside a layer back to the width of the layer. The range of its activations is far
wider in a few channels than in the others (Bondarenko et al. 2021, "Understanding and overcoming the challenges of efficient transformer
quantization"). The down-projections in the first three quarters of the layers stay in floating point, and so do the heads.
"""

from __future__ import annotations

import ast
import logging
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from torch import nn

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.windows import DocumentTokenizer
from musamma.models.classifier import TokenClassifier
from musamma.models.optional_packages import silence_libraries

if TYPE_CHECKING:
    import openvino

#: Number of windows on which the ranges of activations are measured.
SAMPLE_WINDOWS = 200

_ATTENTION = "ScaledDotProductAttention"

#: Inputs of a graph for one window: ``input_ids`` and ``attention_mask``, both int64, (1, pieces).
GraphInputs: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationSettings:
    """Settings of quantisation for OpenVINO. ``docs/export.md`` has the measurements that chose the defaults.

    Args:
        smoothing: share of the activations' outliers that moves into the weights (Xiao et al. 2023, "SmoothQuant").
        ranges: the range of an activation: ``"mean"``, the mean over windows of its minimum and maximum in each;
            ``"extremes"``, from the smallest to the greatest value in any window; ``"histogram"``, the range with the least
            squared error.
        attention: quantise queries and keys, too. OpenVINO multiplies them in floating point either way.
        float_share: share of the layers, from the first on, whose down-projections stay in floating point.
    """

    smoothing: float = 0.8
    ranges: Literal["mean", "extremes", "histogram"] = "mean"
    attention: bool = False
    float_share: float = 0.75


DEFAULT_SETTINGS = QuantizationSettings()


def split_samples(documents: Iterable[Document], *, seed: int = 1) -> tuple[list[Document], list[Document]]:
    """Split texts at random into those on which activations are measured and those on which the export is checked.

    Args:
        documents: the texts.
        seed: random seed.

    Returns:
        Two halves; of an odd number, the first is larger.
    """
    shuffled = list(documents)
    random.Random(seed).shuffle(shuffled)
    middle = (len(shuffled) + 1) // 2
    return shuffled[:middle], shuffled[middle:]


def sample_windows(
    documents: Iterable[Document], document_tokenizer: DocumentTokenizer, *, limit: int = SAMPLE_WINDOWS, seed: int = 1
) -> list[GraphInputs]:
    """Draw random windows of documents. The same seed gives the same windows.

    Args:
        documents: texts like those the classifier will read; their names are ignored.
        document_tokenizer: cuts them into windows.
        limit: maximum number of windows.
        seed: random seed.

    Raises:
        InputError: the documents contain no word.
    """
    windows = [window.input_ids[None] for item in document_tokenizer.tokenize_all(documents) for window in item.windows]
    if not windows:
        raise InputError(
            "texts without a word", expected="texts like those the model will read, to measure its activations"
        )
    random.Random(seed).shuffle(windows)
    return [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in windows[:limit]]


def select_float_layers(classifier: TokenClassifier, *, share: float = DEFAULT_SETTINGS.float_share) -> tuple[str, ...]:
    """Return the paths of the linear layers that stay in floating point.

    These are the heads and the down-projections in the first of the encoder's layers, i.e. the linear layers in a list of layers
    that have fewer outputs than inputs.

    Args:
        classifier: the classifier.
        share: share of the layers whose down-projections stay in floating point, rounded up.
    """
    body = classifier.backbone.base_model
    body_modules = {id(module) for module in body.modules()}
    linear = [(path, module) for path, module in classifier.named_modules() if isinstance(module, nn.Linear)]
    heads = [path for path, module in linear if id(module) not in body_modules]
    lists = [path for path, module in classifier.named_modules() if isinstance(module, nn.ModuleList)]
    narrowing: dict[tuple[str, int], list[str]] = {}
    for path, module in linear:
        stack = next((name for name in lists if path.startswith(f"{name}.")), None)
        if stack is not None and id(module) in body_modules and module.in_features > module.out_features:
            layer = int(path.removeprefix(f"{stack}.").partition(".")[0])
            narrowing.setdefault((stack, layer), []).append(path)
    layers = sorted(narrowing)
    return (*(path for layer in layers[: math.ceil(share * len(layers))] for path in narrowing[layer]), *heads)


def quantize_openvino(
    model: openvino.Model,
    samples: Sequence[GraphInputs],
    float_layers: Sequence[str],
    *,
    settings: QuantizationSettings = DEFAULT_SETTINGS,
) -> openvino.Model:
    """Quantise weights and activations. The ranges of activations are measured on samples.

    Args:
        model: the graph, in floating point.
        samples: see :func:`sample_windows`.
        float_layers: paths of modules in the graph's classifier that stay in floating point.
        settings: the settings.
    """
    with silence_libraries():
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        nncf.set_log_level(logging.ERROR)
        prefixes = tuple(f"__module.{path}/" for path in float_layers)
        names = [
            operation.get_friendly_name()
            for operation in model.get_ops()
            if operation.get_type_name() == "MatMul" and operation.get_friendly_name().startswith(prefixes)
        ]
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(samples),
            ignored_scope=nncf.IgnoredScope(
                names=names, types=[] if settings.attention else [_ATTENTION], validate=False
            ),
            advanced_parameters=AdvancedQuantizationParameters(
                activations_range_estimator_params={
                    "mean": RangeEstimatorParametersSet.MEAN_MINMAX,
                    "extremes": RangeEstimatorParametersSet.MINMAX,
                    "histogram": RangeEstimatorParametersSet.HISTOGRAM,
                }[settings.ranges],
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=settings.smoothing),
            ),
        )


def quantize_onnx(source: Path, target: Path, float_layers: Sequence[str]) -> None:
    """Quantise weights. Activations are quantised at run time, with the range of each batch.

    Args:
        source: the graph, in floating point.
        target: the file to write.
        float_layers: as in :func:`quantize_openvino`.
    """
    with silence_libraries():
        import onnx
        from onnxruntime.quantization import QuantType, quantize_dynamic

        graph = onnx.load(source).graph
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul"],
            nodes_to_exclude=[node.name for node in graph.node if not read_scopes(node).isdisjoint(float_layers)],
            weight_type=QuantType.QInt8,
            per_channel=True,
            # Uses seven bits: on processors without VNNI, sums of products of eight bits overflow.
            reduce_range=True,
        )


def read_scopes(node: Any) -> set[str]:
    """Return the paths of the modules that a node of an ONNX graph belongs to."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            return set(ast.literal_eval(entry.value))
    return set()
