"""The printed tables: the same numbers at any width, without escape codes."""

import io
import re

import pytest
from rich.console import Console

from musamma.data.document import Document, Span
from musamma.evaluation import print_runs, print_scores, score_documents, score_tags, spread
from musamma.evaluation.significance import Interval, Intervals

TEXT = "أعلن (داعش)-الموصل أن محمد السعيد وصل"
GOLD = Document(
    "a", TEXT, (Span(6, 10, "ORG"), Span(12, 18, "LOC"), Span(22, 33, "PER")), nested=(Span(22, 26, "PER"),)
)
PREDICTED = Document("a", TEXT, (Span(6, 10, "ORG"), Span(22, 26, "PER")))


def print_to_string(scores, width: int, **options) -> str:
    file = io.StringIO()
    print_scores(scores, Console(file=file, width=width), **options)
    return file.getvalue()


@pytest.mark.parametrize("width", [20, 80, 250])
def test_table(width):
    output = print_to_string(score_documents([GOLD], [PREDICTED]), width)
    rows = {line.split()[0]: line.split()[1:] for line in output.splitlines() if re.search(r"\d\.\d", line)}
    assert rows["strict"] == ["50.00", "33.33", "40.00", "3", "33.33"]
    assert rows["iob2_strict"] == ["50.00", "50.00", "50.00", "2", "50.00"]
    assert rows["overlap"] == ["100.00", "66.67", "80.00", "3", "66.67"]
    assert rows["LOC"] == ["0.00", "0.00", "0.00", "1", "0", "0", "1"]
    assert rows["micro"] == ["50.00", "33.33", "40.00", "3", "1", "1", "2"]
    assert rows["macro"] == ["33.33", "33.33", "33.33", "3"]
    assert "\x1b" not in output
    assert "documents: 1\n" in output
    # داعش is correct, محمد is half of محمد السعيد, الموصل is missed.
    assert rows["semeval_exact"] == ["50.00", "33.33", "40.00", "3"]
    assert rows["semeval_partial"] == ["75.00", "50.00", "60.00", "3"]
    assert rows["semeval_type"] == ["100.00", "66.67", "80.00", "3"]
    assert "semeval_strict" not in rows
    # محمد is nested in the gold and outermost in the predictions.
    assert rows["nested"] == ["0.00", "0.00", "0.00", "1", "0.00"]
    assert rows["all"] == ["100.00", "50.00", "66.67", "4", "55.56"]
    assert "gold: 1 words that several names share\n" in output
    assert "gold: 1 names without a separate IOB tag\n" in output
    assert "predictions:" not in output


def test_tags_show_labels_in_the_strict_iob2_mode():
    output = print_to_string(score_tags([["I-PER", "B-LOC"]], [["B-PER", "B-LOC"]]), 80)
    lines = [line.split() for line in output.splitlines()]
    assert ["micro", "50.00", "100.00", "66.67", "1", "1", "1", "0"] in lines
    assert ["conlleval", "100.00", "100.00", "100.00", "2", "100.00"] in lines
    assert "semeval" not in output
    assert "layer" not in output


def test_documents_without_a_prediction_are_counted():
    assert "counted as empty: 1" in print_to_string(score_documents([GOLD], [], missing_as_empty=True), 80)


def test_labels_missing_from_the_gold_are_listed():
    predicted = PREDICTED.with_spans([Span(22, 33, "PERS")])
    assert "predictions: labels the gold does not have: PERS\n" in print_to_string(
        score_documents([GOLD], [predicted]), 80
    )
    assert "does not have" not in print_to_string(score_documents([GOLD], [PREDICTED]), 80)


def test_flat_names_have_no_table_of_layers():
    assert "layer" not in print_to_string(score_documents([PREDICTED], [PREDICTED]), 80)


@pytest.mark.parametrize("width", [20, 200])
def test_intervals_follow_f1(width):
    whole = Interval(0.0, 1.0)
    intervals = {
        "strict": Intervals(whole, whole, Interval(0.125, 0.625)),
        "strict/LOC": Intervals(whole, whole, Interval(0.0, 0.25)),
        "strict/macro": Intervals(whole, whole, Interval(0.1, 0.5)),
    }
    output = print_to_string(score_documents([GOLD], [PREDICTED]), width, intervals=intervals)
    lines = [" ".join(line.split()) for line in output.splitlines()]
    assert "strict 50.00 33.33 40.00 [12.50, 62.50] 3 33.33 [10.00, 50.00]" in lines
    assert "overlap 100.00 66.67 80.00 3 66.67" in lines
    assert "LOC 0.00 0.00 0.00 [0.00, 25.00] 1 0 0 1" in lines
    assert "micro 50.00 33.33 40.00 [12.50, 62.50] 3 1 1 2" in lines
    assert "[low, high]: 95% confidence interval of F1, bootstrap over documents" in lines


def test_runs_are_printed_with_mean_and_standard_deviation():
    """One run has all three names right, the other none."""
    runs = [score_documents([GOLD], [GOLD]), score_documents([GOLD], [GOLD.with_spans([])])]
    file = io.StringIO()
    names = ["runs/[b]one", "runs/" + "two" * 90]
    print_runs(names, runs, spread(runs), Console(file=file, width=40))
    lines = [" ".join(line.split()) for line in file.getvalue().splitlines()]
    assert "runs/[b]one 100.00 100.00 100.00 100.00 100.00 100.00" in lines
    assert f"{names[1]} 0.00 0.00 0.00 0.00 0.00 0.00" in lines
    assert "strict 50.00 ± 70.71 50.00 ± 70.71 50.00 ± 70.71 3 50.00 ± 70.71" in lines
    assert "PER 50.00 ± 70.71 50.00 ± 70.71 50.00 ± 70.71 1" in lines
    assert "mode (2 runs) P R F1 support macro F1" in lines
    assert lines.count("gold: 1 words that several names share") == 1
    assert "runs/[b]one: predictions: 1 words that several names share" in lines
    assert f"{names[1]}: predictions: 1 words that several names share" not in lines


@pytest.mark.parametrize(("gold", "remarked"), [(PREDICTED, True), (GOLD, False)])
def test_a_remark_says_that_nested_names_are_not_annotated(gold: Document, remarked: bool):
    output = print_to_string(score_documents([gold], [GOLD]), 80)
    assert (
        "gold: no nested names; where they are not annotated, the layers nested and all say nothing" in output
    ) is remarked
