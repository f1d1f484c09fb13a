"""Batches without padding give the logits and gradients of padded ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import (
    DistilBertConfig,
    DistilBertForTokenClassification,
    ModernBertConfig,
    ModernBertForTokenClassification,
)

from musamma.data.tags import TagSet
from musamma.models.checkpoint import build_classifier
from musamma.models.classifier import TokenClassifier
from musamma.models.unpadded import PieceLayout

TAGS = TagSet.from_labels(["LOC", "PER"])


def build(encoder: Path, **changes: float) -> TokenClassifier:
    torch.manual_seed(1)
    none = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    classifier = build_classifier(str(encoder), TAGS, nested=TAGS, changes=none | changes)
    classifier.backbone.set_attn_implementation("eager")
    return classifier.eval()


def windows(lengths: list[int], *, padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Windows of random pieces, and their mask."""
    longest = max(lengths)
    ids = torch.randint(5, 300, (len(lengths), longest), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()
    return ids.where(mask.bool(), torch.full_like(ids, padding)), mask


def join(classifier: TokenClassifier, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The logits of all heads at the pieces, (all pieces, classes)."""
    outputs = [logits for logits in classifier(ids, mask) if logits is not None]
    assert {logits.shape[:2] for logits in outputs} == {ids.shape}
    return torch.cat(outputs, dim=-1)[mask.bool()]


@pytest.mark.parametrize("lengths", [[9, 31, 5], [16], [7, 7], [1, 20], [64, 3, 12, 40]])
def test_logits_and_gradients_are_those_of_the_padded_batch(any_encoder: Path, lengths: list[int]) -> None:
    classifier = build(any_encoder)
    ids, mask = windows(lengths)
    weights = torch.randn(join(classifier, ids, mask).shape, generator=torch.Generator().manual_seed(2))

    def compute() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        classifier.zero_grad()
        logits = join(classifier, ids, mask)
        (logits * weights).sum().backward()
        gradients = {name: weight.grad for name, weight in classifier.named_parameters() if weight.grad is not None}
        return logits.detach(), gradients

    padded, padded_gradients = compute()
    assert classifier.try_unpadded(length=64)
    unpadded, gradients = compute()
    torch.testing.assert_close(unpadded, padded, rtol=1e-4, atol=1e-5)
    assert gradients.keys() == padded_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, padded_gradients[name], rtol=1e-3, atol=1e-4, msg=name)


def test_in_bfloat16_logits_are_about_the_same(any_encoder: Path) -> None:
    classifier = build(any_encoder)
    ids, mask = windows([9, 31, 5])
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        padded = join(classifier, ids, mask).float()
        assert classifier.try_unpadded(length=64)
        torch.testing.assert_close(join(classifier, ids, mask).float(), padded, rtol=5e-2, atol=5e-2)


@torch.no_grad()
def test_padding_and_other_windows_change_nothing(any_encoder: Path) -> None:
    classifier = build(any_encoder)
    assert classifier.try_unpadded(length=64)
    ids, mask = windows([9, 31, 5])
    expected = join(classifier, ids, mask)
    assert torch.equal(join(classifier, *windows([9, 31, 5], padding=77)), expected)
    ids[1] = ids[1].flip(0)
    changed = join(classifier, ids, mask)
    assert torch.equal(changed[:9], expected[:9])
    assert torch.equal(changed[40:], expected[40:])
    assert not torch.equal(changed[9:40], expected[9:40])


@torch.no_grad()
def test_attention_weights_are_dropped_in_training_alone(wordpiece_encoder: Path) -> None:
    classifier = build(wordpiece_encoder, attention_probs_dropout_prob=0.5)
    assert classifier.try_unpadded(length=64)
    ids, mask = windows([9, 31])
    assert torch.equal(join(classifier, ids, mask), join(classifier, ids, mask))
    classifier.train()
    torch.manual_seed(1)
    first, second = join(classifier, ids, mask), join(classifier, ids, mask)
    assert not torch.allclose(first, second, atol=1e-3)
    torch.manual_seed(1)
    assert torch.equal(join(classifier, ids, mask), first)


def test_the_row_ends_with_a_repeated_piece() -> None:
    _, mask = windows([3, 13, 16])
    layout = PieceLayout.from_mask(mask, heads=2, first_position=2)
    assert (layout.count, len(layout.pieces)) == (32, 48)
    assert layout.pieces[32:].tolist() == [0] * 16
    assert layout.positions[0, :6].tolist() == [2, 3, 4, 2, 3, 4]
    batch = torch.arange(48).view(3, 16)
    padded = layout.pad(layout.join(batch)[..., None].float())
    assert torch.equal(padded[..., 0], batch.where(mask.bool(), torch.tensor(0)).float())


SIZES = {"vocab_size": 60, "max_position_embeddings": 80}


def modern_bert() -> TokenClassifier:
    """A model whose layers attend to 8 neighbours alone."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    config = ModernBertConfig(**SIZES, **sizes, **special, local_attention=8, initializer_range=0.5)
    return TokenClassifier(ModernBertForTokenClassification(config))


def distil_bert() -> TokenClassifier:
    """A model that makes its own positions."""
    backbone = DistilBertForTokenClassification(DistilBertConfig(**SIZES, dim=16, n_layers=1, n_heads=2, hidden_dim=16))
    inner = backbone.distilbert.embeddings.forward
    backbone.distilbert.embeddings.forward = lambda input_ids, *_, **__: inner(input_ids)
    return TokenClassifier(backbone)


@pytest.mark.parametrize("build_other", [modern_bert, distil_bert])
def test_an_encoder_that_needs_padded_batches_keeps_them(build_other) -> None:
    torch.manual_seed(1)
    classifier = build_other()
    classifier.backbone.set_attn_implementation("eager")
    classifier.train()
    assert not classifier.try_unpadded(length=64)
    assert classifier.training
    assert not classifier.unpadded
    assert classifier.config._attn_implementation == "eager"
    ids, mask = windows([9, 31])
    assert join(classifier.eval(), ids % 55 + 5, mask).isfinite().all()
