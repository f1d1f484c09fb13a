"""Coarse and partial annotation: the tags it allows, and what of a prediction it can judge."""

from __future__ import annotations

import numpy as np
import pytest

from musamma.data.allowed_labels import AllowedLabels
from musamma.data.document import Document, Span
from musamma.data.tags import TagSet
from musamma.evaluation import score_documents
from tests.support import span, surfaces

MODEL = TagSet(("EVENT", "FAC", "GPE", "LOC", "PER"))
COARSE = AllowedLabels({"LOC": ("GPE", "LOC", "FAC"), "MISC": ("EVENT", "O"), "O": ("EVENT", "FAC")})


def test_each_tag_allows_the_tags_of_its_table() -> None:
    corpus = TagSet(("LOC", "MISC", "PER"))
    sets = {
        tag: {MODEL.tags[index] for index in np.flatnonzero(row)}
        for tag, row in zip(corpus.tags, COARSE.tag_sets(corpus, MODEL), strict=True)
    }
    assert sets == {
        "O": {"O", "B-EVENT", "I-EVENT", "B-FAC", "I-FAC"},
        "B-LOC": {"B-GPE", "B-LOC", "B-FAC"},
        "I-LOC": {"I-GPE", "I-LOC", "I-FAC"},
        "B-MISC": {"B-EVENT", "O"},
        "I-MISC": {"I-EVENT", "O"},
        "B-PER": {"B-PER"},
        "I-PER": {"I-PER"},
    }
    assert COARSE.model_labels(corpus.labels) == set(MODEL.labels)


def test_no_name_is_among_what_a_word_outside_names_may_be_anyway() -> None:
    corpus = TagSet(("PER",))
    with_it, without = (AllowedLabels({"O": row}) for row in (("O", "FAC"), ("FAC",)))
    assert with_it.unannotated == ("FAC",)
    assert np.array_equal(with_it.tag_sets(corpus, MODEL), without.tag_sets(corpus, MODEL))


TEXT = "زار محمد بيروت ومطار دمشق وكأس آسيا"


def annotated(*spans: Span) -> Document:
    return Document("d", TEXT, tuple(sorted(spans)))


@pytest.mark.parametrize(
    ("gold", "predicted", "counts"),
    [
        # A label within the allowed ones is right, another is wrong.
        (("بيروت", "LOC"), ("بيروت", "GPE"), (1, 0, 0)),
        (("بيروت", "LOC"), ("بيروت", "PER"), (0, 1, 1)),
        # Other borders are wrong; the prediction is counted unless its label is not annotated.
        (("مطار دمشق", "LOC"), ("دمشق", "GPE"), (0, 1, 1)),
        (("دمشق", "LOC"), ("مطار دمشق", "FAC"), (0, 0, 1)),
        (("مطار دمشق", "LOC"), ("مطار دمشق", "FAC"), (1, 0, 0)),
        # A label that is not annotated is neither right nor wrong.
        (("محمد", "PER"), ("كأس آسيا", "EVENT"), (0, 0, 1)),
        # A name that may be none is neither right if found nor missed otherwise; another label is wrong.
        (("كأس آسيا", "MISC"), ("كأس آسيا", "EVENT"), (0, 0, 0)),
        (("كأس آسيا", "MISC"), ("كأس آسيا", "PER"), (0, 1, 0)),
        (("كأس آسيا", "MISC"), ("بيروت", "GPE"), (0, 1, 0)),
    ],
)
def test_only_what_a_corpus_annotates_is_scored(
    gold: tuple[str, str], predicted: tuple[str, str], counts: tuple[int, int, int]
) -> None:
    pair = COARSE.align(annotated(span(TEXT, *gold)), annotated(span(TEXT, *predicted)))
    micro = score_documents([pair[0]], [pair[1]]).strict.micro
    assert (micro.tp, micro.fp, micro.fn) == counts


def test_a_wrong_name_counts_under_the_label_of_the_corpus() -> None:
    _, predicted = COARSE.align(annotated(), annotated(span(TEXT, "بيروت", "GPE"), span(TEXT, "محمد", "PER")))
    assert surfaces(predicted) == [("محمد", "PER"), ("بيروت", "LOC")]


def test_a_wrong_name_counts_under_the_label_of_its_own_name_if_the_corpus_has_it() -> None:
    allows = AllowedLabels({"MISC": ("PER", "EVENT")}, labels=frozenset({"MISC", "PER"}))
    _, predicted = allows.align(annotated(), annotated(span(TEXT, "بيروت", "EVENT"), span(TEXT, "محمد", "PER")))
    assert surfaces(predicted) == [("محمد", "PER"), ("بيروت", "MISC")]


def test_names_of_whole_words_begin_where_the_word_does() -> None:
    whole = AllowedLabels(whole_words=True)
    gold = annotated(span(TEXT, "ومطار دمشق", "FAC"))
    predicted = annotated(span(TEXT, "محمد", "PER"), span(TEXT, "مطار دمشق", "FAC"), span(TEXT, "آسيا", "LOC"))
    assert surfaces(whole.align(gold, predicted)[1]) == [("محمد", "PER"), ("ومطار دمشق", "FAC"), ("آسيا", "LOC")]


def test_complete_annotation_is_not_rewritten() -> None:
    gold, predicted = annotated(span(TEXT, "محمد", "PER")), annotated(span(TEXT, "بيروت", "GPE"))
    assert AllowedLabels().align(gold, predicted) == (gold, predicted)
