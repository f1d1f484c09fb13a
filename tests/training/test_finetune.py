"""Fine-tuning: from spans to a checkpoint, the same after a kill, over several seeds and processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification, pipeline

from musamma.data.document import Document, Span, read_jsonl, write_jsonl
from musamma.data.errors import InputError
from musamma.inference import Tagger
from musamma.training.config import RunConfig
from musamma.training.finetune import finetune
from musamma.training.run_dir import SeedResult, find_last_checkpoint
from musamma.training.trainer import layerwise_learning_rates

PLACES = ["دمشق", "بغداد", "بيروت", "القاهرة", "الموصل", "الكويت"]
PEOPLE = ["محمد السعيد", "منى صالح", "حسام الأحبابي"]


def article(number: int) -> Document:
    """A short text with a person, a place, and a place behind a proclitic."""
    person, place, other = PEOPLE[number % 3], PLACES[number % 6], PLACES[(number * 5 + 1) % 6]
    text = f"وصل {person} إلى {place} ومر ب{other} مساء {number + 1}"
    start = text.rindex(other)
    spans = (
        Span(4, 4 + len(person), "PER"),
        Span(text.index(place), text.index(place) + len(place), "LOC"),
        Span(start, start + len(other), "LOC"),
    )
    return Document(f"d{number:02d}", text, tuple(sorted({s.start: s for s in spans}.values())))


@pytest.fixture(scope="session")
def articles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("articles") / "train.jsonl"
    write_jsonl((article(number) for number in range(40)), path)
    return path


def settings(encoder: Path, articles: Path, output: Path, **changes: object) -> RunConfig:
    trainer = {
        "num_train_epochs": 4,
        "learning_rate": 5e-3,
        "per_device_train_batch_size": 4,
        "warmup_steps": 0.1,
        "logging_steps": 5,
    }
    section = changes.pop("trainer", {})
    content = {
        "encoder": str(encoder),
        "data": {"train": str(articles), "dev_share": 0.2},
        "output": str(output),
        "encoding": {"max_length": 64, "overlap": 16},
        "device": "cpu",
        "trainer": trainer | section,  # type: ignore[operator]
        **changes,
    }
    return RunConfig.model_validate(content)


@pytest.fixture(scope="session")
def arabert_run(
    wordpiece_encoder: Path, articles: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[SeedResult]]:
    """The AraBERT path: a WordPiece BERT, fine-tuned until it knows these names."""
    output = tmp_path_factory.mktemp("run") / "arabert"
    config = settings(
        wordpiece_encoder, articles, output, trainer={"num_train_epochs": 25}, seeds=[1, 2], precision="float32"
    )
    return output, finetune(config)


def test_a_small_bert_learns_names_and_proclitics(arabert_run: tuple[Path, list[SeedResult]]) -> None:
    _, results = arabert_run
    assert [result.seed for result in results] == [1, 2]
    assert all(result.dev_f1 > 0.9 for result in results)


def test_the_output_is_a_plain_checkpoint(arabert_run: tuple[Path, list[SeedResult]]) -> None:
    output, results = arabert_run
    model = AutoModelForTokenClassification.from_pretrained(output)
    assert set(model.config.label2id) == {"O", "B-LOC", "I-LOC", "B-PER", "I-PER"}
    run = pipeline("token-classification", model=str(output), aggregation_strategy="first", device="cpu")
    known = article(0)
    names = [(known.text[name["start"] : name["end"]], name["entity_group"]) for name in run(known.text)]
    # The plain pipeline knows nothing of proclitics: it gives whole words.
    person, place, other = (known.surface(span) for span in known.spans)
    assert names == [(person, "PER"), (place, "LOC"), (f"ب{other}", "LOC")]
    assert {
        "run.yaml",
        "scores.json",
        "README.md",
        "config.json",
        "tokenizer.json",
        "model.safetensors",
        "seed-1",
        "seed-2",
    } <= {path.name for path in output.iterdir()}
    assert not list(output.glob("seed-*/training/checkpoint-*"))
    assert not list(output.rglob("*.bin"))
    best = max(results, key=lambda result: result.dev_f1)
    record = json.loads((output / "scores.json").read_text(encoding="utf-8"))
    assert record["best_seed"] == best.seed
    same = load_file(best.folder / "model.safetensors"), load_file(output / "model.safetensors")
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])


def test_the_tagger_finds_names_behind_proclitics(arabert_run: tuple[Path, list[SeedResult]]) -> None:
    output, _ = arabert_run
    known = article(0)
    assert known.text.count(" ب") == 1
    vocalised = known.text.replace("وصل", "وَصَلَ")
    names = [(vocalised[s.start : s.end], s.label) for s in Tagger(str(output), device="cpu").tag(vocalised)]
    assert names == [(known.surface(span), span.label) for span in known.spans]


def test_the_checkpoint_scores_as_training_said(arabert_run: tuple[Path, list[SeedResult]], articles: Path) -> None:
    from musamma.evaluation import score_documents

    output, results = arabert_run
    dev = list(read_jsonl(articles))[-8:]
    best = max(results, key=lambda result: result.dev_f1)
    scores = score_documents(dev, Tagger(str(output), device="cpu").tag_documents(dev)).to_dict()
    assert scores["micro"] == best.scores["dev"]["micro"]


def test_the_card_and_the_resolved_configuration_are_written(arabert_run: tuple[Path, list[SeedResult]]) -> None:
    output, results = arabert_run
    card = (output / "README.md").read_text(encoding="utf-8")
    assert card.startswith("---\n")
    header = yaml.safe_load(card.split("---")[1])
    assert header["pipeline_tag"] == "token-classification"
    assert header["model-index"][0]["results"]
    assert "character-exact" in card
    assert "2 seeds" in card
    saved = RunConfig.model_validate(yaml.safe_load((output / "run.yaml").read_text(encoding="utf-8")))
    assert saved.seeds == [1, 2]
    assert list((results[0].folder / "training").rglob("events.out.tfevents*"))


def test_a_unigram_encoder_trains_and_losses_are_recorded(unigram_encoder: Path, tmp_path: Path) -> None:
    documents = [article(number) for number in range(10)]
    inner = Document("odd", "قال متحدث باسمهم أمس", (Span(10, 14, "PER"),))
    write_jsonl([inner, *documents], tmp_path / "train.jsonl")
    config = settings(unigram_encoder, tmp_path / "train.jsonl", tmp_path / "run", trainer={"num_train_epochs": 1})
    (result,) = finetune(config)
    (loss,) = [json.loads(line) for line in (result.folder / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    assert loss["id"] == "odd"
    assert loss["surface"] == inner.text[10:14]
    assert loss["reason"]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors") | load_file(folder / "proclitic_head.safetensors")


def test_a_killed_run_ends_with_the_weights_of_one_that_was_not(
    wordpiece_encoder: Path, articles: Path, tmp_path: Path
) -> None:
    whole = settings(wordpiece_encoder, articles, tmp_path / "whole", trainer={"num_train_epochs": 6})
    finetune(whole)
    killed = settings(wordpiece_encoder, articles, tmp_path / "killed", trainer={"num_train_epochs": 6})
    file = tmp_path / "killed.yaml"
    file.write_text(killed.to_yaml(), encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, "-m", "musamma", "train", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    work = tmp_path / "killed" / "seed-1" / "training"
    deadline = time.monotonic() + 120
    while not list(work.glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "seed-1" / "scores.json").exists(), "the run ended before it was killed"
    with pytest.raises(InputError, match="resume=True"):
        finetune(killed)
    finetune(killed, resume=True)
    before, after = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    events = [
        json.loads(line) for line in (tmp_path / "killed/seed-1/log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert events[-1]["step"] == max(event["step"] for event in events)


def test_a_half_written_checkpoint_is_passed_over(tmp_path: Path) -> None:
    for step, state in ((8, '{"global_step": 8}'), (16, '{"global_step": 16}'), (24, '{"global_')):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state, encoding="utf-8")
    (tmp_path / "checkpoint-32").mkdir()
    assert find_last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-16", "checkpoint-8"]


def test_resuming_with_other_settings_is_refused(wordpiece_encoder: Path, articles: Path, tmp_path: Path) -> None:
    config = settings(wordpiece_encoder, articles, tmp_path / "run", trainer={"num_train_epochs": 1})
    finetune(config)
    other = settings(wordpiece_encoder, articles, tmp_path / "run", trainer={"num_train_epochs": 2})
    with pytest.raises(InputError, match="other settings for trainer"):
        finetune(other, resume=True)
    before = (tmp_path / "run" / "scores.json").read_bytes()
    assert finetune(config, resume=True)[0].seed == 1  # finished seeds are kept
    assert (tmp_path / "run" / "scores.json").read_bytes() == before


def test_two_processes_train_together(wordpiece_encoder: Path, articles: Path, tmp_path: Path) -> None:
    config = settings(wordpiece_encoder, articles, tmp_path / "run", trainer={"num_train_epochs": 3})
    file = tmp_path / "run.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "musamma",
        "train",
    ]
    done = subprocess.run(
        [*command, str(file)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    scores = json.loads((tmp_path / "run" / "scores.json").read_text(encoding="utf-8"))
    assert scores["best_seed"] == 1
    events = [json.loads(line) for line in (tmp_path / "run/seed-1/log.jsonl").read_text(encoding="utf-8").splitlines()]
    # 32 documents in batches of 4 on each of two processes.
    assert max(event["step"] for event in events) == 3 * 4


def test_learning_rates_fall_with_depth() -> None:
    names = [
        "backbone.bert.embeddings.word_embeddings.weight",
        "backbone.bert.encoder.layer.0.output.dense.weight",
        "backbone.bert.encoder.layer.1.output.dense.weight",
        "backbone.classifier.weight",
        "proclitic_head.weight",
    ]
    assert list(layerwise_learning_rates(names, rate=1.0, decay=0.5, head_rate=3.0).values()) == [
        0.25,
        0.5,
        1.0,
        3.0,
        3.0,
    ]
    assert set(layerwise_learning_rates(names, rate=1.0, decay=1.0, head_rate=None).values()) == {1.0}


def test_accumulated_and_recomputed_gradients_train_as_plain_ones(
    wordpiece_encoder: Path, articles: Path, tmp_path: Path
) -> None:
    changes = {
        "encoder_config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        "precision": "float32",
    }
    order = {"num_train_epochs": 1, "train_sampling_strategy": "sequential", "max_grad_norm": 0.0}
    plain = settings(wordpiece_encoder, articles, tmp_path / "plain", trainer=order, **changes)
    thrifty = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2, "activation_checkpointing": True}
    small = settings(wordpiece_encoder, articles, tmp_path / "small", trainer=order | thrifty, **changes)
    finetune(plain)
    finetune(small)
    before, after = weights(tmp_path / "plain"), weights(tmp_path / "small")
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=2e-4)
