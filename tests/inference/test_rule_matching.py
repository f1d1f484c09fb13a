"""Matching names and applying rules. The automaton is compared with a search through all stretches of words."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musamma.data.arabic import clitic_borders, is_proclitic, proclitic_offsets, word_offsets
from musamma.data.document import RULES_KEY, Document, Span
from musamma.data.spelling import Spelling
from musamma.inference.name_rules import LabelRule, NameList, Rules
from musamma.inference.rule_matching import NameMatcher, RuleTagger, drop_log
from tests.support import SHORT_WORDS, make_document

STRICT = Spelling(
    hamza=False, alef_maqsura=False, ta_marbuta=False, vowel_marks=False, tatweel=False, direction_marks=False
)


def name_list(*names: str, label: str = "ORG", **options) -> NameList:
    return NameList(title="list", entries=tuple((name, label) for name in names), **options)


def found(text: str, *names: str, **options) -> list[str]:
    matches = NameMatcher([name_list(*names, **options)]).find(text)
    return [text[match.start : match.end] for match in sorted(matches, key=lambda match: match.start)]


# Matching


@pytest.mark.parametrize(
    ("name", "text", "surfaces"),
    [
        ("داعش", "قال داعش", ["داعش"]),
        ("داعش", "وداعش، بداعش لداعش: كداعش (فبداعش)", ["داعش"] * 5),
        ("داعش", "الداعش داعشي داعشهم يداعش", []),
        ("الموصل", "بالموصل والموصل وبالموصل", ["الموصل"] * 3),
        ("الجيش", "للجيش وللجيش", ["لجيش", "لجيش"]),
        ("الجيش", "لجيش ولجيش بلجيش", []),
        ("اللجنة", "للجنة واللجنة", ["لجنة", "اللجنة"]),
        ("الله", "لله عبدالله", ["له"]),
        ("الأردن", "للأردن للاردن", ["لأردن", "لاردن"]),
        ("حزب الأمة", "لحزب الأمة وحزب  الامه\nحزب\nالأُمّة", ["حزب الأمة", "حزب  الامه", "حزب\nالأُمّة"]),
        ("حزب الأمة", "حزب\n\nالأمة حزب\r\n \r\nالأمة حزب، الأمة حزب والأمة", []),
        ("محمد", "مُحَمَّدٌ محـــمد \u202bمحمد\u202c مح\u200dمد", ["مُحَمَّدٌ", "محـــمد", "محمد", "مح\u200dمد"]),
        ("الجيش", "ﻟﻠﺠﻴﺶ ﺍﻟﺠﻴﺶ", ["ﻠﺠﻴﺶ", "ﺍﻟﺠﻴﺶ"]),
        ("رويترز", "لـ«رويترز» لـرويترز", ["رويترز", "رويترز"]),
        ("إف-16", "طائرة إف-16 واف - 16 إف-160", ["إف-16", "اف - 16"]),
        ("3", "3.5 و3 3", ["3", "3"]),
        ("NATO", "NATO nato NATOs", ["NATO"]),
        ("لاجئ", "ﻻجئ ولاجئ", ["ﻻجئ", "لاجئ"]),
        ("اجئ", "ﻻجئ", []),  # The ligature is one character: the name would begin within it.
        ("😀 نعم", "😀 نعم😀نعم", ["😀 نعم", "😀نعم"]),
    ],
)
def test_matches(name, text, surfaces):
    assert found(text, name) == surfaces


def test_proclitics_can_be_limited():
    text = "بداعش وداعش داعش بالموصل للموصل الموصل"
    names = ("داعش", "الموصل")
    assert len(found(text, *names)) == 6
    assert found(text, *names, proclitics="certain") == ["داعش", "الموصل", "لموصل", "الموصل"]
    assert found(text, *names, proclitics="none") == ["داعش", "الموصل"]


def test_each_list_has_its_own_spelling():
    lists = [name_list("مكة"), name_list("مكة", label="GPE", spelling=STRICT)]
    text = "مكه مكة"
    matches = sorted((match.start, match.list, match.label) for match in NameMatcher(lists).find(text))
    assert matches == [(0, 0, "ORG"), (4, 0, "ORG"), (4, 1, "GPE")]


def test_the_first_of_two_labels_of_a_name_in_a_list_counts():
    names = NameList(title="list", entries=(("مكه", "ORG"), ("مكة", "GPE")))
    assert [match.label for match in NameMatcher([names]).find("مكة")] == ["ORG"]


def test_texts_and_rules_without_names():
    assert found("", "محمد") == found(" \u200f\n", "محمد") == []
    assert NameMatcher([]).find("محمد") == []
    assert RuleTagger(Rules()).apply(Document("d", "محمد")) == Document("d", "محمد")


REMOVED = "[\u0610-\u061a\u061c\u0640\u064b-\u065f\u0670\u06d6-\u06ed\u08d3-\u08ff\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufe00-\ufe0f]"
FOLDS = str.maketrans("ٱىةیکھہ", "ايهيكهه")


def reference_fold(surface: str) -> list[str]:
    """The folded words of a text, one step after the other."""
    words = [unicodedata.normalize("NFKD", surface[start:end]) for start, end in word_offsets(surface)]
    words = [re.sub(REMOVED, "", "".join(word.split())).translate(FOLDS) for word in words]
    return [word for word in words if word]


def search_everywhere(text: str, names: list[str]) -> set[tuple[int, int, str]]:
    """Compare every stretch of words, after each number of proclitics, with every name."""
    words = [(start, end) for start, end in word_offsets(text) if reference_fold(text[start:end])]
    matches = set()
    for first, (word_start, word_end) in enumerate(words):
        for start in proclitic_offsets(text, word_start, word_end):
            for _, end in words[first:]:
                if "\n\n" in text[start:end]:
                    break
                folded = reference_fold(text[start:end])
                before = "".join(reference_fold(text[word_start:start]))
                for name in names:
                    whole = reference_fold(name)
                    forms = [whole]
                    if before.endswith("ل") and whole[0].startswith("الل") and len("\n".join(whole)) > 3:
                        forms = [whole, [whole[0][2:], *whole[1:]]]
                    elif before.endswith("ل") and whole[0].startswith("ال") and len("\n".join(whole)) > 3:
                        forms = [whole, [whole[0][1:], *whole[1:]]]
                    if folded in forms:
                        matches.add((start, end, name))
    return matches


LETTERS = st.text(st.sampled_from("والبلكسفمىيةهأإآءﻻﺠَّـ\u200f3.-"), min_size=1, max_size=5)
WORDS = st.one_of(SHORT_WORDS, LETTERS)
NAMES = st.lists(st.lists(WORDS, min_size=1, max_size=2).map(" ".join).filter(reference_fold), min_size=1, max_size=6)


@st.composite
def texts_and_names(draw: st.DrawFn) -> tuple[str, list[str]]:
    """Texts that hold the names they come with, after proclitics and in other spellings, beside other words."""
    names = draw(NAMES)
    spelt = st.sampled_from([*names, *(name.replace("ال", "", 1) for name in names)])
    changes = st.sampled_from(["أا", "ىي", "ةه", "  ", "مَ", " \n"])

    def change(name: str, pair: str) -> str:
        return name.replace(pair[0], pair[1:] if pair != "مَ" else "مَ")

    written = st.builds(change, spelt, changes)
    pieces = st.builds(str.__add__, st.sampled_from(["", "", "و", "ب", "ل", "ول", "وَلِ", "لـ", "م", "ولب"]), written)
    separators = st.sampled_from([" ", " ", "\n", "\n\n", "، ", " \u202b"])
    parts = draw(st.lists(st.tuples(st.one_of(pieces, WORDS), separators), max_size=12))
    return "".join(piece + separator for piece, separator in parts), names


@settings(deadline=None, max_examples=40)
@given(texts_and_names())
def test_all_names_are_found_and_nothing_else(case):
    text, names = case
    # Each name in a list of its own, so that equal folds are told apart.
    matches = NameMatcher([name_list(name) for name in names]).find(text)
    assert len(matches) == len({(match.start, match.end, match.list) for match in matches})
    found = {(match.start, match.end, names[match.list]) for match in matches}
    assert found == search_everywhere(text, names)


@settings(deadline=None, max_examples=40)
@given(texts_and_names(), st.sampled_from(["any", "certain", "none"]), st.sampled_from([Spelling(), STRICT]))
def test_names_are_whole_words_behind_their_proclitics(case, proclitics, spelling):
    text, names = case
    names = [name for name in names if spelling.fold_text(name)]
    words = word_offsets(text)
    borders = {"any": None, "certain": set(clitic_borders(text)), "none": set()}[proclitics]
    for match in NameMatcher([name_list(*names, proclitics=proclitics, spelling=spelling)]).find(text):
        folded = spelling.fold_text(text[match.start : match.end])
        forms = {spelling.fold_text(name) for name in names}
        before = text[match.word_start : match.start]
        if before:
            assert is_proclitic(before)
            assert borders is None or match.start in borders
            forms |= {form[1:] for form in forms} | {form[2:] for form in forms}
        assert folded in forms
        assert match.end in {end for _, end in words}
        assert match.word_start in {start for start, _ in words}


# Applying rules


def apply(document: Document, **rules) -> list[tuple[str, str, float | None, str | None]]:
    document = RuleTagger(Rules(**rules)).apply(document)
    return [(document.surface(span), span.label, span.score, span.rule) for span in document.spans]


DOCUMENT = replace(
    make_document(
        "جامعة الموصل في الموصل، وقال محمد من القاهرة",
        ("جامعة الموصل", "ORG", 0.9),
        ("محمد", "PER", 0.8),
        ("القاهرة", "GPE", 0.7),
    ),
    meta={"page": 1},
)
UNIVERSITY, PERSON, CAIRO = [
    ("جامعة الموصل", "ORG", 0.9, None),
    ("محمد", "PER", 0.8, None),
    ("القاهرة", "GPE", 0.7, None),
]
MOSUL = ("الموصل", "GPE", None, "added")


def test_rules_above_the_model_replace_what_they_overlap():
    mosul = name_list("الموصل", label="GPE")
    assert apply(DOCUMENT, lists=(mosul,)) == [MOSUL, MOSUL, PERSON, CAIRO]


def test_rules_below_the_model_give_way():
    mosul = name_list("الموصل", label="GPE", precedence="model")
    assert apply(DOCUMENT, lists=(mosul,)) == [UNIVERSITY, MOSUL, PERSON, CAIRO]


@pytest.mark.parametrize("precedence", ["rules", "model"])
def test_a_name_that_both_find_keeps_its_score(precedence):
    cairo = name_list("القاهره", label="GPE", precedence=precedence)
    assert apply(DOCUMENT, lists=(cairo, cairo)) == [UNIVERSITY, PERSON, ("القاهرة", "GPE", 0.7, "confirmed")]


def test_another_label_of_the_same_name_follows_the_precedence():
    assert apply(DOCUMENT, lists=(name_list("القاهرة"),))[-1] == ("القاهرة", "ORG", None, "added")
    assert apply(DOCUMENT, lists=(name_list("القاهرة", precedence="model"),))[-1] == CAIRO


def test_longer_names_come_first_then_earlier_ones_then_earlier_lists():
    document = Document("d", "وزارة الدفاع العراقية في بغداد")
    lists = (
        name_list("الدفاع العراقية", label="A"),
        name_list("وزارة الدفاع", label="B"),
        name_list("الدفاع", label="C"),
        name_list("بغداد", label="D"),
        name_list("بغداد", label="E"),
    )
    added = [(*name, None, "added") for name in (("الدفاع العراقية", "A"), ("بغداد", "D"))]
    assert apply(document, lists=lists) == added
    first, second = [("وزارة الدفاع", "B", None, "added"), ("الدفاع", "C", None, "added")]
    assert apply(document, lists=lists[1:3]) == [first]
    assert apply(document, lists=lists[2:3]) == [second]
    # A list below the model also gives way to the lists above it, longer names included.
    below = name_list("وزارة الدفاع العراقية", label="F", precedence="model")
    assert apply(document, lists=(lists[2], below)) == [second]


def test_names_that_are_never_marked():
    never = (name_list("القاهرة", "الموصل"),)
    assert apply(DOCUMENT, never=never) == [
        UNIVERSITY,
        PERSON,
    ]  # الموصل within a longer name is no reason to drop that.
    lists = (name_list("الموصل", "في الموصل"),)
    assert apply(DOCUMENT, never=never, lists=lists) == [UNIVERSITY, ("في الموصل", "ORG", None, "added"), PERSON]


def test_a_name_with_its_proclitics_in_it_is_dropped_too():
    document = make_document("سافر بالموصل", ("بالموصل", "GPE", 0.5))
    assert apply(document, never=(name_list("الموصل"),)) == []


@pytest.mark.parametrize(
    ("rule", "label"),
    [
        (LabelRule(label="UNI", pattern="جامعة .*"), "UNI"),
        (LabelRule(label="UNI", pattern="جامعه المو[صض]ل"), "UNI"),
        (LabelRule(label="UNI", pattern="جامعة"), "ORG"),  # It must match the whole name.
        (LabelRule(label="UNI", names=name_list("جامعة الموصل")), "UNI"),
        (LabelRule(label="UNI", pattern=".*", only=("ORG",)), "UNI"),
        (LabelRule(label="UNI", pattern=".*", only=("PER", "GPE")), "ORG"),
        (LabelRule(label="UNI", pattern="جامعه .*", spelling=STRICT), "ORG"),
        (LabelRule(label="UNI", pattern="جامع[ةأ] .*", spelling=STRICT), "UNI"),
    ],
)
def test_other_labels(rule, label):
    expected = ("جامعة الموصل", label, 0.9, "relabelled" if label == "UNI" else None)
    assert apply(DOCUMENT, labels=(rule,))[0] == expected


def test_the_first_label_rule_that_applies_counts():
    rules = (LabelRule(label="A", pattern="محمد"), LabelRule(label="B", pattern=".*", only=("PER",)))
    assert apply(DOCUMENT, labels=rules)[1] == ("محمد", "A", 0.8, "relabelled")
    same = (LabelRule(label="PER", pattern="محمد"), LabelRule(label="B", pattern="محمد"))
    assert apply(DOCUMENT, labels=same)[1] == PERSON


def test_meta_says_what_rules_did():
    rules = Rules(
        lists=(name_list("الموصل", label="GPE"), name_list("محمد", label="PER")),
        labels=(LabelRule(label="CITY", pattern="القاهرة"),),
    )
    tagged = RuleTagger(rules).apply(DOCUMENT)
    names = {start: tagged.text[start:] for start in (0, 6, 16, 29, 37)}
    assert [surface.split("،")[0].split()[0] for surface in names.values()] == [
        "جامعة",
        "الموصل",
        "الموصل",
        "محمد",
        "القاهرة",
    ]
    assert tagged.meta == {
        "page": 1,
        RULES_KEY: [
            {"start": 0, "end": 12, "rule": "removed", "label": "ORG", "score": 0.9},
            {"start": 6, "end": 12, "rule": "added"},
            {"start": 16, "end": 22, "rule": "added"},
            {"start": 29, "end": 33, "rule": "confirmed"},
            {"start": 37, "end": 44, "rule": "relabelled", "label": "GPE"},
        ],
    }
    assert DOCUMENT.meta == {"page": 1}
    assert drop_log(tagged).meta == {"page": 1}
    assert drop_log(DOCUMENT) is DOCUMENT
    nothing = RuleTagger(Rules(lists=(name_list("بيروت"),))).apply(DOCUMENT)
    assert nothing is DOCUMENT


def test_readers_without_rules_read_the_json():
    """They refuse unknown keys of spans, and keep unknown keys of ``meta``."""
    tagged = RuleTagger(Rules(lists=(name_list("الموصل", label="GPE"),))).apply(DOCUMENT)
    record = tagged.to_dict()
    assert {key for span in record["spans"] for key in span} <= {"start", "end", "label", "score"}
    again = Document.from_dict(record, where="test")
    assert again.meta == tagged.meta
    assert [span.key for span in again.spans] == [span.key for span in tagged.spans]
    assert tagged.spans[0].to_dict() == {"start": 6, "end": 12, "label": "GPE", "rule": "added"}


@settings(deadline=None, max_examples=40)
@given(texts_and_names(), st.data())
def test_names_never_overlap_and_every_change_is_in_the_log(case, data):
    text, names = case
    ends = word_offsets(text)
    chosen = data.draw(st.lists(st.sampled_from(ends), unique=True, max_size=4)) if ends else []
    before = Document("d", text, tuple(Span(start, end, "PER", 0.5) for start, end in chosen))
    choose = st.lists(st.sampled_from(names), max_size=3)
    lists = tuple(
        name_list(*data.draw(choose), label=label, precedence=precedence)
        for label, precedence in (("PER", "rules"), ("ORG", "rules"), ("LOC", "model"))
    )
    never = (name_list(*data.draw(choose), label=""),)
    after = RuleTagger(Rules(lists=lists, never=never)).apply(before)
    assert all(one.end <= other.start for one, other in pairwise(after.spans))
    log = after.meta.get(RULES_KEY, [])
    logged = {
        kind: {(entry["start"], entry["end"]) for entry in log if entry["rule"] == kind}
        for kind in ("added", "confirmed", "removed")
    }
    for kind in ("added", "confirmed"):
        assert logged[kind] == {(span.start, span.end) for span in after.spans if span.rule == kind}
    kept = {span.key for span in after.spans}
    assert logged["removed"] == {(span.start, span.end) for span in before.spans if span.key not in kept}
    # The order of the names in a list does not matter.
    turned = tuple(NameList(title="list", entries=names.entries[::-1], precedence=names.precedence) for names in lists)
    assert RuleTagger(Rules(lists=turned, never=never)).apply(before) == after
