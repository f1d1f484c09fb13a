"""The objectives against the models of transformers, and the metrics against values computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import AutoModel, BertForMaskedLM

from musamma.data.windows import IGNORE_INDEX
from musamma.training.pretraining.objectives import MaskedLanguageModel, ReplacedTokenDetector, sample_pieces
from musamma.training.pretraining.pretrain_trainer import compute_metrics


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Two rows of one paragraph each, the second padded, with three masked pieces in all."""
    ids = torch.tensor([[2, 10, 4, 12, 13, 3], [2, 4, 21, 4, 3, 0]])
    labels = torch.full_like(ids, IGNORE_INDEX)
    labels[0, 2], labels[1, 1], labels[1, 3] = 11, 20, 22
    is_text = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 1, 1, 1, 0, 0]], dtype=torch.bool)
    return {"input_ids": ids, "paragraph_ids": ids.ne(0).long(), "labels": labels, "is_text": is_text}


def test_masked_losses_are_those_of_bert(wordpiece_encoder: Path, batch: dict[str, torch.Tensor]) -> None:
    torch.manual_seed(1)
    reference = BertForMaskedLM.from_pretrained(wordpiece_encoder).eval()
    encoder = AutoModel.from_pretrained(wordpiece_encoder, add_pooling_layer=False)
    model = MaskedLanguageModel(encoder, packing=True).eval()
    head = reference.cls.predictions
    model.head.dense.load_state_dict(head.transform.dense.state_dict())
    model.head.norm.load_state_dict(head.transform.LayerNorm.state_dict())
    bias = torch.linspace(-1, 1, len(head.bias))
    with torch.no_grad():
        head.bias.copy_(bias)
        model.head.bias.copy_(bias)
        output = reference(batch["input_ids"], attention_mask=batch["paragraph_ids"], labels=batch["labels"])
        sums = model(**batch)
    torch.testing.assert_close(sums["mlm_loss"], output.loss * 3)
    assert sums["mlm_correct"] == output.logits.argmax(-1).eq(batch["labels"]).sum()
    # The target with the largest bias is predicted everywhere: one of the three is correct.
    with torch.no_grad():
        model.head.bias[20] = 100.0
        assert model(**batch)["mlm_correct"] == 1


def test_detection_losses_are_those_of_a_second_pass_over_the_samples(
    wordpiece_encoder: Path, batch: dict[str, torch.Tensor]
) -> None:
    encoder = AutoModel.from_pretrained(wordpiece_encoder, add_pooling_layer=False).eval()
    model = ReplacedTokenDetector(encoder, packing=True, layers=1).eval()
    with torch.no_grad():
        # The generator always proposes piece 20: right for one masked piece, a replacement of the two others.
        model.generator.head.bias[20] = 100.0
        sums = model(**batch)
        replaced_ids = torch.tensor([[2, 10, 20, 12, 13, 3], [2, 20, 21, 20, 3, 0]])
        replaced = torch.zeros(2, 6)
        replaced[0, 2] = replaced[1, 3] = 1
        hidden = encoder(replaced_ids, attention_mask=batch["paragraph_ids"]).last_hidden_state
        logits = model.head(hidden).squeeze(-1)
        text = batch["is_text"]
        torch.testing.assert_close(
            sums["rtd_loss"], binary_cross_entropy_with_logits(logits[text], replaced[text], reduction="sum")
        )
        detected = (logits > 0)[text]
        is_replaced = replaced[text].bool()
    counts = [int(sums[name]) for name in ("rtd_replaced", "rtd_true_positives", "rtd_false_positives")]
    assert counts == [2, int((detected & is_replaced).sum()), int((detected & ~is_replaced).sum())]
    assert int(sums["mlm_correct"]) == 1


def test_metrics_are_means_of_the_sums() -> None:
    sums = {"mlm_loss": 12.0, "mlm_correct": 3.0}
    assert compute_metrics(sums, masked=8, text=40) == {"mlm_loss": 1.5, "mlm_accuracy": 0.375}
    sums |= {"rtd_loss": 10.0, "rtd_replaced": 6.0, "rtd_true_positives": 3.0, "rtd_false_positives": 1.0}
    assert compute_metrics(sums, masked=8, text=40) == {
        "mlm_loss": 1.5,
        "mlm_accuracy": 0.375,
        "rtd_loss": 0.25,
        "rtd_recall": 0.5,
        "rtd_precision": 0.75,
    }


def test_samples_follow_their_distribution() -> None:
    logits = torch.tensor([[0.0, 1.0, -1.0, 0.5]]).expand(40_000, 4)
    drawn = torch.bincount(sample_pieces(logits, torch.Generator().manual_seed(1)), minlength=4) / 40_000
    torch.testing.assert_close(drawn, logits[0].softmax(0), rtol=0, atol=0.01)
