"""Models, masks and losses keep to the device of their inputs.

The meta device stands in for a GPU: it holds no numbers, and refuses to compute with tensors of another device.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from musamma.data.tags import TagSet
from musamma.models.checkpoint import build_classifier
from musamma.training.dataset import joint_loss
from musamma.training.pretraining.objectives import MaskedPieceHead, sample_pieces
from musamma.training.pretraining.packing import encode_rows
from musamma.training.pretraining.pretrain_config import Packing

META = torch.device("meta")
TAGS = TagSet.from_labels(["LOC", "PER"])


def pieces(rows: int, length: int, device: torch.device = META) -> torch.Tensor:
    return torch.full((rows, length), 7, device=device)


def compute_loss(encoder: Path, labels: torch.Tensor, tag_sets: torch.Tensor) -> torch.Tensor:
    classifier = build_classifier(str(encoder), TAGS, nested=TAGS).to(META)
    ids = pieces(3, 12)
    # Without padding: transformers looks into the mask.
    loss = joint_loss(classifier(ids, torch.ones(3, 1, 12, 12, device=META)), labels, tag_sets=tag_sets)
    loss.backward()
    assert {weight.grad.device for weight in classifier.parameters() if weight.grad is not None} == {META}
    return loss


def test_the_loss_is_computed_where_the_batch_is(any_encoder: Path) -> None:
    labels, tag_sets = torch.zeros(3, 3, 12, dtype=torch.int64, device=META), torch.ones(2, len(TAGS), dtype=torch.bool)
    assert compute_loss(any_encoder, labels, tag_sets.to(META)).device == META
    with pytest.raises(RuntimeError, match="device"):
        compute_loss(any_encoder, torch.zeros(3, 3, 12, dtype=torch.int64), tag_sets)


# Packed rows in eager attention ask for the type of autocast, which the meta device does not have.
@pytest.mark.parametrize(("attention", "packing"), [("sdpa", True), ("sdpa", "continuous"), ("eager", "continuous")])
def test_packed_rows_are_encoded_where_they_are(any_encoder: Path, attention: str, packing: Packing) -> None:
    encoder = AutoModel.from_pretrained(any_encoder, add_pooling_layer=False, attn_implementation=attention).to(META)
    hidden = encode_rows(encoder, pieces(2, 12), pieces(2, 12), packing=packing)
    assert hidden.device == META
    logits = MaskedPieceHead(encoder).to(META)(hidden.flatten(0, 1), encoder.get_input_embeddings().weight)
    assert sample_pieces(logits, None).device == META
