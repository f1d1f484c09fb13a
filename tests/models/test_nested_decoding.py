"""Names inside names: hand-computed decoding, the search against all sequences, and targets to logits and back."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musamma.data.arabic import word_offsets
from musamma.data.corpora import load_khabar
from musamma.data.document import Document, Span
from musamma.data.formats.markup import parse_article
from musamma.data.tags import TagSet
from musamma.data.windows import IGNORE_INDEX, TokenizedDocument, build_targets
from musamma.models.decoding import (
    PROCLITIC_CLASSES,
    _transitions_inside_a_name,
    decode,
    decode_nested,
    find_best_tags_inside_a_name,
)
from tests.support import SHORT_TEXTS

TAGS = TagSet(("FAC", "ORG", "PER"))
NESTED = TagSet(("GPE", "NORP", "ORG", "PER"))


def tokenized(document: Document) -> TokenizedDocument:
    """A document whose words are those of the text; decoding does not look at the windows."""
    return TokenizedDocument(document, np.array(word_offsets(document.text)).reshape(-1, 2), ())


def from_markup(text: str) -> Document:
    return parse_article(text.encode(), id="d", where="d")


def rows(count: int, **words: Mapping[str, float]) -> np.ndarray:
    """Log probabilities of nested tags: those given by word, ``w3={"B-PER": 0.8}``, and the rest shared by the others."""
    table = np.full((count, len(NESTED)), 0.01)
    table[:, 0] = 1.0
    for word, given_tags in words.items():
        row = np.full(len(NESTED), (1 - sum(given_tags.values())) / (len(NESTED) - len(given_tags)))
        for tag, probability in given_tags.items():
            row[NESTED.label2id[tag]] = probability
        table[int(word[1:])] = row
    return np.log(table / table.sum(axis=1, keepdims=True))


def found(document: Document, logits: np.ndarray, proclitics: np.ndarray | None = None) -> list[tuple[str, str]]:
    spans = decode_nested(tokenized(document), document.spans, logits, proclitics, NESTED)
    return [(document.surface(span), span.label) for span in spans]


def test_an_adjective_at_the_end_of_its_outer_name():
    document = from_markup("قال [مجلس النواب العراقي|ORG] اليوم")
    logits = rows(5, w3={"B-NORP": 0.8, "O": 0.1})
    (span,) = decode_nested(tokenized(document), [Span(4, 23, "ORG", 0.5)], logits, None, NESTED)
    # Half as probable as the outer name, which has a score of 0.5. No word of the outer name follows.
    assert (document.surface(span), span.label, span.score) == ("العراقي", "NORP", pytest.approx(0.5 * 0.8))


def test_a_person_in_the_name_of_a_university_and_its_score():
    document = from_markup("في [جامعة الملك سعود|ORG] أمس")
    logits = rows(5, w2={"B-PER": 0.9, "O": 0.05}, w3={"I-PER": 0.7, "O": 0.2})
    (span,) = decode_nested(tokenized(document), document.spans, logits, None, NESTED)
    assert (document.surface(span), span.label, span.score) == ("الملك سعود", "PER", pytest.approx(0.9 * 0.7))


def test_the_word_after_a_nested_name_counts_only_inside_the_outer_name():
    document = from_markup("[وكالة الأنباء السورية سانا|ORG]")
    logits = rows(4, w1={"B-ORG": 0.6, "O": 0.3}, w2={"O": 0.75, "I-ORG": 0.2})
    (span,) = decode_nested(tokenized(document), document.spans, logits, None, NESTED)
    assert (document.surface(span), span.score) == ("الأنباء", pytest.approx(0.6 * (1 - 0.2)))


def test_a_nested_name_may_not_cover_its_outer_name():
    """ORG over both words has 0.63, but only the second best sequence is allowed: ORG on the first word, 0.9 x 0.2."""
    document = from_markup("[بنك بغداد|ORG]")
    assert found(document, rows(2, w0={"B-ORG": 0.9}, w1={"I-ORG": 0.7, "O": 0.2})) == [("بنك", "ORG")]
    # The sequence without a nested name is more probable than that: 0.3 x 0.2 against 0.6 x 0.05.
    logits = rows(2, w0={"B-ORG": 0.6, "O": 0.3}, w1={"I-ORG": 0.7, "O": 0.05, "B-GPE": 0.2})
    assert found(document, logits) == [("بنك", "ORG"), ("بغداد", "GPE")]


def test_two_nested_names_may_cover_all_words_together():
    document = from_markup("[مقديشو سيتي|ORG]")
    assert found(document, rows(2, w0={"B-GPE": 0.9}, w1={"B-ORG": 0.8})) == [("مقديشو", "GPE"), ("سيتي", "ORG")]


def test_a_name_of_one_word_has_no_nested_names():
    document = from_markup("زار [بغداد|ORG] و[القاهرة|ORG]")
    assert found(document, rows(3, w1={"B-GPE": 0.9}, w2={"B-GPE": 0.9})) == []


def test_words_outside_names_have_no_nested_names():
    document = from_markup("زار بغداد [مجلس الأمن|ORG]")
    assert found(document, rows(4, w1={"B-GPE": 0.99}, w2={"I-GPE": 0.99})) == []


def test_a_nested_name_starts_after_its_own_proclitic_and_at_the_border_of_its_outer_name():
    document = from_markup("ب[هيئة المحامين بالرباط|ORG]")
    letters = np.zeros((3, PROCLITIC_CLASSES))
    letters[0, 0] = letters[2, 1] = 5.0  # the head contradicts the border of the outer name
    logits = rows(3, w0={"B-ORG": 0.9}, w2={"B-GPE": 0.9})
    assert found(document, logits, letters) == [("هيئة", "ORG"), ("الرباط", "GPE")]
    assert found(document, logits) == [("هيئة", "ORG"), ("بالرباط", "GPE")]


def test_the_temperature_changes_scores_and_no_name():
    document = from_markup("[جامعة الملك سعود|ORG]")
    logits = rows(3, w1={"B-PER": 0.6, "O": 0.4 - 1e-6}, w2={"I-PER": 0.9, "O": 0.05})
    (cold,) = decode_nested(tokenized(document), document.spans, logits, None, NESTED, nested_temperature=0.5)
    (hot,) = decode_nested(tokenized(document), document.spans, logits, None, NESTED, nested_temperature=5.0)
    assert cold.key == hot.key
    assert cold.score > 0.6 * 0.9 > hot.score


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_search_finds_the_best_of_all_sequences(count: int):
    tag_set = TagSet(("A", "B"))
    plain, allowed = tag_set.allowed_transitions(), _transitions_inside_a_name(tag_set)
    random = np.random.default_rng(count)
    covering = {(tag_set.begin(label), *[tag_set.inside(label)] * (count - 1)) for label in tag_set.labels}
    sequences = [
        tags
        for tags in itertools.product(range(len(tag_set)), repeat=count)
        if all(plain[a, b] for a, b in itertools.pairwise((-1, *tags))) and tags not in covering
    ]
    changed = 0
    for _ in range(40):
        scores = random.normal(size=(count, len(tag_set))) * 2
        scores[0, 1] += 2.0
        scores[1:, 2] += 2.0  # so that a name over all words is often the best
        best = max(sequences, key=lambda tags: scores[np.arange(count), tags].sum())
        assert find_best_tags_inside_a_name(scores, allowed).tolist() == list(best)
        changed += max(covering, key=lambda tags: scores[np.arange(count), tags].sum()) != best
    assert changed


@settings(max_examples=60, deadline=None)
@given(SHORT_TEXTS, st.integers(0, 10_000))
def test_nested_names_are_shorter_than_their_outer_name_and_cross_nothing(text: str, seed: int):
    random = np.random.default_rng(seed)
    encoded = tokenized(Document("d", text))
    words = len(encoded.words)
    tags, nested = (random.normal(size=(words, len(tag_set))) * 3 for tag_set in (TAGS, NESTED))
    tags[:, 2::2] += 3.0  # long names
    proclitics = random.normal(size=(words, PROCLITIC_CLASSES))
    outer = decode(encoded, tags, proclitics, TAGS)
    inner = decode_nested(encoded, outer, nested, proclitics, NESTED)
    assert all(left.end <= right.start for left, right in itertools.pairwise(inner))
    for span in inner:
        (name,) = [name for name in outer if name.start < span.end and span.start < name.end]
        assert name.start <= span.start < span.end <= name.end
        assert span.end - span.start < name.end - name.start
        assert 0 <= span.score <= name.score
    Document("d", text, tuple(outer), tuple(inner))


def test_perfect_logits_restore_every_nested_name_of_khabar_that_the_layer_holds():
    documents = load_khabar("dev")
    labels = TagSet.from_labels(span.label for document in documents for span in document.spans)
    nested_labels = TagSet.from_labels(span.label for document in documents for span in document.nested)
    restored, reasons = 0, Counter[str]()
    for document in documents:
        encoded = tokenized(document)
        targets = build_targets(encoded, labels, nested=nested_labels)
        nested = np.zeros((len(encoded.words), len(nested_labels)))
        known = targets.nested != IGNORE_INDEX
        nested[known, targets.nested[known]] = 20.0
        nested[~known, 1] = 20.0  # words without a target must not matter
        proclitics = np.zeros((len(encoded.words), PROCLITIC_CLASSES))
        known = targets.proclitics != IGNORE_INDEX
        proclitics[known, targets.proclitics[known]] = 20.0
        spans = decode_nested(encoded, document.spans, nested, proclitics, nested_labels)
        losses = [item for item in targets.misalignments if item.nested]
        assert {span.key for span in spans} == {span.key for span in document.nested} - {
            loss.span.key for loss in losses
        } | {loss.replacement.key for loss in losses if loss.replacement is not None}
        restored += len(spans)
        reasons.update(loss.reason for loss in losses)
    assert (restored, dict(reasons)) == (145, {"it is inside another nested name": 2})


def test_targets_are_the_words_of_outer_names_of_two_words_or_more():
    document = from_markup("أعلن [رئيس [مجلس الوزراء|ORG] ب[العراق|GPE]|ORG] في [بغداد|ORG]")
    targets = build_targets(tokenized(document), TAGS, nested=NESTED)
    begin, inside = NESTED.begin("ORG"), NESTED.inside("ORG")
    ignored = IGNORE_INDEX
    assert targets.nested.tolist() == [ignored, 0, begin, inside, NESTED.begin("GPE"), ignored, ignored]
    # Outer names have borders at أ رئيس and بغداد; nested ones add theirs.
    assert targets.proclitics.tolist() == [ignored, 0, 0, ignored, 1, ignored, 0]
    flat = build_targets(tokenized(document), TAGS)
    assert set(flat.nested.tolist()) == {ignored}
    assert flat.proclitics.tolist() == [ignored, 0, ignored, ignored, ignored, ignored, 0]
    assert flat.tags.tolist() == targets.tags.tolist()
    whole = build_targets(tokenized(document), TAGS, proclitics=False, nested=NESTED)
    assert [(item.reason, document.surface(item.replacement)) for item in whole.misalignments if item.nested] == [
        ("it begins inside a word, not after a proclitic", "بالعراق")
    ]


@pytest.mark.parametrize(
    ("spans", "nested", "reason"),
    [
        ([(0, 11)], (0, 11), "it covers all words of its outer name"),
        ([(0, 11)], (0, 10), "it covers all words of its outer name"),
        ([(0, 11)], (6, 16), "it is inside no name that the tags represent"),
        ([], (6, 11), "it is inside no name that the tags represent"),
        ([(0, 16)], (5, 6), "it covers no word that the tokenizer keeps"),
        ([(0, 16)], (6, 10), "it ends inside a word"),
        ([(0, 16)], (8, 11), "it begins inside a word, not after a proclitic"),
    ],
)
def test_a_name_that_the_layer_cannot_hold_is_reported(spans, nested, reason):
    text = "جامعة بغداد مساء"
    document = Document("d", text, tuple(Span(*item, "ORG") for item in spans), (Span(*nested, "GPE"),))
    targets = build_targets(tokenized(document), TAGS, nested=NESTED)
    (loss,) = [item for item in targets.misalignments if item.nested]
    assert (loss.reason, loss.span) == (reason, document.nested[0])
    assert (loss.replacement is None) == ("inside a word" not in reason)


def test_of_names_inside_each_other_the_outer_one_is_learnt():
    document = from_markup("[وحدة الحاسوب في [جامعة [بيرزيت|GPE]|ORG]|ORG]")
    targets = build_targets(tokenized(document), TAGS, nested=NESTED)
    assert targets.nested.tolist() == [0, 0, 0, NESTED.begin("ORG"), NESTED.inside("ORG")]
    assert [item.reason for item in targets.misalignments] == ["it is inside another nested name"]


def test_a_label_that_the_layer_does_not_have_is_reported():
    document = from_markup("[مطار [بغداد|LOC]|FAC]")
    (loss,) = build_targets(tokenized(document), TAGS, nested=NESTED).misalignments
    assert loss.reason == "the nested layer has no label LOC"


def test_a_label_that_may_be_another_one_gives_no_targets_at_its_words():
    document = from_markup("[رئيس [جامعة [بغداد|GPE]|ORG] [أحمد|PER]|PER]")
    targets = build_targets(tokenized(document), TAGS, nested=NESTED, uncertain={"ORG"})
    assert targets.nested.tolist() == [0, IGNORE_INDEX, IGNORE_INDEX, NESTED.begin("PER")]
    assert [item.reason for item in targets.misalignments] == [
        "the label ORG may be another one in the nested layer",
        "it is inside another nested name",
    ]
