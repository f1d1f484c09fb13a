"""``musamma encoder pretrain``: its calls, its output, and its error messages."""

from __future__ import annotations

import json
import re
import shlex
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from musamma.cli.main import run
from musamma.training.pretraining.pretrain_config import PretrainConfig, load_pretrain_config

ROOT = Path(__file__).parents[2]
TEXT = "\n".join(f"وصل محمد السعيد إلى بيروت وبالقاهرة يوم {number} من الشهر" for number in range(40))


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wordpiece_encoder: Path):
    """Writes ``run.yaml``, with changed keys, and ``news.txt`` into an empty current folder."""
    monkeypatch.chdir(tmp_path)
    Path("news.txt").write_text(TEXT, encoding="utf-8")

    def write(**changes: Any) -> str:
        content = {
            "encoder": str(wordpiece_encoder),
            "text": "news.txt",
            "output": "out",
            "length": 64,
            "head_steps": 1,
            "held_out": {"every": 8},
            "device": "cpu",
            "trainer": {"max_steps": 2, "per_device_train_batch_size": 2},
        }
        Path("run.yaml").write_text(yaml.safe_dump(content | changes), encoding="utf-8")
        return "run.yaml"

    return write


@pytest.fixture
def fails(recipe, refused):
    """Runs the command, which must fail."""
    return partial(refused, "encoder", "pretrain")


def test_a_run_prints_its_metrics(recipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["encoder", "pretrain", recipe(), "--set", "trainer.max_steps=1"]) == 0
    printed = capsys.readouterr().out
    record = json.loads(Path("out/pretraining.json").read_text(encoding="utf-8"))
    assert record["steps"] == 1
    assert f"{record['curve'][0]['mlm_loss']:.3f}" in printed
    assert f"1 steps, {record['tokens']:,} tokens" in printed
    assert yaml.safe_load(Path("out/run.yaml").read_text(encoding="utf-8"))["mask_share"] == 0.2


def test_prepare_only_writes_the_text(recipe, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["encoder", "pretrain", recipe(), "--prepare"]) == 0
    assert "40 paragraphs, 5 held out" in capsys.readouterr().out
    changes = ["--set", "packing=continuous", "--set", "held_out.every=2", "--output", "rows"]
    assert run(["encoder", "pretrain", "run.yaml", "--prepare", *changes]) == 0
    assert re.search(r"40 paragraphs, [1-9] rows held out; ", capsys.readouterr().out)
    assert [path.name for path in Path("out").iterdir()] == ["text"]
    assert run(["encoder", "pretrain", recipe()]) == 0
    assert run(["encoder", "pretrain", recipe(), "--overwrite"]) == 0


def test_all_mistakes_in_a_configuration_are_reported_at_once(fails, recipe) -> None:
    message = fails(
        recipe(
            encodr="nawah",
            mask_share=1.5,
            objective="clm",
            text=[],
            held_out={"evry": 3},
            milestones=[5, 3],
            trainer={"learning_rat": 1e-4, "seed": 3, "num_train_epochs": "many"},
        )
    )
    for mistake in (
        "encodr: unknown key",
        "mask_share: Input should be less than or equal to 0.8",
        "objective: Input should be 'mlm' or 'rtd'",
        "text: List should have at least 1 item",
        "held_out.evry: unknown key",
        "milestones: the numbers must increase",
        "unknown key 'learning_rat'",
        "'seed' is set by the run, use 'seed'",
        "'num_train_epochs' is 'many'",
    ):
        assert mistake in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": "none.txt"}, "none.txt: no such file"),
        ({"text": ["news.txt", "empty.txt"]}, "empty.txt: the file is empty"),
        ({"text": "broken.txt"}, "broken.txt:3: byte 0xff at byte 4 is not UTF-8"),
        ({"text": "blank.txt"}, "0 paragraphs"),
        ({"held_out": {"every": 50}}, "leave none to measure on"),
        ({"length": 256}, "length 256; expected at most 128, the number of the encoder's positions"),
        ({"encoder": "bare"}, "bare: the checkpoint has no tokenizer"),
        ({"encoder": "nowhere"}, "nowhere: no such model"),
        ({"objective": "rtd", "generator_layers": 3}, "generator_layers 3 of a BertModel with 2 layers"),
    ],
)
def test_unusable_input_is_reported_in_one_line(
    fails, recipe, changes: dict[str, Any], message: str, wordpiece_encoder: Path
) -> None:
    file = recipe(**changes)
    Path("empty.txt").touch()
    Path("blank.txt").write_text("\n \n\n", encoding="utf-8")
    Path("broken.txt").write_bytes(b"a\nb\nabc\xff\n")
    Path("bare").mkdir()
    for name in ("config.json", "model.safetensors"):
        (Path("bare") / name).symlink_to(wordpiece_encoder / name)
    assert message in fails(file)
    assert not Path("out/run.yaml").exists()
    assert not list(Path("out").glob("text*"))


def test_a_recipe_of_the_other_command_is_recognised(refused) -> None:
    assert "a configuration of `musamma encoder pretrain`" in refused("train", "nawah-pretrain")
    assert "a configuration of `musamma train`" in refused("encoder", "pretrain", "quickstart")


def test_an_output_folder_with_other_files_is_not_touched(fails, recipe) -> None:
    file = recipe()
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine", encoding="utf-8")
    for option in ((), ("--prepare",), ("--overwrite",), ("--resume",)):
        assert "the folder holds other files" in fails(file, *option)
    assert [path.name for path in Path("out").iterdir()] == ["notes.txt"]


def test_an_earlier_run_is_not_touched(fails, recipe) -> None:
    assert run(["encoder", "pretrain", recipe()]) == 0
    assert "continue it with --resume, replace it with --overwrite" in fails(recipe())
    assert "other settings for seed" in fails(recipe(seed=2), "--resume")


def test_an_encoder_that_cannot_read_packed_rows_is_refused_with_a_remedy(
    fails, recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "musamma.training.pretraining.packing.packed_positions", lambda documents, offset: documents * 0
    )
    assert "set packing: false, one paragraph a row" in fails(recipe())


@pytest.mark.parametrize(
    ("name", "count", "text"),
    [
        ("nawah-pretrain", 2, ["news.txt.zst"]),
        ("nawah-pretrain-gpu", 1, ["news.txt.zst", "wiki.txt.zst", "books.txt.zst"]),
        ("nawah-pretrain-rtd", 3, ["news.txt.zst"]),
    ],
)
def test_recipes_and_the_commands_in_their_headers_load(name: str, count: int, text: list[str]) -> None:
    config = load_pretrain_config(name)
    assert config.output == f"runs/{name}"
    header = (ROOT / f"configs/{name}.yaml").read_text(encoding="utf-8")
    commands = [line for line in header.splitlines() if line.startswith("#   musamma encoder pretrain ")]
    assert len(commands) == count
    for command in commands:
        arguments = shlex.split(command.removeprefix("#"))
        changes = [value for option, value in pairwise(arguments) if option == "--set"]
        changed = load_pretrain_config(name, changes=changes)
        assert changed.text == text


def test_every_key_is_documented() -> None:
    keys = set()
    for name, field in PretrainConfig.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        keys |= {f"{name}.{key}" for key in inner} if inner else {name}
    page = (ROOT / "docs/pretrain.md").read_text(encoding="utf-8")
    table = page.partition("## A recipe")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE)) == keys
