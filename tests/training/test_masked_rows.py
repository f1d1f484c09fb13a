"""The order of the rows over all passes, and batches with masks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from musamma.data.windows import IGNORE_INDEX
from musamma.training.pretraining.masked_rows import MaskCollator, RowSchedule, select_held_out_rows
from musamma.training.pretraining.masking import MaskingConfig, RandomStream
from musamma.training.pretraining.packed_text import PackedText


@pytest.fixture
def text(wordpiece_encoder: Path, prepared: Callable[..., PackedText], tmp_path: Path) -> PackedText:
    return prepared(wordpiece_encoder, tmp_path / "run")


def test_an_item_depends_only_on_its_number(text: PackedText) -> None:
    masking = MaskingConfig(text.special, 0.2, 7)
    items = 3 * len(text.train)
    schedule = RowSchedule(text.train, items=items, masking=masking, stream=RandomStream.MAIN)
    rows = schedule.__getitems__(list(range(items)))
    passes = [
        [row.row.input_ids.tolist() for row in rows[start : start + len(text.train)]]
        for start in range(0, items, len(text.train))
    ]
    assert sorted(passes[0]) == sorted(passes[1]) == sorted(passes[2])
    assert passes[0] != passes[1]
    item = items - 5
    assert schedule[item].masked.tolist() == rows[item].masked.tolist()
    again = RowSchedule(text.train, items=items, masking=masking, stream=RandomStream.MAIN)[item]
    assert again.masked.tolist() == rows[item].masked.tolist()
    # Masks change from pass to pass, and with the stream.
    first_pass = {tuple(row.row.input_ids): row.masked.tolist() for row in rows[: len(text.train)]}
    assert any(first_pass[tuple(row.row.input_ids)] != row.masked.tolist() for row in rows[len(text.train) :])
    heads = RowSchedule(text.train, items=items, masking=masking, stream=RandomStream.HEADS)
    assert [row.row.input_ids.tolist() for row in heads.__getitems__(list(range(items)))] != [
        row.row.input_ids.tolist() for row in rows
    ]


def test_tokens_are_counted_exactly(text: PackedText) -> None:
    masking = MaskingConfig(text.special, 0.2, 7)
    schedule = RowSchedule(text.train, items=99, masking=masking, stream=RandomStream.MAIN)
    total = 0
    for item in range(2 * len(text.train) + 3):
        assert schedule.count_tokens(item) == total
        length = len(schedule[item].row.input_ids)
        assert schedule.items_for_tokens(total + 1) == item + 1
        total += length
        assert schedule.items_for_tokens(total) == item + 1


def test_a_batch_masks_exactly_its_labels(text: PackedText, wordpiece_encoder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(wordpiece_encoder)
    rows = select_held_out_rows(text.held_out, limit=3, masking=MaskingConfig(text.special, 0.2, 7))
    assert len(rows) == 3
    batch = MaskCollator(tokenizer.pad_token_id, tokenizer.mask_token_id, 40)(rows)
    masked = batch["labels"] != IGNORE_INDEX
    assert (batch["input_ids"][masked] == tokenizer.mask_token_id).all()
    assert batch["is_text"][masked].all()
    tensors = (batch[name] for name in ("input_ids", "labels", "paragraph_ids"))
    for row, ids, labels, paragraph_ids in zip(rows, *tensors, strict=True):
        length = len(row.row.input_ids)
        assert torch.where(labels == IGNORE_INDEX, ids, labels)[:length].tolist() == row.row.input_ids.tolist()
        assert (ids[length:] == tokenizer.pad_token_id).all()
        assert torch.bincount(paragraph_ids[:length])[1:].tolist() == row.row.paragraph_lengths.tolist()
        assert paragraph_ids[length:].eq(0).all()
