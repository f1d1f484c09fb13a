"""Reliability: hand-computed cases and comparison with scikit-learn."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from musamma.data.errors import InputError
from musamma.evaluation.reliability import measure_reliability

# Coarse scores, so that ties and bin edges occur.
SCORES = st.one_of(st.integers(0, 20).map(lambda n: n / 20), st.floats(0, 1))
NAMES = st.lists(st.tuples(SCORES, st.booleans()), min_size=1, max_size=80)


def test_a_hand_computed_case():
    result = measure_reliability([0.95, 0.91, 0.99, 0.35, 0.31], [True, True, False, True, False])
    # (0.9, 1.0]: three names, mean 0.95, two correct; (0.3, 0.4]: two names, mean 0.33, one correct.
    assert result.ece == pytest.approx(3 / 5 * (0.95 - 2 / 3) + 2 / 5 * (0.5 - 0.33))
    assert result.brier == pytest.approx((0.05**2 + 0.09**2 + 0.99**2 + 0.65**2 + 0.31**2) / 5)
    assert [part.count for part in result.bins] == [0, 0, 0, 2, 0, 0, 0, 0, 0, 3]
    assert result.bins[9].gap == pytest.approx(0.95 - 2 / 3)
    assert (result.bins[3].low, result.bins[3].high) == pytest.approx((0.3, 0.4))
    assert (result.count, result.confidence, result.precision) == (5, pytest.approx(0.702), 0.6)
    assert json.loads(json.dumps(result.to_dict()))["bins"][3]["precision"] == 0.5


@settings(deadline=None)
@given(NAMES, st.integers(1, 15))
def test_the_bins_equal_scikit_learns(names, bins):
    scores, correct = map(np.array, zip(*names, strict=True))
    result = measure_reliability(scores, correct, bins=bins)
    precision, mean = calibration_curve(correct, scores, n_bins=bins)
    occupied = [part for part in result.bins if part.count]
    assert [part.precision for part in occupied] == pytest.approx(precision.tolist())
    assert [part.confidence for part in occupied] == pytest.approx(mean.tolist())
    assert sum(part.count for part in result.bins) == result.count == len(names)
    assert result.ece == pytest.approx(sum(p.count * abs(p.precision - p.confidence) for p in occupied) / len(names))
    if len(set(correct.tolist())) == 2:
        assert result.brier == pytest.approx(brier_score_loss(correct, scores))


@given(NAMES, st.randoms(use_true_random=False))
def test_the_order_of_the_names_does_not_matter(names, random):
    shuffled = list(names)
    random.shuffle(shuffled)
    one, other = (measure_reliability(*zip(*order, strict=True)) for order in (names, shuffled))
    assert (one.ece, one.ace, one.brier) == pytest.approx((other.ece, other.ace, other.brier))


def test_bins_of_equal_mass_separate_what_a_wide_bin_averages():
    scores = np.repeat([0.91, 0.93, 0.95, 0.99], 25)
    correct = np.repeat([1, 1, 1, 0], 25)
    result = measure_reliability(scores, correct, bins=4)
    assert result.ace == pytest.approx((0.09 + 0.07 + 0.05 + 0.99) / 4)
    assert result.ece == pytest.approx(0.945 - 0.75)
    # Equal scores stay in one bin, in which nine of ten names are correct.
    assert measure_reliability([0.9] * 100, [True] * 90 + [False] * 10).ace == pytest.approx(0.0)


def test_calibrated_scores_are_reliable_and_distorted_ones_are_not():
    random = np.random.default_rng(3)
    scores = random.beta(4, 1, size=20_000)
    correct = random.random(20_000) < scores
    assert measure_reliability(scores, correct).ece < 0.01
    assert measure_reliability(scores, correct).ace < 0.012
    assert measure_reliability(scores**0.3, correct).ece > 0.1


def test_no_names_give_zeros():
    result = measure_reliability([], [])
    assert (result.ece, result.ace, result.brier, result.count, len(result.bins)) == (0.0, 0.0, 0.0, 0, 10)


@pytest.mark.parametrize(
    ("scores", "correct", "message"),
    [
        ([0.5], [], "1 scores and 0 outcomes"),
        ([0.5, 1.5], [1, 0], "score 1.5; expected probabilities"),
        ([-3.25], [1], "score -3.25"),
        ([float("nan")], [1], "score nan"),
    ],
)
def test_scores_that_are_no_probabilities_raise_an_error(scores, correct, message):
    with pytest.raises(InputError, match=message):
        measure_reliability(scores, correct)


def test_zero_bins_raise_an_error():
    with pytest.raises(InputError, match="bins 0"):
        measure_reliability([0.5], [1], bins=0)
