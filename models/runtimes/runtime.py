"""The interface of a runtime, which computes a classifier's logits, and the description of an exported graph.

`torch` runs checkpoints; `openvino` and `onnx` run what ``musamma export`` wrote.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from musamma.data.errors import InputError

#: The files of an exported graph by runtime; the first one is opened.
GRAPH_FILES = {"openvino": ("openvino_model.xml", "openvino_model.bin"), "onnx": ("model.onnx",)}
#: The inputs of a graph, int64, (windows, pieces), in order.
GRAPH_INPUTS = ("input_ids", "attention_mask")


class BatchLogits(NamedTuple):
    """The logits of a batch; float32.

    Args:
        tags: logits of the tags; (rows, pieces, tags).
        proclitics: logits of the proclitic head; (rows, pieces, classes), or ``None`` without that head.
        nested: logits of the tags of nested names; (rows, pieces, nested tags), or ``None`` without that head.
    """

    tags: np.ndarray
    proclitics: np.ndarray | None = None
    nested: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded windows of similar length.

    Args:
        input_ids: piece ids; int64, (rows, pieces).
        attention_mask: 1 for pieces, 0 for padding; int64, (rows, pieces).
    """

    input_ids: np.ndarray
    attention_mask: np.ndarray


class Runtime(Protocol):
    """A classifier ready to compute logits. Several threads may stream through one."""

    @property
    def proclitics(self) -> bool:
        """True if the classifier has a proclitic head."""

    @property
    def nested(self) -> bool:
        """True if the classifier has a head for nested names."""

    def stream(self, batches: Iterable[Batch]) -> Generator[BatchLogits, None, None]:
        """Yield the logits of every batch, in order. One thread may take turns between several streams.

        A runtime reads a few batches ahead, so that the next one is prepared while one is computed.
        """

    def settings(self) -> dict[str, Any]:
        """Return the settings that influence the logits, under names that users know."""


@runtime_checkable
class VectorRuntime(Runtime, Protocol):
    """A runtime that also gives vectors of texts. Exported graphs have only logits as outputs."""

    @property
    def vector_size(self) -> int:
        """Number of dimensions of a vector, the encoder's hidden size."""

    def stream_with_vectors(self, batches: Iterable[Batch]) -> Generator[tuple[BatchLogits, np.ndarray], None, None]:
        """Yield the logits of every batch, in order, each with the mean embedding of every row.

        The means are float32, (rows, vector size); padding is left out. Embeddings are the hidden states before the first layer:
        those of the last one say which tags a text has, and tell near copies of a text from other texts less well.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphDescription:
    """The ``musamma.export`` entry in the ``config.json`` of an exported classifier.

    Args:
        runtime: a key of :data:`GRAPH_FILES`.
        quantization: ``"int8"``, or ``None``.
        proclitics: whether the graph also has the proclitic head's output.
        nested: whether the graph also has the output of the head for nested names.
    """

    runtime: str
    quantization: str | None
    proclitics: bool
    nested: bool = False

    @property
    def outputs(self) -> list[str]:
        """The names of the graph's outputs, in order."""
        return ["tags"] + ["proclitics"] * self.proclitics + ["nested"] * self.nested

    def to_dict(self) -> dict[str, Any]:
        """Return the entry as it stands in ``config.json``."""
        return {
            "format": 1,
            "runtime": self.runtime,
            "quantization": self.quantization,
            "proclitics": self.proclitics,
            **({"nested": True} if self.nested else {}),
        }


def name_outputs(outputs: Iterable[np.ndarray], graph: GraphDescription) -> BatchLogits:
    """Return the outputs of a graph, in its order, as logits."""
    return BatchLogits(**dict(zip(graph.outputs, outputs, strict=True)))


def read_graph_description(stored: object, *, where: str) -> GraphDescription | None:
    """Read the export entry of a configuration; ``None`` for a checkpoint that was not exported.

    Args:
        stored: the ``musamma`` entry of ``config.json``, or ``None``.
        where: the model, for errors.

    Raises:
        InputError: the entry is malformed or of an unknown format.
    """
    if not isinstance(stored, dict) or "export" not in stored:
        return None
    entry = stored["export"]
    try:
        if entry["format"] != 1 or entry["runtime"] not in GRAPH_FILES:
            raise ValueError(entry)
        return GraphDescription(
            runtime=entry["runtime"],
            quantization=entry["quantization"],
            proclitics=bool(entry["proclitics"]),
            nested=bool(entry.get("nested")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"'musamma.export' in config.json is {entry!r}",
            where=where,
            expected=f"'format' 1, with 'runtime' {' or '.join(GRAPH_FILES)}, 'quantization' and 'proclitics'",
            remedy="export the checkpoint again with musamma export",
        ) from error
