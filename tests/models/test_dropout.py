"""Dropout on a CPU: its distribution, its gradients and its random numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from musamma.data.tags import TagSet
from musamma.models.checkpoint import build_classifier
from musamma.models.dropout import CpuDropout, drop_out, replace_dropout


@pytest.mark.parametrize("p", [0.05, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_elements_are_dropped_with_the_probability_and_the_others_scaled(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    count = 400_000
    dropped = drop_out(torch.full((count,), 3.0, dtype=dtype), p, training=True)
    assert dropped.dtype == dtype
    zeros = dropped.eq(0)
    # Five standard deviations of a binomial distribution.
    assert abs(zeros.double().mean().item() - p) < 5 * math.sqrt(p * (1 - p) / count) + 2**-17
    assert dropped[~zeros].unique().item() == pytest.approx(3 / (1 - p), rel=1e-2 if dtype == torch.bfloat16 else 1e-4)


def test_elements_are_dropped_independently_of_their_neighbours() -> None:
    """Four neighbours share a draw of 64 bits: all of their 16 combinations are as frequent as independence says."""
    torch.manual_seed(1)
    p, count = 0.3, 200_000
    kept = drop_out(torch.ones(count, 4), p, training=True).ne(0)
    combinations = (kept * torch.tensor([8, 4, 2, 1])).sum(dim=1).bincount(minlength=16)
    for number, found in enumerate(combinations.tolist()):
        ones = number.bit_count()
        share = (1 - p) ** ones * p ** (4 - ones)
        assert abs(found - share * count) < 5 * math.sqrt(share * (1 - share) * count)


def test_gradients_pass_where_elements_are_kept() -> None:
    torch.manual_seed(1)
    values = torch.randn(3, 5, 7, requires_grad=True)
    dropped = drop_out(values.transpose(0, 2), 0.4, training=True)
    dropped.backward(torch.full_like(dropped, 2.0))
    assert values.grad is not None
    torch.testing.assert_close(values.grad * values, 2.0 * dropped.transpose(0, 2))
    assert 0 < int(dropped.eq(0).sum()) < dropped.numel()


def test_masks_follow_the_seed_and_a_saved_state() -> None:
    ones = torch.ones(1001)
    torch.manual_seed(5)
    first, state = drop_out(ones, 0.5, training=True), torch.get_rng_state()
    second = drop_out(ones, 0.5, training=True)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(drop_out(ones, 0.5, training=True), first)
    torch.set_rng_state(state)
    assert torch.equal(drop_out(ones, 0.5, training=True), second)


@pytest.mark.parametrize("p", [0.0, 0.1, 1.0])
def test_nothing_is_drawn_where_nothing_is_left_to_chance(p: float) -> None:
    values, state = torch.ones(8), torch.get_rng_state()
    assert drop_out(values, p, training=False) is values
    if p == 0.0:
        assert drop_out(values, p, training=True) is values
    elif p == 1.0:
        assert not drop_out(values, p, training=True).any()
    else:
        assert CpuDropout(p).eval()(values) is values
    assert p == 1.0 or torch.equal(torch.get_rng_state(), state)


def test_other_devices_draw_as_pytorch_does() -> None:
    state = torch.get_rng_state()
    assert CpuDropout(0.5).train()(torch.ones(8, device="meta")).device.type == "meta"
    assert torch.equal(torch.get_rng_state(), state)


def test_the_modules_of_a_model_are_replaced_and_its_weights_stay(wordpiece_encoder: Path) -> None:
    class OwnDropout(nn.Dropout):
        pass

    classifier = build_classifier(
        str(wordpiece_encoder), TagSet.from_labels(["LOC"]), changes={"hidden_dropout_prob": 0.2}
    )
    own = OwnDropout(0.7)
    classifier.add_module("own", own)
    modes = {name: (m.p, m.training) for name, m in classifier.named_modules() if isinstance(m, nn.Dropout)}
    before = classifier.state_dict()
    replace_dropout(classifier)
    kinds = {name: type(m) for name, m in classifier.named_modules() if isinstance(m, nn.Dropout)}
    assert kinds.pop("own") is OwnDropout
    assert set(kinds.values()) == {CpuDropout}
    assert modes == {n: (m.p, m.training) for n, m in classifier.named_modules() if isinstance(m, nn.Dropout)}
    assert {p for p, _ in modes.values()} == {0.1, 0.2, 0.7}
    assert list(classifier.state_dict()) == list(before)
