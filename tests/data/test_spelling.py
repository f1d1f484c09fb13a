"""Folding of spelling variants. The characters left out are compared with those the tokenizer's normaliser removes."""

from __future__ import annotations

import unicodedata
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.normalization import arabic_normalizer
from musamma.data.spelling import Spelling

# For each switch, spellings that are the same with it and different without it.
VARIANTS = {
    "hamza": [
        ("أحمد", "احمد"),
        ("إربد", "اربد"),
        ("آسيا", "اسيا"),
        ("ٱلله", "الله"),
        ("فؤاد", "فواد"),
        ("نائل", "نايل"),
    ],
    "alef_maqsura": [("مصطفى", "مصطفي")],
    "ta_marbuta": [("مكة", "مكه")],
    "vowel_marks": [("مُحَمَّد", "محمد"), ("الرحمٰن", "الرحمن")],
    "tatweel": [("محـــمد", "محمد")],
    "direction_marks": [("محم\u200fد", "محمد"), ("مح\u200dمد", "محمد"), ("مح\u00adمد", "محمد")],
}
TEXTS = st.text(
    st.one_of(st.sampled_from("أإآٱاىيةهؤئءًَّـ\u0653\u0654\u200fﻻﷺﻟﭐیکé 3"), st.characters(codec="utf-8")), max_size=20
)


def test_every_switch_has_variants():
    assert {field.name for field in fields(Spelling)} == set(VARIANTS)


@pytest.mark.parametrize(("switch", "pair"), [(name, pair) for name, pairs in VARIANTS.items() for pair in pairs])
def test_a_switch_decides_whether_variants_are_the_same(switch, pair):
    one, other = map(Spelling().fold, pair)
    assert one == other
    strict = Spelling(**{switch: False})
    one, other = map(strict.fold, pair)
    assert one != other


@pytest.mark.parametrize("tolerant", [True, False])
@pytest.mark.parametrize(
    "pair",
    [("ﻟﻠﺠﻴﺶ", "للجيش"), ("ﻻ", "لا"), ("علی", "علي"), ("کتاب", "كتاب"), ("ا\u0654حمد", "أحمد"), ("e\u0301", "é")],
)
def test_forms_of_a_letter_are_always_the_same(pair, tolerant):
    spelling = Spelling(**dict.fromkeys(VARIANTS, tolerant))
    one, other = map(spelling.fold, pair)
    assert one == other


@pytest.mark.parametrize("pair", [("é", "e"), ("NATO", "nato"), ("٣", "3"), ("سوء", "سو"), ("صالح", "سالح")])
def test_other_letters_differ(pair):
    one, other = map(Spelling().fold, pair)
    assert one != other


def test_what_is_left_out_is_what_the_tokenizer_removes_and_the_marks_of_hamza():
    normalizer, fold = arabic_normalizer(), Spelling().fold
    # Without the blocks of other scripts, which would take seconds.
    characters = [
        chr(code)
        for code in (*range(0x80, 0xA00), *range(0x1800, 0x1810), *range(0x2000, 0x2100), *range(0xFB50, 0x10000))
    ]
    # Spacing forms of vowel marks decompose to a space and the mark.
    characters = [c for c in characters if not unicodedata.normalize("NFKC", c).startswith(" ")]
    removed = {c for c in characters if not normalizer.normalize_str(c)}
    assert {c for c in characters if not fold(c)} == removed | set("\u0653\u0654\u0655")


@given(TEXTS, TEXTS, st.builds(Spelling, hamza=st.booleans(), vowel_marks=st.booleans(), tatweel=st.booleans()))
def test_the_fold_of_a_whole_is_that_of_its_parts(first, second, spelling):
    assert spelling.fold(first + second) == spelling.fold(first) + spelling.fold(second)


@given(TEXTS, st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=5))
def test_words_are_folded_as_alone(text, words):
    spelling = Spelling()
    assert spelling.fold_words(text, words) == [spelling.fold(text[start:end]) for start, end in words]


def test_a_text_is_folded_to_its_words():
    assert Spelling().fold_text("  قال مُحَمَّد ـ\t(أحمد)\n") == "قال\nمحمد\n(\nاحمد\n)"
