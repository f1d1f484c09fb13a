"""``musamma evaluate`` from the command line."""

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from musamma.cli.evaluate import evaluate
from musamma.data.corpus_files import read_documents
from musamma.data.document import Document, Span, write_jsonl
from musamma.data.errors import InputError
from musamma.evaluation.counts import count_table
from musamma.evaluation.document_pairing import pair_documents
from musamma.evaluation.significance import bootstrap_intervals

app = typer.Typer()
app.command()(evaluate)

TEXTS = "أعلن (داعش)-الموصل أن محمد السعيد وصل", "وصل الوفد إلى بيروت وبالموصل"
GOLD = [
    Document("a", TEXTS[0], (Span(6, 10, "ORG"), Span(12, 18, "LOC"), Span(22, 33, "PER"))),
    Document("b", TEXTS[1], (Span(14, 19, "LOC"), Span(22, 28, "LOC"))),
]
PREDICTED = [
    Document("b", TEXTS[1], (Span(14, 19, "LOC", 0.9), Span(20, 28, "LOC", 0.8))),
    Document("a", TEXTS[0], (Span(6, 10, "ORG", 0.7), Span(22, 26, "PER", 0.6))),
]
CONLL = "أعلن O\nمحمد I-PERS\nالسعيد I-PERS\nبغداد B-LOC\n\nبيروت B-LOC\n"


def call(*arguments: object) -> str:
    """Return what the command prints; errors are raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    write_jsonl(GOLD, tmp_path / "gold.jsonl")
    write_jsonl(PREDICTED, tmp_path / "predicted.jsonl")
    return tmp_path / "gold.jsonl", tmp_path / "predicted.jsonl"


def rows(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.strip()}


def test_predictions_are_scored_and_written(files, tmp_path):
    gold, predicted = files
    output = call(gold, "--predictions", predicted, "--json", tmp_path / "new" / "scores.json")
    assert rows(output)["strict"] == ["50.00", "40.00", "44.44", "5", "46.67"]
    assert rows(output)["proclitic"][:4] == ["75.00", "60.00", "66.67", "5"]
    assert rows(output)["whole_word"][:4] == ["75.00", "60.00", "66.67", "5"]
    assert rows(output)["semeval_partial"] == ["75.00", "60.00", "66.67", "5"]
    assert rows(output)["LOC"] == ["50.00", "33.33", "40.00", "3", "1", "1", "2"]
    assert "\x1b" not in output
    record = json.loads((tmp_path / "new" / "scores.json").read_text("utf-8"))
    assert record["micro"] == {
        "precision": 0.5,
        "recall": 0.4,
        "f1": pytest.approx(4 / 9),
        "support": 5,
        "tp": 2,
        "fp": 2,
        "fn": 3,
    }
    assert record["whole_word"]["per_label"]["LOC"]["tp"] == 2
    assert record["semeval"]["partial"]["micro"]["partial"] == 2
    assert record["layers"]["outermost"]["micro"] == record["micro"]
    assert record["losses"]["gold"]["shared_words"] == 1
    assert (record["gold"], record["predictions"], record["documents"]) == (str(gold), str(predicted), 2)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["scores.json"]


def test_modes_can_be_chosen(files):
    gold, predicted = files
    assert "whole_word" in (table := rows(call(gold, "--predictions", predicted, "--mode", "whole_word")))
    assert "overlap" not in table
    with pytest.raises(InputError, match="mode 'exact'"):
        call(gold, "--predictions", predicted, "--mode", "exact")


def test_exactly_one_of_model_and_predictions_is_needed(files):
    gold, predicted = files
    with pytest.raises(InputError, match="neither --model nor --predictions; expected exactly one"):
        call(gold)
    with pytest.raises(InputError, match="both --model and --predictions; expected exactly one"):
        call(gold, "--predictions", predicted, "--model", "runs/mine")


def test_the_command_exits_with_status_2(files, capsys):
    from musamma.cli.main import run

    assert run(["evaluate", str(files[0])]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("musamma: musamma evaluate: neither --model nor --predictions")


def test_a_missing_prediction_is_an_error_or_counted(files, tmp_path):
    gold, _ = files
    write_jsonl(PREDICTED[:1], tmp_path / "one.jsonl")
    with pytest.raises(InputError, match="no prediction for document 'a'"):
        call(gold, "--predictions", tmp_path / "one.jsonl")
    output = call(gold, "--predictions", tmp_path / "one.jsonl", "--allow-missing")
    assert rows(output)["strict"][3] == "5"
    assert "without a prediction, counted as empty: 1" in output


def test_an_unusable_path_is_an_error(files, tmp_path):
    gold, predicted = files
    with pytest.raises(InputError, match=r"none\.jsonl"):
        call(tmp_path / "none.jsonl", "--predictions", predicted)
    with pytest.raises(InputError, match=r"gold\.jsonl: File exists; choose a path that can be written"):
        call(gold, "--predictions", predicted, "--json", gold / "scores.json")


def test_labels_are_renamed_on_both_sides_or_on_one(files, tmp_path):
    gold, predicted = files
    (tmp_path / "map.yaml").write_text("LOC: PLACE\nORG: null\nPER: PER\n", encoding="utf-8")
    output = call(gold, "--predictions", predicted, "--labels", tmp_path / "map.yaml")
    assert rows(output)["PLACE"] == ["50.00", "33.33", "40.00", "3", "1", "1", "2"]
    assert "ORG" not in rows(output)
    assert "gold: 1 names left out by the label map" in output
    assert "predictions: 1 names left out by the label map" in output
    output = call(gold, "--predictions", predicted, "--gold-labels", tmp_path / "map.yaml")
    assert rows(output)["PLACE"] == ["0.00", "0.00", "0.00", "3", "0", "0", "3"]
    assert rows(output)["LOC"] == ["0.00", "0.00", "0.00", "0", "0", "2", "0"]
    assert "predictions: labels the gold does not have: LOC, ORG" in output
    output = call(gold, "--predictions", predicted, "--predicted-labels", tmp_path / "map.yaml")
    assert rows(output)["LOC"][3:] == ["3", "0", "0", "3"]


@pytest.mark.parametrize("sentences", [1, 2])
def test_tags_of_conll_files_are_counted_as_they_stand(tmp_path, sentences):
    gold, predicted = tmp_path / "gold.conll", tmp_path / "tagged.conll"
    gold.write_text(CONLL, encoding="utf-8")
    predicted.write_text(CONLL.replace("محمد I-PERS", "محمد B-PER").replace("I-PERS", "I-PER"), encoding="utf-8")
    arguments = gold, "--predictions", predicted, "--labels", "anercorp-to-coarse", "--sentences", sentences
    table = rows(call(*arguments))
    assert table["strict"][:4] == table["iob2_strict"][:4] == ["100.00", "100.00", "100.00", "3"]
    table = rows(call(*arguments, "--tags"))
    assert table["strict"][:4] == table["conlleval"][:4] == ["100.00", "100.00", "100.00", "3"]
    assert table["iob2_strict"][:4] == ["66.67", "100.00", "80.00", "2"]


def test_tags_are_compared_with_spans_of_other_formats(tmp_path):
    gold = tmp_path / "gold.conll"
    gold.write_text(CONLL, encoding="utf-8")
    write_jsonl(read_documents(gold), tmp_path / "tagged.jsonl")
    table = rows(call(gold, "--predictions", tmp_path / "tagged.jsonl", "--tags"))
    assert table["conlleval"][:4] == ["100.00", "100.00", "100.00", "3"]
    assert table["iob2_strict"][:4] == ["66.67", "100.00", "80.00", "2"]


def test_tags_need_a_conll_file(files):
    gold, predicted = files
    with pytest.raises(InputError, match=r"gold\.jsonl: `tags=True` with a gold file in jsonl; expected a CoNLL file"):
        call(gold, "--predictions", predicted, "--tags")


def test_a_model_tags_the_documents_without_seeing_their_names(files, tmp_path, monkeypatch):
    class Tagger:
        def __init__(self, model: str, *, device: str | None) -> None:
            assert (model, device) == ("runs/mine", "cpu")

        def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
            by_id = {document.id: document for document in PREDICTED}
            for document in documents:
                assert document.spans == ()
                yield by_id[document.id]

    inference, progress = ModuleType("musamma.inference"), ModuleType("musamma.inference.progress_bar")
    inference.Tagger, progress.show_progress = Tagger, iter
    monkeypatch.setitem(sys.modules, "musamma.inference", inference)
    monkeypatch.setitem(sys.modules, "musamma.inference.progress_bar", progress)
    gold, predicted = files
    arguments = "--model", "runs/mine", "--device", "cpu", "--json", tmp_path / "scores.json"
    assert call(gold, *arguments) == call(gold, "--predictions", predicted)
    assert json.loads((tmp_path / "scores.json").read_text("utf-8"))["model"] == "runs/mine"


def test_scoring_files_loads_no_torch(files):
    """Importing the package and scoring files import no torch."""
    gold, predicted = files
    code = (
        "import sys, musamma.evaluation; from musamma.cli.evaluate import evaluate;"
        "evaluate(sys.argv[1], predictions=[sys.argv[2]], intervals=True, resamples=50); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(gold), str(predicted)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout)["LOC"][-3:] == ["1", "1", "2"]


def test_intervals_are_printed_and_written_when_asked_for(files, tmp_path):
    gold, predicted = files
    arguments = gold, "--predictions", predicted, "--json", tmp_path / "scores.json", "--resamples", 200
    assert "[" not in call(*arguments)
    assert "intervals" not in json.loads((tmp_path / "scores.json").read_text("utf-8"))
    output = call(*arguments, "--intervals")
    record = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    expected = bootstrap_intervals(count_table(pair_documents(GOLD, PREDICTED)), resamples=200)
    assert record["intervals"] == {row: interval.to_dict() for row, interval in expected.items()}
    assert {"strict", "strict/LOC", "strict/macro", "overlap"} <= record["intervals"].keys()
    assert record["resamples"] == 200
    assert record["note"] == output.splitlines()[-1]
    assert record["note"].startswith("2 documents with names: intervals over so few are too narrow")
    f1 = expected["strict"].f1
    assert f1.low < 4 / 9 < f1.high
    assert " ".join(rows(output)["strict"][2:6]) == f"44.44 [{100 * f1.low:.2f}, {100 * f1.high:.2f}] 5"


def test_modes_counted_on_tags_have_no_intervals(tmp_path):
    gold = tmp_path / "gold.conll"
    gold.write_text(CONLL, encoding="utf-8")
    output = call(gold, "--predictions", gold, "--tags", "--intervals", "--resamples", 50)
    assert "[" in " ".join(rows(output)["strict"])
    assert "[" not in " ".join(rows(output)["conlleval"])


def test_runs_of_one_system_are_scored_together(files, tmp_path):
    gold, predicted = files
    arguments = gold, "--predictions", predicted, "--predictions", gold, "--json", tmp_path / "scores.json"
    output = call(*arguments, "--mode", "overlap")
    assert rows(output)[str(predicted)] == ["44.44", "88.89"]
    assert rows(output)[str(gold)] == ["100.00", "100.00"]
    assert " ".join(rows(output)["strict"]) == "75.00 ± 35.36 70.00 ± 42.43 72.22 ± 39.28 5 73.33 ± 37.71"
    record = json.loads((tmp_path / "scores.json").read_text("utf-8"))
    assert [system["predictions"] for system in record["systems"]] == [str(predicted), str(gold)]
    assert [system["micro"]["tp"] for system in record["systems"]] == [2, 5]
    assert record["mean"]["micro"]["precision"] == 0.75
    assert record["sd"]["micro"]["precision"] == pytest.approx(0.5**0.5 / 2)
    assert record["mean"]["overlap"]["per_label"]["LOC"]["recall"] == pytest.approx(5 / 6)
    assert "micro" not in record
    both = call(*arguments, "--intervals", "--resamples", 50)
    assert rows(both)[str(gold)][0] == "100.00"
    assert rows(both)[str(gold)][1].startswith("[")


def test_names_dropped_by_the_label_map_are_reported_once_for_all_runs(files, tmp_path):
    gold, predicted = files
    (tmp_path / "map.yaml").write_text("LOC: LOC\nORG: null\nPER: PER\n", encoding="utf-8")
    output = call(gold, "--predictions", predicted, "--predictions", gold, "--labels", tmp_path / "map.yaml")
    assert output.count("gold: 1 names left out by the label map") == 1
    for run in (predicted, gold):
        assert f"{run}: 1 names left out by the label map" in output


def test_a_report_is_written_for_every_run(files, tmp_path):
    gold, predicted = files
    arguments = gold, "--predictions", predicted, "--resamples", 50, "--training", gold
    assert call(*arguments, "--report", tmp_path / "one") == call(gold, "--predictions", predicted)
    assert "On the intervals: 2 documents with names" in (tmp_path / "one" / "report.md").read_text("utf-8")
    assert {path.name for path in (tmp_path / "one").iterdir()} == {"report.html", "report.md", "report.json"}
    record = json.loads((tmp_path / "one" / "report.json").read_text("utf-8"))
    assert record["system"] == str(predicted)
    assert {"seen"} <= {part["dimension"] for part in record["slices"]}
    call(*arguments, "--predictions", gold, "--report", tmp_path / "both")
    assert sorted(path.name for path in (tmp_path / "both").iterdir()) == ["1-predicted", "2-gold"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--training", "gold.jsonl"],
            "--training without --report; expected a report to show it in; add --report DIR",
        ),
        (["--intervals", "--resamples", "0"], "--intervals with --resamples 0; expected 1 or more"),
        (["--report", "gold.jsonl"], "gold.jsonl: a file; expected a folder for the report"),
        (["--predictions", "predicted.jsonl"], "'predicted.jsonl' is given twice; expected each run once"),
        (["--training", "none.jsonl", "--report", "new"], "none.jsonl"),
        (["--training", "other.conll", "--report", "new"], "training documents with names of other labels: PERS"),
        (["--intervals", "--resamples", "1"], "1 resamples; expected 40 or more"),
        (["--predictions", "other.conll"], "other.conll, document 'a': the texts differ from character 0 on"),
        (["--predictions", "sure.jsonl", "--report", "new"], "sure.jsonl, document 'a': score 7.0 of the name [6, 10)"),
        (["--predictions", "broken.jsonl"], "musamma: broken.jsonl:1: "),
        (["--predicted-labels", "map.yaml"], "predicted.jsonl, document 'b': label 'LOC' of [14, 19)"),
        (["--gold-labels", "map.yaml"], "gold.jsonl, document 'a': label 'LOC' of [12, 18)"),
    ],
)
def test_an_invalid_call_is_answered_in_one_line(files, tmp_path, monkeypatch, capsys, arguments, message):
    from musamma.cli.main import run

    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.conll").write_text("محمد B-PERS\nالسعيد I-PERS\n", encoding="utf-8")
    (tmp_path / "broken.jsonl").write_text('{"id": "a", ', encoding="utf-8")
    (tmp_path / "map.yaml").write_text("ORG: ORG\nPER: PER\n", encoding="utf-8")
    write_jsonl([GOLD[0].with_spans([Span(6, 10, "ORG", 7.0)]), GOLD[1]], tmp_path / "sure.jsonl")
    assert run(["evaluate", "gold.jsonl", "--predictions", "predicted.jsonl", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("musamma: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
