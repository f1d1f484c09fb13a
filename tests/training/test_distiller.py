"""The loss of distillation, compared with values computed in another way."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, kl_div
from transformers import BertConfig, BertForTokenClassification

from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX
from musamma.models.classifier import TokenClassifier
from musamma.training.dataset import joint_loss
from musamma.training.distillation.distiller import DistillCollator, Distiller, divergence, unexplained_variance
from musamma.training.distillation.student import build_student

TAGS, NESTED = TagSet(("LOC", "PER")), TagSet(("LOC",))


@pytest.fixture
def teacher() -> TokenClassifier:
    torch.manual_seed(1)
    sizes = {"vocab_size": 60, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "num_labels": 5}
    # With wide weights, every layer changes the hidden states.
    config = BertConfig(**sizes, num_hidden_layers=4, initializer_range=0.5)
    classifier = TokenClassifier(BertForTokenClassification(config), nested=NESTED).eval()
    for head in (classifier.backbone.classifier, classifier.proclitic_head, classifier.nested_head):
        torch.nn.init.normal_(head.weight)
    return classifier.requires_grad_(False)


def build_distiller(teacher: TokenClassifier, layers: list[int], **changes: Any) -> Distiller:
    student = build_student(teacher, layers, where="teacher").eval()
    settings = {
        "matched": (1, 3) if len(layers) == 2 else tuple(range(len(layers))),
        "tag_set": TAGS,
        "columns": np.arange(5),
        "temperature": 1.0,
        "hidden_weight": 1.0,
        "gold_weight": 0.5,
        "gold_loss": joint_loss,
    }
    return Distiller(student, teacher, **(settings | changes))


ANNOTATED = {
    "input_ids": [2, 7, 8, 9, 10, 3],
    "tags": [IGNORE_INDEX, 0, 1, 2, IGNORE_INDEX, IGNORE_INDEX],
    "proclitics": [IGNORE_INDEX, IGNORE_INDEX, 1, IGNORE_INDEX, IGNORE_INDEX, IGNORE_INDEX],
    "nested": [IGNORE_INDEX, IGNORE_INDEX, 0, 1, IGNORE_INDEX, IGNORE_INDEX],
    "length": 6,
}
RAW = {"input_ids": np.array([2, 11, 12, 13, 3]), "words": np.array([False, True, False, True, False])}


def test_batches_mix_annotated_windows_and_raw_text() -> None:
    batch = DistillCollator(0, 32, nested=True)([ANNOTATED, RAW])
    assert batch["input_ids"].tolist() == [[2, 7, 8, 9, 10, 3, 0, 0], [2, 11, 12, 13, 3, 0, 0, 0]]
    assert batch["attention_mask"].sum(dim=1).tolist() == [6, 5]
    assert batch["words"].nonzero().tolist() == [[0, 1], [0, 2], [0, 3], [1, 1], [1, 3]]
    assert batch["targets"].shape == (2, 3, 8)
    assert batch["targets"][0, :, :6].tolist() == [ANNOTATED[name] for name in ("tags", "proclitics", "nested")]
    assert set(batch["targets"][1].flatten().tolist()) == {IGNORE_INDEX}
    assert DistillCollator(0, 32, nested=False)([ANNOTATED, RAW])["targets"].shape == (2, 2, 8)


def test_divergences_are_those_of_kullback_and_leibler() -> None:
    torch.manual_seed(2)
    logits, guide, weights = torch.randn(7, 5), torch.randn(7, 5), torch.rand(7)
    for temperature in (1.0, 2.5):
        rows = kl_div((logits / temperature).log_softmax(-1), (guide / temperature).softmax(-1), reduction="none").sum(
            -1
        )
        found = divergence(logits, guide, temperature=temperature, weights=weights)
        torch.testing.assert_close(found, temperature**2 * (rows * weights).sum())
    certain = divergence(torch.zeros(1, 4), torch.tensor([[1000.0, 0.0, 0.0, 0.0]]), temperature=1.0)
    assert certain.item() == pytest.approx(math.log(4))
    assert divergence(guide, guide, temperature=3.0).item() == pytest.approx(0.0, abs=1e-6)


def test_hidden_states_are_compared_by_the_variance_that_is_not_reproduced() -> None:
    torch.manual_seed(2)
    guide = torch.randn(50, 8) * torch.arange(1, 9) + 100
    assert unexplained_variance(guide, guide).item() == 0
    mean = guide.mean(dim=0).expand_as(guide)
    assert unexplained_variance(mean, guide).item() == pytest.approx(1, rel=1e-4)
    halfway = (guide + mean) / 2
    assert unexplained_variance(halfway, guide).item() == pytest.approx(0.25, rel=1e-4)
    # Neither the size of the states nor a constant in them matters.
    assert unexplained_variance(5 * halfway + 3, 5 * guide + 3).item() == pytest.approx(0.25, rel=1e-3)
    assert unexplained_variance(guide[:1], guide[:1]).item() == 0


def test_a_copy_of_the_teacher_loses_nothing_but_the_gold(teacher: TokenClassifier) -> None:
    distiller = build_distiller(teacher, [0, 1, 2, 3])
    batch = DistillCollator(0, 32, nested=True)([ANNOTATED, RAW])
    loss = distiller(**batch)["loss"].item()
    parts = distiller.take_parts()
    assert parts.keys() == {"tags", "borders", "nested", "hidden", "gold"}
    assert parts.pop("gold") == pytest.approx(loss, rel=1e-5)
    assert list(parts.values()) == pytest.approx([0.0] * 4, abs=1e-6)
    # Half of the summed loss of the 6 targets, divided by the number of words.
    *logits, _ = teacher.forward_with_states(batch["input_ids"], batch["attention_mask"])
    total = sum(
        cross_entropy(scores.flatten(0, 1), target.flatten(), ignore_index=IGNORE_INDEX, reduction="sum")
        for scores, target in zip(logits, batch["targets"].unbind(1), strict=True)
    )
    assert loss == pytest.approx(0.5 * float(total) / 5, rel=1e-5)
    assert distiller.take_parts() == {}


def test_the_parts_of_the_loss_of_raw_text(teacher: TokenClassifier) -> None:
    distiller = build_distiller(teacher, [1, 3], temperature=2.0, hidden_weight=0.3)
    batch = DistillCollator(0, 32, nested=True)([RAW])
    loss = distiller(**batch)["loss"]
    parts = distiller.take_parts()
    assert parts["gold"] == 0
    assert loss.item() == pytest.approx(sum(parts.values()), rel=1e-5)
    inputs = {
        "input_ids": torch.from_numpy(RAW["input_ids"])[None],
        "attention_mask": torch.ones(1, 5, dtype=torch.long),
    }
    words = torch.from_numpy(RAW["words"])
    with torch.no_grad():
        tags, borders, nested, states = distiller.student.forward_with_states(**inputs)
        tag_guide, border_guide, nested_guide, guide_states = teacher.forward_with_states(**inputs)

    def mean(own: torch.Tensor, guide: torch.Tensor, weights: torch.Tensor | None = None) -> float:
        return float(divergence(own[0, words], guide[0, words], temperature=2.0, weights=weights)) / 2

    likely, inner = tag_guide[0, words].softmax(-1), nested_guide[0, words].softmax(-1)
    in_name = likely[:, 1:].sum(-1)
    begins = torch.maximum(likely[:, 1] + likely[:, 3], in_name * inner[:, 1])
    hidden = [float(unexplained_variance(states[own][0], guide_states[other][0])) for own, other in ((1, 2), (2, 4))]
    assert parts == pytest.approx(
        {
            "tags": mean(tags, tag_guide),
            "borders": mean(borders, border_guide, begins),
            "nested": mean(nested, nested_guide, in_name),
            "hidden": 0.3 * sum(hidden) / 2,
            "gold": 0.0,
        },
        rel=1e-4,
    )


def test_padding_changes_nothing(teacher: TokenClassifier) -> None:
    distiller = build_distiller(teacher, [1, 3])
    narrow = DistillCollator(0, 32, nested=True)([RAW])
    wide = {
        name: torch.nn.functional.pad(value, (0, 8), value=IGNORE_INDEX if name == "targets" else 0)
        for name, value in narrow.items()
    }
    assert distiller(**wide)["loss"].item() == pytest.approx(distiller(**narrow)["loss"].item(), rel=1e-5)


def test_logits_in_another_order_are_taken_by_their_tags(teacher: TokenClassifier) -> None:
    batch = DistillCollator(0, 32, nested=True)([ANNOTATED, RAW])
    expected = build_distiller(teacher, [1, 3])(**batch)["loss"].item()
    columns = np.array([4, 0, 2, 3, 1])
    head = teacher.backbone.classifier
    for weight in (head.weight, head.bias):
        weight[torch.from_numpy(columns)] = weight.clone()
    assert build_distiller(teacher, [1, 3], columns=columns)(**batch)["loss"].item() == pytest.approx(
        expected, rel=1e-5
    )


def test_the_teacher_is_neither_trained_nor_saved(teacher: TokenClassifier) -> None:
    distiller = build_distiller(teacher, [1, 3])
    names = {f"student.{name}" for name in distiller.student.state_dict()}
    assert set(distiller.state_dict()) == names
    distiller.train()
    assert not teacher.training
    distiller(**DistillCollator(0, 32, nested=True)([ANNOTATED, RAW]))["loss"].backward()
    assert all(weight.grad is not None for weight in distiller.parameters() if weight.requires_grad)
    assert all(weight.grad is None for weight in teacher.parameters())


def test_parts_with_a_weight_of_zero_are_not_computed(teacher: TokenClassifier) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise AssertionError("not needed")

    distiller = build_distiller(teacher, [1, 3], hidden_weight=0.0, gold_weight=0.0, gold_loss=fail)
    distiller(**DistillCollator(0, 32, nested=True)([ANNOTATED]))
    assert distiller.take_parts().keys() == {"tags", "borders", "nested"}
