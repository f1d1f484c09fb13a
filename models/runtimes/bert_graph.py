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
        InputError: the model is not a BERT of the usual kind, or lacks weights.
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


class _BertGraph:
    """Builds a graph; every method adds its nodes."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, np.ndarray]) -> None:
        disable_telemetry()
        import openvino
        from openvino import opset13

        self.openvino, self.ops = openvino, opset13
        self.config, self.weights = config, weights
        self.heads = int(config["num_attention_heads"])
        self.head_size = int(config["hidden_size"]) // self.heads
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
        outputs = {"tags": self.linear(states, "classifier")}
        for name, head in heads.items():
            outputs[name] = self.multiply_add(states, head["weight"], head["bias"])
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
            self.weights[f"{name}.position_embeddings.weight"]
            + self.weights[f"{name}.token_type_embeddings.weight"][:1]
        )
        words = self.ops.gather(self.weights[f"{name}.word_embeddings.weight"], ids, axis)
        return self.normalize(self.ops.add(words, self.ops.gather(places, positions, axis)), f"{name}.LayerNorm")

    def add_layer(self, states: Any, bias: Any, name: str) -> Any:
        """Add one layer: attention, then two linear layers, each with the residual connection around it."""
        query, key, value = (
            self.split_heads(self.linear(states, f"{name}.attention.self.{part}")) for part in ("query", "key", "value")
        )
        attended = self.ops.transpose(
            self.ops.scaled_dot_product_attention(query, key, value, bias), np.array([0, 2, 1, 3], dtype=np.int64)
        )
        # 0 keeps a dimension, -1 takes what is left.
        joined = self.ops.reshape(attended, np.array([0, 0, -1], dtype=np.int64), True)
        states = self.normalize(
            self.ops.add(states, self.linear(joined, f"{name}.attention.output.dense")),
            f"{name}.attention.output.LayerNorm",
        )
        wide = self.ops.gelu(self.linear(states, f"{name}.intermediate.dense"), "erf")
        return self.normalize(
            self.ops.add(states, self.linear(wide, f"{name}.output.dense")), f"{name}.output.LayerNorm"
        )

    def split_heads(self, states: Any) -> Any:
        """Turn (windows, pieces, hidden size) into (windows, heads, pieces, head size)."""
        shape = np.array([0, 0, self.heads, self.head_size], dtype=np.int64)
        return self.ops.transpose(self.ops.reshape(states, shape, True), np.array([0, 2, 1, 3], dtype=np.int64))

    def linear(self, states: Any, name: str) -> Any:
        return self.multiply_add(states, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def multiply_add(self, states: Any, weight: np.ndarray, bias: np.ndarray) -> Any:
        return self.ops.add(self.ops.matmul(states, weight, False, True), bias)

    def normalize(self, states: Any, name: str) -> Any:
        axes = np.array([-1], dtype=np.int64)
        centred = self.ops.mvn(states, axes, True, self.epsilon, "inside_sqrt")
        return self.ops.add(self.ops.multiply(centred, self.weights[f"{name}.weight"]), self.weights[f"{name}.bias"])
