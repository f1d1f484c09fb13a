"""Agreement of two annotators: a hand-computed case, and properties of the pairs of names."""

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
    result = measure_agreement([first], [second])
    assert result.words == 9
    assert result.scores.strict.micro.f1 == pytest.approx(1 / 3)
    # Seven of nine words agree. By chance: O 6/9 on both sides, PER 1/9 on both, GPE 2/9 and 1/9.
    chance = (6 * 6 + 1 * 1 + 2 * 1) / 81
    assert result.kappa == pytest.approx((7 / 9 - chance) / (1 - chance))
    # Two of the four words in a name agree: PER 1 and 1, GPE 2 and 1, O 1 and 1 of four.
    chance = (1 * 1 + 2 * 1 + 1 * 1) / 16
    assert result.kappa_names == pytest.approx((2 / 4 - chance) / (1 - chance))
    assert [pair.kind for pair in result.disagreements] == ["proclitic", "missed", "spurious"]
    record = result.to_dict()
    assert record["span_f1"] == pytest.approx(1 / 3)
    assert record["kinds"] == {"proclitic": 1, "missed": 1, "spurious": 1}


def test_the_same_annotation_agrees_fully() -> None:
    both = document(name("وليد", "PER"))
    result = measure_agreement([both, document(id="b")], [both])
    assert (result.kappa, result.kappa_names, result.scores.strict.micro.f1, result.scores.documents) == (1, 1, 1, 1)
    assert result.disagreements == ()


def test_no_name_on_either_side_is_agreement() -> None:
    result = measure_agreement([document()], [document()])
    assert (result.kappa, result.kappa_names) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("second", "message"),
    [([document(id="z")], "z"), ([document(text="نص آخر")], "differ"), ([], "no word")],
)
def test_documents_that_do_not_match_raise_an_error(second: list[Document], message: str) -> None:
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
def test_every_name_is_in_one_pair(first: tuple[Span, ...], second: tuple[Span, ...]) -> None:
    pairs = pair_names(document(*first), second)
    assert sorted(pair.gold for pair in pairs if pair.gold is not None) == sorted(first)
    assert sorted(pair.predicted for pair in pairs if pair.predicted is not None) == sorted(second)
    assert sum(pair.kind == "correct" for pair in pairs) == len({s.key for s in first} & {s.key for s in second})
    assert all(pair.kind in PAIR_KINDS for pair in pairs)
    back = pair_names(document(*second), first)
    assert sorted(c.kind for c in pairs if c.gold and c.predicted) == sorted(
        c.kind for c in back if c.gold and c.predicted
    )


def test_a_word_has_the_label_of_its_first_name() -> None:
    words = [(0, 3), (4, 8), (9, 12)]
    assert label_words(words, [Span(1, 2, "A"), Span(2, 6, "B")]) == ["A", "B", "O"]
