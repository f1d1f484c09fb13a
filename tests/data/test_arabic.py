"""Words of Arabic text, their letters and their proclitics."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.arabic import MAX_PROCLITIC_LETTERS, is_letter, proclitic_offsets, strip_marks, word_offsets


def surfaces(text: str) -> list[str]:
    return [text[start:end] for start, end in word_offsets(text)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("وصل إلى (دمشق)، ثم", ["وصل", "إلى", "(", "دمشق", ")", "،", "ثم"]),
        ("مُحَـمَّدٌ رسول", ["مُحَـمَّدٌ", "رسول"]),
        ("بلغ 3.5 و 12,000 و ٣٫٥.", ["بلغ", "3.5", "و", "12,000", "و", "٣٫٥", "."]),
        ("طائرة إف-16", ["طائرة", "إف", "-", "16"]),
        ("\u202bداعش\u202c و\u200fالموصل", ["داعش", "و\u200fالموصل"]),
        ("😀𐎠𐎡 ﷺ…", ["😀", "𐎠𐎡", "ﷺ", "…"]),
        (" \n\t\u200e", []),
    ],
)
def test_words_of_real_text(text: str, words: list[str]) -> None:
    assert surfaces(text) == words


@given(st.text())
def test_words_cover_every_visible_character_once(text: str) -> None:
    words = word_offsets(text)
    assert all(start < end for start, end in words)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(words))
    covered = {offset for start, end in words for offset in range(start, end)}
    assert all(offset in covered for offset, c in enumerate(text) if c.isalnum())
    assert not any(text[offset].isspace() for offset in covered)


def test_strip_marks_keeps_letters_only() -> None:
    assert strip_marks("مُحَمَّـد\n  السَّعيد\u200f") == "محمد السعيد"
    assert strip_marks("الأردن") != strip_marks("الاردن")


@pytest.mark.parametrize(
    ("word", "starts"),
    [
        ("وداعش", ["وداعش", "داعش"]),
        ("بالموصل", ["بالموصل", "الموصل"]),
        ("للجيش", ["للجيش", "لجيش"]),
        ("وبالموصل", ["وبالموصل", "بالموصل", "الموصل"]),
        ("وَبِـالموصل", ["وَبِـالموصل", "بِـالموصل", "الموصل"]),
        ("دمشق", ["دمشق"]),
        ("و", ["و"]),
        ("ﻭﺩﺍﻋﺶ", ["ﻭﺩﺍﻋﺶ", "ﺩﺍﻋﺶ"]),
        ("بفرنسا", ["بفرنسا", "فرنسا"]),
    ],
)
def test_proclitic_offsets_of_words(word: str, starts: list[str]) -> None:
    assert [word[offset:] for offset in proclitic_offsets(word, 0, len(word))] == starts


@given(st.text(alphabet=st.sampled_from("وفبلكسادم\u064e\u0640\u200dx1"), min_size=1, max_size=8))
def test_proclitic_offsets_are_letters_of_the_word(word: str) -> None:
    offsets = proclitic_offsets(word, 0, len(word))
    assert offsets[0] == 0
    assert offsets == sorted(set(offsets))
    assert len(offsets) <= MAX_PROCLITIC_LETTERS + 1
    assert all(is_letter(word[offset]) for offset in offsets[1:])
