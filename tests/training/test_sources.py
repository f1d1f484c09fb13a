"""Training on several corpora: configuration, documents of the sources, scores by source, and resuming."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pydantic import ValidationError
from safetensors.torch import load_file

from musamma.data.document import Document, write_jsonl
from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.training.cards import scored_parts
from musamma.training.config import RunConfig, load_config
from musamma.training.data_config import SourceConfig
from musamma.training.dataset import load_corpus
from musamma.training.finetune import finetune
from tests.support import refused_command, span

PLACES = ["دمشق", "بغداد", "بيروت", "القاهرة", "الموصل", "الكويت"]
PEOPLE = ["محمد السعيد", "منى صالح", "حسام الأحبابي"]


def article(number: int, *, place: str = "GPE", person: str | None = "PER", prefix: str = "d") -> Document:
    """A short text with a person, a place, and an event."""
    name, town = PEOPLE[number % 3], PLACES[number % 6]
    text = f"وصل {name} إلى {town} قبل كأس آسيا رقم {number}"
    spans = [span(text, town, place)] + ([span(text, name, person)] if person else [])
    if person:
        spans.append(span(text, "كأس آسيا", "EVENT" if place == "GPE" else "MISC"))
    return Document(f"{prefix}{number:02d}", text, tuple(sorted(spans)))


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three corpora in the working folder, all with the same ids."""
    monkeypatch.chdir(tmp_path)
    write_jsonl((article(number) for number in range(20)), "fine.jsonl")
    write_jsonl((article(number, place="LOC") for number in range(100, 112)), "coarse.jsonl")
    write_jsonl((article(number, person=None) for number in range(200, 210)), "places.jsonl")


def sources(**changes: Any) -> list[dict[str, Any]]:
    coarse = {"files": "coarse.jsonl", "dev_share": 0.25, "sampling_factor": 0.5}
    coarse["allows"] = {"LOC": ["GPE", "LOC"], "MISC": ["EVENT", "O"], "O": ["LOC"]}
    return [{"files": "fine.jsonl", "dev_share": 0.2}, {**coarse, **changes}]


def settings(encoder: object, *, train: Any = None, dev: Any = (), output: str = "run", **changes: Any) -> RunConfig:
    trainer = {"num_train_epochs": 3, "learning_rate": 5e-3, "per_device_train_batch_size": 4, "logging_steps": 5}
    content = {
        "encoder": str(encoder),
        "data": {"train": sources() if train is None else train, "dev": dev},
        "output": output,
        "labels": ["EVENT", "GPE", "LOC", "PER"],
        "encoding": {"max_length": 64, "overlap": 16},
        "device": "cpu",
        "precision": "float32",
        "trainer": trainer,
        **changes,
    }
    return RunConfig.model_validate(content)


def test_ids_are_unique_and_parts_are_cut_by_source() -> None:
    corpus = load_corpus(settings("none", dev=[{"files": "places.jsonl", "allows": {"O": ["PER", "EVENT"]}}]))
    assert [source.name for source in corpus.sources] == ["fine", "coarse", "places"]
    assert [(len(source.train), len(source.dev)) for source in corpus.sources] == [(16, 4), (9, 3), (0, 10)]
    assert [document.id for document in corpus.dev[:5]] == [
        "fine/d16",
        "fine/d17",
        "fine/d18",
        "fine/d19",
        "coarse/d109",
    ]
    assert corpus.tag_set.labels == ("EVENT", "GPE", "LOC", "PER")


def test_the_labels_are_by_default_those_that_sources_allow() -> None:
    train = sources(allows={"LOC": ["GPE"], "MISC": ["EVENT"]})
    assert load_corpus(settings("none", train=train, labels=None)).tag_set.labels == ("EVENT", "GPE", "PER")


def test_sentences_are_grouped_within_a_source() -> None:
    corpus = load_corpus(settings("none", train=sources(group=4)))
    assert [len(source.train) for source in corpus.sources] == [16, 3]
    assert corpus.sources[1].train[0].text.count("\n") == 3


@pytest.mark.parametrize("train", ["fine.jsonl", [{"files": "fine.jsonl", "dev_share": 0.2, "group": 2}]])
def test_ids_are_checked_before_documents_are_grouped(train: Any) -> None:
    """The second document of a group may not be a test document, either."""
    write_jsonl([replace(article(301), id="d01")], "test.jsonl")
    with pytest.raises(InputError, match=r"document 'd01': the id occurs twice, with another text"):
        load_corpus(settings("none", data={"train": train, "group": 2, "test": "test.jsonl"}))
    write_jsonl([replace(article(301), id="t01"), replace(article(302), id="t02")], "test.jsonl")
    corpus = load_corpus(settings("none", data={"train": train, "group": 2, "test": "test.jsonl"}))
    assert len(corpus.test) == 1
    assert corpus.train[0].text.count("\n") == 1


def test_files_beside_sources_are_sources_with_the_options_of_the_section() -> None:
    config = settings("none", train=["places.jsonl", *sources()])
    config = RunConfig.model_validate(config.model_dump() | {"data": config.data.model_dump() | {"group": 5}})
    corpus = load_corpus(config)
    assert [(source.name, len(source.train), len(source.dev)) for source in corpus.sources] == [
        ("places", 2, 0),
        ("fine", 16, 4),
        ("coarse", 9, 3),
    ]


@pytest.mark.parametrize(
    "data",
    [
        {"train": "khabar", "format": "jsonl", "dev_share": 0.2},
        {"train": [{"files": "khabar", "format": "jsonl", "dev_share": 0.2}]},
    ],
)
def test_a_file_named_like_a_packaged_corpus_comes_first(data: dict[str, Any]) -> None:
    Path("fine.jsonl").rename("khabar")
    corpus = load_corpus(settings("none", data=data))
    assert (len(corpus.train), len(corpus.dev)) == (16, 4)


def test_training_documents_that_share_a_sentence_with_a_held_out_one_are_dropped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared = [article(2, prefix="other"), article(102, prefix="other"), article(300, prefix="other")]
    write_jsonl(shared, "held.jsonl")
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus(settings("none", dev="held.jsonl"))
    assert [len(source.train) for source in corpus.sources] == [15, 8, 0]
    assert "d02" not in {document.id.split("/")[1] for document in corpus.sources[0].train}
    assert [record.message for record in caplog.records] == [
        f"source {name}: 1 of {count} training documents (3 names) are dropped: they share a sentence with a development or "
        "test document"
        for name, count in (("fine", 16), ("coarse", 9))
    ]


def load_with_rare_label(caplog: pytest.LogCaptureFixture, **changes: Any) -> tuple[TagSet, list[str]]:
    """Read a source whose only document with the label LAW, with a nested PART, is dropped; return tags and warnings."""
    text = "قرأ النائب نص قانون الاستثمار الجديد في جلسة اليوم"
    law = Document("law", text, (span(text, "قانون الاستثمار", "LAW"),), (span(text, "الاستثمار", "PART"),))
    write_jsonl([law, *(article(number) for number in range(20))], "fine.jsonl")
    # The same sentence, without the name.
    write_jsonl([Document("held", text, (span(text, "النائب", "PER"),))], "held.jsonl")
    data = {"train": [{"files": "fine.jsonl", "dev_share": 0.2}], "dev": [{"files": "held.jsonl"}], "test": []}
    with caplog.at_level(logging.WARNING):
        corpus = load_corpus(settings("none", **{"data": data, "labels": None, "nested": "auto"} | changes))
    return corpus.tag_set, [message for message in caplog.messages if "no training example" in message]


LOST = "share a sentence with a development or test document, and are dropped"


def test_a_label_whose_examples_are_all_dropped_is_named(caplog: pytest.LogCaptureFixture) -> None:
    tag_set, warnings = load_with_rare_label(caplog)
    assert tag_set.labels == ("EVENT", "GPE", "PER")
    assert warnings == [
        f"no training example of the label 'LAW' is left: the documents with it {LOST}",
        f"no training example of nested names with the label 'PART' is left: the documents with it {LOST}",
    ]
    caplog.clear()
    tag_set, warnings = load_with_rare_label(caplog, labels=["EVENT", "GPE", "LAW", "PER"])
    assert "LAW" in tag_set.labels
    assert "of the label 'LAW' is left" in warnings[0]


@pytest.mark.parametrize("needed", ["dev", "test", "allows"])
def test_a_label_that_is_needed_and_whose_examples_are_all_dropped_is_an_error(
    caplog: pytest.LogCaptureFixture, needed: str
) -> None:
    train: list[dict[str, Any]] = [{"files": "fine.jsonl", "dev_share": 0.2}]
    text = "أقر المجلس قانون الأحزاب"
    write_jsonl([Document("new", text, (span(text, "قانون الأحزاب", "LAW"),))], "law.jsonl")
    data: dict[str, Any] = {"train": train, "dev": [{"files": "held.jsonl"}]}
    if needed == "dev":
        data["dev"].append({"files": "law.jsonl"})
    elif needed == "test":
        data["test"] = "law.jsonl"
    else:
        train.append({"files": "places.jsonl", "allows": {"O": ["LAW", "EVENT", "PER"]}})
    with pytest.raises(InputError) as caught:
        load_with_rare_label(caplog, data=data)
    assert str(caught.value) == (
        f"data.train: no training example of the label 'LAW' is left: the documents with it {LOST}; expected an example in another "
        "document; add one, list the labels of the model under 'labels', or map the label with the 'labels' of its source"
    )
    load_with_rare_label(caplog, data=data, labels=["EVENT", "GPE", "LAW", "PER"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"allows": {"LOK": ["GPE"]}}, "source 'coarse': 'allows' has the label 'LOK'; expected a label of the source"),
        ({"allows": {"LOC": ["GPE"], "MISC": ["EVNT"]}}, "source 'coarse': the label 'EVNT' in 'allows'; expected"),
        ({"allows": {"LOC": ["GPE"]}}, "source 'coarse': the label 'MISC'; expected a label of the model: EVENT, GPE"),
        ({"files": "none.jsonl", "allows": {}}, "none.jsonl: no such file"),
        (
            {"dev": "empty.jsonl", "dev_share": None},
            "source 'coarse': the development part has 1 documents and no names",
        ),
        (
            {"files": "empty.jsonl", "dev_share": None, "allows": {}},
            "source 'empty': the training part has 1 documents",
        ),
        ({"labels": "fane-to-khabar"}, "document 'd100': label 'PER'"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(change: dict[str, Any], message: str) -> None:
    write_jsonl([Document("e", "لا أسماء هنا")], "empty.jsonl")
    with pytest.raises(InputError) as error:
        load_corpus(settings("none", train=sources(**change)))
    assert str(error.value).startswith(message)


def test_the_share_of_plain_files_is_refused_beside_sources() -> None:
    """It would change nothing."""
    with pytest.raises(ValidationError, match="give each source its own dev_share"):
        settings("none", data={"train": [{"files": "fine.jsonl"}], "dev_share": 0.2})


@pytest.mark.parametrize("row", [["O"], ["LOC", "O"]])
def test_no_name_among_the_labels_that_a_source_leaves_unmarked_changes_nothing(
    wordpiece_encoder: Path, row: list[str]
) -> None:
    table = {"LOC": ["GPE", "LOC"], "MISC": ["EVENT", "O"]}
    plain = {"O": ["LOC"]} if "LOC" in row else {}
    trainer = {"num_train_epochs": 1, "per_device_train_batch_size": 16}
    for output, allows in (("with", {**table, "O": row}), ("without", {**table, **plain})):
        finetune(settings(wordpiece_encoder, train=sources(allows=allows), output=output, trainer=trainer))
    before, after = weights("with"), weights("without")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_sources_that_allow_no_label_are_refused() -> None:
    train = [{"files": "places.jsonl", "dev_share": 0.2, "allows": {"GPE": "O"}}]
    with pytest.raises(
        InputError, match=r"data.train: the training sources allow no label but O; .*; correct 'allows'"
    ):
        load_corpus(settings("none", train=train, labels=None))


def test_a_label_that_no_source_annotates_is_refused() -> None:
    train = sources(allows={"LOC": ["GPE", "LOC"], "MISC": ["EVNT", "EVENT"]})
    with pytest.raises(
        InputError, match=r"source 'coarse': the label 'EVNT' in 'allows'; expected a label that a source"
    ):
        load_corpus(settings("none", train=train, labels=None))


def test_a_run_needs_a_development_part() -> None:
    train = [{"files": "fine.jsonl"}, {"files": "places.jsonl"}]
    with pytest.raises(InputError, match="no source has a development part"):
        load_corpus(settings("none", train=train))


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        ([{"files": []}], [], "files\n  List should have at least 1 item"),
        ([{"files": "a.jsonl", "sampling_factor": 0}], [], "greater than 0"),
        ([{"files": "a.jsonl", "sampling_factor": 1e9}], [], "less than or equal to 1000"),
        ([{"files": "a.jsonl", "dev": ""}], [], "at least 1 character"),
        ([{"files": "a.jsonl"}, ""], [], "at least 1 character"),
        ([{"files": "a.jsonl"}], [""], "at least 1 character"),
        ([{"files": "a.jsonl", "allows": {"LOC": []}}], [], "at least 1 item"),
        ([{"files": "a.jsonl", "allows": {"LOC": ["GPE", "GPE"]}}], [], "LOC allows a label twice"),
        ([{"files": "a.jsonl"}, {"files": "b/a.conll"}], [], "two sources have the name 'a'"),
        ([{"files": "a.jsonl"}], ["b/a.conll"], "two sources have the name 'a'"),
        ([{"files": "a.jsonl", "dev": "b.jsonl", "dev_share": 0.1}], [], "give dev or dev_share, not both"),
        (
            [{"files": "a.jsonl"}],
            [{"files": "b.jsonl", "sampling_factor": 2}],
            "source 'b' of dev has sampling_factor: only a source of train may",
        ),
        ([{"files": "a.jsonl", "fromat": "conll"}], [], "Extra inputs are not permitted"),
        ([{"files": "a.jsonl", "name": "a/b"}], [], "String should match pattern"),
        ([{"files": "a.jsonl", "name": ""}], [], "String should match pattern"),
        ([{"files": ""}], [], "String should match pattern"),
        ([{"files": "nested.jsonl"}], [], "'nested' stands for the score of nested names"),
        ([{"name": "a"}], [], "Field required"),
        ([3], [], "valid dictionary"),
    ],
)
def test_mistakes_in_sources_are_refused(train: Any, dev: Any, message: str) -> None:
    with pytest.raises(ValidationError) as error:
        settings("none", train=train, dev=dev)
    assert message in str(error.value)


def test_a_mistake_is_one_line_and_nothing_is_written(
    wordpiece_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = settings(wordpiece_encoder, train=sources(allows={"LOC": ["GPE"], "MISC": ["EVNT"]}))
    Path("run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert "the label 'EVNT' in 'allows'" in refused_command(capsys, "train", "run.yaml")
    assert not any(Path("run").glob("*"))


def test_a_change_names_a_source(tmp_path: Path) -> None:
    Path("run.yaml").write_text(settings("none").to_yaml(), encoding="utf-8")
    config = load_config("run.yaml", changes=["data.train.coarse.files=a/b.jsonl", "data.train.fine.group=2"])
    first, second = config.data.train_sources
    assert (second.name, second.files, first.group) == ("coarse", ["a/b.jsonl"], 2)
    for change, message in (
        ("data.train.other.group=2", r"'other' is not a section; expected one of fine, coarse$"),
        ("data.train.coarse=2", "is an entry of a list"),
    ):
        with pytest.raises(InputError, match=message):
            load_config("run.yaml", changes=[change])


def test_a_mistake_in_a_source_names_its_key_and_the_keys_of_sources() -> None:
    record = yaml.safe_load(settings("none").to_yaml())
    record["data"]["train"][1] |= {"sampling": 2, "group": 0}
    record["nested"] = "maybe"
    record["labels"] = ["PER", "O"]
    record["data"]["dev"] = [3]
    Path("run.yaml").write_text(yaml.safe_dump(record), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_config("run.yaml")
    message = str(error.value)
    for mistake in (
        "data.train.1.sampling: unknown key; ",
        "data.train.1.group: Input should be greater than or equal to 1; ",
        "data.dev.0: Input should be a valid dictionary; ",
        "nested: Input should be a valid boolean, unable to interpret input, or Input should be 'auto'; ",
        "labels: label 'O': expected a word, and not O, which stands for no name; ",
    ):
        assert mistake in message
    assert message.endswith(f"; known keys of data.train.1: {', '.join(SourceConfig.model_fields)}")


def test_a_change_names_a_source_whose_name_has_dots() -> None:
    train = [{"files": "fine.v1.2.jsonl"}, {"files": "coarse.jsonl"}]
    Path("run.yaml").write_text(settings("none", train=train).to_yaml(), encoding="utf-8")
    config = load_config("run.yaml", changes=["data.train.fine.v1.2.allows.O=[LOC]", "data.train.coarse.group=3"])
    first, second = config.data.train_sources
    assert (first.name, first.allows, second.group) == ("fine.v1.2", {"O": ["LOC"]}, 3)


def test_a_file_gives_a_name_without_its_spaces() -> None:
    config = settings("none", train=["my corpora/news (2).jsonl", {"files": "other news.jsonl"}])
    assert [source.name for source in config.data.train_sources] == ["news__2_", "other_news"]


@pytest.mark.parametrize(("allows", "learnt"), [({}, ("LOC", "PER")), ({"LOC": ["GPE", "LOC"]}, ("PER",))])
def test_the_nested_layer_does_not_learn_labels_that_may_be_others(allows: dict[str, Any], learnt: tuple[str]) -> None:
    text = "وصل رئيس جامعة بغداد أحمد صباح اليوم"
    nested = tuple(sorted([span(text, "بغداد", "LOC"), span(text, "أحمد", "PER")]))
    write_jsonl([Document("n", text, (span(text, "رئيس جامعة بغداد أحمد", "PER"),), nested)], "deep.jsonl")
    # No outermost name of the first source has the label LOC.
    train = [{"files": "deep.jsonl", "allows": allows}, *sources()]
    corpus = load_corpus(settings("none", train=train, nested=True))
    assert corpus.nested_tag_set is not None
    assert corpus.nested_tag_set.labels == learnt
    assert corpus.sources[0].uncertain_nested == set(allows)


def test_a_configuration_with_sources_can_be_read_again() -> None:
    config = settings("none", dev=["places.jsonl"])
    Path("run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load_config("run.yaml") == config


def events(run: str) -> list[dict[str, Any]]:
    lines = (Path(run) / "seed-1" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_each_source_has_a_score_and_their_mean_chooses_the_epoch(wordpiece_encoder: Path) -> None:
    dev = [{"files": "places.jsonl", "allows": {"O": ["PER", "EVENT"]}}]
    (result,) = finetune(settings(wordpiece_encoder, dev=dev))
    assert scored_parts([result]) == ["dev fine", "dev coarse", "dev places"]
    evaluations = [event for event in events("run") if "eval_strict_f1" in event]
    assert len(evaluations) == 3
    for event in evaluations:
        scores = [event[f"eval_{name}_strict_f1"] for name in ("fine", "coarse", "places")]
        assert event["eval_strict_f1"] == pytest.approx(sum(scores) / 3)
    assert result.dev_f1 == pytest.approx(max(event["eval_strict_f1"] for event in evaluations))
    # Labels of the corpus, whose names may have several in the model; 3 documents.
    assert {label: row["support"] for label, row in result.scores["dev coarse"]["per_label"].items()}["LOC"] == 3
    # 16 windows of the first source and half of the 9 of the second are 20 in 5 batches.
    assert evaluations[-1]["step"] == 15
    card = Path("run/README.md").read_text(encoding="utf-8")
    assert "| counted by | dev fine | dev coarse | dev places |" in card
    assert "- training, coarse: 9 documents, 27 names\n" in card
    assert "- dev, places: 10 documents, 10 names\n" in card
    assert "- files: `fine.jsonl`, `coarse.jsonl`, `places.jsonl`\n" in card


def test_a_single_source_is_like_plain_files(wordpiece_encoder: Path) -> None:
    source = {"files": "fine.jsonl", "dev_share": 0.2}
    (result,) = finetune(settings(wordpiece_encoder, train=[source]))
    assert scored_parts([result]) == ["dev"]
    last = [event for event in events("run") if "eval_strict_f1" in event][-1]
    assert {key for key in last if key.startswith("eval_")} == {
        f"eval_strict_{metric}" for metric in ("f1", "precision", "recall")
    }


def weights(folder: str) -> dict[str, torch.Tensor]:
    return load_file(f"{folder}/model.safetensors") | load_file(f"{folder}/proclitic_head.safetensors")


def test_a_killed_and_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    wordpiece_encoder: Path, kill_command: Callable[..., None]
) -> None:
    # Enough epochs that a busy machine does not finish the run before it is killed.
    trainer = {"num_train_epochs": 6, "learning_rate": 5e-3, "per_device_train_batch_size": 4}
    whole, killed = (settings(wordpiece_encoder, output=name, trainer=trainer) for name in ("whole", "killed"))
    finetune(whole)
    Path("killed.yaml").write_text(killed.to_yaml(), encoding="utf-8")
    checkpoints = Path("killed/seed-1/training").absolute()
    kill_command("train", "killed.yaml", folder=checkpoints, pattern="checkpoint-*/trainer_state.json")
    assert not Path("killed/seed-1/scores.json").exists(), "the run ended before it was killed"
    finetune(killed, resume=True)
    before, after = weights("whole"), weights("killed")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_is_not_resumed_with_other_documents_or_tables(wordpiece_encoder: Path) -> None:
    finetune(settings(wordpiece_encoder))
    recorded = json.loads(Path("run/inputs.json").read_text(encoding="utf-8"))
    other = settings(wordpiece_encoder, train=sources(allows={"LOC": ["GPE"], "MISC": ["EVENT"]}))
    with pytest.raises(InputError, match="other settings for data"):
        finetune(other, resume=True)
    write_jsonl((article(number, place="LOC") for number in range(101, 113)), "coarse.jsonl")
    with pytest.raises(InputError, match="changed since the run was started: training data, development data"):
        finetune(settings(wordpiece_encoder), resume=True)
    assert "sources" in recorded


def test_every_key_of_a_source_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
    section = text.partition("\n## Several corpora")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[\w`, ]+`) \|", section, re.MULTILINE)
    assert {key.strip("`") for row in rows for key in row.split(", ")} == set(SourceConfig.model_fields)
