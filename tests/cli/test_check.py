"""The command ``musamma check``."""

import json

import pytest

from musamma.cli.main import run


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    articles = {
        "a": "قاتل [الجيش|ORG] و[داعش|ORG] في [جامعة [الموصل|GPE]|ORG]. قال داعش",
        "b": "في [داعش|GPE] ثم في [الموصل|GPE]",
        "c": "في [داعش|GPE] ثم في [الموصل|GPE]",
    }
    for id, text in articles.items():
        (folder / f"{id}.txt").write_text(f"---\ntopic: x\n---\n{text}", "utf-8")
    return folder


def test_findings_name_their_documents(corpus, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert run(["check", str(corpus), "--schema", "khabar", "--json", str(report)]) == 0
    record = json.loads(report.read_text("utf-8"))
    assert (record["documents"], record["spans"], record["nested"]) == (3, 7, 1)
    assert record["labels"] == {"GPE": 5, "ORG": 3}
    assert record["borders"] == {"behind_proclitic": 1}
    assert record["remarks"][0]["surface"] == "داعش"
    assert record["repeated_texts"] == [["b", "c"]]
    assert record["outside_schema"] == {}
    assert record["tagged_two_ways"] == [
        {"surface": "داعش", "labels": {"GPE": 2, "ORG": 1}, "documents": {"GPE": ["b", "c"], "ORG": ["a"]}}
    ]
    [missed] = record["missed"]
    assert (missed["surface"], missed["missed"], missed["missed_in"]) == ("داعش", 1, ["a"])
    assert record["imports"][0]["exact"] == 8
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "3 documents" in captured.out
    assert "داعش: 2 GPE, 1 ORG" in captured.out


def test_nested_names_that_cross_each_other_are_listed(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = "كلية الحقوق في جامعة الموصل الشمالية"
    names = {"spans": [(0, 36, "ORG")], "nested": [(15, 27, "ORG"), (21, 36, "GPE"), (21, 27, "GPE"), (0, 4, "ORG")]}
    keys = ("start", "end", "label")
    record = {key: [dict(zip(keys, span, strict=True)) for span in spans] for key, spans in names.items()}
    path, report = tmp_path / "x.jsonl", tmp_path / "report.json"
    path.write_text(json.dumps({"id": "d", "text": text, **record}), "utf-8")
    assert run(["check", str(path), "--json", str(report)]) == 0
    first, second = ({**span, "surface": text[span["start"] : span["end"]]} for span in record["nested"][:2])
    found = json.loads(report.read_text("utf-8"))
    assert found["nested"] == 4
    assert found["crossing_nested"] == [{"document": "d", "names": [first, second]}]
    shown = " ".join(capsys.readouterr().out.split())
    assert "crossing_nested" in shown
    for part in ("d: [15, 27) ORG 'جامعة", "[21, 36) GPE 'الموصل"):
        assert part in shown


def test_labels_outside_the_schema_fail(corpus, tmp_path, capsys):
    (tmp_path / "schema.yaml").write_text("[ORG]", "utf-8")
    assert run(["check", str(corpus), "--schema", str(tmp_path / "schema.yaml")]) == 1
    assert "label 'GPE' in 3 documents, first 'a', is not in the schema" in capsys.readouterr().err


def test_repeated_ids_fail_also_across_corpora(corpus, capsys):
    assert run(["check", str(corpus), str(corpus)]) == 1
    assert "3 ids occur more than once, first 'a'" in capsys.readouterr().err


def test_changed_spans_fail_above_max_loss(tmp_path, capsys):
    path = tmp_path / "x.jsonl"
    spans = [{"start": 3, "end": 9, "label": "LOC"}, {"start": 0, "end": 2, "label": "X"}]
    path.write_text(json.dumps({"id": "d", "text": "في بغداد اليوم", "spans": spans}), "utf-8")
    assert run(["check", str(path)]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 spans (50.00%) were not kept" in captured.err
    assert "whitespace" in captured.out
    assert run(["check", str(path), "--max-loss", "0.5"]) == 0


@pytest.mark.parametrize("arguments", [["nowhere"], ["{c}", "--schema", "nothing"], ["{c}", "--max-loss", "2"], []])
def test_wrong_calls_are_status_2(corpus, capsys, arguments):
    assert run(["check", *(argument.format(c=corpus) for argument in arguments)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_agreement_with_a_second_annotation(corpus, tmp_path, capsys):
    second = tmp_path / "second"
    second.mkdir()
    (second / "b.txt").write_text("---\ntopic: x\n---\nفي [داعش|ORG] ثم في [الموصل|GPE]", "utf-8")
    report = tmp_path / "report.json"
    assert run(["check", str(corpus), "--second", str(second), "--json", str(report)]) == 0
    found = json.loads(report.read_text("utf-8"))["agreement"]
    assert (found["documents"], found["words"], found["span_f1"], found["kinds"]) == (1, 5, 0.5, {"label": 1})
    printed = capsys.readouterr().out
    assert "agreement on 1 documents" in printed
    assert "b: داعش GPE / داعش ORG" in printed


def test_a_second_annotation_of_another_text_is_an_error(corpus, tmp_path, capsys):
    second = tmp_path / "second"
    second.mkdir()
    (second / "b.txt").write_text("---\ntopic: x\n---\nفي [داعش|ORG]", "utf-8")
    assert run(["check", str(corpus), "--second", str(second)]) == 2
    assert "the texts differ from character 7 on" in capsys.readouterr().err
