"""Spans to tags to perfect logits and back to spans: the identity, except for reported misalignments."""

from __future__ import annotations

import itertools

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
from tests.support import SHORT_TEXTS

TAGS = TagSet(("LOC", "ORG", "PER"))


@pytest.fixture(scope="module", params=["wordpiece_encoder", "unigram_encoder"])
def encoder(request: pytest.FixtureRequest) -> DocumentTokenizer:
    tokenizer = install_normalizer(AutoTokenizer.from_pretrained(request.getfixturevalue(request.param)))
    return DocumentTokenizer(tokenizer, max_length=40, overlap=12)


def perfect(encoded: TokenizedDocument, targets: WordTargets) -> list[Span]:
    """Decode logits that agree exactly with the targets, read through the windows as in inference."""
    tags = np.zeros((len(encoded.words), len(TAGS)))
    proclitics = np.zeros((len(encoded.words), PROCLITIC_CLASSES))
    for window in encoded.windows:
        for word in window.words[window.owned]:
            tags[word, targets.tags[word]] += 20.0
            if targets.proclitics[word] != IGNORE_INDEX:
                proclitics[word, targets.proclitics[word]] += 20.0
    return decode(encoded, tags, proclitics, TAGS)


@st.composite
def annotated(draw: st.DrawFn) -> Document:
    """A text with names: most begin and end where words do, some after proclitics, some anywhere."""
    text = draw(SHORT_TEXTS)
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
    targets = build_targets(encoded, TAGS)
    predicted = {span.key for span in perfect(encoded, targets)}
    misaligned = {loss.span.key for loss in targets.misalignments}
    replacements = {loss.replacement.key for loss in targets.misalignments if loss.replacement is not None}
    assert predicted == {span.key for span in document.spans} - misaligned | replacements
    # A replacement differs from the annotation, and a span on words or after proclitics is never reported.
    assert not replacements & misaligned
    pieces = {tuple(word) for word in encoded.words.tolist()}
    for span in document.spans:
        words = [word for word in word_offsets(document.text) if word[0] < span.end and span.start < word[1]]
        if words and all(word in pieces for word in words) and words[-1][1] == span.end:
            starts = proclitic_offsets(document.text, *words[0])
            shared = any(other.end > words[0][0] and other.start < span.start for other in document.spans)
            if span.start in starts and not shared:
                assert span.key not in misaligned


def test_a_word_longer_than_a_window_is_one_word(encoder: DocumentTokenizer) -> None:
    text = "وصل " + "ابتثجحخد" * 2_000 + " إلى دمشق"
    encoded = encoder.tokenize(Document("d", text, (Span(len(text) - 4, len(text), "LOC"),)))
    assert len(encoded.words) == 4
    assert perfect(encoded, build_targets(encoded, TAGS)) == [
        Span(len(text) - 4, len(text), "LOC", pytest.approx(1, abs=1e-3))
    ]


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
@given(text=SHORT_TEXTS, seed=st.integers(0, 1000))
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
    targets = build_targets(encoded, TAGS, proclitics=False)
    assert [loss.replacement for loss in targets.misalignments] == [Span(4, 9, "ORG")]
    logits = np.eye(len(TAGS))[targets.tags] * 20
    assert [span.key for span in decode(encoded, logits, None, TAGS)] == [(4, 9, "ORG")]
