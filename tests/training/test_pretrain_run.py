"""Pre-training: from raw text to an encoder, after a kill, over batches and processes, and with a copied text."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer, TrainerControl, TrainerState, TrainingArguments

from musamma.data.errors import InputError, RunError
from musamma.data.normalization import install_normalizer
from musamma.models.checkpoint import load_tokenizer
from musamma.training.config import RunConfig
from musamma.training.finetune import finetune
from musamma.training.pretraining.masked_rows import select_held_out_rows
from musamma.training.pretraining.masking import MaskingConfig
from musamma.training.pretraining.packed_text import prepare_text
from musamma.training.pretraining.pretrain_config import PretrainConfig, load_pretrain_config
from musamma.training.pretraining.pretrain_results import PretrainResult
from musamma.training.pretraining.pretrain_run import prepare, pretrain
from musamma.training.pretraining.pretrain_trainer import TimeLimit

Command = Callable[..., subprocess.CompletedProcess[str]]

HALVES = [
    "أعلنت وزارة الدفاع العراقية تقدم القوات نحو الموصل",
    "وقال محمد السعيد لوكالة رويترز في بيروت إن الاجتماع سيعقد في القاهرة",
    "فاز النادي الأهلي على الزمالك بهدفين في مباراة أقيمت بالإسكندرية",
    "وصل الرئيس إلى دمشق وبغداد ولندن، ثم غادر إلى باريس",
    "شهدت شوارع المدينة احتفالات للجيش والشرطة الاتحادية",
    "ولد الكاتب في حي السيدة زينب ودرس في جامعة القاهرة",
]


@pytest.fixture(scope="session")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "sentences.txt"
    path.write_text("".join(f"{a} {b}\n" for a, b in product(HALVES, repeat=2)) * 2, encoding="utf-8")
    return path


def settings(encoder: Path, text: Path, output: Path, **changes: Any) -> PretrainConfig:
    trainer = {"max_steps": 12, "learning_rate": 2e-3, "per_device_train_batch_size": 4, "logging_steps": 2}
    trainer |= {"save_steps": 2, "eval_steps": 6} | changes.pop("trainer", {})
    content = {
        "encoder": str(encoder),
        "text": str(text),
        "output": str(output),
        "held_out": {"every": 9, "rows": 4},
        "length": 64,
        "generator_layers": 1,
        "head_steps": 8,
        "head_learning_rate": 1e-2,
        "dtype": "float32",
        "device": "cpu",
        "precision": "float32",
        "trainer": trainer,
    }
    return PretrainConfig.model_validate(content | changes)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def losses(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [(event["step"], event["loss"]) for event in map(json.loads, lines) if "loss" in event]


@pytest.fixture(scope="module")
def learnt(
    wordpiece_encoder: Path, sentences: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, PretrainResult]:
    """A run that is long enough to learn these sentences."""
    output = tmp_path_factory.mktemp("run") / "mlm"
    trainer = {"max_steps": 240, "eval_steps": 80, "save_steps": 80, "learning_rate": 5e-3}
    return output, pretrain(
        settings(
            wordpiece_encoder, sentences, output, trainer=trainer, milestones=[3000, 6000, 6001, 10**9], dtype="float16"
        )
    )


def test_an_encoder_learns_to_predict_masked_pieces(
    learnt: tuple[Path, PretrainResult], wordpiece_encoder: Path, sentences: Path
) -> None:
    output, result = learnt
    assert [point["step"] for point in result.curve] == [0, 80, 160, 240]
    assert result.after["mlm_loss"] < 0.8 * result.before["mlm_loss"]
    # Better than the best constant prediction, the most frequent of the masked pieces.
    config = settings(wordpiece_encoder, sentences, output)
    text = prepare_text(config, install_normalizer(load_tokenizer(str(wordpiece_encoder))))
    masking = MaskingConfig(text.special, config.mask_share, config.seed)
    rows = select_held_out_rows(text.held_out, limit=config.held_out.rows, masking=masking)
    targets = Counter(piece for row in rows for piece in row.row.input_ids[row.masked].tolist())
    assert targets.total() == 44
    assert result.before["mlm_accuracy"] <= max(targets.values()) / 44 < result.after["mlm_accuracy"] <= 1


def test_the_output_is_an_encoder_to_fine_tune(
    learnt: tuple[Path, PretrainResult], wordpiece_encoder: Path, tmp_path: Path
) -> None:
    output, _ = learnt
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "float32"
    # The encoder was trained without dropout; its configuration keeps the original one for fine-tuning.
    assert config["hidden_dropout_prob"] == 0.1
    assert next(iter(weights(output).values())).dtype is torch.float16
    model = AutoModel.from_pretrained(output, add_pooling_layer=False)
    assert model.dtype is torch.float32
    assert not torch.equal(
        model.embeddings.word_embeddings.weight,
        AutoModel.from_pretrained(wordpiece_encoder).embeddings.word_embeddings.weight,
    )
    assert len(AutoTokenizer.from_pretrained(output)) == config["vocab_size"]
    line = {"id": "a", "text": HALVES[3], "spans": [{"start": 15, "end": 19, "label": "LOC"}]}
    (tmp_path / "train.jsonl").write_text(
        "\n".join(json.dumps(line | {"id": str(i)}, ensure_ascii=False) for i in range(10)), encoding="utf-8"
    )
    run = {"encoder": str(output), "data": {"train": str(tmp_path / "train.jsonl")}, "output": str(tmp_path / "ner")}
    run |= {"encoding": {"max_length": 64, "overlap": 8}, "device": "cpu", "trainer": {"num_train_epochs": 1}}
    # Ten copies of a document: the last is the development part.
    scores = finetune(RunConfig.model_validate(run))[0].scores["dev"]
    assert scores["per_label"]["LOC"]["support"] == 1
    assert not list(output.rglob("checkpoint-*"))


def test_milestones_are_encoders_with_exact_token_counts(learnt: tuple[Path, PretrainResult]) -> None:
    output, result = learnt
    # Two milestones within a step are both written; one after the end is not reached.
    assert [one["tokens"] for one in result.milestones] == [3000, 6000, 6001]
    for one in result.milestones:
        record = json.loads((output / one["folder"] / "milestone.json").read_text(encoding="utf-8"))
        assert record == one
        # Four rows of at most 64 pieces a step.
        assert one["tokens"] <= one["tokens_seen"] < one["tokens"] + 4 * 64
        AutoModel.from_pretrained(output / one["folder"], add_pooling_layer=False)
    first, second, same = (weights(output / one["folder"]) for one in result.milestones)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(second[name], same[name]) for name in second)


def test_the_card_and_the_record_have_the_metrics_of_the_run(learnt: tuple[Path, PretrainResult]) -> None:
    output, result = learnt
    card = (output / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(card.split("---")[1])["language"] == "ar"
    assert f"{result.tokens:,} tokens in 240 steps" in card
    assert f"{result.before['mlm_loss']:.3f}" in card
    assert f"{result.after['mlm_loss']:.3f}" in card
    record = json.loads((output / "pretraining.json").read_text(encoding="utf-8"))
    assert record["curve"][-1]["mlm_loss"] == result.after["mlm_loss"]
    assert record["text"]["held_out_paragraphs"] == 8
    events = (output / "training").rglob("events.out.tfevents*")
    assert {path.parents[1] for path in events} == {output / "training" / "runs"}


def test_the_encoder_does_not_change_while_the_heads_are_trained(
    unigram_encoder: Path, sentences: Path, tmp_path: Path
) -> None:
    config = settings(
        unigram_encoder,
        sentences,
        tmp_path / "run",
        trainer={"max_steps": 1, "learning_rate": 1e-9, "weight_decay": 0.0},
    )
    result = pretrain(config)
    before, after = weights(unigram_encoder), weights(tmp_path / "run")
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=0, atol=1e-8)
    events = (tmp_path / "run/head/log.jsonl").read_text(encoding="utf-8").splitlines()
    first = next(event["loss"] for event in map(json.loads, events) if "loss" in event)
    assert result.before["mlm_loss"] < first


def write_config(config: PretrainConfig) -> Path:
    """Write a configuration beside its output folder."""
    file = Path(config.output).with_suffix(".yaml")
    file.write_text(config.to_yaml(), encoding="utf-8")
    return file


def kill_run(kill_command: Callable[..., None], config: PretrainConfig, pattern: str, *options: str) -> None:
    """Start a run and kill it as soon as a file of a pattern exists in its output folder."""
    output = Path(config.output)
    kill_command("encoder", "pretrain", write_config(config), *options, folder=output, pattern=pattern)
    assert not (output / "pretraining.json").exists(), "the run ended before it was killed"


@pytest.fixture
def run_config(run_command: Command) -> Command:
    """Runs a configuration in a process of its own.

    PyTorch's compiler leaves threads behind, and data loaders fork: neither may happen in the process of other tests.
    """

    def run(config: PretrainConfig, *options: str, **launch: Any) -> subprocess.CompletedProcess[str]:
        return run_command("encoder", "pretrain", write_config(config), *options, **launch)

    return run


def test_a_time_limit_ends_the_run_with_the_schedule_at_its_end(
    wordpiece_encoder: Path, sentences: Path, tmp_path: Path
) -> None:
    trainer = {"max_steps": 10**6, "lr_scheduler_type": "cosine", "warmup_steps": 0, "logging_steps": 1}
    config = settings(
        wordpiece_encoder, sentences, tmp_path / "run", time_limit=0.03, milestones=[64, 10**9], trainer=trainer
    )
    result = pretrain(config)
    assert 0 < result.steps < 10**6
    assert [milestone["tokens"] for milestone in result.milestones] == [64]
    assert result.curve[-1]["step"] == result.steps
    assert result.curve[-1]["tokens"] == result.tokens
    events = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = [event["learning_rate"] for event in events if "learning_rate" in event]
    assert rates == sorted(rates, reverse=True)
    # The rate of the last step was set before it, when the time was not yet over.
    assert rates[-1] < 0.5 * rates[0]
    minutes = [event["minutes"] for event in events]
    assert minutes == sorted(minutes)
    assert minutes[-1] >= 0.03


def test_a_resumed_run_continues_to_count_the_time(tmp_path: Path) -> None:
    event = {"loss": 1.0, "minutes": 5.0, "step": 2}
    state = TrainerState(log_history=[event, {"eval_mlm_loss": 1.0, "step": 3}])
    clock = TimeLimit(10)
    assert clock.share == 0
    clock.on_train_begin(TrainingArguments(str(tmp_path)), state, TrainerControl())
    assert clock.share == pytest.approx(0.5, abs=0.1)
    control = TrainerControl()
    clock.on_step_end(TrainingArguments(str(tmp_path)), state, control)
    assert not control.should_training_stop
    clock = TimeLimit(5)
    clock.on_train_begin(TrainingArguments(str(tmp_path)), state, control)
    clock.on_step_end(TrainingArguments(str(tmp_path)), state, control)
    assert control.should_training_stop


def test_a_time_limit_is_refused_in_several_processes(
    wordpiece_encoder: Path, sentences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TrainingArguments, "world_size", 2)
    with pytest.raises(InputError, match="time_limit in a run of 2 processes"):
        pretrain(settings(wordpiece_encoder, sentences, tmp_path / "run", time_limit=1))


def test_a_time_limit_does_not_change_a_run_that_ends_before_it(
    wordpiece_encoder: Path, sentences: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"trainer": {"max_steps": 4}}
    pretrain(settings(wordpiece_encoder, sentences, tmp_path / "plain", **changes))
    pretrain(settings(wordpiece_encoder, sentences, tmp_path / "limited", time_limit=10**6, **changes))
    assert losses(tmp_path / "plain") == losses(tmp_path / "limited")


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler on a CPU")
def test_a_compiled_run_learns_the_same_and_resumes_after_a_kill(
    wordpiece_encoder: Path, sentences: Path, tmp_path: Path, run_config: Command, kill_command: Callable[..., None]
) -> None:
    changes: dict[str, Any] = {"trainer": {"max_steps": 12, "dataloader_num_workers": 1}}
    assert run_config(settings(wordpiece_encoder, sentences, tmp_path / "plain", **changes)).returncode == 0
    done = run_config(settings(wordpiece_encoder, sentences, tmp_path / "whole", compiled=True, **changes))
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(tmp_path / "whole") == [
        (step, pytest.approx(loss, rel=1e-3)) for step, loss in losses(tmp_path / "plain")
    ]
    killed = settings(wordpiece_encoder, sentences, tmp_path / "killed", compiled=True, **changes)
    kill_run(kill_command, killed, "training/checkpoint-*/trainer_state.json")
    done = run_config(killed, "--resume")
    assert done.returncode == 0, done.stderr[-2000:]
    before, after = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert before.keys() == after.keys() == weights(tmp_path / "plain").keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_without_a_compiler_a_compiled_run_is_refused(
    wordpiece_encoder: Path, sentences: Path, tmp_path: Path, run_config: Command
) -> None:
    config = settings(wordpiece_encoder, sentences, tmp_path / "run", compiled=True)
    environment = {"CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = run_config(config, environment=environment)
    assert done.returncode == 2
    assert "compiled: true, and torch.compile does not work on this machine" in done.stderr
    assert "set compiled: false" in done.stderr
    assert not list((tmp_path / "run").iterdir())


def test_a_killed_and_resumed_run_ends_with_the_weights_and_losses_of_an_uninterrupted_one(
    wordpiece_encoder: Path, sentences: Path, tmp_path: Path, kill_command: Callable[..., None]
) -> None:
    # Dropout and the generator's samples use random numbers, which a resumed run must draw as well.
    changes: dict[str, Any] = {"objective": "rtd", "dropout": 0.1, "milestones": [1000], "trainer": {"max_steps": 24}}
    pretrain(settings(wordpiece_encoder, sentences, tmp_path / "whole", **changes))
    killed = settings(wordpiece_encoder, sentences, tmp_path / "killed", **changes)
    kill_run(kill_command, killed, "head/checkpoint-*/trainer_state.json")
    with pytest.raises(InputError, match="resume=True"):
        pretrain(killed)
    kill_run(kill_command, killed, "training/checkpoint-*/trainer_state.json", "--resume")
    pretrain(killed, resume=True)
    for folder in ("", "milestones/1000"):
        before, after = weights(tmp_path / "whole" / folder), weights(tmp_path / "killed" / folder)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert losses(tmp_path / "killed/head") == losses(tmp_path / "whole/head")
    results = [(tmp_path / name / "pretraining.json").read_text(encoding="utf-8") for name in ("whole", "killed")]
    assert results[0] == results[1]
    # A finished run returns its metrics and computes nothing.
    stamp = (tmp_path / "killed/model.safetensors").stat().st_mtime_ns
    assert pretrain(killed, resume=True).steps == 24
    assert (tmp_path / "killed/model.safetensors").stat().st_mtime_ns == stamp


def test_resuming_with_other_settings_is_refused(wordpiece_encoder: Path, sentences: Path, tmp_path: Path) -> None:
    pretrain(settings(wordpiece_encoder, sentences, tmp_path / "run", trainer={"max_steps": 1}))
    with pytest.raises(InputError, match="other settings for mask_share"):
        pretrain(
            settings(wordpiece_encoder, sentences, tmp_path / "run", trainer={"max_steps": 1}, mask_share=0.3),
            resume=True,
        )


def test_resuming_with_other_text_is_refused(wordpiece_encoder: Path, sentences: Path, tmp_path: Path) -> None:
    text, output = tmp_path / "text.txt", tmp_path / "run"
    shutil.copy(sentences, text)
    config = settings(wordpiece_encoder, text, output, head_steps=1, trainer={"max_steps": 1})
    before = pretrain(config)
    assert pretrain(config, resume=True) == before
    text.write_text(text.read_text(encoding="utf-8") + "سطر جديد\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"another content of {text}"):  # also of a finished run
        pretrain(config, resume=True)
    (output / "pretraining.json").unlink()
    with pytest.raises(InputError, match=f"another content of {text}"):
        pretrain(config, resume=True)
    # Packed again, the text is that of the new file.
    shutil.rmtree(output / "text")
    with pytest.raises(InputError, match="changed since the run was started: text; "):
        pretrain(config, resume=True)


def test_a_run_that_diverges_publishes_nothing(wordpiece_encoder: Path, sentences: Path, tmp_path: Path) -> None:
    """Alone, the heads diverge under ``head_learning_rate``; with the encoder, under ``trainer.learning_rate``."""
    with pytest.raises(RunError, match=r"run/head, step \d+: "):
        pretrain(settings(wordpiece_encoder, sentences, tmp_path / "run", head_learning_rate=1e38))
    config = settings(wordpiece_encoder, sentences, tmp_path / "run", trainer={"learning_rate": 1e38}, milestones=[1])
    with pytest.raises(RunError, match=r"run/training, step \d+: "):
        pretrain(config, overwrite=True)
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names.isdisjoint({"model.safetensors", "pretraining.json", "README.md"})
    assert not list((tmp_path / "run").glob("training/checkpoint-*"))


def test_replaced_pieces_are_detected(wordpiece_encoder: Path, sentences: Path, tmp_path: Path) -> None:
    trainer = {"max_steps": 150, "learning_rate": 3e-3, "eval_strategy": "no", "save_strategy": "no"}
    result = pretrain(settings(wordpiece_encoder, sentences, tmp_path / "run", objective="rtd", trainer=trainer))
    assert set(result.after) == {
        "step",
        "tokens",
        "mlm_loss",
        "mlm_accuracy",
        "rtd_loss",
        "rtd_recall",
        "rtd_precision",
    }
    assert result.after["mlm_loss"] < result.before["mlm_loss"]
    # The loss may still rise: the generator learns to propose pieces that are harder to detect.
    assert result.before["rtd_recall"] < 0.1 < result.after["rtd_recall"]
    # The whole encoder is saved, not the one-layer generator.
    config = AutoModel.from_pretrained(tmp_path / "run", add_pooling_layer=False).config
    assert config.num_hidden_layers == 2


def test_accumulated_batches_train_as_one(wordpiece_encoder: Path, sentences: Path, tmp_path: Path) -> None:
    order = {"max_steps": 3, "learning_rate": 1e-3, "max_grad_norm": 0.0}
    plain = settings(wordpiece_encoder, sentences, tmp_path / "plain", trainer=order, head_steps=1)
    small = settings(
        wordpiece_encoder, sentences, tmp_path / "small", head_steps=1,
        trainer=order | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
    )  # fmt: skip
    pretrain(plain)
    pretrain(small)
    before, after = weights(tmp_path / "plain"), weights(tmp_path / "small")
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-4)


def test_workers_change_nothing(wordpiece_encoder: Path, sentences: Path, tmp_path: Path, run_config: Command) -> None:
    for name, workers in (("none", 0), ("two", 2)):
        trainer = {"max_steps": 2, "dataloader_num_workers": workers}
        done = run_config(settings(wordpiece_encoder, sentences, tmp_path / name, trainer=trainer, head_steps=1))
        assert done.returncode == 0, done.stderr[-2000:]
    before, after = weights(tmp_path / "none"), weights(tmp_path / "two")
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("objective", ["mlm", "rtd"])
def test_two_processes_train_as_one_with_twice_the_batch(
    objective: str, wordpiece_encoder: Path, sentences: Path, tmp_path: Path, run_config: Command
) -> None:
    order = {"max_steps": 3, "learning_rate": 1e-3, "max_grad_norm": 0.0}
    pretrain(settings(wordpiece_encoder, sentences, tmp_path / "one", trainer=order, head_steps=2, objective=objective))
    half = order | {"per_device_train_batch_size": 2}
    config = settings(wordpiece_encoder, sentences, tmp_path / "two", trainer=half, head_steps=2, objective=objective)
    done = run_config(config, processes=2)
    assert done.returncode == 0, done.stderr[-2000:]
    # Only the main process prints.
    assert done.stdout.count("encoder, card and metrics: ") == 1
    if objective == "mlm":
        before, after = weights(tmp_path / "one"), weights(tmp_path / "two")
        for name in before:
            torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=1e-4)
    one, two = (json.loads((tmp_path / name / "pretraining.json").read_bytes()) for name in ("one", "two"))
    assert one["tokens"] == two["tokens"]
    # Each process draws its own samples, so the weights of `rtd` differ.
    for name, value in one["curve"][-1].items():
        if name.endswith("loss"):
            assert two["curve"][-1][name] == pytest.approx(value, rel=1e-2)


def test_prepared_text_is_trained_on_without_its_files(
    wordpiece_encoder: Path, sentences: Path, tmp_path: Path
) -> None:
    text = Path(shutil.copy(sentences, tmp_path / "sentences.txt"))
    here = settings(wordpiece_encoder, text, tmp_path / "here", trainer={"max_steps": 2})
    counts = prepare(here).counts
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"text"}
    assert counts["train_rows"] > 0
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    text.unlink()
    there = settings(wordpiece_encoder, text, tmp_path / "there", trainer={"max_steps": 2})
    assert pretrain(there).text == counts


def test_prepared_text_with_other_settings_is_refused(wordpiece_encoder: Path, sentences: Path, tmp_path: Path) -> None:
    prepare(settings(wordpiece_encoder, sentences, tmp_path / "run"))
    for changes, name in (({"length": 48}, "length"), ({"held_out": {"every": 5}}, "held_out.every")):
        with pytest.raises(InputError, match=f"another {name}.*overwrite=True"):
            pretrain(settings(wordpiece_encoder, sentences, tmp_path / "run", **changes))
    changed_file = tmp_path / "sentences.txt"
    changed_file.write_text(sentences.read_text(encoding="utf-8") + HALVES[0], encoding="utf-8")
    changed = settings(wordpiece_encoder, changed_file, tmp_path / "run", trainer={"max_steps": 1})
    with pytest.raises(InputError, match="another content of"):
        prepare(changed)
    assert prepare(changed, overwrite=True).counts["paragraphs"] == 73


def test_running_text_can_be_trained_on(unigram_encoder: Path, sentences: Path, tmp_path: Path) -> None:
    config = settings(unigram_encoder, sentences, tmp_path / "run", packing="continuous", trainer={"max_steps": 4})
    result = pretrain(config)
    counts = result.text
    assert counts["train_pieces"] == 64 * counts["train_rows"]
    assert counts["held_out_pieces"] == 64 * counts["held_out_rows"]
    assert result.tokens == 4 * 4 * 64
    card = (tmp_path / "run/README.md").read_text(encoding="utf-8")
    assert f"- 72 paragraphs of running text, {counts['held_out_rows']} rows of it held out; " in card
    assert load_pretrain_config(tmp_path / "run/run.yaml").packing == "continuous"


def test_rows_without_packing_can_be_trained_on(unigram_encoder: Path, sentences: Path, tmp_path: Path) -> None:
    result = pretrain(settings(unigram_encoder, sentences, tmp_path / "run", packing=False, trainer={"max_steps": 2}))
    # A paragraph a row, or more rows where one is longer than a row: 72 paragraphs less 8 held out.
    assert result.text["train_rows"] >= 64
