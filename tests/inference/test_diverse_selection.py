"""Selection of diverse texts, against cases computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from musamma.data.errors import InputError
from musamma.inference import diverse_selection
from musamma.inference.diverse_selection import Choice, select_diverse

#: Three directions that are at 120 degrees to each other, so that their mean is zero.
A, B, C = np.array([[1.0, 0.0], [-0.5, 0.75**0.5], [-0.5, -(0.75**0.5)]])


def chosen(scores: list[float], vectors: list[np.ndarray] | None, count: int, **options) -> list[int]:
    rows = None if vectors is None else np.array(vectors, dtype=np.float16)
    return [choice.index for choice in select_diverse(np.array(scores), rows, count, **options)]


def test_without_vectors_or_diversity_the_highest_scores_come_first():
    scores = [0.1, 0.9, 0.5, 0.9]
    assert chosen(scores, None, 3) == [1, 3, 2]
    assert chosen(scores, [A, B, A, B], 3, diversity=0) == [1, 3, 2]
    assert select_diverse(np.array(scores), None, 1) == [Choice(1, 2 / 3)]


def test_only_the_order_of_scores_counts():
    vectors = [A, B, C, -A, -B, -C]
    scores = [0.3, 0.1, 0.5, 0.2, 0.6, 0.4]
    assert chosen(scores, vectors, 6) == chosen(list(np.exp(np.array(scores) * 9)), vectors, 6)


def test_rank_and_distance_are_weighed():
    # Ranks 1, 2/3, 1/3, 0. The first choice is the first text; then, with half the weight on the distance (1 - cosine) / 2:
    # the opposite of the first has 1/3 + 1/6, what is at 90 degrees 1/6 + 1/4 or 0 + 1/4.
    up = np.array([0.0, 1.0])
    east = np.array([1.0, 0.0])
    choices = select_diverse(np.array([4.0, 3.0, 2.0, 1.0]), np.array([up, east, -up, -east]), 4, diversity=0.5)
    assert [choice.index for choice in choices][:2] == [0, 2]
    assert choices[0].similarity is None
    assert choices[1].similarity == pytest.approx(-1.0)
    # With little weight on it, the ranks decide.
    assert chosen([4.0, 3.0, 2.0, 1.0], [up, east, -up, -east], 4, diversity=0.1) == [0, 1, 2, 3]


@pytest.mark.parametrize("diversity", [0.01, 0.3, 1.0])
def test_two_copies_are_never_both_before_distinct_texts(diversity):
    rng = np.random.default_rng(1)
    distinct = rng.normal(size=(40, 64))
    # The ten most uncertain texts are copies of each other, apart from the rounding of float16 and some noise.
    copies = distinct[:1] + rng.normal(size=(10, 64)) * 0.02
    vectors = np.concatenate([copies, distinct[1:]]).astype(np.float16)
    scores = np.concatenate([np.linspace(2, 3, 10), np.linspace(0, 1, 39)])
    choices = select_diverse(scores, vectors, 50, diversity=diversity)
    order = [choice.index for choice in choices]
    assert sorted(order) == list(range(49))
    assert sum(index < 10 for index in order[:40]) == 1
    assert [choice.is_near_copy for choice in choices] == [False] * 40 + [True] * 9
    if diversity < 1:
        assert order[0] == 9


def test_what_is_like_an_annotated_text_comes_last():
    scores = [0.9, 0.5, 0.1]
    assert chosen(scores, [A, B, C], 3) == [0, 1, 2]
    annotated = np.array([A * 2])
    choices = select_diverse(np.array(scores), np.array([A, B, C]), 3, annotated=annotated)
    assert [choice.index for choice in choices] == [1, 2, 0]
    assert choices[2].is_near_copy
    assert choices[0].similarity == pytest.approx(-0.5)
    for several in ([A, B * 3], [B * 3, A]):
        choices = select_diverse(np.array(scores), np.array([A, B, C]), 3, annotated=np.array(several))
        assert [(choice.index, choice.is_near_copy) for choice in choices] == [(2, False), (0, True), (1, True)]


def test_equal_texts_are_taken_in_the_order_of_the_pool():
    assert chosen([1.0, 1.0, 1.0], [A, B, C], 3) == [0, 1, 2]
    assert chosen([1.0] * 4, [A] * 4, 4) == [0, 1, 2, 3]


@pytest.mark.parametrize("count", [1, 5])
def test_pools_smaller_than_the_count_and_empty_ones(count):
    assert chosen([0.5], [A], count) == [0]
    assert chosen([], None, count) == []


def test_blocks_do_not_change_the_choice(monkeypatch):
    rng = np.random.default_rng(2)
    vectors, scores = rng.normal(size=(50, 8)).astype(np.float16), rng.random(50)
    annotated = rng.normal(size=(3, 8))
    whole = select_diverse(scores, vectors, 20, annotated=annotated)
    monkeypatch.setattr(diverse_selection, "_BLOCK", 7)
    again = select_diverse(scores, vectors, 20, annotated=annotated)
    assert [choice.index for choice in again] == [choice.index for choice in whole]


@pytest.mark.parametrize("diversity", [-0.1, 1.5, float("nan")])
def test_other_weights_are_refused(diversity):
    with pytest.raises(InputError, match="expected a number from 0 to 1"):
        select_diverse(np.ones(2), None, 1, diversity=diversity)
