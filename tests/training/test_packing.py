"""Packed rows: filled first-fit, and hidden states that do not depend on the other paragraphs of the row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, DistilBertConfig, DistilBertModel, ModernBertConfig, ModernBertModel

from musamma.data.errors import InputError
from musamma.training.pretraining.packing import (
    PackedRow,
    check_packing,
    encode_rows,
    pack_rows,
    packed_positions,
)
from musamma.training.pretraining.pretrain_config import Packing


def split_paragraphs(row: PackedRow) -> list[list[int]]:
    return [ids.tolist() for ids in np.split(row.input_ids, np.cumsum(row.paragraph_lengths)[:-1])]


@given(lengths=st.lists(st.integers(1, 16), max_size=400))
def test_each_paragraph_is_in_one_row_and_rows_fit(lengths: list[int]) -> None:
    paragraphs = [(np.full(length, number), np.ones(length, dtype=bool)) for number, length in enumerate(lengths)]
    rows = list(pack_rows(paragraphs, length=16, packing=True))
    assert all(len(row.input_ids) <= 16 for row in rows)
    packed = [paragraph for row in rows for paragraph in split_paragraphs(row)]
    assert sorted(packed) == [[number] * length for number, length in enumerate(lengths)]
    again = list(pack_rows(paragraphs, length=16, packing=True))
    assert [row.input_ids.tolist() for row in rows] == [row.input_ids.tolist() for row in again]
    # The first paragraph of a closed row did not fit into the one closed before it: rows are more than half full on average.
    assert len(rows) <= 2 * sum(lengths) / 16 + 64


def test_the_first_row_with_room_is_filled() -> None:
    lengths = [10, 10, 6, 4, 16]
    rows = pack_rows([(np.full(n, n), np.ones(n, dtype=bool)) for n in lengths], length=16, packing=True)
    assert [row.paragraph_lengths.tolist() for row in rows] == [[10, 6], [16], [10, 4]]
    rows = pack_rows([(np.full(n, n), np.ones(n, dtype=bool)) for n in lengths], length=16, packing=False)
    assert [row.paragraph_lengths.tolist() for row in rows] == [[10], [10], [6], [4], [16]]


def test_positions_restart_with_each_paragraph() -> None:
    paragraph_ids = torch.tensor([[1, 1, 1, 2, 2, 0, 0], [1, 2, 3, 3, 3, 3, 3]])
    assert packed_positions(paragraph_ids, 2).tolist() == [[2, 3, 4, 2, 3, 2, 3], [2, 2, 2, 3, 4, 5, 6]]


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("bfloat16", [False, True])
def test_packed_paragraphs_are_read_as_if_alone(any_encoder: Path, attention: str, bfloat16: bool) -> None:
    model = AutoModel.from_pretrained(any_encoder, add_pooling_layer=False, attn_implementation=attention).eval()
    ids = torch.randint(5, model.config.vocab_size, (1, 30), generator=torch.Generator().manual_seed(1))
    paragraph_ids = torch.tensor([[1] * 9 + [2] * 14 + [3] * 4 + [0] * 3])

    @torch.no_grad()
    def hidden_states(ids: torch.Tensor, paragraph_ids: torch.Tensor, *, packing: Packing) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            return encode_rows(model, ids, paragraph_ids, packing=packing)[0].float()

    packed = hidden_states(ids, paragraph_ids, packing=True)
    changed_ids = ids.clone()
    changed_ids[0, 9:23] = changed_ids[0, 9:23].flip(0)
    changed = hidden_states(changed_ids, paragraph_ids, packing=True)
    assert torch.equal(packed[:9], changed[:9])
    assert torch.equal(packed[23:27], changed[23:27])
    assert not torch.equal(packed[9:23], changed[9:23])
    for start, end in ((0, 9), (9, 23), (23, 27)):
        alone = hidden_states(ids[:, start:end], torch.ones(1, end - start), packing=False)
        full = hidden_states(ids[:, start:end], torch.ones(1, end - start), packing="continuous")
        assert torch.equal(full, alone)
        tolerance = 5e-2 if bfloat16 else 1e-5
        torch.testing.assert_close(packed[start:end], alone, rtol=tolerance, atol=tolerance)


def test_an_encoder_that_makes_its_own_positions_is_refused() -> None:
    config = DistilBertConfig(vocab_size=60, dim=16, n_layers=1, n_heads=2, hidden_dim=16, max_position_embeddings=40)
    model = DistilBertModel(config)
    inner = model.embeddings.forward
    model.embeddings.forward = lambda input_ids, *_, **__: inner(input_ids)
    with pytest.raises(InputError, match="packing: false"):
        check_packing(model, "distilbert", length=32)


def test_local_attention_that_the_mask_would_remove_is_refused() -> None:
    sizes = {
        "vocab_size": 60,
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    config = ModernBertConfig(**sizes, **special, local_attention=8, initializer_range=0.5)
    torch.manual_seed(1)
    with pytest.raises(InputError, match="packing: false"):
        check_packing(ModernBertModel(config), "modernbert", length=64)
