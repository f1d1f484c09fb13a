"""Spans to tags to perfect logits and back to spans: the identity, except for reported misalignments."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from musamma.data.arabic import proclitic_offsets, word_offsets
from musamma.data.document import Document, Span
from musamma.data.normalization import install_normalizer
from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX, DocumentTokenizer, TokenizedDocument, WordTargets, build_targets
from musamma.models.decoding import PROCLITIC_CLASSES, decode, find_best_tags, log_softmax
from tests.support import make_document

TAGS = TagSet(("LOC", "ORG", "PER"))
WORDS = st.sampled_from(
    [
        "وصل",
        "مُحَمَّد",
        "السعيد",
        "إلى",
        "بالموصل",
        "وداعش",
        "للجيش",
        "وبالقاهرة",
        "،",
        "(",
        ")",
        "كـــتاب",
        "ﷺ",
        "3.5",
        "😀",
        "ـ",
        "ً",
        "\u202bدمشق\u202c",
        "ﻟﻠﺠﻴﺶ",
        "General",
        "و",
        "إف-16",
        "㎏",
    ]
)
TEXTS = st.lists(WORDS, max_size=120).map(" ".join)


@pytest.fixture(scope="module", params=["wordpiece_encoder", "unigram_encoder"])
def encoder(request: pytest.FixtureRequest) -> DocumentTokenizer:
    tokenizer = install_normalizer(AutoTokenizer.from_pretrained(request.getfixturevalue(request.param)))
    return DocumentTokenizer(tokenizer, max_length=40, overlap=12)


def perfect(encoded: TokenizedDocument, goal: WordTargets) -> list[Span]:
    """Decode logits that agree exactly with the targets, read through the windows as in inference."""
    tags = np.zeros((len(encoded.words), len(TAGS)))
    proclitics = np.zeros((len(encoded.words), PROCLITIC_CLASSES))
    for window in encoded.windows:
        for word in window.words[window.owned]:
            tags[word, goal.tags[word]] += 20.0
            if goal.proclitics[word] != IGNORE_INDEX:
                proclitics[word, goal.proclitics[word]] += 20.0
    return decode(encoded, tags, proclitics, TAGS)


@st.composite
def annotated(draw: st.DrawFn) -> Document:
    """A text with names: most begin and end where words do, some after proclitics, some anywhere."""
    text = draw(TEXTS)
    words = word_offsets(text)
    spans, position = [], 0
    while position < len(words):
        length = draw(st.integers(1, 4))
        last = min(position + length, len(words)) - 1
        start, end = words[position][0], words[last][1]
        kind = draw(st.sampled_from(["none", "none", "words", "proclitic", "anywhere"]))
        if kind == "proclitic":
            start = draw(st.sampled_from(proclitic_offsets(text, *words[position])))
        elif kind == "anywhere":
            start = draw(st.integers(start, end - 1))
            end = draw(st.integers(start + 1, end))
        if kind != "none":
            spans.append(Span(start, end, draw(st.sampled_from(TAGS.labels))))
        position = last + 1
    return Document("d", text, tuple(spans))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=annotated())
def test_perfect_logits_restore_every_span_or_it_is_reported(encoder: DocumentTokenizer, document: Document) -> None:
    encoded = encoder.tokenize(document)
    goal = build_targets(encoded, TAGS)
    found = {span.key for span in perfect(encoded, goal)}
    lost = {loss.span.key for loss in goal.misalignments}
    kept = {loss.replacement.key for loss in goal.misalignments if loss.replacement is not None}
    assert found == {span.key for span in document.spans} - lost | kept
    # What is reported is not what was annotated, and a span that stands on words and behind proclitics is never reported.
    assert not kept & lost
    pieces = {tuple(word) for word in encoded.words.tolist()}
    for span in document.spans:
        words = [word for word in word_offsets(document.text) if word[0] < span.end and span.start < word[1]]
        if words and all(word in pieces for word in words) and words[-1][1] == span.end:
            starts = proclitic_offsets(document.text, *words[0])
            shared = any(other.end > words[0][0] and other.start < span.start for other in document.spans)
            if span.start in starts and not shared:
                assert span.key not in lost


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.one_of(TEXTS, st.text(max_size=200)))
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


def test_a_word_longer_than_a_window_is_one_word(encoder: DocumentTokenizer) -> None:
    text = "وصل " + "ابتثجحخد" * 2_000 + " إلى دمشق"
    encoded = encoder.tokenize(Document("d", text, (Span(len(text) - 4, len(text), "LOC"),)))
    assert len(encoded.words) == 4
    assert perfect(encoded, build_targets(encoded, TAGS)) == [
        Span(len(text) - 4, len(text), "LOC", pytest.approx(1, abs=1e-3))
    ]


def test_the_first_window_starts_where_the_document_starts(encoder: DocumentTokenizer) -> None:
    window = encoder.tokenize(Document("d", "وصل")).windows[0]
    plain = encoder.tokenizer("وصل")["input_ids"]
    assert window.input_ids.tolist() == plain


@pytest.mark.parametrize("special", ["[SEP]", "[CLS]", "</s>", "<mask>"])
def test_special_tokens_in_a_text_are_plain_text(encoder: DocumentTokenizer, special: str) -> None:
    window = encoder.tokenize(Document("d", f"وصل {special} إلى")).windows[0]
    assert not set(window.input_ids[1:-1].tolist()) & (
        set(encoder.tokenizer.all_special_ids) - {encoder.tokenizer.unk_token_id}
    )


@st.composite
def scores(draw: st.DrawFn) -> np.ndarray:
    words = draw(st.integers(1, 5))
    seed = draw(st.integers(0, 10_000))
    return log_softmax(np.random.default_rng(seed).normal(size=(words, 5)) * 3)


@settings(deadline=None)
@given(table=scores())
def test_the_best_allowed_sequence_is_found(table: np.ndarray) -> None:
    allowed = TagSet(("A", "B")).allowed_transitions()
    best = find_best_tags(table, allowed)
    value = {}
    for sequence in itertools.product(range(5), repeat=len(table)):
        if all(allowed[a, b] for a, b in zip((5, *sequence[:-1]), sequence, strict=True)):
            value[sequence] = sum(table[word, tag] for word, tag in enumerate(sequence))
    assert value[tuple(best)] == pytest.approx(max(value.values()))


def test_an_inside_tag_never_opens_a_name() -> None:
    allowed = TAGS.allowed_transitions()
    names = TAGS.tags
    for before, after in itertools.product(range(len(names) + 1), range(len(names))):
        opens = names[after].startswith("I-") and (before == len(names) or names[before][2:] != names[after][2:])
        assert allowed[before, after] == (not opens)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS, seed=st.integers(0, 1000))
def test_any_logits_give_spans_without_overlap_inside_the_text(
    encoder: DocumentTokenizer, text: str, seed: int
) -> None:
    encoded = encoder.tokenize(Document("d", text))
    random = np.random.default_rng(seed)
    spans = decode(
        encoded,
        random.normal(size=(len(encoded.words), len(TAGS))) * 4,
        random.normal(size=(len(encoded.words), PROCLITIC_CLASSES)) * 4,
        TAGS,
    )
    Document("d", text, tuple(spans))  # validates borders and overlap
    assert all(span.score is not None and 0 < span.score <= 1 for span in spans)
    assert len({span.key for span in spans}) == len(spans)


def test_the_score_combines_tags_and_border() -> None:
    encoded = TokenizedDocument(Document("d", "وداعش"), np.array([[0, 5]]), ())
    tags = np.log(np.array([[0.1, 0.6, 0.1, 0.05, 0.05, 0.05, 0.05]]))
    borders = np.log(np.array([[0.2, 0.6, 0.2]]))
    (span,) = decode(encoded, tags, borders, TAGS)
    # Only two borders are possible in this word: the third one's probability is distributed over them.
    assert span == Span(1, 5, "LOC", pytest.approx(0.6 * 0.75, abs=1e-5))


def test_without_a_proclitic_head_names_begin_where_words_do(encoder: DocumentTokenizer) -> None:
    document = Document("d", "قتل وداعش هناك", (Span(5, 9, "ORG"),))
    encoded = encoder.tokenize(document)
    goal = build_targets(encoded, TAGS, proclitics=False)
    assert [loss.replacement for loss in goal.misalignments] == [Span(4, 9, "ORG")]
    logits = np.eye(len(TAGS))[goal.tags] * 20
    assert [span.key for span in decode(encoded, logits, None, TAGS)] == [(4, 9, "ORG")]


@pytest.mark.parametrize(
    ("surface", "reason", "kept"),
    [
        ("موصل", "it begins inside a word, behind no proclitic", "بالموصل"),
        ("الموص", "it ends inside a word", "الموصل"),
        ("الموصل ", "it ends behind a word", "الموصل"),
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
