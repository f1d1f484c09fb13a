"""Error analysis: hand-made articles with every kind of error, and properties of the tables."""

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


def analyse(pairs: Sequence[tuple[Document, Document | None]]) -> ErrorAnalysis:
    return analyse_errors(pairs, all_pairs(pairs))


def all_pairs(pairs: Iterable[tuple[Document, Document | None]]) -> list[NamePair]:
    return [pair for gold, other in pairs for pair in pair_names(gold, other.spans if other is not None else ())]


def reasons(errors: ErrorAnalysis) -> list[tuple[str, str]]:
    return [(suspect.surface, suspect.reason) for suspect in errors.suspects]


def test_errors_are_shown_in_their_context() -> None:
    errors = analyse([(GOLD, PREDICTED)])
    assert tuple(errors.kinds) == PAIR_KINDS
    assert errors.kinds == {
        "correct": 1,
        "label": 1,
        "proclitic": 1,
        "border": 1,
        "label_and_border": 1,
        "missed": 1,
        "spurious": 2,
    }
    (proclitic,) = errors.examples["proclitic"]
    assert (proclitic.surface_gold, proclitic.surface_predicted) == ("الموصل", "بالموصل")
    assert proclitic.before.endswith("تقدمت نحو ")
    assert proclitic.after == "، فيما نفى تنظيم داعش ذلك، وقالت وزارة ا"
    assert len(proclitic.after) == CONTEXT_LENGTH == len(proclitic.before)
    (missed,) = errors.examples["missed"]
    assert (missed.surface_gold, missed.surface_predicted, missed.predicted) == ("دمشق", "", None)
    assert missed.after == " وحلب"
    assert [example.surface_predicted for example in errors.examples["spurious"]] == ["الدفاع", "حلب"]
    assert "correct" not in errors.examples


def test_no_error_makes_no_example() -> None:
    errors = analyse([(GOLD, GOLD), (Document("b", "لا اسم هنا"), None)])
    assert (errors.examples, errors.costly, errors.suspects) == ({}, (), ())
    assert errors.kinds["correct"] == 6
    assert analyse([]).confusion.matrix.tolist() == [[0]]


def test_confused_labels() -> None:
    errors = analyse([(GOLD, PREDICTED)]).confusion
    assert errors.labels == ("GPE", "LOC", "ORG", "PER")
    # Of three GPE one is predicted with a preposition, one is predicted as LOC, and one is missed. The ministry is predicted as
    # GPE, by the longer of the two names in it; the shorter one, PER, and حلب are spurious.
    assert errors.matrix.tolist() == [
        [1, 1, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [0, 0, 0, 1, 0],
        [1, 0, 0, 1, 0],
    ]
    assert errors.matrix.dtype == np.int64


def test_forms_with_most_errors_come_first() -> None:
    texts = ["داعش في حلب", "دَاعِش في حلب", "هاجم داعش حلب", "عاد داعــش"]
    gold, predicted = [], []
    for number, text in enumerate(texts):
        first = mark(text.split()[0] if number < 2 else text.split()[1], "ORG", text=text)
        gold.append(Document(str(number), text, (first, *([mark("حلب", "GPE", text=text)] if number < 3 else []))))
        wrong = {0: [first], 1: [], 2: [Span(first.start, first.end, "PER")], 3: [Span(0, first.end, "ORG")]}[number]
        predicted.append(gold[-1].with_spans([*wrong, *gold[-1].spans[1 : 1 + (number == 0)]]))
    predicted[1] = predicted[1].with_spans([mark("حلب", "GPE", text=texts[1])])
    errors = analyse(list(zip(gold, predicted, strict=True))).costly
    assert errors == (
        CostlyForm("داعش", 3, missed=1, spurious=0, wrong_label=1, wrong_border=1, occurrences=4),
        CostlyForm("حلب", 1, missed=1, spurious=0, wrong_label=0, wrong_border=0, occurrences=3),
    )


def test_confident_contradictions_are_sorted_by_score() -> None:
    # The mean score of the correct predictions is 0.9: lower scores are ignored. العراقية is annotated inside another name and
    # no contradiction.
    errors = analyse([(GOLD, PREDICTED)])
    assert reasons(errors) == [
        ("داعش", "predicted ORG with score 0.990, annotated with other borders"),
        ("حلب", "predicted GPE with score 0.970, not annotated"),
        ("بغداد", "predicted LOC with score 0.950, annotated GPE"),
    ]
    first, second, _ = errors.suspects
    assert first.gold == mark("تنظيم داعش", "ORG")
    assert (second.gold, second.predicted, second.score) == (None, mark("حلب", "GPE", 0.97), 0.97)
    assert second.before == TEXT[-43:-3]
    assert second.after == ""


def test_scores_are_compared_with_those_of_the_same_label() -> None:
    # Correct PER have the score 0.6 and correct GPE 0.99: 0.7 is high for PER and low for GPE.
    text = "محمد دمشق وليد حلب"
    gold = Document("a", text, (mark("محمد", "PER", text=text), mark("دمشق", "GPE", text=text)))
    predicted = [
        mark("محمد", "PER", 0.6, text=text),
        mark("دمشق", "GPE", 0.99, text=text),
        mark("وليد", "PER", 0.7, text=text),
        mark("حلب", "GPE", 0.7, text=text),
    ]
    assert [surface for surface, _ in reasons(analyse([(gold, gold.with_spans(predicted))]))] == ["وليد"]
    # A score equal to the mean is confident.
    equal_score = [*predicted[:2], mark("وليد", "PER", 0.6, text=text)]
    assert [surface for surface, _ in reasons(analyse([(gold, gold.with_spans(equal_score))]))] == ["وليد"]
    # A label without a correct prediction is compared with the mean of all labels, 0.795.
    for score, expected in ((0.79, []), (0.8, ["حلب"])):
        others = [*predicted[:2], mark("حلب", "ORG", score, text=text)]
        assert [surface for surface, _ in reasons(analyse([(gold, gold.with_spans(others))]))] == expected


def labelled(*labels: str | None, form: str = "البصرة") -> list[Document]:
    """Return one document per label, with one name each; ``None`` leaves it without annotation."""
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
def test_forms_with_another_usual_label_are_suspect(labels: list[str | None], expected: list[str]) -> None:
    documents = labelled(*labels)
    errors = analyse([(document, document) for document in documents])
    assert reasons(errors) == [("البصرة", reason) for reason in expected]
    for suspect in errors.suspects:
        here = next(document for document in documents if document.id == suspect.document)
        assert f"{suspect.before}{suspect.surface}{suspect.after}" == here.text
        assert suspect.gold == (here.spans[0] if here.spans else None)
        assert suspect.score is None


def test_forms_are_errors_as_whole_words_and_after_proclitics() -> None:
    documents = labelled("ORG", "ORG", "ORG", "ORG", form="الجيش")
    text = "قال للجيش والجيش إن الجيشان قويان، فالجيشُ والاجيش، حالجيش"
    documents.append(Document("e", text, (mark("الجيشان", "ORG", text=text),)))
    errors = analyse([(document, None) for document in documents])
    assert {reason for _, reason in reasons(errors)} <= {"the form is annotated ORG in 4 of 6 places, here not"}
    assert reasons(errors) == []  # Four of six is less than three quarters.
    documents += [
        Document(f"f{number}", document.text, document.spans)
        for number, document in enumerate(labelled("ORG", "ORG", form="الجيش"))
    ]
    errors = analyse([(document, None) for document in documents])
    assert [(suspect.document, suspect.surface, suspect.before) for suspect in errors.suspects] == [
        ("e", "لجيش", "قال ل"),
        ("e", "الجيش", "قال للجيش و"),
    ]


def test_short_forms_are_not_searched_after_proclitics() -> None:
    documents = [*labelled("GPE", "GPE", "GPE", form="قم"), Document("e", "من قم وقم بلقم")]
    assert [suspect.before for suspect in analyse([(document, None) for document in documents]).suspects] == ["من "]


def test_an_occurrence_is_suspect_once_and_only_outside_annotated_names() -> None:
    city, college = "وصل إلى بغداد", "زار جامعة بغداد"
    documents = [Document(f"c{number}", city, (mark("بغداد", "GPE", text=city),)) for number in range(9)] + [
        Document(f"u{number}", college, (mark("جامعة بغداد", "ORG", text=college),)) for number in range(4)
    ]
    text = "في بغداد جامعة بغداد وفي بغداد"
    documents.append(Document("e", text, (mark("بغداد", "GPE", text=text),)))
    errors = analyse([(document, None) for document in documents]).suspects
    assert [(suspect.surface, len(suspect.before)) for suspect in errors] == [("بغداد", 25), ("جامعة بغداد", 9)]


def test_confident_predictions_come_first_then_forms_by_evidence() -> None:
    documents = labelled(*["GPE"] * 9, "LOC") + [
        Document(f"{document.id}b", document.text, document.spans)
        for document in labelled("ORG", "ORG", "ORG", None, form="داعش")
    ]
    pairs = [
        (document, document.with_spans([Span(s.start, s.end, s.label, 0.9) for s in document.spans]))
        for document in documents
    ]
    assert [surface for surface, _ in reasons(analyse(pairs))] == ["البصرة", "داعش"]
    # The prediction agrees with the usual label: one suspect with both reasons, in first place.
    last = documents[-1]
    pairs[-1] = last, last.with_spans([mark("داعش", "ORG", 0.98, text=last.text)])
    errors = analyse(pairs)
    assert reasons(errors) == [
        ("داعش", "predicted ORG with score 0.980, not annotated; the form is annotated ORG in 3 of 4 places, here not"),
        ("البصرة", "the form is annotated GPE in 9 of 10 places, here LOC"),
    ]
    # Below the mean score the prediction is no reason, but it is shown.
    pairs[-1] = last, last.with_spans([mark("داعش", "ORG", 0.2, text=last.text)])
    assert [(suspect.surface, suspect.score) for suspect in analyse(pairs).suspects] == [
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
        lambda drawn: [
            Span(start, end, label, score)
            for (start, label, score), (end, _, _) in zip(
                sorted(drawn, key=lambda cut: cut[0]), sorted(drawn, key=lambda cut: cut[0])[1:], strict=False
            )
            if label is not None
        ]
    )


@given(st.lists(st.tuples(spans(), spans()), max_size=3))
def test_the_tables_add_up(sides: list[tuple[list[Span], list[Span]]]) -> None:
    pairs = [
        (gold := Document(str(number), TEXT, tuple(Span(*span.key) for span in names)), gold.with_spans(predicted))
        for number, (names, predicted) in enumerate(sides)
    ]
    name_pairs = all_pairs(pairs)
    errors = analyse_errors(pairs, name_pairs)
    assert sum(errors.kinds.values()) == len(name_pairs)
    for kind in ERROR_KINDS:
        assert len(errors.examples.get(kind, ())) == errors.kinds[kind]
    gold_labels = Counter(span.label for gold, _ in pairs for span in gold.spans)
    predicted_labels = Counter(span.label for _, predicted in pairs for span in predicted.spans)
    for index, label in enumerate(errors.confusion.labels):
        assert errors.confusion.matrix[index].sum() == gold_labels[label]
        assert errors.confusion.matrix[:, index].sum() == predicted_labels[label]
    for form in errors.costly:
        assert form.errors == form.missed + form.spurious + form.wrong_label + form.wrong_border
        assert 0 < form.errors <= form.occurrences
    assert sum(form.errors for form in errors.costly) == len(name_pairs) - errors.kinds["correct"]
    places = [
        (suspect.document, len(suspect.before), suspect.surface, suspect.gold, suspect.predicted)
        for suspect in errors.suspects
    ]
    assert len(set(places)) == len(places)
    for example in (example for kind in errors.examples.values() for example in kind):
        names = [span for span in (example.gold, example.predicted) if span is not None]
        start, end = min(span.start for span in names), max(span.end for span in names)
        assert (example.before, example.after) == (TEXT[max(0, start - 40) : start], TEXT[end : end + 40])


@given(st.lists(st.tuples(st.sampled_from(["GPE", "PER", None]), st.sampled_from(["GPE", "LOC", None])), max_size=30))
def test_the_matrix_equals_scikit_learns(labels: list[tuple[str | None, str | None]]) -> None:
    pairs = [
        NamePair("a", "missed", gold and Span(0, 1, gold), predicted and Span(0, 1, predicted))
        for gold, predicted in labels
        if gold or predicted
    ]
    errors = build_confusion_matrix(pairs)
    sides = [
        [span.label if span else "-" for span in side]
        for side in ([p.gold for p in pairs], [p.predicted for p in pairs])
    ]
    if pairs:
        assert np.array_equal(errors.matrix, confusion_matrix(*sides, labels=[*errors.labels, "-"]))


def test_json_is_limited_and_gives_the_totals() -> None:
    documents = [
        Document(str(number), f"قال اسم{number} كلمة", (mark(f"اسم{number}", "PER", text=f"قال اسم{number}"),))
        for number in range(70)
    ]
    errors = analyse([(document, None) for document in documents])
    record = json.loads(json.dumps(errors.to_dict(limit=20), allow_nan=False))
    examples = record["examples"]["missed"]
    # Every fourth, so that the sample covers all of the test set.
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
    suspect = analyse([(GOLD, PREDICTED)]).to_dict()["suspects"][1]
    assert (suspect["gold"], suspect["predicted"]["score"]) == (None, 0.97)
