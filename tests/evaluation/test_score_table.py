"""The printed table: the same figures at any width, plain where it is piped."""

import io
import re

import pytest
from rich.console import Console

from musamma.data.document import Document, Span
from musamma.evaluation import print_scores, score_documents, score_tags

TEXT = "أعلن (داعش)-الموصل أن محمد السعيد وصل"
GOLD = Document(
    "a", TEXT, (Span(6, 10, "ORG"), Span(12, 18, "LOC"), Span(22, 33, "PER")), nested=(Span(22, 26, "PER"),)
)
PREDICTED = Document("a", TEXT, (Span(6, 10, "ORG"), Span(22, 26, "PER")))


def printed(scores, width: int) -> str:
    file = io.StringIO()
    print_scores(scores, Console(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize("width", [20, 80, 250])
def test_table(width):
    output = printed(score_documents([GOLD], [PREDICTED]), width)
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if re.search(r"\d\.\d", line)}
    assert rows["strict"] == ["50.00", "33.33", "40.00", "3", "33.33"]
    assert rows["iob2_strict"] == ["50.00", "50.00", "50.00", "2", "50.00"]
    assert rows["overlap"] == ["100.00", "66.67", "80.00", "3", "66.67"]
    assert rows["LOC"] == ["0.00", "0.00", "0.00", "1", "0", "0", "1"]
    assert rows["micro"] == ["50.00", "33.33", "40.00", "3", "1", "1", "2"]
    assert rows["macro"] == ["33.33", "33.33", "33.33", "3"]
    assert "\x1b" not in output
    assert "documents: 1\n" in output
    assert "gold: 1 names inside names, compared in no mode\n" in output
    assert "gold: 1 words that several names share\n" in output
    assert "gold: 1 names without an IOB tag of their own\n" in output
    assert "predictions:" not in output


def test_the_headline_of_tags_is_their_strict_reading():
    output = printed(score_tags([["I-PER", "B-LOC"]], [["B-PER", "B-LOC"]]), 80)
    lines = [line.split() for line in output.splitlines()]
    assert ["micro", "50.00", "100.00", "66.67", "1", "1", "1", "0"] in lines
    assert ["conlleval", "100.00", "100.00", "100.00", "2", "100.00"] in lines


def test_documents_without_a_prediction_are_told_of():
    assert "counted as empty: 1" in printed(score_documents([GOLD], [], missing_as_empty=True), 80)


def test_labels_that_the_gold_has_not_are_told_of():
    predicted = PREDICTED.with_spans([Span(22, 33, "PERS")])
    assert "predictions: labels that the gold has not: PERS\n" in printed(score_documents([GOLD], [predicted]), 80)
    assert "has not" not in printed(score_documents([GOLD], [PREDICTED]), 80)
