"""The analysis of a system: its parts equal the results of the modules."""

from __future__ import annotations

import ast
import json
import random
from importlib.util import find_spec
from pathlib import Path

import pytest

from musamma.data.corpora import load_khabar
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation import MODES, score_documents
from musamma.evaluation.analysis import Analysis, analyse
from musamma.evaluation.matching import NamePair, pair_names
from musamma.evaluation.reliability import measure_reliability, reliability_of_pairs

LABELS = ("PER", "ORG", "GPE")


def tagged(document: Document, *, seed: int = 1, scored: bool = True) -> Document:
    """Return the predictions of a mediocre system."""
    draw = random.Random(f"{seed}{document.id}")
    names = []
    for span in document.spans:
        fate, score = draw.random(), draw.random() if scored else None
        if fate < 0.15:
            continue
        label = draw.choice(LABELS) if fate < 0.3 else span.label
        end = span.end - 1 if 0.3 < fate < 0.4 and span.end - span.start > 2 else span.end
        names.append(Span(span.start, end, label, score))
    return document.with_spans(names)


@pytest.fixture(scope="module")
def gold() -> list[Document]:
    return list(load_khabar("dev"))


@pytest.fixture(scope="module")
def analysis(gold: list[Document]) -> Analysis:
    training = [document for document in load_khabar("test") if document.id not in {other.id for other in gold}]
    predictions = [tagged(document) for document in reversed(gold)]
    return analyse(gold, predictions, system="كاشف <b>", training=training, resamples=200)


def test_the_parts_agree(analysis: Analysis, gold: list[Document]) -> None:
    predictions = [tagged(document) for document in gold]
    assert analysis.document_pairs == tuple(zip(gold, predictions, strict=True))
    assert analysis.scores == score_documents(gold, predictions)
    assert list(analysis.name_pairs) == [
        pair for one, other in analysis.document_pairs for pair in pair_names(one, other.spans if other else ())
    ]
    strict = analysis.scores.strict
    assert analysis.table.documents == tuple(document.id for document in gold)
    for mode in MODES:
        assert analysis.table.total(mode) == analysis.scores.modes[mode].micro
    assert {part.value: part.counts for part in analysis.slices if part.dimension == "label"} == strict.per_label
    assert analysis.errors.kinds["correct"] == strict.micro.tp
    assert sum(part.counts.support for part in analysis.slices if part.dimension == "seen") == strict.micro.support
    assert {"same label", "unseen"} <= {part.value for part in analysis.slices if part.dimension == "seen"}


def test_every_row_and_slice_has_an_interval(analysis: Analysis) -> None:
    assert analysis.intervals.keys() == {*analysis.table.rows, *(f"{mode}/macro" for mode in MODES)}
    for part in analysis.slices:
        assert part.intervals == analysis.intervals[f"slice:{part.dimension}={part.value}"]
    whole = analysis.intervals["strict"].f1
    assert 0 < whole.low < analysis.scores.strict.micro.f1 < whole.high < 1


def test_reliability_is_measured_by_strict_correctness(analysis: Analysis) -> None:
    predicted = [
        (span, {s.key for s in one.spans}) for one, other in analysis.document_pairs if other for span in other.spans
    ]
    expected = measure_reliability(
        [span.score or 0.0 for span, _ in predicted], [span.key in keys for span, keys in predicted]
    )
    assert analysis.reliability is not None
    assert analysis.reliability.count == analysis.scores.strict.micro.predicted
    assert analysis.reliability.ece == pytest.approx(expected.ece)
    assert analysis.reliability.brier == pytest.approx(expected.brier)


def test_json_has_everything_except_the_texts(analysis: Analysis, gold: list[Document]) -> None:
    text = json.dumps(analysis.to_dict(), ensure_ascii=False, allow_nan=False)
    record = json.loads(text)
    assert record["system"] == "كاشف <b>"
    assert record["documents"] == len(gold)
    assert record["scores"] == json.loads(json.dumps(analysis.scores.to_dict()))
    assert record["resampling"] == {"resamples": 200, "seed": 1, "note": None}
    assert not any(row.startswith("slice:") for row in record["intervals"])
    low, high = record["intervals"]["strict"]["f1"]
    assert low < record["scores"]["micro"]["f1"] < high
    assert record["intervals"].keys() >= {"strict/macro", "overlap", "strict/PER"}
    part = next(part for part in record["slices"] if part["dimension"] == "proclitic" and part["value"] == "yes")
    assert part["support"] == part["tp"] + part["fn"]
    assert part["intervals"]["f1"][0] <= part["f1"] <= part["intervals"]["f1"][1]
    assert record["reliability"]["count"] == analysis.scores.strict.micro.predicted
    assert record["reliability"]["bins"][0]["low"] == 0.0
    assert record["mistakes"]["kinds"] == dict(analysis.errors.kinds)
    assert not any(document.text[200:400] in text for document in gold)


def test_the_same_call_gives_the_same_intervals(analysis: Analysis, gold: list[Document]) -> None:
    again = analyse(gold, [tagged(document) for document in gold], system="كاشف <b>", resamples=200)
    # Neither the order of the predictions nor the rows of the training documents change other intervals.
    assert again.intervals == {row: analysis.intervals[row] for row in again.intervals}
    assert not [part for part in again.slices if part.dimension in ("seen", "frequency")]


def test_predictions_without_scores_have_no_reliability(gold: list[Document]) -> None:
    result = analyse(gold, [tagged(document, scored=False) for document in gold], system="x", resamples=0)
    assert result.reliability is None
    assert result.intervals == {}
    assert all(part.intervals is None for part in result.slices)
    record = json.loads(json.dumps(result.to_dict()))
    assert (record["reliability"], record["intervals"], record["slices"][0]["intervals"]) == (None, {}, None)


def test_names_without_a_score_are_ignored_among_others() -> None:
    pairs = [
        NamePair("a", "correct", Span(0, 1, "X"), Span(0, 1, "X", 0.5)),
        NamePair("a", "spurious", None, Span(2, 3, "X")),
    ]
    result = reliability_of_pairs(pairs)
    assert result is not None
    assert (result.count, result.brier) == (1, 0.25)


def test_missing_predictions_can_count_as_empty(gold: list[Document]) -> None:
    predictions = [tagged(document) for document in gold[1:]]
    with pytest.raises(InputError, match="no prediction for document"):
        analyse(gold, predictions, system="x", resamples=0)
    result = analyse(gold, predictions, system="x", resamples=0, missing_as_empty=True)
    assert result.scores.missing == 1
    assert result.document_pairs[0] == (gold[0], None)
    assert result.scores.strict.micro.support == sum(len(document.spans) for document in gold)


def test_one_document_without_a_name_is_enough() -> None:
    bare = Document("a", "لا اسم هنا")
    result = analyse([bare], [bare], system="x", resamples=50)
    assert (result.slices, result.name_pairs, result.reliability) == ((), (), None)
    json.dumps(result.to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("gold_documents", "score", "modes", "message"),
    [
        ([], None, MODES, "no gold document; expected at least one"),
        (
            [Document("k7", "بغداد")],
            7.5,
            MODES,
            r"document 'k7': score 7.5 of the name \[0, 5\); expected a confidence in",
        ),
        ([Document("k7", "بغداد")], None, ("loose",), "mode 'loose'"),
    ],
)
def test_invalid_input_raises_an_error(
    gold_documents: list[Document], score: float | None, modes: tuple[str, ...], message: str
) -> None:
    predictions = [document.with_spans([Span(0, 5, "GPE", score)]) for document in gold_documents]
    with pytest.raises(InputError, match=message):
        analyse(gold_documents, predictions, system="x", modes=modes, resamples=50)


@pytest.mark.parametrize(
    ("names", "message"),
    [([Span(0, 5, "PLACE"), Span(6, 10, "PERS")], "names of other labels: PERS, PLACE"), ([], "no name")],
)
def test_training_documents_must_have_labels_of_the_gold(gold: list[Document], names: list[Span], message: str) -> None:
    training = [Document("t", "بغداد محمد", tuple(names))]
    with pytest.raises(InputError, match=f"training documents with {message}; expected labels of the gold: EVENT, FAC"):
        analyse(gold, gold, system="x", training=training, resamples=0)


def test_a_warning_about_the_intervals_is_noted(gold: list[Document]) -> None:
    assert str(analyse(gold, gold, system="x", resamples=50, sentences=1).note).startswith(
        "every sentence is a document"
    )
    few = analyse(gold[:3], gold[:3], system="x", resamples=50)
    assert few.note is not None
    assert few.note.startswith("3 documents with names: intervals over so few are too narrow")
    assert analyse(gold[:3], gold[:3], system="x", resamples=0).note is None


@pytest.mark.parametrize("module", ["analysis", "matching", "significance", "error_analysis", "slices"])
def test_analysis_imports_only_data_and_evaluation(module: str) -> None:
    spec = find_spec(f"musamma.evaluation.{module}")
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    layers = {name.split(".")[1] for name in imported if name.startswith("musamma.")}
    assert layers <= {"data", "evaluation"}
    assert not {name for name in imported if name.split(".")[0] in ("torch", "transformers")}
