"""``benchmarks/matrix_rates.py``: operations against PyTorch's count, pieces against the tokenizer's, and rates of small chains."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModel

from benchmarks import matrix_rates
from benchmarks.matrix_rates import BFLOAT16, FLOAT32, INT8, EncoderSize, MatrixChain, best_rates, build_chains
from musamma.data.corpora import load_khabar
from musamma.data.windows import DocumentTokenizer


def test_operations_are_those_that_pytorch_counts(wordpiece_encoder: Path) -> None:
    config = AutoConfig.from_pretrained(wordpiece_encoder)
    model = AutoModel.from_config(config, attn_implementation="eager", add_pooling_layer=False).eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(torch.ones(3, 12, dtype=torch.long))
    size = EncoderSize.from_config(config.to_dict())
    assert size is not None
    assert size.count_operations(3 * 12, length=12) == counter.get_total_flops()


def test_an_encoder_without_these_sizes_has_no_count() -> None:
    assert EncoderSize.from_config({"dim": 48, "n_layers": 2, "hidden_dim": 96}) is None


def test_each_piece_of_a_text_is_owned_once(wordpiece_encoder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(wordpiece_encoder / "tokenizer.json"))
    document = load_khabar("dev")[0]
    tokenized = DocumentTokenizer(tokenizer, max_length=64, overlap=16).tokenize(document)
    pieces = tokenizer.encode(document.text, add_special_tokens=False).ids
    assert len(tokenized.windows) > 2
    assert sum(map(matrix_rates.count_owned_pieces, tokenized.windows)) == len(pieces)


@pytest.mark.parametrize("kind", [INT8, BFLOAT16, FLOAT32])
def test_a_chain_has_products_of_its_number_type(kind: str) -> None:
    pytest.importorskip("openvino")
    (chain,) = build_chains([kind], threads=1, sizes=[(32, 64)], rows=16, operations=4 * 2 * 2 * 16 * 32 * 64)
    assert chain.operations == 4 * 2 * 2 * 16 * 32 * 64
    assert chain.measure() > 0
    graph = matrix_rates._build_graph(kind, 32, 64, 4)
    types = [operation.get_type_name() for operation in graph.get_ops()]
    assert types.count("MatMul") == 8
    assert types.count("FakeQuantize") == (8 if kind == INT8 else 0)


def test_the_states_of_a_chain_keep_their_variance() -> None:
    openvino = pytest.importorskip("openvino")
    states = np.random.default_rng(3).standard_normal((64, 96)).astype(np.float32)
    for kind in (INT8, FLOAT32):
        compiled = openvino.Core().compile_model(matrix_rates._build_graph(kind, 96, 384, 3), "CPU")
        assert 0.5 < compiled([states])[0].std() < 2


def test_the_best_rate_is_the_highest_over_the_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 5.0, 6.0, 7.0, 11.0])
    monkeypatch.setattr(matrix_rates.time, "perf_counter", lambda: next(clock))
    kinds = ((INT8, 8), (INT8, 6), (FLOAT32, 4))
    chains = [MatrixChain(kind=kind, size=(1, 1), operations=count, run=lambda: None) for kind, count in kinds]
    assert best_rates(chains) == {INT8: 6.0, FLOAT32: 1.0}
