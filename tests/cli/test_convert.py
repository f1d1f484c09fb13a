"""The command ``musamma convert``."""

import json
from pathlib import Path

import pytest

from musamma.cli.main import run
from tests.support import refused_command

CONLL = "\u200eسكرتير B-OCC\nاللجنة I-OCC B-ORG\nفي I-OCC\nنابلس I-OCC B-GPE\n\nفي O\nغزة I-GPE\nبغداد B-GPE\n"
SPANS = [{"start": 0, "end": 6, "label": "PER"}, {"start": 7, "end": 13, "label": "LOC"}]


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "w.conll").write_text(CONLL, "utf-8")
    return tmp_path / "w.conll"


def jsonl(tmp_path, *spans, text="السيسي بغداد ", **keys):
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"id": "d1", "text": text, "spans": list(spans), **keys}, ensure_ascii=False), "utf-8")
    return path


def test_labels_are_mapped_and_changes_audited(corpus, tmp_path, capsys):
    output, audit = tmp_path / "out.jsonl", tmp_path / "logs" / "audit.json"
    assert run(["convert", str(corpus), str(output), "--labels", "wojood-to-coarse", "--audit", str(audit)]) == 0
    first, second = map(json.loads, output.read_text("utf-8").splitlines())
    assert first["text"] == "سكرتير اللجنة في نابلس"
    assert [(s["start"], s["end"], s["label"]) for s in first["spans"]] == [(7, 13, "ORG"), (17, 22, "LOC")]
    assert [s["label"] for s in second["spans"]] == ["LOC", "LOC"]
    record = json.loads(audit.read_text("utf-8"))
    assert record["kinds"] == {"direction_mark": 1, "promoted": 2, "repaired_tag": 1, "unmapped": 1}
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"2 documents, 5 spans, 5 of them exactly as in the input: {output}\n")
    assert f"note: 1 repaired_tag, e.g. {corpus}:7: I-GPE continues no GPE, at 'غزة'" in captured.err


def test_convert_there_and_back(corpus, tmp_path):
    for name, more in (
        ("b", ["--to", "brat"]),
        ("c.conll", ["--overlaps", "nested", "--nested-tags", "--write-scheme", "bioes"]),
    ):
        source = corpus if name == "b" else tmp_path / "b"
        assert run(["convert", str(source), str(tmp_path / name), *more]) == 0
    assert (tmp_path / "c.conll").read_text("utf-8") == (
        "سكرتير B-OCC\nاللجنة I-OCC S-ORG\nفي I-OCC\nنابلس E-OCC S-GPE\n\nفي O\nغزة S-GPE\nبغداد S-GPE\n\n"
    )


def test_a_loss_above_max_loss_fails_and_writes_nothing(tmp_path, capsys):
    source = jsonl(tmp_path, SPANS[0], {"start": 7, "end": 13, "label": "LOC"}, {"start": 3, "end": 99, "label": "LOC"})
    output, audit = tmp_path / "out.csv", tmp_path / "audit.json"
    arguments = ["convert", str(source), str(output), "--audit", str(audit)]
    assert run([*arguments, "--max-loss", "0.5"]) == 1
    assert (
        "2 of 3 spans (66.67%) were not kept as they are (1 dropped, 1 snapped), above --max-loss 0.5"
        in capsys.readouterr().err
    )
    assert not output.exists()
    assert json.loads(audit.read_text("utf-8"))["loss"] == pytest.approx(2 / 3)
    assert run([*arguments, "--max-loss", "0.7"]) == 0
    assert output.exists()
    assert f"dropped: 1 outside, e.g. {source}:1: [3, 99) LOC" in capsys.readouterr().err


def test_losses_of_the_written_format_count(tmp_path, capsys):
    source = jsonl(tmp_path, {"start": 1, "end": 3, "label": "PER"}, {"start": 3, "end": 6, "label": "LOC"})
    output = tmp_path / "o.conll"
    assert run(["convert", str(source), str(output), "--max-loss", "0.9"]) == 1
    assert "2 of 2 spans (100.00%) were not kept as they are (1 dropped, 1 snapped)" in capsys.readouterr().err
    assert not output.exists()
    assert run(["convert", str(source), str(output)]) == 0
    said = capsys.readouterr().err
    assert said.startswith("1 documents, 2 spans, 0 of them exactly as in the input: ")
    assert "dropped: 1 token_taken, e.g. d1: [3, 6) LOC" in said
    assert "snapped: 1 widened, e.g. d1: [1, 3) PER" in said


def test_names_inside_names_that_a_format_cannot_hold_are_a_loss(tmp_path, capsys):
    whole, inside = {"start": 0, "end": 12, "label": "ORG"}, {"start": 7, "end": 12, "label": "LOC"}
    arguments = ["convert", str(jsonl(tmp_path, whole, nested=[inside])), str(tmp_path / "o.conll"), "--max-loss", "0"]
    assert run(arguments) == 1
    assert "1 of 2 spans (50.00%) were not kept as they are (1 dropped)" in capsys.readouterr().err
    assert run([*arguments, "--nested-tags"]) == 0
    assert capsys.readouterr().err.startswith("1 documents, 2 spans, 2 of them exactly as in the input: ")


@pytest.mark.parametrize("format", ["brat", "khabar"])
def test_a_folder_is_written_whole_or_not_at_all(tmp_path, monkeypatch, capsys, format):
    monkeypatch.chdir(tmp_path)
    source = jsonl(tmp_path, SPANS[0], {"start": 3, "end": 99, "label": "LOC"})
    before = sorted(Path().rglob("*"))
    assert run(["convert", str(source), "new/folder", "--to", format, "--max-loss", "0"]) == 1
    assert sorted(Path().rglob("*")) == [*before, Path("new")]
    assert run(["convert", str(source), "old", "--to", format]) == 0
    written = {path: path.read_bytes() for path in Path("old").iterdir()}
    Path("old/notes.md").write_text("mine")
    for path in written:
        path.write_text("mine")
    capsys.readouterr()
    assert run(["convert", str(source), "old", "--to", format]) == 2
    assert capsys.readouterr().err == (
        "musamma: old: a folder with files in it; expected a folder that is new or empty; "
        "choose another OUTPUT, or replace its files of the same names with --overwrite\n"
    )
    assert {path.read_text() for path in Path("old").iterdir()} == {"mine"}
    assert run(["convert", str(source), "old", "--to", format, "--overwrite", "--max-loss", "0"]) == 1
    assert {path.read_text() for path in Path("old").iterdir()} == {"mine"}
    assert run(["convert", str(source), "old", "--to", format, "--overwrite"]) == 0
    assert {path: path.read_bytes() for path in Path("old").iterdir()} == {**written, Path("old/notes.md"): b"mine"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.conll", "o.jsonl"], "nowhere.conll: no such file or folder; check the path"),
        (["{c}", "{c}"], "INPUT and OUTPUT are the same"),
        (["{c}", "o.jsonl", "--labels", "khabar"], "a label map 'khabar'; expected one of anercorp-to-coarse"),
        (["{c}", "o.jsonl", "--labels", "khabar-to-coarse"], "document 'w-00000': label 'OCC' of"),
        (["{c}", "o.jsonl", "--strict-tags"], "{c}:7: I-GPE continues no GPE, at 'غزة'"),
        (["{c}", "o.jsonl", "--overlaps", "all"], "'all' is not one of"),
        (["{c}", "o.xml"], "o.xml: the format cannot be told from the name"),
        (["{c}", "o.jsonl", "--from", "word"], "format 'word'; expected one of"),
    ],
)
def test_invalid_calls_fail_with_one_line_and_status_2(corpus, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert run(["convert", *(argument.format(c=corpus) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert message.format(c=corpus) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "o.jsonl").exists()


def test_clitics_are_rejoined_on_request(tmp_path):
    (tmp_path / "f.conll").write_text("و\tO\nل\tO\nالسودان\tB-Nation\n", "utf-8")
    assert run(["convert", str(tmp_path / "f.conll"), str(tmp_path / "o.jsonl"), "--rejoin-clitics"]) == 0
    record = json.loads((tmp_path / "o.jsonl").read_text("utf-8"))
    assert (record["text"], record["spans"]) == ("وللسودان", [{"start": 2, "end": 8, "label": "Nation"}])


def test_units_of_offsets_are_shown_and_given(tmp_path, capsys):
    source = jsonl(tmp_path, {"start": 5, "end": 11, "label": "LOC"}, text="😀 في الرباط اليوم")
    doccano, back = tmp_path / "d.jsonl", tmp_path / "back.jsonl"
    write = ["convert", str(source), str(doccano), "--to", "doccano", "--write-offsets", "utf16"]
    assert run(write) == 0
    assert json.loads(doccano.read_text("utf-8"))["label"] == [[6, 12, "LOC"]]
    capsys.readouterr()
    assert run(["convert", str(doccano), str(back), "--audit", str(tmp_path / "a.json")]) == 0
    assert json.loads(back.read_text("utf-8"))["spans"] == [{"start": 5, "end": 11, "label": "LOC"}]
    reason = json.loads((tmp_path / "a.json").read_text("utf-8"))["offsets"]["reason"]
    assert f"  offsets in utf16: {reason}\n" in capsys.readouterr().err
    assert run(["convert", str(doccano), str(back), "--offsets", "code-points"]) == 0
    assert json.loads(back.read_text("utf-8"))["spans"] == [{"start": 6, "end": 11, "label": "LOC"}]


def test_a_unit_for_a_format_with_fixed_offsets_is_refused(tmp_path, capsys):
    source = jsonl(tmp_path, *SPANS)
    message = refused_command(capsys, "convert", source, tmp_path / "d.jsonl", "--to", "doccano", "--offsets", "utf16")
    assert message.startswith(
        "--offsets with INPUT in the format jsonl; expected one of brat, doccano, labelstudio; for the"
    )
    message = refused_command(capsys, "convert", source, tmp_path / "o.csv", "--write-offsets", "utf16")
    assert message.startswith("--write-offsets with OUTPUT in the format csv; expected one of brat")
