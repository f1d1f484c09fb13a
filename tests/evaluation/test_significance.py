"""Intervals and p-values: comparison with scipy, hand-computed cases, and general properties."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm, permutation_test, t
from scipy.stats import bootstrap as scipy_bootstrap

from musamma.data.errors import InputError
from musamma.evaluation import Counts, ModeScores
from musamma.evaluation.counts import CountTable
from musamma.evaluation.significance import (
    Comparison,
    Interval,
    adjust_holm,
    adjust_label_p_values,
    bootstrap_intervals,
    compare_systems,
    resampling_warning,
)

LABELS = ("GPE", "PER")
ROWS = ("strict", "strict/GPE", "strict/PER")
UNKNOWN = Interval(0.0, 1.0)


def table(counts: np.ndarray, *, rows: tuple[str, ...] = ROWS) -> CountTable:
    return CountTable(tuple(f"{number:04}" for number in range(len(counts))), rows, counts)


def synthetic_table(documents: int, *, seed: int, quality: float = 0.8) -> CountTable:
    """Return counts of two labels and their sum; documents differ in length and in difficulty."""
    # Two systems with the same seed have the same gold, which is drawn first.
    rng = np.random.default_rng(seed)
    gold = 1 + rng.poisson(5.0, (documents, 2))
    ease = rng.uniform(quality - 0.2, min(1.0, quality + 0.2), (documents, 1))
    rng = np.random.default_rng([seed, round(1000 * quality)])
    found = rng.binomial(gold, ease)
    labels = np.stack([found, found + rng.poisson(0.8, gold.shape), gold], axis=-1)
    return table(np.concatenate([labels.sum(axis=1, keepdims=True), labels], axis=1))


def scores(totals: np.ndarray) -> ModeScores:
    """Compute scores by another way than the arrays of the bootstrap."""
    return ModeScores(
        {
            label: Counts(int(found), int(predicted - found), int(gold - found))
            for label, (found, predicted, gold) in zip(LABELS, totals, strict=True)
            if predicted or gold
        }
    )


def scipy_interval(data: CountTable, figure, *, level: float) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    k = len(data.documents)
    tail = norm.cdf(t.ppf((1 - level) / 2, k - 1) * np.sqrt(k / (k - 1)))
    found = scipy_bootstrap(
        (np.arange(k),),
        lambda drawn: figure(scores(data.counts[drawn.astype(int), 1:].sum(axis=0))),
        n_resamples=2000,
        confidence_level=1 - 2 * tail,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(7),
    )
    return found.confidence_interval


@pytest.mark.parametrize(
    ("row", "name", "figure"),
    [
        ("strict", "precision", lambda found: found.micro.precision),
        ("strict/GPE", "recall", lambda found: found.per_label["GPE"].recall),
        ("strict", "f1", lambda found: found.micro.f1),
        ("strict/macro", "f1", lambda found: found.macro.f1),
    ],
)
def test_intervals_equal_scipys_percentiles(row, name, figure) -> None:
    data = synthetic_table(25, seed=3)
    low, high = scipy_interval(data, figure, level=0.9)
    found = getattr(bootstrap_intervals(data, level=0.9, seed=5)[row], name)
    # Two ends from 2,000 resamples: the Monte-Carlo error is below a twentieth of the width.
    width = high - low
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.07 * width)


def test_hand_computed_intervals_of_two_documents() -> None:
    """One document has F1 1, the other 0.5: half of the draws have both, a quarter one of them twice, a quarter the other."""
    counts = np.array([[[4, 4, 4]], [[2, 4, 4]]])
    found = bootstrap_intervals(table(counts, rows=("strict",)), level=0.3, resamples=20_000)["strict"]
    # One degree of freedom: the lower tail is that of t = tan(0.15 pi) = 0.5095, times sqrt(2): 0.2356, less than a quarter.
    assert found.f1 == Interval(0.5, 1.0)
    assert bootstrap_intervals(table(counts, rows=("strict",)), level=0.2, resamples=20_000)["strict"].f1 == Interval(
        0.75, 0.75
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 12), st.integers(40, 100), st.integers(0, 1000))
def test_intervals_are_within_bounds_and_depend_only_on_the_counts(documents, resamples, seed) -> None:
    rng = np.random.default_rng(seed)
    gold, wrong = rng.poisson(0.4, (2, documents, 2))
    found = rng.binomial(gold, 0.7)
    labels = np.stack([found, found + wrong, gold], axis=-1)
    data = table(np.concatenate([labels.sum(axis=1, keepdims=True), labels], axis=1))
    intervals = bootstrap_intervals(data, resamples=resamples, seed=seed)
    assert list(intervals) == [*ROWS, "strict/macro"]
    for row in intervals.values():
        for interval in (row.precision, row.recall, row.f1):
            assert 0 <= interval.low <= interval.high <= 1
    turned = data.in_order_of(data.documents[::-1])
    assert bootstrap_intervals(turned, resamples=resamples, seed=seed) == intervals
    joined = data.join(CountTable(data.documents, ("slice:length=1",), np.ones((documents, 1, 3))))
    more = bootstrap_intervals(joined, resamples=resamples, seed=seed)
    assert {row: more[row] for row in intervals} == intervals


def test_the_batch_size_does_not_change_the_intervals(monkeypatch) -> None:
    data = synthetic_table(30, seed=1)
    at_once = bootstrap_intervals(data, resamples=500)
    monkeypatch.setattr("musamma.evaluation.significance._DRAWS_PER_BATCH", 30 * 64)
    assert bootstrap_intervals(data, resamples=500) == at_once
    assert bootstrap_intervals(data, resamples=500, seed=2) != at_once


def test_one_document_or_none_has_the_widest_interval() -> None:
    one = bootstrap_intervals(table(np.array([[[3, 4, 5]]]), rows=("strict",)), resamples=50)
    none = bootstrap_intervals(table(np.zeros((0, 1, 3)), rows=("strict",)), resamples=50)
    empty = bootstrap_intervals(table(np.zeros((40, 1, 3)), rows=("strict",)), resamples=50)
    for found in (one, none, empty):
        assert list(found) == ["strict", "strict/macro"]
        assert {found["strict"].precision, found["strict"].recall, found["strict"].f1} == {UNKNOWN}
    # A label in one document of forty.
    counts = np.tile([[3.0, 3, 4]], (40, 2, 1))
    counts[1:, 1] = 0
    assert bootstrap_intervals(table(counts, rows=("strict", "strict/PER")), resamples=50)["strict/PER"].f1 == UNKNOWN


def test_all_correct_or_all_wrong_has_the_bound_of_clopper_and_pearson() -> None:
    counts = np.zeros((20, 1, 3))
    counts[:, 0] = 2, 2, 2
    right = bootstrap_intervals(table(counts, rows=("strict",)), resamples=100)["strict"]
    low = binomtest(40, 40).proportion_ci(0.95, method="exact").low
    assert right.precision == right.recall == right.f1 == Interval(pytest.approx(low), 1.0)
    counts[:, 0] = 0, 1, 2
    wrong = bootstrap_intervals(table(counts, rows=("strict",)), resamples=100)["strict"]
    assert wrong.precision == Interval(0.0, pytest.approx(binomtest(0, 20).proportion_ci(0.95, method="exact").high))
    assert wrong.recall == Interval(0.0, pytest.approx(binomtest(0, 40).proportion_ci(0.95, method="exact").high))


def test_the_interval_of_the_mean_combines_those_of_the_labels() -> None:
    """All correct, 40 names and 20: the half-widths of the labels combine as the root of their squares."""
    right = table(np.tile([[3.0, 3, 3], [2, 2, 2], [1, 1, 1]], (20, 1, 1)))
    missing = [1 - binomtest(names, names).proportion_ci(0.95, method="exact").low for names in (40, 20)]
    found = bootstrap_intervals(right, resamples=100)["strict/macro"].f1
    assert found == Interval(pytest.approx(1 - np.hypot(*missing) / 2), 1.0)
    # One of two labels occurs in one document only: half of the mean is unknown.
    rare = right.counts.copy()
    rare[1:, 0], rare[1:, 2] = rare[1:, 1], 0
    interval = bootstrap_intervals(table(rare), resamples=100)["strict/macro"].f1
    assert interval.low < 0.5
    assert interval.high == 1.0
    difference = compare_systems(table(rare), table(rare), rows=["strict/macro"], resamples=100)[0]
    assert difference.interval == Interval(-0.5, 0.5)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_p_values_equal_those_of_the_exact_test(seed) -> None:
    """scipy swaps every subset of nine documents between the systems."""
    first, second = synthetic_table(9, seed=seed, quality=0.7), synthetic_table(9, seed=seed, quality=0.8)
    gold = first.counts[:, 0, 2]

    def difference(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        # scipy swaps single numbers, so a document's correct and predicted names are packed into one.
        def f1(packed: np.ndarray) -> np.ndarray:
            return 2 * (packed // 1000).sum(axis) / ((packed % 1000).sum(axis) + gold.sum())

        return f1(other) - f1(one)

    packed = [data.counts[:, 0, 0] * 1000 + data.counts[:, 0, 1] for data in (first, second)]
    exact = permutation_test(packed, difference, permutation_type="samples", vectorized=True, n_resamples=np.inf)
    found = compare_systems(first, second, rows=["strict"], resamples=20_000)[0]
    assert found.difference == pytest.approx(exact.statistic)
    assert found.p_value == pytest.approx(exact.pvalue, abs=4 * np.sqrt(exact.pvalue / 20_000) + 1e-4)


def test_a_hand_computed_comparison() -> None:
    """One system is better in every document: of the 2^8 ways to swap, only all and none are as extreme."""
    counts = np.tile([[2.0, 4, 4]], (8, 1, 1))
    better = counts.copy()
    better[:, 0, 0] = 3
    found = compare_systems(table(counts, rows=("strict",)), table(better, rows=("strict",)), resamples=50_000)[0]
    assert (found.first, found.second, found.difference) == (0.5, 0.75, 0.25)
    assert found.interval == Interval(0.25, 0.25)
    assert found.p_value == pytest.approx(2 / 2**8, rel=0.3)
    # With fifty documents no swap is as extreme, so p is one in 1,000.
    many = (table(np.tile(side, (50, 1, 1)), rows=("strict",)) for side in (counts[:1], better[:1]))
    assert compare_systems(*many, resamples=999)[0].p_value == 1 / 1000


def test_a_single_differing_document_is_not_significant() -> None:
    one, other = synthetic_table(30, seed=4), synthetic_table(30, seed=4)
    other.counts[0, :2, 0] -= 1
    for comparison in compare_systems(one, other, rows=["strict", "strict/GPE"], resamples=200):
        assert comparison.difference < 0
        assert comparison.p_value == 1.0
        assert comparison.interval.high == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 9))
def test_exchanging_the_systems_changes_the_sign(seed, documents) -> None:
    first, second = (
        synthetic_table(documents, seed=seed, quality=0.7),
        synthetic_table(documents, seed=seed, quality=0.75),
    )
    there, back = compare_systems(first, second, resamples=100), compare_systems(second, first, resamples=100)
    assert [comparison.row for comparison in there] == [*ROWS, "strict/macro"]
    for one, other in zip(there, back, strict=True):
        assert one.difference == -other.difference
        assert one.p_value == other.p_value
        assert 0 < one.p_value <= 1
        assert -1 <= one.interval.low <= one.interval.high <= 1
        assert (one.interval.low, one.interval.high) == pytest.approx((-other.interval.high, -other.interval.low))
    same = compare_systems(first, first, resamples=50)
    assert {comparison.p_value for comparison in same} == {1.0}
    if documents > 1:
        assert {comparison.interval for comparison in same} == {Interval(0.0, 0.0)}


def test_the_interval_of_the_difference_equals_scipys() -> None:
    first, second = synthetic_table(40, seed=8, quality=0.7), synthetic_table(40, seed=8, quality=0.8)
    tail = norm.cdf(t.ppf(0.05, 39) * np.sqrt(40 / 39))
    expected = scipy_bootstrap(
        (np.arange(40),),
        lambda drawn: (
            scores(second.counts[drawn.astype(int), 1:].sum(axis=0)).macro.f1
            - scores(first.counts[drawn.astype(int), 1:].sum(axis=0)).macro.f1
        ),
        n_resamples=2000,
        confidence_level=1 - 2 * tail,
        method="percentile",
        vectorized=False,
        rng=np.random.default_rng(7),
    ).confidence_interval
    found = compare_systems(first, second, rows=["strict/macro"], level=0.9)[0].interval
    assert (found.low, found.high) == pytest.approx(tuple(expected), abs=0.07 * (expected.high - expected.low))


def test_false_alarms_between_equal_systems_match_the_level() -> None:
    alarms = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        gold = 1 + rng.poisson(6.0, 30)
        ease = rng.uniform(0.5, 1.0, 30)
        tables = []
        for _ in range(2):
            found = rng.binomial(gold, ease)
            tables.append(
                table(np.stack([found, found + rng.poisson(1.0, 30), gold], axis=-1)[:, None], rows=("strict",))
            )
        alarms += compare_systems(*tables, rows=["strict"], resamples=199)[0].p_value <= 0.05
    # 200 tests at 5 per cent: fewer than 3 or more than 19 alarms have a probability below 1 per cent.
    assert 3 <= alarms <= 19
    assert sum(comb(200, k) * 0.05**k * 0.95 ** (200 - k) for k in range(3, 20)) > 0.99


def test_hand_computed_holm_adjustment() -> None:
    assert adjust_holm([]) == []
    assert adjust_holm([0.2]) == [0.2]
    # 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, each at least the previous one.
    assert adjust_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust_holm([0.9, 0.8]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_equals_the_closed_test_of_bonferroni(p_values) -> None:
    """By definition: a hypothesis is rejected if Bonferroni rejects every set of hypotheses that contains it."""
    for index, adjusted in enumerate(adjust_holm(p_values)):
        sets = [
            [p for other, p in enumerate(p_values) if other == index or members >> other & 1]
            for members in range(2 ** len(p_values))
        ]
        assert adjusted == pytest.approx(max(min(1.0, len(members) * min(members)) for members in sets))


def test_labels_are_adjusted_within_their_mode() -> None:
    p_values = {"strict": 0.01, "strict/GPE": 0.02, "strict/PER": 0.3, "strict/macro": 0.04, "overlap/PER": 0.2}
    comparisons = [Comparison(row, 0.5, 0.5, 0.0, Interval(0.0, 0.0), p) for row, p in p_values.items()]
    assert [(one.mode, one.label) for one in comparisons] == [
        ("strict", None), ("strict", "GPE"), ("strict", "PER"), ("strict", None), ("overlap", "PER"),
    ]  # fmt: skip
    assert adjust_label_p_values(comparisons) == {"strict/GPE": 0.04, "strict/PER": 0.3, "overlap/PER": 0.2}


def test_a_difference_is_significant_below_the_level() -> None:
    below, equal = (Comparison("strict", 0.5, 0.6, 0.1, Interval(0.0, 0.2), p) for p in (0.0499, 0.05))
    assert below.is_significant(0.95)
    assert not equal.is_significant(0.95)


def test_few_documents_cause_a_warning() -> None:
    assert resampling_warning(synthetic_table(10, seed=1)) is None
    assert resampling_warning(synthetic_table(1, seed=1)) == (
        "1 document with names: nothing is known of how documents differ; give the documents of the corpus one by one"
    )
    assert "no document with names" in str(resampling_warning(table(np.zeros((50, 3, 3)))))
    few = np.zeros((50, 3, 3))
    few[:3] = 1
    assert resampling_warning(table(few)) == (
        "3 documents with names: intervals over so few are too narrow, and no p-value can fall below 0.25"
    )


def test_sentences_as_documents_cause_a_warning() -> None:
    assert str(resampling_warning(synthetic_table(10, seed=1), sentences=1)).startswith(
        "every sentence is a document: sentences of one article"
    )
    assert str(resampling_warning(synthetic_table(10, seed=1), sentences=5)).startswith(
        "every 5 sentences are a document"
    )
    assert str(resampling_warning(synthetic_table(9, seed=1), sentences=1)).startswith("9 documents with names")


def test_invalid_arguments_raise_an_error() -> None:
    data = synthetic_table(10, seed=1)
    for resamples, level, minimum in ((0, 0.95, 40), (39, 0.95, 40), (199, 0.99, 200)):
        with pytest.raises(InputError, match=f"{resamples} resamples; expected {minimum} or more"):
            bootstrap_intervals(data, resamples=resamples, level=level)
    with pytest.raises(InputError, match=r"level 95"):
        compare_systems(data, data, level=95)
    with pytest.raises(InputError, match=r"row 'strict/LOC'; expected one of strict, strict/GPE"):
        compare_systems(data, data, rows=["strict/LOC"])
