"""Quantisation of an exported classifier: 8-bit integers for all matrices except those that lose too much.

The heads stay in floating point. For OpenVINO (:mod:`musamma.models.export.quantize_openvino`), so do the down-projections in the first third
of the layers, and the outlier channels of the others are divided, see :mod:`musamma.models.export.outlier_channels`. A down-projection
whose channels cannot be divided stays in floating point in the first three quarters of the layers, and so it does for ONNX.
"""

from __future__ import annotations

import ast
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from torch import nn

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.windows import DocumentTokenizer
from musamma.models.classifier import TokenClassifier
from musamma.models.export.activation_ranges import InputQuantization, LayerInputs, choose_quantization
from musamma.models.export.outlier_channels import find_body_layers, find_down_projections
from musamma.models.optional_packages import silence_libraries

#: Number of windows on which the ranges of activations are measured.
SAMPLE_WINDOWS = 200

#: Inputs of a graph for one window: ``input_ids`` and ``attention_mask``, both int64, (1, pieces).
GraphInputs: TypeAlias = dict[str, np.ndarray]


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationSettings:
    """Settings of quantisation for OpenVINO. ``docs/export.md`` has the measurements that chose the defaults.

    Args:
        shift: centre the range of each input of a layer at zero, except for down-projections.
        smoothing: how far the scales of a layer's inputs follow their ranges, see
            :func:`~musamma.models.export.activation_ranges.choose_quantization`.
        divide_outliers: divide the outlier channels of down-projections and quantise these, too.
        divided_float_share: share of the layers, from the first on, whose down-projections stay in floating point nevertheless.
        divided_smoothing: the same as ``smoothing``, for down-projections with divided channels.
        float_share: share of the layers, from the first on, whose down-projections stay in floating point if their channels are not
            divided.
    """

    shift: bool = True
    smoothing: float = 0.8
    divide_outliers: bool = True
    divided_float_share: float = 1 / 3
    divided_smoothing: float = 0.25
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
    in_body = set(find_body_layers(classifier))
    heads = [
        path for path, module in classifier.named_modules() if isinstance(module, nn.Linear) and path not in in_body
    ]
    down = list(find_down_projections(classifier))
    return (*down[: math.ceil(share * len(down))], *heads)


def choose_quantizations(
    classifier: TokenClassifier,
    inputs: Mapping[str, LayerInputs],
    divisors: Mapping[str, np.ndarray],
    settings: QuantizationSettings,
) -> dict[str, InputQuantization]:
    """Choose how the inputs of layers are quantised.

    Args:
        classifier: the classifier.
        inputs: measured inputs of the layers, by path.
        divisors: paths of the down-projections with divided channels, with the numbers by which each channel was divided.
        settings: the settings.
    """
    down = find_down_projections(classifier)
    return {
        path: choose_quantization(
            measured,
            smoothing=settings.divided_smoothing if path in divisors else settings.smoothing,
            shifted=settings.shift and path not in down,
            divisors=divisors.get(path),
        )
        for path, measured in inputs.items()
    }


def quantize_onnx(source: Path, target: Path, float_layers: Sequence[str]) -> None:
    """Quantise weights. Activations are quantised at run time, with the range of each batch.

    Args:
        source: the graph, in floating point.
        target: the file to write.
        float_layers: paths of modules in the graph's classifier that stay in floating point.
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
