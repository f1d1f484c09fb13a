"""Adapters of other systems to this project's documents.

Fakes with the return types of the libraries' sources stand in for Stanza, CAMeL Tools and GLiNER: nothing can be downloaded in a
test. spaCy, if installed, and the pipeline are real.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForTokenClassification

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from tests.benchmarks.peer_modules import camel, gliner, ours, pipeline, spacy, stanza
from tests.support import surfaces

TEXT = "وصل محمد السعيد إلى بيروت، ثم غادر إلى بغداد."

# The pipeline and our own tagger

CITY, PERSON, SURNAME = "بغداد", "محمد", "السعيد"
FILLER = "اجتماع في"


@pytest.fixture(scope="module")
def lookup(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that recognises names by the first pieces of their words, at any position of its window of 128 pieces."""
    folder = tmp_path_factory.mktemp("lookup")
    tokenizer = AutoTokenizer.from_pretrained(wordpiece_encoder)
    labels = ["O", "B-LOC", "B-PER", "I-PER", "I-LOC"]
    config = BertConfig.from_pretrained(wordpiece_encoder, id2label=dict(enumerate(labels)))
    torch.manual_seed(1)
    model = BertForTokenClassification(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # With these at zero, the vectors of the pieces reach the classifier unchanged.
            if "position_embeddings" in name or "token_type" in name or ("output.dense" in name):
                weight.zero_()
        first = [tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in (CITY, PERSON, SURNAME)]
        vectors = model.bert(torch.tensor([first]))[0][0]
        model.classifier.weight.zero_()
        model.classifier.weight[1:4] = 20 * vectors / vectors.norm(dim=1, keepdim=True) ** 2
        model.classifier.bias.copy_(torch.tensor([16.0, 0.0, 0.0, 0.0, 0.0]))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_pipeline_reads_texts_longer_than_its_window(lookup: Path) -> None:
    text = f"{FILLER} و{PERSON} {FILLER} {PERSON} {SURNAME}، {PERSON} {SURNAME} {FILLER} {CITY}\n" * 20
    given = Document("long", text, (Span(0, 3, "OLD"),), meta={"source": "x"})
    long, blank = pipeline.tag([given, Document("blank", " \n")], model=str(lookup), device="cpu")
    assert len(AutoTokenizer.from_pretrained(lookup)(text)["input_ids"]) > 3 * 128
    matches = re.finditer(f"{PERSON} {SURNAME}|{CITY}", text)
    expected = [(m.start(), m.end(), "LOC" if m[0] == CITY else "PER") for m in matches]
    assert [span.key for span in long.spans] == expected
    assert all(0.5 < span.score <= 1 for span in long.spans)
    assert long.text == text
    assert long.meta == {"source": "x"}
    assert blank == Document("blank", " \n")


def test_the_pipelines_window_is_the_position_table_unless_a_length_is_stated() -> None:
    assert pipeline.window_length(512, {"max_position_embeddings": 514}) == 512
    assert pipeline.window_length(int(1e30), {"max_position_embeddings": 514}) == 512
    assert pipeline.window_length(int(1e30), {}) == 512


def test_tags_that_the_pipeline_would_not_join_are_an_error(lookup: Path, tmp_path: Path) -> None:
    model = BertForTokenClassification.from_pretrained(lookup)
    model.config.id2label = {0: "O", 1: "B-LOC", 2: "I-LOC", 3: "E-LOC", 4: "S-LOC"}
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(lookup).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="labels with the prefix 'E'"):
        pipeline.tag([], model=str(tmp_path), device="cpu")


def test_our_tagger_is_a_peer(lookup: Path) -> None:
    document = Document("d", f"{FILLER} {CITY}", (Span(0, 3, "OLD"),))
    (found,) = ours.tag([document], model=str(lookup), device="cpu")
    assert surfaces(found) == [(CITY, "LOC")]


# spaCy


def test_spacy_itself_with_rules(tmp_path: Path) -> None:
    library = pytest.importorskip("spacy")
    nlp = library.blank("ar")
    rules = [{"label": "PER", "pattern": "محمد السعيد"}, {"label": "LOC", "pattern": "بيروت"}]
    nlp.add_pipe("entity_ruler").add_patterns(rules)
    nlp.to_disk(tmp_path / "rules")
    documents = [Document("a", TEXT), Document("b", ""), Document("c", f"😀 {TEXT}")]
    first, blank, last = spacy.tag(documents, model=str(tmp_path / "rules"), device="cpu")
    assert surfaces(first) == surfaces(last) == [("محمد السعيد", "PER"), ("بيروت", "LOC")]
    assert not blank.spans


def test_a_fake_of_spacy(fake_module: Callable[..., None]) -> None:
    devices = []

    class Pipeline:
        def pipe(self, texts) -> Iterator[SimpleNamespace]:
            for text in texts:
                at = text.index("بيروت")
                yield SimpleNamespace(
                    ents=(SimpleNamespace(start_char=at, end_char=at + 5, label_="GPE", text="بيروت"),)
                )

    fake_module(
        "spacy",
        load=lambda name: Pipeline(),
        require_cpu=lambda: devices.append("cpu"),
        require_gpu=devices.append,
    )
    (found,) = spacy.tag([Document("d", TEXT)], model="mine", device="cpu")
    assert surfaces(found) == [("بيروت", "GPE")]
    for device in ("cuda", "cuda:1"):
        spacy.tag([], model="mine", device=device)
    assert devices == ["cpu", 0, 1]


# Stanza


def test_a_fake_of_stanza(fake_module: Callable[..., None]) -> None:
    options_of = {}

    class Pipeline:
        def __init__(self, lang, **options) -> None:
            options_of.update(lang=lang, **options)

        def bulk_process(self, docs: list[str]) -> list[SimpleNamespace]:
            assert all(isinstance(text, str) and text.strip() for text in docs)
            return [SimpleNamespace(ents=[self.span(text, "محمد السعيد", "PER")]) for text in docs]

        def span(self, text: str, surface: str, type: str) -> SimpleNamespace:
            at = text.index(surface)
            return SimpleNamespace(start_char=at, end_char=at + len(surface), type=type, text=surface)

    methods = SimpleNamespace(REUSE_RESOURCES="reuse")
    fake_module("stanza", Pipeline=Pipeline, DownloadMethod=methods)
    found, blank = stanza.tag([Document("a", TEXT), Document("b", "\n")], model="aqmar_charlm", device="cuda:0")
    assert surfaces(found) == [("محمد السعيد", "PER")]
    assert not blank.spans
    assert (options_of["lang"], options_of["processors"]) == ("ar", "tokenize,mwt,ner")
    assert (options_of["package"], options_of["device"]) == ({"ner": "aqmar_charlm"}, "cuda:0")


# CAMeL Tools


class FakeRecognizer:
    """Behaves like ``NERecognizer``: one label per word with pieces, no score."""

    names = MappingProxyType({"محمد": "B-PERS", "السعيد": "I-PERS", "بيروت": "B-LOC", "بغداد": "I-LOC"})

    def __init__(self, model: str, use_gpu: bool) -> None:
        self.model, self.use_gpu = model, use_gpu
        self.tokenizer = SimpleNamespace(tokenize=lambda word: [] if word == "\u200f" else list(word))

    @classmethod
    def pretrained(cls, name: str | None, use_gpu: bool) -> FakeRecognizer:
        return cls(f"catalogue:{name}", use_gpu)

    def predict(self, sentences: list[list[str]]) -> list[list[str]]:
        return [[self.names.get(word, "O") for word in words if self.tokenizer.tokenize(word)] for words in sentences]


@pytest.fixture
def fake_camel(fake_module: Callable[..., None]) -> None:
    fake_module("camel_tools")
    fake_module("camel_tools.ner", NERecognizer=FakeRecognizer)
    fake_module("camel_tools.tokenizers")
    split = re.compile(r"[^\s.،؟]+|[.،؟]").findall
    fake_module("camel_tools.tokenizers.word", simple_word_tokenize=split)


@pytest.mark.usefixtures("fake_camel")
def test_a_fake_of_camel_tools() -> None:
    # A lone direction mark is a word without pieces.
    text = f"{TEXT} \u200f \u200f ثم محمد\nالسعيد؟ بيروت\n"
    documents = [Document("a", text), Document("b", " "), Document("c", "بغداد " * 60)]
    first, blank, long = camel.tag(documents, model="default", device="cpu")
    assert surfaces(first) == [
        ("محمد السعيد", "PERS"),
        ("بيروت", "LOC"),
        ("بغداد", "LOC"),
        ("محمد", "PERS"),
        ("السعيد", "PERS"),
        ("بيروت", "LOC"),
    ]
    # The tags of both بغداد and السعيد, which starts a sentence here, continue nothing.
    assert first.meta["changes"] == {"repaired_tag": 2, "word_without_label": 2}
    assert not blank.spans
    assert surfaces(long) == [(("بغداد " * 60).strip(), "LOC")]
    assert long.meta["changes"] == {"cut": 1, "repaired_tag": 1}


@pytest.mark.usefixtures("fake_camel")
@pytest.mark.parametrize(
    ("model", "loaded"),
    [
        ("default", "catalogue:None"),
        ("arabert", "catalogue:arabert"),
        ("CAMeL-Lab/bert-base-arabic-camelbert-mix-ner", "CAMeL-Lab/bert-base-arabic-camelbert-mix-ner"),
    ],
)
def test_camel_tools_models_by_catalogue_and_by_id(monkeypatch: pytest.MonkeyPatch, model: str, loaded: str) -> None:
    made = []
    create = FakeRecognizer.__init__

    def record(self, name: str, use_gpu: bool) -> None:
        create(self, name, use_gpu)
        made.append((name, use_gpu))

    monkeypatch.setattr(FakeRecognizer, "__init__", record)
    camel.tag([], model=model, device="cuda")
    assert made == [(loaded, True)]


# GLiNER


@pytest.mark.usefixtures("fake_gliner")
def test_a_fake_of_gliner_gets_passages_that_fit() -> None:
    long = f"{TEXT} {TEXT}\n" * 4 + "ثم " * 20 + "بيروت."
    documents = [Document("a", long), Document("b", ""), Document("c", TEXT)]
    model = "some/gliner#person=PER,city=GPE"
    first, blank, short = gliner.tag(documents, model=model, device="cpu")
    assert [span.key for span in first.spans] == [
        (m.start(), m.end(), "PER" if " " in m[0] else "GPE") for m in re.finditer("محمد السعيد|بيروت|بغداد", long)
    ]
    assert first.meta["changes"] == {"cut": 1}  # The sentence of 21 words; the others have 11.
    assert not blank.spans
    assert short.spans[0].score == 0.75
    assert short.meta == {}


def test_prompts_reduce_the_pieces_for_the_text(fake_gliner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    monkeypatch.setattr(
        fake_gliner, "inference", lambda self, texts, labels, **_: [parts.append(t) or [] for t in texts]
    )
    # 40 pieces less six prompts of a word and 28 special pieces leave room for six words: the sentence of eight is halved.
    model = "some/gliner#" + ",".join(f"p{number}=L{number}" for number in range(6))
    list(gliner.tag([Document("d", "واحد اثنان ثلاثة أربعة خمسة ستة سبعة ثمانية")], model=model, device="cpu"))
    assert parts == ["واحد اثنان ثلاثة أربعة", "خمسة ستة سبعة ثمانية"]


def test_prompts_that_cannot_be_parsed() -> None:
    assert gliner.parse_prompts("a/b") == ("a/b", {"person": "PER", "location": "LOC", "organization": "ORG"})
    for wrong in ("a/b#", "a/b#person", "a/b#=PER", "a/b#person=PER,person=X"):
        with pytest.raises(InputError, match="each prompt once"):
            gliner.parse_prompts(wrong)
