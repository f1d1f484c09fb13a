"""Score thresholds: hand-computed cases and comparison with an exhaustive search."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from musamma.data.errors import InputError
from musamma.evaluation.thresholds import Threshold, find_thresholds, wilson_lower_bound

# Coarse scores, so that ties occur.
SCORES = st.one_of(st.integers(0, 20).map(lambda n: n / 20), st.floats(0, 1))


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
