"""The normaliser of the tokenizer: removed and folded characters, and offsets into the raw text."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from musamma.data.arabic import is_letter, word_offsets
from musamma.data.errors import InputError
from musamma.data.normalization import arabic_normalizer, fast_backend, has_normalizer, install_normalizer

RAW = ["مُحَمَّدٌ", "كـــتاب", "ﻣﺤﻤﺪ", "ا\u0653خر", "\u202bداعش\u202c", "کابل", "ایران", "١٢٣ و 123"]
CLEAN = ["محمد", "كتاب", "محمد", "آخر", "داعش", "كابل", "ايران", "١٢٣ و 123"]

# Anything that Unicode has but surrogates, with what Arabic text is made of more often than chance would have it.
ARABIC = "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيـ\u064b\u064c\u064d\u064e\u064f\u0650\u0651\u0652\u0670\u0653\u0654"
ODD = '\u200c\u200d\u200e\u200f\u202b\u202c\u2066\u2069\ufeff\u00ad ﷺﻻﺎﻟﺠﻴﺶ😀👨‍👩‍👧𐎠𐎡𝔸٠١٢0123.,،؛؟()«»"-\n\t'
TEXTS = st.text(
    st.one_of(st.sampled_from(ARABIC), st.sampled_from(ODD), st.characters(exclude_categories=["Cs"])), max_size=60
)


@pytest.fixture(scope="module", params=["wordpiece_encoder", "unigram_encoder"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerBase:
    return install_normalizer(AutoTokenizer.from_pretrained(request.getfixturevalue(request.param)))


@pytest.mark.parametrize(("raw", "clean"), list(zip(RAW, CLEAN, strict=True)))
def test_marks_are_removed_and_letters_folded(raw: str, clean: str) -> None:
    assert arabic_normalizer().normalize_str(raw) == clean


def test_hamza_is_part_of_its_letter() -> None:
    text = "إن أحمد وآدم رأى شيئا في مؤتمر القاهرة على مرأى"
    assert arabic_normalizer().normalize_str(text) == text


def test_vocalised_text_has_the_pieces_of_plain_text(tokenizer: PreTrainedTokenizerBase) -> None:
    plain = "وصل محمد إلى دمشق"
    vocalised = "وَصَلَ مُحَمَّدٌ إِلى دِمَشـــق"
    assert tokenizer.tokenize(vocalised) == tokenizer.tokenize(plain)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
@example(text="وَبِـالموصل (داعش)، 3.5%")
@example(text="ﷺ قال ﻟﻠﺠﻴﺶ 😀")
def test_offsets_recover_the_surface(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
    offsets = encoding["offset_mapping"]
    assert all(0 <= start < end <= len(text) for start, end in offsets)
    assert offsets == sorted(offsets)
    normalizer = fast_backend(tokenizer).normalizer
    assert normalizer is not None
    unknown = tokenizer.unk_token
    for token, (start, end) in zip(encoding.tokens(), offsets, strict=True):
        letters = token.removeprefix("##").replace("▁", "")
        if token != unknown and letters:
            # What the piece holds is in what its characters normalise to: a ligature gives several pieces, all on one character.
            assert letters in normalizer.normalize_str(text[start:end]).replace("▁", "")


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(text=st.text(st.sampled_from(ARABIC + ODD), max_size=40))
def test_no_piece_spans_two_words(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    # Signs that NFKC turns into letters (㎏) may join the word before them.
    assume(unicodedata.is_normalized("NFKC", text))
    # WordPiece takes some signs (¢) for letters.
    assume(not any(unicodedata.category(c)[0] in "SC" for c in text))
    words = word_offsets(text)
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for start, end in offsets:
        inside = [word for word in words if word[0] < end and start < word[1]]
        assert len(inside) <= 1, (text[start:end], [text[a:b] for a, b in inside])


def test_the_normaliser_is_saved_with_the_tokenizer(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenizer.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert has_normalizer(loaded)
    assert fast_backend(loaded).to_str() == fast_backend(tokenizer).to_str()
    assert loaded.tokenize("مُحَمَّد (داعش)") == tokenizer.tokenize("مُحَمَّد (داعش)")


def test_installing_twice_changes_nothing(tokenizer: PreTrainedTokenizerBase) -> None:
    before = fast_backend(tokenizer).to_str()
    assert install_normalizer(tokenizer) is tokenizer
    assert fast_backend(tokenizer).to_str() == before


def test_a_slow_tokenizer_is_an_error() -> None:
    class Slow:
        name_or_path = "slow"

    with pytest.raises(InputError, match="slow tokenizer"):
        install_normalizer(Slow())  # type: ignore[arg-type]


def test_letters_and_marks_are_distinguished() -> None:
    assert [c for c in "مُـحَ\u200d" if is_letter(c)] == ["م", "ح"]
