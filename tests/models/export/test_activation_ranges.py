"""Ranges of inputs, and the integers that cover them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import BertConfig, BertForTokenClassification

from musamma.models.classifier import TokenClassifier
from musamma.models.export.activation_ranges import LEVELS, LayerInputs, choose_quantization, measure_inputs

SIZES = st.tuples(st.integers(1, 3), st.integers(2, 20), st.integers(1, 12))


def inputs_of(windows: list[np.ndarray]) -> LayerInputs:
    """What `measure_inputs` returns for these inputs of one layer, each (pieces, channels), all rows kept."""
    return LayerInputs(
        np.stack([window.min(axis=0) for window in windows]),
        np.stack([window.max(axis=0) for window in windows]),
        np.concatenate(windows),
    )


def draw_windows(seed: int, windows: int, pieces: int, channels: int) -> list[np.ndarray]:
    """Inputs whose channels differ in size and lie far from zero."""
    generator = np.random.default_rng(seed)
    size, middle = 10.0 ** generator.uniform(-2, 2, channels), generator.normal(0, 20, channels)
    return [(middle + size * generator.normal(size=(pieces, channels))).astype(np.float32) for _ in range(windows)]


@given(seed=st.integers(0, 2**32 - 1), sizes=SIZES, smoothing=st.floats(0, 1), shifted=st.booleans())
@settings(deadline=None)
def test_inputs_inside_the_range_lose_half_a_step_at_most(seed, sizes, smoothing, shifted):
    windows = draw_windows(seed, *sizes)
    found = choose_quantization(inputs_of(windows), smoothing=smoothing, shifted=shifted)
    assert 0 <= found.zero < LEVELS
    assert found.step > 0
    assert np.all(found.scale > 0)
    rows = np.concatenate(windows)
    scaled = (rows - found.shift) / found.scale
    low, high = found.ends
    assert high - low == pytest.approx((LEVELS - 1) * found.step)
    rounded = found.round(rows)
    integers = rounded / found.step
    np.testing.assert_allclose(integers, np.round(integers), atol=1e-3)
    inside = (scaled >= low) & (scaled <= high)
    assert np.all(np.abs(rounded - scaled)[inside] <= 0.501 * found.step)
    assert np.all((rounded >= low - 1e-6 * abs(low)) & (rounded <= high + 1e-6 * abs(high)))
    if len(windows) == 1:  # the mean over windows is that window's range
        assert np.all(np.abs(rounded - scaled) <= 1.01 * found.step)


@given(seed=st.integers(0, 2**32 - 1), sizes=SIZES)
@settings(deadline=None)
def test_full_smoothing_gives_all_channels_the_same_range_around_zero(seed, sizes):
    (window,) = draw_windows(seed, 1, *sizes[1:])
    inputs = inputs_of([window])
    found = choose_quantization(inputs, smoothing=1.0, shifted=True)
    reach = (inputs.greatest[0] - inputs.lowest[0]) / 2
    # Far from zero, the borders of a narrow range are not known to 1% in float32.
    resolution = np.spacing(np.maximum(np.abs(inputs.greatest[0]), np.abs(inputs.lowest[0])))
    wide = (reach >= 2e-3 * reach.max()) & (reach >= 200 * resolution)
    np.testing.assert_allclose(((inputs.greatest[0] - found.shift) / found.scale)[wide], reach.max(), rtol=1e-2)
    np.testing.assert_allclose(((inputs.lowest[0] - found.shift) / found.scale)[wide], -reach.max(), rtol=1e-2)
    assert found.zero in (127, 128)


def test_without_smoothing_all_channels_have_the_same_scale() -> None:
    inputs = inputs_of(draw_windows(3, 2, 9, 5))
    found = choose_quantization(inputs, smoothing=0.0, shifted=False)
    assert found.scale.tolist() == [1.0] * 5
    assert found.shift.tolist() == [0.0] * 5


def test_scales_follow_the_divisors_of_the_weights() -> None:
    inputs = inputs_of([np.array([[-1.0, 0.0], [8.0, 2.0]], dtype=np.float32)])
    found = choose_quantization(inputs, smoothing=0.5, shifted=False, divisors=np.array([4, 1]))
    # Both channels reach 2 after the first was divided by 4.
    np.testing.assert_allclose(found.scale, [4.0, 1.0])
    np.testing.assert_allclose(found.round(inputs.rows), [[-0.25, 0.0], [2.0, 2.0]], atol=found.step)


def test_the_range_is_the_mean_over_windows() -> None:
    windows = [np.array([[0.0], [value]], dtype=np.float32) for value in (1.0, 3.0)]
    found = choose_quantization(inputs_of(windows), smoothing=0.8, shifted=False)
    assert found.ends == pytest.approx((0.0, 2.0))
    assert found.round(np.array([[3.0]], dtype=np.float32))[0, 0] == pytest.approx(2.0)


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_constant_inputs_are_no_fault(value):
    inputs = inputs_of([np.full((4, 3), value, dtype=np.float32)])
    for shifted in (False, True):
        found = choose_quantization(inputs, smoothing=0.8, shifted=shifted)
        restored = found.round(inputs.rows) * found.scale + found.shift
        np.testing.assert_allclose(restored, value, rtol=1e-2)


def test_inputs_are_measured_by_window() -> None:
    torch.manual_seed(4)
    config = BertConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2)
    classifier = TokenClassifier(BertForTokenClassification(config)).eval()
    path = "backbone.bert.encoder.layer.1.intermediate.dense"
    samples = [
        {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        for ids in (np.arange(2, 40)[None], np.array([[3, 5, 7]]))
    ]
    paths = [path, "backbone.bert.encoder.layer.0.output.dense"]
    measured = measure_inputs(classifier, paths, samples)
    assert [inputs.lowest.shape for inputs in measured.values()] == [(2, 32), (2, 16)]
    states = []
    for sample in samples:
        with torch.no_grad():
            output = classifier.backbone.bert(
                **{name: torch.from_numpy(array) for name, array in sample.items()}, output_hidden_states=True
            )
            layer = classifier.backbone.bert.encoder.layer[1].attention
            states.append(layer(output.hidden_states[1])[0][0].numpy())
    inputs = measured[path]
    np.testing.assert_allclose(inputs.lowest, [window.min(axis=0) for window in states], atol=1e-5)
    np.testing.assert_allclose(inputs.greatest, [window.max(axis=0) for window in states], atol=1e-5)
    # Some pieces of the long window, all of the short one; no piece twice.
    rows = inputs.rows
    assert 3 < len(rows) < 41
    assert len(np.unique(rows, axis=0)) == len(rows)
    nearest = np.abs(rows[:, None] - np.concatenate(states)[None]).max(axis=2).min(axis=1)
    assert nearest.max() < 1e-5
    np.testing.assert_array_equal(measure_inputs(classifier, paths, samples)[path].rows, rows)
