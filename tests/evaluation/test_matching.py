"""Pairs of names: every kind by hand, and properties over all annotations of a sentence."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.arabic import proclitic_offsets, word_offsets
from musamma.data.document import Document, Span
from musamma.evaluation import MODES, score_documents
from musamma.evaluation.matching import PAIR_KINDS, NamePair, differ_by_proclitic, pair_names
from tests.support import span

TEXT = "وصل محمد السعيد إلى بالموصل وللجيش، ثم زار وَلُبْنَان و«داعش» في ودمشق"

#: Borders that annotators and systems choose, and some that are wrong.
BORDERS = sorted(
    {offset for start, end in word_offsets(TEXT) for offset in (*proclitic_offsets(TEXT, start, end), end)}
    | {7, 25, len(TEXT)}
)
EXCHANGED = {"missed": "spurious", "spurious": "missed"}


mark = partial(span, TEXT)


def spans() -> st.SearchStrategy[tuple[Span, ...]]:
    labels = st.sampled_from(["PER", "LOC"])
    pieces = st.lists(
        st.tuples(st.sampled_from(BORDERS), labels, st.booleans()), max_size=12, unique_by=lambda cut: cut[0]
    )
    return pieces.map(
        lambda cuts: tuple(
            Span(start, end, label) for (start, label, used), (end, _, _) in pairwise(sorted(cuts)) if used
        )
    )


@pytest.mark.parametrize(
    ("gold", "predicted", "kinds"),
    [
        ([mark("محمد السعيد", "PER")], [mark("محمد السعيد", "PER", score=0.4)], ["correct"]),
        ([mark("محمد السعيد", "PER")], [mark("محمد السعيد", "ORG")], ["label"]),
        ([mark("الموصل")], [mark("بالموصل")], ["proclitic"]),
        ([mark("بالموصل")], [mark("الموصل")], ["proclitic"]),
        ([mark("لُبْنَان")], [mark("وَلُبْنَان")], ["proclitic"]),
        ([mark("الموصل")], [mark("بالموصل", "ORG")], ["label_and_border"]),
        ([mark("محمد السعيد", "PER")], [mark("محمد", "PER")], ["border"]),
        ([mark("الموصل")], [], ["missed"]),
        ([], [mark("وصل", "PER")], ["spurious"]),
        ([mark("محمد السعيد", "PER")], [mark("محمد", "PER"), mark("السعيد", "ORG")], ["border", "spurious"]),
        ([mark("محمد", "PER"), mark("السعيد", "PER")], [mark("محمد السعيد", "PER")], ["border", "missed"]),
    ],
)
def test_kinds_of_pairs(gold: list[Span], predicted: list[Span], kinds: list[str]) -> None:
    pairs = pair_names(Document("a", TEXT, tuple(gold)), predicted)
    assert [pair.kind for pair in pairs] == kinds
    assert [pair.start for pair in pairs] == sorted(pair.start for pair in pairs)


def test_a_partner_is_chosen_by_kind_then_common_part_then_position() -> None:
    def partner(*halves: Span) -> Span | None:
        pairs = pair_names(Document("a", TEXT, (mark("محمد السعيد", "PER"),)), halves)
        return next(pair.predicted for pair in pairs if pair.gold is not None)

    short, long = mark("محمد", "PER"), mark("السعيد", "PER")
    assert partner(short, long) == long
    assert partner(short, mark("السعيد", "ORG")) == short
    assert partner(short, mark("السعي", "PER")) == mark("السعي", "PER")
    assert partner(short, mark("السع", "PER")) == short


@pytest.mark.parametrize(
    ("one", "other", "outcome"),
    [
        (mark("الموصل"), mark("بالموصل"), True),
        (mark("جيش"), mark("وللجيش"), False),  # Three letters; the second lam belongs to the article.
        (mark("لجيش"), mark("وللجيش"), True),
        (mark("دمشق"), mark("ودمشق"), True),
        (mark("داعش"), mark("و«داعش"), False),  # A quotation mark is no proclitic.
        (mark("بالموصل"), mark("إلى بالموصل"), False),
        (mark("الموصل"), mark("الموصل", "ORG"), False),
        (mark("الموص"), mark("بالموصل"), False),
    ],
)
def test_names_that_differ_by_proclitics(one: Span, other: Span, outcome: bool) -> None:
    assert differ_by_proclitic(TEXT, one, other) is differ_by_proclitic(TEXT, other, one) is outcome


def test_presentation_forms_count_as_their_letters() -> None:
    text = "\ufeed\u0627\u0644\u0645\u0648\u0635\u0644"  # Isolated form of waw.
    assert differ_by_proclitic(text, Span(0, 7, "LOC"), Span(1, 7, "LOC"))
    assert not differ_by_proclitic("\u0640" + text[1:], Span(0, 7, "LOC"), Span(1, 7, "LOC"))


@given(spans(), spans())
def test_every_name_is_in_one_pair(gold: tuple[Span, ...], predicted: tuple[Span, ...]) -> None:
    pairs = pair_names(Document("a", TEXT, gold), predicted)
    assert sorted(pair.gold for pair in pairs if pair.gold is not None) == sorted(gold)
    assert sorted(pair.predicted for pair in pairs if pair.predicted is not None) == sorted(predicted)
    assert {pair.kind for pair in pairs} <= set(PAIR_KINDS)
    for pair in pairs:
        assert (pair.gold is None) == (pair.kind == "spurious")
        assert (pair.predicted is None) == (pair.kind == "missed")
        if pair.gold and pair.predicted:
            assert pair.gold.start < pair.predicted.end
            assert pair.predicted.start < pair.gold.end
            assert (pair.kind == "correct") == (pair.gold.key == pair.predicted.key)
            assert (pair.gold.label == pair.predicted.label) == (pair.kind in ("correct", "proclitic", "border"))


@given(spans(), spans())
def test_a_missed_and_a_spurious_name_never_overlap(gold: tuple[Span, ...], predicted: tuple[Span, ...]) -> None:
    pairs = pair_names(Document("a", TEXT, gold), predicted)
    missed = [pair.gold for pair in pairs if pair.gold and pair.predicted is None]
    spurious = [pair.predicted for pair in pairs if pair.predicted and pair.gold is None]
    assert not [(one, other) for one in missed for other in spurious if one.start < other.end and other.start < one.end]


@given(spans(), spans())
def test_pairs_agree_with_the_counts_of_the_modes(gold: tuple[Span, ...], predicted: tuple[Span, ...]) -> None:
    document = Document("a", TEXT, gold)
    modes = score_documents([document], [document.with_spans(predicted)], modes=MODES).modes
    kinds = [pair.kind for pair in pair_names(document, predicted)]
    assert kinds.count("correct") == modes["strict"].micro.tp
    assert kinds.count("correct") + kinds.count("proclitic") == modes["proclitic"].micro.tp


@given(spans(), spans())
def test_pairs_are_the_same_with_the_sides_exchanged(gold: tuple[Span, ...], predicted: tuple[Span, ...]) -> None:
    def as_set(pairs: list[NamePair]) -> set[tuple[str, Span | None, Span | None]]:
        return {(pair.kind, pair.gold, pair.predicted) for pair in pairs}

    there = pair_names(Document("a", TEXT, gold), predicted)
    back = pair_names(Document("a", TEXT, predicted), gold)
    exchanged = {(EXCHANGED.get(kind, kind), other, one) for kind, one, other in as_set(there)}
    assert exchanged == as_set(back)


def test_json_leaves_out_a_missing_side() -> None:
    (pair,) = pair_names(Document("a", TEXT, (mark("الموصل"),)), [])
    assert pair.to_dict() == {"document": "a", "kind": "missed", "gold": mark("الموصل").to_dict()}
