"""No command runs Python of a model's folder, unpickles anything but tensors, or asks on standard input whether it may."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file
from transformers import dynamic_module_utils

from musamma.cli.main import run
from musamma.data.document import write_jsonl
from tests.support import make_document

OWN_CODE = "needs Python code that comes with the model, which is never run here"
PICKLE = "the pickled weights ask for io.open, which can run code"
ANSWERS = b"y\n" * 20


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def change_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | values), encoding="utf-8")


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file that code of a model would create."""
    return tmp_path / "canary"


@pytest.fixture
def spoiled(tmp_path: Path, canary: Path) -> Callable[[str | Path, str], Path]:
    """Copies a model and makes the copy need code: of its configuration, tokenizer, attention or pickled weights."""

    def spoil(source: str | Path, kind: str, *, native: bool = False) -> Path:
        folder = tmp_path / f"{kind}-{Path(source).name}"
        shutil.copytree(source, folder)
        code = (
            f"open({str(canary)!r}, 'w').close()\n"
            "from transformers import BertConfig, BertForTokenClassification, BertModel, BertTokenizer\n"
            "class Config(BertConfig):\n    model_type = 'own'\n"
            "class Classifier(BertForTokenClassification):\n    config_class = Config\n"
            "class Encoder(BertModel):\n    config_class = Config\n"
            "class Tokenizer(BertTokenizer):\n    pass\n"
        )
        (folder / "own.py").write_text(code, encoding="utf-8")
        classes = {
            "AutoConfig": "own.Config",
            "AutoModel": "own.Encoder",
            "AutoModelForTokenClassification": "own.Classifier",
            "AutoModelForMaskedLM": "own.Encoder",
            "AutoTokenizer": [None, "own.Tokenizer"],
        }
        if kind == "configuration":
            change_json(folder / "config.json", auto_map=classes, **({} if native else {"model_type": "own"}))
        elif kind == "tokenizer":
            change_json(
                folder / "tokenizer_config.json",
                auto_map=classes,
                tokenizer_class="PreTrainedTokenizerFast" if native else "Tokenizer",
            )
        elif kind == "attention":
            change_json(folder / "config.json", attn_implementation="owner/kernel")
        else:
            weights = load_file(folder / "model.safetensors")
            (folder / "model.safetensors").unlink()
            torch.save(weights if native else {**weights, "payload": Payload(canary)}, folder / "pytorch_model.bin")
        return folder

    return spoil


@pytest.fixture(autouse=True)
def answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> io.BytesIO:
    """Standard input that says yes to any question; modules of a model would be copied to ``modules``."""
    stream = io.BytesIO(ANSWERS)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    (tmp_path / "modules").mkdir()
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    return stream


@pytest.fixture(autouse=True)
def nothing_ran(canary: Path, tmp_path: Path, answers: io.BytesIO):
    """Checks after each test that no code ran, none was copied, and no question was answered."""
    yield
    assert not canary.exists()
    assert list((tmp_path / "modules").iterdir()) == []
    assert answers.tell() == 0


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    write_jsonl([make_document("زار سامي بيروت", ("سامي", "PER"), id=str(number)) for number in range(60)], path)
    return path


COMMANDS = {
    "predict": ["predict", "TEXTS", "--model", "MODEL"],
    "serve": ["serve", "--model", "MODEL"],
    "suggest": ["suggest", "TEXTS", "--model", "MODEL", "--output", "OUTPUT", "--format", "jsonl"],
    "export": ["export", "--model", "MODEL", "--output", "OUTPUT"],
    "calibrate": ["calibrate", "TEXTS", "--model", "MODEL"],
    "calibrate copy": ["calibrate", "TEXTS", "--model", "MODEL", "--output", "OUTPUT"],
    "evaluate": ["evaluate", "TEXTS", "--model", "MODEL"],
    "train": ["train", "TRAIN"],
    "trim": ["encoder", "trim", "MODEL", "OUTPUT", "--text", "TEXTS"],
    "extend": ["encoder", "extend", "MODEL", "OUTPUT", "--text", "TEXTS", "--words", "5"],
    "pretrain": ["encoder", "pretrain", "PRETRAIN"],
}
ON_ENCODERS = ("train", "trim", "extend", "pretrain")


def arguments(command: str, model: str | Path, texts: Path, folder: Path) -> list[str]:
    """Return a command with its placeholders filled, and write the configuration it needs."""
    train = {"encoder": str(model), "data": {"train": str(texts)}, "output": str(folder / "out"), "device": "cpu"}
    pretrain = {"encoder": str(model), "text": str(texts), "output": str(folder / "out"), "device": "cpu"}
    for name, content in {"train": train, "pretrain": pretrain}.items():
        (folder / f"{name}.yaml").write_text(json.dumps(content), encoding="utf-8")
    values = {
        "MODEL": str(model),
        "TEXTS": str(texts),
        "OUTPUT": str(folder / "out"),
        "TRAIN": str(folder / "train.yaml"),
        "PRETRAIN": str(folder / "pretrain.yaml"),
    }
    return [values.get(argument, argument) for argument in COMMANDS[command]]


@pytest.mark.parametrize("kind", ["configuration", "tokenizer", "pickle"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_model_that_needs_code_is_refused(command, kind, spoiled, refused, model, wordpiece_encoder, texts, tmp_path):
    if command == "export":
        pytest.importorskip("openvino")
    folder = spoiled(wordpiece_encoder if command in ON_ENCODERS else model, kind)
    before = sorted(path.name for path in folder.iterdir())
    message = refused(*arguments(command, folder, texts, tmp_path))
    assert message.startswith(f"{folder}: {PICKLE if kind == 'pickle' else OWN_CODE}; expected "), message
    assert "trust_remote_code" not in message
    assert "weights_only" not in message
    assert sorted(path.name for path in folder.iterdir()) == before
    # At most what a run writes before it loads the encoder.
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").rglob("*.safetensors"))


def test_an_attention_kernel_of_a_hub_is_refused(spoiled, refused, model, texts):
    folder = spoiled(model, "attention")
    assert refused("predict", texts, "--model", folder).startswith(f"{folder}: {OWN_CODE}")


@pytest.mark.parametrize("kind", ["configuration", "tokenizer", "pickle"])
def test_a_model_that_does_not_need_its_code_is_used_without_it(kind, spoiled, model, texts, tmp_path):
    plain, changed = tmp_path / "plain.jsonl", tmp_path / "changed.jsonl"
    assert run(["predict", str(texts), "--model", str(model), "-o", str(plain)]) == 0
    folder = spoiled(model, kind, native=True)
    assert run(["predict", str(texts), "--model", str(folder), "-o", str(changed)]) == 0
    assert changed.read_bytes() == plain.read_bytes()
    assert plain.read_bytes().count(b'"label"') > 0


@pytest.mark.parametrize("kind", ["configuration", "tokenizer", "pickle"])
def test_a_model_of_the_hub_that_needs_code_is_refused(kind, spoiled, refused, model, texts, tmp_path, monkeypatch):
    hub = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(hub))
    snapshot = make_snapshot(hub, spoiled(model, kind))
    message = refused("predict", texts, "--model", "owner/name")
    assert message.startswith(f"{snapshot}: {PICKLE if kind == 'pickle' else OWN_CODE}; expected ")


def test_the_first_line_of_the_texts_is_no_answer(spoiled, model, tmp_path, canary):
    make_snapshot(tmp_path / "home" / "hub", spoiled(model, "configuration"))
    call = "import sys; sys.argv[0] = 'musamma'; from musamma.cli.main import main; main()"
    process = subprocess.run(
        [sys.executable, "-c", call, "predict", "-", "--model", "owner/name"],
        input=ANSWERS,
        capture_output=True,
        env={**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    assert process.returncode == 2
    assert process.stdout == b""
    lines = process.stderr.decode().splitlines()
    assert len(lines) == 1
    assert OWN_CODE in lines[0]
    assert list((tmp_path / "home").rglob("own.py")) == [tmp_path / "home/hub/models--owner--name/snapshots/abc/own.py"]


def make_snapshot(hub: Path, source: Path) -> Path:
    """Put a folder into a local hub cache as ``owner/name``, and return its folder there."""
    repository = hub / "models--owner--name"
    shutil.copytree(source, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc", encoding="utf-8")
    return repository / "snapshots" / "abc"
