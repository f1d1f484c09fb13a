"""Slices: hand-computed cases, and counts that add up to those of the scorer."""

from __future__ import annotations

from collections import Counter
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.evaluation import Counts, score_documents
from musamma.evaluation.counts import CountTable
from musamma.evaluation.significance import Interval, Intervals
from musamma.evaluation.slices import DIMENSIONS, Slice, Slicer, count_slices, score_slices
from tests.support import span

TEXT = "بغداد – وصل محمد السعيد، وزير الدفاع في حكومة العراق، إلى بالموصل ثم التقى قادة قوات سوريا الديمقراطية الجديدة وعاد إلى بغداد"


mark = partial(span, TEXT)


GOLD = Document(
    "a",
    TEXT,
    (
        mark("بغداد", "GPE"),
        mark("محمد السعيد", "PER"),
        mark("حكومة العراق", "ORG"),
        mark("الموصل", "GPE"),
        mark("قوات سوريا الديمقراطية الجديدة", "ORG"),
        mark("بغداد", "GPE", after=20),
    ),
    meta={"source": "الحياة", "date": "2016-10-18"},
)
PREDICTED = GOLD.with_spans(
    [
        mark("بغداد", "GPE"),
        mark("محمد السعيد، وزير الدفاع", "PER"),
        mark("حكومة العراق", "GPE"),
        mark("بالموصل", "GPE"),
        mark("بغداد", "GPE", after=20),
    ]
)
TRAINING = [
    Document("t1", "بَغْداد والعراق", (Span(0, 7, "GPE"), Span(9, 15, "GPE"))),
    Document("t2", "بغــداد", (Span(0, 7, "GPE"),)),
    Document("t3", "الموصل أحمد", (Span(0, 6, "ORG"), Span(7, 11, "PER"))),
]


def count(
    gold: Document, predicted: Document | None, dimension: str, *, slicer: Slicer | None = None
) -> dict[str, Counts]:
    result = score_slices(count_slices([(gold, predicted)], slicer or Slicer()), {})
    return {part.value: part.counts for part in result if part.dimension == dimension}


def test_hand_computed_slices() -> None:
    assert count(GOLD, PREDICTED, "label") == {"GPE": Counts(2, 2, 1), "ORG": Counts(0, 0, 2), "PER": Counts(0, 1, 1)}
    # الموصل follows a preposition and was predicted with it: the missed and the wrong name are in different slices.
    assert count(GOLD, PREDICTED, "proclitic") == {"no": Counts(2, 3, 3), "yes": Counts(0, 0, 1)}
    # A comma does not count as a word.
    expected = {"1": Counts(2, 1, 1), "2": Counts(0, 1, 2), "4+": Counts(0, 1, 1)}
    assert count(GOLD, PREDICTED, "length") == expected
    assert count(GOLD, PREDICTED, "position") == {"first tenth": Counts(1, 1, 1), "rest": Counts(1, 2, 3)}
    assert count(GOLD, PREDICTED, "document_length") == {"0-50": Counts(2, 3, 4)}
    assert not count(GOLD, PREDICTED, "seen")


def test_forms_of_the_training_documents() -> None:
    slicer = Slicer(training=TRAINING)
    # In training بغداد is GPE twice, with vowel signs and with tatweel; الموصل is ORG; all other forms are new.
    assert count(GOLD, PREDICTED, "seen", slicer=slicer) == {
        "same label": Counts(2, 0, 0),
        "another label": Counts(0, 0, 1),
        "unseen": Counts(0, 3, 3),
    }
    assert count(GOLD, PREDICTED, "frequency", slicer=slicer) == {
        "0": Counts(0, 3, 3),
        "1": Counts(0, 0, 1),
        "2-5": Counts(2, 0, 0),
    }
    assert set(count(GOLD, None, "seen", slicer=Slicer(training=[]))) == {"unseen"}


@pytest.mark.parametrize(("times", "band"), [(0, "0"), (1, "1"), (2, "2-5"), (5, "2-5"), (6, "6+"), (40, "6+")])
def test_times_in_training(times: int, band: str) -> None:
    training = [Document(str(number), "دمشق", (Span(0, 4, "GPE"),)) for number in range(times)]
    gold = Document("a", "دمشق", (Span(0, 4, "GPE"),))
    assert count(gold, gold, "frequency", slicer=Slicer(training=training)) == {band: Counts(1, 0, 0)}


@pytest.mark.parametrize(
    ("text", "start", "end", "values"),
    [
        ("للجيش", 1, 5, ("yes", "1")),
        ("وَلِلُبْنَان", 4, 12, ("yes", "1")),
        ("مصراتة", 2, 6, ("no", "1")),  # Inside a word, but not after a proclitic.
        ("دمشق", 0, 4, ("no", "1")),
        ("(د ب أ)", 1, 6, ("no", "3")),
        ("حزب الله – العراق", 0, 17, ("no", "3")),
        ("…", 0, 1, ("no", "1")),
        ("كتائب حزب الله في العراق", 0, 24, ("no", "4+")),
        ("محمد السعيد", 2, 7, ("no", "2")),
    ],
)
def test_proclitic_and_length_of_a_name(text: str, start: int, end: int, values: tuple[str, str]) -> None:
    (result,) = Slicer().name_values(Document("a", text), [Span(start, end, "X")])
    assert (result["proclitic"], result["length"]) == values


@pytest.mark.parametrize(("start", "expected"), [(0, "first tenth"), (9, "first tenth"), (10, "rest"), (96, "rest")])
def test_position_of_a_name_in_the_text(start: int, expected: str) -> None:
    (result,) = Slicer().name_values(Document("a", "دمشق " * 20), [Span(start, start + 4, "GPE")])
    assert result["position"] == expected


@pytest.mark.parametrize(
    ("words", "band"),
    [(0, "0-50"), (50, "0-50"), (51, "51-200"), (200, "51-200"), (500, "201-500"), (501, "501+")],
)
def test_lengths_of_documents_are_counted_without_punctuation(words: int, band: str) -> None:
    assert Slicer().document_values([Document("a", "كلمة ، " * words)]) == [{"document_length": band}]


def meta_values(
    *meta: dict[str, object], keys: list[str] | None = None, names: list[int] | None = None
) -> dict[str, list[str]]:
    documents = [
        Document(str(number), "دمشق " * 9, tuple(Span(5 * at, 5 * at + 4, "GPE") for at in range((names or [1] * 99)[number])), meta=each)
        for number, each in enumerate(meta)
    ]  # fmt: skip
    result: dict[str, list[str]] = {}
    for part in score_slices(count_slices([(each, each) for each in documents], Slicer(meta=keys)), {}):
        if part.dimension not in DIMENSIONS:
            result.setdefault(part.dimension, []).append(part.value)
    return result


def test_metadata_keys_with_few_values_are_dimensions() -> None:
    news, sport = {"topic": "news", "url": "a", "lang": "ar"}, {"topic": "رياضة=1/2\n", "url": "b", "lang": "ar"}
    # A key with a different value in every document is no dimension, and neither is one with the same value in all.
    assert meta_values(news, sport | {"url": "c"}, sport, {}) == {
        "lang": ["ar", "(none)"],
        "topic": ["رياضة=1/2\n", "news", "(none)"],
    }
    assert meta_values(news, sport) == {}
    assert meta_values(news, sport, keys=["url"]) == {"url": ["a", "b"]}
    assert meta_values({"tags": ["x"]}, {"tags": ["y"]}, {"tags": ["x"]}) == {}
    with pytest.raises(InputError, match="'country'; expected a key that a document has: lang, topic, url"):
        meta_values(news, sport, keys=["country"])


def test_dates_are_grouped_by_year_in_order() -> None:
    result = meta_values(
        {"date": "2020-01-31"}, {"date": "2016-10"}, {"date": "2020-05-01T12:00:00Z"}, {}, names=[1, 1, 5, 1]
    )
    assert result == {"date": ["2016", "2020", "(none)"]}
    mixed = meta_values({"date": "2020-01-31"}, {"date": "أمس"}, {"date": "2020-01-31"})
    assert mixed == {"date": ["2020-01-31", "أمس"]}


def test_a_metadata_key_may_be_named_like_a_dimension_or_contain_an_equals_sign() -> None:
    result = meta_values(*[{"label": "x", "a=b%3D": "1"}] * 2, {"label": "y", "a=b%3D": "2"})
    assert result == {"a=b%3D": ["1", "2"], "meta.label": ["x", "y"]}


def test_values_beyond_the_twenty_most_frequent_are_merged() -> None:
    meta = [{"source": f"s{number // 2:02}"} for number in range(60)]
    names = [2 + number // 2 % 3 for number in range(60)]
    values = meta_values(*meta, names=names)["source"]
    support = Counter({f"s{number:02}": 2 + number % 3 for number in range(30)})
    assert values == [*sorted(support, key=lambda value: (-support[value], value))[:20], "(other)"]
    # Fifty values in sixty documents are too many.
    assert meta_values(*({"source": str(min(number, 49))} for number in range(60))) == {}


def test_the_order_of_slices() -> None:
    meta = [{"source": "b"}, {"source": "a"}, {"source": "b"}]
    pairs = [(Document(str(n), TEXT, GOLD.spans, meta=each), None) for n, each in enumerate(meta)]
    result = score_slices(count_slices(pairs, Slicer(training=TRAINING)), {})
    assert list(dict.fromkeys(part.dimension for part in result)) == [*DIMENSIONS, "source"]
    for dimension, values in DIMENSIONS.items():
        present = [part.value for part in result if part.dimension == dimension]
        assert present == [value for value in values or ("GPE", "ORG", "PER") if value in present]
    assert [part.value for part in result if part.dimension == "source"] == ["b", "a"]


def test_small_slices_are_flagged() -> None:
    table = CountTable(
        ("a", "b"),
        ("strict", "slice:length=1", "slice:source=س=ص"),
        np.array([[[9, 9, 9], [10, 29, 20], [3, 30, 4]], [[9, 9, 9], [5, 0, 10], [1, 30, 25]]]),
    )
    interval = Interval(0.25, 0.5)
    first, second = score_slices(table, {"slice:length=1": Intervals(interval, interval, interval)})
    assert first == Slice("length", "1", Counts(15, 14, 15), Intervals(interval, interval, interval), True, False)
    assert second == Slice("source", "س=ص", Counts(4, 56, 25), None, False, True)
    assert first.to_dict()["intervals"] == {"precision": [0.25, 0.5], "recall": [0.25, 0.5], "f1": [0.25, 0.5]}
    assert second.to_dict()["intervals"] is None
    assert [part.enough for part in score_slices(table, {}, min_names=29)] == [True, True]


def spans(borders: list[int]) -> st.SearchStrategy[list[Span]]:
    cuts = st.lists(
        st.tuples(st.sampled_from(borders), st.sampled_from(["GPE", "PER", None])), unique_by=lambda cut: cut[0]
    )
    return cuts.map(
        lambda drawn: [
            Span(start, end, label)
            for (start, label), (end, _) in zip(sorted(drawn), sorted(drawn)[1:], strict=False)
            if label is not None
        ]
    )


BORDERS = sorted({offset for span in (*GOLD.spans, *PREDICTED.spans) for offset in (span.start, span.end)})


@given(spans(BORDERS), spans(BORDERS), st.booleans())
def test_the_slices_of_a_dimension_add_up(gold_spans: list[Span], spans: list[Span], missing: bool) -> None:
    gold = Document("a", TEXT, tuple(gold_spans), meta=GOLD.meta)
    predicted = None if missing else gold.with_spans(spans)
    table = count_slices([(gold, predicted)], Slicer(training=TRAINING, meta=["source"]))
    scores = score_documents([gold], [predicted] if predicted else [], missing_as_empty=True).strict
    by_dimension: dict[str, Counts] = {}
    for part in score_slices(table, {}):
        by_dimension[part.dimension] = by_dimension.get(part.dimension, Counts()) + part.counts
        assert part.counts.support + part.counts.predicted > 0
        assert min(part.counts.tp, part.counts.fp, part.counts.fn) >= 0
    names = scores.micro.support + scores.micro.predicted
    assert by_dimension == (dict.fromkeys([*DIMENSIONS, "source"], scores.micro) if names else {})
    labels = {part.value: part.counts for part in score_slices(table, {}) if part.dimension == "label"}
    assert labels == dict(scores.per_label)


def test_every_document_is_counted_separately() -> None:
    other = Document("b", "دمشق", (Span(0, 4, "GPE"),))
    table = count_slices([(GOLD, PREDICTED), (other, None)], Slicer())
    assert table.documents == ("a", "b")
    assert table.counts[:, table.rows.index("slice:label=GPE")].tolist() == [[2, 4, 3], [0, 0, 1]]
    assert count_slices([], Slicer()).counts.shape == (0, 0, 3)
