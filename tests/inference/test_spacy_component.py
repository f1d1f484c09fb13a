"""The spaCy component, in pipelines of the real spaCy."""

from __future__ import annotations

import pickle
import shutil
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from musamma.data.document import Span
from musamma.data.errors import InputError
from musamma.inference import Tagger

pytest.importorskip("spacy")

import spacy
from spacy.tokens import Doc, DocBin

from musamma.inference.spacy_component import NameComponent, create_name_component
from tests.support import run_python

ROOT = Path(__file__).parents[2]
TEXTS = ["", " \n\t ", "قال 😀 محمد  السعيد في \u202bبيروت\u202c\r\n(والموصل)، «القاهرة».", "\ufeffبالإسكندرية\u200f"]


@pytest.fixture(scope="module")
def tagger(checkpoint: Path) -> Tagger:
    return Tagger(str(checkpoint), device="cpu", bfloat16=False)


@pytest.fixture(scope="module")
def pipeline(checkpoint: Path) -> spacy.Language:
    nlp = spacy.blank("ar")
    nlp.add_pipe("musamma_ner", config={"model": str(checkpoint), "device": "cpu"})
    return nlp


class FixedTagger:
    """Finds given names in every text."""

    labels = ("LOC", "PER")

    def __init__(self, *names: Span) -> None:
        self.names = list(names)

    def tag(self, text: str) -> list[Span]:
        return self.names


def exact(doc: Doc) -> list[tuple[int, int, str]]:
    return [(name["start"], name["end"], name["label"]) for name in doc._.musamma]


def entities(doc: Doc) -> list[tuple[str, str]]:
    return [(entity.text, entity.label_) for entity in doc.ents]


def test_the_entry_point_names_the_factory() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (given,) = project["entry-points"]["spacy_factories"].items()
    assert EntryPoint(*given, group="spacy_factories").load() is create_name_component
    assert spacy.Language.has_factory(given[0])


def test_pipelines_without_the_component_do_not_load_transformers() -> None:
    script = "import sys, musamma.inference.spacy_component; print('transformers' in sys.modules)"
    done = run_python("-c", script)
    assert (done.returncode, done.stdout.strip()) == (0, "False")


def test_without_a_model_the_packaged_tagger_is_loaded(monkeypatch, checkpoint, tmp_path, known) -> None:
    shutil.copytree(checkpoint, tmp_path / "nawah-ner")
    monkeypatch.setattr("musamma.models.model_names.packaged_folder", lambda: tmp_path)
    nlp = spacy.blank("ar")
    nlp.add_pipe("musamma_ner")
    assert exact(nlp(known[0].text)) == [span.key for span in known[0].spans]


def test_names_are_those_of_the_tagger_one_by_one_and_in_a_stream(pipeline, tagger, known):
    texts = [*(document.text for document in known), *TEXTS] * 3
    expected = [[span.key for span in tagger.tag(text)] for text in texts]
    assert any(expected)
    assert [exact(pipeline(text)) for text in texts] == expected
    docs = list(pipeline.pipe(iter(texts), batch_size=2))
    assert [doc.text for doc in docs] == texts
    assert [exact(doc) for doc in docs] == expected
    for doc in docs:
        group = doc.spans["musamma"]
        assert len(group) == len(group.attrs["scores"]) == len(doc._.musamma)
        for token_span, score, name in zip(group, group.attrs["scores"], doc._.musamma, strict=True):
            assert token_span.start_char <= name["start"] < name["end"] <= token_span.end_char
            assert token_span.label_ == name["label"]
            assert score == pytest.approx(name["score"])
            assert doc.char_span(name["start"], name["end"], alignment_mode="expand").text == token_span.text


def test_proclitics_are_in_the_tokens_and_not_in_the_exact_names(pipeline, known):
    doc = pipeline(known[0].text)
    assert entities(doc) == [("محمد السعيد", "PER"), ("بيروت", "LOC"), ("وبغداد", "LOC")]
    assert [doc.text[start:end] for start, end, _ in exact(doc)] == ["محمد السعيد", "بيروت", "بغداد"]
    assert [token.ent_iob_ for token in doc] == ["O", "B", "I", "O", "B", "B", "O"]


@pytest.mark.parametrize(
    ("mode", "found"),
    [
        ("expand", [("محمد السعيد", "PER"), ("والموصل", "LOC")]),
        ("strict", [("محمد السعيد", "PER")]),
        ("contract", [("محمد السعيد", "PER")]),
    ],
)
def test_alignment_modes_decide_the_entities_alone(mode, found):
    text = "وصل محمد السعيد والموصل"
    doc = NameComponent(FixedTagger(Span(4, 15, "PER", 0.9), Span(17, 23, "LOC", 0.8)), alignment_mode=mode)(
        spacy.blank("ar")(text)
    )
    assert entities(doc) == found
    assert exact(doc) == [(4, 15, "PER"), (17, 23, "LOC")]
    assert [span.text for span in doc.spans["musamma"]] == ["محمد السعيد", "والموصل"]


def test_two_names_in_one_token_are_both_kept_outside_the_entities():
    doc = NameComponent(FixedTagger(Span(0, 5, "LOC", 0.9), Span(6, 12, "LOC", 0.8)))(spacy.blank("ar")("بيروت_الموصل"))
    assert len(doc) == 1
    assert entities(doc) == [("بيروت_الموصل", "LOC")]
    assert exact(doc) == [(0, 5, "LOC"), (6, 12, "LOC")]
    assert len(doc.spans["musamma"]) == 2


def test_entities_set_earlier_are_kept():
    nlp = spacy.blank("ar")
    nlp.add_pipe("entity_ruler").add_patterns([{"label": "CITY", "pattern": "بيروت"}])
    doc = NameComponent(FixedTagger(Span(0, 4, "PER", 0.9), Span(5, 10, "LOC", 0.8)))(nlp("محمد بيروت"))
    assert entities(doc) == [("محمد", "PER"), ("بيروت", "CITY")]
    assert exact(doc) == [(0, 4, "PER"), (5, 10, "LOC")]


def test_a_pipeline_on_disk_finds_the_same_names(pipeline, known, tmp_path):
    pipeline.to_disk(tmp_path / "pipeline")
    loaded = spacy.load(tmp_path / "pipeline")
    for document in known:
        assert exact(loaded(document.text)) == exact(pipeline(document.text)) == [span.key for span in document.spans]
    assert not [path for path in (tmp_path / "pipeline").rglob("*") if path.suffix == ".safetensors"]


def test_a_component_can_be_pickled(pipeline, known):
    restored = pickle.loads(pickle.dumps(pipeline.get_pipe("musamma_ner")))
    assert exact(restored(pipeline.make_doc(known[0].text))) == [span.key for span in known[0].spans]
    assert restored.labels == ("LOC", "ORG", "PER")


def test_names_survive_a_doc_bin(pipeline, known):
    packed = DocBin(docs=[pipeline(known[0].text)], store_user_data=True).to_bytes()
    (doc,) = DocBin().from_bytes(packed).get_docs(pipeline.vocab)
    assert exact(doc) == [span.key for span in known[0].spans]
    assert [span.label_ for span in doc.spans["musamma"]] == [span.label for span in known[0].spans]
    assert len(doc.spans["musamma"].attrs["scores"]) == len(known[0].spans)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model": "no/such/folder"}, "no/such/folder"),
        ({"alignment_mode": "snap"}, "`alignment_mode` 'snap'; expected one of 'expand', 'strict', 'contract'"),
        ({"min_score": 2.0}, "minimum score 2; expected a number from 0 to 1"),
    ],
)
def test_invalid_settings(checkpoint, config, message):
    with pytest.raises(InputError, match=message):
        spacy.blank("ar").add_pipe("musamma_ner", config={"model": str(checkpoint), **config})
