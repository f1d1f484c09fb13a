"""Adapters of other systems to this project's documents.

Fakes with the return types of the libraries' sources stand in for Stanza, CAMeL Tools, GLiNER and Flair: nothing can be downloaded in
a test. spaCy, if installed, CRFsuite and the pipeline are real.
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

from musamma.data.document import Document, Span, write_jsonl
from musamma.data.errors import InputError
from tests.benchmarks.peer_modules import camel, crf, flair, gliner, ours, pipeline, spacy, stanza, train_peer
from tests.support import span, surfaces

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


def test_spacy_is_trained_from_nothing(tmp_path: Path, annotated: list[Document]) -> None:
    pytest.importorskip("spacy")
    file = tmp_path / "names.jsonl"
    write_jsonl(annotated, file)
    arguments = ["spacy", "--train", str(file), "--dev", str(file), "--output", str(tmp_path / "model")]
    assert train_peer.main([*arguments, "--set", "max_steps=2"]) == 0
    (found,) = spacy.tag([annotated[0]], model=str(tmp_path / "model"), device="cpu")
    assert found.text == annotated[0].text


def test_names_to_train_spacy_take_whole_tokens(annotated: list[Document]) -> None:
    library = pytest.importorskip("spacy")
    first, second = spacy.annotate(library.blank("ar"), annotated[:2])
    assert [(entity.text, entity.label_) for entity in first.ents] == [("محمد السعيد", "PER"), ("بغداد", "LOC")]
    assert [entity.text for entity in second.ents] == ["محمد السعيد", "لبغداد"]


# Conditional random fields


@pytest.fixture
def annotated() -> list[Document]:
    """Sentences with a city, some behind a proclitic, and a person."""
    texts = ["وصل محمد السعيد إلى بغداد.", "عاد محمد السعيد من سفر لبغداد.", "مساء: وصل محمد السعيد إلى بغداد!"] * 8
    return [
        Document(str(number), text, (span(text, "محمد السعيد", "PER"), span(text, "بغداد", "LOC")))
        for number, text in enumerate(texts)
    ]


def test_a_crf_is_trained_and_tags(tmp_path: Path, annotated: list[Document]) -> None:
    file = tmp_path / "names.jsonl"
    write_jsonl(annotated, file)
    arguments = ["crf", "--train", str(file), "--output", str(tmp_path / "model")]
    assert train_peer.main([*arguments, "--set", "c1=0.01", "--set", "iterations=50"]) == 0
    text = "وصل محمد السعيد إلى بغداد، أمس.\n\nعاد محمد السعيد من سفر لبغداد."
    found, blank = crf.tag([Document("new", text), Document("blank", " ")], model=str(tmp_path / "model"), device="cpu")
    # The name ends before the comma and the full stop; behind a proclitic it takes the whole word.
    assert surfaces(found) == [("محمد السعيد", "PER"), ("بغداد", "LOC"), ("محمد السعيد", "PER"), ("لبغداد", "LOC")]
    assert not blank.spans


def test_features_of_a_word() -> None:
    first, second, third = crf.word_features(["زار", "وَالأُردن", "2013"])
    assert {
        "0:word=والاردن",
        "0:stem=اردن",
        "0:written=وَالأُردن",
        "0:shape=Arabic",
        "0:prefix=وا",
        "0:suffix=دن",
    } <= set(second)
    assert {"-1:word=زار", "1:word=2013", "1:shape=4 digits", "2:outside", "-2:outside"} <= set(second)
    assert {"-1|0:زار/والاردن", "0|1:والاردن/2013"} <= set(second)
    assert "-1:outside" in first
    assert not any(feature.startswith("-1:suffix") for feature in third)
    assert [
        next(f for f in crf.word_features([word])[0] if f.startswith("0:shape")) for word in ("EU", "eu", "،", "3ب")
    ] == [
        "0:shape=Latin capital",
        "0:shape=Latin",
        "0:shape=sign ،",
        "0:shape=mixed",
    ]


@pytest.mark.parametrize(
    "arguments", [["crf", "--encoder", "x"], ["flair", "--dev", "x"], ["spacy"], ["crf", "--dev", "x"], ["other"]]
)
def test_training_with_arguments_of_another_system(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        train_peer.main([*arguments, "--train", "x", "--output", "y"])
    assert error.value.code == 2
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("c1=high", "NAME=NUMBER"), ("depth=3", "one of c1, c2, iterations")],
)
def test_a_wrong_setting(tmp_path: Path, setting: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["crf", "--train", "x", "--output", str(tmp_path / "y"), "--set", setting]
    assert train_peer.main(arguments) == 2
    assert capsys.readouterr().err == f"error: --set {setting!r}; expected {expected}\n"
    assert not (tmp_path / "y").exists()


# Flair


class FakeSentence:
    """Behaves like Flair's ``Sentence`` of a list of words: tokens are numbered from 1."""

    def __init__(self, words: list[str]) -> None:
        self.tokens = [SimpleNamespace(text=word, idx=number) for number, word in enumerate(words, 1)]
        self.labels: list[tuple[list[str], str]] = []

    def __getitem__(self, part: slice) -> Any:
        words = [token.text for token in self.tokens[part]]
        return SimpleNamespace(add_label=lambda kind, label: self.labels.append((words, label)))

    def get_spans(self, kind: str) -> list[Any]:
        assert kind == "ner"
        return self.found


class FakeFlairTagger:
    """Finds محمد السعيد, like a ``SequenceTagger``."""

    label_type = "ner"

    @classmethod
    def load(cls, name: object) -> FakeFlairTagger:
        assert name == "my/tagger"
        return cls()

    def predict(self, sentences: list[FakeSentence], *, mini_batch_size: int) -> None:
        for sentence in sentences:
            words = [token.text for token in sentence.tokens]
            sentence.found = []
            for index in range(len(words) - 1):
                if words[index : index + 2] == ["محمد", "السعيد"]:
                    name = FakeName(sentence.tokens[index : index + 2])
                    sentence.found.append(name)


class FakeName(list):
    tag, score = "PER", 0.75


@pytest.fixture
def fake_flair(fake_module: Callable[..., None]) -> None:
    fake_module("flair")
    fake_module("flair.data", Sentence=FakeSentence)
    fake_module("flair.models", SequenceTagger=FakeFlairTagger)


@pytest.mark.usefixtures("fake_flair")
def test_a_fake_of_flair_gets_passages_that_fit() -> None:
    long = f"{TEXT}\n" * 30
    first, blank, short = flair.tag(
        [Document("a", long), Document("b", ""), Document("c", TEXT)], model="my/tagger", device="cpu"
    )
    assert len(flair.split_passage_words(long)) == 2
    assert [span.key for span in first.spans] == [(m.start(), m.end(), "PER") for m in re.finditer("محمد السعيد", long)]
    assert not blank.spans
    assert [span.score for span in short.spans] == [0.75]


@pytest.mark.usefixtures("fake_flair")
def test_sentences_to_train_flair_have_whole_words_and_adjacent_names() -> None:
    text = "محمد السعيد بغداد لبيروت"
    names = [span(text, name, label) for name, label in (("محمد السعيد", "PER"), ("بغداد", "LOC"), ("بيروت", "LOC"))]
    (sentence,) = flair.annotate_sentences([Document("d", text, tuple(names))])
    assert sentence.labels == [(["محمد", "السعيد"], "PER"), (["بغداد"], "LOC"), (["لبيروت"], "LOC")]


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
