"""``musamma distill``: its calls, its output, and its error messages."""

from __future__ import annotations

import json
import shlex
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from musamma.cli.main import run
from musamma.inference import Tagger
from musamma.training.distillation.distill_config import load_distill_config

ROOT = Path(__file__).parents[2]
TEXT = "وصل محمد السعيد إلى بيروت"


def document(number: int, label: str = "LOC") -> str:
    spans = [{"start": 4, "end": 15, "label": "PER"}, {"start": 20, "end": 25, "label": label}]
    return json.dumps({"id": f"d{number}", "text": TEXT, "spans": spans}, ensure_ascii=False)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str):
    """Writes ``run.yaml``, with changed keys, ``good.jsonl`` and ``news.txt`` into an empty current folder."""
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text("\n".join(map(document, range(6))), encoding="utf-8")
    Path("news.txt").write_text(f"{TEXT}\n" * 5, encoding="utf-8")

    def write(**changes: Any) -> str:
        content = {
            "teacher": model,
            "data": {"train": "good.jsonl"},
            "text": "news.txt",
            "output": "out",
            "trainer": {"max_steps": 1},
        }
        Path("run.yaml").write_text(yaml.safe_dump(content | changes), encoding="utf-8")
        return "run.yaml"

    return write


@pytest.fixture
def fails(recipe, refused):
    """Runs the command, which must fail."""
    return partial(refused, "distill")


def test_a_complete_run(recipe, fails, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["distill", recipe(), "--set", "seeds=[3]"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "micro F1, 1 seed" in captured.out
    assert captured.out.rstrip().endswith("checkpoint, card and scores: out")
    assert Tagger("out", device="cpu").labels == ("LOC", "ORG", "PER")
    message = fails("run.yaml", "--set", "seeds=[3]")
    assert message.startswith(
        "out: the folder holds an earlier run; continue it with --resume, replace it with --overw"
    )
    # An earlier run is deleted only after everything else was checked.
    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    for change in ("layers=3", "teacher=./nowhere", "text=none.txt", "data.train=none.jsonl"):
        fails("run.yaml", "--overwrite", "--set", change)
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


def test_all_mistakes_in_a_configuration_are_reported_at_once(fails, recipe) -> None:
    message = fails(
        recipe(
            teachr="x",
            layers=[3, 1],
            temperature=0,
            hidden_weight=-1,
            gold_weight=float("nan"),
            text_words=0,
            seeds=[1, 1],
            trainer={"learning_rat": 1, "output_dir": "x"},
        )
    )
    for mistake in (
        "teachr: unknown key",
        "layers: the numbers must increase",
        "temperature: Input should be greater than 0",
        "hidden_weight: Input should be greater than or equal to 0",
        "gold_weight: Input should be a finite number",
        "text_words: Input should be greater than or equal to 1",
        "seeds: duplicate seed",
        "unknown key 'learning_rat'",
        "'output_dir' is set by the run, use 'output'",
        "known keys: teacher, data, text, text_words, output, layers, student",
    ):
        assert mistake in message
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": ""}, "run.yaml: teacher: String should have at least 1 character"),
        ({"layers": 0}, "run.yaml: layers: Input should be greater than or equal to 1, or "),
        ({"layers": []}, "run.yaml: layers: "),
        ({"layers": True}, "run.yaml: layers: Input should be a number, not true"),
        ({"layers": [-1]}, "run.yaml: layers: "),
        (
            {"text": [], "text_words": 9},
            "run.yaml: config: text_words without text: name files of raw text, or leave it",
        ),
        ({"layers": 1, "student": "out"}, "run.yaml: config: give layers or student, not both"),
        ({"student": "./nowhere"}, "./nowhere: no such folder"),
        ({"teacher": "./nowhere"}, "./nowhere: no such folder; check the path"),
        ({"teacher": "empty"}, "empty: the folder is empty; expected a folder with config.json"),
        ({"text": "none.txt"}, "none.txt: no such file"),
        (
            {"text": ["news.txt", "empty.txt"]},
            "empty.txt: the file is empty; expected one paragraph a line; remove it from",
        ),
        ({"text": "blank.txt"}, "blank.txt: no words; expected raw text, one paragraph a line"),
        ({"text": "latin.txt"}, "latin.txt:2: byte 0xff"),
        ({"data": {"train": "none.jsonl"}}, "none.jsonl: no such file or folder"),
        ({"data": {"train": "bare.jsonl"}}, "bare.jsonl: the training part has 1 documents and no names"),
        ({"trainer": {"lr_scheduler_type": "steep"}}, "trainer: steep is not a valid SchedulerType"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(fails, recipe, changes: dict[str, Any], message: str) -> None:
    file = recipe(**changes)
    Path("empty").mkdir()
    Path("empty.txt").touch()
    Path("blank.txt").write_text("\n \n\n", encoding="utf-8")
    Path("latin.txt").write_bytes(b"a\nabc\xff\n")
    bare = [json.dumps({"id": f"b{number}", "text": TEXT, "spans": []}, ensure_ascii=False) for number in range(2)]
    Path("bare.jsonl").write_text("\n".join(bare), encoding="utf-8")
    assert fails(file).startswith(message)
    assert not Path("out/run.yaml").exists()


def test_layers_beyond_the_teacher(fails, recipe, model: str) -> None:
    expected = f"{model}: layers: 3; expected at most 2, the number of the teacher's layers"
    assert fails(recipe(layers=3)).startswith(expected)
    assert fails(recipe(layers=[0, 2])).startswith(f"{model}: layers: 2; expected numbers from 0 to 1: ")


def test_an_encoder_is_no_teacher(fails, recipe, wordpiece_encoder: Path) -> None:
    message = fails(recipe(teacher=str(wordpiece_encoder)))
    assert message.startswith(f"{wordpiece_encoder}: the weights lack 'classifier.bias'")
    assert message.endswith("fine-tune it with musamma train")


def test_labels_that_the_teacher_does_not_have(fails, recipe, model: str) -> None:
    recipe()
    Path("other.jsonl").write_text("\n".join([*map(document, range(4)), document(9, "GPE")]), encoding="utf-8")
    remedy = f"map it with data.labels: the student has the labels of {model}"
    message = fails("run.yaml", "--set", "data.train=other.jsonl")
    assert message == f"document 'd9': label 'GPE' of [20, 25) GPE 'بيروت'; expected one of LOC, ORG, PER; {remedy}"
    message = fails(recipe(data={"train": [{"files": "other.jsonl", "dev_share": 0.5}]}))
    assert message.startswith("source 'other': the label 'GPE'; expected a label of the model: LOC, ORG, PER; ")
    assert message.endswith(remedy)


def test_recipes_of_other_commands_are_recognised(fails, recipe, refused) -> None:
    assert "this looks like a configuration of `musamma train`" in fails("quickstart")
    assert "this looks like a configuration of `musamma encoder pretrain`" in fails("nawah-pretrain")
    assert "this looks like a configuration of `musamma distill`" in refused("train", recipe())
    assert "this looks like a configuration of `musamma distill`" in refused("encoder", "pretrain", "run.yaml")


def test_the_recipe_and_the_commands_in_its_header_load() -> None:
    config = load_distill_config("nawah-ner-mini")
    assert (config.teacher, config.output) == ("nawah-ner", "runs/nawah-ner-mini")
    header = (ROOT / "configs/nawah-ner-mini.yaml").read_text(encoding="utf-8")
    commands = [line for line in header.splitlines() if line.startswith("#   musamma distill ")]
    assert commands
    for command in commands:
        arguments = shlex.split(command.removeprefix("#"))
        changes = [value for option, value in pairwise(arguments) if option == "--set"]
        assert load_distill_config("nawah-ner-mini", changes=changes).text == ["news.txt.zst"]
