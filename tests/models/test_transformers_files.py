"""Reading of configurations, tokenizers and weights: errors, and that nothing is asked."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, dynamic_module_utils

import musamma
from musamma.data.errors import InputError
from musamma.models import transformers_files
from musamma.models.model_names import unreadable_file
from musamma.models.transformers_files import load_weights, loading_error, read_config


def test_no_other_module_loads_with_transformers_pickle_or_torch():
    root = Path(musamma.__file__).parent
    call = re.compile(
        r"^[^\"`#]*(\.from_pretrained\(|\bload_dataset\(|torch\.load\(|pickle\.load|\byaml\.load\(|\bimport_module\(|(?<![.\w])eval\()",
        re.M,
    )
    calls = {
        (str(path.relative_to(root)), match[1])
        for folder in ("cli", "data", "evaluation", "inference", "models", "training")
        for path in (root / folder).rglob("*.py")
        for match in call.finditer(path.read_text(encoding="utf-8"))
    }
    assert calls == {
        ("models/transformers_files.py", ".from_pretrained("),
        ("evaluation/__init__.py", "import_module("),  # of the modules in its own table
        ("data/formats/hub.py", "load_dataset("),  # runs no scripts from version 4 on
        ("data/formats/markup.py", "yaml.load("),  # with a subclass of SafeLoader
        ("inference/rule_file.py", "yaml.load("),  # with a subclass of SafeLoader
        ("inference/ray/cluster.py", "pickle.load"),  # what the same process pickled for its workers
    }


def test_a_model_nested_in_another_one_is_not_asked_about(monkeypatch):
    # Not an assertion in the function: transformers takes any exception for a refusal.
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or "n")
    seconds = dynamic_module_utils.TIME_OUT_REMOTE_CODE
    message = "owner/name: needs Python code that comes with the model"
    with pytest.raises(InputError, match=message), transformers_files._loading("owner/name"):
        # So transformers calls it for a configuration inside another one.
        dynamic_module_utils.resolve_trust_remote_code(None, "owner/name", False, True)
    assert asked == []
    assert seconds > 0
    assert seconds == dynamic_module_utils.TIME_OUT_REMOTE_CODE


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"garbage\n", "the pickled weights cannot be read; expected model.safetensors, or a pytorch_model.bin with"),
        (b"", "cannot be loaded"),
    ],
)
def test_pickled_weights_that_cannot_be_read_are_one_line(wordpiece_encoder, tmp_path, content, message):
    folder = tmp_path / "model"
    shutil.copytree(wordpiece_encoder, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(InputError, match=f"^{folder}: {message}") as caught:
        load_weights(AutoModel, str(folder))
    assert "weights_only" not in str(caught.value)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


def test_a_pickle_is_not_run_to_find_the_type_of_its_tensors(wordpiece_encoder, tmp_path):
    """Without a type in the configuration, transformers loads the weights twice; the first time, `weights_only` counts."""
    folder = tmp_path / "model"
    shutil.copytree(wordpiece_encoder, folder)
    config = json.loads((folder / "config.json").read_text("utf-8"))
    del config["dtype"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (folder / "model.safetensors").unlink()
    torch.save({"payload": Payload(tmp_path / "canary")}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"the pickled weights ask for io\.open, which can run code"):
        load_weights(AutoModel, str(folder), dtype="auto")
    assert not (tmp_path / "canary").exists()


def test_pickled_tensors_are_the_weights(wordpiece_encoder, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(wordpiece_encoder, folder)
    expected = load_weights(AutoModel, str(wordpiece_encoder), dtype=torch.float32)[0].state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(expected, folder / "pytorch_model.bin")
    weights = load_weights(AutoModel, str(folder), dtype=torch.float32)[0].state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


def test_a_key_that_the_configuration_lacks_is_an_error(wordpiece_encoder):
    with pytest.raises(InputError, match=r"encoder_config\.wings; expected a key of its BertConfig"):
        load_weights(AutoModel, str(wordpiece_encoder), changes={"wings": 2})


def test_a_configuration_of_an_unknown_architecture_is_an_error(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "unheard"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be loaded: .*unheard"):
        read_config(str(tmp_path))


@pytest.fixture
def forbidden(monkeypatch: pytest.MonkeyPatch) -> set[Path]:
    """Paths that may not be opened: as root, no permission forbids it."""
    paths: set[Path] = set()
    original = Path.open

    def open_unless_forbidden(path: Path, *arguments, **options):
        if path in paths:
            raise PermissionError(13, os.strerror(13), str(path))
        return original(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_unless_forbidden)
    return paths


def test_a_file_without_permission_is_called_that(wordpiece_encoder, forbidden):
    assert unreadable_file(wordpiece_encoder) is None
    file = wordpiece_encoder / "model.safetensors"
    forbidden.add(file)
    # safetensors reports a file that it may not open as missing.
    error = loading_error(str(wordpiece_encoder), FileNotFoundError(2, "No such file or directory"))
    assert str(error) == f"{file}: Permission denied; check its permissions"
