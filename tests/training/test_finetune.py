"""Fine-tuning: from spans to a checkpoint, over several seeds and processes, and after a kill."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForTokenClassification, pipeline

from musamma.data.document import Document, Span, read_jsonl, write_jsonl
from musamma.data.errors import InputError, RunError
from musamma.inference import Tagger
from musamma.training.config import RunConfig
from musamma.training.finetune import finetune
from musamma.training.run_dir import SeedResult
from tests.support import default_mode, file_modes, span

PLACES = ["دمشق", "بغداد", "بيروت", "القاهرة", "الموصل", "الكويت"]
PEOPLE = ["محمد السعيد", "منى صالح", "حسام الأحبابي"]


def article(number: int) -> Document:
    """A short text with a person, a place, and a place after a proclitic."""
    person, place, prefixed = PEOPLE[number % 3], PLACES[number % 6], PLACES[(number * 5 + 1) % 6]
    text = f"وصل {person} إلى {place} ومر ب{prefixed} مساء {number + 1}"
    spans = (span(text, person, "PER"), span(text, place), span(text, prefixed, after=text.rindex(prefixed)))
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
    """The AraBERT path: a WordPiece BERT, fine-tuned until it has learnt these names."""
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
    # The plain pipeline does not know proclitics and returns whole words.
    person, place, prefixed = (known.surface(span) for span in known.spans)
    assert names == [(person, "PER"), (place, "LOC"), (f"ب{prefixed}", "LOC")]
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
    # Nothing of what speeds up training on a CPU is left in it.
    config = json.loads((output / "config.json").read_text(encoding="utf-8"))
    assert not [key for key in config if "attn" in key]
    assert (config["hidden_dropout_prob"], config["attention_probs_dropout_prob"]) == (0.1, 0.1)
    assert set(file_modes(output).values()) == {default_mode(output)}
    best = max(results, key=lambda result: result.dev_f1)
    record = json.loads((output / "scores.json").read_text(encoding="utf-8"))
    assert record["best_seed"] == best.seed
    same = load_file(best.folder / "model.safetensors"), load_file(output / "model.safetensors")
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])


def test_the_tagger_finds_names_after_proclitics(arabert_run: tuple[Path, list[SeedResult]]) -> None:
    output, _ = arabert_run
    known = article(0)
    assert known.text.count(" ب") == 1
    vocalised = known.text.replace("وصل", "وَصَلَ")
    names = [(vocalised[s.start : s.end], s.label) for s in Tagger(str(output), device="cpu").tag(vocalised)]
    assert names == [(known.surface(span), span.label) for span in known.spans]


def test_the_checkpoint_has_the_scores_that_training_reported(
    arabert_run: tuple[Path, list[SeedResult]], articles: Path
) -> None:
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
    (dev,) = header["model-index"][0]["results"]
    assert dev["dataset"] == {"name": "train.jsonl (dev)", "type": "musamma", "split": "dev"}
    assert dev["metrics"][0]["value"] == pytest.approx(sum(result.dev_f1 for result in results) / 2, abs=1e-4)
    assert "character-exact" in card
    assert "2 seeds" in card
    saved = RunConfig.model_validate(yaml.safe_load((output / "run.yaml").read_text(encoding="utf-8")))
    assert saved.seeds == [1, 2]
    events = (results[0].folder / "training").rglob("events.out.tfevents*")
    assert {path.parents[1] for path in events} == {results[0].folder / "training" / "runs"}


def test_a_unigram_encoder_trains_and_misalignments_are_recorded(unigram_encoder: Path, tmp_path: Path) -> None:
    documents = [article(number) for number in range(10)]
    inner = Document("odd", "قال متحدث باسمهم أمس", (Span(10, 14, "PER"),))
    write_jsonl([inner, *documents], tmp_path / "train.jsonl")
    config = settings(unigram_encoder, tmp_path / "train.jsonl", tmp_path / "run", trainer={"num_train_epochs": 1})
    (result,) = finetune(config)
    (record,) = [json.loads(line) for line in (result.folder / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    assert record["id"] == "odd"
    assert record["surface"] == inner.text[10:14]
    assert "ends inside a word" in record["reason"]
    assert record["kept"] == {"start": 10, "end": 16, "label": "PER"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors") | load_file(folder / "proclitic_head.safetensors")


def test_a_killed_and_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    wordpiece_encoder: Path, articles: Path, tmp_path: Path, kill_command: Callable[..., None]
) -> None:
    whole = settings(wordpiece_encoder, articles, tmp_path / "whole", trainer={"num_train_epochs": 6})
    finetune(whole)
    killed = settings(wordpiece_encoder, articles, tmp_path / "killed", trainer={"num_train_epochs": 6})
    file = tmp_path / "killed.yaml"
    file.write_text(killed.to_yaml(), encoding="utf-8")
    checkpoints = tmp_path / "killed" / "seed-1" / "training"
    kill_command("train", file, folder=checkpoints, pattern="checkpoint-*/trainer_state.json")
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


def test_resuming_with_other_settings_is_refused(wordpiece_encoder: Path, articles: Path, tmp_path: Path) -> None:
    config = settings(wordpiece_encoder, articles, tmp_path / "run", trainer={"num_train_epochs": 1})
    finetune(config)
    changed = settings(wordpiece_encoder, articles, tmp_path / "run", trainer={"num_train_epochs": 2})
    with pytest.raises(InputError, match="other settings for trainer"):
        finetune(changed, resume=True)
    before = (tmp_path / "run" / "scores.json").read_bytes()
    assert finetune(config, resume=True)[0].seed == 1  # finished seeds are not trained again
    assert (tmp_path / "run" / "scores.json").read_bytes() == before


def test_resuming_with_other_data_or_another_encoder_is_refused(
    wordpiece_encoder: Path, articles: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder, data, run = tmp_path / "encoder", tmp_path / "train.jsonl", tmp_path / "run"
    shutil.copytree(wordpiece_encoder, encoder)
    shutil.copy(articles, data)
    config = settings(encoder, data, run, trainer={"num_train_epochs": 1})
    finetune(config)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    documents = list(read_jsonl(articles))
    write_jsonl([documents[0].with_spans(documents[0].spans[:1]), *documents[1:]], data)
    with pytest.raises(InputError, match=r"changed since the run was started: training data; .*overwrite=True"):
        finetune(config, resume=True)
    write_jsonl([*documents[:-1], documents[-1].with_spans([])], data)
    with pytest.raises(InputError, match="started: development data; "):
        finetune(config, resume=True)
    shutil.copy(articles, data)
    weights = load_file(encoder / "model.safetensors")
    name = "encoder.layer.0.output.dense.bias"
    save_file(weights | {name: weights[name] + 1.0}, encoder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="started: encoder; "):
        finetune(config, resume=True)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    # A run of an earlier version has no digests.
    assert caplog.messages == []
    (run / "inputs.json").unlink()
    finetune(config, resume=True)
    assert "cannot be checked" in caplog.messages[0]


def test_a_run_that_diverges_publishes_nothing(wordpiece_encoder: Path, articles: Path, tmp_path: Path) -> None:
    config = settings(wordpiece_encoder, articles, tmp_path / "run", trainer={"learning_rate": 1e30})
    with pytest.raises(RunError, match=r"seed-1/training, step \d+: the loss is nan; "):
        finetune(config)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["inputs.json", "run.yaml", "seed-1"]
    assert not list((tmp_path / "run").rglob("*.safetensors"))


def test_two_processes_train_together(
    wordpiece_encoder: Path,
    articles: Path,
    tmp_path: Path,
    run_command: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    config = settings(wordpiece_encoder, articles, tmp_path / "elsewhere", trainer={"num_train_epochs": 3})
    file = tmp_path / "run.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    # The options are those of the command.
    done = run_command("train", file, "--set", "layerwise_decay=0.9", "--output", tmp_path / "run", processes=2)
    assert done.returncode == 0, done.stderr[-2000:]
    # Only the main process prints.
    assert done.stdout.count("micro F1, 1 seed") == 1
    assert done.stdout.count("checkpoint, card and scores: ") == 1
    saved = yaml.safe_load((tmp_path / "run" / "run.yaml").read_text(encoding="utf-8"))
    expected = config.model_copy(update={"layerwise_decay": 0.9, "output": str(tmp_path / "run")})
    assert saved == expected.model_dump(mode="json")
    scores = json.loads((tmp_path / "run" / "scores.json").read_text(encoding="utf-8"))
    assert scores["best_seed"] == 1
    events = [json.loads(line) for line in (tmp_path / "run/seed-1/log.jsonl").read_text(encoding="utf-8").splitlines()]
    # 32 documents in batches of 4 on each of two processes.
    assert max(event["step"] for event in events) == 3 * 4


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


# The compiler hides this warning from users; pytest makes an error of it before.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
def test_a_compiled_run_trains_as_a_plain_one(wordpiece_encoder: Path, articles: Path, tmp_path: Path) -> None:
    """With the compiler that only traces: it needs no C++ compiler."""
    changes = {
        "encoder_config": {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0},
        "precision": "float32",
    }
    order = {"num_train_epochs": 1, "train_sampling_strategy": "sequential", "max_steps": 3}
    plain = settings(wordpiece_encoder, articles, tmp_path / "plain", trainer=order, **changes)
    traced = {"torch_compile": True, "torch_compile_backend": "eager"}
    compiled = settings(wordpiece_encoder, articles, tmp_path / "compiled", trainer=order | traced, **changes)
    finetune(plain)
    counters = torch._dynamo.utils.counters
    counters.clear()
    finetune(compiled)
    assert counters["frames"]["ok"] > 0
    before, after = weights(tmp_path / "plain"), weights(tmp_path / "compiled")
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name], rtol=1e-3, atol=2e-4)


def test_without_a_compiler_a_compiled_run_is_refused(
    wordpiece_encoder: Path, articles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise RuntimeError("Compiler: g++ is not found.")

    monkeypatch.setattr(torch, "compile", fail)
    config = settings(wordpiece_encoder, articles, tmp_path / "run", trainer={"torch_compile": True})
    with pytest.raises(InputError) as error:
        finetune(config)
    assert str(error.value) == (
        "the configuration: trainer.torch_compile: true, and torch.compile does not work on this machine "
        "(Compiler: g++ is not found.); expected its requirements: on a CPU a C++ compiler and Python's headers, on a GPU "
        "Triton; install them, or set trainer.torch_compile: false"
    )
    assert not list((tmp_path / "run").iterdir())
