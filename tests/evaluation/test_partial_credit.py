"""Partial credit: a hand-computed case, comparison with nervaluate, and sums over documents."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nervaluate import Evaluator

from musamma.data.document import Document, Span
from musamma.evaluation import PartialCounts, Scores, score_documents

LABELS = ("PER", "LOC", "ORG")
WORDS = ("أعلن", "(داعش)-الموصل", "وبالموصل", "محمد", "السعيد،", "«الآن»", "مُسَمّى", "للجيش")
#: The names of the schemas in nervaluate.
NERVALUATE_NAMES = {"strict": "strict", "exact": "exact", "partial": "partial", "type": "ent_type"}
CLASSES = ("correct", "incorrect", "partial", "missed", "spurious")


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Document, Document]:
    """Return gold and predictions of one text, with names anywhere; some predicted names are copied from the gold."""
    text = " ".join(draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8)))
    sides: list[list[Span]] = []
    for _ in range(2):
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
        retained = [cut for cut in pairwise(cuts) if draw(st.integers(0, 3))]
        sides.append([Span(*cut, draw(st.sampled_from(LABELS))) for cut in retained])
    gold, drawn = sides
    copied = [span for span in gold if draw(st.booleans())]
    free = [span for span in drawn if all(span.end <= c.start or c.end <= span.start for c in copied)]
    return Document("a", text, tuple(gold)), Document("a", text, (*copied, *free))


def nervaluate(sides: list[tuple[Document, Document]]) -> dict:
    """Score with nervaluate, whose ends are those of the last character."""
    gold, predicted = (
        [[{"label": s.label, "start": s.start, "end": s.end - 1} for s in document.spans] for document in documents]
        for documents in zip(*sides, strict=True)
    )
    return Evaluator(gold, predicted, tags=list(LABELS), loader="dict").evaluate()


def score(sides: list[tuple[Document, Document]]) -> Scores:
    numbered = [(str(number), *pair) for number, pair in enumerate(sides)]
    return score_documents(
        [Document(id, gold.text, gold.spans) for id, gold, _ in numbered],
        [Document(id, predicted.text, predicted.spans) for id, _, predicted in numbered],
    )


def assert_same(scores: Scores, expected: dict) -> None:
    for schema, name in NERVALUATE_NAMES.items():
        schema_scores = scores.partial[schema]
        rows = {"micro": expected["overall"][name], **{tag: row[name] for tag, row in expected["entities"].items()}}
        assert set(schema_scores.per_label) == set(rows) - {"micro"}
        for row, figures in rows.items():
            counts = schema_scores.micro if row == "micro" else schema_scores.per_label[row]
            assert [getattr(counts, kind) for kind in CLASSES] == [getattr(figures, kind) for kind in CLASSES], schema
            assert (counts.precision, counts.recall) == (figures.precision, figures.recall)
            assert counts.f1 == pytest.approx(figures.f1, abs=1e-15)
            assert (counts.support, counts.predicted) == (figures.possible, figures.actual)


@given(pairs())
def test_a_document_is_counted_as_in_nervaluate(pair):
    assert_same(score([pair]), nervaluate([pair]))


@given(st.lists(pairs(), min_size=2, max_size=4))
def test_documents_add_up(sides):
    """The sum of the counts of each document, as in nervaluate 1.2.1."""
    together = score(sides)
    each = [score([pair]) for pair in sides]
    for schema, scores in together.partial.items():
        assert scores.micro == sum((one.partial[schema].micro for one in each), PartialCounts())
        for label, counts in scores.per_label.items():
            single = (one.partial[schema].per_label.get(label, PartialCounts()) for one in each)
            assert counts == sum(single, PartialCounts())
    assert_same(together, nervaluate(sides))


@given(pairs())
def test_the_strict_schema_equals_the_strict_mode(pair):
    scores = score([pair])
    schema, exact = scores.partial["strict"].micro, scores.strict.micro
    assert (schema.correct, schema.support, schema.predicted) == (exact.tp, exact.support, exact.predicted)
    assert (schema.precision, schema.recall, schema.f1) == (exact.precision, exact.recall, exact.f1)


TEXT = "زار محمد السعيد وبالموصل جامعة بغداد ثم دمشق وحلب"
#: محمد السعيد, الموصل, جامعة بغداد and دمشق against محمد, وبالموصل, بغداد (as a place), دمشق (as a person) and حلب.
GOLD = (Span(4, 15, "PER"), Span(18, 24, "LOC"), Span(25, 36, "ORG"), Span(40, 44, "LOC"))
PREDICTED = (Span(4, 8, "PER"), Span(16, 24, "LOC"), Span(31, 36, "LOC"), Span(40, 44, "PER"), Span(46, 49, "LOC"))


def test_a_hand_computed_case():
    document = Document("a", TEXT, GOLD)
    assert [document.surface(s) for s in GOLD] == ["محمد السعيد", "الموصل", "جامعة بغداد", "دمشق"]
    assert [document.surface(s) for s in PREDICTED] == ["محمد", "وبالموصل", "بغداد", "دمشق", "حلب"]
    scores = score_documents([document], [document.with_spans(PREDICTED)])
    micro = {schema: partial.micro for schema, partial in scores.partial.items()}
    assert micro == {
        "strict": PartialCounts(0, 4, 0, 0, 1),
        "exact": PartialCounts(1, 3, 0, 0, 1),
        "partial": PartialCounts(1, 0, 3, 0, 1),
        "type": PartialCounts(2, 2, 0, 0, 1),
    }
    assert (micro["partial"].precision, micro["partial"].recall) == (2.5 / 5, 2.5 / 4)
    assert micro["partial"].f1 == pytest.approx(5 / 9)
    # Per label only borders are incorrect: a wrong label is missed on one side and spurious on the other.
    assert scores.partial["type"].per_label == {
        "LOC": PartialCounts(1, 0, 0, 1, 2),
        "ORG": PartialCounts(0, 0, 0, 1, 0),
        "PER": PartialCounts(1, 0, 0, 0, 1),
    }
    assert scores.partial["partial"].per_label["LOC"] == PartialCounts(0, 0, 1, 1, 2)
    assert scores.partial["exact"].per_label["LOC"] == PartialCounts(0, 1, 0, 1, 2)


def test_copies_of_a_document_do_not_change_f1():
    """nervaluate up to 1.2.0 lost the half points when it merged documents: F1 0.5 for one, 0.0 for two copies."""
    text = "وصل محمد السعيد"
    half = Document("a", text, (Span(4, 15, "PER"),)), Document("a", text, (Span(4, 8, "PER"),))
    for sides in ([half], [half, half], [half] * 5):
        assert score(sides).partial["partial"].micro.f1 == 0.5
        assert score(sides).partial["partial"].per_label["PER"] == PartialCounts(partial=len(sides))


def test_less_than_a_hundredth_of_a_gold_name_is_no_overlap():
    text = "م" * 201
    for length, partial in ((100, 1), (101, 0), (200, 0)):
        gold = Document("a", text, (Span(0, length, "PER"),))
        predicted = gold.with_spans([Span(length - 1, length + 1, "PER")])
        assert score([(gold, predicted)]).partial["partial"].micro.partial == partial
        assert_same(score([(gold, predicted)]), nervaluate([(gold, predicted)]))


def test_json_has_every_schema():
    document = Document("a", TEXT, GOLD)
    record = score_documents([document], [document.with_spans(PREDICTED)]).to_dict()["semeval"]
    assert list(record) == ["strict", "exact", "partial", "type"]
    assert record["partial"]["micro"] == {
        "precision": 0.5,
        "recall": 0.625,
        "f1": pytest.approx(5 / 9),
        "support": 4,
        "correct": 1,
        "incorrect": 0,
        "partial": 3,
        "missed": 0,
        "spurious": 1,
    }
    assert record["type"]["per_label"]["ORG"]["missed"] == 1
