"""``benchmarks/accuracy.py`` with stand-ins for training and for the tagger."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import accuracy
from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.training.config import RunConfig
from musamma.training.config_files import read_config

VARIANTS = """\
variants:
  - name: plain
    recipe: quickstart
  - name: slower
    recipe: quickstart
    settings: [trainer.learning_rate=1e-5]
    base: plain
  - name: finished
    runs: [a/seed-7, a/seed-8, a/seed-9]
    base: plain
"""

#: The share of names that the stand-in of a model misses.
MISSED = {
    "plain/seed-1": 0.10,
    "plain/seed-2": 0.12,
    "slower/seed-1": 0.20,
    "slower/seed-2": 0.22,
    "a/seed-7": 0.02,
    "a/seed-8": 0.04,
    "a/seed-9": 0.06,
}


class FakeTagger:
    """Returns the gold names of Khabar's development part without the first ones of the whole part."""

    def __init__(self, model: str) -> None:
        self.missed = next(share for name, share in MISSED.items() if model.endswith(name))

    def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        gold = {document.id: document.spans for document in load_khabar("dev")}
        missed = round(self.missed * sum(map(len, gold.values())))
        for document in documents:
            spans = gold[document.id]
            yield document.with_spans(spans[min(missed, len(spans)) :])
            missed -= min(missed, len(spans))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands of trainings, none of which is run."""
    commands: list[list[str]] = []

    def run(command: list[str], *, check: bool) -> None:
        assert check
        commands.append(command)
        if "trainer.learning_rate=fail" in command:
            raise subprocess.CalledProcessError(2, command)

    monkeypatch.setattr(accuracy.subprocess, "run", run)
    monkeypatch.setattr(accuracy, "Tagger", FakeTagger)
    return commands


def test_variants_are_trained_scored_and_compared(
    tmp_path: Path, trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    file, table = tmp_path / "variants.yaml", tmp_path / "table.md"
    file.write_text(VARIANTS, "utf-8")
    arguments = [str(file), "--seeds", "1", "2", "--runs", str(tmp_path / "runs"), "--markdown", str(table)]
    assert accuracy.main(arguments) == 0
    assert trained == [
        [sys.executable, "-m", "musamma", "train", "quickstart", *options]
        for options in (
            ["--set", "seeds=[1, 2]", "--set", f"output={tmp_path / 'runs' / 'plain'}"],
            [
                "--set",
                "trainer.learning_rate=1e-5",
                "--set",
                "seeds=[1, 2]",
                "--set",
                f"output={tmp_path / 'runs' / 'slower'}",
            ],
        )
    ]
    rows = [[cell.strip() for cell in line.strip("| \n").split("|")] for line in table.read_text("utf-8").splitlines()]
    assert rows[0] == ["variant", "seeds", "khabar", "difference", "macro", "any"]
    plain, slower, finished = rows[2:]
    # F1 with full precision and a recall of 0.9 and 0.88.
    assert plain[:4] == ["plain", "2", "94.2 ± 0.8", ""]
    assert slower[:3] == ["slower", "2", "88.2 ± 0.9"]
    # The differences of the two seeds are nearly equal, so the interval of pairs is narrow.
    difference, low, high = (float(value) for value in slower[3].replace(",", "").replace("[", "").strip("]").split())
    assert difference == pytest.approx(-5.9, abs=0.05)
    assert low < difference < high
    assert high - low < 2.5
    # Other seeds cannot be paired.
    assert finished[:3] == ["finished", "3", "98.0 ± 1.0"]
    assert finished[3].startswith("+3.8 [")
    assert "98.0 ± 1.0" in capsys.readouterr().out


def test_a_training_that_fails_leaves_the_others(
    tmp_path: Path, trained: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "variants.yaml"
    file.write_text(VARIANTS.replace("1e-5", "fail"), "utf-8")
    assert accuracy.main([str(file), "--seeds", "1", "2"]) == 1
    output = capsys.readouterr()
    assert "error: slower: training ended with status 2" in output.err
    assert "finished" in output.out
    assert accuracy.main([str(file), "--seeds", "1", "2", "--only", "slower"]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variants: [{name: a}]", "variants.0: Value error, either 'recipe' or 'runs' is needed"),
        ("variants: [{name: a, runs: [x], settings: [y=1]}]", "'settings' change a recipe, not 'runs'"),
        ("variants: [{name: a, runs: [x]}, {name: a, runs: [y]}]", "two variants are named 'a'"),
        ("variants: [{name: a, runs: [x], base: b}]", "'a' has the base 'b', which is not a variant before it"),
        ("variants: [{name: a, recipes: x}]", "variants.0.recipes: Extra inputs are not permitted"),
        ("variants: [", "expected a YAML file of variants"),
    ],
)
def test_mistakes_in_the_file(tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "variants.yaml"
    file.write_text(text, "utf-8")
    assert accuracy.main([str(file)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith(f"error: {file}: ")
    assert error.count("\n") == 1


def test_mistakes_in_the_call(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "variants.yaml"
    file.write_text(VARIANTS, "utf-8")

    def fail(*options: Any) -> str:
        assert accuracy.main([str(file), *options]) == 2
        return capsys.readouterr().err

    assert "--only 'fast'; expected plain, slower, finished" in fail("--only", "fast")
    assert "--gold 'khabar=x'; expected NAME=FILE" in fail("--gold", "khabar=x")
    assert "none.yaml" in (accuracy.main([str(tmp_path / "none.yaml")]) == 2 and capsys.readouterr().err)


def test_the_ablations_of_the_project_are_valid() -> None:
    variants = accuracy.read_ablations(Path(accuracy.__file__).parent / "ablations.yaml")
    base = read_config("quickstart", RunConfig)
    assert all(read_config(variant.recipe, RunConfig, changes=variant.settings) != base for variant in variants[1:])
