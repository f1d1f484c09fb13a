"""Documents, their spans, their JSON lines, and documents joined from several."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.document import Document, Span, format_json_line, group_documents, read_jsonl, write_jsonl
from musamma.data.errors import InputError

TEXT = "وصل محمد إلى دمشق"


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40))
    borders = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
    pairs = list(zip(borders[::2], borders[1::2], strict=False))
    score = st.none() | st.floats(0, 1)
    spans = [Span(a, b, draw(st.sampled_from(["PER", "LOC"])), draw(score)) for a, b in pairs]
    meta = draw(st.dictionaries(st.text(max_size=4), st.none() | st.integers(-9, 9) | st.text(max_size=4), max_size=3))
    return Document(draw(st.text(st.characters(categories=["L"]), min_size=1)), text, tuple(spans), (), meta)


@given(document=documents())
def test_documents_survive_json(document: Document) -> None:
    assert Document.from_dict(json.loads(format_json_line(document)), where="here") == document


def test_files_are_read_back_as_written(tmp_path: Path) -> None:
    written = [
        Document("a", "سطر\nآخر\u2028😀"),
        Document("b", TEXT, (Span(4, 8, "PER"),), (Span(4, 6, "PER"),), {"x": [1]}),
    ]
    assert write_jsonl(written, tmp_path / "new" / "file.jsonl") == 2
    assert list(read_jsonl(tmp_path / "new" / "file.jsonl")) == written
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.jsonl"]


def test_byte_order_mark_blank_lines_and_crlf_are_skipped(tmp_path: Path) -> None:
    (tmp_path / "f.jsonl").write_bytes(b'\xef\xbb\xbf{"id":"a","text":"x"}\r\n\r\n{"id":"b","text":"y"}')
    assert [document.id for document in read_jsonl(tmp_path / "f.jsonl")] == ["a", "b"]


def test_spans_are_sorted() -> None:
    document = Document("d", TEXT, (Span(13, 17, "LOC"), Span(4, 8, "PER")))
    assert [document.surface(span) for span in document.spans] == ["محمد", "دمشق"]


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(4, 4)], r"span \[4, 4\) X is empty"),
        ([(8, 4)], r"is reversed"),
        ([(-1, 4)], r"is outside the text; expected 0 <= start < end <= 17"),
        ([(4, 18)], r"is outside the text"),
        ([(0, 8), (4, 9)], r"overlap; expected spans without overlap"),
    ],
)
def test_invalid_spans(spans: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Document("d7", TEXT, tuple(Span(start, end, "X") for start, end in spans))
    assert str(caught.value).startswith("document 'd7': ")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "a JSON list"),
        ({"text": "x"}, "id is None"),
        ({"id": 3.0, "text": "x"}, "id is 3.0"),
        ({"id": True, "text": "x"}, "id is True"),
        ({"id": "a"}, "text is NoneType"),
        ({"id": "a", "text": "x", "label": 1}, "unknown key 'label'"),
        ({"id": "a", "text": "x", "meta": 1}, "meta is int"),
        ({"id": "a", "text": "x", "spans": {}}, "spans is dict"),
        ({"id": "a", "text": "x", "spans": [1]}, r"spans\[0\] is 1"),
        ({"id": "a", "text": "x", "spans": [{"start": 0, "end": 1}]}, r"spans\[0\].label is None"),
        ({"id": "a", "text": "x", "spans": [{"start": True, "end": 1, "label": "X"}]}, r"spans\[0\].start is True"),
        ({"id": "a", "text": "x", "spans": [{"start": 0, "end": 1.0, "label": "X"}]}, r"spans\[0\].end is 1.0"),
        ({"id": "a", "text": "x", "spans": [{"start": 0, "end": 1, "label": "A B"}]}, r"label is 'A B'"),
        ({"id": "a", "text": "x", "spans": [{"start": 0, "end": 1, "label": "X", "score": "1"}]}, r"score is '1'"),
        ({"id": "a", "text": "x", "spans": [{"start": 0, "end": 1, "label": "X", "at": 1}]}, r"unknown key 'at'"),
        ({"id": "a", "text": "x", "spans": [{"start": 0, "end": 2, "label": "X"}]}, r"document 'a': span \[0, 2\)"),
    ],
)
def test_invalid_records(record: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Document.from_dict(record, where="f.jsonl:7")
    assert str(caught.value).startswith("f.jsonl:7")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "b", "text": ', "f.jsonl:2: broken JSON"),
        (b'{"id": "b", "text": "\xe3\xcd"}', "f.jsonl:2: byte 0xe3 at byte 22 is not UTF-8"),
        (b'{"id": "a", "text": "y"}', "f.jsonl:2: id 'a' is taken by line 1"),
    ],
)
def test_invalid_lines(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "f.jsonl").write_bytes(b'{"id": "a", "text": "x"}\n' + line + b"\n")
    with pytest.raises(InputError, match=message):
        list(read_jsonl(tmp_path / "f.jsonl"))


def test_an_incomplete_file_is_not_written(tmp_path: Path) -> None:
    def broken():
        yield Document("a", "x")
        raise InputError("broken")

    with pytest.raises(InputError, match="broken"):
        write_jsonl(broken(), tmp_path / "f.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_an_error_message_is_one_line() -> None:
    assert str(InputError("a\nb\u202e", where="x")) == "x: a\\nb\\u202e"


def test_names_of_joined_documents_keep_their_surfaces() -> None:
    texts = ["وصل محمد", "إلى دمشق", "", "ثم بيروت"]
    documents = [
        Document(str(i), text, (Span(4, len(text), "X"),) if text else (), (Span(4, 6, "Y"),) if i == 1 else ())
        for i, text in enumerate(texts)
    ]
    first, second = group_documents(documents, 3)
    assert first.text == "وصل محمد\nإلى دمشق\n"
    assert [first.surface(span) for span in first.spans] == ["محمد", "دمشق"]
    assert [first.surface(span) for span in first.nested] == ["دم"]
    assert (first.id, second.id) == ("0", "3")
    assert [second.surface(span) for span in second.spans] == [second.text[4:]]


@pytest.mark.parametrize("size", [1, 2, 5, 9])
def test_every_document_is_in_exactly_one_group(size: int) -> None:
    documents = [Document(str(i), f"نص {i}") for i in range(9)]
    assert "\n".join(group.text for group in group_documents(documents, size)).split("\n") == [
        d.text for d in documents
    ]


def test_groups_of_one_are_the_documents() -> None:
    documents = [Document("a", "وصل محمد", (Span(4, 8, "PER"),), (), {"topic": "x"})]
    assert list(group_documents(documents, 1)) == documents
