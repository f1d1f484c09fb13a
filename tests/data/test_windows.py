"""Windows own every word once, misaligned names are reported, and long texts are tokenized by sections like whole ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from musamma.data.corpora import load_khabar
from musamma.data.document import Document, Span
from musamma.data.normalization import install_normalizer
from musamma.data.tags import TagSet
from musamma.data.windows import (
    SECTION_LENGTH,
    SECTION_MARGIN,
    BatchTokenizer,
    DocumentTokenizer,
    Pieces,
    build_targets,
    tokenize_texts,
)
from musamma.models.checkpoint import load_tokenizer
from tests.support import SHORT_TEXTS, make_document

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


TAGS = TagSet(("LOC", "ORG", "PER"))


@pytest.fixture(scope="module", params=["wordpiece_encoder", "unigram_encoder"])
def encoder(request: pytest.FixtureRequest) -> DocumentTokenizer:
    tokenizer = install_normalizer(AutoTokenizer.from_pretrained(request.getfixturevalue(request.param)))
    return DocumentTokenizer(tokenizer, max_length=40, overlap=12)


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


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(SHORT_TEXTS, st.text(max_size=200)))
def test_every_word_is_owned_by_one_window_and_windows_end_at_words(encoder: DocumentTokenizer, text: str) -> None:
    encoded = encoder.tokenize(Document("d", text))
    owned = [word for window in encoded.windows for word in window.words[window.owned].tolist()]
    assert owned == list(range(len(encoded.words)))
    for window in encoded.windows:
        assert len(window.input_ids) <= encoder.max_length
        assert window.words.tolist() == list(range(window.words[0], window.words[-1] + 1))
        assert (np.diff(window.positions) > 0).all()
        assert window.positions[0] > 0
        assert window.positions[-1] < len(window.input_ids) - 1
    for left, right in itertools.pairwise(encoded.windows):
        assert left.words[0] < right.words[0] <= left.words[-1] + 1


def test_neighbouring_windows_overlap(encoder: DocumentTokenizer) -> None:
    encoded = encoder.tokenize(Document("d", " ".join(["وصل محمد إلى دمشق"] * 60)))
    assert len(encoded.windows) > 3
    for left, right in itertools.pairwise(encoded.windows):
        shared = len(np.intersect1d(left.words, right.words))
        assert shared >= 2
        # Ownership changes in the middle of the shared words.
        middle = left.words[left.owned][-1] + 1
        assert abs((middle - right.words[0]) - (left.words[-1] + 1 - middle)) <= 1


def test_the_first_window_starts_where_the_document_starts(encoder: DocumentTokenizer) -> None:
    window = encoder.tokenize(Document("d", "وصل")).windows[0]
    assert window.input_ids.tolist() == encoder.backend.encode("وصل").ids


@pytest.mark.parametrize("special", ["[SEP]", "[CLS]", "</s>", "<mask>"])
def test_special_tokens_in_a_text_are_plain_text(encoder: DocumentTokenizer, special: str) -> None:
    window = encoder.tokenize(Document("d", f"وصل {special} إلى")).windows[0]
    tokens = {encoder.backend.id_to_token(piece) for piece in window.input_ids[1:-1].tolist()}
    assert not tokens & {"[PAD]", "[CLS]", "[SEP]", "[MASK]", "<s>", "<pad>", "</s>", "<mask>"}


@pytest.mark.parametrize(
    ("surface", "reason", "kept"),
    [
        ("موصل", "it begins inside a word, not after a proclitic", "بالموصل"),
        ("الموص", "it ends inside a word", "الموصل"),
        ("الموصل ", "it ends after a word", "الموصل"),
        (" بالموصل", "it begins before a word", "بالموصل"),
    ],
)
def test_a_misaligned_name_is_reported_with_its_reason(
    encoder: DocumentTokenizer, surface: str, reason: str, kept: str
) -> None:
    text = "نزل بالموصل ثم عاد"
    document = make_document(text, (surface, "LOC"))
    (loss,) = build_targets(encoder.tokenize(document), TAGS).misalignments
    assert loss.reason == reason
    assert loss.replacement is not None
    assert document.surface(loss.replacement) == kept


def test_a_name_without_letters_is_dropped_and_reported(encoder: DocumentTokenizer) -> None:
    document = Document("d", "قال ــ نعم", (Span(4, 6, "PER"),))
    (loss,) = build_targets(encoder.tokenize(document), TAGS).misalignments
    assert loss.replacement is None
    assert "no word" in loss.reason


def test_the_seed_article_has_no_misaligned_name(encoder: DocumentTokenizer, seed_article: Document) -> None:
    tags = TagSet.from_labels(span.label for span in seed_article.spans)
    goal = build_targets(encoder.tokenize(seed_article), tags)
    assert goal.misalignments == ()


def test_documents_are_tokenized_independently_of_their_batch(encoder: DocumentTokenizer, tmp_path: Path) -> None:
    documents = [Document(str(i), text) for i, text in enumerate(["وصل محمد", "", "إلى دمشق " * 50, "😀"])]
    together = list(encoder.tokenize_all(documents, batch_size=3))
    for document, encoded in zip(documents, together, strict=True):
        alone = encoder.tokenize(document)
        assert alone.words.tolist() == encoded.words.tolist()
        assert [w.input_ids.tolist() for w in alone.windows] == [w.input_ids.tolist() for w in encoded.windows]
