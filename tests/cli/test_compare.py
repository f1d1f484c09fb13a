"""``musamma compare``."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from musamma.cli.compare import compare
from musamma.data.document import Document, Span, write_jsonl
from musamma.data.errors import InputError
from musamma.evaluation import MODES, score_documents

app = typer.Typer()
app.command()(compare)

TEXT = "وصل محمد السعيد إلى بالموصل"
PERSON, CITY = Span(4, 15, "PER"), Span(21, 27, "GPE")
GOLD = [Document(f"{number:02}", f"{TEXT} {number}", (PERSON, CITY)) for number in range(12)]


def with_spans(*spans: Span) -> list[Document]:
    return [document.with_spans(spans) for document in GOLD]


#: The first system finds the person and includes the preposition in the city; the second finds the city and every second
#: person.
FIRST = with_spans(PERSON, Span(20, 27, "GPE"))
SECOND = [d.with_spans((PERSON, CITY) if int(d.id) % 2 else (CITY,)) for d in GOLD]


def call(*arguments: object) -> str:
    """Return the printed output; errors are raised as the main function receives them."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    paths = tmp_path / "gold.jsonl", tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for path, documents in zip(paths, (GOLD, FIRST, SECOND[::-1]), strict=True):
        write_jsonl(documents, path)
    return paths


def rows(output: str) -> dict[str, list[str]]:
    return {line.split()[0]: line.split()[1:] for line in output.splitlines() if line.strip()}


def test_two_systems_are_compared(files, tmp_path):
    output = call(*files, "--json", tmp_path / "new" / "comparison.json", "--resamples", 2000)
    table = rows(output)
    # First: 12 of 24 predicted, 24 gold. Second: 18 of 18, F1 36 / 42.
    assert table["strict"][:3] == ["50.00", "85.71", "+35.71"]
    assert table["whole_word"][:3] == ["100.00", "85.71", "-14.29"]
    # The city: wrong in all documents for the first system, correct in all for the second.
    assert table["GPE"][:5] == ["0.00", "100.00", "+100.00", "[+100.00,", "+100.00]"]
    assert table["PER"][:3] == ["100.00", "66.67", "-33.33"]
    assert set(MODES) < set(table)
    assert list(table).index("strict") < list(table).index("overlap") < list(table).index("GPE")
    assert "documents: 12\n" in output
    assert "2000 random swaps" in output
    assert "strict: at the level of 0.05 the systems differ (p = 0.00" in output
    assert "\x1b" not in output
    record = json.loads((tmp_path / "new" / "comparison.json").read_text("utf-8"))
    assert (record["documents"], record["resamples"], record["seed"], record["level"]) == (12, 2000, 1, 0.95)
    assert record["note"] is None
    by_row = {entry["row"]: entry for entry in record["comparisons"]}
    scores = [score_documents(GOLD, documents) for documents in (FIRST, SECOND)]
    for mode in MODES:
        for row, figures in ((mode, "micro"), (f"{mode}/macro", "macro")):
            expected = [getattr(side.modes[mode], figures).f1 for side in scores]
            assert [by_row[row]["first"], by_row[row]["second"]] == pytest.approx(expected)
            assert "p_holm" not in by_row[row]
    city, person = by_row["strict/GPE"], by_row["strict/PER"]
    # Two labels: the smaller p-value counts twice.
    assert city["p_holm"] == pytest.approx(2 * city["p_value"])
    assert person["p_holm"] == pytest.approx(max(city["p_holm"], person["p_value"]))
    low, high = person["interval"]
    assert -1 <= low < person["difference"] < high < 0


def test_equal_systems_show_no_difference(files):
    gold, first, _ = files
    output = call(gold, first, first, "--resamples", 100)
    assert rows(output)["strict"] == ["50.00", "50.00", "+0.00", "[+0.00,", "+0.00]", "1.0000"]
    assert "strict: at the level of 0.05 no difference is shown (p = 1.0000)" in output


def test_seed_and_mode_can_be_chosen(files):
    arguments = *files, "--resamples", 300, "--mode", "overlap"
    output = call(*arguments)
    assert output == call(*arguments)
    assert output != call(*arguments, "--seed", 2)
    assert "label (overlap)" in output
    assert "label (strict)" not in output
    assert "whole_word" not in output
    assert "\noverlap: at the level of 0.05 " in output
    with pytest.raises(InputError, match="mode 'exact'; expected one of strict"):
        call(*files, "--mode", "exact")


def test_nested_names_are_compared_as_layers(tmp_path):
    inner = Span(4, 8, "PER"), Span(9, 15, "NORP")
    gold, first, second = (
        [replace(document, nested=nested) for document in GOLD]
        for nested in (inner, inner[:1], (Span(9, 15, "NORP"), Span(4, 6, "PER")))
    )
    paths = [tmp_path / name for name in ("gold.jsonl", "first.jsonl", "second.jsonl")]
    for path, documents in zip(paths, (gold, first, second), strict=True):
        write_jsonl(documents, path)
    output = call(*paths, "--resamples", 100, "--json", tmp_path / "comparison.json")
    table = rows(output)
    layers = [score_documents(gold, documents).layers for documents in (first, second)]
    for layer in ("nested", "all"):
        f1 = [100 * side[layer].micro.f1 for side in layers]
        assert table[layer][:3] == [f"{f1[0]:.2f}", f"{f1[1]:.2f}", f"{f1[1] - f1[0]:+.2f}"]
    assert table["strict"][:3] == ["100.00", "100.00", "+0.00"]
    assert "layer (strict)" in output
    assert table["NORP"][:3] == ["0.00", "100.00", "+100.00"]
    assert "\nnested: at the level of 0.05 " in output
    assert "only outermost names" not in output
    by_row = {
        entry["row"]: entry for entry in json.loads((tmp_path / "comparison.json").read_text("utf-8"))["comparisons"]
    }
    assert by_row["nested/macro"]["second"] == pytest.approx(layers[1]["nested"].macro.f1)
    assert "p_holm" in by_row["nested/NORP"]

    write_jsonl(FIRST, paths[1])
    output = call(*paths, "--resamples", 100)
    assert "\nonly outermost names are compared, as there are no nested ones in: first\n" in output
    assert not {"nested", "all", "NORP"} & set(rows(output))


def test_flat_names_have_no_layers(files, tmp_path):
    output = call(*files, "--resamples", 100, "--json", tmp_path / "comparison.json")
    assert "nested" not in output
    assert "nested" not in (tmp_path / "comparison.json").read_text("utf-8")


def test_few_documents_cause_a_warning(tmp_path):
    paths = [tmp_path / name for name in ("gold.jsonl", "first.jsonl", "second.jsonl")]
    for path, documents in zip(paths, (GOLD, FIRST, SECOND), strict=True):
        write_jsonl(documents[:3], path)
    assert "3 documents with names: intervals over so few are too narrow" in call(*paths, "--resamples", 100)


def test_conll_files_are_compared_by_their_order_and_labels_renamed(tmp_path):
    gold = "محمد B-PERS\nالسعيد I-PERS\nبغداد B-LOC\n\nبيروت B-LOC\n\nسومر B-MISC\n"
    paths = [tmp_path / name for name in ("gold.conll", "first.conll", "second.conll")]
    for path, content in zip(paths, (gold, gold, gold.replace("بيروت B-LOC", "بيروت O")), strict=True):
        path.write_text(content, encoding="utf-8")
    (tmp_path / "map.yaml").write_text("PERS: PER\nLOC: GPE\nMISC: null\n", encoding="utf-8")
    output = call(*paths, "--labels", tmp_path / "map.yaml", "--resamples", 100)
    assert rows(output)["strict"][:3] == ["100.00", "80.00", "-20.00"]
    assert rows(output)["GPE"][:3] == ["100.00", "66.67", "-33.33"]
    assert "MISC" not in rows(output)
    for side in ("gold", "first", "second"):
        assert f"{side}: 1 names left out by the label map" in output
    for path in paths:
        path.write_text(path.read_text("utf-8").rstrip() + "\n\nدمشق B-LOC" * 10 + "\n", encoding="utf-8")
    assert "every sentence is a document: sentences of one article count as independent" in call(*paths)
    output = call(*paths, "--resamples", 100, "--sentences", 0)
    assert "documents: 1\n" in output
    assert "1 document with names: nothing is known of how documents differ" in output


def test_an_error_names_the_file_and_the_document(files, tmp_path):
    gold, first, second = files
    write_jsonl(SECOND[1:], second)
    with pytest.raises(InputError, match=r"second\.jsonl: no prediction for document '00'"):
        call(gold, first, second)
    output = call(gold, first, second, "--allow-missing", "--resamples", 100)
    assert "documents: 12\n" in output
    write_jsonl([Document("00", "نص آخر"), *SECOND[1:]], second)
    with pytest.raises(InputError, match=r"second\.jsonl, document '00': the texts differ from character 0 on"):
        call(gold, first, second)
    with pytest.raises(InputError, match=r"none\.jsonl"):
        call(gold, first, tmp_path / "none.jsonl")
    gold.write_text('{"id": "00", ', encoding="utf-8")
    with pytest.raises(InputError, match=rf"^{gold}:1: broken JSON"):
        call(gold, first, second)


def test_files_are_compared_without_torch(files):
    code = (
        "import sys; from musamma.cli.compare import compare;"
        "compare(*sys.argv[1:], resamples=50); assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert rows(done.stdout)["strict"][0] == "50.00"


def test_an_error_exits_with_status_2(files, capsys):
    from musamma.cli.main import run

    gold, first, second = map(str, files)
    write_jsonl(SECOND[1:], second)
    assert run(["compare", gold, first, second]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"musamma: {second}: no prediction for document '00'; expected")
    assert captured.err.count("\n") == 1
