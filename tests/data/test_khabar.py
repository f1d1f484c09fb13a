"""Khabar: the rules of the guidelines that can be checked, for every article."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections import defaultdict
from collections.abc import Container, Iterable
from itertools import chain
from pathlib import Path

import pytest
import yaml

from musamma.data.arabic import proclitic_offsets, word_offsets
from musamma.data.corpora import load_khabar
from musamma.data.document import Document, Span
from musamma.data.formats.markup import parse_article, render_article
from musamma.data.labels import SCHEMAS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "data" / "corpora" / "khabar"
ARTICLES = load_khabar()
PARTS = {part: [document.id for document in load_khabar(part)] for part in ("train", "dev", "test")}

#: The published article, without a mark of ours.
SEED_SHA256 = "dfab8b12edbfb6559c4f0858939a6dd852ea398cbce5e969c02589b64d2e3d60"

DECIDED = yaml.safe_load((FOLDER / "decided.yaml").read_text("utf-8"))
TWO_LABELS = {form: set(labels) for form, labels in DECIDED["two_labels"].items()}
OWN_LETTER = set(DECIDED["own_letter"])
BARE_WORDS = {(holder, form) for holder, form in DECIDED["bare"]}
NAMED_WITH_THEM = set(DECIDED["named_with_class_noun"])
CUT_WORDS = {(holder, form) for holder, form in DECIDED["cut_words"]}
CORRECTED_TEXT = set(DECIDED["corrected_text"])

#: The articles that were annotated twice, as they were before the differences were settled.
FIRST, SECOND = (
    {path.stem: parse_article(path.read_bytes(), id=path.stem, where=str(path)) for path in folder.glob("*.txt")}
    for folder in (FOLDER / "agreement" / "first", FOLDER / "agreement" / "second")
)

ARAB_LEAGUE = {
    *("AE", "BH", "DJ", "DZ", "EG", "IQ", "JO", "KM", "KW", "LB", "LY"),
    *("MA", "MR", "OM", "PS", "QA", "SA", "SD", "SO", "SY", "TN", "YE"),
}
CLASS_NOUNS = ("مدينة", "بلدة", "قرية", "محافظة", "ولاية", "مخيم", "قضاء", "إقليم", "صحيفة", "قوات")
TITLES = {
    "الرئيس",
    "السيد",
    "السيدة",
    "الشيخ",
    "الدكتور",
    "الدكتورة",
    "المهندس",
    "الحاج",
    "العميد",
    "السفير",
    "الملك",
    "القس",
}

_MARKS = re.compile(r"[\u064b-\u0652\u0640]")
_FOLD = str.maketrans("أإآىة", "ااايه")
_SIGNS = " \t\n\u00a0\u200f\u200e.,،؛:!\"'«»“”()[]{}-–—/|"
_OPENING = {"»": "«", "”": "“", ")": "(", "]": "["}


def fold(form: str) -> str:
    """A form without vowel marks and tatweel, with hamzas and endings in their careless spelling."""
    return _MARKS.sub("", form).translate(_FOLD)


def names(document: Document) -> tuple[Span, ...]:
    return (*document.spans, *document.nested)


def forms_of(documents: Iterable[Document]) -> dict[str, set[str]]:
    """Labels of every folded form."""
    found: dict[str, set[str]] = defaultdict(set)
    for document in documents:
        for span in names(document):
            found[fold(document.surface(span))].add(span.label)
    return found


def unclosed(surface: str) -> str:
    """A name without a final closing sign whose opening sign is inside it: ``ملهى «لا بيل``."""
    return surface[:-1] if _OPENING.get(surface[-1:], "\0") in surface[1:] else surface


def border_faults(document: Document) -> list[str]:
    """Names that start or end with white space, punctuation or a part of a word."""
    signs = [span for span in names(document) if has_sign_at_border(document, span)]
    cut = [span for span in names_that_cut_words(document) if span not in signs]
    return [f"sign at the border of {document.describe(span)}" for span in signs] + [
        f"cuts a word: {document.describe(span)}" for span in cut
    ]


def has_sign_at_border(document: Document, span: Span) -> bool:
    surface = unclosed(document.surface(span))
    return surface != surface.strip(_SIGNS)


def names_that_cut_words(document: Document) -> list[Span]:
    """Names that start or end inside a word, proclitics aside."""
    words = word_offsets(document.text)
    starts = {offset for start, end in words for offset in proclitic_offsets(document.text, start, end)}
    ends = {end for _, end in words}
    return [
        span
        for span in names(document)
        if span.start not in starts or span.start + len(unclosed(document.surface(span))) not in ends
    ]


def cut_words(document: Document) -> set[tuple[str, str]]:
    """Article and surface of the names that cut words, as decided.yaml lists them."""
    return {(document.id, document.surface(span)) for span in names_that_cut_words(document)}


def proclitic_faults(document: Document, forms: Container[str]) -> list[str]:
    """Names that consist of a proclitic and a known name; ``للأمم`` is ل and ``الأمم``."""
    faults = []
    for span in names(document):
        for offset in proclitic_offsets(document.text, span.start, span.end)[1:]:
            rest = fold(document.text[offset : span.end])
            # Before the article ل swallows its alef.
            swallowed = document.text[offset - 1] == "ل" and "ا" + rest in forms
            if rest in forms or swallowed:
                faults.append(document.surface(span))
    return faults


def bare_faults(document: Document) -> list[tuple[str, str]]:
    """Words of an article, whole or after proclitics, that are a name elsewhere in it."""
    forms = {fold(document.surface(span)) for span in document.spans}
    covered = {offset for span in document.spans for offset in range(span.start, span.end)}
    return [
        (document.id, document.text[offset:end])
        for start, end in word_offsets(document.text)
        for offset in proclitic_offsets(document.text, start, end)
        if fold(document.text[offset:end]) in forms and offset not in covered
    ]


def class_faults(document: Document) -> list[str]:
    """Titles inside names of persons, and class nouns inside names that do not need them."""
    faults = []
    for span in names(document):
        surface = document.surface(span)
        first = surface.split()[0]
        titled = span.label == "PER" and first in TITLES
        if titled or first in CLASS_NOUNS:
            faults.append(surface)
    return faults


FORMS = forms_of(ARTICLES)


def article(markup: str) -> Document:
    return parse_article(markup.encode(), id="made", where="made")


def test_the_seed_is_the_published_article() -> None:
    seed = next(document for document in ARTICLES if document.id == "seed-mosul")
    assert hashlib.sha256(seed.text.encode()).hexdigest() == SEED_SHA256
    assert seed.meta["source"] == "Akhbar Al Aan"


@pytest.mark.parametrize("document", ARTICLES, ids=lambda document: document.id)
def test_an_article_follows_the_guidelines(document: Document) -> None:
    assert render_article(document) == (FOLDER / "articles" / f"{document.id}.txt").read_text("utf-8")
    assert document.meta.keys() >= {"topic", "country", "form"}
    assert {span.label for span in names(document)} <= set(SCHEMAS["khabar"])
    cuts = [fault for fault in border_faults(document) if fault.startswith("cuts a word")]
    assert border_faults(document) == cuts
    assert cut_words(document) <= CUT_WORDS
    assert set(proclitic_faults(document, FORMS)) - OWN_LETTER == set()
    assert set(class_faults(document)) - NAMED_WITH_THEM == set()
    assert set(bare_faults(document)) - BARE_WORDS == set()


def test_every_decision_is_needed() -> None:
    assert {fault for document in ARTICLES for fault in proclitic_faults(document, FORMS)} == OWN_LETTER
    assert {fault for document in ARTICLES for fault in class_faults(document)} == NAMED_WITH_THEM
    assert {fault for document in ARTICLES for fault in bare_faults(document)} == BARE_WORDS
    assert set(chain.from_iterable(map(cut_words, ARTICLES))) == CUT_WORDS
    doubtful = {form: labels for form, labels in FORMS.items() if len(labels) > 1}
    assert doubtful == {fold(form): labels for form, labels in TWO_LABELS.items()}


@pytest.mark.parametrize(
    "markup",
    [
        "وصل إلى [دمشق |GPE]",
        "قرية [«عباس رجب»|GPE]",
        "في [دمشق،|GPE] أمس",
        "أهل[دمشق|GPE]",
        "[دمشق|GPE]ي الأصل",
    ],
)
def test_a_wrong_border_is_found(markup: str) -> None:
    assert len(border_faults(article(markup))) == 1


def test_a_quotation_mark_may_end_a_name() -> None:
    assert border_faults(article("في [ملهى «لا بيل»|FAC] أمس")) == []


@pytest.mark.parametrize(
    "markup",
    [
        "[وداعش|ORG]",
        "قال [بالموصل|GPE]",
        "[للأمم المتحدة|ORG]",
        "[والأمم المتحدة|ORG]",
        "[للموصل|GPE]",
    ],
)
def test_a_proclitic_inside_is_found(markup: str) -> None:
    forms = {fold(form) for form in ("داعش", "الموصل", "الأمم المتحدة")}
    assert len(proclitic_faults(article(markup), forms)) == 1


def test_titles_class_nouns_and_unannotated_repetitions_are_found() -> None:
    assert len(class_faults(article("[الدكتورة منى صالح|PER] في [مدينة الموصل|GPE]"))) == 2
    assert bare_faults(article("دخل [الموصل|GPE] ثم خرج من الموصل وبالموصل")) == [("made", "الموصل")] * 2


def test_every_article_is_in_one_part() -> None:
    named = yaml.safe_load((FOLDER / "splits.yaml").read_text("utf-8"))
    assert sorted(chain.from_iterable(PARTS.values())) == [document.id for document in ARTICLES]
    assert "seed-mosul" in named["test"]
    assert PARTS["dev"] == named["dev"]


def test_no_two_articles_share_eight_words_outside_names() -> None:
    """Full names and titles of heads of state recur in reports of state agencies."""
    holders = defaultdict(set)
    for document in ARTICLES:
        covered = {offset for span in document.spans for offset in range(span.start, span.end)}
        words = [match[0] for match in re.finditer(r"\w+", document.text) if match.start() not in covered]
        for index in range(len(words) - 7):
            holders[tuple(words[index : index + 8])].add(document.id)
    assert len(holders) > 100_000
    assert [(run, ids) for run, ids in holders.items() if len(ids) > 1] == []


def test_the_second_annotation_covers_articles_of_the_test_part() -> None:
    assert FIRST.keys() == SECOND.keys()
    assert set() < FIRST.keys() <= set(PARTS["test"])
    articles = {document.id: document.text for document in ARTICLES}
    assert [name for name in FIRST if FIRST[name].text != SECOND[name].text] == []
    assert {name for name in FIRST if FIRST[name].text != articles[name]} == CORRECTED_TEXT


def test_the_plan_is_covered() -> None:
    assert {document.meta["country"] for document in ARTICLES} >= ARAB_LEAGUE
    assert len(ARTICLES) >= 506
    assert sum(len(re.findall(r"\w+", document.text)) for document in ARTICLES) >= 130_000


def test_the_card_has_the_figures_its_command_prints() -> None:
    spec = importlib.util.spec_from_file_location("khabar_figures", ROOT / "benchmarks" / "corpus.py")
    assert spec is not None
    assert spec.loader is not None
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    card = (FOLDER / "README.md").read_text("utf-8")
    for table in figures.render_tables(figures.load_parts()).split("\n\n"):
        assert table in card
