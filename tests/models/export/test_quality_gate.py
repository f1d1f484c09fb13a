"""The gate of an export: an interval decides on the loss of F1, and agreement where there are too few names to tell."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import ThresholdError
from musamma.evaluation.counts import count_table
from musamma.evaluation.significance import compare_systems
from musamma.models.export import quality_gate
from musamma.models.export.quality_gate import check_quality, measure_quality

WORDS = 20


@dataclass
class Stub:
    """Predicts the names of documents, less some that it misses by chance; counts what it reads."""

    names: dict[str, tuple[Span, ...]]
    missed: float = 0.0
    seed: int = 1
    read: int = 0

    def predict(self, documents: Iterable[Document]) -> Iterator[Document]:
        chance = random.Random(self.seed)
        for document in documents:
            self.read += 1
            assert not document.spans
            yield document.with_spans(tuple(span for span in self.names[document.id] if chance.random() >= self.missed))


def write_texts(number: int, prefix: str = "d") -> list[Document]:
    """Texts of 20 words, every second of which is a name."""
    text = " ".join(["بيروت"] * WORDS)
    spans = tuple(Span(6 * word, 6 * word + 5, "LOC") for word in range(0, WORDS, 2))
    return [Document(f"{prefix}{index}", text, spans) for index in range(number)]


def measure(gold: list[Document], *, texts: list[Document] = (), missed: float, before: float = 0.0, **options: Any):
    names = {document.id: document.spans for document in (*gold, *texts)}
    predictors: Any = Stub(names, before), Stub(names, missed, seed=2)
    return measure_quality(*predictors, gold, name="gold", texts=texts, **{"limit": 0.3, **options}), predictors


def test_a_loss_beyond_chance_is_refused_with_both_scores():
    measured, _ = measure(write_texts(50), missed=0.1)
    assert measured.names == 500
    assert measured.before == 1.0
    assert measured.interval[0] > 0.3
    assert not measured.passed
    with pytest.raises(
        ThresholdError, match=r"F1 100\.00 before and 9\d\.\d\d after.*is above the limit of 0\.3"
    ) as info:
        check_quality(measured, quantized=True)
    assert "nothing was written; export without `quantize`" in str(info.value)
    allowed = float(str(info.value).rpartition("`max_f1_loss` ")[2])
    check_quality(measure(write_texts(50), missed=0.1, limit=allowed)[0], quantized=True)


def test_the_interval_is_that_of_compare_with_the_sign_of_a_loss():
    gold = write_texts(30)
    measured, predictors = measure(gold, missed=0.05, before=0.05)
    tables = [
        count_table(zip(gold, stub.predict(document.with_spans(()) for document in gold), strict=True))
        for stub in predictors
    ]
    comparison = compare_systems(*tables, rows=["strict"])[0]
    assert measured.loss == pytest.approx(-100 * comparison.difference)
    assert measured.interval == pytest.approx((-100 * comparison.interval.high, -100 * comparison.interval.low))


def test_with_too_few_names_agreement_decides():
    # Both predictors miss one name in ten, but not the same ones.
    gold, texts = write_texts(20), write_texts(100, "t")
    measured, _ = measure(gold, texts=texts, missed=0.1, before=0.1, min_agreement=80)
    low, high = measured.interval
    assert low < 0.3 < high
    assert measured.passed
    assert "too uncertain to compare with the limit of 0.3" in measured.reason
    assert "at least 80% are required" in measured.reason
    check_quality(measured, quantized=True)
    refused, _ = measure(gold, texts=texts, missed=0.1, before=0.1, min_agreement=97)
    with pytest.raises(ThresholdError, match=r"less than 97%.*`min_agreement` \d\d\.\d\d$") as info:
        check_quality(refused, quantized=True)
    allowed = float(str(info.value).rpartition(" ")[2])
    check_quality(measure(gold, texts=texts, missed=0.1, before=0.1, min_agreement=allowed)[0], quantized=True)


def test_low_agreement_is_refused_even_where_f1_does_not_fall():
    gold = write_texts(20)
    texts = write_texts(100, "t")
    names = {document.id: document.spans for document in (*gold, *texts)}
    others = {**names, **{document.id: () for document in texts}}
    predictors: Any = Stub(names), Stub(others)
    measured = measure_quality(*predictors, gold, name="gold", limit=0.3, texts=texts, min_agreement=97)
    assert measured.loss == 0
    assert measured.is_within_limit
    assert measured.agreement.agreeing == pytest.approx(2 * 200 / (1200 + 200))
    with pytest.raises(ThresholdError, match="of the names agree"):
        check_quality(measured, quantized=True)


def test_an_equal_export_passes_within_the_limit():
    measured, _ = measure(write_texts(10), missed=0.0, min_agreement=97)
    assert measured.interval == (0.0, 0.0)
    assert measured.is_within_limit
    assert "is within the limit of 0.3" in measured.reason
    assert measured.to_dict()["agreement"]["agreeing"] == 1.0
    assert measured.to_dict()["passed"] is True


def test_one_document_and_no_names_leave_the_decision_to_agreement():
    measured, _ = measure(write_texts(1), missed=0.0, min_agreement=97)
    assert not measured.exceeds_limit
    assert not measured.is_within_limit
    assert measured.passed
    bare = write_texts(1)
    predictors: Any = Stub({"d0": ()}), Stub({"d0": ()})
    assert measure_quality(*predictors, bare, name="gold", limit=0.3).agreement.agreeing == 1.0


def test_texts_are_read_until_there_are_enough_words(monkeypatch):
    monkeypatch.setattr(quality_gate, "AGREEMENT_WORDS", 10 * WORDS)
    gold, texts = write_texts(4), write_texts(50, "t")
    measured, predictors = measure(gold, texts=texts, missed=0.0)
    assert measured.agreement.documents == predictors[0].read == predictors[1].read == 10
    assert measured.agreement.words == 10 * WORDS
    # The annotated documents are all read.
    assert measure(write_texts(12), texts=texts, missed=0.0)[0].agreement.documents == 12


@pytest.mark.parametrize("annotated", [True, False])
def test_nested_names_are_measured_only_on_documents_that_have_them(annotated: bool):
    document = Document("d", "جامعة بغداد", (Span(0, 11, "ORG"),), (Span(6, 11, "GPE"),))
    gold = document if annotated else document.with_spans(document.spans)
    options: Any = {"name": "gold", "limit": 0.3}
    measured = quality_gate.compare_predictions([gold], [document], [gold], **options)
    expected = (1, 1.0, 1.0) if annotated else (None, None, None)
    assert (measured.nested_names, measured.nested_before, measured.nested_after) == expected
    assert ("nested_names" in measured.to_dict()) is annotated


def nest(document: Document, *, every: int = 1) -> Document:
    """The document with a nested name in each of its names, or in every third one, say."""
    nested = tuple(Span(name.start, name.start + 2, "GPE") for name in document.spans[::every])
    return Document(document.id, document.text, document.spans, nested)


def test_a_loss_of_nested_names_beyond_chance_is_refused():
    gold = [nest(document) for document in write_texts(50)]
    after = [nest(document, every=2) for document in gold]
    measured = quality_gate.compare_predictions(gold, gold, after, name="gold", limit=0.3)
    assert (measured.loss, measured.nested_names, measured.nested_before) == (0, 500, 1.0)
    assert measured.nested_after == pytest.approx(2 / 3)
    with pytest.raises(
        ThresholdError, match=r"a loss of 33\.33 \(95% interval .*\) on 500 nested names is above"
    ) as info:
        check_quality(measured, quantized=True)
    allowed = float(str(info.value).rpartition("`max_f1_loss` ")[2])
    check_quality(quality_gate.compare_predictions(gold, gold, after, name="gold", limit=allowed), quantized=True)


def test_names_must_agree_with_nested_ones_too():
    """Also where nested names are not annotated."""
    gold = write_texts(50)
    before, after = ([nest(document, every=every) for document in gold] for every in (1, 2))
    options: Any = {"name": "gold", "limit": 0.3, "min_agreement": 97}
    measured = quality_gate.compare_predictions(gold, before, after, **options)
    agreement = measured.agreement
    assert (measured.nested_names, agreement.agreeing, agreement.nested_names) == (None, 1.0, 500)
    assert agreement.all_agreeing == pytest.approx(2 * 750 / (1000 + 750))
    with pytest.raises(
        ThresholdError, match=r"85\.71% of the names, nested ones included, agree .*`min_agreement` 85\.71$"
    ):
        check_quality(measured, quantized=True)
    same = quality_gate.compare_predictions(gold, before, before, **options)
    check_quality(same, quantized=True)
    assert same.to_dict()["agreement"]["all_agreeing"] == 1.0
    flat = quality_gate.compare_predictions(gold, gold, gold, **options)
    assert "all_agreeing" not in flat.to_dict()["agreement"]
