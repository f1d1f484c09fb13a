"""Packed checkpoints: what is stored, and that every way of loading one gives the stored weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForTokenClassification, AutoTokenizer

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.tags import TagSet
from musamma.inference import Tagger
from musamma.models import loading
from musamma.models.checkpoint import build_classifier, load_classifier
from musamma.models.hub_upload import collect_checkpoint
from musamma.models.model_names import HEAD_FILE, PACKED_FILE, packaged_models
from musamma.models.packed_weights import quantize_blocks, read_head, read_packed_weights, restore_blocks, unpack
from musamma.models.pretrained_encoder import load_encoder
from musamma.models.runtimes.bert_graph import build_bert_graph
from musamma.models.runtimes.openvino import OpenVinoRuntime
from musamma.models.runtimes.runtime import Batch, GraphDescription
from tests.support import file_modes, write_packed


@pytest.fixture(scope="module")
def packed(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_packed(checkpoint, tmp_path_factory.mktemp("packed"))


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(packed, tmp_path / "copy"))


@pytest.fixture
def change_config(copy: Path) -> Callable[..., None]:
    def change(**values: object) -> None:
        path = copy / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")

    return change


def found(model: Path, documents: list[Document]) -> list[list[tuple[int, int, str]]]:
    tagger = Tagger(str(model), device="cpu", bfloat16=False)
    return [[span.key for span in document.spans] for document in tagger.tag_documents(documents)]


def test_a_block_is_rounded_to_its_largest_magnitude() -> None:
    matrix = np.zeros((2, 64), dtype=np.float32)
    matrix[0, :3] = [127 / 64, -0.5, 0.03]
    matrix[0, 32] = 127
    values, scales = quantize_blocks(matrix)
    assert scales.tolist() == [[1 / 64, 1], [2**-24, 2**-24]]
    assert values[0, :3].tolist() == [127, -32, 2]
    assert (values[0, 32], values[1].any()) == (127, False)
    assert (values.dtype, scales.dtype) == (np.int8, np.float16)
    assert quantize_blocks(matrix[:, :33])[1].shape == (2, 1)  # not a multiple of 32


@given(hnp.arrays(np.float32, st.sampled_from([(2, 5), (3, 32), (1, 64)]), elements=st.floats(-1e4, 1e4, width=32)))
def test_no_value_is_off_by_more_than_half_a_step(matrix: np.ndarray) -> None:
    values, scales = quantize_blocks(matrix)
    restored = restore_blocks(values, scales)
    steps = np.repeat(scales.astype(np.float64), matrix.shape[1] // scales.shape[1], axis=1)
    assert (np.abs(restored.astype(np.float64) - matrix) <= 0.501 * steps).all()


def test_the_matrices_of_the_encoder_are_integers_and_the_heads_are_not(checkpoint, packed, tmp_path) -> None:
    before, after = load_file(checkpoint / "model.safetensors"), load_file(packed / PACKED_FILE)
    integers = {name for name, value in after.items() if value.dtype == np.int8}
    assert integers == {
        name for name, value in before.items() if value.ndim == 2 and value.size >= 1024 and "classifier" not in name
    }
    assert set(after) == set(before) | {f"{name}_scale" for name in integers}
    for name in set(before) - integers:
        np.testing.assert_array_equal(after[name], before[name])
    assert not (packed / "model.safetensors").exists()
    assert len(set(file_modes(packed).values())) == 1
    again = write_packed(checkpoint, tmp_path / "again")
    for file in packed.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes()


def test_a_classifier_has_the_stored_weights_and_the_head(packed, checkpoint, known) -> None:
    classifier, options = load_classifier(str(packed))
    stored, state = read_packed_weights(str(packed)), classifier.backbone.state_dict()
    assert set(stored) == set(state)
    for name, value in stored.items():
        np.testing.assert_array_equal(state[name].numpy(), value)
    assert classifier.config.musamma == {"format": 1, "encoding": {"max_length": 64, "overlap": 16}}
    assert (options.max_length, classifier.proclitic_head is not None) == (64, True)
    names = found(packed, known)
    assert names == found(checkpoint, known) == [[span.key for span in document.spans] for document in known]


def test_fine_tuning_starts_from_its_encoder_with_new_heads(packed) -> None:
    stored = read_packed_weights(str(packed))
    classifier = build_classifier(
        str(packed), TagSet.from_labels(["CITY"]), changes={"attention_probs_dropout_prob": 0.25}
    )
    body = classifier.backbone.base_model
    for name, value in body.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), stored[f"{classifier.backbone.base_model_prefix}.{name}"])
    assert classifier.config.id2label == {0: "O", 1: "B-CITY", 2: "I-CITY"}
    assert classifier.config.attention_probs_dropout_prob == 0.25
    assert classifier.backbone.classifier.weight.shape[0] == 3
    encoder, _ = load_encoder(str(packed))
    assert all(torch.equal(value, body.state_dict()[name]) for name, value in encoder.state_dict().items())
    with pytest.raises(InputError, match=r"encoder_config\.wings"):
        build_classifier(str(packed), TagSet.from_labels(["CITY"]), changes={"wings": 2})


def test_a_model_fine_tuned_from_it_is_a_plain_checkpoint(packed, tmp_path, known) -> None:
    classifier, options = load_classifier(str(packed))
    classifier.save_pretrained(tmp_path, AutoTokenizer.from_pretrained(packed), options)
    assert not (tmp_path / PACKED_FILE).exists()
    assert found(tmp_path, known) == found(packed, known)


def test_an_unpacked_checkpoint_is_plain_and_computes_the_same(packed, tmp_path, known) -> None:
    unpack(str(packed), tmp_path / "plain")
    model, info = AutoModelForTokenClassification.from_pretrained(tmp_path / "plain", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    expected = load_classifier(str(packed))[0].backbone.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert {path.name for path in (tmp_path / "plain").iterdir()} == {
        "model.safetensors" if path.name == PACKED_FILE else path.name for path in packed.iterdir()
    }
    assert "packed" not in json.loads((tmp_path / "plain/config.json").read_text(encoding="utf-8"))["musamma"]
    assert found(tmp_path / "plain", known) == found(packed, known)
    with safe_open(tmp_path / "plain/model.safetensors", "numpy") as file:
        assert file.metadata() == {"format": "pt"}
    with pytest.raises(InputError, match="plain: not a packed checkpoint"):
        unpack(str(tmp_path / "plain"), tmp_path / "other")
    with pytest.raises(InputError, match="a folder with files in it"):
        unpack(str(packed), tmp_path / "plain")


def test_the_graph_of_a_bert_computes_what_pytorch_does(packed) -> None:
    classifier, _ = load_classifier(str(packed))
    config = json.loads((packed / "config.json").read_text(encoding="utf-8"))
    weights, head = read_packed_weights(str(packed)), read_head(packed / HEAD_FILE)
    if config["model_type"] != "bert":
        with pytest.raises(InputError, match="model_type 'xlm-roberta', which runs in PyTorch only"):
            build_bert_graph(config, weights, {}, where="m")
        return
    # The head for nested names is a linear layer as the other one is.
    graph = build_bert_graph(config, weights, {"proclitics": head, "nested": head}, where="m")
    description = GraphDescription(runtime="openvino", quantization=None, proclitics=True, nested=True)
    runtime = OpenVinoRuntime(graph, threads=1, bfloat16=False, graph=description)
    ids = np.random.default_rng(1).integers(5, config["vocab_size"], (3, 24))
    mask = (np.arange(24) < np.array([[24], [9], [1]])).astype(np.int64)
    batches = [Batch(ids, mask), Batch(ids[1:2, :9], mask[1:2, :9])]
    for batch, computed in zip(batches, runtime.stream(batches), strict=True):
        with torch.inference_mode():
            tags, borders, _ = classifier(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))
        expected = (tags, borders, borders)
        for ours, theirs in zip(computed, expected, strict=True):
            real = batch.attention_mask.astype(bool)
            np.testing.assert_allclose(ours[real], theirs.numpy()[real], atol=1e-4)
    with pytest.raises(InputError, match=r"m: the weights or config\.json lack 'classifier\.bias'"):
        build_bert_graph(config, {k: v for k, v in weights.items() if k != "classifier.bias"}, {}, where="m")


def test_a_broken_packed_checkpoint_is_an_error(copy, change_config) -> None:
    tensors = load_file(copy / PACKED_FILE)
    name = next(name for name, value in tensors.items() if value.dtype == np.int8)
    for change, message in (
        (
            lambda: save_file({k: v for k, v in tensors.items() if k != f"{name}_scale"}, copy / PACKED_FILE),
            "no scales",
        ),
        (lambda: save_file({**tensors, name: tensors[name].reshape(-1)}, copy / PACKED_FILE), "no scales"),
        (lambda: (copy / PACKED_FILE).write_bytes(b"x"), "cannot be read: .*copy the model anew"),
        (lambda: (copy / PACKED_FILE).unlink(), "no model-int8.safetensors; .*copy the model anew"),
        (lambda: change_config(musamma={"packed": 2}), "'musamma.packed' in config.json is 2; expected 1"),
    ):
        change()
        with pytest.raises(InputError, match=message):
            Tagger(str(copy))


def test_a_checkpoint_without_a_head_that_it_needs_is_not_unpacked(copy, change_config, tmp_path) -> None:
    change_config(musamma={"packed": 1, "nested": {"labels": ["PER"]}})
    with pytest.raises(InputError, match=r"no nested_head\.safetensors; expected the head of the nested names"):
        unpack(str(copy), tmp_path / "plain")
    assert not (tmp_path / "plain").exists()


def test_weights_that_are_not_finite_are_an_error(copy) -> None:
    tensors = load_file(copy / PACKED_FILE)
    name = next(name for name, value in tensors.items() if value.dtype == np.float16)
    tensors[name][0, 0] = np.nan
    save_file(tensors, copy / PACKED_FILE)
    with pytest.raises(InputError, match=f"{PACKED_FILE}: the weights {name} are not all finite; copy the model anew"):
        Tagger(str(copy))


@pytest.fixture
def bert_copy(copy: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A packed BERT that may be changed and is loaded as if PyTorch were not installed."""
    if json.loads((copy / "config.json").read_text(encoding="utf-8"))["model_type"] != "bert":
        pytest.skip("runs in PyTorch only")
    monkeypatch.setattr(loading, "_has_checkpoint_packages", lambda: False)
    return copy


def test_a_graph_keeps_to_the_positions_of_its_encoder(bert_copy, change_config) -> None:
    config = json.loads((bert_copy / "config.json").read_text(encoding="utf-8"))
    limit = config["max_position_embeddings"]
    change_config(musamma=config["musamma"] | {"encoding": {"max_length": limit + 88, "overlap": 32}})
    assert loading.load_predictor(str(bert_copy), device="cpu").document_tokenizer.max_length == limit


def test_heads_in_half_precision_run_in_openvino(bert_copy, known) -> None:
    expected = found(bert_copy, known)
    head = load_file(bert_copy / HEAD_FILE)
    save_file({name: value.astype(np.float16) for name, value in head.items()}, bert_copy / HEAD_FILE)
    assert found(bert_copy, known) == expected


def test_a_head_that_is_not_finite_is_an_error_in_openvino(bert_copy) -> None:
    head = load_file(bert_copy / HEAD_FILE)
    head["bias"][0] = np.inf
    save_file(head, bert_copy / HEAD_FILE)
    with pytest.raises(InputError, match=f"{HEAD_FILE}: the weights bias are not all finite; copy the model anew"):
        loading.load_predictor(str(bert_copy))


@pytest.mark.parametrize(
    ("name", "rows", "error"),
    [
        ("classifier.", 2, "weights of 2 classes for the output 'tags'; expected [0-9]+, as config"),
        ("bert.encoder.layer.0.attention.self.query.", 2, "the weights have other shapes than config.json says"),
        ("bert.embeddings.position_embeddings.", 8, "the weights have other shapes than config.json says"),
    ],
)
def test_a_graph_whose_weights_do_not_fit_its_configuration_is_an_error(bert_copy, name, rows, error) -> None:
    tensors = load_file(bert_copy / PACKED_FILE)
    cut = {key: value[:rows].copy() if key.startswith(name) else value for key, value in tensors.items()}
    save_file(cut, bert_copy / PACKED_FILE)
    with pytest.raises(InputError, match=error):
        Tagger(str(bert_copy))


def test_a_graph_with_the_head_of_something_else_is_an_error(bert_copy) -> None:
    head = load_file(bert_copy / HEAD_FILE)
    save_file({name: value[:2].copy() for name, value in head.items()}, bert_copy / HEAD_FILE)
    with pytest.raises(InputError, match="weights of 2 classes for the output 'proclitics'; expected 3"):
        Tagger(str(bert_copy))


def test_a_packed_checkpoint_is_not_uploaded(copy) -> None:
    (copy / "README.md").write_text("card", encoding="utf-8")
    with pytest.raises(InputError, match=r"only Musamma reads; .*write one with musamma unpack"):
        collect_checkpoint(copy, "owner/name")


@pytest.mark.parametrize("name", packaged_models())
def test_packaged_models_are_complete(name) -> None:
    folder = packaged_models()[name]
    assert {"README.md", "LICENSE", "config.json", "tokenizer.json", "run.yaml"} <= {
        file.name for file in folder.iterdir()
    }
    assert "license:" in (folder / "README.md").read_text(encoding="utf-8").split("---")[1]
    if (folder / PACKED_FILE).is_file():
        assert sum(file.stat().st_size for file in folder.glob("*.safetensors")) < 35_000_000
        assert f'Tagger("{name}")' in (folder / "README.md").read_text(encoding="utf-8")
        text = "وصل أنتوني بلينكن إلى الرياض"
        assert "الرياض" in {text[span.start : span.end] for span in Tagger(name, device="cpu").tag(text)}
