"""The code of docs/library.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from musamma.data.document import Span
from musamma.inference import Tagger

GUIDE = Path(__file__).parents[2] / "docs" / "library.md"
# The Arrow type of the Spark type in docs/library.md.
SPARK_SPANS = pa.list_(
    pa.struct([("start", pa.int32()), ("end", pa.int32()), ("label", pa.string()), ("score", pa.float64())])
)


@pytest.fixture(scope="module")
def tagger(checkpoint: Path) -> Tagger:
    return Tagger(str(checkpoint), device="cpu", bfloat16=False)


def keys(spans: list[Span]) -> list[tuple[int, int, str]]:
    return [span.key for span in spans]


def test_the_function_for_a_column_of_a_data_frame(checkpoint, known):
    ran = code("column")
    articles = pd.DataFrame({"id": [7, 8, 9], "text": [known[0].text, None, known[1].text]}, index=[30, 10, 20])
    tagged = ran["with_names"](articles, str(checkpoint))
    assert list(tagged.index) == [30, 10, 20]
    assert list(tagged["id"]) == [7, 8, 9]
    assert list(map(plain, tagged["spans"])) == [keys(known[0].spans), [], keys(known[1].spans)]
    assert list(articles.columns) == ["id", "text"]


def test_the_spark_function_takes_and_returns_series_that_spark_can_convert(checkpoint, known, monkeypatch):
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
    assert made == [(str(checkpoint),)]  # Once per task, whatever the number of batches.
    assert [list(series.index) for series in found] == [list(batch.index) for batch in batches]
    expected = [keys(known[0].spans), [], [], *(keys(document.spans) for document in known[1:])]
    assert [plain(spans) for series in found for spans in series] == expected
    for series in found:
        assert [plain(spans) for spans in pa.Array.from_pandas(series, type=SPARK_SPANS).to_pylist()] == [
            plain(spans) for spans in series
        ]


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
def test_plain_transformers_leave_punctuation_out_of_names_of_given_words(checkpoint, known):
    document = next(document for document in known if "الموصل،" in document.text)
    found = code("plain-transformers")["whole_word_names"](document.text, str(checkpoint))
    # No name follows a proclitic here, so that whole words are the names.
    assert found == [(document.surface(span), span.label) for span in document.spans]


def test_the_spark_type_of_a_name(tagger, known):
    (given,) = re.findall(r'"array<struct<(.*)>>"', GUIDE.read_text("utf-8"))
    kinds = {"int": int, "string": str, "double": float}
    columns = {name: kinds[kind] for name, _, kind in (column.partition(":") for column in given.split(","))}
    assert columns == {name: type(value) for name, value in tagger.tag(known[0].text)[0].to_dict().items()}


def code(name: str, *, model: str = "runs/mine") -> dict[str, Any]:
    """Run the code block of the guide marked with ``<!-- code: NAME -->`` and return what it defines."""
    (block,) = re.findall(rf"<!-- code: {name} -->\n```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL)
    assert model == "runs/mine" or '"runs/mine"' in block
    defined: dict[str, Any] = {"__name__": name}
    exec(compile(block.replace('"runs/mine"', repr(model)), str(GUIDE), "exec"), defined)
    return defined


def plain(spans: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    """Return the names of a cell without their scores, which must be present."""
    assert all(0 < span["score"] <= 1 for span in spans)
    return [(span["start"], span["end"], span["label"]) for span in spans]
