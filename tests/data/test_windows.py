"""Tokenization of long texts by sections gives the pieces of the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerBase

from musamma.data.corpora import load_khabar
from musamma.data.document import Document
from musamma.data.normalization import install_normalizer
from musamma.data.windows import (
    SECTION_LENGTH,
    SECTION_MARGIN,
    BatchTokenizer,
    DocumentTokenizer,
    Pieces,
    tokenize_texts,
)
from musamma.models.loading import load_tokenizer

ARTICLE = load_khabar("test")[0].text
WORDS = [
    "وبالموصل", "المُوصِل", "الإسكندريـــة", "3.5", "12:30", "(داعش)", "،", "😀", "ﻻ", "\u202eبغداد\u202c", "General", "\x00",
    "اسم" * 60, "ا\u0301\u0301", "\ufeff", "e\u0301", "👩‍👩‍👧",
]  # fmt: skip
LONG = st.lists(
    st.tuples(
        st.sampled_from(WORDS) | st.text(max_size=12), st.sampled_from([" ", "\n", "  ", "\t", "", "\u00a0", " " * 80])
    ),
    min_size=20,
    max_size=250,
).map(lambda parts: "".join(word + space for word, space in parts))


@pytest.fixture
def tokenizer(any_encoder: Path) -> PreTrainedTokenizerBase:
    return install_normalizer(load_tokenizer(str(any_encoder)))


class CountingTokenizer:
    """A tokenizer that records the lengths of the texts it gets."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer, self.lengths = tokenizer, list[int]()

    def __call__(self, texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        self.lengths += map(len, texts)
        found = self.tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True, split_special_tokens=True)
        return list(zip(found["input_ids"], found["offset_mapping"], strict=True))


def are_equal(first: Pieces, second: Pieces) -> bool:
    return np.array_equal(first.ids, second.ids) and np.array_equal(first.offsets, second.offsets)


def tokenize_whole(text: str, tokenize: BatchTokenizer) -> Pieces:
    return next(tokenize_texts([text], tokenize, section=len(text) + 1))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=LONG)
@example(text=ARTICLE)
@example(text=" " * 3000 + "بغداد" + "\n" * 3000)
@example(text="اسم" * 2000)
@example(text="")
def test_sections_give_the_pieces_of_the_whole(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    tokenize = CountingTokenizer(tokenizer)
    assert are_equal(next(tokenize_texts([text], tokenize, section=300, margin=75)), tokenize_whole(text, tokenize))


def test_a_long_text_is_not_tokenized_in_one_piece(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenize = CountingTokenizer(tokenizer)
    pieces = next(tokenize_texts([ARTICLE * 3], tokenize, section=600, margin=150))
    assert max(tokenize.lengths) <= 600 + 3 * 150
    assert len(tokenize.lengths) > 10
    assert are_equal(pieces, tokenize_whole(ARTICLE * 3, tokenize))


def test_texts_keep_their_order(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenize = CountingTokenizer(tokenizer)
    texts = ["بغداد", "", ARTICLE, "دمشق " * 200, " ", "بيروت"]
    found = list(tokenize_texts(texts, tokenize, section=500, margin=100))
    assert len(found) == len(texts)
    for text, pieces in zip(texts, found, strict=True):
        assert are_equal(pieces, tokenize_whole(text, tokenize))


def test_a_tokenizer_that_depends_on_distant_text_gets_the_whole() -> None:
    def tokenize(texts: list[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        return [([len(text)] * len(text), [(at, at + 1) for at in range(len(text))]) for text in texts]

    assert next(tokenize_texts(["ا" * 1000], tokenize, section=100, margin=25)).ids.tolist() == [1000] * 1000


def test_a_document_tokenized_by_sections_is_the_same(any_encoder: Path) -> None:
    encoder = DocumentTokenizer(install_normalizer(load_tokenizer(str(any_encoder))), max_length=64, overlap=16)
    line = ARTICLE.splitlines()[0] + "\n"
    text = line * ((2 * SECTION_LENGTH + 2 * SECTION_MARGIN) // len(line))
    encoded = encoder.tokenize(Document("long", text))
    alone = encoder.tokenize(Document("line", line))
    assert len(text) > 2 * SECTION_LENGTH + SECTION_MARGIN
    # Every line is cut into the same words.
    count = len(alone.words)
    assert len(encoded.words) == count * (len(text) // len(line))
    shifts = np.repeat(np.arange(len(text) // len(line)) * len(line), count)[:, None]
    assert np.array_equal(encoded.words, np.tile(alone.words, (len(text) // len(line), 1)) + shifts)
    assert [text[start:end] for start, end in encoded.words[-3:]] == [line[a:b] for a, b in alone.words[-3:]]
