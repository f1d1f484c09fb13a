"""Matrix rates of the processor, and the operations of an encoder: the share of the rate that tagging reaches.

An operation is a multiplication or an addition, so a product of matrices of (rows, k) and (k, columns) has 2 * rows * k * columns. A rate
is measured on a chain of matrix products in OpenVINO, with the threads and the settings that `Tagger` computes an exported model with. In
8-bit integers the output of each product is quantised for the next one, as in an exported model.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from musamma.data.document import Document
from musamma.data.windows import Window
from musamma.models.loading import load_predictor
from musamma.models.predictor import GROUP_SIZE, batch_by_length
from musamma.models.runtimes.runtime import Batch

#: Number types whose rates are measured.
INT8, BFLOAT16, FLOAT32 = "int8", "bfloat16", "float32"
#: Sizes of the chains, (width, inner width): those of a small encoder, of a base one, and square matrices.
SIZES = ((384, 1536), (768, 3072), (1024, 1024))
# Rows of a product, as many as a batch of windows has pieces.
_ROWS = 2048
# Operations of one run of a chain by one request: about 0.1 seconds in 8-bit integers.
_OPERATIONS = 4e10


@dataclass(frozen=True, slots=True, kw_only=True)
class MatrixChain:
    """A chain of matrix products to time.

    Args:
        kind: the number type.
        size: width and inner width.
        operations: operations of one run, of all threads together.
        run: computes the chain once on all threads.
    """

    kind: str
    size: tuple[int, int]
    operations: int
    run: Callable[[], None]

    def measure(self) -> float:
        """Return operations per second of one run."""
        start = time.perf_counter()
        self.run()
        return self.operations / (time.perf_counter() - start)


def build_chains(
    kinds: Iterable[str],
    *,
    threads: int,
    sizes: Sequence[tuple[int, int]] = SIZES,
    rows: int = _ROWS,
    operations: float = _OPERATIONS,
) -> list[MatrixChain]:
    """Build and compile a chain of each number type and size, and run each once.

    Args:
        kinds: number types.
        threads: total number of threads.
        sizes: width and inner width of each chain.
        rows: rows of the products.
        operations: approximate number of operations of one request.
    """
    chains = [_build_chain(kind, size, threads, rows, operations) for kind in kinds for size in sizes]
    for chain in chains:
        chain.run()
    return chains


def _build_chain(kind: str, size: tuple[int, int], threads: int, rows: int, operations: float) -> MatrixChain:
    import openvino
    from openvino import properties

    width, inner = size
    per_pair = 2 * 2 * rows * width * inner
    pairs = max(1, round(operations / per_pair))
    hint = properties.hint
    compiled = openvino.Core().compile_model(
        _build_graph(kind, width, inner, pairs),
        "CPU",
        {
            hint.performance_mode(): hint.PerformanceMode.THROUGHPUT,
            hint.inference_precision(): openvino.Type.bf16 if kind == BFLOAT16 else openvino.Type.f32,
            properties.inference_num_threads(): threads,
        },
    )
    count = int(compiled.get_property(properties.optimal_number_of_infer_requests()))
    requests = [compiled.create_infer_request() for _ in range(count)]
    states = np.random.default_rng(1).standard_normal((rows, width)).astype(np.float32)

    def run() -> None:
        for request in requests:
            request.start_async([states])
        for request in requests:
            request.wait()

    return MatrixChain(kind=kind, size=size, operations=count * pairs * per_pair, run=run)


def _build_graph(kind: str, width: int, inner: int, pairs: int) -> Any:
    """Build pairs of products, from ``width`` columns to ``inner`` ones and back."""
    import openvino
    from openvino import opset13 as ops

    random = np.random.default_rng(2)

    def multiply(states: Any, outputs: int, inputs: int) -> Any:
        scale = np.float32(1 / np.sqrt(inputs))  # keeps the variance of the states
        if kind != INT8:
            weight = random.standard_normal((outputs, inputs)).astype(np.float32) * scale
            return ops.matmul(states, weight, False, True)
        ends = [np.array([[value]], dtype=np.float32) for value in (-4, 4)]
        whole = random.integers(-127, 128, (outputs, inputs)).astype(np.int8)
        # Whole numbers from -127 to 127 have a standard deviation of 73.
        scales = np.full((outputs, 1), scale / 73, dtype=np.float32)
        weight = ops.multiply(ops.convert(ops.constant(whole), "f32"), scales)
        return ops.matmul(ops.fake_quantize(states, *ends, *ends, 256), weight, False, True)

    states = parameter = ops.parameter([-1, width], np.float32)
    for _ in range(pairs):
        states = multiply(multiply(states, inner, width), width, inner)
    return openvino.Model([ops.result(states)], [parameter], "chain")


def best_rates(chains: Iterable[MatrixChain]) -> dict[str, float]:
    """Run the chains once and return the highest rate of each number type over the sizes, in operations per second."""
    rates: dict[str, float] = {}
    for chain in chains:
        rates[chain.kind] = max(rates.get(chain.kind, 0.0), chain.measure())
    return rates


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """The sizes of an encoder that decide its operations.

    Args:
        layers: number of layers.
        width: width of the hidden state.
        inner: width inside a layer's feed-forward part.
    """

    layers: int
    width: int
    inner: int

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> EncoderSize | None:
        """Read the sizes from ``config.json``; ``None`` for an encoder that names them differently than BERT."""
        keys = ("num_hidden_layers", "hidden_size", "intermediate_size")
        if not all(isinstance(config.get(key), int) for key in keys):
            return None
        return cls(*(config[key] for key in keys))

    def count_operations(self, pieces: int, *, length: int) -> int:
        """Count the operations of the matrix products for pieces of windows of a length, without embeddings and heads.

        Each layer has four projections, two feed-forward matrices, and for each piece the products with the keys and with the values of
        all pieces of its window.
        """
        per_piece = 4 * self.width**2 + 2 * self.width * self.inner + 2 * self.width * length
        return 2 * self.layers * per_piece * pieces


class GraphPass:
    """The part of tagging that computes the graph: batches of texts are prepared beforehand, and nothing is decoded.

    Args:
        model: an exported model.
        documents: the texts.
        size: the size of the encoder.

    Attributes:
        needed: operations for the pieces that give logits, each of the window that owns its word.
        computed: operations for all pieces, including padding and the overlap of windows.
        pieces: the number of pieces needed and computed.
    """

    def __init__(self, model: str, documents: Sequence[Document], size: EncoderSize) -> None:
        predictor = load_predictor(model, device="cpu")
        self._runtime = predictor.runtime
        self._batches: list[Batch] = []
        self.needed = self.computed = needed = 0
        for first in range(0, len(documents), GROUP_SIZE):
            tokenized = predictor.document_tokenizer.tokenize_all(documents[first : first + GROUP_SIZE])
            windows = [window for document in tokenized for window in document.windows]
            lengths = [len(window.input_ids) for window in windows]
            for batch in batch_by_length(lengths, tokens=predictor.batch_tokens):
                self._batches.append(predictor.build_batch([(0, windows[index]) for index in batch]))
            for window, length in zip(windows, lengths, strict=True):
                owned = count_owned_pieces(window)
                needed += owned
                self.needed += size.count_operations(owned, length=length)
        for computed in self._batches:
            self.computed += size.count_operations(computed.input_ids.size, length=computed.input_ids.shape[1])
        self.pieces = (needed, sum(batch.input_ids.size for batch in self._batches))

    def run(self) -> None:
        """Compute all batches."""
        deque(self._runtime.stream(self._batches), maxlen=0)


def count_owned_pieces(window: Window) -> int:
    """Count the pieces of the words that a window owns; each piece of a text belongs to one window."""
    # Pieces and words follow each other without gaps; one special token ends the window.
    ends = np.append(window.positions[1:], len(window.input_ids) - 1)
    return int((ends - window.positions)[window.owned].sum())
