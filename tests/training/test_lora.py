"""Low-rank adapters: added, merged, and in a run that is stopped and resumed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from musamma.data.document import Document, Span, write_jsonl
from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.inference import Tagger
from musamma.models.checkpoint import build_classifier
from musamma.models.classifier import TokenClassifier
from musamma.training.config import LoraSection, RunConfig
from musamma.training.finetune import finetune
from musamma.training.trainer import LogWriter

pytest.importorskip("peft")

from musamma.training.lora import add_adapters, merge_adapters

HEADS = ("backbone.classifier.weight", "backbone.classifier.bias", "proclitic_head.weight", "proclitic_head.bias")


@pytest.fixture
def classifier(wordpiece_encoder: Path) -> TokenClassifier:
    torch.manual_seed(1)
    return build_classifier(str(wordpiece_encoder), TagSet.from_labels(["LOC"])).eval()


def logits(classifier: TokenClassifier) -> torch.Tensor:
    pieces = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        tags, proclitics, _ = classifier(pieces, torch.ones_like(pieces))
    return torch.cat([tags, proclitics], dim=-1)


def test_adapters_and_heads_are_trained_and_nothing_else(classifier):
    before = logits(classifier)
    add_adapters(classifier, LoraSection(r=3, target_modules=["query", "value"]))
    trained = {name: weight.shape for name, weight in classifier.named_parameters() if weight.requires_grad}
    adapters = {name: shape for name, shape in trained.items() if "lora_" in name}
    layers = classifier.config.num_hidden_layers
    assert set(trained) - set(adapters) == set(HEADS)
    assert len(adapters) == layers * 2 * 2  # query and value, two matrices each
    assert {min(shape) for shape in adapters.values()} == {3}
    torch.testing.assert_close(logits(classifier), before, rtol=0, atol=0)


def test_merging_changes_no_output_and_leaves_a_plain_classifier(classifier):
    names = [name for name, _ in classifier.named_parameters()]
    before = logits(classifier)
    add_adapters(classifier, LoraSection(r=2, alpha=4, dropout=0.5))
    with torch.no_grad():
        for name, weight in classifier.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight)
    adapted = logits(classifier.eval())  # an adapter is added in training mode, with its dropout
    assert not torch.allclose(adapted, before, atol=1e-3)
    merge_adapters(classifier)
    torch.testing.assert_close(logits(classifier), adapted, rtol=1e-4, atol=1e-5)
    assert [name for name, _ in classifier.named_parameters()] == names
    assert all(weight.requires_grad for weight in classifier.parameters())


def test_modules_that_the_encoder_lacks(classifier):
    with pytest.raises(InputError) as error:
        add_adapters(classifier, LoraSection(target_modules=["q_proj"]))
    assert str(error.value) == (
        "lora.target_modules: ['q_proj']; expected names of linear layers of the encoder: dense, key, query, value"
    )


def test_without_peft(classifier, monkeypatch):
    monkeypatch.setattr("musamma.models.optional_packages.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"peft is not installed.*pip install 'musamma\[peft\]'"):
        add_adapters(classifier, LoraSection())


@pytest.mark.parametrize("section", [{"r": 0}, {"alpha": 0}, {"dropout": 1}, {"target_modules": []}, {"rank": 8}])
def test_invalid_settings(section):
    with pytest.raises(ValueError, match="lora"):
        RunConfig.model_validate({"encoder": "e", "data": {"train": "t"}, "output": "o", "lora": section})


def test_a_resumed_run_ends_with_the_plain_checkpoint_of_an_uninterrupted_one(
    wordpiece_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ["دمشق", "بغداد", "بيروت", "القاهرة"]
    texts = [f"وصل إلى {places[number % 4]} مساء {number}" for number in range(20)]
    spans = [Span(8, 8 + len(places[number % 4]), "LOC") for number in range(20)]
    write_jsonl(
        (Document(str(i), text, (span,)) for i, (text, span) in enumerate(zip(texts, spans, strict=True))),
        tmp_path / "train.jsonl",
    )

    def config(output: str, **trainer: object) -> RunConfig:
        return RunConfig.model_validate(
            {
                "encoder": str(wordpiece_encoder),
                "data": {"train": str(tmp_path / "train.jsonl"), "dev_share": 0.2},
                "output": str(tmp_path / output),
                "encoding": {"max_length": 64, "overlap": 16},
                "device": "cpu",
                "precision": "float32",
                "lora": {"r": 4, "alpha": 8},
                "trainer": {"num_train_epochs": 2, "learning_rate": 2e-2, "per_device_train_batch_size": 4, **trainer},
            }
        )

    (result,) = finetune(config("whole"))

    class StoppedError(Exception):
        pass

    write = LogWriter.on_log

    def stop(self, args, state, control, logs=None, **options):
        write(self, args, state, control, logs, **options)
        if state.epoch == 2:  # the evaluation after the second epoch, of which there is no checkpoint yet
            raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(LogWriter, "on_log", stop)
        with pytest.raises(StoppedError):
            finetune(config("stopped", report_to="none"))
    assert list((tmp_path / "stopped/seed-1/training").glob("checkpoint-*"))
    finetune(config("stopped", report_to="none"), resume=True)
    assert [len(list((tmp_path / name).rglob("events.out.*"))) for name in ("whole", "stopped")] == [
        1,
        0,
    ]  # TensorBoard
    whole, resumed = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "stopped"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)

    encoder = load_file(wordpiece_encoder / "model.safetensors")
    changed = {
        name
        for name, weight in whole.items()
        if not torch.equal(weight, encoder.get(name.removeprefix("bert."), encoder.get(name, weight)))
    }
    assert changed
    assert all(".query." in name or ".value." in name for name in changed)
    _, loading = AutoModelForTokenClassification.from_pretrained(tmp_path / "whole", output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    tagger = Tagger(str(tmp_path / "whole"), device="cpu")
    found = [[span.key for span in tagger.tag(text)] for text in texts[16:]]
    right = sum(names == [span.key] for names, span in zip(found, spans[16:], strict=True))
    assert right / 4 == pytest.approx(result.scores["dev"]["micro"]["recall"])


def test_a_run_with_unusable_adapters_writes_nothing(wordpiece_encoder: Path, tmp_path: Path) -> None:
    text = "وصل إلى بغداد"
    write_jsonl((Document(str(i), text, (Span(8, 13, "LOC"),)) for i in range(8)), tmp_path / "train.jsonl")
    config = RunConfig.model_validate(
        {
            "encoder": str(wordpiece_encoder),
            "data": {"train": str(tmp_path / "train.jsonl"), "dev_share": 0.5},
            "output": str(tmp_path / "run"),
            "encoding": {"max_length": 64, "overlap": 16},
            "device": "cpu",
            "lora": {"target_modules": ["q_proj"]},
        }
    )
    with pytest.raises(InputError, match=r"lora\.target_modules"):
        finetune(config)
    assert not (tmp_path / "run" / "run.yaml").exists()
