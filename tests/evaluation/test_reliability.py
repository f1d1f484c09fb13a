"""Reliability: hand-computed cases and comparison with scikit-learn. Thresholds: comparison with an exhaustive search."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from musamma.data.errors import InputError
from musamma.evaluation.reliability import Threshold, find_thresholds, measure_reliability, wilson_lower_bound

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


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (9, 10), (30, 30), (88, 100)])
@pytest.mark.parametrize("level", [0.6826894921370859, 0.95])
def test_wilsons_bound_equals_scipys(successes, trials, level):
    z = {0.6826894921370859: 1.0, 0.95: 1.959963984540054}[level]
    expected = binomtest(successes, trials).proportion_ci(level, method="wilson").low
    assert wilson_lower_bound(successes, trials, z=z) == pytest.approx(expected, abs=1e-12)


def test_a_hand_computed_threshold():
    scores = [0.99] * 40 + [0.8] * 10 + [0.5] * 10
    correct = [True] * 40 + [True] * 6 + [False] * 4 + [False] * 10
    result = find_thresholds(scores, correct, ["PER"] * 60, precision=0.9, support={"PER": 50, "LOC": 7})
    # 46 of 50 are 0.92, but Wilson's lower bound at one standard error is 0.874, below 0.9.
    assert result["PER"] == Threshold(0.99, 1.0, 0.8, 50)
    assert result["LOC"] == Threshold(None, 0.0, 0.0, 7)
    lower = find_thresholds(scores, correct, ["PER"] * 60, precision=0.87, support={"PER": 50})
    assert lower["PER"] == Threshold(0.8, 0.92, 46 / 50, 50)


def test_few_names_give_no_threshold():
    few = find_thresholds([0.9] * 8, [True] * 8, ["ORG"] * 8, precision=0.8, support={"ORG": 9})
    assert few == {"ORG": Threshold(None, 1.0, 8 / 9, 9)}
    enough = find_thresholds([0.9] * 10, [True] * 10, ["ORG"] * 10, precision=0.8, support={"ORG": 10})
    assert enough == {"ORG": Threshold(0.9, 1.0, 1.0, 10)}


@settings(deadline=None)
@given(
    st.lists(st.tuples(SCORES, st.sampled_from([True, True, True, False]), st.sampled_from("AB")), max_size=120),
    st.sampled_from([0.5, 0.7, 0.8, 0.9]),
)
def test_a_threshold_is_the_lowest_score_that_reaches_the_precision(names, target):
    scores, correct, labels = [list(part) for part in zip(*names, strict=True)] or ([], [], [])
    result = find_thresholds(scores, correct, labels, precision=target, support={"A": 500, "B": 500}, min_names=5)
    for label, threshold in result.items():
        of_label = [(score, outcome) for score, outcome, other in names if other == label]
        enough = []
        for value in {score for score, _ in of_label}:
            retained = [outcome for score, outcome in of_label if score >= value]
            low = binomtest(sum(retained), len(retained)).proportion_ci(0.6826894921370859, method="wilson").low
            if len(retained) >= 5 and low >= target:
                enough.append(value)
        assert threshold.value == (min(enough) if enough else None)
        retained = [outcome for score, outcome in of_label if score >= (threshold.value or 0.0)]
        assert threshold.recall == pytest.approx(sum(retained) / 500)
        assert threshold.precision == pytest.approx(sum(retained) / len(retained) if retained else 0.0)


@pytest.mark.parametrize("precision", [0.0, 1.0, -1, 1.2, float("nan")])
def test_a_precision_outside_its_range_raises_an_error(precision):
    with pytest.raises(InputError, match="expected a share between 0 and 1"):
        find_thresholds([0.5], [True], ["A"], precision=precision, support={"A": 1})


def test_every_name_needs_a_label():
    with pytest.raises(InputError, match="2 scores and 1 labels"):
        find_thresholds([0.5, 0.6], [True, True], ["A"], precision=0.9, support={})
