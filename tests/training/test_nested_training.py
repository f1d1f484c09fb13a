"""Training with nested names: from articles with names inside names to a checkpoint that finds them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForTokenClassification

from musamma.data.corpora import load_khabar
from musamma.data.document import Document, Span, read_jsonl, write_jsonl
from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX, DocumentTokenizer
from musamma.evaluation import score_documents
from musamma.inference import Tagger
from musamma.models.checkpoint import build_classifier, load_classifier, load_tokenizer
from musamma.training.config import RunConfig
from musamma.training.data_config import SourceConfig
from musamma.training.dataset import WindowCollator, build_window_dataset, joint_loss, keep_nested_layer, load_corpus
from musamma.training.finetune import finetune
from musamma.training.mixture import build_mixture
from musamma.training.sources import Source, _read_source
from tests.support import write_random_checkpoint


def paragraphs() -> list[Document]:
    """The paragraphs with nested names of three articles of Khabar."""
    found = []
    for article in [item for item in load_khabar("train") if 3 <= len(item.nested) <= 5][:3]:
        start = 0
        for line in article.text.split("\n"):
            end = start + len(line)
            spans, nested = (
                tuple(
                    Span(span.start - start, span.end - start, span.label)
                    for span in layer
                    if start <= span.start and span.end <= end
                )
                for layer in (article.spans, article.nested)
            )
            if nested:
                found.append(Document(f"{article.id}-{start}", line, spans, nested))
            start = end + 1
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The paragraphs as training and as development documents."""
    folder = tmp_path_factory.mktemp("nested")
    write_jsonl(paragraphs(), folder / "train.jsonl")
    write_jsonl((replace(document, id=f"dev-{document.id}") for document in paragraphs()), folder / "dev.jsonl")
    return folder / "train.jsonl", folder / "dev.jsonl"


def settings(encoder: Path, data: tuple[Path, Path], output: Path, **changes: object) -> RunConfig:
    content = {
        "encoder": str(encoder),
        "data": {"train": str(data[0]), "dev": str(data[1])},
        "output": str(output),
        "encoding": {"max_length": 128, "overlap": 32},
        "device": "cpu",
        "precision": "float32",
        "nested": True,
        "trainer": {
            "num_train_epochs": 40,
            "learning_rate": 5e-3,
            "per_device_train_batch_size": 4,
            "warmup_steps": 0.1,
            "eval_strategy": "steps",
            "save_strategy": "steps",
            "eval_steps": 0.5,
            "save_steps": 0.5,
        },
        **changes,
    }
    return RunConfig.model_validate(content)


@pytest.fixture(scope="module")
def run(wordpiece_encoder: Path, data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("run") / "nested"
    finetune(settings(wordpiece_encoder, data, output))
    return output


def test_a_small_model_learns_the_nested_names_of_three_articles(run: Path, data: tuple[Path, Path]):
    gold = list(read_jsonl(data[0]))
    scores = score_documents(gold, Tagger(str(run), device="cpu").tag_documents(gold))
    assert scores.layers["nested"].micro.support >= 9
    assert scores.layers["nested"].micro.f1 >= 0.9
    assert scores.strict.micro.f1 >= 0.9
    # What training reported is what the checkpoint does.
    record = json.loads((run / "scores.json").read_text("utf-8"))["seeds"][0]["scores"]["dev"]
    assert record["layers"]["nested"]["micro"]["f1"] == pytest.approx(scores.layers["nested"].micro.f1)
    events = [json.loads(line) for line in (run / "seed-1/log.jsonl").read_text("utf-8").splitlines()]
    assert sum("eval_nested_strict_f1" in event for event in events) == sum(
        "eval_strict_f1" in event for event in events
    )
    card = (run / "README.md").read_text("utf-8")
    assert "Names inside names are found, too: " in card
    assert "| nested names | " in card


def test_the_checkpoint_loads_without_the_nested_head(run: Path):
    plain = AutoModelForTokenClassification.from_pretrained(run)
    classifier, _ = load_classifier(str(run))
    labels = classifier.config.musamma["nested"]["labels"]
    assert labels == sorted({span.label for document in paragraphs() for span in document.nested})
    head = load_file(run / "nested_head.safetensors")
    assert head["weight"].shape == (1 + 2 * len(labels), classifier.config.hidden_size)
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    with torch.no_grad():
        torch.testing.assert_close(plain(ids).logits, classifier(ids, torch.ones_like(ids))[0])
    assert not [name for name, _ in plain.named_parameters() if "nested" in name]
    config = yaml.safe_load((run / "run.yaml").read_text("utf-8"))
    assert config["nested"] is True


@pytest.mark.parametrize("broken", ["missing", "cut", "labels"])
def test_a_damaged_nested_head_is_an_error_of_one_line(run: Path, tmp_path: Path, broken: str):
    for file in run.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    head, config = tmp_path / "nested_head.safetensors", tmp_path / "config.json"
    if broken == "missing":
        head.unlink()
        message = r"no nested_head.safetensors; .*copy the checkpoint anew, or delete 'musamma.nested' in config.json"
    elif broken == "cut":
        head.write_bytes(head.read_bytes()[:20])
        message = "the head of the nested names cannot be read"
    else:
        content = json.loads(config.read_text("utf-8"))
        content["musamma"]["nested"] = {"labels": "GPE"}
        config.write_text(json.dumps(content), "utf-8")
        message = "'musamma.nested' in config.json is .*a list of labels"
    with pytest.raises(InputError, match=message):
        Tagger(str(tmp_path), device="cpu")


def test_a_corpus_without_nested_names_is_refused_and_auto_takes_it_as_flat(
    wordpiece_encoder: Path, data: tuple[Path, Path], tmp_path: Path
):
    flat = tmp_path / "flat.jsonl"
    write_jsonl((document.with_spans(document.spans) for document in paragraphs()), flat)
    config = settings(wordpiece_encoder, (flat, data[1]), tmp_path / "run")
    with pytest.raises(InputError, match="`nested: true`, and no training document has nested names"):
        finetune(config)
    assert not (tmp_path / "run/run.yaml").exists()
    assert load_corpus(config.model_copy(update={"nested": "auto"})).nested_tag_set is None
    both = config.model_copy(
        update={"nested": "auto", "data": config.data.model_copy(update={"train": [str(data[0])]})}
    )
    assert load_corpus(both).nested_tag_set is not None
    assert load_corpus(both.model_copy(update={"nested": False})).nested_tag_set is None


def test_auto_keeps_the_nested_layer_of_a_tagger_that_flat_articles_train_further(
    wordpiece_encoder: Path, data: tuple[Path, Path], tmp_path: Path
):
    flat = tmp_path / "flat.jsonl"
    write_jsonl((document.with_spans(document.spans) for document in paragraphs()), flat)
    # ZOO is not a label of the run, so the layer does without it.
    tagger = write_random_checkpoint(tmp_path / "tagger", wordpiece_encoder, nested=["GPE", "PER", "ZOO"])
    trainer = {"num_train_epochs": 1, "learning_rate": 1e-3, "eval_strategy": "epoch", "save_strategy": "epoch"}
    config = settings(tagger, (flat, data[1]), tmp_path / "run", nested="auto", trainer=trainer)
    flat_corpus = load_corpus(config)
    assert keep_nested_layer(flat_corpus, config).nested_tag_set.labels == ("GPE", "PER")
    assert keep_nested_layer(flat_corpus, config.model_copy(update={"nested": False})) is flat_corpus
    finetune(config)
    assert Tagger(str(tmp_path / "run"), device="cpu").nested_labels == ("GPE", "PER")
    kept, before = (load_file(folder / "nested_head.safetensors")["weight"] for folder in (tmp_path / "run", tagger))
    # O, B-GPE, I-GPE, B-PER and I-PER; nothing trains them.
    assert torch.allclose(kept, before[:5], atol=1e-3)


def test_documents_of_a_file_without_nested_names_have_no_nested_targets(
    wordpiece_encoder: Path, data: tuple[Path, Path], tmp_path: Path
):
    flat = tmp_path / "flat.jsonl"
    write_jsonl((replace(document, id=f"flat-{document.id}", nested=()) for document in paragraphs()), flat)
    config = settings(wordpiece_encoder, data, tmp_path / "run")
    config = config.model_copy(update={"data": config.data.model_copy(update={"train": [str(data[0]), str(flat)]})})
    corpus = load_corpus(config)
    assert corpus.nested_tag_set is not None
    tokenizer = DocumentTokenizer(load_tokenizer(str(wordpiece_encoder)), max_length=128, overlap=32)
    options = {"proclitics": True, "nested": corpus.nested_tag_set, "nested_ids": corpus.nested_ids}
    for document in corpus.train:
        rows, _ = build_window_dataset([document], tokenizer, corpus.tag_set, **options)
        targets = {value for row in rows["nested"] for value in row}
        assert (targets == {IGNORE_INDEX}) == document.id.startswith("flat-")
    rows, _ = build_window_dataset(corpus.train, tokenizer, corpus.tag_set, proclitics=True)
    assert rows.column_names == ["input_ids", "tags", "proclitics", "length"]


def test_the_loss_is_the_mean_over_the_targets_of_all_heads(
    wordpiece_encoder: Path, data: tuple[Path, Path], tmp_path: Path
):
    corpus = load_corpus(settings(wordpiece_encoder, data, tmp_path / "run"))
    torch.manual_seed(1)
    classifier = build_classifier(str(wordpiece_encoder), corpus.tag_set, nested=corpus.nested_tag_set).eval()
    tokenizer = DocumentTokenizer(load_tokenizer(str(wordpiece_encoder)), max_length=128, overlap=32)
    rows, _ = build_window_dataset(
        corpus.train[:2],
        tokenizer,
        corpus.tag_set,
        proclitics=True,
        nested=corpus.nested_tag_set,
        nested_ids=corpus.nested_ids,
    )
    batch = WindowCollator(tokenizer.padding_id, 128)([rows[index] for index in range(len(rows))])
    assert batch["labels"].shape[1] == 3
    outputs = classifier(batch["input_ids"], batch["attention_mask"])
    total, count = 0.0, 0
    for logits, target in zip(outputs, batch["labels"].unbind(dim=1), strict=True):
        known = target != IGNORE_INDEX
        scores = logits.detach().log_softmax(dim=-1)[known]
        total -= float(scores[torch.arange(len(scores)), target[known]].sum())
        count += int(known.sum())
    assert joint_loss(outputs, batch["labels"]).item() == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize(("option", "expected"), [({}, True), ({"nested": False}, False), ({"nested": True}, True)])
def test_a_source_may_say_whether_its_nested_names_are_annotated(data: tuple[Path, Path], option, expected: bool):
    config = SourceConfig.model_validate({"files": str(data[0]), "dev": [], **option})
    assert _read_source(config, for_training=True).nested is expected


def test_a_source_without_nested_annotation_has_no_nested_targets(wordpiece_encoder: Path):
    documents = paragraphs()
    labels = TagSet.from_labels(span.label for document in documents for span in document.spans)
    nested = TagSet.from_labels(span.label for document in documents for span in document.nested)
    tokenizer = DocumentTokenizer(load_tokenizer(str(wordpiece_encoder)), max_length=128, overlap=32)
    sources = [Source(name, documents, [], nested=name == "first") for name in ("first", "second")]
    mixture = build_mixture(sources, tokenizer, labels, proclitics=True, nested=nested)
    known = [any(value != IGNORE_INDEX for value in row) for row in mixture.windows["nested"]]
    assert any(known[: mixture.sizes[0]])
    assert not any(known[mixture.sizes[0] :])
    assert "nested" not in build_mixture(sources, tokenizer, labels, proclitics=True).windows.column_names
