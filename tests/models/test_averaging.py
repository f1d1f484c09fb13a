"""The mean of the weights of several checkpoints, and ``musamma average``."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from musamma.cli.main import run
from musamma.data.document import Document
from musamma.inference import Tagger
from musamma.models.calibration import Calibration
from musamma.models.runtimes.runtime import GraphDescription
from tests.support import refused_command, write_packed, write_random_checkpoint


@pytest.fixture(scope="module")
def seeds(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("seeds")
    calibration = Calibration(1.5, 1.25, {"PER": 0.5, "LOC": None, "ORG": 0.25}, 0.9, 10, 2000, 0.125, 0.0625)
    return [
        write_random_checkpoint(
            folder / str(seed),
            wordpiece_encoder,
            seed=seed,
            nested=["PER"],
            calibration=calibration if seed == 1 else None,
        )
        for seed in (1, 2, 3)
    ]


def test_every_weight_is_the_mean(seeds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mean"
    assert run(["average", *map(str, seeds), "-o", str(output)]) == 0
    assert "the mean of 3 checkpoints" in capsys.readouterr().out
    for file in ("model.safetensors", "proclitic_head.safetensors", "nested_head.safetensors"):
        parts = [load_file(seed / file) for seed in seeds]
        mean = load_file(output / file)
        assert set(mean) == set(parts[0])
        for name, tensor in mean.items():
            expected = torch.stack([part[name] for part in parts]).double().mean(0).float()
            assert torch.equal(tensor, expected)
    # The scores of the mean are not those of the first checkpoint.
    assert "calibration" in json.loads((seeds[0] / "config.json").read_text(encoding="utf-8"))["musamma"]
    assert "calibration" not in json.loads((output / "config.json").read_text(encoding="utf-8"))["musamma"]
    assert Tagger(str(output), device="cpu").tag("وصل الوفد إلى بغداد")


def test_the_mean_of_equal_checkpoints_is_the_checkpoint(
    seeds: list[Path], known: list[Document], tmp_path: Path
) -> None:
    assert run(["average", str(seeds[1]), str(seeds[1]), "-o", str(tmp_path / "mean")]) == 0
    found = [
        [document.spans for document in Tagger(str(model), device="cpu").tag_documents(known)]
        for model in (seeds[1], tmp_path / "mean")
    ]
    assert found[0] == found[1]


def test_checkpoints_that_do_not_fit_are_refused(
    seeds: list[Path], wordpiece_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = write_random_checkpoint(tmp_path / "flat", wordpiece_encoder)
    labels = write_random_checkpoint(tmp_path / "labels", wordpiece_encoder, labels=["PER"], nested=["PER"])
    output = tmp_path / "mean"

    def refused(*models: object) -> str:
        line = refused_command(capsys, "average", *models, "-o", output)
        assert not output.exists()
        return line

    assert refused(seeds[0]) == "models: 1 checkpoint; expected at least two"
    assert refused(seeds[0], flat).startswith(f"{flat}: no nested_head.safetensors; expected the files of {seeds[0]}")
    damaged = Path(shutil.copytree(seeds[1], tmp_path / "damaged"))
    (damaged / "model.safetensors").write_bytes(b"{")
    assert refused(seeds[0], damaged).startswith(f"{damaged / 'model.safetensors'}: cannot be read: ")
    weights = load_file(seeds[1] / "model.safetensors")
    weights["classifier.bias"][0] = torch.inf
    save_file(weights, damaged / "model.safetensors")
    assert refused(seeds[0], damaged) == (
        f"{damaged / 'model.safetensors'}: the weights classifier.bias are not all finite; copy the checkpoint anew"
    )
    (tmp_path / "full").mkdir()
    (tmp_path / "full/mine").touch()
    assert refused_command(capsys, "average", seeds[0], seeds[1], "-o", tmp_path / "full").endswith(
        "expected a folder that is new or empty; choose another --output"
    )
    assert refused(seeds[0], labels) == (
        f"{labels}: another id2label; expected a checkpoint of the same recipe as {seeds[0]}"
    )
    # The heads have the same shape.
    inner = write_random_checkpoint(tmp_path / "inner", wordpiece_encoder, nested=["LOC"])
    assert refused(seeds[0], inner) == (
        f"{inner}: other labels of nested names; expected a checkpoint of the same recipe as {seeds[0]}"
    )
    assert refused(flat, seeds[0]).startswith(f"{flat}: no nested_head.safetensors; expected the files of {seeds[0]}")
    (damaged / "nested_head.safetensors").unlink()
    assert refused(damaged, damaged) == (
        f"{damaged}: no nested_head.safetensors; expected the head of the nested names; copy the model anew"
    )
    (damaged / "config.json").write_text("{", encoding="utf-8")
    assert refused(damaged, damaged).startswith(
        f"{damaged}: no labels in config.json; expected a fine-tuned checkpoint"
    )


def test_models_of_other_kinds_are_named(seeds: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The kind is named, and not a file or a key that models of this kind lack."""
    packed = write_packed(seeds[0], tmp_path / "packed")
    (packed / "nested_head.safetensors").unlink()
    exported = Path(shutil.copytree(seeds[0], tmp_path / "exported", ignore=shutil.ignore_patterns("*.safetensors")))
    config = json.loads((exported / "config.json").read_text(encoding="utf-8"))
    graph = GraphDescription(runtime="openvino", quantization=None, proclitics=True, nested=True)
    config["musamma"]["export"] = graph.to_dict()
    del config["vocab_size"]
    (exported / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for model, message in (
        (packed, "a packed checkpoint; expected plain ones; unpack it with musamma unpack"),
        (exported, "an exported model; expected the checkpoint that it was exported from"),
    ):
        for models in ((seeds[1], model), (model, seeds[1])):
            line = refused_command(capsys, "average", *models, "-o", tmp_path / "mean")
            assert line == f"{model}: {message}"
