"""The case of every name: one of each kind by hand, and properties over all ways to mark a sentence."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.arabic import proclitic_offsets, word_offsets
from musamma.data.document import Document, Span
from musamma.evaluation import MODES, score_documents
from musamma.evaluation.matching import PAIR_KINDS, NamePair, differ_by_proclitic, pair_names

TEXT = "وصل محمد السعيد إلى بالموصل وللجيش، ثم زار وَلُبْنَان و«داعش» في ودمشق"

#: Where annotators and systems put borders, and some places where they should not.
BORDERS = sorted(
    {offset for start, end in word_offsets(TEXT) for offset in (*proclitic_offsets(TEXT, start, end), end)}
    | {7, 25, len(TEXT)}
)
SWAPPED = {"missed": "spurious", "spurious": "missed"}


def mark(surface: str, label: str = "LOC", *, score: float | None = None) -> Span:
    start = TEXT.index(surface)
    return Span(start, start + len(surface), label, score)


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
def test_the_kinds(gold: list[Span], predicted: list[Span], kinds: list[str]) -> None:
    cases = pair_names(Document("a", TEXT, tuple(gold)), predicted)
    assert [case.kind for case in cases] == kinds
    assert [case.start for case in cases] == sorted(case.start for case in cases)


def test_a_partner_is_chosen_by_kind_then_by_the_larger_part_then_by_place() -> None:
    def partner(*halves: Span) -> Span | None:
        cases = pair_names(Document("a", TEXT, (mark("محمد السعيد", "PER"),)), halves)
        return next(case.predicted for case in cases if case.gold is not None)

    short, long = mark("محمد", "PER"), mark("السعيد", "PER")
    assert partner(short, long) == long
    assert partner(short, mark("السعيد", "ORG")) == short
    assert partner(short, mark("السعي", "PER")) == mark("السعي", "PER")
    assert partner(short, mark("السع", "PER")) == short


@pytest.mark.parametrize(
    ("one", "other", "outcome"),
    [
        (mark("الموصل"), mark("بالموصل"), True),
        (mark("جيش"), mark("وللجيش"), False),  # Three letters, of which the second lam is the article's.
        (mark("لجيش"), mark("وللجيش"), True),
        (mark("دمشق"), mark("ودمشق"), True),
        (mark("داعش"), mark("و«داعش"), False),  # A quotation mark is no letter of the word.
        (mark("بالموصل"), mark("إلى بالموصل"), False),
        (mark("الموصل"), mark("الموصل", "ORG"), False),
        (mark("الموص"), mark("بالموصل"), False),
    ],
)
def test_proclitics(one: Span, other: Span, outcome: bool) -> None:
    assert differ_by_proclitic(TEXT, one, other) is differ_by_proclitic(TEXT, other, one) is outcome


def test_letters_in_presentation_form_are_the_letters() -> None:
    text = "\ufeed\u0627\u0644\u0645\u0648\u0635\u0644"  # Isolated form of waw.
    assert differ_by_proclitic(text, Span(0, 7, "LOC"), Span(1, 7, "LOC"))
    assert not differ_by_proclitic("\u0640" + text[1:], Span(0, 7, "LOC"), Span(1, 7, "LOC"))


@given(spans(), spans())
def test_every_name_is_in_one_case(ours: tuple[Span, ...], theirs: tuple[Span, ...]) -> None:
    cases = pair_names(Document("a", TEXT, ours), theirs)
    assert sorted(case.gold for case in cases if case.gold is not None) == sorted(ours)
    assert sorted(case.predicted for case in cases if case.predicted is not None) == sorted(theirs)
    assert {case.kind for case in cases} <= set(PAIR_KINDS)
    for case in cases:
        assert (case.gold is None) == (case.kind == "spurious")
        assert (case.predicted is None) == (case.kind == "missed")
        if case.gold and case.predicted:
            assert case.gold.start < case.predicted.end
            assert case.predicted.start < case.gold.end
            assert (case.kind == "correct") == (case.gold.key == case.predicted.key)
            assert (case.gold.label == case.predicted.label) == (case.kind in ("correct", "proclitic", "border"))


@given(spans(), spans())
def test_nobody_is_left_alone_beside_somebody_alone(ours: tuple[Span, ...], theirs: tuple[Span, ...]) -> None:
    cases = pair_names(Document("a", TEXT, ours), theirs)
    missed = [case.gold for case in cases if case.gold and case.predicted is None]
    spurious = [case.predicted for case in cases if case.predicted and case.gold is None]
    assert not [(one, other) for one in missed for other in spurious if one.start < other.end and other.start < one.end]


@given(spans(), spans())
def test_cases_are_those_that_the_modes_count(ours: tuple[Span, ...], theirs: tuple[Span, ...]) -> None:
    gold = Document("a", TEXT, ours)
    modes = score_documents([gold], [gold.with_spans(theirs)], modes=MODES).modes
    kinds = [case.kind for case in pair_names(gold, theirs)]
    assert kinds.count("correct") == modes["strict"].micro.tp
    assert kinds.count("correct") + kinds.count("proclitic") == modes["proclitic"].micro.tp


@given(spans(), spans())
def test_the_other_way_round_the_cases_are_the_same(ours: tuple[Span, ...], theirs: tuple[Span, ...]) -> None:
    def known(cases: list[NamePair]) -> set[tuple[str, Span | None, Span | None]]:
        return {(case.kind, case.gold, case.predicted) for case in cases}

    there = pair_names(Document("a", TEXT, ours), theirs)
    back = pair_names(Document("a", TEXT, theirs), ours)
    turned = {(SWAPPED.get(kind, kind), predicted, gold) for kind, gold, predicted in known(there)}
    assert turned == known(back)


def test_json_names_the_sides_that_there_are() -> None:
    (case,) = pair_names(Document("a", TEXT, (mark("الموصل"),)), [])
    assert case.to_dict() == {"document": "a", "kind": "missed", "gold": mark("الموصل").to_dict()}
