"""``musamma train`` and ``musamma quickstart``: their calls, their output, and their error messages."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file, save_file

from musamma.cli.main import run
from musamma.data.document import write_jsonl
from musamma.inference import Tagger
from musamma.training.config import load_config
from tests.support import write_random_checkpoint

TEXT = "وصل محمد السعيد إلى بيروت وبغداد"


def document(number: int, *names: tuple[int, int, str]) -> str:
    spans = [{"start": start, "end": end, "label": label} for start, end, label in names]
    return json.dumps({"id": f"d{number}", "text": TEXT, "spans": spans}, ensure_ascii=False)


GOOD = [document(number, (4, 15, "PER"), (20, 25, "LOC"), (27, 32, "LOC")) for number in range(8)]


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wordpiece_encoder: Path):
    """Writes ``run.yaml``, with changed keys, and ``good.jsonl`` into an empty current folder."""
    monkeypatch.chdir(tmp_path)
    Path("good.jsonl").write_text("\n".join(GOOD), encoding="utf-8")

    def write(**changes: Any) -> str:
        content = {
            "encoder": str(wordpiece_encoder),
            "data": {"train": "good.jsonl"},
            "output": "out",
            "encoding": {"max_length": 64, "overlap": 8},
            "trainer": {"num_train_epochs": 1},
        }
        Path("run.yaml").write_text(yaml.safe_dump(content | changes), encoding="utf-8")
        return "run.yaml"

    return write


@pytest.fixture
def fails(recipe, refused):
    """Runs ``musamma train``, which must fail."""
    return partial(refused, "train")


# The configuration.


def test_all_mistakes_in_a_configuration_are_reported_at_once(fails, recipe):
    message = fails(
        recipe(
            encodr="nawah",
            seeds=[1, 1],
            precision="half",
            data={"train": [], "dev_shar": 0.1},
            trainer={"learning_rat": 1e-4, "output_dir": "x", "num_train_epochs": 1},
        )
    )
    for mistake in (
        "encodr: unknown key",
        "seeds: duplicate seed",
        "precision: Input should be 'auto', 'float32' or 'bfloat16'",
        "data.train: List should have at least 1 item",
        "data.dev_shar: unknown key",
        "unknown key 'learning_rat'",
        "'output_dir' is set by the run, use 'output'",
    ):
        assert mistake in message
    assert message.startswith("run.yaml: ")
    assert "num_train_epochs" not in message
    assert "; known keys: encoder, data, output, " in message
    assert "; known keys of data: train, dev, dev_share, test, format, labels, group" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["LOC", "O"]}, "labels: label 'O': expected a word, and not O, which stands for no name"),
        ({"labels": ["LOC", ""]}, "labels: label '': expected a word"),
        ({"labels": ["LOC", "LOC"]}, "labels: duplicate label"),
        ({"data": {"train": "good.jsonl", "test": ""}}, "data.test: String should have at least 1 character"),
        ({"data": {"train": ["good.jsonl", ""]}}, "data.train.1: String should have at least 1 character"),
        ({"encoder": ""}, "encoder: String should have at least 1 character"),
        ({"data": 3}, "data: Input should be a valid dictionary"),
    ],
)
def test_values_that_no_run_can_have(fails, recipe, changes, message):
    assert fails(recipe(**changes)).startswith(f"run.yaml: {message}")
    assert not Path("out").exists()


def test_an_unreadable_configuration(fails):
    assert fails("nowhere.yaml").startswith("nowhere.yaml: No such file or directory; expected a YAML file, or one of ")
    assert "quickstart" in fails("nowhere.yaml")
    Path("broken.yaml").write_text("encoder: [nawah\ndata: x", encoding="utf-8")
    assert fails("broken.yaml").startswith("broken.yaml: not YAML: ")
    Path("latin.yaml").write_bytes(b"encoder: caf\xe9")
    assert fails("latin.yaml").startswith("latin.yaml: not YAML: ")
    Path("list.yaml").write_text("[nawah]", encoding="utf-8")
    assert fails("list.yaml") == "list.yaml: a YAML list; expected keys and values"
    Path("empty.yaml").write_text("", encoding="utf-8")
    assert fails("empty.yaml").startswith("empty.yaml: ")
    Path("folder").mkdir()
    assert fails("folder").startswith("folder: Is a directory")


def test_invalid_changes(fails, recipe):
    config = recipe()
    assert fails(config, "--set", "seeds").startswith("--set 'seeds'; expected key.key=value")
    assert fails(config, "--set", "=1").startswith("--set '=1'; expected key.key=value")
    assert "'encoder' is not a section" in fails(config, "--set", "encoder.name=x")
    assert fails(config, "--set", "seeds=[1").startswith("--set 'seeds=[1': the value is not YAML")
    assert "nothing: unknown key" in fails(config, "--set", "nothing.here=1")
    assert "unknown key 'learning_rat'" in fails(config, "--set", "trainer.learning_rat=1")
    message = fails(config, "--set", "seeds=x", "--set", "encoding.overlap=-1")
    assert "seeds: Input should be a valid list" in message
    assert "encoding.overlap: Input should be greater than or equal to 0" in message
    assert not Path("out").exists()


def test_arguments_that_transformers_rejects(fails, recipe):
    message = fails(recipe(trainer={"lr_scheduler_type": "steep"}))
    assert message.startswith("trainer: steep is not a valid SchedulerType")


def test_arguments_are_converted_to_the_types_of_transformers(fails, recipe):
    """YAML reads 1e-4 as a string and no as false."""
    trainer = load_config(recipe(), changes=["trainer.learning_rate=1e-4", "trainer.warmup_steps=100"]).trainer
    assert trainer == {"num_train_epochs": 1, "learning_rate": 1e-4, "warmup_steps": 100}
    assert [type(value) for value in trainer.values()] == [int, float, int]
    (size,) = load_config(recipe(trainer={}), changes=["trainer.per_device_train_batch_size=4.0"]).trainer.values()
    assert (size, type(size)) == (4, int)
    message = fails("run.yaml", "--set", "trainer.learning_rate=fast", "--set", "trainer.save_strategy=no")
    assert "'learning_rate' is 'fast': Input should be a valid number" in message
    assert "'save_strategy' is False: Input should be 'no', 'steps', 'epoch' or 'best'" in message


def test_numbers_that_cannot_train_are_all_refused_at_once(fails, recipe):
    """They gave a checkpoint of NaN and exit status 0, or an error after the folder was written."""
    too_small = {
        "learning_rate": (-1e-4, "greater than 0"),
        "num_train_epochs": (-1, "greater than 0"),
        "per_device_train_batch_size": (0, "greater than or equal to 1"),
        "gradient_accumulation_steps": (0, "greater than or equal to 1"),
        "max_steps": (0, "at least 1, or -1 for num_train_epochs"),
        "warmup_steps": (-2, "greater than or equal to 0"),
        "adam_beta1": (1.0, "less than 1"),
        "adam_beta2": (-0.1, "greater than or equal to 0"),
        "adam_epsilon": (0, "greater than 0"),
        "weight_decay": (-0.01, "greater than or equal to 0"),
        "max_grad_norm": (-1, "greater than or equal to 0"),
        "logging_steps": (0, "greater than 0"),
    }
    message = fails(
        recipe(
            seeds=[-1, 2**32],
            head_learning_rate=float("inf"),
            layerwise_decay=float("nan"),
            data={"train": "good.jsonl", "dev_share": float("nan")},
            encoder_config={"hidden_dropout_prob": float("nan"), "num_hidden_layers": 0},
            trainer={key: value for key, (value, _) in too_small.items()},
        )
    )
    for key, (value, bound) in too_small.items():
        assert f"'{key}' is {value}: Input should be {bound}" in message
    for mistake in (
        "seeds.0: Input should be greater than or equal to 0",
        "seeds.1: Input should be less than 4294967296",
        "head_learning_rate: Input should be a finite number",
        "layerwise_decay: Input should be a finite number",
        "data.dev_share: Input should be a finite number",
        "'hidden_dropout_prob' is nan: Input should be a finite number",
        "'num_hidden_layers' is 0: Input should be greater than or equal to 1",
    ):
        assert mistake in message
    assert not Path("out").exists()


@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "inf", "1e999", "yes", "no", "true"])
def test_values_that_are_not_numbers(fails, recipe, value):
    """YAML reads yes and no as booleans, and pydantic reads those as 1 and 0."""
    places = ("trainer.learning_rate", "trainer.max_steps", "trainer.adam_beta1", "trainer.eval_delay")
    places += ("layerwise_decay", "early_stopping_patience", "encoding.overlap", "data.group")
    message = fails(recipe(), *(part for place in places for part in ("--set", f"{place}={value}")))
    for place in places:
        section, _, key = place.partition(".")
        assert f"'{key}' is " in message if section == "trainer" else f"{place}: Input should be " in message
    assert not Path("out").exists()


# The data.


@pytest.mark.parametrize(
    ("span", "message"),
    [
        (
            (20, 40, "LOC"),
            "bad.jsonl:3, document 'd2': span [20, 40) LOC 'بيروت وبغداد': not within the text's 32 characters",
        ),
        ((-1, 3, "LOC"), "bad.jsonl:3, document 'd2': span [-1, 3) LOC"),
        ((4, 4, "LOC"), "bad.jsonl:3, document 'd2': span [4, 4) LOC '': no characters"),
        (
            (9, 19, "LOC"),
            "bad.jsonl:3, document 'd2': spans [9, 19) LOC 'السعيد إلى' and [4, 15) PER 'محمد السعيد' overlap",
        ),
    ],
)
def test_invalid_spans(fails, recipe, span, message):
    Path("bad.jsonl").write_text("\n".join([*GOOD[:2], document(2, (4, 15, "PER"), span)]), encoding="utf-8")
    assert fails(recipe(data={"train": "bad.jsonl"})).startswith(message)


def test_unreadable_files(fails, recipe):
    Path("broken.jsonl").write_text("\n".join([*GOOD[:6], GOOD[6][:-20], GOOD[7]]), encoding="utf-8")
    Path("latin.jsonl").write_bytes("\n".join(GOOD[:2]).encode() + b'\n{"id": "caf\xe9", "text": ""}')
    Path("empty.jsonl").write_text("", encoding="utf-8")
    Path("twice.jsonl").write_text("\n".join([*GOOD, GOOD[0]]), encoding="utf-8")
    Path("bare.jsonl").write_text("\n".join(map(document, range(8))), encoding="utf-8")
    for name, message in {
        "broken": "broken.jsonl:7: broken JSON: ",
        "latin": "latin.jsonl:3: byte 0xe9 at byte 12 is not UTF-8",
        "empty": "empty.jsonl: no document in it",
        "twice": "twice.jsonl:9: id 'd0' is taken by twice.jsonl:1",
        "bare": "bare.jsonl: the training part has 7 documents and no names",
        "none": "none.jsonl: no such file or folder",
    }.items():
        for key in ("train", "dev") if name != "bare" else ("train",):
            assert fails(
                recipe(data={"train": "good.jsonl", key: f"{name}.jsonl", "test": []}), "--output", f"{name}-{key}"
            ).startswith(message)


def test_labels_outside_the_schema(fails, recipe):
    message = fails(recipe(labels=["PER", "ORG"]))
    assert message.startswith(
        "document 'd0': label 'LOC' of [20, 25) LOC 'بيروت'; expected one of PER, ORG; add it to 'labels'"
    )
    Path("test.jsonl").write_text(document(90, (4, 15, "ARTIST")), encoding="utf-8")
    message = fails(recipe(data={"train": "good.jsonl", "test": "test.jsonl"}), "-o", "out2")
    assert message.startswith(
        "document 'd90': label 'ARTIST' of [4, 15) ARTIST 'محمد السعيد'; expected one of LOC, PER"
    )


# The encoder.


def test_unusable_encoders(fails, recipe, wordpiece_encoder):
    Path("empty").mkdir()
    for changes, message in (
        ({"encoder": "./nowhere"}, "./nowhere: no such folder; check the path"),
        ({"encoder": "empty"}, "empty: the folder is empty; expected a folder with config.json"),
        (
            {"encoder": "owner/arabert"},
            "owner/arabert: no folder of that name, and the Hugging Face hub cannot be reached",
        ),
        (
            {"encoding": {"max_length": 4000, "overlap": 64}},
            f"{wordpiece_encoder}: encoding.max_length 4000; expected at most 128, the number of the encoder's positions",
        ),
        (
            {"encoder_config": {"droput": 0.1}},
            f"{wordpiece_encoder}: encoder_config.droput; expected a key of its BertConfig",
        ),
    ):
        assert fails(recipe(**changes)).startswith(message)
        assert list(Path("out").iterdir()) == []  # a corrected call finds the folder empty


def test_an_encoder_whose_positions_start_after_the_padding(fails, recipe, unigram_encoder):
    """Of its 130 positions, 128 are for text."""
    message = fails(recipe(encoder=str(unigram_encoder), encoding={"max_length": 129, "overlap": 8}))
    assert (
        message
        == f"{unigram_encoder}: encoding.max_length 129; expected at most 128, the number of the encoder's positions"
    )


def test_weights_of_another_architecture(fails, recipe, wordpiece_encoder, unigram_encoder):
    shutil.copytree(wordpiece_encoder, "mixed")
    shutil.copy(unigram_encoder / "model.safetensors", "mixed/model.safetensors")
    weights = load_file("mixed/model.safetensors")
    save_file(
        {f"other.{name}": weight for name, weight in weights.items()}, "mixed/model.safetensors", {"format": "pt"}
    )
    assert fails(recipe(encoder="mixed")).startswith("mixed: the weights lack 'bert.embeddings.LayerNorm.")


def test_a_recogniser_with_other_labels_can_be_the_encoder(recipe, capsys, unigram_encoder):
    """The label that only the encoder has is left out."""
    assert run(["train", recipe(labels=["PER", "LOC", "ORG"]), "--output", "first"]) == 0
    assert run(["train", recipe(encoder="first")]) == 0
    assert Tagger("out", device="cpu").labels == ("LOC", "PER")


def test_an_export_is_no_encoder(fails, recipe, wordpiece_encoder):
    shutil.copytree(wordpiece_encoder, "exported")
    config = json.loads(Path("exported/config.json").read_text(encoding="utf-8"))
    export = {"format": 1, "runtime": "openvino", "quantization": None, "proclitics": True}
    Path("exported/config.json").write_text(json.dumps(config | {"musamma": {"export": export}}), encoding="utf-8")
    assert fails(recipe(encoder="exported")) == (
        "exported: an exported model; expected the checkpoint that it was exported from"
    )


# The output folder.


def test_occupied_output_folders(fails, recipe):
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("years of work", encoding="utf-8")
    for options in ([], ["--overwrite"], ["--resume"]):
        assert fails(recipe(), *options) == "out: the folder holds other files; choose another --output"
    assert [path.name for path in Path("out").iterdir()] == ["thesis.txt"]
    assert "choose an --output that can be written" in fails(recipe(), "-o", "out/thesis.txt")
    assert "choose an --output that can be written" in fails(recipe(), "-o", "out/thesis.txt/deeper")


def test_a_complete_run(recipe, fails, capsys):
    config = recipe()
    assert run(["train", config, "--set", "seeds=[3]"]) == 0
    captured = capsys.readouterr()
    assert "micro F1, 1 seed" in captured.out
    assert "character-exact" in captured.out
    assert captured.out.rstrip().endswith("checkpoint, card and scores: out")
    assert Tagger("out", device="cpu").labels == ("LOC", "PER")
    assert yaml.safe_load(Path("out/run.yaml").read_text("utf-8"))["seeds"] == [3]

    before = {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()}
    message = fails(config, "--set", "seeds=[3]")
    assert message.startswith(
        "out: the folder holds an earlier run; continue it with --resume, replace it with --overwrite, or"
    )
    # An earlier run is deleted only after everything else was checked.
    fails(config, "--overwrite", "--set", "encoder=./nowhere")
    fails(config, "--overwrite", "--set", "data.train=none.jsonl")
    fails(config, "--overwrite", "--set", "trainer.lr_scheduler_type=steep")
    message = fails(config, "--set", "seeds=[3]", "--set", "proclitics=false", "--resume")
    assert message.startswith("out/run.yaml: the run to resume has other settings for proclitics")
    assert {path: path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(("f1", "noted"), [(0.0, True), (0.01, False)])
def test_a_run_that_finds_no_name_says_what_helps(recipe, capsys, monkeypatch, f1, noted):
    monkeypatch.setattr("musamma.training.run_dir.SeedResult.dev_f1", f1)
    assert run(["train", recipe(), "--set", "trainer.max_steps=1"]) == 0
    message = capsys.readouterr().err
    assert message.startswith("note: no name of the development part was found. ") == noted
    assert ("musamma train adapt" in message) == noted


def test_articles_train_a_checkpoint_further(recipe, capsys, checkpoint, known):
    """The heads are kept: a step or two change little of what the checkpoint finds."""
    write_jsonl(known, "known.jsonl")
    changes = {"encoder": str(checkpoint), "data": {"train": "known.jsonl", "dev_share": 0.4}}
    assert run(["train", recipe(**changes, trainer={"num_train_epochs": 1, "learning_rate": 1e-6})]) == 0
    assert capsys.readouterr().err == ""
    found = list(Tagger("out", device="cpu").tag_documents(known))
    assert [[span.key for span in d.spans] for d in found] == [[span.key for span in d.spans] for d in known]


# Quickstart.


def test_quickstart_trains_scores_and_tags(recipe, capsys, wordpiece_encoder, tmp_path, monkeypatch):
    """All words but the last are names, so a few steps are enough to find some."""
    packaged = tmp_path / "packaged"
    write_random_checkpoint(packaged / "nawah-ner", wordpiece_encoder, labels=["PER", "LOC"])
    monkeypatch.setattr("musamma.models.model_names.packaged_folder", lambda: packaged)
    words = TEXT.split()
    cuts = [TEXT.index(word) for word in words]
    names = [(cut, cut + len(word), "GPE") for cut, word in zip(cuts, words, strict=True)][:-1]
    Path("dense.jsonl").write_text("\n".join(document(number, *names) for number in range(12)), encoding="utf-8")
    recipe()
    changes = {
        "encoder": wordpiece_encoder,
        "data.train": "dense.jsonl",
        "data.test": "[]",
        "layerwise_decay": 1.0,
        "head_learning_rate": 0.01,
        "encoding.max_length": 64,
        "encoding.overlap": 8,
        "trainer.num_train_epochs": 3,
        "trainer.learning_rate": 0.01,
    }
    call = [
        "quickstart",
        "-o",
        "[quick]",
        *(part for key, value in changes.items() for part in ("--set", f"{key}={value}")),
    ]
    capsys.readouterr()
    assert run(call) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    first, _, trained = captured.out.partition("Fine-tuning ")
    assert "What the packaged nawah-ner finds in the article 'seed-mosul' of the test part" in first
    assert " PER " in first
    assert "micro F1, 1 seed" in trained
    assert "Names found in the article 'seed-mosul' of the test part" in trained
    rows = [line for line in trained.splitlines() if line.startswith("│") and " GPE " in line]
    assert len(rows) > 10
    before, _, rest = trained.rpartition(" of the 60 annotated names found exactly, ")
    exact = int(before.splitlines()[-1])
    assert exact == sum(" yes " in row for row in rows)
    assert rest.splitlines()[0] == f"{len(rows) - exact} other names found."
    assert "musamma predict FILE.txt --model [quick] --format html --output names.html" in captured.out

    # Only in the default folder is an earlier run deleted without --overwrite.
    assert run(call) == 2
    assert "[quick]: the folder holds an earlier run" in capsys.readouterr().err
