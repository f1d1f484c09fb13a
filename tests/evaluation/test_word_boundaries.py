"""Names on whole words and the IOB2 tags of the words."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from musamma.data.document import Document, Span
from musamma.evaluation.conll_tags import lenient_chunks, strict_chunks
from musamma.evaluation.word_boundaries import align_to_words, enclosing_words, tag_words, whitespace_words

LABELS = ("PER", "LOC", "ORG", "MISC")


@st.composite
def texts_with_names(draw: st.DrawFn) -> Document:
    parts = ["أعلن", "(داعش)-الموصل", "وبالموصل", "محمد", "السعيد،", "«الآن»", "،"]
    text = draw(st.sampled_from([" ", " \n "])).join(draw(st.lists(st.sampled_from(parts), min_size=1, max_size=10)))
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=14)))
    retained = [pair for pair in pairwise(cuts) if draw(st.booleans())]
    return Document("a", text, tuple(Span(*pair, draw(st.sampled_from(LABELS))) for pair in retained))


@given(texts_with_names())
def test_tags_represent_the_first_name_of_every_word(document):
    tags, borders = tag_words(whitespace_words(document.text), document.spans), whitespace_words(document.text)
    assert len(tags) == len(document.text.split())
    read = [(borders[start][0], borders[end - 1][1], label) for start, end, label in strict_chunks(tags)]
    assert read == align_to_words(document.text, document.spans).iob2
    assert list(strict_chunks(tags)) == list(lenient_chunks(tags))


@given(texts_with_names())
def test_shared_words_are_those_touched_by_several_names(document):
    shared = sum(
        sum(span.start < end and start < span.end for span in document.spans) > 1
        for start, end in whitespace_words(document.text)
    )
    assert align_to_words(document.text, document.spans).shared_words == shared


def test_enclosing_words_are_the_words_touched():
    text = " في (داعش)-الموصل\u00a0اليوم "
    assert enclosing_words(text, 5, 9) == (4, 17)
    assert enclosing_words(text, 3, 5) == (4, 17)  # the leading space is no word
    assert enclosing_words(text, 15, 19) == (4, 23)
    assert enclosing_words(text, 3, 4) is None
    assert enclosing_words("بغداد", 1, 3) == (0, 5)


def test_a_name_beyond_the_words_is_tagged_on_the_words_it_touches():
    assert tag_words([(0, 2), (3, 7)], [Span(3, 12, "LOC")]) == ["O", "B-LOC"]
    assert tag_words([(8, 12), (13, 15)], [Span(3, 12, "LOC")]) == ["B-LOC", "O"]
    assert tag_words([(8, 12)], [Span(0, 4, "LOC")]) == ["O"]
    assert tag_words([], [Span(0, 4, "LOC")]) == []
