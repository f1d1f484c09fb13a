"""Agreement of two annotators: figures against a hand-computed case, and the cases that they are counted from."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation.agreement import label_words, measure_agreement
from musamma.evaluation.matching import PAIR_KINDS, pair_names
from tests.support import span

TEXT = "وصل وليد إلى بالموصل ثم غادر دمشق إلى حلب"


def document(*spans: Span, text: str = TEXT, id: str = "a") -> Document:
    return Document(id, text, spans)


name = partial(span, TEXT)


def test_a_hand_computed_case() -> None:
    first = document(name("وليد", "PER"), name("الموصل", "GPE"), name("دمشق", "GPE"))
    second = document(name("وليد", "PER"), name("بالموصل", "GPE"), name("حلب", "LOC"))
    found = measure_agreement([first], [second])
    assert found.words == 9
    assert found.scores.strict.micro.f1 == pytest.approx(1 / 3)
    # Of nine words seven agree. By chance: O 6/9 on both sides, PER 1/9 on both, GPE 2/9 and 1/9.
    chance = (6 * 6 + 1 * 1 + 2 * 1) / 81
    assert found.kappa == pytest.approx((7 / 9 - chance) / (1 - chance))
    # Of the four words in a name two agree: PER 1 and 1, GPE 2 and 1, O 1 and 1 of four.
    chance = (1 * 1 + 2 * 1 + 1 * 1) / 16
    assert found.kappa_names == pytest.approx((2 / 4 - chance) / (1 - chance))
    assert [case.kind for case in found.disagreements] == ["proclitic", "missed", "spurious"]
    record = found.to_dict()
    assert record["span_f1"] == pytest.approx(1 / 3)
    assert record["kinds"] == {"proclitic": 1, "missed": 1, "spurious": 1}


def test_the_same_annotation_agrees_fully() -> None:
    both = document(name("وليد", "PER"))
    found = measure_agreement([both, document(id="b")], [both])
    assert (found.kappa, found.kappa_names, found.scores.strict.micro.f1, found.scores.documents) == (1, 1, 1, 1)
    assert found.disagreements == ()


def test_no_name_on_either_side_is_agreement() -> None:
    found = measure_agreement([document()], [document()])
    assert (found.kappa, found.kappa_names) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("second", "message"),
    [([document(id="z")], "z"), ([document(text="نص آخر")], "differ"), ([], "no word")],
)
def test_other_texts_are_an_error(second: list[Document], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure_agreement([document()], second)


def spans(length: int) -> st.SearchStrategy[tuple[Span, ...]]:
    borders = st.lists(st.integers(0, length), unique=True, max_size=8).map(sorted)
    labels = st.lists(st.sampled_from(["PER", "GPE"]), min_size=4, max_size=4)
    return st.builds(
        lambda edges, names: tuple(
            Span(start, end, label)
            for start, end, label in zip(edges[::2], edges[1::2], names, strict=False)
            if start < end
        ),
        borders,
        labels,
    )


@given(spans(len(TEXT)), spans(len(TEXT)))
def test_every_name_stands_in_one_case(ours: tuple[Span, ...], theirs: tuple[Span, ...]) -> None:
    cases = pair_names(document(*ours), theirs)
    assert sorted(case.gold for case in cases if case.gold is not None) == sorted(ours)
    assert sorted(case.predicted for case in cases if case.predicted is not None) == sorted(theirs)
    assert sum(case.kind == "correct" for case in cases) == len({s.key for s in ours} & {s.key for s in theirs})
    assert all(case.kind in PAIR_KINDS for case in cases)
    back = pair_names(document(*theirs), ours)
    assert sorted((c.kind) for c in cases if c.gold and c.predicted) == sorted(
        c.kind for c in back if c.gold and c.predicted
    )


def test_the_first_name_has_the_word() -> None:
    words = [(0, 3), (4, 8), (9, 12)]
    assert label_words(words, [Span(1, 2, "A"), Span(2, 6, "B")]) == ["A", "B", "O"]
