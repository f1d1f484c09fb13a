"""The command ``musamma export``: the files of an export, refusals, and that a refusal leaves nothing behind."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from musamma.cli.main import run
from musamma.data.corpora import load_khabar
from musamma.data.document import Document, Span, write_jsonl
from musamma.inference import Tagger
from musamma.models.calibration import Calibration
from musamma.models.checkpoint import load_classifier
from musamma.models.classifier import TokenClassifier
from musamma.models.export import graph as export_module
from musamma.models.export import quality_gate
from musamma.models.optional_packages import disable_telemetry
from tests.support import default_mode, file_modes, write_random_checkpoint

ROOT = Path(__file__).parents[2]

disable_telemetry()
pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def checkpoint(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrated checkpoint with a card that finds names in any text, and in which attention matters."""

    def raise_attention(classifier: TokenClassifier) -> None:
        for layer in classifier.backbone.bert.encoder.layer:
            layer.attention.self.value.weight *= 10
            layer.attention.output.dense.weight *= 10

    folder = tmp_path_factory.mktemp("models") / "small"
    calibration = Calibration(tag_temperature=1.5)
    write_random_checkpoint(folder, wordpiece_encoder, adjust=raise_attention, calibration=calibration)
    card = "---\nlibrary_name: transformers\n---\n\n# small\n\nA card.\n\n## Data\n\nSome.\n"
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def gold(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint's own predictions, on which its F1 is 100."""
    bare = [document.with_spans(()) for document in load_khabar("dev")[:3]]
    path = tmp_path_factory.mktemp("gold") / "gold.jsonl"
    write_jsonl(Tagger(str(checkpoint), device="cpu", bfloat16=False).tag_documents(bare), path)
    return path


@pytest.fixture
def few_texts(monkeypatch):
    """Measure agreement on few texts."""
    monkeypatch.setattr(quality_gate, "AGREEMENT_WORDS", 2_000)


@pytest.fixture
def call(checkpoint, tmp_path, capfd):
    """Run the command with the output ``tmp_path / "out"``; return its status, stdout and stderr."""

    def called(*arguments: object, model: object = checkpoint) -> tuple[int, str, str]:
        status = run(["export", "--model", str(model), "--output", str(tmp_path / "out"), *map(str, arguments)])
        return status, *capfd.readouterr()

    return called


def refused(answer: tuple[int, str, str], *parts: str, status: int = 2) -> None:
    """Check that the command ended with this status and one line with these parts."""
    assert answer[0] == status
    assert answer[1] == ""
    (line,) = answer[2].splitlines()
    for part in parts:
        assert part in line


def test_an_export_is_complete_and_agrees_with_its_checkpoint(call, checkpoint, tmp_path):
    status, out, err = call("--format", "openvino")
    assert (status, err) == (0, "")
    assert "of the names agree" in out
    folder = tmp_path / "out"
    names = {path.name for path in folder.iterdir()}
    assert names >= {"config.json", "tokenizer.json", "openvino_model.xml", "openvino_model.bin", "export.json"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert set(file_modes(folder).values()) == {default_mode(tmp_path)}
    own = AutoConfig.from_pretrained(folder).musamma
    assert own["encoding"] == {"max_length": 64, "overlap": 16}
    assert own["calibration"]["tag_temperature"] == 1.5
    record = json.loads((folder / "export.json").read_text())
    assert record["source"] == "small"
    assert record["parity"]["windows"] >= 200
    assert record["parity"]["words_parted"] <= 0.001
    assert record["bytes"]["after"] < record["bytes"]["before"]
    card = (folder / "README.md").read_text()
    assert card.index("A card.") < card.index("## Export") < card.index("## Data")
    assert "library_name: openvino\n" in card
    text = "وصل الرئيس إلى دمشق وبغداد ولندن، ثم غادر إلى باريس"
    expected, actual = (Tagger(str(model), device="cpu", bfloat16=False).tag(text) for model in (checkpoint, folder))
    assert expected
    assert [span.key for span in expected] == [span.key for span in actual]
    assert [span.score for span in expected] == pytest.approx([span.score for span in actual], abs=0.01)


def test_an_int8_model_is_written_with_its_measurements(call, gold, tmp_path, few_texts):
    sample = tmp_path / "sample.jsonl"
    write_jsonl(load_khabar("train")[:2], sample)
    status, out, err = call(
        *("--quantize", "int8", "--dev", gold, "--sample", sample, "--max-f1-loss", 100, "--min-agreement", 50)
    )
    assert (status, err) == (0, "")
    assert "strict F1" in out
    assert "is within the limit of 100" in out
    record = json.loads((tmp_path / "out" / "export.json").read_text())
    assert record["quantization"] == "int8"
    assert record["f1"]["before"] == 1.0
    assert record["f1"]["after"] > 0.9
    low, high = record["f1"]["interval"]
    assert low <= record["f1"]["loss"] <= high
    assert record["f1"]["passed"] is True
    agreement = record["f1"]["agreement"]
    assert agreement["agreeing"] > 0.9
    assert agreement["minimum"] == 50
    assert agreement["words"] >= 2_000
    assert agreement["documents"] > 3  # more than those of GOLD
    assert record["parity"]["mean_difference"] > 1e-4  # otherwise nothing was quantised
    assert 0 < record["samples"] <= 200
    card = (tmp_path / "out" / "README.md").read_text()
    assert "8-bit integers" in card
    assert record["f1"]["reason"] in card


def test_an_int8_model_that_lost_too_much_f1_is_not_written(call, checkpoint, gold, tmp_path, few_texts, monkeypatch):
    assert call("--format", "openvino")[0] == 0
    record = (tmp_path / "out" / "export.json").read_bytes()
    worse, _ = load_classifier(str(checkpoint))
    with torch.no_grad():
        worse.backbone.classifier.weight.neg_()
    damaged = export_module.convert_openvino(export_module.TraceableClassifier(worse))
    monkeypatch.setattr(export_module, "_quantized_openvino", lambda *arguments: (damaged, ()))
    answer = call("--quantize", "int8", "--dev", gold, "--overwrite")
    refused(answer, "F1 100.00 before", "above the limit of 0.3", "without --quantize", "--max-f1-loss", status=1)
    assert (tmp_path / "out" / "export.json").read_bytes() == record  # the earlier one is still there
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_graph_that_ignores_its_mask_is_refused(call, tmp_path, monkeypatch):
    class Maskless(export_module.TraceableClassifier):
        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return super().forward(input_ids, torch.ones_like(attention_mask) + 0 * attention_mask)

    monkeypatch.setattr(export_module, "TraceableClassifier", Maskless)
    refused(call(), "the exported graph is wrong", "padding changes", status=1)
    assert not list(tmp_path.iterdir())


def test_with_too_few_names_a_line_says_so(call, gold, tmp_path):
    document = Document("d", "زار محمد بيروت", (Span(4, 8, "PER"),))
    write_jsonl([document], tmp_path / "dev.jsonl")
    status, _, err = call("--dev", tmp_path / "dev.jsonl")
    assert status == 0
    assert "on 1 name is too uncertain to compare with the limit of 0.3" in err


def test_invalid_calls_are_refused(call, checkpoint, gold, tmp_path):
    refused(call("--quantize", "int8"), "--quantize int8 without --dev", "only after its F1 was measured", "give --dev")
    refused(call("--sample", gold), "--sample", "leave it out")
    refused(call("--labels", "x"), "--labels without --dev")
    refused(call("--format", "tflite"), "tflite")
    refused(call(model=tmp_path / "none"), "no such folder")
    refused(call("--dev", tmp_path / "none.jsonl"), "none.jsonl")
    write_jsonl([Document("d", "بيروت")], tmp_path / "bare.jsonl")
    refused(call("--dev", tmp_path / "bare.jsonl"), "without names")
    write_jsonl([Document("d", "بيروت", (Span(0, 5, "GPE"),))], tmp_path / "other.jsonl")
    refused(call("--dev", tmp_path / "other.jsonl"), "labels the model does not have: GPE", "--labels")
    assert not (tmp_path / "out").exists()


def test_only_an_earlier_export_is_replaced(call, checkpoint, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    refused(call("--overwrite"), "is no exported model", "choose another --output")
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]
    (folder / "thesis.txt").unlink()
    assert call()[0] == 0
    (folder / "export.json").write_text("{}")
    refused(call(), "holds an exported model", "--overwrite")
    refused(call("--overwrite", model=folder), "cannot be exported again", "the checkpoint it was made from")
    assert call("--overwrite")[0] == 0
    assert json.loads((folder / "export.json").read_text())["runtime"] == "openvino"


@pytest.mark.parametrize(("package", "runtime"), [("openvino", "openvino"), ("onnxscript", "onnx")])
def test_a_missing_package_is_named(call, monkeypatch, package, runtime):
    monkeypatch.setitem(sys.modules, package, None)
    refused(call("--format", runtime), f"{package} is not installed", "pip install 'musamma[export]'")


def commands_of(page: str, verb: str) -> list[list[str]]:
    """The arguments of the commands with an int8 export in a page."""
    lines = (ROOT / page).read_text("utf-8").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith(f"musamma {verb} ") and "runs/mine-int8" in line]


def test_the_commands_of_the_guides_make_an_export_and_run_it(wordpiece_encoder, few_texts, tmp_path, monkeypatch):

    def lower_layers(classifier: TokenClassifier) -> None:
        # Like those of a trained model, predictions must not hang on the last bits of a random one.
        for layer in classifier.backbone.bert.encoder.layer:
            layer.attention.output.dense.weight *= 0.1
            layer.output.dense.weight *= 0.1

    monkeypatch.chdir(tmp_path)
    write_random_checkpoint(tmp_path / "runs" / "mine", wordpiece_encoder, adjust=lower_layers)
    bare = [document.with_spans(()) for document in load_khabar("dev")[:3]]
    write_jsonl(Tagger("runs/mine", device="cpu", bfloat16=False).tag_documents(bare), tmp_path / "dev.jsonl")
    write_jsonl(bare, tmp_path / "archive.jsonl")

    (readme,) = commands_of("README.md", "export")
    assert commands_of("README.ar.md", "export") == [readme]
    renamed = [argument.replace("dev.jsonl", "gold.jsonl") for argument in readme]
    assert commands_of("docs/tutorial.md", "export") == [renamed]
    assert run(readme) == 0
    # Ray and its cluster are tested elsewhere, and so are archives in other formats.
    ((verb, _, *options),) = commands_of("README.md", "predict")
    options = options[: options.index("--engine")]
    assert run([verb, "archive.jsonl", *options, "--output", "tagged.jsonl"]) == 0
    assert len((tmp_path / "tagged.jsonl").read_text("utf-8").splitlines()) == 3
