"""Measures of uncertainty, computed by hand for two words and three tags."""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.inference.uncertainty import (
    MEASURES,
    choose_measure,
    describe_words,
    entropy,
    measure_words,
    tag_probabilities,
)

TAGS = TagSet(("LOC",))
TEXT = "وصل لبغداد"
WORDS = np.array([[0, 3], [4, 10]])
#: O, B-LOC, I-LOC of two words.
ONE = np.array([[[0.5, 0.25, 0.25], [0.2, 0.7, 0.1]]])


def values(probabilities: np.ndarray, measure: str, *spans: Span) -> list[float]:
    document = Document("d", TEXT, spans)
    return measure_words(probabilities, document, WORDS, TAGS, measure=measure).tolist()


@pytest.mark.parametrize(
    ("measure", "expected"),
    [
        ("confidence", [log(2), -log(0.7)]),
        ("margin", [0.75, 0.5]),
        ("entropy", [1.5 * log(2), -0.2 * log(0.2) - 0.7 * log(0.7) - 0.1 * log(0.1)]),
    ],
)
def test_measures_of_one_model(measure, expected):
    assert values(ONE, measure) == pytest.approx(expected)


def test_confidence_is_that_of_a_valid_sequence():
    # Tag by tag, the best would be O, I-LOC, which is no name.
    rows = np.array([[[0.6, 0.3, 0.1], [0.3, 0.1, 0.6]]])
    # O, O has probability 0.18 as B-LOC, I-LOC has; the latter is 0.3 * 0.6, the former 0.6 * 0.3: make it unequal.
    rows[0, 1] = [0.25, 0.1, 0.65]
    assert values(rows, "confidence") == pytest.approx([-log(0.3), -log(0.65)])


def test_a_name_counts_at_the_word_in_which_it_starts():
    assert values(ONE, "names", Span(5, 10, "LOC", 0.7)) == pytest.approx([0.0, 0.3])
    assert values(ONE, "names") == [0.0, 0.0]


def test_disagreement_is_zero_for_equal_models_and_one_bit_for_opposite_ones():
    assert values(np.concatenate([ONE, ONE]), "disagreement") == pytest.approx([0.0, 0.0])
    sure = np.array([[[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]], [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]])
    assert values(sure, "disagreement") == pytest.approx([log(2), 0.0])
    # Two models that are both unsure in the same way do not disagree, although their entropy is high.
    assert values(np.concatenate([ONE, ONE]), "entropy")[0] > 1


def test_several_models_count_with_their_mean():
    other = np.array([[[0.1, 0.8, 0.1], [0.2, 0.7, 0.1]]])
    assert values(np.concatenate([ONE, other]), "margin") == pytest.approx(values((ONE + other) / 2, "margin"))


def test_certain_words_have_no_uncertainty():
    sure = np.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    for measure in MEASURES:
        assert values(sure, measure) == pytest.approx([0.0, 0.0]), measure


def test_a_text_without_words_has_no_values():
    document, none = Document("d", ""), np.zeros((0, 2), dtype=np.int64)
    for measure in MEASURES:
        assert measure_words(np.zeros((1, 0, 3)), document, none, TAGS, measure=measure).shape == (0,)
    assert describe_words("", none, np.zeros(0), np.zeros((0, 3)), TAGS.tags) == ""


def test_probabilities_follow_the_temperature():
    logits = np.array([[0.0, 2.0, 2.0]], dtype=np.float32)
    assert tag_probabilities(logits, temperature=2.0)[0] == pytest.approx(np.exp([0, 1, 1]) / (1 + 2 * np.e))
    assert entropy(np.full(4, 0.25)) == pytest.approx(log(4))


def test_the_least_certain_words_are_named_with_their_tags():
    described = describe_words(TEXT, WORDS, np.array([0.1, 0.4]), ONE[0], TAGS.tags)
    assert described == "لبغداد (B-LOC 0.70, O 0.20), وصل (O 0.50, B-LOC 0.25)"
    assert describe_words(TEXT, WORDS, np.array([0.0, 0.4]), ONE[0], TAGS.tags) == "لبغداد (B-LOC 0.70, O 0.20)"


def test_the_measure_depends_on_the_number_of_models():
    assert [choose_measure(None, count) for count in (1, 2)] == ["confidence", "disagreement"]
    assert choose_measure("entropy", 3) == "entropy"
    with pytest.raises(InputError, match="with one model; expected two or more"):
        choose_measure("disagreement", 1)
    with pytest.raises(InputError, match="measure 'variance'; expected one of confidence, margin"):
        choose_measure("variance", 1)
