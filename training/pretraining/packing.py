"""Packed rows: several paragraphs in a row, each of which the encoder reads as if it stood alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from musamma.data.errors import InputError, one_line
from musamma.models.classifier import position_offset
from musamma.training.pretraining.pretrain_config import Packing

#: Number of rows that are filled at the same time.
_OPEN_ROWS = 64


@dataclass(frozen=True, slots=True)
class PackedRow:
    """Paragraphs that are read together.

    Args:
        input_ids: piece ids, with special tokens around each paragraph; (pieces,).
        unit_starts: whether a piece starts a unit, which is masked as a whole; (pieces,).
        paragraph_lengths: number of pieces of each paragraph, special tokens included; (paragraphs,).
    """

    input_ids: np.ndarray
    unit_starts: np.ndarray
    paragraph_lengths: np.ndarray


def pack_rows(
    paragraphs: Iterable[tuple[np.ndarray, np.ndarray]], *, length: int, packing: Packing
) -> Iterator[PackedRow]:
    """Pack paragraphs into rows, first-fit: each goes into the first of up to 64 open rows that has room for it.

    If no open row has room, the fullest one is closed and a new one is opened. The result depends on nothing but the
    paragraphs.

    Args:
        paragraphs: ids and unit starts of each paragraph, at most ``length`` pieces.
        length: maximum number of pieces in a row.
        packing: whether to pack several paragraphs into a row. With ``False`` and ``"continuous"``, each paragraph is a row.
    """
    packing = packing is True
    rows: list[list[tuple[np.ndarray, np.ndarray]]] = []
    room: list[int] = []
    for ids, unit_starts in paragraphs:
        index = next((i for i, left in enumerate(room) if left >= len(ids)), -1) if packing else -1
        if index < 0:
            if len(rows) == _OPEN_ROWS:
                fullest = room.index(min(room))
                room.pop(fullest)
                yield _join_paragraphs(rows.pop(fullest))
            rows.append([])
            room.append(length)
            index = len(rows) - 1
        rows[index].append((ids, unit_starts))
        room[index] -= len(ids)
        if not packing or not room[index]:
            room.pop(index)
            yield _join_paragraphs(rows.pop(index))
    yield from map(_join_paragraphs, rows)


def _join_paragraphs(paragraphs: list[tuple[np.ndarray, np.ndarray]]) -> PackedRow:
    ids, unit_starts = zip(*paragraphs, strict=True)
    return PackedRow(np.concatenate(ids), np.concatenate(unit_starts), np.array([len(paragraph) for paragraph in ids]))


def encode_rows(
    encoder: PreTrainedModel, input_ids: torch.Tensor, paragraph_ids: torch.Tensor, *, packing: Packing
) -> torch.Tensor:
    """Compute the encoder's last hidden states of packed, padded or full rows.

    Args:
        encoder: the encoder.
        input_ids: (rows, pieces).
        paragraph_ids: number of each piece's paragraph in its row, from 1; 0 for padding; (rows, pieces).
        packing: how the rows were filled. Rows of one paragraph need only a mask for padding, full rows need none.

    Returns:
        (rows, pieces, hidden).
    """
    if packing == "continuous":
        return encoder(input_ids=input_ids).last_hidden_state
    if not packing:
        return encoder(input_ids=input_ids, attention_mask=paragraph_ids.ne(0).long()).last_hidden_state
    return encoder(
        input_ids=input_ids,
        position_ids=packed_positions(paragraph_ids, position_offset(encoder)),
        attention_mask=block_attention_mask(paragraph_ids, encoder.config._attn_implementation),
    ).last_hidden_state


def packed_positions(paragraph_ids: torch.Tensor, offset: int) -> torch.Tensor:
    """Return position ids that restart with each paragraph.

    Args:
        paragraph_ids: as in :func:`encode_rows`.
        offset: the first position id.
    """
    index = torch.arange(paragraph_ids.shape[1], device=paragraph_ids.device).expand_as(paragraph_ids)
    starts = torch.ones_like(paragraph_ids, dtype=torch.bool)
    starts[:, 1:] = paragraph_ids[:, 1:] != paragraph_ids[:, :-1]
    return index - torch.where(starts, index, 0).cummax(dim=1).values + offset


def block_attention_mask(paragraph_ids: torch.Tensor, attention: str) -> torch.Tensor:
    """Return a block-diagonal attention mask: pieces attend to their own paragraph, padding to padding.

    Args:
        paragraph_ids: as in :func:`encode_rows`.
        attention: the encoder's attention implementation, ``eager`` or ``sdpa``.

    Returns:
        (rows, 1, pieces, pieces). Boolean for ``sdpa``. For ``eager``, 0 or the lowest number in the type of the
        computation: a mask of a wider type would widen softmax and everything after it.
    """
    same_paragraph = (paragraph_ids[:, :, None] == paragraph_ids[:, None, :])[:, None]
    if attention != "eager":
        return same_paragraph
    device = paragraph_ids.device
    autocast = torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if autocast else torch.float32
    zeros = torch.zeros(same_paragraph.shape, dtype=dtype, device=device)
    return zeros.masked_fill(~same_paragraph, torch.finfo(dtype).min)


@torch.no_grad()
def check_packing(encoder: PreTrainedModel, where: str, *, length: int) -> None:
    """Check that an encoder reads packed paragraphs as if they stood alone.

    Args:
        encoder: the encoder.
        where: its name.
        length: number of pieces in the test row; layers with local attention fail only in rows longer than their window.

    Raises:
        InputError: the encoder reads them otherwise, or does not accept their masks and positions.
    """
    training = encoder.training
    encoder.eval()
    try:
        size = int(encoder.config.vocab_size)
        ids = torch.arange(length)[None] * 7 % (size - 5) + 5
        paragraph_ids = torch.tensor([[1] * 6 + [2] * (length - 6)])
        packed = encode_rows(encoder, ids, paragraph_ids, packing=True)
        # The same first paragraph, followed by a different second one.
        changed_ids = torch.where(paragraph_ids == 1, ids, (ids + 3) % (size - 5) + 5)
        changed = encode_rows(encoder, changed_ids, paragraph_ids, packing=True)
        alone = encode_rows(encoder, ids[:, 6:], paragraph_ids[:, 6:] - 1, packing=False)
        correct = torch.equal(packed[:, :6], changed[:, :6]) and torch.allclose(
            packed[:, 6:], alone, rtol=1e-3, atol=1e-3
        )
        reason = "" if correct else ": paragraphs in a row affect each other"
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError) as error:
        correct, reason = False, f": {one_line(error, limit=200)}"
    finally:
        encoder.train(training)
    if not correct:
        raise InputError(
            f"a {type(encoder).__name__} cannot read several paragraphs in a row" + reason,
            where=where,
            expected="an encoder that accepts position_ids and a mask of (rows, 1, pieces, pieces)",
            remedy="set packing: false, one paragraph a row",
        )
