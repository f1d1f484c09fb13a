"""What tagging writes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.formats import read_documents
from musamma.data.jsonl import read_jsonl
from musamma.inference.writers import write_predictions

TEXT = "أعلن (داعش)-الموصل\r\nوصل محمد السعيد وببغداد 😀"
SPANS = (
    Span(6, 10, "ORG", 0.9),
    Span(12, 18, "LOC", 0.8),
    Span(24, 35, "PER", 0.7),
    Span(38, 43, "LOC", 0.6),
)
DOCUMENTS = [Document("ب/١", TEXT, SPANS, meta={"source": "x"}), Document("2", "\ufeffلا شيء\n"), Document("3", "")]


def test_the_example_is_what_it_says():
    assert [DOCUMENTS[0].surface(span) for span in SPANS] == ["داعش", "الموصل", "محمد السعيد", "بغداد"]


def test_json_lines_hold_everything(tmp_path):
    audit = write_predictions(iter(DOCUMENTS), str(tmp_path / "new" / "out.jsonl"), "jsonl")
    assert list(read_jsonl(tmp_path / "new" / "out.jsonl")) == DOCUMENTS
    assert not audit.kinds
    first = json.loads((tmp_path / "new" / "out.jsonl").read_text("utf-8").split("\n")[0])
    assert first["spans"][0] == {"start": 6, "end": 10, "label": "ORG", "score": 0.9}


def test_conll_is_written_by_words_and_what_it_cannot_hold_is_counted(tmp_path):
    audit = write_predictions(iter(DOCUMENTS), str(tmp_path / "out.conll"), "conll")
    assert (tmp_path / "out.conll").read_bytes().decode() == (
        "أعلن O\n( O\nداعش B-ORG\n) O\n- O\nالموصل B-LOC\n\nوصل O\nمحمد B-PER\nالسعيد I-PER\nوببغداد B-LOC\n😀 O\n\n"
        "لا O\nشيء O\n\n"
    )
    assert dict(audit.kinds) == {"widened": 1, "lost_id": 3, "lost_meta": 1, "lost_score": 4}
    again = [d.surface(span) for d in read_documents(tmp_path / "out.conll") for span in d.spans]
    assert again == ["داعش", "الموصل", "محمد السعيد", "وببغداد"]


@pytest.mark.parametrize("format", ["jsonl", "conll", "html"])
def test_standard_output_gets_the_same_bytes(tmp_path, capsysbinary, format):
    write_predictions(iter(DOCUMENTS), str(tmp_path / "out"), format)
    write_predictions(iter(DOCUMENTS), None, format)
    assert capsysbinary.readouterr().out == (tmp_path / "out").read_bytes() != b""


@pytest.mark.parametrize("format", ["jsonl", "conll", "html"])
def test_documents_are_written_as_they_come(tmp_path, format):
    """None is asked for before the ones before it are on their way into the file."""
    sizes = []

    def growing() -> Iterator[Document]:
        for number in range(6):
            sizes.append((tmp_path / "out.part").stat().st_size)
            yield Document(str(number), "بغداد " * 20_000, (Span(0, 5, "LOC", 0.5),))

    write_predictions(growing(), str(tmp_path / "out"), format)
    assert sizes[0] == 0
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("error", [InputError("broken"), KeyboardInterrupt()])
def test_what_was_there_stays_when_tagging_fails(tmp_path, error):
    (tmp_path / "out.jsonl").write_text("before", encoding="utf-8")

    def failing() -> Iterator[Document]:
        yield DOCUMENTS[0]
        raise error

    with pytest.raises(type(error)):
        write_predictions(failing(), str(tmp_path / "out.jsonl"), "jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]
    assert (tmp_path / "out.jsonl").read_text("utf-8") == "before"


def test_a_place_that_cannot_be_written_is_told_of_before_the_first_document(tmp_path):
    def untouched() -> Iterator[Document]:
        pytest.fail("a document was asked for")
        yield

    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"file: .*choose an --output that can be written"):
        write_predictions(untouched(), str(tmp_path / "file" / "out.jsonl"), "jsonl")
    with pytest.raises(InputError, match=f"^{tmp_path}: a folder; expected a file to write"):
        write_predictions(untouched(), str(tmp_path), "jsonl")
    assert [path.name for path in Path(tmp_path).iterdir()] == ["file"]
