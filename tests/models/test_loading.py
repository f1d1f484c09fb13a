"""Finding and loading a model by name, folder or hub id."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RemoteEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.inference import Tagger
from musamma.models.checkpoint import build_classifier, load_classifier, load_tokenizer
from musamma.models.loading import load_predictor
from musamma.models.model_names import packaged_models, resolve_model
from tests.support import write_packed, write_random_checkpoint


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses requested from a hub that has every file."""
    addresses: list[str] = []
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: addresses.append(url))
    return addresses


def test_a_folder_comes_before_a_name_and_a_name_before_the_hub(wordpiece_encoder, tmp_path, monkeypatch, requested):
    monkeypatch.chdir(tmp_path)
    packaged = packaged_models()["nawah"]
    assert (packaged / "tokenizer.json").is_file()
    assert resolve_model("nawah") == str(packaged)
    shutil.copytree(wordpiece_encoder, "nawah")
    assert resolve_model("nawah") == "nawah"
    shutil.copytree(wordpiece_encoder, "owner/name")
    assert resolve_model("owner/name") == "owner/name"
    assert requested == []
    assert resolve_model("owner/other") == "owner/other"
    assert [address.split("/", 3)[3] for address in requested] == ["owner/other/resolve/main/config.json"]


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """An installation that includes no model yet."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.setattr("musamma.models.model_names.packaged_folder", lambda: folder)
    return folder


def test_the_packaged_tagger_tags_where_no_model_is_named(package, checkpoint, known, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        Tagger()
    assert str(caught.value) == (
        f"nawah-ner: this installation does not include the model; expected its folder {package / 'nawah-ner'}; "
        "give another `model`: a folder that musamma train wrote, or a hub id"
    )
    write_packed(checkpoint, package / "nawah-ner")
    tagger = Tagger(device="cpu")
    assert tagger.model == "nawah-ner"
    assert [span.key for span in tagger.tag(known[0].text)] == [span.key for span in known[0].spans]
    assert resolve_model("nawah-ner") == str(package / "nawah-ner")
    Path("nawah-ner").mkdir()
    Path("nawah-ner/notes.txt").touch()  # a folder that is no model does not hide it
    assert resolve_model("nawah-ner") == str(package / "nawah-ner")
    for file in ("run.yaml", "nested_head.safetensors"):
        Path("nawah-ner", file).touch()
        with pytest.raises(InputError, match=r"^nawah-ner: the folder holds"):
            resolve_model("nawah-ner")
        Path("nawah-ner", file).unlink()
    shutil.rmtree("nawah-ner")
    shutil.copytree(checkpoint, "nawah-ner")  # a folder of that name comes first, as for every packaged model
    assert resolve_model("nawah-ner") == "nawah-ner"


def test_a_tilde_is_the_home_folder(wordpiece_encoder, monkeypatch):
    monkeypatch.setenv("HOME", str(wordpiece_encoder.parent))
    assert resolve_model(f"~/{wordpiece_encoder.name}") == str(wordpiece_encoder)


def test_a_name_that_is_not_a_model_is_an_error(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="an empty name; expected a folder, a hub id"):
        resolve_model("")
    Path("empty").mkdir()
    Path("other").mkdir()
    Path("other/model.safetensors").write_bytes(b"")
    Path("run").mkdir()
    Path("run/run.yaml").write_text("encoder: nawah", encoding="utf-8")
    for name, message in {
        "empty": "empty: the folder is empty; expected a folder with config.json, model.safetensors and tokenizer.json",
        "other": "other: the folder holds no config.json; expected",
        "run": "run: the folder holds an unfinished training run.*resume the run with musamma train",
        "other/model.safetensors": r"other/model\.safetensors: a file; .*give the folder that holds the file",
        "./nowhere": r"\./nowhere: no such folder; check the path",
        "runs/a/b": "runs/a/b: no such folder; check the path",
        "arabert": r"arabert: no such model; expected a folder, a hub id \(owner/name\), or a packaged model .*nawah",
    }.items():
        with pytest.raises(InputError, match=f"^{message}"):
            resolve_model(name)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (GatedRepoError, r"owner/name: .* granted access; request access on the model's page, then run hf auth login"),
        (RepositoryNotFoundError, "owner/name: neither a folder nor a model on the Hugging Face hub; .*check the name"),
        (RemoteEntryNotFoundError, "owner/name: neither a folder nor a model on the Hugging Face hub"),
    ],
)
def test_a_model_the_hub_does_not_provide_is_an_error(monkeypatch, error, message):
    def failing(url, timeout):
        raise error.__new__(error)  # the constructor requires a response, which is not read here

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", failing)
    with pytest.raises(InputError, match=f"^{message}"):
        resolve_model("owner/name")


def test_a_hub_that_does_not_answer_is_asked_only_once(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub, "hf_hub_url", lambda name, file: f"http://127.0.0.1:9/{name}/{file}")
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)  # between two attempts
    with pytest.raises(InputError, match=r"hub cannot be reached \(ConnectError: .*check the name and the connection"):
        resolve_model("owner/name")
    assert waits == []


def test_offline_a_hub_id_is_found_in_the_cache(wordpiece_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(InputError, match=r"the Hugging Face hub cannot be reached \(HF_HUB_OFFLINE is set\)"):
        resolve_model("owner/name")
    repository = tmp_path / "models--owner--name"
    snapshot = repository / "snapshots" / "abc"
    shutil.copytree(wordpiece_encoder, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc", encoding="utf-8")
    assert resolve_model("owner/name") == str(snapshot)


@pytest.mark.parametrize("name", ["owner/na me", "owner/-x", "owner/a..b"])
def test_an_invalid_hub_id_is_an_error(name):
    with pytest.raises(InputError, match=f"^{name}: neither a folder nor a model on the Hugging Face hub"):
        resolve_model(name)


def test_a_tokenizer_is_loaded_or_reported_missing(any_encoder, tmp_path):
    text = "وصل محمد إلى بغداد"
    assert load_tokenizer(str(any_encoder))(text) == AutoTokenizer.from_pretrained(any_encoder)(text)
    shutil.copytree(any_encoder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "tokenizer.json").write_text('{"version": ', encoding="utf-8")
    with pytest.raises(InputError, match=f"^{tmp_path}: cannot be loaded: .*copy it anew"):
        load_tokenizer(str(tmp_path))
    for file in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / file).unlink(missing_ok=True)
    with pytest.raises(InputError, match=f"^{tmp_path}: the checkpoint has no tokenizer; expected tokenizer.json"):
        load_tokenizer(str(tmp_path))


def test_the_default_batch_is_that_of_the_device(wordpiece_encoder, tmp_path, monkeypatch):
    checkpoint = write_random_checkpoint(tmp_path, wordpiece_encoder)

    def batch_tokens(device, **options):
        return load_predictor(str(checkpoint), device=device, bfloat16=False, **options).batch_tokens

    assert [batch_tokens("cpu", **options) for options in ({}, {"cpu_batch_tokens": 512})] == [1_024, 512]
    assert batch_tokens("cpu", batch_tokens=7, cpu_batch_tokens=512) == 7
    monkeypatch.setattr("musamma.models.runtimes.torch.choose_device", torch.device)
    monkeypatch.setattr("musamma.models.classifier.TokenClassifier.to", lambda self, device: self)  # no GPU here
    assert batch_tokens("cuda", cpu_batch_tokens=512) == 32_768
    assert batch_tokens("cuda", batch_tokens=7, cpu_batch_tokens=512) == 7


def test_a_head_keeps_the_rows_of_the_labels_that_stay(wordpiece_encoder: Path, tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", wordpiece_encoder, labels=["LOC", "PER"])
    trained = load_classifier(str(checkpoint))[0].backbone
    same = build_classifier(str(checkpoint), TagSet.from_labels(["PER", "LOC"])).backbone
    assert torch.equal(same.classifier.weight, trained.classifier.weight)

    # O, B-LOC, I-LOC, B-PER, I-PER before; O, B-EVENT, I-EVENT, B-PER, I-PER now.
    partly = build_classifier(str(checkpoint), TagSet.from_labels(["PER", "EVENT"])).backbone
    assert partly.config.id2label == {0: "O", 1: "B-EVENT", 2: "I-EVENT", 3: "B-PER", 4: "I-PER"}
    for kept in (0, 3, 4):
        assert torch.equal(partly.classifier.weight[kept], trained.classifier.weight[kept])
        assert partly.classifier.bias[kept] == trained.classifier.bias[kept]
    # The head of the checkpoint was drawn with a standard deviation of 2.
    assert partly.classifier.weight[1:3].std().item() < 0.1

    other = build_classifier(str(checkpoint), TagSet.from_labels(["ORG", "PROD", "FAC"])).backbone
    assert other.classifier.weight.shape[0] == len(other.config.id2label) == 7
    assert other.classifier.weight.std().item() < 0.1
    assert not other.classifier.bias.any()
    weights = other.base_model.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in trained.base_model.state_dict().items())


def test_the_other_heads_are_kept(any_encoder: Path, tmp_path: Path) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", any_encoder, nested=["GPE", "PER"])
    trained, _ = load_classifier(str(checkpoint))
    assert trained.proclitic_head is not None
    assert trained.nested_head is not None
    kept = build_classifier(str(checkpoint), trained.nested_tag_set, nested=TagSet.from_labels(["PER", "ORG"]))
    assert kept.proclitic_head is not None
    assert kept.nested_head is not None
    assert torch.equal(kept.proclitic_head.weight, trained.proclitic_head.weight)
    # O, B-GPE, I-GPE, B-PER, I-PER before; O, B-ORG, I-ORG, B-PER, I-PER now.
    for row in (0, 3, 4):
        assert torch.equal(kept.nested_head.weight[row], trained.nested_head.weight[row])
    assert not torch.equal(kept.nested_head.weight[1:3], trained.nested_head.weight[1:3])
    without = build_classifier(str(checkpoint), trained.nested_tag_set, proclitics=False)
    assert without.proclitic_head is None
    assert without.nested_head is None


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
@pytest.mark.parametrize(
    ("file", "tensor", "remedy"),
    [
        ("model.safetensors", "classifier.bias", "copy it anew"),
        ("proclitic_head.safetensors", "weight", "copy the checkpoint anew, or delete the file to tag whole words"),
        (
            "nested_head.safetensors",
            "bias",
            "copy the checkpoint anew, or delete 'musamma.nested' in config.json to find no nested names",
        ),
    ],
)
def test_a_head_that_is_not_finite_is_an_error(
    any_encoder: Path, tmp_path: Path, file: str, tensor: str, remedy: str, value: float
) -> None:
    """Its names would be wrong or missing, without a word."""
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", any_encoder, nested=["PER"])
    load_classifier(str(checkpoint))
    weights = load_file(checkpoint / file)
    weights[tensor].view(-1)[-1] = value
    save_file(weights, checkpoint / file, metadata={"format": "pt"})
    with pytest.raises(InputError) as caught:
        load_classifier(str(checkpoint))
    assert str(caught.value) == f"{checkpoint / file}: the weights {tensor} are not all finite; {remedy}"


def test_a_head_that_is_not_finite_is_not_trained_on_but_may_be_replaced(
    wordpiece_encoder: Path, tmp_path: Path
) -> None:
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint", wordpiece_encoder, labels=["LOC", "PER"])
    weights = load_file(checkpoint / "model.safetensors")
    weights["classifier.bias"][0] = torch.nan
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"model\.safetensors: the weights classifier\.bias are not all finite"):
        build_classifier(str(checkpoint), TagSet.from_labels(["LOC", "PER"]))
    build_classifier(str(checkpoint), TagSet.from_labels(["ORG", "PROD"]))
