"""Quantisation of an exported classifier: 8-bit integers for all matrices except those that lose too much.

The heads stay in floating point. The outlier channels of down-projections are divided for OpenVINO, see
:mod:`musamma.models.export.outlier_channels`; a down-projection whose channels cannot be divided stays in floating point in the first
three quarters of the layers, and so it does for ONNX.
"""

from __future__ import annotations

import ast
import logging
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from torch import nn

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.windows import DocumentTokenizer
from musamma.models.classifier import TokenClassifier
from musamma.models.export.outlier_channels import find_down_projections
from musamma.models.optional_packages import silence_libraries

if TYPE_CHECKING:
    import openvino

#: Number of windows on which the ranges of activations are measured.
SAMPLE_WINDOWS = 200

# Number of values of a quantised input, and the greatest quantised weight.
_LEVELS, _GREATEST = 256, 127

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
        divide_outliers: divide the outlier channels of down-projections and quantise these, too.
        float_share: share of the layers, from the first on, whose down-projections stay in floating point if their channels are not
            divided.
    """

    smoothing: float = 0.8
    ranges: Literal["mean", "extremes", "histogram"] = "mean"
    attention: bool = False
    divide_outliers: bool = True
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
    """Return the paths of the linear layers that stay in floating point: the first down-projections, and the heads.

    Args:
        classifier: the classifier.
        share: share of the down-projections that stay in floating point, rounded up.
    """
    in_body = {id(module) for module in classifier.backbone.base_model.modules()}
    heads = [
        path
        for path, module in classifier.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in in_body
    ]
    down = list(find_down_projections(classifier))
    return (*down[: math.ceil(share * len(down))], *heads)


def quantize_openvino(
    model: openvino.Model,
    samples: Sequence[GraphInputs],
    float_layers: Sequence[str],
    *,
    divided: Mapping[str, tuple[float, float]] | None = None,
    settings: QuantizationSettings = DEFAULT_SETTINGS,
) -> openvino.Model:
    """Quantise weights and activations. The ranges of activations are measured on samples.

    Args:
        model: the graph, in floating point.
        samples: see :func:`sample_windows`.
        float_layers: paths of modules in the graph's classifier that stay in floating point.
        divided: paths of down-projections with divided channels, with the range of their inputs. Smoothing would widen the range of
            their weights for nothing.
        settings: the settings.
    """
    with silence_libraries():
        import nncf
        from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, AdvancedSmoothQuantParameters
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        nncf.set_log_level(logging.ERROR)
        float_products = [node for path in float_layers for node in _find_products(model, path)]
        products = [
            _FloatProduct.read(node, *bounds)
            for path, bounds in (divided or {}).items()
            for node in _find_products(model, path)
        ]
        names = [*(node.get_friendly_name() for node in float_products), *(product.name for product in products)]
        quantized = nncf.quantize(
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
    nodes = {node.get_friendly_name(): node for node in quantized.get_ops()}
    for product in products:
        product.quantize(nodes[product.name])
    return quantized


def _find_products(model: openvino.Model, path: str) -> list[openvino.Node]:
    """Return the matrix products of a module in the graph's classifier."""
    return [
        node
        for node in model.get_ops()
        if node.get_type_name() == "MatMul" and node.get_friendly_name().startswith(f"__module.{path}/")
    ]


@dataclass(frozen=True, slots=True)
class _FloatProduct:
    """A product of states and constant weights, before NNCF smooths it, as it does even where it quantises nothing.

    Args:
        name: the name of its node.
        source: the name of the node that gives the states.
        weights: (outputs, inputs).
        low: the smallest value of the states.
        high: the greatest value.
    """

    name: str
    source: str
    weights: np.ndarray
    low: float
    high: float

    @classmethod
    def read(cls, node: openvino.Node, low: float, high: float) -> _FloatProduct:
        states, weights = (node.input_value(index).get_node() for index in range(2))
        return cls(
            node.get_friendly_name(), states.get_friendly_name(), np.array(weights.data, dtype=np.float32), low, high
        )

    def quantize(self, node: openvino.Node) -> None:
        """Quantise the states within their range, and the weights by output. The node is changed in place."""
        from openvino import opset13 as ops

        states = node.input_value(0)
        while states.get_node().get_friendly_name() != self.source:
            states = states.get_node().input_value(0)
        # Zero becomes a whole number, so that it is exact.
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        step = (high - low) / (_LEVELS - 1)
        zero = round(-low / step)
        ends = [ops.constant(np.float32(value * step)) for value in (-zero, _LEVELS - 1 - zero)]
        node.input(0).replace_source_output(ops.fake_quantize(states, *ends, *ends, _LEVELS).output(0))
        greatest = np.abs(self.weights).max(axis=1, keepdims=True)
        steps = np.maximum(greatest, np.finfo(np.float32).tiny) / _GREATEST
        whole = ops.constant(np.round(self.weights / steps).astype(np.int8))
        node.input(1).replace_source_output(ops.multiply(ops.convert(whole, "f32"), ops.constant(steps)).output(0))


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
