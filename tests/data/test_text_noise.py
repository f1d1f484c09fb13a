"""Noise: what it writes, and that names move along with their texts."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.document import Document, Span
from musamma.data.normalization import arabic_normalizer
from musamma.data.spelling import Spelling
from musamma.data.text_noise import NOISE, add_noise
from tests.support import span

TEXT = "قال أحمد علي في مكة، إن (مدينة) الإسكندرية 3.5 كبيرة"
#: Kinds that a tokenizer's normaliser removes.
REMOVED = ("vowel_signs", "tatweel", "direction_marks", "presentation_forms")


def noisy(kind: str, text: str = TEXT, *names: str) -> tuple[str, list[str]]:
    document = Document("d", text, tuple(span(text, name, "PER") for name in names))
    changed = add_noise(document, [kind])
    return changed.text, [changed.surface(name) for name in changed.spans]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("no_hamza", "قال احمد علي في مكة، ان (مدينة) الاسكندرية 3.5 كبيرة"),
        ("alef_maqsura", "قال أحمد على فى مكة، إن (مدينة) الإسكندرية 3.5 كبيرة"),
        ("ta_marbuta", "قال أحمد علي في مكه، إن (مدينه) الإسكندريه 3.5 كبيره"),
        ("no_punctuation", "قال أحمد علي في مكة إن مدينة الإسكندرية 3.5 كبيرة"),
    ],
)
def test_what_is_written(kind, expected):
    assert noisy(kind)[0] == expected


def test_a_final_letter_with_a_vowel_sign_is_final():
    assert noisy("ta_marbuta", "مكةُ")[0] == "مكهُ"
    assert noisy("alef_maqsura", "علياء")[0] == "علياء"


def test_names_have_the_noise_and_nothing_beside_it():
    assert noisy("no_hamza", TEXT, "أحمد علي", "الإسكندرية")[1] == ["احمد علي", "الاسكندرية"]
    assert noisy("no_punctuation", TEXT, "مدينة", "الإسكندرية")[1] == ["مدينة", "الإسكندرية"]
    # The marks beside a name are those of the white space.
    text, names = noisy("direction_marks", "في مكة اليوم", "مكة")
    assert names == ["مكة"]
    assert text.count("\u200f") + text.count("\u202b") + text.count("\u202c") == 4
    assert noisy("vowel_signs", TEXT, "مكة")[1][0][-1] in "\u064e\u064f\u0650\u0652"


def test_presentation_forms_join_as_the_letters_do():
    assert noisy("presentation_forms", "دبي")[0] == "\ufea9\ufe91\ufef2"
    assert noisy("presentation_forms", "ماء")[0] == "\ufee3\ufe8e\ufe80"


def test_spaces():
    text = "كلمة " * 400
    assert len(text) < len(noisy("doubled_spaces", text)[0]) < 2 * len(text)
    lost = noisy("lost_spaces", text)[0]
    assert lost != text
    assert lost.replace(" ", "") == text.replace(" ", "")


def test_a_name_of_which_nothing_is_left_is_left_out():
    document = Document("d", "وقع «، في مكة", (Span(4, 6, "PROD"), Span(10, 13, "GPE")), (Span(4, 5, "PROD"),))
    changed = add_noise(document, ["no_punctuation"])
    assert [changed.surface(name) for name in changed.spans] == ["مكة"]
    assert changed.nested == ()


@pytest.mark.parametrize("kind", NOISE)
def test_noise_depends_on_id_and_seed(kind):
    document = Document("d", f"{TEXT}. " * 30)
    texts = {add_noise(document, [kind], seed=seed).text for seed in "aaab"}
    random_kinds = ("vowel_signs", "tatweel", "direction_marks", "doubled_spaces", "lost_spaces")
    assert len(texts) == (2 if kind in random_kinds else 1)
    assert document.text not in texts


@st.composite
def documents(draw: st.DrawFn) -> Document:
    letters = st.sampled_from("ابتةأإآؤئءىيكلمنهو")
    word = st.text(letters, min_size=1, max_size=6)
    words = draw(st.lists(word, min_size=1, max_size=8))
    text = draw(st.sampled_from([" ", ", ", "\n", " («"])).join(words)
    starts = sorted(draw(st.sets(st.integers(0, len(words) - 1))))
    offsets = [sum(len(word) for word in words[:index]) for index in range(len(words))]
    gap = (len(text) - sum(map(len, words))) // max(1, len(words) - 1)
    spans = [Span(offsets[i] + gap * i, offsets[i] + gap * i + len(words[i]), "PER") for i in starts]
    return Document("d", text, tuple(spans), tuple(spans[:1]))


@given(documents(), st.lists(st.sampled_from(list(NOISE)), max_size=3))
def test_names_stay_the_same_names(document, kinds):
    changed = add_noise(document, kinds)
    fold = Spelling().fold
    assert [fold(changed.surface(name)) for name in changed.spans] == [
        fold(document.surface(name)) for name in document.spans
    ]
    assert [name.label for name in changed.nested] == [name.label for name in document.nested]


@given(documents(), st.sampled_from(REMOVED))
def test_a_normaliser_removes_marks_and_forms(document, kind):
    normalize = arabic_normalizer().normalize_str
    text = unicodedata.normalize("NFC", document.text)
    assert normalize(add_noise(document, [kind]).text) == normalize(text)
