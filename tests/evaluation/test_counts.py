"""Count tables: their sums over documents are the counts of the scorer."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation import MODES, Counts, score_documents
from musamma.evaluation.counts import (
    GOLD,
    PREDICTED,
    TRUE_POSITIVE,
    CountTable,
    MetricLayout,
    align_tables,
    count_table,
)
from tests.support import span

TEXT = "أعلن (داعش)-الموصل أن محمد السعيد وصل وبالموصل"
LABELS = ("GPE", "ORG", "PER")


name = partial(span, TEXT)


GOLD_NAMES = (name("داعش", "ORG"), name("الموصل", "GPE"), name("محمد السعيد", "PER"), name("الموصل", "GPE", after=30))
PREDICTED_NAMES = (name("داعش", "ORG"), name("محمد", "PER"), name("السعيد", "PER"), name("بالموصل", "GPE", after=30))


def names_in(length: int) -> st.SearchStrategy[tuple[Span, ...]]:
    borders = st.lists(st.integers(0, length), unique=True, max_size=10).map(sorted)
    labels = st.lists(st.sampled_from(LABELS), min_size=5, max_size=5)
    return st.builds(
        lambda edges, kinds: tuple(map(Span, edges[::2], edges[1::2], kinds)),
        borders.filter(lambda edges: len(edges) % 2 == 0),
        labels,
    )


@st.composite
def pairs(draw: st.DrawFn) -> list[tuple[Document, Document | None]]:
    drawn: list[tuple[Document, Document | None]] = []
    for number in range(draw(st.integers(0, 4))):
        gold = Document(f"{number}", TEXT, draw(names_in(len(TEXT))))
        predicted = draw(st.none() | names_in(len(TEXT)))
        drawn.append((gold, None if predicted is None else gold.with_spans(predicted)))
    return drawn


@given(pairs(), st.sets(st.sampled_from(MODES)))
def test_sums_over_documents_are_the_counts_of_the_scorer(
    document_pairs: list[tuple[Document, Document | None]], modes: set[str]
) -> None:
    table = count_table(iter(document_pairs), modes=modes)
    scores = score_documents(
        (gold for gold, _ in document_pairs),
        (other for _, other in document_pairs if other),
        modes=modes,
        missing_as_empty=True,
    )
    assert table.documents == tuple(gold.id for gold, _ in document_pairs)
    assert table.modes == tuple(scores.modes)
    for mode, figures in scores.modes.items():
        assert table.total(mode) == figures.micro
        assert {row: table.total(row) for row in table.labels_of(mode)} == {
            f"{mode}/{label}": counts for label, counts in figures.per_label.items()
        }
    layout = MetricLayout.for_table(table)
    computed = layout.metrics(layout.count_array(table).sum(axis=-1))
    for mode, figures in scores.modes.items():
        for row, expected in ((mode, figures.micro), (f"{mode}/macro", figures.macro)):
            ratios = computed[:, layout.rows.index(row)]
            assert ratios == pytest.approx([expected.precision, expected.recall, expected.f1])


def test_every_document_is_counted_separately() -> None:
    gold = Document("a", TEXT, GOLD_NAMES)
    table = count_table(
        [(gold, gold.with_spans(PREDICTED_NAMES)), (Document("b", TEXT, GOLD_NAMES[:1]), None)], modes=["whole_word"]
    )
    assert table.rows == (
        "strict", "strict/GPE", "strict/ORG", "strict/PER",
        "whole_word", "whole_word/GPE", "whole_word/ORG", "whole_word/PER",
    )  # fmt: skip
    assert table.counts.dtype == np.float64
    rows = {row: table.counts[:, index].tolist() for index, row in enumerate(table.rows)}
    # In وبالموصل the gold name is الموصل and the predicted name بالموصل; by whole words they are the same.
    assert rows["strict"] == [[1, 4, 4], [0, 0, 1]]
    assert rows["strict/GPE"] == [[0, 1, 2], [0, 0, 0]]
    assert rows["whole_word/GPE"] == [[1, 1, 2], [0, 0, 0]]
    assert table.total("strict") == Counts(1, 3, 4)
    assert (TRUE_POSITIVE, PREDICTED, GOLD) == (0, 1, 2)
    with pytest.raises(KeyError, match="strict/LOC"):
        table.total("strict/LOC")


def test_tables_of_the_same_documents_can_be_joined() -> None:
    modes = CountTable(("a", "b"), ("strict",), [[[1, 2, 3]], [[4, 5, 6]]])
    slices = CountTable(("b", "a"), ("slice:source=a/b",), [[[0, 1, 1]], [[1, 1, 1]]])
    joined = modes.join(slices)
    assert joined.rows == ("strict", "slice:source=a/b")
    assert joined.counts.tolist() == [[[1, 2, 3], [1, 1, 1]], [[4, 5, 6], [0, 1, 1]]]
    assert joined.modes == ("strict",)
    with pytest.raises(ValueError, match="a row comes twice"):
        modes.join(modes)
    with pytest.raises(InputError, match="document 'b' was counted on one side only"):
        modes.join(CountTable(("a", "c"), ("slice:x=y",), np.zeros((2, 1, 3))))


def test_two_systems_are_aligned_by_document_and_row() -> None:
    first = CountTable(("a", "b"), ("strict", "strict/PER"), [[[1, 2, 3]] * 2, [[1, 1, 1]] * 2])
    second = CountTable(("b", "a"), ("strict", "strict/X"), [[[0, 1, 1], [0, 1, 0]], [[2, 2, 3], [0, 0, 0]]])
    with pytest.raises(InputError, match=r"document 'a': 3 gold names of 'strict/PER' for the first system, 0 for"):
        align_tables(first, second)
    one, other = align_tables(CountTable(("a", "b"), ("strict",), first.counts[:, :1]), second)
    assert one.rows == other.rows == ("strict", "strict/X")
    assert one.counts[:, 1].sum() == 0
    assert other.counts[:, 0].tolist() == [[2, 2, 3], [0, 1, 1]]
    with pytest.raises(InputError, match="mode 'overlap' was counted on one side only"):
        align_tables(first, CountTable(("a", "b"), ("strict", "overlap"), first.counts))


def test_invalid_arguments_raise_an_error() -> None:
    with pytest.raises(InputError, match=r"mode 'exact'; expected one of strict"):
        count_table([], modes=["exact"])
    with pytest.raises(InputError, match=r"document 'a': a name with the label 'macro'.*`labels`"):
        count_table([(Document("a", TEXT, (name("داعش", "macro"),)), None)])
    with pytest.raises(ValueError, match="a document comes twice"):
        CountTable(("a", "a"), (), np.zeros((2, 0, 3)))
    with pytest.raises(ValueError, match=r"shape \(1, 3\); expected \(1, 1, 3\)"):
        CountTable(("a",), ("strict",), np.zeros((1, 3)))


def test_a_label_without_names_is_not_part_of_the_mean() -> None:
    """A resample may lack a label; the scorer does not have a label without names either."""
    layout = MetricLayout.for_table(CountTable(("a",), ("strict", "strict/GPE", "strict/PER"), np.zeros((1, 3, 3))))
    assert layout.rows == ("strict", "strict/GPE", "strict/PER", "strict/macro")
    totals = np.array([[[2, 4, 8], [2, 4, 8], [0, 0, 0]], [[2, 4, 8], [2, 4, 8], [0, 1, 0]], np.zeros((3, 3))]).T
    precision, recall, f1 = layout.metrics(totals)[:, -1]
    assert precision.tolist() == [0.5, 0.25, 0.0]
    assert recall.tolist() == [0.25, 0.125, 0.0]
    assert f1.tolist() == pytest.approx([1 / 3, 1 / 6, 0.0])


def test_a_table_without_documents_has_the_rows_of_the_modes() -> None:
    table = count_table([], modes=["overlap"])
    assert (table.documents, table.rows, table.counts.shape) == ((), ("strict", "overlap"), (0, 2, 3))
