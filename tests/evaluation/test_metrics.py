"""Scoring of documents: hand-computed cases, properties, and comparison with nervaluate."""

import random
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from nervaluate import Evaluator
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation import MODES, Counts, Losses, ModeScores, Scorer, score_documents
from musamma.evaluation.matching import match_overlapping
from musamma.evaluation.word_boundaries import whitespace_words
from tests.support import span

TEXT = "أعلن (داعش)-الموصل أن محمد السعيد وصل وبالموصل"
WORDS = [
    "أعلن",
    "تنظيم",
    "(داعش)-الموصل",
    "وبالموصل",
    "محمد",
    "السعيد،",
    "في",
    "«قناة",
    "الآن»",
    "بغداد",
    "،",
    "2016",
    "للجيش",
    "مُسَمّى",
]
LABELS = ("PER", "LOC", "ORG")


mark = partial(span, TEXT)


GOLD = Document(
    "a",
    TEXT,
    (
        mark("داعش", "ORG"),
        mark("الموصل", "LOC"),
        mark("محمد السعيد", "PER"),
        mark("الموصل", "LOC", after=30),
    ),
)
PREDICTED = Document(
    "a",
    TEXT,
    (
        mark("داعش", "ORG"),
        mark("محمد", "PER"),
        mark("السعيد", "PER"),
        mark("وبالموصل", "LOC", after=30),
    ),
)


def test_hand_computed_scores():
    scores = score_documents([GOLD], [PREDICTED])
    assert tuple(scores.modes) == MODES
    # Exact: داعش alone. Four gold names, four predictions.
    assert scores.strict.per_label == {"LOC": Counts(0, 1, 2), "ORG": Counts(1, 0, 0), "PER": Counts(0, 2, 1)}
    assert scores.strict.micro == Counts(1, 3, 3)
    assert (scores.strict.micro.precision, scores.strict.micro.recall, scores.strict.micro.f1) == (0.25, 0.25, 0.25)
    assert scores.strict.macro.f1 == pytest.approx(1 / 3)
    # Except for its proclitics, وبالموصل is الموصل.
    assert scores.modes["proclitic"].per_label == {
        "LOC": Counts(1, 0, 1),
        "ORG": Counts(1, 0, 0),
        "PER": Counts(0, 2, 1),
    }
    # By whole words وبالموصل is correct, too, and (داعش)-الموصل is one word with two names.
    assert scores.modes["whole_word"].micro == Counts(2, 2, 2)
    # In tags that word is only ORG: three gold names.
    assert scores.modes["iob2_strict"].micro == scores.modes["conlleval"].micro == Counts(2, 2, 1)
    # Only one of محمد and السعيد can be matched with محمد السعيد.
    assert scores.modes["overlap"].per_label == {"LOC": Counts(1, 0, 1), "ORG": Counts(1, 0, 0), "PER": Counts(1, 1, 0)}
    assert scores.gold_losses == Losses(nested=0, shared_words=1, dropped_iob=1, merged_whole_word=0)
    assert scores.predicted_losses == Losses()


def test_json_has_the_strict_scores_at_the_top():
    record = score_documents([GOLD], [PREDICTED]).to_dict()
    assert record["micro"] == {
        "precision": 0.25,
        "recall": 0.25,
        "f1": 0.25,
        "support": 4,
        "tp": 1,
        "fp": 3,
        "fn": 3,
    }
    assert record["macro"]["support"] == 4
    assert record["per_label"]["ORG"]["f1"] == 1.0
    assert record["whole_word"]["micro"]["f1"] == 0.5
    assert "strict" not in record
    assert record["losses"]["gold"]["dropped_iob"] == 1
    assert (record["documents"], record["missing"]) == (1, 0)


def test_two_names_of_one_label_in_a_word_are_one_by_whole_words():
    text = "لبنان-سوريا والأردن"
    spans = (Span(0, 5, "LOC"), Span(6, 11, "LOC"), Span(13, 19, "LOC"))
    scores = score_documents([Document("a", text, spans)], [Document("a", text, spans[:1])])
    assert scores.strict.micro == Counts(1, 0, 2)
    assert scores.modes["whole_word"].micro == Counts(1, 0, 1)
    assert scores.gold_losses == Losses(shared_words=1, dropped_iob=1, merged_whole_word=1)


@pytest.mark.parametrize(
    ("word", "surface", "predicted", "correct"),
    [
        ("وبالموصل", "الموصل", "وبالموصل", 1),
        ("وبالموصل", "وبالموصل", "الموصل", 1),
        ("وبالموصل", "الموصل", "بالموصل", 1),
        ("وَبِالموصل", "الموصل", "وَبِالموصل", 1),  # vowel signs belong to their letters
        ("للجيش", "لجيش", "للجيش", 1),
        ("الموصل", "لموصل", "الموصل", 0),  # the article is no proclitic
        ("كوبالموصل", "الموصل", "كوبالموصل", 0),  # three letters are too many
        ("وبالموصل", "الموصل", "وبالموص", 0),  # the ends differ
        ("في الموصل", "الموصل", "في الموصل", 0),  # a separate word is no proclitic
        ("و الموصل", "الموصل", "و الموصل", 0),
    ],
)
def test_the_proclitic_mode_tolerates_proclitics_before_a_name(word, surface, predicted, correct):
    gold, other = (span(word, part) for part in (surface, predicted))
    document = Document("a", word, (gold,))
    scores = score_documents([document], [document.with_spans([other])])
    assert scores.strict.micro.tp == 0
    assert scores.modes["proclitic"].micro == Counts(correct, 1 - correct, 1 - correct)
    renamed = document.with_spans([Span(other.start, other.end, "ORG")])
    assert score_documents([document], [renamed]).modes["proclitic"].micro.tp == 0


def test_nested_names_are_scored_by_layer():
    text = "جامعة بغداد وجامعة الموصل"
    outer = Span(0, 11, "ORG"), Span(13, 25, "ORG")
    gold = Document("a", text, outer, nested=(Span(6, 11, "LOC"), Span(19, 25, "LOC")))
    # One nested name is correct, one is predicted as outermost, and one is spurious.
    predicted = Document("a", text, (outer[0], Span(19, 25, "LOC")), nested=(Span(0, 5, "ORG"), Span(6, 11, "LOC")))
    scores = score_documents([gold, Document("b", text, outer)], [predicted, Document("b", text, outer)])
    assert scores.strict.micro == Counts(3, 1, 1)
    assert scores.layers["outermost"] == scores.strict
    assert scores.layers["nested"].per_label == {"LOC": Counts(1, 0, 1), "ORG": Counts(0, 1, 0)}
    assert scores.layers["all"].per_label == {"LOC": Counts(2, 0, 0), "ORG": Counts(3, 1, 1)}
    assert list(scores.to_dict()["layers"]) == ["outermost", "nested", "all"]
    assert scores.to_dict()["layers"]["nested"]["micro"]["tp"] == 1
    assert (scores.gold_losses.nested, scores.predicted_losses.nested) == (2, 2)


@pytest.mark.parametrize("inner", ["gold", "predicted"])
def test_nested_names_of_one_side_are_missed_or_spurious(inner):
    text = "جامعة بغداد"
    flat = Document("a", text, (Span(0, 11, "ORG"),))
    deep = Document("a", text, flat.spans, nested=(Span(6, 11, "LOC"),))
    sides = (deep, flat) if inner == "gold" else (flat, deep)
    layers = score_documents([sides[0]], [sides[1]]).layers
    assert layers["nested"].micro == (Counts(0, 0, 1) if inner == "gold" else Counts(0, 1, 0))
    assert layers["all"].micro == layers["nested"].micro + Counts(1, 0, 0)


def test_flat_annotation_has_one_layer():
    assert list(score_documents([GOLD], [PREDICTED]).layers) == ["outermost"]


def test_a_name_of_whitespace_has_no_tag_but_counts_in_the_other_modes():
    gold = Document("a", "في  بغداد", (Span(2, 4, "LOC"),))
    scores = score_documents([gold], [gold])
    assert scores.strict.micro == scores.modes["whole_word"].micro == Counts(1, 0, 0)
    assert scores.modes["iob2_strict"].micro == Counts()
    assert scores.gold_losses.dropped_iob == 1


def test_no_gold_and_no_predicted_names_give_zeros():
    empty = Document("a", "لا أسماء هنا")
    for gold, predicted in (([empty], [empty]), ([], [])):
        scores = score_documents(gold, predicted)
        for mode in MODES:
            assert scores.modes[mode].micro.f1 == scores.modes[mode].macro.f1 == 0.0
    only_false = score_documents([empty], [Document("a", empty.text, (Span(3, 8, "PER"),))])
    assert only_false.strict.micro == Counts(0, 1, 0)
    assert only_false.strict.micro.recall == 0.0


def test_a_label_without_gold_names_counts_in_the_macro_average():
    scores = ModeScores({"LOC": Counts(1, 0, 0), "PER": Counts(0, 1, 0)})
    assert scores.macro.f1 == 0.5


def test_modes_can_be_selected_and_strict_is_always_scored():
    scores = score_documents([GOLD], [PREDICTED], modes=["overlap"])
    assert tuple(scores.modes) == ("strict", "overlap")
    with pytest.raises(InputError, match=r"mode 'lenient'.*expected one of strict, proclitic, whole_word"):
        Scorer(modes=["lenient"])


@st.composite
def documents(draw: st.DrawFn, *, sides: int = 2, whole: bool = False) -> list[Document]:
    """Return documents of one text with independent names: anywhere, also inside words, or ``whole`` words only."""
    words = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=12))
    text = draw(st.sampled_from([" ", "  ", "\n", "\u00a0"])).join(words)
    units = whitespace_words(text) if whole else [(offset, offset + 1) for offset in range(len(text))]
    drawn = []
    for _ in range(sides):
        cuts = sorted(draw(st.sets(st.integers(0, len(units)), max_size=12)))
        spans = [
            Span(units[first][0], units[after - 1][1], draw(st.sampled_from(LABELS)))
            for first, after in pairwise(cuts)
            if draw(st.booleans())
        ]
        drawn.append(Document("a", text, tuple(spans)))
    return drawn


@given(documents(sides=1))
def test_perfect_predictions_score_one(sides):
    scores = score_documents(sides, sides)
    for mode, figures in scores.modes.items():
        assert figures.micro.fp == figures.micro.fn == 0
        if figures.micro.support:
            assert (figures.micro.f1, figures.macro.f1) == (1.0, 1.0), mode
    assert scores.strict.micro.support == len(sides[0].spans)


@given(documents())
def test_swapping_the_sides_swaps_precision_and_recall(sides):
    there, back = score_documents(sides[:1], sides[1:]), score_documents(sides[1:], sides[:1])
    for mode in MODES:
        one, other = there.modes[mode].micro, back.modes[mode].micro
        assert (one.tp, one.fp, one.fn) == (other.tp, other.fn, other.fp), mode
        assert (one.precision, one.recall) == (other.recall, other.precision)
    assert there.gold_losses == back.predicted_losses


@given(documents())
def test_exact_names_are_correct_in_the_tolerant_modes(sides):
    scores = score_documents(sides[:1], sides[1:])
    strict = scores.strict.micro.tp
    assert strict <= scores.modes["proclitic"].micro.tp <= scores.modes["overlap"].micro.tp
    merged = min(scores.gold_losses.merged_whole_word, scores.predicted_losses.merged_whole_word)
    assert strict - merged <= scores.modes["whole_word"].micro.tp
    assert scores.modes["whole_word"].micro.support == len(sides[0].spans) - scores.gold_losses.merged_whole_word
    assert scores.modes["iob2_strict"].micro.support == len(sides[0].spans) - scores.gold_losses.dropped_iob


def test_whole_words_can_match_where_nothing_overlaps():
    text = "سوريا-لبنان"
    scores = score_documents([Document("a", text, (Span(0, 5, "LOC"),))], [Document("a", text, (Span(6, 11, "LOC"),))])
    assert scores.modes["whole_word"].micro == Counts(1, 0, 0)
    assert scores.modes["overlap"].micro == Counts(0, 1, 1)


@given(documents(whole=True))
def test_exact_modes_agree_on_names_of_whole_words(sides):
    scores = score_documents(sides[:1], sides[1:])
    for mode in ("whole_word", "iob2_strict", "conlleval"):
        assert scores.modes[mode] == scores.strict
    assert scores.modes["proclitic"] == scores.strict  # no word of the list is another one with proclitics
    assert scores.gold_losses == scores.predicted_losses == Losses()


@given(documents())
def test_overlap_is_the_largest_matching(sides):
    gold, predicted = (document.spans for document in sides)
    edges = np.array(
        [[g.label == p.label and g.start < p.end and p.start < g.end for p in predicted] for g in gold], dtype=bool
    ).reshape(len(gold), len(predicted))
    largest = 0
    if edges.size:
        largest = int((maximum_bipartite_matching(csr_array(edges), perm_type="column") >= 0).sum())
    assert len(match_overlapping(gold, predicted)) == largest


@given(documents())
def test_strict_scores_equal_nervaluates(sides):
    gold, predicted = sides
    assume(gold.spans and predicted.spans)
    expected = nervaluate(gold, predicted)["strict"]
    counts = score_documents([gold], [predicted]).strict.micro
    assert (counts.tp, counts.support, counts.predicted) == (expected.correct, expected.possible, expected.actual)
    assert (counts.precision, counts.recall) == (expected.precision, expected.recall)
    assert counts.f1 == pytest.approx(expected.f1, abs=1e-15)


def test_overlap_scores_equal_nervaluates_by_type():
    """Every name overlaps at most one name of the other side; otherwise nervaluate's matching is greedy."""
    random_ = random.Random(7)
    for _ in range(200):
        text = " ".join(random_.choices(WORDS, k=40))
        sides: list[list[Span]] = [[], []]
        for cell in range(0, len(text) - 10, 10):
            for side in sides:
                if random_.random() < 0.6:
                    start, end = sorted(random_.sample(range(cell, cell + 10), 2))
                    side.append(Span(start, end, random_.choice(LABELS)))
        gold, predicted = (Document("a", text, tuple(side)) for side in sides)
        expected = nervaluate(gold, predicted)["ent_type"]
        counts = score_documents([gold], [predicted]).modes["overlap"].micro
        assert (counts.tp, counts.support, counts.predicted) == (expected.correct, expected.possible, expected.actual)


def nervaluate(gold: Document, predicted: Document) -> dict:
    """Score with nervaluate, whose ends are those of the last character."""
    sides = [
        [[{"label": s.label, "start": s.start, "end": s.end - 1} for s in document.spans]]
        for document in (gold, predicted)
    ]
    # One character of a name must count as overlap; nervaluate's threshold of 1% ensures this up to 100 characters.
    return Evaluator(*sides, tags=list(LABELS), loader="dict").evaluate()["overall"]
