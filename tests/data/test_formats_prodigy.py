"""Prodigy: accepted examples, spans by characters and tokens, and errors."""

import json

import pytest

from musamma.data.corpus_files import guess_format, write_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from tests.support import read_content, surfaces

TEXT = "😀 زار السيسي بغداد"
# An example of `ner.manual` as `prodigy db-out` writes it; Prodigy is not free, so the keys are those of published data sets.
EXAMPLE = {
    "text": TEXT,
    "meta": {"source": "AFP"},
    "_input_hash": 932777898,
    "_task_hash": -1310891334,
    "_is_binary": False,
    "tokens": [
        {"text": "😀", "start": 0, "end": 1, "id": 0, "ws": True},
        {"text": "زار", "start": 2, "end": 5, "id": 1, "ws": True},
        {"text": "السيسي", "start": 6, "end": 12, "id": 2, "ws": True},
        {"text": "بغداد", "start": 13, "end": 18, "id": 3, "ws": False},
    ],
    "spans": [
        {"start": 6, "end": 12, "token_start": 2, "token_end": 2, "label": "PER", "source": "blank:ar"},
        {"start": 13, "end": 18, "token_start": 3, "token_end": 3, "label": "LOC", "score": 0.5},
    ],
    "_session_id": None,
    "_view_id": "ner_manual",
    "answer": "accept",
}


def lines(*records):
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def test_accepted_examples_are_read(tmp_path):
    examples = [EXAMPLE, {**EXAMPLE, "answer": "reject"}, {**EXAMPLE, "answer": "ignore"}, {**EXAMPLE, "spans": []}]
    documents, audit = read_content(tmp_path, lines(*examples), "p.jsonl")
    assert guess_format(tmp_path / "p.jsonl") == "prodigy"
    assert [document.id for document in documents] == ["p-00000", "p-00003"]
    assert surfaces(documents[0]) == [("السيسي", "PER"), ("بغداد", "LOC")]
    assert [span.score for span in documents[0].spans] == [None, 0.5]
    assert documents[0].meta["source"] == "AFP"
    assert documents[0].meta["_task_hash"] == -1310891334
    assert (audit.exact, audit.kinds) == (2, {"not_accepted": 2})


def test_spans_by_tokens_and_examples_of_other_recipes(tmp_path):
    example = {
        **EXAMPLE,
        "_is_binary": True,
        "relations": [{"head": 1, "child": 2, "label": "in"}],
        "versions": [EXAMPLE],
    }
    example["spans"] = [{"token_start": 2, "token_end": 3, "label": "PER"}]
    [document], audit = read_content(tmp_path, lines(example), "p.jsonl")
    assert surfaces(document) == [("السيسي بغداد", "PER")]
    assert audit.kinds == {"partial_annotation": 1, "ignored_annotation": 2}


@pytest.mark.parametrize(
    ("span", "kind"),
    [
        ({"start": 6, "end": 12, "label": "PER", "text": "بغداد"}, "surface_mismatch"),
        ({"start": 6, "end": 12, "label": "PER", "token_start": 2, "token_end": 3}, "surface_mismatch"),
        ({"start": 6, "end": 12}, "no_label"),
        ({"start": 6, "end": 99, "label": "PER"}, "outside"),
    ],
)
def test_spans_that_the_file_contradicts_are_counted(tmp_path, span, kind):
    _, audit = read_content(tmp_path, lines({**EXAMPLE, "spans": [span]}), "p.jsonl")
    assert (audit.kinds, audit.lost) == ({kind: 1}, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text": None}, r"p\.jsonl:2: no text"),
        ({"answer": "yes"}, r"p\.jsonl:2: answer is 'yes'; expected one of accept, reject, ignore"),
        ({"spans": {}}, r"p\.jsonl:2: spans is {}"),
        ({"spans": [3]}, r"p\.jsonl:2: spans\[0\] is 3"),
        ({"spans": [{"start": 1.5, "end": 2, "label": "X"}]}, r"p\.jsonl:2: spans\[0\]\.start is 1\.5"),
        ({"spans": [{"start": 0, "end": 1, "label": 4}]}, r"p\.jsonl:2: spans\[0\]\.label is 4"),
    ],
)
def test_errors_name_file_and_line(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        read_content(tmp_path, lines(EXAMPLE, {**EXAMPLE, **change}), "p.jsonl")


def test_tokens_end_at_the_borders_of_names_and_give_the_text(tmp_path):
    text = "قال  للجيش\nغدا"
    document = Document("a", text, (Span(6, 10, "ORG", rule="added"),))
    write_documents([document], tmp_path / "p.jsonl", format="prodigy")
    record = json.loads((tmp_path / "p.jsonl").read_text("utf-8"))
    tokens = [(token["text"], token["ws"]) for token in record["tokens"]]
    assert tokens == [("قال", True), (" ", False), ("ل", False), ("لجيش", False), ("\n", False), ("غدا", False)]
    assert "".join(token + " " * space for token, space in tokens) == text
    assert record["spans"] == [{"start": 6, "end": 10, "label": "ORG", "token_start": 3, "token_end": 3}]
