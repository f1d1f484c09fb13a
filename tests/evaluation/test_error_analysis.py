"""Mistakes: a hand-made set of articles with every kind of error, and properties of the tables made of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from musamma.data.document import Document, Span
from musamma.evaluation.error_analysis import (
    CONTEXT_LENGTH,
    ERROR_KINDS,
    CostlyForm,
    ErrorAnalysis,
    analyse_errors,
    build_confusion_matrix,
)
from musamma.evaluation.matching import PAIR_KINDS, NamePair, pair_names
from tests import support

TEXT = (
    "أعلن محمد السعيد في بغداد أن القوات تقدمت نحو بالموصل، فيما نفى تنظيم داعش ذلك، وقالت وزارة الدفاع العراقية إن "
    "المعارك مستمرة قرب دمشق وحلب"
)


def mark(surface: str, label: str, score: float | None = None, *, text: str = TEXT) -> Span:
    return support.span(text, surface, label, score=score)


GOLD = Document(
    "a",
    TEXT,
    (
        mark("محمد السعيد", "PER"),
        mark("بغداد", "GPE"),
        mark("الموصل", "GPE"),
        mark("تنظيم داعش", "ORG"),
        mark("وزارة الدفاع العراقية", "ORG"),
        mark("دمشق", "GPE"),
    ),
    nested=(mark("العراقية", "GPE"),),
)
PREDICTED = GOLD.with_spans(
    [
        mark("محمد السعيد", "PER", 0.9),
        mark("بغداد", "LOC", 0.95),
        mark("بالموصل", "GPE", 0.7),
        mark("داعش", "ORG", 0.99),
        mark("الدفاع", "PER", 0.5),
        mark("العراقية", "GPE", 0.999),
        mark("حلب", "GPE", 0.97),
    ]
)


def mistakes_of(pairs: Sequence[tuple[Document, Document | None]]) -> ErrorAnalysis:
    return analyse_errors(pairs, cases_of(pairs))


def cases_of(pairs: Iterable[tuple[Document, Document | None]]) -> list[NamePair]:
    return [case for gold, other in pairs for case in pair_names(gold, other.spans if other is not None else ())]


def reasons(found: ErrorAnalysis) -> list[tuple[str, str]]:
    return [(suspect.surface, suspect.reason) for suspect in found.suspects]


def test_errors_are_shown_in_their_context() -> None:
    found = mistakes_of([(GOLD, PREDICTED)])
    assert tuple(found.kinds) == PAIR_KINDS
    assert found.kinds == {
        "correct": 1,
        "label": 1,
        "proclitic": 1,
        "border": 1,
        "label_and_border": 1,
        "missed": 1,
        "spurious": 2,
    }
    (proclitic,) = found.examples["proclitic"]
    assert (proclitic.surface_gold, proclitic.surface_predicted) == ("الموصل", "بالموصل")
    assert proclitic.before.endswith("تقدمت نحو ")
    assert proclitic.after == "، فيما نفى تنظيم داعش ذلك، وقالت وزارة ا"
    assert len(proclitic.after) == CONTEXT_LENGTH == len(proclitic.before)
    (missed,) = found.examples["missed"]
    assert (missed.surface_gold, missed.surface_predicted, missed.predicted) == ("دمشق", "", None)
    assert missed.after == " وحلب"
    assert [example.surface_predicted for example in found.examples["spurious"]] == ["الدفاع", "حلب"]
    assert "correct" not in found.examples


def test_no_error_makes_no_example() -> None:
    found = mistakes_of([(GOLD, GOLD), (Document("b", "لا اسم هنا"), None)])
    assert (found.examples, found.costly, found.suspects) == ({}, (), ())
    assert found.kinds["correct"] == 6
    assert mistakes_of([]).confusion.matrix.tolist() == [[0]]


def test_labels_taken_for_labels() -> None:
    found = mistakes_of([(GOLD, PREDICTED)]).confusion
    assert found.labels == ("GPE", "LOC", "ORG", "PER")
    # Of three GPE one was found with a preposition, one is LOC to the system, one was missed. The ministry is GPE to it, by the
    # longer of the two names in it; the shorter one, PER, and حلب are made up.
    assert found.matrix.tolist() == [
        [1, 1, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [1, 0, 0, 1, 0],
    ]
    assert found.matrix.dtype == np.int64


def test_forms_that_cost_most() -> None:
    texts = ["داعش في حلب", "دَاعِش في حلب", "هاجم داعش حلب", "عاد داعــش"]
    gold, predicted = [], []
    for number, text in enumerate(texts):
        first = mark(text.split()[0] if number < 2 else text.split()[1], "ORG", text=text)
        gold.append(Document(str(number), text, (first, *([mark("حلب", "GPE", text=text)] if number < 3 else []))))
        wrong = {0: [first], 1: [], 2: [Span(first.start, first.end, "PER")], 3: [Span(0, first.end, "ORG")]}[number]
        predicted.append(gold[-1].with_spans([*wrong, *gold[-1].spans[1 : 1 + (number == 0)]]))
    predicted[1] = predicted[1].with_spans([mark("حلب", "GPE", text=texts[1])])
    found = mistakes_of(list(zip(gold, predicted, strict=True))).costly
    assert found == (
        CostlyForm("داعش", 3, missed=1, spurious=0, wrong_label=1, wrong_border=1, occurrences=4),
        CostlyForm("حلب", 1, missed=1, spurious=0, wrong_label=0, wrong_border=0, occurrences=3),
    )


def test_confident_contradictions_come_by_score() -> None:
    # The mean score of the correct predictions is 0.9: what lies below is not believed. What is annotated inside another name,
    # العراقية, contradicts nothing.
    found = mistakes_of([(GOLD, PREDICTED)])
    assert reasons(found) == [
        ("داعش", "predicted ORG with score 0.990, annotated with other borders"),
        ("حلب", "predicted GPE with score 0.970, not annotated"),
        ("بغداد", "predicted LOC with score 0.950, annotated GPE"),
    ]
    first, second, _ = found.suspects
    assert first.gold == mark("تنظيم داعش", "ORG")
    assert (second.gold, second.predicted, second.score) == (None, mark("حلب", "GPE", 0.97), 0.97)
    assert second.before == TEXT[-43:-3]
    assert second.after == ""


def test_scores_are_measured_by_the_label() -> None:
    # Correct PER score 0.6, correct GPE 0.99: 0.7 is much for the one and little for the other.
    text = "محمد دمشق وليد حلب"
    gold = Document("a", text, (mark("محمد", "PER", text=text), mark("دمشق", "GPE", text=text)))
    predicted = [
        mark("محمد", "PER", 0.6, text=text),
        mark("دمشق", "GPE", 0.99, text=text),
        mark("وليد", "PER", 0.7, text=text),
        mark("حلب", "GPE", 0.7, text=text),
    ]
    assert [surface for surface, _ in reasons(mistakes_of([(gold, gold.with_spans(predicted))]))] == ["وليد"]
    # As much as the mean is enough.
    as_sure = [*predicted[:2], mark("وليد", "PER", 0.6, text=text)]
    assert [surface for surface, _ in reasons(mistakes_of([(gold, gold.with_spans(as_sure))]))] == ["وليد"]
    # A label without a correct prediction is measured by all of them, 0.795.
    for score, expected in ((0.79, []), (0.8, ["حلب"])):
        others = [*predicted[:2], mark("حلب", "ORG", score, text=text)]
        assert [surface for surface, _ in reasons(mistakes_of([(gold, gold.with_spans(others))]))] == expected


def labelled(*labels: str | None, form: str = "البصرة") -> list[Document]:
    """One document a label, with one name each; ``None`` leaves it without annotation."""
    text = f"وصلوا إلى {form} أمس"
    span = mark(form, "X", text=text)
    return [
        Document(f"d{number}", text, () if label is None else (Span(span.start, span.end, label),))
        for number, label in enumerate(labels)
    ]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["GPE", "GPE", "GPE", "LOC"], ["the form is annotated GPE in 3 of 4 places, here LOC"]),
        (["GPE", "GPE", "GPE", None], ["the form is annotated GPE in 3 of 4 places, here not"]),
        (["GPE", "GPE", "LOC"], []),
        (["GPE", "GPE", None], []),
        (["GPE", "GPE", "GPE", "LOC", None], ["the form is annotated GPE in 3 of 4 places, here LOC"]),
    ],
)
def test_forms_that_are_mostly_annotated_otherwise(labels: list[str | None], expected: list[str]) -> None:
    documents = labelled(*labels)
    found = mistakes_of([(document, document) for document in documents])
    assert reasons(found) == [("البصرة", reason) for reason in expected]
    for suspect in found.suspects:
        here = next(document for document in documents if document.id == suspect.document)
        assert f"{suspect.before}{suspect.surface}{suspect.after}" == here.text
        assert suspect.gold == (here.spans[0] if here.spans else None)
        assert suspect.score is None


def test_forms_are_found_behind_proclitics_and_as_whole_words_only() -> None:
    documents = labelled("ORG", "ORG", "ORG", "ORG", form="الجيش")
    text = "قال للجيش والجيش إن الجيشان قويان، فالجيشُ والاجيش، حالجيش"
    documents.append(Document("e", text, (mark("الجيشان", "ORG", text=text),)))
    found = mistakes_of([(document, None) for document in documents])
    assert {reason for _, reason in reasons(found)} <= {"the form is annotated ORG in 4 of 6 places, here not"}
    assert reasons(found) == []  # Four of six is less than three quarters.
    documents += [
        Document(f"f{number}", document.text, document.spans)
        for number, document in enumerate(labelled("ORG", "ORG", form="الجيش"))
    ]
    found = mistakes_of([(document, None) for document in documents])
    assert [(suspect.document, suspect.surface, suspect.before) for suspect in found.suspects] == [
        ("e", "لجيش", "قال ل"),
        ("e", "الجيش", "قال للجيش و"),
    ]


def test_short_forms_are_not_looked_for_behind_proclitics() -> None:
    documents = [*labelled("GPE", "GPE", "GPE", form="قم"), Document("e", "من قم وقم بلقم")]
    assert [suspect.before for suspect in mistakes_of([(document, None) for document in documents]).suspects] == ["من "]


def test_a_place_is_suspected_once_by_the_longest_form_and_never_where_it_is_annotated() -> None:
    city, college = "وصل إلى بغداد", "زار جامعة بغداد"
    documents = [Document(f"c{number}", city, (mark("بغداد", "GPE", text=city),)) for number in range(9)] + [
        Document(f"u{number}", college, (mark("جامعة بغداد", "ORG", text=college),)) for number in range(4)
    ]
    text = "في بغداد جامعة بغداد وفي بغداد"
    documents.append(Document("e", text, (mark("بغداد", "GPE", text=text),)))
    found = mistakes_of([(document, None) for document in documents]).suspects
    assert [(suspect.surface, len(suspect.before)) for suspect in found] == [("بغداد", 25), ("جامعة بغداد", 9)]


def test_forms_with_more_evidence_come_first_and_scores_before_them() -> None:
    documents = labelled(*["GPE"] * 9, "LOC") + [
        Document(f"{document.id}b", document.text, document.spans)
        for document in labelled("ORG", "ORG", "ORG", None, form="داعش")
    ]
    pairs = [
        (document, document.with_spans([Span(s.start, s.end, s.label, 0.9) for s in document.spans]))
        for document in documents
    ]
    assert [surface for surface, _ in reasons(mistakes_of(pairs))] == ["البصرة", "داعش"]
    # The system takes the form as everywhere else: one suspect with both reasons, and the first.
    last = documents[-1]
    pairs[-1] = last, last.with_spans([mark("داعش", "ORG", 0.98, text=last.text)])
    found = mistakes_of(pairs)
    assert reasons(found) == [
        ("داعش", "predicted ORG with score 0.980, not annotated; the form is annotated ORG in 3 of 4 places, here not"),
        ("البصرة", "the form is annotated GPE in 9 of 10 places, here LOC"),
    ]
    # Below the mean score the prediction is no reason of its own, and is shown all the same.
    pairs[-1] = last, last.with_spans([mark("داعش", "ORG", 0.2, text=last.text)])
    assert [(suspect.surface, suspect.score) for suspect in mistakes_of(pairs).suspects] == [
        ("البصرة", 0.9),
        ("داعش", 0.2),
    ]


def spans() -> st.SearchStrategy[list[Span]]:
    borders = sorted({offset for span in (*GOLD.spans, *PREDICTED.spans) for offset in (span.start, span.end)})
    cuts = st.lists(
        st.tuples(st.sampled_from(borders), st.sampled_from(["GPE", "PER", None]), st.none() | st.floats(0, 1)),
        unique_by=lambda cut: cut[0],
    )
    return cuts.map(
        lambda found: [
            Span(start, end, label, score)
            for (start, label, score), (end, _, _) in zip(
                sorted(found, key=lambda cut: cut[0]), sorted(found, key=lambda cut: cut[0])[1:], strict=False
            )
            if label is not None
        ]
    )


@given(st.lists(st.tuples(spans(), spans()), max_size=3))
def test_the_tables_add_up(sides: list[tuple[list[Span], list[Span]]]) -> None:
    pairs = [
        (gold := Document(str(number), TEXT, tuple(Span(*span.key) for span in ours)), gold.with_spans(theirs))
        for number, (ours, theirs) in enumerate(sides)
    ]
    cases = cases_of(pairs)
    found = analyse_errors(pairs, cases)
    assert sum(found.kinds.values()) == len(cases)
    for kind in ERROR_KINDS:
        assert len(found.examples.get(kind, ())) == found.kinds[kind]
    gold_labels = Counter(span.label for gold, _ in pairs for span in gold.spans)
    predicted_labels = Counter(span.label for _, predicted in pairs for span in predicted.spans)
    for index, label in enumerate(found.confusion.labels):
        assert found.confusion.matrix[index].sum() == gold_labels[label]
        assert found.confusion.matrix[:, index].sum() == predicted_labels[label]
    for form in found.costly:
        assert form.errors == form.missed + form.spurious + form.wrong_label + form.wrong_border
        assert 0 < form.errors <= form.occurrences
    assert sum(form.errors for form in found.costly) == len(cases) - found.kinds["correct"]
    places = [
        (suspect.document, len(suspect.before), suspect.surface, suspect.gold, suspect.predicted)
        for suspect in found.suspects
    ]
    assert len(set(places)) == len(places)
    for example in (example for kind in found.examples.values() for example in kind):
        names = [span for span in (example.gold, example.predicted) if span is not None]
        start, end = min(span.start for span in names), max(span.end for span in names)
        assert (example.before, example.after) == (TEXT[max(0, start - 40) : start], TEXT[end : end + 40])


@given(st.lists(st.tuples(st.sampled_from(["GPE", "PER", None]), st.sampled_from(["GPE", "LOC", None])), max_size=30))
def test_the_matrix_is_scikit_learns(labels: list[tuple[str | None, str | None]]) -> None:
    cases = [
        NamePair("a", "missed", ours and Span(0, 1, ours), theirs and Span(0, 1, theirs))
        for ours, theirs in labels
        if ours or theirs
    ]
    found = build_confusion_matrix(cases)
    sides = [
        [span.label if span else "-" for span in side]
        for side in ([c.gold for c in cases], [c.predicted for c in cases])
    ]
    if cases:
        assert np.array_equal(found.matrix, confusion_matrix(*sides, labels=[*found.labels, "-"]))


def test_json_is_short_and_says_how_much_there_is() -> None:
    documents = [
        Document(str(number), f"قال اسم{number} كلمة", (mark(f"اسم{number}", "PER", text=f"قال اسم{number}"),))
        for number in range(70)
    ]
    found = mistakes_of([(document, None) for document in documents])
    record = json.loads(json.dumps(found.to_dict(limit=20), allow_nan=False))
    examples = record["examples"]["missed"]
    # Every fourth, so that all parts of the test set are seen.
    assert [example["document"] for example in examples] == [str(number) for number in range(0, 70, 4)]
    assert examples[1] == {
        "document": "4",
        "kind": "missed",
        "gold": {"start": 4, "end": 8, "label": "PER"},
        "predicted": None,
        "surface_gold": "اسم4",
        "surface_predicted": "",
        "before": "قال ",
        "after": " كلمة",
    }
    assert record["kinds"]["missed"] == record["totals"]["costly"] == 70
    assert len(record["costly"]) == 20
    assert record["confusion"] == {"labels": ["PER"], "matrix": [[0, 70], [0, 0]]}
    assert record["totals"]["suspects"] == 0
    suspect = mistakes_of([(GOLD, PREDICTED)]).to_dict()["suspects"][1]
    assert (suspect["gold"], suspect["predicted"]["score"]) == (None, 0.97)
