"""Scoring of IOB2 tags, to the last digit as seqeval does it in both its modes."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import classification_report
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, Entities

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation import Counts, score_documents, score_tags
from musamma.evaluation.conll_tags import lenient_chunks, strict_chunks
from musamma.evaluation.word_boundaries import align_to_words, enclosing_words, iob2_tags, tag_words, whitespace_words

LABELS = ("PER", "LOC", "ORG", "MISC")
ANY_TAG = st.sampled_from(["O", *(f"{prefix}-{label}" for prefix in "BI" for label in LABELS)])


def seqeval_record(gold: list[list[str]], predicted: list[list[str]], mode: str) -> dict:
    options = {"mode": "strict", "scheme": IOB2} if mode == "iob2_strict" else {}
    report = classification_report(gold, predicted, output_dict=True, zero_division=0, **options)
    return {
        name: tuple(figures[key] for key in ("precision", "recall", "f1-score", "support"))
        for name, figures in report.items()
        if name != "weighted avg"
    }


def our_record(scores) -> dict:
    rows = {"micro avg": scores.micro, "macro avg": scores.macro, **scores.per_label}
    return {name: (row.precision, row.recall, row.f1, row.support) for name, row in rows.items()}


def corpus(seed: int, sentences: int = 925, labels=LABELS) -> tuple[list[list[str]], list[list[str]]]:
    """About 25,000 words and 2,200 names, some of which open with I-, and a tagger's guess at them."""
    random_ = random.Random(seed)
    gold, predicted = [], []
    for _ in range(sentences):
        tags = ["O"] * random_.randint(1, 53)
        for at in range(len(tags)):
            if random_.random() < 0.1 and tags[at] == "O":
                label = random_.choice(labels)
                tags[at] = ("I-" if random_.random() < 0.04 else "B-") + label
                for after in range(at + 1, min(len(tags), at + random_.choice((1, 1, 2, 3, 5)))):
                    tags[after] = f"I-{label}"
        guess = [random_.choice(["O", "B-PER", "I-LOC", "I-PER"]) if random_.random() < 0.05 else tag for tag in tags]
        gold.append(tags)
        predicted.append(guess)
    return gold, predicted


@pytest.mark.parametrize("labels", [LABELS, tuple(f"T{number}" for number in range(21))])
def test_a_corpus_of_real_size_scores_as_in_seqeval(labels):
    gold, predicted = corpus(1, labels=labels)
    assert 23_000 < sum(map(len, gold)) < 27_000
    scores = score_tags(gold, predicted)
    assert 2_000 < scores.modes["conlleval"].micro.support < 2_600
    assert scores.modes["iob2_strict"].micro.support < scores.modes["conlleval"].micro.support
    for mode in ("iob2_strict", "conlleval"):
        assert our_record(scores.modes[mode]) == seqeval_record(gold, predicted, mode)


@given(st.lists(st.tuples(ANY_TAG, ANY_TAG), min_size=1, max_size=12))
def test_any_tags_are_read_as_in_seqeval(pairs):
    for tags in map(list, zip(*pairs, strict=True)):
        assert [(label, start, end - 1) for start, end, label in lenient_chunks(tags)] == get_entities(tags)
        theirs = {(e.start, e.end, e.tag) for e in Entities([tags], IOB2).entities[0]}
        assert set(strict_chunks(tags)) == theirs


def test_a_name_that_opens_with_inside_counts_leniently_alone():
    gold = [["I-PER", "I-PER", "O", "B-LOC", "I-ORG"]]
    scores = score_tags(gold, [["B-PER", "I-PER", "O", "B-LOC", "O"]])
    assert scores.modes["conlleval"].micro == Counts(2, 0, 1)
    assert scores.modes["iob2_strict"].micro == Counts(1, 1, 0)
    assert scores.documents == 1
    assert "micro" not in scores.to_dict()


@pytest.mark.parametrize(
    ("gold", "predicted", "message"),
    [
        ([["O"], ["O"]], [["O"]], "sentence 2: the predicted tags end after 1 sentences"),
        ([["O"]], [["O"], ["O"]], "sentence 2: the gold tags end after 1 sentences"),
        ([["O"], ["O", "O"]], [["O"], ["O"]], "sentence 2: 2 gold tags and 1 predicted ones"),
        ([["S-PER"]], [["O"]], "sentence 1: tag 'S-PER'; expected O, B-label or I-label"),
        ([["O"]], [["PER"]], "sentence 1: tag 'PER'"),
        ([["B-"]], [["O"]], "sentence 1: tag 'B-'"),
    ],
)
def test_tags_that_cannot_be_scored_are_named(gold, predicted, message):
    with pytest.raises(InputError) as error:
        score_tags(gold, predicted)
    assert str(error.value).startswith(message)


@st.composite
def texts_with_names(draw: st.DrawFn) -> Document:
    parts = ["أعلن", "(داعش)-الموصل", "وبالموصل", "محمد", "السعيد،", "«الآن»", "،"]
    text = draw(st.sampled_from([" ", " \n "])).join(draw(st.lists(st.sampled_from(parts), min_size=1, max_size=10)))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=14)))
    kept = [pair for pair in pairwise(cuts) if draw(st.booleans())]
    return Document("a", text, tuple(Span(*pair, draw(st.sampled_from(LABELS))) for pair in kept))


@given(texts_with_names())
def test_tags_hold_the_names_that_have_a_tag_of_their_own(document):
    tags, borders = iob2_tags(document.text, document.spans), whitespace_words(document.text)
    assert len(tags) == len(document.text.split())
    read = [(borders[start][0], borders[end - 1][1], label) for start, end, label in strict_chunks(tags)]
    assert read == align_to_words(document.text, document.spans).iob2
    assert list(strict_chunks(tags)) == list(lenient_chunks(tags))


@given(texts_with_names())
def test_shared_words_are_those_that_several_names_reach_into(document):
    shared = sum(
        sum(span.start < end and start < span.end for span in document.spans) > 1
        for start, end in whitespace_words(document.text)
    )
    assert align_to_words(document.text, document.spans).shared_words == shared


def test_documents_scored_by_tags_are_scored_as_in_seqeval():
    random_ = random.Random(3)
    parts = ["أعلن", "(داعش)-الموصل", "وبالموصل", "محمد", "السعيد،", "«الآن»", "،"]
    sides: list[list[Document]] = [[], []]
    for number in range(300):
        text = " ".join(random_.choices(parts, k=20))
        for side in sides:
            cuts = sorted(random_.sample(range(len(text)), 14))
            spans = [Span(*cut, random_.choice(LABELS)) for cut in zip(cuts[::2], cuts[1::2], strict=True)]
            side.append(Document(str(number), text, tuple(spans)))
    scores = score_documents(*sides)
    gold, predicted = ([iob2_tags(d.text, d.spans) for d in side] for side in sides)
    assert scores.gold_losses.dropped_iob > 50
    assert scores.modes["iob2_strict"].micro.tp > 20
    for mode in ("iob2_strict", "conlleval"):
        assert our_record(scores.modes[mode]) == seqeval_record(gold, predicted, mode)


def test_borders_widen_to_the_words_reached_into():
    text = " في (داعش)-الموصل\u00a0اليوم "
    assert enclosing_words(text, 5, 9) == (4, 17)
    assert enclosing_words(text, 3, 5) == (4, 17)  # the space before is no word
    assert enclosing_words(text, 15, 19) == (4, 23)
    assert enclosing_words(text, 3, 4) is None
    assert enclosing_words("بغداد", 1, 3) == (0, 5)


def test_a_name_over_the_end_of_the_words_is_tagged_as_far_as_they_go():
    assert tag_words([(0, 2), (3, 7)], [Span(3, 12, "LOC")]) == ["O", "B-LOC"]
    assert tag_words([(8, 12), (13, 15)], [Span(3, 12, "LOC")]) == ["B-LOC", "O"]
    assert tag_words([(8, 12)], [Span(0, 4, "LOC")]) == ["O"]
    assert tag_words([], [Span(0, 4, "LOC")]) == []
