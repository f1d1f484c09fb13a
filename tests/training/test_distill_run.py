"""Distillation: from a teacher, articles and raw text to a checkpoint with fewer layers, also after a stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification

from musamma.data.document import Document, read_jsonl, write_jsonl
from musamma.data.errors import InputError, RunError
from musamma.evaluation import score_documents
from musamma.inference import Tagger
from musamma.training.checkpoint_packing import pack_checkpoint
from musamma.training.distillation.distill_config import DistillConfig
from musamma.training.distillation.distill_run import distill
from musamma.training.distillation.distiller import DistillTrainer
from musamma.training.run_dir import SeedResult
from tests.support import make_document, write_random_checkpoint


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, known: list[Document]) -> Path:
    """A folder with ``train.jsonl`` and ``dev.jsonl``, the sentences that the teachers know, and ``news.txt``, the same as raw text."""
    folder = tmp_path_factory.mktemp("data")
    write_jsonl(known, folder / "train.jsonl")
    write_jsonl((replace(document, id=f"dev-{document.id}") for document in known), folder / "dev.jsonl")
    (folder / "news.txt").write_text("\n".join(document.text for document in known) + "\n", encoding="utf-8")
    return folder


def settings(teacher: Path, folder: Path, output: Path, **changes: Any) -> DistillConfig:
    trainer = {"num_train_epochs": 2, "learning_rate": 3e-3, "per_device_train_batch_size": 2, "logging_steps": 1}
    content = {
        "teacher": str(teacher),
        "data": {"train": str(folder / "train.jsonl"), "dev": str(folder / "dev.jsonl")},
        "text": str(folder / "news.txt"),
        "output": str(output),
        "device": "cpu",
        "precision": "float32",
        **changes,
        "trainer": trainer | changes.get("trainer", {}),
    }
    return DistillConfig.model_validate(content)


@pytest.fixture(scope="module")
def run(checkpoint: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[SeedResult]]:
    """A student of one layer for each kind of teacher, trained until it knows the sentences."""
    output = tmp_path_factory.mktemp("run") / "mini"
    trainer = {"num_train_epochs": 40, "eval_strategy": "steps", "eval_steps": 0.5, "save_strategy": "steps"}
    return output, distill(settings(checkpoint, data, output, trainer=trainer | {"save_steps": 0.5}))


def events(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text("utf-8").splitlines()]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors") | load_file(folder / "proclitic_head.safetensors")


def test_a_student_with_half_of_the_layers_learns_what_the_teacher_knows(
    run: tuple[Path, list[SeedResult]], data: Path, known: list[Document]
) -> None:
    output, results = run
    found = list(Tagger(str(output), device="cpu").tag_documents(known))
    assert [document.with_spans([replace(span, score=None) for span in document.spans]) for document in found] == known
    dev = list(read_jsonl(data / "dev.jsonl"))
    scores = score_documents(dev, Tagger(str(output), device="cpu").tag_documents(dev))
    (result,) = results
    assert scores.to_dict()["micro"] == result.scores["dev"]["micro"]


def test_the_output_is_a_plain_checkpoint_with_a_card(
    run: tuple[Path, list[SeedResult]], checkpoint: Path, known: list[Document]
) -> None:
    output, _ = run
    model = AutoModelForTokenClassification.from_pretrained(output)
    assert model.config.num_hidden_layers == 1
    assert model.config.id2label == AutoModelForTokenClassification.from_pretrained(checkpoint).config.id2label
    assert not [name for name, _ in model.named_parameters() if ".layer.1." in name]
    tokenizers = [(folder / "tokenizer.json").read_text("utf-8") for folder in (output, checkpoint)]
    assert tokenizers[0] == tokenizers[1]
    stored = [json.loads((folder / "config.json").read_text("utf-8"))["musamma"] for folder in (output, checkpoint)]
    assert stored[0] == stored[1]
    assert not list(output.glob("seed-*/training/checkpoint-*"))
    saved = DistillConfig.model_validate(yaml.safe_load((output / "run.yaml").read_text("utf-8")))
    assert saved.teacher == str(checkpoint)
    card = (output / "README.md").read_text("utf-8")
    assert f": 1 of the 2 layers of `{checkpoint}`, distilled with Musamma." in card
    words = sum(len(document.text.split()) for document in known)
    assert f"raw text, labelled by the teacher: {words} words of `news.txt`" in card
    assert "`musamma distill run.yaml --output DIR` repeats the run" in card


def test_the_parts_of_the_loss_are_logged_and_fall(run: tuple[Path, list[SeedResult]]) -> None:
    steps = [event for event in events(run[0] / "seed-1") if "loss" in event]
    parts = ("tags", "borders", "hidden", "gold")
    for event in steps:
        assert event["loss"] == pytest.approx(sum(event[f"loss_{part}"] for part in parts), rel=1e-3)
    assert "loss_nested" not in steps[0]
    assert steps[-1]["loss_tags"] < steps[0]["loss_tags"] / 10
    assert steps[-1]["loss_hidden"] < steps[0]["loss_hidden"] / 2


def test_a_student_can_be_packed(
    run: tuple[Path, list[SeedResult]], checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    pack_checkpoint(str(run[0]), tmp_path / "packed", gold=str(data / "dev.jsonl"), max_f1_change=20)
    card = (tmp_path / "packed/README.md").read_text("utf-8")
    assert f": distilled from `{checkpoint.name}` with Musamma." in card


def test_a_stopped_and_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    wordpiece_encoder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = write_random_checkpoint(tmp_path / "teacher", wordpiece_encoder)
    whole, stopped = (
        settings(teacher, data, tmp_path / name, trainer={"num_train_epochs": 3}) for name in ("whole", "stopped")
    )
    distill(whole)
    steps = events(tmp_path / "whole/seed-1")[-1]["step"]
    log = DistillTrainer.log

    def stop(self: DistillTrainer, logs: dict[str, float], start_time: float | None = None) -> None:
        if self.state.global_step == steps - 1:
            raise KeyboardInterrupt
        log(self, logs, start_time)

    monkeypatch.setattr(DistillTrainer, "log", stop)
    with pytest.raises(KeyboardInterrupt):
        distill(stopped)
    monkeypatch.undo()
    assert list((tmp_path / "stopped/seed-1/training").glob("checkpoint-*"))
    with pytest.raises(InputError, match="resume=True"):
        distill(stopped)
    distill(stopped, resume=True)
    before, after = weights(tmp_path / "whole"), weights(tmp_path / "stopped")
    assert all(torch.equal(before[name], after[name]) for name in before)
    # Raw text is drawn once: 4 articles and, in three epochs, the one window of raw text.
    assert steps == 3 * 3


def test_resuming_with_another_teacher_or_other_text_is_refused(
    wordpiece_encoder: Path, data: Path, tmp_path: Path
) -> None:
    teacher = write_random_checkpoint(tmp_path / "teacher", wordpiece_encoder)
    copied = tmp_path / "data"
    shutil.copytree(data, copied)
    config = settings(teacher, copied, tmp_path / "run", trainer={"max_steps": 1})
    distill(config)
    assert distill(config, resume=True)[0].seed == 1
    (copied / "news.txt").write_text("نص آخر", encoding="utf-8")
    with pytest.raises(InputError, match="changed since the run was started: raw text; "):
        distill(config, resume=True)
    shutil.copy(data / "news.txt", copied)
    head = load_file(teacher / "proclitic_head.safetensors")
    save_file({name: value + 1 for name, value in head.items()}, teacher / "proclitic_head.safetensors")
    with pytest.raises(InputError, match="changed since the run was started: teacher; "):
        distill(config, resume=True)
    with pytest.raises(InputError, match="other settings for temperature"):
        distill(config.model_copy(update={"temperature": 2.0}), resume=True)


def test_nested_names_are_learnt_from_a_teacher_that_finds_them(
    wordpiece_encoder: Path, data: Path, tmp_path: Path
) -> None:
    teacher = write_random_checkpoint(tmp_path / "teacher", wordpiece_encoder, nested=["LOC", "PER"])
    config = settings(teacher, data, tmp_path / "run", trainer={"num_train_epochs": 1})
    distill(config)
    assert "loss_nested" in events(tmp_path / "run/seed-1")[0]
    assert Tagger(str(tmp_path / "run"), device="cpu").nested_labels == ("LOC", "PER")
    assert load_file(tmp_path / "run/nested_head.safetensors")["weight"].shape == (5, 48)


def write_sources(folder: Path, parts: Sequence[str]) -> None:
    for part in parts:
        text = f"وصل محمد إلى بيروت مساء {part}"
        write_jsonl([make_document(text, ("محمد", "PER"), ("بيروت", "LOC"), id=part)], folder / f"{part}.jsonl")


def test_several_corpora_are_mixed_with_raw_text(wordpiece_encoder: Path, data: Path, tmp_path: Path) -> None:
    teacher = write_random_checkpoint(tmp_path / "teacher", wordpiece_encoder)
    write_sources(tmp_path, ["one", "two", "three"])
    sources = [
        {"files": str(tmp_path / "one.jsonl"), "sampling_factor": 4},
        {"files": str(tmp_path / "two.jsonl"), "allows": {"O": ["ORG"]}, "whole_words": True},
    ]
    section = {"train": sources, "dev": [{"files": str(tmp_path / "three.jsonl")}]}
    trainer = {"num_train_epochs": 2, "per_device_train_batch_size": 1}
    (result,) = distill(settings(teacher, data, tmp_path / "run", data=section, trainer=trainer))
    assert result.scores.keys() == {"dev"}
    # In each of two epochs 4 + 1 articles and half of the raw text, which is one window.
    assert events(result.folder)[-1]["step"] == 2 * (4 + 1 + 1)


def test_raw_text_may_be_left_out(wordpiece_encoder: Path, data: Path, tmp_path: Path) -> None:
    teacher = write_random_checkpoint(tmp_path / "teacher", wordpiece_encoder)
    (result,) = distill(settings(teacher, data, tmp_path / "run", text=[], layers=2, trainer={"max_steps": 2}))
    assert "raw text" not in (tmp_path / "run/README.md").read_text("utf-8")
    assert events(result.folder)[0]["loss_hidden"] == pytest.approx(0, abs=1e-6)


def test_an_earlier_student_is_trained_further(
    run: tuple[Path, list[SeedResult]], checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    config = settings(checkpoint, data, tmp_path / "more", student=str(run[0]), trainer={"max_steps": 1})
    (result,) = distill(config)
    assert result.dev_f1 == 1.0
    assert "1 of the 2 layers of" in (tmp_path / "more/README.md").read_text("utf-8")
    assert not torch.equal(*(weights(folder)["weight"] for folder in (run[0], tmp_path / "more")))


def test_a_student_that_does_not_fit_the_teacher_is_refused(
    wordpiece_encoder: Path, data: Path, tmp_path: Path
) -> None:
    teacher = write_random_checkpoint(tmp_path / "teacher", wordpiece_encoder)
    other = write_random_checkpoint(tmp_path / "other", wordpiece_encoder, labels=["LOC", "PER"])
    nested = write_random_checkpoint(tmp_path / "nested", wordpiece_encoder, nested=["LOC"])
    config = settings(teacher, data, tmp_path / "run", student=str(other))
    with pytest.raises(InputError, match=r"other: id2label other than in .*teacher; expected a student of the teacher"):
        distill(config)
    with pytest.raises(InputError, match="nested: labels of nested names other than in "):
        distill(config.model_copy(update={"student": str(nested)}))
    shallow = tmp_path / "shallow"
    distill(settings(teacher, data, shallow, trainer={"max_steps": 1}))
    with pytest.raises(InputError, match=r"teacher: 2 layers; expected at most 1, the number of layers of .*shallow"):
        distill(config.model_copy(update={"teacher": str(shallow), "student": str(teacher)}))


def test_a_run_that_diverges_publishes_nothing(wordpiece_encoder: Path, data: Path, tmp_path: Path) -> None:
    teacher = write_random_checkpoint(tmp_path / "teacher", wordpiece_encoder)
    with pytest.raises(RunError, match=r"seed-1/training, step \d+: "):
        distill(settings(teacher, data, tmp_path / "run", trainer={"learning_rate": 1e30}))
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_without_a_compiler_a_compiled_run_is_refused(
    wordpiece_encoder: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("Compiler: g++ is not found.")

    teacher = write_random_checkpoint(tmp_path / "teacher", wordpiece_encoder)
    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(InputError, match=r"trainer\.torch_compile: true, and torch\.compile does not work"):
        distill(settings(teacher, data, tmp_path / "run", trainer={"torch_compile": True}))
    assert not list((tmp_path / "run").iterdir())
