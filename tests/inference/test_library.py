"""The tagger inside other programs: threads, pickles, streams, and the code of docs/library.md."""

from __future__ import annotations

import multiprocessing
import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from itertools import count, islice
from pathlib import Path
from threading import Barrier
from typing import Any

import cloudpickle
import pandas as pd
import pyarrow as pa
import pytest

from musamma.data.document import Document, Span
from musamma.inference import Tagger

THREADS = 8
# What docs/tag.md and the tagger's docstring call a few hundred.
AHEAD = 512
GUIDE = Path(__file__).parents[2] / "docs" / "library.md"
# As the Spark types in docs/library.md become Arrow's.
SPARK_SPANS = pa.list_(
    pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string()), ("score", pa.float64())])
)


@pytest.fixture(scope="module")
def tagger(checkpoint: Path) -> Tagger:
    return Tagger(str(checkpoint), device="cpu", bfloat16=False)


def keys(spans: list[Span]) -> list[tuple[int, int, str]]:
    return [span.key for span in spans]


def in_threads(tagger: Tagger, lists: list[list[str]]) -> list[list[list[Span]]]:
    """The names in each list of texts, every list tagged by a thread of its own, all beginning at once."""
    barrier = Barrier(len(lists))

    def work(texts: list[str]) -> list[list[Span]]:
        barrier.wait()
        return [*tagger.tag_texts(texts), *map(tagger.tag, texts)]

    with ThreadPoolExecutor(len(lists)) as pool:
        return list(pool.map(work, lists))


def test_threads_find_what_one_thread_finds(tagger, known):
    # Texts of different lengths, some of them of several windows: state that two threads share would mix them up.
    lists = [
        [f"{known[(thread + index) % 4].text} {number} " * (1 + (thread * index) % 7) for index in range(12)]
        for thread, number in zip(range(THREADS), count(10), strict=False)
    ]
    expected = [[*tagger.tag_texts(texts), *map(tagger.tag, texts)] for texts in lists]
    assert all(any(spans for spans in found) for found in expected)
    assert len({str(found) for found in expected}) == THREADS
    for _ in range(3):
        assert in_threads(tagger, lists) == expected


def test_two_streams_of_one_tagger_can_be_read_in_turn(tagger, known):
    texts = [document.text for document in known] * 100
    other = texts[::-1]
    expected = [list(tagger.tag_texts(texts)), list(tagger.tag_texts(other))]
    assert keys(expected[0][0]) == keys(known[0].spans)
    turns = list(zip(tagger.tag_texts(texts), tagger.tag_texts(other), strict=True))
    assert [list(side) for side in zip(*turns, strict=True)] == expected


@pytest.mark.parametrize("dump", [pickle.dumps, cloudpickle.dumps])
def test_a_pickle_is_the_arguments_and_finds_the_same(checkpoint, known, dump):
    options: dict[str, Any] = {"batch_tokens": 100, "min_score": 0.2, "label_min_scores": {"LOC": 1.0}}
    tagger = Tagger(str(checkpoint), device="cpu", bfloat16=False, **options)
    data = dump(tagger)
    assert len(data) < 2_000
    again = pickle.loads(data)
    assert again.settings() == tagger.settings()
    for document in known:
        names = again.tag(document.text)
        assert names == tagger.tag(document.text)
        assert keys(names) == [span.key for span in document.spans if span.label != "LOC"]


def test_a_spawned_process_finds_the_same(tagger, known):
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        found = pool.submit(tagger.tag, known[0].text).result(timeout=120)
    assert keys(found) == keys(known[0].spans)
    assert found == tagger.tag(known[0].text)


def test_a_stream_without_end_is_read_only_a_few_hundred_documents_ahead(tagger, known):
    taken = 0

    def articles() -> Iterator[Document]:
        nonlocal taken
        for number in count():
            taken += 1
            assert number < 10 * AHEAD  # instead of hanging
            yield Document(str(number), known[number % 4].text)

    stream = tagger.tag_documents(articles())
    assert taken == 0
    for given, document in enumerate(islice(stream, 1200), 1):
        assert document.id == str(given - 1)
        assert given <= taken <= given + AHEAD
    assert keys(document.spans) == keys(known[3].spans)


def test_the_guide_tags_a_column_of_a_frame(checkpoint, known):
    ran = code("column")
    articles = pd.DataFrame({"id": [7, 8, 9], "text": [known[0].text, None, known[1].text]}, index=[30, 10, 20])
    tagged = ran["with_names"](articles, str(checkpoint))
    assert list(tagged.index) == [30, 10, 20]
    assert list(tagged["id"]) == [7, 8, 9]
    assert list(map(plain, tagged["spans"])) == [keys(known[0].spans), [], keys(known[1].spans)]
    assert list(articles.columns) == ["id", "text"]


def test_the_guide_tags_what_spark_hands_over_and_spark_can_take_it(checkpoint, known, monkeypatch):
    ran = code("spark-function", model=str(checkpoint))
    made = []
    monkeypatch.setitem(ran, "Tagger", lambda *given, **options: made.append(given) or Tagger(*given, **options))
    batches = [
        pd.Series([known[0].text, None, ""]),
        pd.Series([], dtype=object),
        pd.Series([document.text for document in known[1:]], index=[5, 6, 7]),
    ]
    read = []

    def handed() -> Iterator[pd.Series]:
        for batch in batches:
            read.append(batch)
            yield batch

    stream = ran["names"](handed())
    first = next(stream)
    assert len(read) == 1
    found = [first, *stream]
    assert made == [(str(checkpoint),)]  # once a task, however many batches
    assert [list(series.index) for series in found] == [list(batch.index) for batch in batches]
    expected = [keys(known[0].spans), [], [], *(keys(document.spans) for document in known[1:])]
    assert [plain(spans) for series in found for spans in series] == expected
    for series in found:
        assert [plain(spans) for spans in pa.Array.from_pandas(series, type=SPARK_SPANS).to_pylist()] == [
            plain(spans) for spans in series
        ]


def test_the_type_that_the_guide_gives_spark_is_that_of_a_name(tagger, known):
    (given,) = re.findall(r'"array<struct<(.*)>>"', GUIDE.read_text("utf-8"))
    kinds = {"int": int, "string": str, "double": float}
    columns = {name: kinds[kind] for name, _, kind in (column.partition(":") for column in given.split(","))}
    assert columns == {name: type(value) for name, value in tagger.tag(known[0].text)[0].to_dict().items()}


def code(name: str, *, model: str = "runs/mine") -> dict[str, Any]:
    """What a block of the guide, marked with ``<!-- code: NAME -->``, defines when it is run."""
    (block,) = re.findall(rf"<!-- code: {name} -->\n```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert model == "runs/mine" or '"runs/mine"' in block
    defined: dict[str, Any] = {"__name__": name}
    exec(compile(block.replace('"runs/mine"', repr(model)), str(GUIDE), "exec"), defined)
    return defined


def plain(spans: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    """The names of a cell without their scores, which have to be there."""
    assert all(0 < span["score"] <= 1 for span in spans)
    return [(span["start"], span["end"], span["label"]) for span in spans]
