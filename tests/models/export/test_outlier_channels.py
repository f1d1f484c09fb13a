"""Division of outlier channels: the same function, with inputs of down-projections that have a similar range."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForTokenClassification,
    DistilBertConfig,
    DistilBertForTokenClassification,
    ElectraConfig,
    ElectraForTokenClassification,
)

from musamma.models.classifier import TokenClassifier
from musamma.models.export.outlier_channels import divide_outliers, find_down_projections

SIZES = {"vocab_size": 50, "max_position_embeddings": 64}
ROWS = [np.random.default_rng(seed).integers(2, 50, (1, 24)) for seed in range(6)]
SAMPLES = [{"input_ids": ids, "attention_mask": np.ones_like(ids)} for ids in ROWS]


def build(family: str) -> tuple[TokenClassifier, str, str]:
    """A random classifier of a family, with the paths of its last up- and down-projection."""
    torch.manual_seed(5)
    wide = {"hidden_size": 16, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2}
    if family == "distilbert":
        config = DistilBertConfig(dim=16, hidden_dim=40, n_layers=2, n_heads=2, **SIZES)
        layer = "backbone.distilbert.transformer.layer.1.ffn"
        return TokenClassifier(DistilBertForTokenClassification(config)).eval(), f"{layer}.lin1", f"{layer}.lin2"
    if family == "electra":
        backbone = ElectraForTokenClassification(ElectraConfig(embedding_size=8, **wide, **SIZES))
    else:
        backbone = BertForTokenClassification(BertConfig(**wide, **SIZES))
    layer = f"backbone.{family}.encoder.layer.1"
    return TokenClassifier(backbone).eval(), f"{layer}.intermediate.dense", f"{layer}.output.dense"


def greatest_inputs(classifier: TokenClassifier, path: str) -> torch.Tensor:
    """The greatest absolute value of each input of a layer."""
    seen: list[torch.Tensor] = []
    hook = classifier.get_submodule(path).register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0][0].abs().amax(dim=0))
    )
    for sample in SAMPLES:
        logits(classifier, sample)
    hook.remove()
    return torch.stack(seen).amax(dim=0)


@torch.no_grad()
def logits(classifier: TokenClassifier, sample: dict[str, np.ndarray]) -> torch.Tensor:
    return torch.cat(
        [output for output in classifier(*map(torch.from_numpy, sample.values())) if output is not None], 2
    )


@pytest.mark.parametrize("family", ["bert", "electra", "distilbert"])
def test_outliers_are_divided_without_a_change_of_the_function(family: str) -> None:
    classifier, up, down = build(family)
    with torch.no_grad():
        classifier.get_submodule(up).bias[7] = 90.0
        classifier.get_submodule(down).weight[:, 7] *= 0.01
    unchanged = copy.deepcopy(classifier.state_dict())
    before = greatest_inputs(classifier, down).sort(descending=True).values
    assert before[0] > 20 * before[4]
    divided, divisors = divide_outliers(classifier, SAMPLES, share=0.1)
    assert list(divisors)[-1] == down
    assert len(divisors) == 2
    copies = divisors[down]
    after = greatest_inputs(divided, down) / torch.from_numpy(copies)
    assert len(after) == len(copies) == divided.get_submodule(down).in_features
    assert after.max() <= before[4] * 1.001
    assert sorted(copies)[-1] == sum(copies == copies.max())
    assert before[0] / before[4] - 1 <= len(after) - 40 < before[0] / before[4] + 4
    for sample in SAMPLES:
        torch.testing.assert_close(logits(divided, sample), logits(classifier, sample), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(tensor, unchanged[name]) for name, tensor in classifier.state_dict().items())


def test_a_layer_without_one_up_projection_is_left_alone() -> None:
    classifier, up, down = build("bert")
    layer = classifier.get_submodule(up.rpartition(".")[0])
    layer.gate = nn.Linear(16, 40)
    assert list(find_down_projections(classifier).values()) == [up.replace("layer.1", "layer.0"), None]
    divided, divisors = divide_outliers(classifier, SAMPLES)
    assert tuple(divisors) == (down.replace("layer.1", "layer.0"),)
    torch.testing.assert_close(divided.get_submodule(down).weight, classifier.get_submodule(down).weight)


def test_skipped_down_projections_are_left_alone() -> None:
    classifier, up, down = build("bert")
    first_up, first_down = (path.replace("layer.1", "layer.0") for path in (up, down))
    divided, divisors = divide_outliers(classifier, SAMPLES, share=0.1, skip=[first_down, "another"])
    assert tuple(divisors) == (down,)
    for path in (first_up, first_down):
        torch.testing.assert_close(divided.get_submodule(path).weight, classifier.get_submodule(path).weight)
