"""Tagging with exported models: the same names as the checkpoint, from any number of threads."""

from __future__ import annotations

import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import onnx
import pytest

from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.inference import Tagger
from musamma.models.checkpoint import load_classifier, load_tokenizer
from musamma.models.export.graph import write_exported
from musamma.models.loading import load_predictor
from musamma.models.runtimes.runtime import GRAPH_FILES, Batch
from tests.support import tag_in_turns

SUFFIX = {"openvino": ".bin", "onnx": ".onnx"}


@pytest.fixture(scope="module", params=list(GRAPH_FILES))
def exported(request: pytest.FixtureRequest, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    classifier, options = load_classifier(str(checkpoint))
    write_exported(classifier, options, load_tokenizer(str(checkpoint)), folder, runtime=request.param)
    return folder


@pytest.fixture
def copy(exported: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


@pytest.fixture(scope="module")
def documents(known: list[Document]) -> list[Document]:
    """Documents of very different lengths, some without a word."""
    texts = [article.text for article in load_khabar("test")[:6]] + ["", " \n", "بغداد"]
    return [*known, *(Document(f"{number}", text) for number, text in enumerate(texts))]


def found(tagger: Tagger, documents: list[Document]) -> list[list[tuple[int, int, str]]]:
    return [[span.key for span in document.spans] for document in tagger.tag_documents(documents)]


def changed(folder: Path, **values: object) -> None:
    """Change the export entry of config.json."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["musamma"]["export"] |= values
    path.write_text(json.dumps(config), encoding="utf-8")


def test_the_names_are_those_of_the_checkpoint(checkpoint, exported, documents, known):
    ours = Tagger(str(exported), bfloat16=False)
    plain = Tagger(str(checkpoint), device="cpu", bfloat16=False)
    assert ours.labels == plain.labels
    assert [sorted(spans) for spans in found(ours, known)] == [[span.key for span in item.spans] for item in known]
    one, other = (
        {(item.id, span.key): span.score for item in tagger.tag_documents(documents) for span in item.spans}
        for tagger in (ours, plain)
    )
    # On unknown text the model is unsure, and weights in 16 bits may settle a tie differently.
    assert len(one.keys() & other.keys()) > 0.98 * len(one.keys() | other.keys()) > 100
    assert max(abs(one[name] - other[name]) for name in one.keys() & other.keys()) < 5e-3


def test_padding_makes_no_difference(exported, documents):
    alone = [found(Tagger(str(exported), bfloat16=False, batch_tokens=1), documents)]
    assert [found(Tagger(str(exported), bfloat16=False, batch_tokens=100_000), documents)] == alone


def test_threads_share_one_tagger(exported, documents):
    tagger = Tagger(str(exported), bfloat16=False, batch_tokens=64)
    expected = found(tagger, documents)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: found(tagger, documents), range(8))) == [expected] * 8


def test_steps_in_turns_give_the_result_of_the_whole(exported, documents):
    tagger = Tagger(str(exported), bfloat16=False, batch_tokens=256)
    requests = [documents, documents[4:6], documents[:4]]
    whole = [list(tagger.tag_documents(request)) for request in requests]
    assert tag_in_turns(tagger, requests) == whole


def test_the_default_batch_is_that_of_the_cpu(exported):
    assert load_predictor(str(exported), device="cpu", cpu_batch_tokens=512).batch_tokens == 512


def test_an_abandoned_stream_does_not_disturb_another(exported):
    runtime = load_predictor(str(exported), bfloat16=False).runtime

    def batches(first: int) -> list[Batch]:
        rows = [np.full((2, 8), first + number, dtype=np.int64) for number in range(12)]
        return [Batch(row, np.ones_like(row)) for row in rows]

    expected = [logits.tags.copy() for logits in runtime.stream(batches(5))]
    assert len(expected) == 12
    for _ in range(5):
        left = runtime.stream(batches(20))
        list(islice(left, 2))
        left.close()
        again = [logits.tags for logits in runtime.stream(batches(5))]
        assert all(np.allclose(one, other, atol=1e-5) for one, other in zip(expected, again, strict=True))


def test_settings_distinguish_graphs(exported, copy):
    (graph,) = (path for path in copy.iterdir() if path.suffix == SUFFIX[_runtime(copy)])
    before = Tagger(str(copy)).settings()
    assert before["runtime"] == _runtime(exported)
    if graph.suffix == ".onnx":
        # A byte that is changed anywhere may be one of the structure of the file.
        described = onnx.load(graph)
        described.doc_string = "another graph"
        onnx.save(described, graph)
    else:
        content = bytearray(graph.read_bytes())
        content[len(content) // 2] ^= 1
        graph.write_bytes(content)
    assert Tagger(str(copy)).settings()["model files"] != before["model files"]


def _runtime(folder: Path) -> str:
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))["musamma"]["export"]["runtime"]


@pytest.mark.parametrize(
    ("break_", "error"),
    [
        (lambda folder: [path.unlink() for path in folder.glob("*model*") if path.suffix in (".xml", ".onnx")], "no "),
        (lambda folder: [path.write_bytes(b"<") for path in folder.glob("*model.*")], "the graph cannot be loaded"),
        (lambda folder: changed(folder, runtime="tflite"), "'runtime' openvino or onnx"),
        (lambda folder: changed(folder, format=2), "'format' 1"),
    ],
)
def test_a_broken_export_is_an_error(copy, break_, error):
    break_(copy)
    with pytest.raises(InputError, match=error) as raised:
        Tagger(str(copy))
    assert str(copy) in str(raised.value)
    assert "export" in str(raised.value)


def test_it_runs_on_the_cpu_only(exported):
    with pytest.raises(InputError, match="give the checkpoint that it was exported from"):
        Tagger(str(exported), device="cuda")


def test_a_missing_runtime_names_the_extra(exported, monkeypatch):
    runtime = _runtime(exported)
    monkeypatch.setitem(sys.modules, {"onnx": "onnxruntime"}.get(runtime, runtime), None)
    with pytest.raises(InputError, match=rf"pip install 'musamma\[{runtime}\]'"):
        Tagger(str(exported))
