"""Quantisation of an OpenVINO graph: 8-bit integers for the inputs and the weights of linear layers, and for embeddings.

A layer's inputs become integers as :mod:`musamma.models.export.activation_ranges` chooses. The weights of an output, and those of an embedding,
have a step of their own. What remains of the error on average is taken from the layer's bias (Nagel et al. 2019, "Data-free quantization
through weight equalization and bias correction").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from musamma.models.export.activation_ranges import LEVELS, InputQuantization

if TYPE_CHECKING:
    import openvino

# The greatest quantised weight.
_GREATEST = 127


def quantize_openvino(
    model: openvino.Model, layers: Mapping[str, InputQuantization], rows: Mapping[str, np.ndarray]
) -> None:
    """Quantise linear layers and embeddings. The graph is changed in place.

    Args:
        model: the graph, in floating point.
        layers: paths of linear layers in the graph's classifier, with the quantisation of their inputs. The integers are shared by layers
            that read the same.
        rows: inputs of each layer, (pieces, channels), on which its mean error is measured.
    """
    nodes = model.get_ops()
    quantized: dict[tuple[object, ...], openvino.Output] = {}
    for path, quantization in layers.items():
        for node in _find_products(nodes, path):
            states, weights = (node.input_value(index) for index in range(2))
            if not (_is_constant_matrix(weights) and node.get_attributes()["transpose_b"]):
                continue  # not the product of states and the weights of a linear layer, (outputs, inputs)
            key = (states.get_node().get_friendly_name(), states.get_index(), quantization.scale.tobytes())
            if key not in quantized:
                quantized[key] = _round_states(states, quantization)
            _quantize_product(node, quantized[key], quantization, rows[path])
    for node in nodes:
        if node.get_type_name() == "Gather" and node.get_friendly_name().startswith("__module."):
            table = node.input_value(0)
            if _is_constant_matrix(table) and table.get_element_type().is_real():
                node.input(0).replace_source_output(_store_weights(table.get_node().data)[0])


def _find_products(nodes: list[openvino.Node], path: str) -> Iterator[openvino.Node]:
    """Yield the matrix products of a module of the graph's classifier."""
    for node in nodes:
        if node.get_type_name() == "MatMul" and node.get_friendly_name().startswith(f"__module.{path}/"):
            yield node


def _is_constant_matrix(output: openvino.Output) -> bool:
    return output.get_node().get_type_name() == "Constant" and len(output.get_shape()) == 2


def _round_states(states: openvino.Output, quantization: InputQuantization) -> openvino.Output:
    """Return the shifted and scaled states, rounded to integers times the step."""
    from openvino import opset13 as ops

    factors = 1 / quantization.scale
    scaled = ops.multiply(states, ops.constant(factors[None, None]))
    if np.any(quantization.shift):
        scaled = ops.add(scaled, ops.constant((-quantization.shift * factors)[None, None]))
    ends = [ops.constant(np.float32(end)) for end in quantization.ends]
    rounded = ops.fake_quantize(scaled, *ends, *ends, LEVELS)
    return rounded.output(0)


def _quantize_product(
    node: openvino.Node, rounded: openvino.Output, quantization: InputQuantization, rows: np.ndarray
) -> None:
    """Quantise the weights of a product of states and weights, and correct the mean error of its outputs on the rows."""

    weights = np.array(node.input_value(1).get_node().data, dtype=np.float32)
    stored, restored = _store_weights(weights * quantization.scale)
    error = (rows @ weights.T - quantization.round(rows) @ restored.T).mean(axis=0)
    node.input(0).replace_source_output(rounded)
    node.input(1).replace_source_output(stored)
    _add(node, error.astype(np.float32))


def _store_weights(weights: np.ndarray) -> tuple[openvino.Output, np.ndarray]:
    """Return weights as 8-bit integers times a step for each row: the node that computes them, and their values."""
    from openvino import opset13 as ops

    greatest = np.abs(weights).max(axis=1, keepdims=True)
    steps = (np.maximum(greatest, np.finfo(np.float32).tiny) / _GREATEST).astype(np.float32)
    whole = np.round(weights / steps).astype(np.int8)
    node = ops.multiply(ops.convert(ops.constant(whole), "f32"), ops.constant(steps))
    return node.output(0), whole * steps


def _add(node: openvino.Node, values: np.ndarray) -> None:
    """Add values to the outputs of a node: to its bias, if it has one."""
    from openvino import opset13 as ops

    readers = list(node.output(0).get_target_inputs())
    if len(readers) == 1 and readers[0].get_node().get_type_name() == "Add":
        bias = readers[0].get_node().input(1 - readers[0].get_index())
        constant = bias.get_source_output().get_node()
        if constant.get_type_name() == "Constant":
            bias.replace_source_output(ops.constant((constant.data + values).astype(np.float32)).output(0))
            return
    added = ops.add(node, ops.constant(values[None, None]))
    for reader in readers:
        reader.replace_source_output(added.output(0))
