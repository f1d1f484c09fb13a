"""Other systems: their names brought to the raw text, texts cut into what they can take, and the table of them all.

Stanza, CAMeL Tools and GLiNER are stood in for by fakes with the return types of the libraries' sources; nothing of theirs can be
downloaded in a test. spaCy and the pipeline are the real ones where they are installed.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertConfig, BertForTokenClassification

from musamma.data.document import Document, Span, read_jsonl, write_jsonl
from musamma.data.errors import InputError
from musamma.data.formats import FORMATS, write_documents

FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"


def load(name: str) -> ModuleType:
    """A module of the peers, which import one another by name as a script's neighbours do."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))


offsets, passages, rows, table = map(load, ("offsets", "passages", "rows", "table"))
ours, pipeline, camel, stanza, spacy, gliner = (
    load(f"peer_{kind}") for kind in ("ours", "pipeline", "camel", "stanza", "spacy", "gliner")
)
Found, Findings = offsets.Found, offsets.Findings

TEXT = "وصل محمد السعيد إلى بيروت، ثم غادر إلى بغداد."
ARABIC = st.text(alphabet="ابغد محوت.،؟!\n\u064b\u0640\u200f (5", max_size=80)


def named(text: str, *names: tuple[str, str], id: str = "d") -> Document:
    """A document with each of the names at its first occurrence."""
    return Document(
        id, text, tuple(Span(text.index(name), text.index(name) + len(name), label) for name, label in names)
    )


def surfaces(document: Document) -> list[tuple[str, str]]:
    return [(document.surface(span), span.label) for span in document.spans]


def fake_module(monkeypatch: pytest.MonkeyPatch, name: str, **contents: object) -> None:
    """A package that is not installed, by what the peer imports of it."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(contents)
    monkeypatch.setitem(sys.modules, name, module)


# Offsets


@given(ARABIC)
def test_words_are_found_where_they_are(text: str) -> None:
    for pattern in (r"\S+", r"\w+|[^\w\s]"):
        matches = list(re.finditer(pattern, text))
        assert offsets.word_offsets(text, [m[0] for m in matches]) == [m.span() for m in matches]


def test_a_rewritten_word_is_an_error_that_names_it() -> None:
    with pytest.raises(InputError, match=r"document 'd': the word 'الى' does not follow at character 15"):
        offsets.word_offsets(TEXT, ["وصل", "محمد", "السعيد", "الى"], where="document 'd'")


def test_a_skipped_word_is_an_error() -> None:
    with pytest.raises(InputError, match="'إلى' does not follow"):
        offsets.word_offsets(TEXT, ["وصل", "محمد", "إلى"])


def test_tags_become_names_as_the_shared_tasks_read_them() -> None:
    words = TEXT.replace("،", " ،").split()[:8]
    borders = offsets.word_offsets(TEXT, words)
    tags = ["O", "B-PERS", "I-PERS", "O", "I-LOC", "O", "B-PERS", "I-LOC"]
    found = offsets.names_of_tags(borders, tags)
    assert [(TEXT[name.start : name.end], name.label) for name in found.names] == [
        ("محمد السعيد", "PERS"),
        ("بيروت", "LOC"),
        ("ثم", "PERS"),
        ("غادر", "LOC"),
    ]
    assert found.changes == {"repaired_tag": 2}
    with pytest.raises(InputError, match="7 tags for 8 words"):
        offsets.names_of_tags(borders, tags[1:])


def test_what_is_changed_is_counted_in_the_prediction() -> None:
    document = Document("d", TEXT, (Span(0, 3, "OLD"),), meta={"source": "x", "changes": {"stale": 9}})
    city = TEXT.index("بيروت")
    names = (
        Found(city - 1, city + 5, "LOC", 0.5),  # With the space before it.
        Found(4, 15, "PER", 0.9, "محمد السعيد"),
        Found(4, 8, "PER", 0.95, "محمد"),  # Inside the one before.
        Found(3, 4, "PER"),  # A space.
        Found(44, 400, "LOC"),
    )
    found = offsets.to_document(document, Findings(names, Counter(cut=2)))
    assert surfaces(found) == [("محمد السعيد", "PER"), ("بيروت", "LOC")]
    assert [span.score for span in found.spans] == [0.9, 0.5]
    assert found.meta == {
        "source": "x",
        "changes": {"cut": 2, "empty": 1, "outside": 1, "overlap": 1, "whitespace": 1},
    }
    assert offsets.to_document(document, Findings()).meta == {"source": "x"}


def test_offsets_into_another_text_are_an_error() -> None:
    with pytest.raises(
        InputError, match=r"document 'd': the system found 'السعيد' at \[8, 14\), where the text has ' السعي'"
    ):
        offsets.to_document(Document("d", TEXT), Findings((Found(8, 14, "PER", surface="السعيد"),)))
    with pytest.raises(InputError, match="label 'full name'"):
        offsets.to_document(Document("d", TEXT), Findings((Found(4, 8, "full name"),)))


def test_documents_go_to_a_system_in_batches_and_come_back_in_order() -> None:
    documents = [Document(str(number), "" if number % 5 == 3 else f"نص {number}") for number in range(17)]
    sizes = []

    def find(batch):
        sizes.append(len(batch))
        return [Findings((Found(3, len(document.text), "N"),)) for document in batch]

    found = list(offsets.tagged(iter(documents), find, batch=5))
    assert sizes == [4, 4, 4, 2]  # The empty ones are not handed on.
    assert [document.id for document in found] == [document.id for document in documents]
    assert [surfaces(document) for document in found] == [
        [(document.id, "N")] if document.text else [] for document in documents
    ]


def test_a_system_that_loses_a_text_is_an_error() -> None:
    with pytest.raises(InputError, match="findings for 1 texts; expected 2"):
        list(offsets.tagged([Document("a", "نص"), Document("b", "نص")], lambda batch: [Findings()]))


# Passages


@given(ARABIC)
def test_sentences_hold_all_of_a_text_but_the_whitespace_between(text: str) -> None:
    borders = passages.sentences(text)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in borders)
    edges = [0, *(edge for border in borders for edge in border), len(text)]
    assert edges == sorted(edges)
    assert not "".join(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)).strip()


def test_a_dot_behind_a_single_letter_ends_no_sentence() -> None:
    text = "قال د. محمد السعيد: نعم. متى؟ غدا!\n\nبيروت (أ ب)"
    assert [text[start:end] for start, end in passages.sentences(text)] == [
        "قال د. محمد السعيد: نعم.",
        "متى؟",
        "غدا!",
        "بيروت (أ ب)",
    ]


@given(ARABIC, st.integers(1, 6))
def test_passages_fit_and_hold_every_word(text: str, limit: int) -> None:
    def fits(passage: str) -> bool:
        return len(passage.split()) <= limit

    found = passages.passages(text, fits=fits)
    assert [word for start, end in found.borders for word in text[start:end].split()] == text.split()
    assert all(fits(text[start:end]) for start, end in found.borders)
    whole = [text[start:end] for start, end in passages.sentences(text)]
    assert found.cut == sum(not fits(sentence) for sentence in whole)
    # No two neighbours could have been one.
    assert not any(fits(text[a:b]) for (a, _), (_, b) in zip(found.borders, found.borders[1:], strict=False))


def test_a_word_that_is_too_long_is_counted_and_handed_on() -> None:
    found = passages.passages("في القسطنطينية", fits=lambda passage: len(passage) < 8)
    assert found == passages.Passages(((0, 2), (3, 14)), 1)


# The pipeline and our own tagger

CITY, PERSON, SURNAME = "بغداد", "محمد", "السعيد"
FILLER = "اجتماع في"


@pytest.fixture(scope="module")
def lookup(wordpiece_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that knows names by the first pieces of their words, wherever they stand in its window of 128 positions."""
    folder = tmp_path_factory.mktemp("lookup")
    tokenizer = AutoTokenizer.from_pretrained(wordpiece_encoder)
    labels = ["O", "B-LOC", "B-PER", "I-PER", "I-LOC"]
    config = BertConfig.from_pretrained(wordpiece_encoder, id2label=dict(enumerate(labels)))
    torch.manual_seed(1)
    model = BertForTokenClassification(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            # Without what is added to them, the vectors of the pieces reach the classifier as they are.
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


def test_the_pipeline_goes_through_texts_longer_than_its_window(lookup: Path) -> None:
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


def test_the_pipelines_window_is_that_of_the_position_table_where_none_is_stated() -> None:
    assert pipeline.window(512, {"max_position_embeddings": 514}) == 512
    assert pipeline.window(int(1e30), {"max_position_embeddings": 514}) == 512
    assert pipeline.window(int(1e30), {}) == 512


def test_tags_that_the_pipeline_would_not_join_are_an_error(lookup: Path, tmp_path: Path) -> None:
    model = BertForTokenClassification.from_pretrained(lookup)
    model.config.id2label = {0: "O", 1: "B-LOC", 2: "I-LOC", 3: "E-LOC", 4: "S-LOC"}
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(lookup).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="labels with the prefix 'E'"):
        pipeline.tag([], model=str(tmp_path), device="cpu")


def test_our_tagger_is_a_peer_like_any_other(lookup: Path) -> None:
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


def test_a_fake_of_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = []

    class Pipeline:
        def pipe(self, texts) -> Iterator[SimpleNamespace]:
            for text in texts:
                at = text.index("بيروت")
                yield SimpleNamespace(
                    ents=(SimpleNamespace(start_char=at, end_char=at + 5, label_="GPE", text="بيروت"),)
                )

    fake_module(
        monkeypatch,
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


def test_a_fake_of_stanza(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    class Pipeline:
        def __init__(self, lang, **options) -> None:
            asked.update(lang=lang, **options)

        def bulk_process(self, docs: list[str]) -> list[SimpleNamespace]:
            assert all(isinstance(text, str) and text.strip() for text in docs)
            return [SimpleNamespace(ents=[self.span(text, "محمد السعيد", "PER")]) for text in docs]

        def span(self, text: str, surface: str, type: str) -> SimpleNamespace:
            at = text.index(surface)
            return SimpleNamespace(start_char=at, end_char=at + len(surface), type=type, text=surface)

    methods = SimpleNamespace(REUSE_RESOURCES="reuse")
    fake_module(monkeypatch, "stanza", Pipeline=Pipeline, DownloadMethod=methods)
    found, blank = stanza.tag([Document("a", TEXT), Document("b", "\n")], model="aqmar_charlm", device="cuda:0")
    assert surfaces(found) == [("محمد السعيد", "PER")]
    assert not blank.spans
    assert (asked["lang"], asked["processors"]) == ("ar", "tokenize,mwt,ner")
    assert (asked["package"], asked["device"]) == ({"ner": "aqmar_charlm"}, "cuda:0")


# CAMeL Tools


class FakeRecognizer:
    """What ``NERecognizer`` does with words: as many labels as there are words with pieces, no score."""

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
def fake_camel(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_module(monkeypatch, "camel_tools")
    fake_module(monkeypatch, "camel_tools.ner", NERecognizer=FakeRecognizer)
    fake_module(monkeypatch, "camel_tools.tokenizers")
    split = re.compile(r"[^\s.،؟]+|[.،؟]").findall
    fake_module(monkeypatch, "camel_tools.tokenizers.word", simple_word_tokenize=split)


@pytest.mark.usefixtures("fake_camel")
def test_a_fake_of_camel_tools() -> None:
    # A mark of direction is a word of which its tokenizer makes nothing.
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
    # Both بغداد and السعيد, which opens a sentence here, go on from nothing.
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

    def noted(self, name: str, use_gpu: bool) -> None:
        create(self, name, use_gpu)
        made.append((name, use_gpu))

    monkeypatch.setattr(FakeRecognizer, "__init__", noted)
    camel.tag([], model=model, device="cuda")
    assert made == [(loaded, True)]


# GLiNER


class FakeGliner:
    """What ``GLiNER`` does with texts: words and pieces beyond its lengths are cut off, names come with offsets."""

    names = MappingProxyType({"محمد السعيد": "person", "بيروت": "city", "بغداد": "city"})

    def __init__(self) -> None:
        self.config = SimpleNamespace(max_len=12)
        self.data_processor = SimpleNamespace(words_splitter=self.split, transformer_tokenizer=self)
        self.model_max_length = 40
        self.device = None

    @classmethod
    def from_pretrained(cls, name: str) -> FakeGliner:
        assert name == "some/gliner"
        return cls()

    def to(self, device: str) -> FakeGliner:
        self.device = device
        return self

    @staticmethod
    def split(text: str) -> Iterator[tuple[str, int, int]]:
        return ((m[0], m.start(), m.end()) for m in re.finditer(r"\w+(?:[-_]\w+)*|\S", text))

    def __call__(self, words, is_split_into_words: bool = False) -> dict[str, list[int]]:
        return {"input_ids": [0] * len(words if is_split_into_words else words.split())}

    def inference(self, texts: list[str], labels: list[str], *, flat_ner: bool, threshold: float) -> list[list[dict]]:
        assert flat_ner
        return [self.find(text, labels) for text in texts]

    def find(self, text: str, labels: list[str]) -> list[dict]:
        words = list(self.split(text))[: self.config.max_len]
        seen = text[: words[-1][2]]
        return [
            {"start": m.start(), "end": m.end(), "text": m[0], "label": self.names[m[0]], "score": 0.75}
            for m in re.finditer("|".join(self.names), seen)
            if self.names[m[0]] in labels
        ]


@pytest.fixture
def fake_gliner(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_module(monkeypatch, "gliner", GLiNER=FakeGliner)


@pytest.mark.usefixtures("fake_gliner")
def test_a_fake_of_gliner_gets_no_more_than_it_can_take() -> None:
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


@pytest.mark.usefixtures("fake_gliner")
def test_the_prompts_take_their_part_of_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []
    monkeypatch.setattr(
        FakeGliner, "inference", lambda self, texts, labels, **_: [parts.append(t) or [] for t in texts]
    )
    # 40 pieces less 10 prompts of a word and the marks of each and of the text leave no room for 10 words.
    model = "some/gliner#" + ",".join(f"p{number}=L{number}" for number in range(6))
    list(gliner.tag([Document("d", "واحد اثنان ثلاثة أربعة خمسة ستة سبعة ثمانية")], model=model, device="cpu"))
    assert parts == ["واحد اثنان ثلاثة أربعة", "خمسة ستة سبعة ثمانية"]


def test_prompts_that_cannot_be_read() -> None:
    assert gliner.read_prompts("a/b") == ("a/b", {"person": "PER", "location": "LOC", "organization": "ORG"})
    for wrong in ("a/b#", "a/b#person", "a/b#=PER", "a/b#person=PER,person=X"):
        with pytest.raises(InputError, match="each prompt once"):
            gliner.read_prompts(wrong)


# The table


def write_gold(folder: Path) -> Path:
    """Three documents of four names; what is scored against them in the tests below is counted by hand."""
    gold = [
        named(TEXT, ("محمد السعيد", "PER"), ("بيروت", "LOC"), id="a"),
        named("اجتماع بالموصل", ("الموصل", "LOC"), id="b"),
        named("قال محمد", ("محمد", "PER"), id="c"),
    ]
    write_jsonl(gold, folder / "gold.jsonl")
    return folder / "gold.jsonl"


@pytest.mark.usefixtures("fake_gliner")
def test_the_table_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    gold = write_gold(tmp_path)
    theirs = [
        named(TEXT, ("محمد السعيد", "PERS"), ("بغداد", "LOC"), id="a"),
        named("اجتماع بالموصل", ("بالموصل", "LOC"), id="b"),
        named("قال محمد", ("محمد", "DATE"), id="c"),
    ]
    write_jsonl(theirs, tmp_path / "theirs.jsonl")
    (tmp_path / "map.yaml").write_text("PERS: PER\nLOC: LOC\nDATE: null\n", "utf-8")
    monkeypatch.setitem(table.NEEDS, "spacy", ("no_such_package_at_all", "pip install spacy"))
    arguments = [
        *("--peer", "zero=gliner:some/gliner#person=PER,city=GPE"),
        *("--peer", "spacy:mine"),
        *("--predictions", f"perfect={gold}"),
        *("--predictions", f"theirs={tmp_path / 'theirs.jsonl'}"),
        *("--predictions", f"absent={tmp_path / 'absent.jsonl'}"),
        *("--labels", f"theirs={tmp_path / 'map.yaml'}"),
        *("--output", str(tmp_path / "out")),
        *("--markdown", str(tmp_path / "table.md")),
        *("--resamples", "200"),
    ]
    status = table.main([str(gold), *arguments])
    printed = capsys.readouterr()
    assert status == 1  # One failed.
    assert "spacy-mine: the package no_such_package_at_all is not installed; pip install spacy" in printed.err
    assert re.search(r"absent: failed: .*absent\.jsonl: no such file", printed.err)
    lines = (tmp_path / "table.md").read_text("utf-8").splitlines()
    assert lines[0].endswith("gold.jsonl: 3 documents, 13 words, 4 names")
    cells = {row[0]: row[1:] for row in ([c.strip() for c in line.strip("|").split("|")] for line in lines[4:7])}
    # GLiNER's fake finds two persons and two places of a label that the gold has not: "محمد السعيد" of "a" alone is right.
    assert cells["zero"][1:3] == ["33.3", "25.0"]
    assert float(cells["zero"][0].replace(",", "")) > 0
    assert cells["perfect"][:3] == ["", "100.0", "100.0"]
    assert [cell.split(" ")[0] for cell in cells["perfect"][3:]] == ["100.0"] * 5
    # One of three is right of four; two with the name behind a proclitic, and by whole words.
    assert cells["theirs"][:3] == ["", "33.3", "25.0"]
    assert [cell.split(" ")[0] for cell in cells["theirs"][3:]] == ["28.6", "57.1", "57.1", "57.1", "57.1"]
    remarks = "\n".join(lines[7:])
    assert "- theirs: 1 names left out by the label map" in remarks
    assert "- zero: labels that the gold has not: GPE" in remarks
    assert "- zero: gold labels that it never gives: LOC" in remarks
    assert "- words/s: while tagging, on cpu, without loading" in remarks
    assert "perfect" in printed.out
    assert "cpu" in printed.out
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["zero.jsonl"]
    kept = list(read_jsonl(tmp_path / "out" / "zero.jsonl"))
    assert surfaces(kept[0]) == [("محمد السعيد", "PER"), ("بيروت", "GPE"), ("بغداد", "GPE")]


def test_a_system_is_not_shown_the_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def tag(documents, *, model: str, device: str) -> Iterator[Document]:
        for document in documents:
            seen.append((document.id, document.spans, model, device))
            yield document

    monkeypatch.setattr(ours, "tag", tag)
    peer = table.System("ours-m", "ours", "m")
    found, seconds = table.run(peer, list(read_jsonl(write_gold(tmp_path))), device="cpu")
    assert seen == [(id, (), "m", "cpu") for id in "abc"]
    assert [document.spans for document in found] == [(), (), ()]
    assert seconds > 0


def test_predictions_in_conll_are_taken_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "gold.conll").write_text("في O\nبغداد B-LOC\n\nقال O\nمحمد B-PERS\n", "utf-8")
    (tmp_path / "other.conll").write_text("في O\nبغداد I-LOC\n\nقال O\nمحمد O\n", "utf-8")
    arguments = [
        str(tmp_path / "gold.conll"),
        "--predictions",
        f"other={tmp_path / 'other.conll'}",
        "--resamples",
        "50",
    ]
    assert table.main(arguments) == 0
    assert re.search(r"other +100\.0 +50\.0 +66\.7 ", capsys.readouterr().out)


@pytest.mark.parametrize(
    "name", ["brat", "doccano.jsonl", "labelstudio.json", "table.csv", "table.parquet", "own.jsonl"]
)
def test_predictions_in_every_format_that_holds_offsets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    gold = [
        named(f"😀 {TEXT}\nو{CITY}", ("محمد السعيد", "PER"), (CITY, "LOC"), id="a"),
        named(CITY, (CITY, "LOC"), id="b"),
    ]
    write_jsonl(gold, tmp_path / "gold.jsonl")
    format = name.partition(".")[0]
    write_documents(gold, tmp_path / name, format=format if format in FORMATS else None)
    arguments = ["--predictions", f"same={tmp_path / name}", "--resamples", "50"]
    assert table.main([str(tmp_path / "gold.jsonl"), *arguments]) == 0
    assert re.search(r"same +100\.0 +100\.0 +100\.0 ", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no system"),
        (["--peer", "flair:x"], "--peer 'flair:x'; expected .* one of ours, pipeline, camel, stanza, spacy, gliner"),
        (["--peer", "ours"], "--peer 'ours'"),
        (["--peer", "ours:a/m", "--peer", "ours:b/m"], "two systems called 'ours-m'"),
        (
            ["--peer", "ours:m", "--labels", "theirs=khabar-to-coarse"],
            "--labels for 'theirs'; expected a system: ours, ours-m",
        ),
        (["--peer", "ours:m", "--labels", "ours=no-such-map"], "no-such-map"),
        (["--predictions", "theirs.jsonl"], "--predictions 'theirs.jsonl'; expected NAME=VALUE"),
        (["--peer", "spacy:m"], "no system could be scored"),
        (["--peer", "ours:m", "--resamples", "3"], "3 resamples"),
    ],
)
def test_a_wrong_call_is_one_line_and_status_2(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.setitem(table.NEEDS, "spacy", ("no_such_package_at_all", "pip install spacy"))
    assert table.main([str(write_gold(tmp_path)), *arguments]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(f"error: .*{message}", last)


def test_a_name_that_a_file_can_have() -> None:
    assert table.read_peer("gliner:urchade/gliner_multi-v2.1#person=PER") == table.System(
        "gliner-gliner_multi-v2.1", "gliner", "urchade/gliner_multi-v2.1#person=PER"
    )
    assert table.read_peer("base=pipeline:runs/mine/seed-1").name == "base"
    assert table.read_peer("ours:runs/نموذج 1").name == "ours-نموذج-1"


def test_the_row_counts_what_was_changed_on_the_way() -> None:
    gold = [named(TEXT, ("محمد السعيد", "PER"), id="a"), named("قال محمد", ("محمد", "PER"), id="b")]
    predicted = [
        Document(document.id, document.text, document.spans, meta={"changes": {"cut": 2, f"only_{document.id}": 1}})
        for document in gold
    ]
    row = rows.score("mine", gold, predicted, renaming=table.Renaming.by(None), resamples=50, speed=1234.5)
    assert row.cells()[:4] == ["mine", "1,234", "100.0", "100.0"]
    assert list(row.remarks()) == ["mine: 4 cut, 1 only_a, 1 only_b"]
