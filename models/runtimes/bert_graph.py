"""OpenVINO graphs of BERT token classifiers, built from their weights without PyTorch.

The graph has the inputs and outputs of one that ``musamma export`` wrote, and computes in floating point like the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from musamma.data.errors import InputError
from musamma.models.optional_packages import disable_telemetry
from musamma.models.runtimes.runtime import GRAPH_INPUTS

if TYPE_CHECKING:
    import openvino

# Keys of ``config.json`` that change what BERT computes, with the values that are built here; all are transformers' defaults.
_EXPECTED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "is_decoder": False,
    "position_embedding_type": "absolute",
}
# Added to the attention to padding before the softmax.
_MASKED = np.finfo(np.float32).min


def build_bert_graph(
    config: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    heads: Mapping[str, Mapping[str, np.ndarray]],
    *,
    where: str,
) -> openvino.Model:
    """Build the graph of a token classifier.

    Args:
        config: the content of ``config.json``.
        weights: the weights of ``BertForTokenClassification`` by name; float32.
        heads: further heads on the last layer by the name of their output, each with ``weight``, (classes, hidden size), and ``bias``.
        where: the model, for errors.

    Raises:
        InputError: the model is not a BERT of the usual kind, lacks weights, or has weights of other shapes than its configuration.
    """
    for key, expected in _EXPECTED.items():
        if config.get(key, expected) != expected:
            raise InputError(
                f"a model with {key} {config[key]!r}, which runs in PyTorch only",
                where=where,
                expected=f"{expected!r}",
                remedy="pip install 'musamma[train]', or give a model that musamma export wrote",
            )
    try:
        return _BertGraph(config, weights).build(heads)
    except KeyError as error:
        raise InputError(
            f"the weights or config.json lack {error.args[0]!r}", where=where, remedy="copy the model anew"
        ) from error
    except (IndexError, RuntimeError, TypeError, ValueError, ZeroDivisionError) as error:
        # OpenVINO reports shapes that do not fit as RuntimeError, with several lines on its own source code.
        raise InputError(
            "the weights have other shapes than config.json says", where=where, remedy="copy the model anew"
        ) from error


class _BertGraph:
    """Builds a graph; every method adds its nodes."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> None:
        disable_telemetry()
        import openvino
        from openvino import opset13

        self.openvino, self.ops = openvino, opset13
        self.config, self.weights = config, weights
        self.heads = int(config["num_attention_heads"])
        self.hidden_size = int(config["hidden_size"])
        self.head_size = self.hidden_size // self.heads
        self.epsilon = float(config.get("layer_norm_eps", 1e-12))

    def build(self, heads: Mapping[str, Mapping[str, np.ndarray]]) -> openvino.Model:
        inputs = [self.ops.parameter([-1, -1], np.int64) for _ in GRAPH_INPUTS]
        ids, mask = inputs
        # (windows, 1, 1, pieces), for all heads and all pieces that attend
        bias = self.ops.unsqueeze(
            self.ops.multiply(self.ops.subtract(np.float32(1), self.ops.convert(mask, "f32")), _MASKED),
            np.array([1, 2], dtype=np.int64),
        )
        states = self.embed(ids)
        for layer in range(int(self.config["num_hidden_layers"])):
            states = self.add_layer(states, bias, f"bert.encoder.layer.{layer}")
        classifier = {part: self.weights[f"classifier.{part}"] for part in ("weight", "bias")}
        outputs = {}
        for name, head in {"tags": classifier, **heads}.items():
            classes = len(head["bias"])
            outputs[name] = self.multiply_add(
                states, check_shape(head["weight"], classes, self.hidden_size), check_shape(head["bias"], classes)
            )
        model = self.openvino.Model([self.ops.result(node) for node in outputs.values()], inputs, "classifier")
        for port, name in zip((*model.inputs, *model.outputs), (*GRAPH_INPUTS, *outputs), strict=True):
            port.get_tensor().set_names({name})
        return model

    def embed(self, ids: Any) -> Any:
        """Add the embeddings of pieces, (windows, pieces, hidden size)."""
        name = "bert.embeddings"
        axis = np.int64(0)
        pieces = self.ops.gather(self.ops.shape_of(ids, "i64"), np.int64(1), axis)
        positions = self.ops.range(np.int64(0), pieces, np.int64(1), "i64")
        # There is one text, so all pieces are of the first type.
        places = (
            self.take(f"{name}.position_embeddings.weight", self.config["max_position_embeddings"], self.hidden_size)
            + self.weights[f"{name}.token_type_embeddings.weight"][:1]
        )
        table = self.take(f"{name}.word_embeddings.weight", self.config["vocab_size"], self.hidden_size)
        words = self.ops.gather(table, ids, axis)
        return self.normalize(self.ops.add(words, self.ops.gather(places, positions, axis)), f"{name}.LayerNorm")

    def add_layer(self, states: Any, bias: Any, name: str) -> Any:
        """Add one layer: attention, then two linear layers, each with the residual connection around it."""
        size, wide_size = self.hidden_size, int(self.config["intermediate_size"])
        query, key, value = (
            self.split_heads(self.linear(states, f"{name}.attention.self.{part}", size, size))
            for part in ("query", "key", "value")
        )
        attended = self.ops.transpose(
            self.ops.scaled_dot_product_attention(query, key, value, bias), np.array([0, 2, 1, 3], dtype=np.int64)
        )
        # 0 keeps a dimension, -1 takes what is left.
        joined = self.ops.reshape(attended, np.array([0, 0, -1], dtype=np.int64), True)
        states = self.normalize(
            self.ops.add(states, self.linear(joined, f"{name}.attention.output.dense", size, size)),
            f"{name}.attention.output.LayerNorm",
        )
        wide = self.ops.gelu(self.linear(states, f"{name}.intermediate.dense", wide_size, size), "erf")
        return self.normalize(
            self.ops.add(states, self.linear(wide, f"{name}.output.dense", size, wide_size)), f"{name}.output.LayerNorm"
        )

    def split_heads(self, states: Any) -> Any:
        """Turn (windows, pieces, hidden size) into (windows, heads, pieces, head size)."""
        shape = np.array([0, 0, self.heads, self.head_size], dtype=np.int64)
        return self.ops.transpose(self.ops.reshape(states, shape, True), np.array([0, 2, 1, 3], dtype=np.int64))

    def take(self, name: str, *shape: int) -> np.ndarray:
        """Return a weight of a shape."""
        return check_shape(self.weights[name], *shape)

    def linear(self, states: Any, name: str, rows: int, columns: int) -> Any:
        return self.multiply_add(states, self.take(f"{name}.weight", rows, columns), self.take(f"{name}.bias", rows))

    def multiply_add(self, states: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
        return self.ops.add(self.ops.matmul(states, weight, False, True), bias)

    def normalize(self, states: Any, name: str) -> Any:
        axes = np.array([-1], dtype=np.int64)
        centred = self.ops.mvn(states, axes, True, self.epsilon, "inside_sqrt")
        weight, bias = (self.take(f"{name}.{part}", self.hidden_size) for part in ("weight", "bias"))
        return self.ops.add(self.ops.multiply(centred, weight), bias)


def check_shape(weight: np.ndarray, *shape: int) -> np.ndarray:
    """Return a weight that has a shape. OpenVINO accepts many others, and computes something else or fails on the first text.

    Raises:
        ValueError: it has another shape.
    """
    if weight.shape != shape:
        raise ValueError(f"shape {weight.shape} instead of {shape}")
    return weight
