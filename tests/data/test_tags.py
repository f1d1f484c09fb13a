"""Tag schemes: decoding compared with seqeval, and encoding as its inverse."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import BILOU, IOB1, IOB2, IOBES, Entities

from musamma.data.errors import InputError
from musamma.data.tags import TAG_SCHEMES, TokenSpan, decode_tags, detect_scheme, encode_tags, split_tag

REFERENCES = {"iob1": IOB1, "iob2": IOB2, "bioes": IOBES, "bilou": BILOU}


def names(tags, scheme="iob2"):
    found, repairs = decode_tags(
        [tag.split() for tag in tags], scheme=scheme, where=[f"f:{i}" for i in range(1, len(tags) + 1)]
    )
    return [(n.start, n.end, n.label) for n in found], [(r.token, r.problem) for r in repairs]


@st.composite
def token_spans(draw, *, adjacent=True):
    length = draw(st.integers(1, 9))
    cuts = sorted(draw(st.sets(st.integers(0, length), max_size=6)))
    spans = [
        TokenSpan(a, b, draw(st.sampled_from(["PER", "LOC", "Land-Region"])))
        for a, b in pairwise(cuts)
        if draw(st.booleans())
    ]
    return spans, length


@pytest.mark.parametrize("scheme", TAG_SCHEMES)
@settings(deadline=None)
@given(case=token_spans())
def test_decoding_is_the_inverse_of_encoding(scheme, case):
    spans, length = case
    tags = encode_tags(spans, length, scheme=scheme)
    assert decode_tags([[tag] for tag in tags], scheme=scheme, where=["f:1"] * length) == (spans, [])


@pytest.mark.parametrize("scheme", TAG_SCHEMES)
@settings(deadline=None)
@given(case=token_spans())
def test_seqeval_reads_the_encoded_tags_strictly(scheme, case):
    spans, length = case
    tags = encode_tags(spans, length, scheme=scheme)
    [found] = Entities([tags], REFERENCES[scheme]).entities
    assert [(e.start, e.end, e.tag) for e in found] == [(s.start, s.end, s.label) for s in spans]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), max_size=10))
def test_broken_iob2_is_repaired_as_conlleval_reads_it(tags):
    found, repairs = names(tags)
    assert found == [(start, end + 1, label) for label, start, end in get_entities(tags)]
    started_by_inside = [start for start, _, _ in found if tags[start].startswith("I")]
    assert [token for token, _ in repairs] == started_by_inside


@settings(deadline=None)
@given(st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), max_size=10))
def test_any_iob1_is_decoded_without_repair(tags):
    found, repairs = names(tags, "iob1")
    assert repairs == []
    assert found == [(start, end + 1, label) for label, start, end in get_entities(tags)]


@pytest.mark.parametrize(
    ("tags", "scheme", "found", "repairs"),
    [
        (["I-PER", "I-PER"], "iob2", [(0, 2, "PER")], [(0, "I-PER continues no PER")]),
        (["B-PER", "I-LOC"], "iob2", [(0, 1, "PER"), (1, 2, "LOC")], [(1, "I-LOC continues no LOC")]),
        (["B-PER", "I-PER"], "bioes", [(0, 2, "PER")], [(1, "PER is not ended")]),
        (["B-PER", "O", "S-LOC"], "bioes", [(0, 1, "PER"), (2, 3, "LOC")], [(0, "PER is not ended")]),
        (["L-PER", "O"], "bilou", [(0, 1, "PER")], [(0, "L-PER continues no PER")]),
        (["U-PER", "U-PER"], "bilou", [(0, 1, "PER"), (1, 2, "PER")], []),
    ],
)
def test_repairs(tags, scheme, found, repairs):
    assert names(tags, scheme) == (found, repairs)


def test_names_inside_names():
    # Wojood: "secretary of the National Arab Committee in Nablus"; the inner names go on beside the outer one.
    tags = ["B-OCC", "I-OCC B-ORG", "I-OCC I-ORG", "I-OCC I-ORG", "I-OCC", "I-OCC B-GPE", "O"]
    assert names(tags) == ([(0, 6, "OCC"), (1, 4, "ORG"), (5, 6, "GPE")], [])


def test_a_name_inside_one_with_the_same_label():
    # "The President's visit to Birzeit University": ORG in ORG, as Wojood tags it.
    tags = ["B-ORG", "I-ORG B-ORG", "I-ORG I-ORG B-GPE", "I-ORG"]
    assert names(tags) == ([(0, 4, "ORG"), (1, 3, "ORG"), (2, 3, "GPE")], [])


def test_columns_may_change_order():
    assert names(["B-OCC", "B-ORG I-OCC", "I-ORG I-OCC", "I-OCC"]) == ([(0, 4, "OCC"), (1, 3, "ORG")], [])


@pytest.mark.parametrize("tag", ["PER", "B_PER", "X-PER", "B-", "b-PER", "S-PER"])
def test_an_invalid_tag_is_named_with_its_line(tag):
    with pytest.raises(InputError, match=rf"f:2: '{tag}' is not a tag of IOB2; expected O, B-LABEL, I-LABEL"):
        names(["O", tag])


@pytest.mark.parametrize(
    ("tags", "scheme"),
    [
        (["B-PER", "I-PER", "O"], "iob2"),
        (["I-PER", "B-PER", "O"], "iob1"),
        (["I-PER", "O", "B-LOC"], "iob2"),
        (["B-PER", "E-PER"], "bioes"),
        (["O", "U-PER"], "bilou"),
        (["O"], "iob2"),
    ],
)
def test_the_scheme_is_detected(tags, scheme):
    assert detect_scheme([[[tag] for tag in tags]]) == scheme


def test_a_label_may_contain_hyphens_and_underscores():
    assert split_tag("B-Land-Region-Natural") == ("B", "Land-Region-Natural")
    assert split_tag("I-Religious_PER") == ("I", "Religious_PER")
    assert split_tag("O") == ("O", "")
