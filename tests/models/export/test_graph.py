"""Exported graphs: encoder families, layers that int8 leaves in floating point, and detection of wrong graphs."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    AutoConfig,
    DistilBertConfig,
    DistilBertForTokenClassification,
    ElectraConfig,
    ElectraForTokenClassification,
    PreTrainedTokenizerBase,
)

from musamma.data.corpora import load_khabar
from musamma.data.errors import InputError
from musamma.data.normalization import install_normalizer
from musamma.data.tags import TagSet
from musamma.data.windows import DocumentTokenizer
from musamma.models.checkpoint import build_classifier, load_classifier, load_tokenizer
from musamma.models.classifier import TokenClassifier
from musamma.models.export.graph import TraceableClassifier, convert_openvino, save_openvino, write_exported
from musamma.models.export.quantize import sample_windows, select_float_layers
from musamma.models.export.verify import build_excerpts, compare_predictors
from musamma.models.loading import load_predictor
from musamma.models.optional_packages import disable_telemetry, require_packages
from musamma.models.window_options import WindowOptions
from tests.support import write_random_checkpoint

disable_telemetry()
pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")

TAGS = TagSet.from_labels(["PER", "LOC"])
OPTIONS = WindowOptions(max_length=64, overlap=16)
FAMILIES = ["bert", "roberta", "electra", "distilbert"]


def widened(classifier: TokenClassifier) -> TokenClassifier:
    """The same classifier with heads that find names in any text."""
    torch.nn.init.normal_(classifier.backbone.classifier.weight, std=0.5)
    if classifier.proclitic_head is not None:
        torch.nn.init.normal_(classifier.proclitic_head.weight, std=0.5)
    return classifier.eval()


@pytest.fixture(scope="module")
def classifiers(wordpiece_encoder: Path, unigram_encoder: Path) -> dict[str, tuple[TokenClassifier, Path]]:
    """Small random classifiers by family, with the folder of their tokenizer."""
    torch.manual_seed(3)
    vocabulary = AutoConfig.from_pretrained(wordpiece_encoder).vocab_size
    names = {"id2label": TAGS.id2label, "label2id": TAGS.label2id}
    electra = ElectraConfig(
        vocab_size=vocabulary,
        embedding_size=24,
        hidden_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=96,
        max_position_embeddings=128,
        **names,
    )
    distilbert = DistilBertConfig(
        vocab_size=vocabulary, dim=48, n_layers=2, n_heads=4, hidden_dim=96, max_position_embeddings=128, **names
    )
    return {
        "bert": (widened(build_classifier(str(wordpiece_encoder), TAGS)), wordpiece_encoder),
        "roberta": (widened(build_classifier(str(unigram_encoder), TAGS)), unigram_encoder),
        "electra": (widened(TokenClassifier(ElectraForTokenClassification(electra))), wordpiece_encoder),
        "distilbert": (
            widened(TokenClassifier(DistilBertForTokenClassification(distilbert), proclitics=False)),
            wordpiece_encoder,
        ),
    }


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    return install_normalizer(load_tokenizer(str(folder)))


@pytest.fixture(params=FAMILIES)
def case(request, classifiers, tmp_path):
    """A checkpoint's folder, its classifier and tokenizer, and an empty folder."""
    classifier, encoder = classifiers[request.param]
    checkpoint, target = tmp_path / "checkpoint", tmp_path / "export"
    classifier.save_pretrained(checkpoint, tokenizer_of(encoder), OPTIONS)
    target.mkdir()
    return checkpoint, classifier, tokenizer_of(encoder), target


def parity_of(checkpoint: Path, target: Path, *, windows: int = 60):
    reference = load_predictor(str(checkpoint), device="cpu", bfloat16=False)
    exported = load_predictor(str(target), bfloat16=False)
    return compare_predictors(reference, exported, build_excerpts(load_khabar("dev"), reference, windows=windows))


@pytest.mark.parametrize("runtime", ["openvino", "onnx"])
def test_a_graph_agrees_with_its_checkpoint(case, runtime, capfd):
    checkpoint, classifier, tokenizer, target = case
    write_exported(classifier, OPTIONS, tokenizer, target, runtime=runtime)
    parity = parity_of(checkpoint, target)
    assert parity.fault() is None
    assert parity.windows >= 60
    assert parity.names > 20
    assert parity.names_agreeing > 0.99
    assert capfd.readouterr() == ("", "")
    config = AutoConfig.from_pretrained(target)
    assert config.musamma["encoding"] == {"max_length": 64, "overlap": 16}
    assert config.musamma["export"] == {
        "format": 1,
        "runtime": runtime,
        "quantization": None,
        "proclitics": classifier.proclitic_head is not None,
    }
    assert "export" not in (getattr(classifier.config, "musamma", None) or {})
    assert not list(target.glob("*.safetensors"))


@pytest.fixture(scope="module")
def nested_checkpoint(wordpiece_encoder, tmp_path_factory):
    """A random checkpoint with a head for nested names."""
    folder = tmp_path_factory.mktemp("nested-checkpoint")
    return write_random_checkpoint(folder, wordpiece_encoder, head_std=0.5, proclitic_std=0.5, nested=("GPE", "PER"))


@pytest.mark.parametrize(("runtime", "quantize"), [("openvino", False), ("onnx", False), ("openvino", True)])
def test_a_graph_has_the_logits_of_nested_names(nested_checkpoint, tmp_path, runtime, quantize):
    classifier, options = load_classifier(str(nested_checkpoint))
    tokenizer, windows = load_tokenizer(str(nested_checkpoint)), []
    if quantize:
        windows = sample_windows(
            load_khabar("train")[:3], DocumentTokenizer(tokenizer, max_length=64, overlap=16), limit=12
        )
    write_exported(classifier, options, tokenizer, tmp_path, runtime=runtime, samples=windows, quantize=quantize)
    config = AutoConfig.from_pretrained(tmp_path).musamma
    assert config["nested"] == {"labels": ["GPE", "PER"]}
    assert "is_local" not in (tmp_path / "tokenizer_config.json").read_text(encoding="utf-8")
    assert config["export"]["nested"] is True
    document = load_khabar("dev")[0].with_spans(())
    (found,), (exported,) = (
        list(load_predictor(str(model), device="cpu", bfloat16=False).predict([document]))
        for model in (nested_checkpoint, tmp_path)
    )
    assert len(found.nested) > 3
    if quantize:
        assert exported.nested
        return
    assert [span.key for span in exported.nested] == [span.key for span in found.nested]
    parity = parity_of(nested_checkpoint, tmp_path)
    assert parity.fault() is None
    assert 0 < (parity.nested_mean_difference or 0.0) < 0.01
    # The weights of another head give another graph.
    torch.nn.init.normal_(classifier.nested_head.weight, std=0.5)
    classifier.save_pretrained(tmp_path / "other", tokenizer, options)
    assert "its nested names differ" in (parity_of(tmp_path / "other", tmp_path).fault() or "")


def test_int8_for_openvino_is_smaller_and_close(case):
    checkpoint, classifier, tokenizer, target = case
    windows = sample_windows(
        load_khabar("train")[:3], DocumentTokenizer(tokenizer, max_length=64, overlap=16), limit=12
    )
    write_exported(classifier, OPTIONS, tokenizer, target, runtime="openvino", samples=windows, quantize=True)
    parity = parity_of(checkpoint, target)
    assert parity.words_agreeing > 0.95
    assert parity.mean_difference > 1e-5  # otherwise nothing was quantised
    graph = (target / "openvino_model.xml").read_text()
    # In each of two layers the inputs of queries, keys and values, of their output, of the up-projection, and in the second layer those of the
    # down-projection; Electra's embeddings are projected, too. Queries and keys themselves are left alone.
    expected = 8 if classifier.config.model_type == "electra" else 7
    assert graph.count('type="FakeQuantize"') == expected


def test_int8_for_onnx_leaves_float_layers_alone(classifiers, tmp_path):
    onnx = pytest.importorskip("onnx")
    classifier, encoder = classifiers["bert"]
    write_exported(classifier, OPTIONS, tokenizer_of(encoder), tmp_path, runtime="onnx", quantize=True)
    operations = [node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node]
    # Two layers of six matrices each, less both down-projections; the heads are in floating point.
    assert operations.count("MatMulInteger") == 10
    assert sorted(path.name for path in tmp_path.glob("*.onnx")) == ["model.onnx"]


@pytest.mark.parametrize(
    ("family", "down"),
    [
        ("bert", "backbone.bert.encoder.layer.{}.output.dense"),
        ("roberta", "backbone.roberta.encoder.layer.{}.output.dense"),
        ("electra", "backbone.electra.encoder.layer.{}.output.dense"),
        ("distilbert", "backbone.distilbert.transformer.layer.{}.ffn.lin2"),
    ],
)
def test_heads_and_the_first_down_projections_stay_in_floating_point(classifiers, family, down):
    heads = ["backbone.classifier", "proclitic_head"][: 1 if family == "distilbert" else 2]
    # The share is rounded up: of two layers, three quarters are both.
    for share, layers in ((0.0, 0), (0.3, 1), (0.5, 1), (0.75, 2)):
        expected = [*(down.format(layer) for layer in range(layers)), *heads]
        assert list(select_float_layers(classifiers[family][0], share=share)) == expected


class Maskless(TraceableClassifier):
    """A graph that treats padding as text."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return super().forward(input_ids, torch.ones_like(attention_mask) + 0 * attention_mask)


def test_a_graph_that_ignores_its_mask_is_detected(classifiers, tmp_path):
    classifier, encoder = classifiers["bert"]
    classifier = copy.deepcopy(classifier)
    with torch.no_grad():  # in a random encoder attention has almost no effect
        for layer in classifier.backbone.bert.encoder.layer:
            layer.attention.self.value.weight *= 10
            layer.attention.output.dense.weight *= 10
    classifier.save_pretrained(tmp_path / "checkpoint", tokenizer_of(encoder), OPTIONS)
    (tmp_path / "export").mkdir()
    write_exported(classifier, OPTIONS, tokenizer_of(encoder), tmp_path / "export", runtime="openvino")
    assert parity_of(tmp_path / "checkpoint", tmp_path / "export").fault() is None
    save_openvino(convert_openvino(Maskless(classifier)), tmp_path / "export" / "openvino_model.xml")
    assert "padding changes" in parity_of(tmp_path / "checkpoint", tmp_path / "export").fault()


def test_a_graph_with_other_weights_is_detected(classifiers, tmp_path):
    classifier, encoder = classifiers["bert"]
    classifier.save_pretrained(tmp_path / "checkpoint", tokenizer_of(encoder), OPTIONS)
    other = copy.deepcopy(classifier)
    with torch.no_grad():
        weight = other.backbone.classifier.weight
        weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    (tmp_path / "export").mkdir()
    write_exported(other, OPTIONS, tokenizer_of(encoder), tmp_path / "export", runtime="openvino")
    assert "predictions differ from the checkpoint's" in parity_of(tmp_path / "checkpoint", tmp_path / "export").fault()


def test_sample_windows_are_reproducible_and_require_words(wordpiece_encoder):
    encoder = DocumentTokenizer(tokenizer_of(wordpiece_encoder), max_length=64, overlap=16)
    documents = load_khabar("dev")[:2]
    first, again = (sample_windows(documents, encoder, limit=5) for _ in range(2))
    assert len(first) == 5
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one["input_ids"], other["input_ids"])
        assert one["input_ids"].shape == one["attention_mask"].shape
        assert one["input_ids"].shape[0] == 1
    with pytest.raises(InputError, match="without a word"):
        sample_windows([], encoder)


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(InputError, match=r"openvino is not installed.*pip install 'musamma\[openvino\]'"):
        require_packages("openvino", extra="openvino", purpose="quantises")


def test_openvino_reports_nothing_and_leaves_the_home_folder_alone(tmp_path):
    script = (
        "from musamma.models.optional_packages import disable_telemetry as f; f(); import openvino; openvino.Core()"
    )
    subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "HOME": str(tmp_path), "CI": ""}, check=True, timeout=120
    )
    assert not list(tmp_path.glob("**/*openvino*"))
    assert not (tmp_path / "intel").exists()
