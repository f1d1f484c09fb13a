"""What can be tagged."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from musamma.data.errors import InputError
from musamma.inference.sources import read_inputs

#: Line ends of both kinds, vowel signs, bidi controls, an emoji beyond the basic plane, a mark in the middle.
TEXT = "\r\n قَالَ مُحَمَّدٌ\r\nفي \u202bبيروت\u202c 😀\u200f \ufeffنعم\n\n"
MARK = b"\xef\xbb\xbf"


def read(*inputs: object) -> list[tuple[str, str]]:
    return [(document.id, document.text) for document in read_inputs(map(str, inputs))]


def fed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="ascii"))


@pytest.mark.parametrize("mark", [b"", MARK])
def test_a_text_file_is_one_document_with_its_characters_as_they_are(tmp_path, mark):
    (tmp_path / "مقال.txt").write_bytes(mark + TEXT.encode())
    assert read(tmp_path / "مقال.txt") == [("مقال", TEXT)]


def test_json_lines_keep_ids_and_meta(tmp_path):
    lines = [{"id": "b", "text": TEXT, "meta": {"n": 1}}, {"id": "a", "text": ""}]
    (tmp_path / "d.JSONL").write_bytes(MARK + "\n\n".join(json.dumps(line) for line in lines).encode())
    documents = list(read_inputs([str(tmp_path / "d.JSONL")]))
    assert [(d.id, d.text, d.meta) for d in documents] == [("b", TEXT, {"n": 1}), ("a", "", {})]


def test_a_folder_is_read_to_the_bottom_in_the_order_of_its_paths(tmp_path):
    for name in ("b.txt", "a/z.txt", "a/b/y.text"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "a" / "c.jsonl").write_text('{"id": "x", "text": "نص"}', encoding="utf-8")
    (tmp_path / "a" / "picture.png").write_bytes(b"\x89PNG")
    assert read(tmp_path) == [("a/b/y", "a/b/y.text"), ("x", "نص"), ("a/z", "a/z.txt"), ("b", "b.txt")]


@pytest.mark.parametrize("mark", [b"", MARK])
def test_standard_input_is_one_text(monkeypatch, mark):
    fed(monkeypatch, mark + TEXT.encode())
    assert read("-") == [("stdin", TEXT)]


def test_standard_input_is_json_lines_where_it_begins_so(monkeypatch):
    lines = ['{"text": "بغداد"}', "", '{"id": "ب", "text": "دمشق"}']
    fed(monkeypatch, MARK + b"\n  " + "\n".join(lines).encode())
    assert read("-") == [("stdin-2", "بغداد"), ("ب", "دمشق")]


def test_standard_input_is_read_as_it_comes(monkeypatch):
    """The first documents are out before the last line is looked at."""
    fed(monkeypatch, b'{"text": "a"}\n{"text": "b"}\n{"te')
    documents = read_inputs(["-"])
    assert [next(documents).text, next(documents).text] == ["a", "b"]
    with pytest.raises(InputError, match="stdin:3: broken JSON"):
        next(documents)


@pytest.mark.parametrize("content", [b"", b" \n\t\n", MARK, MARK + b"\r\n"])
def test_standard_input_without_text_is_an_error(monkeypatch, content):
    fed(monkeypatch, content)
    with pytest.raises(InputError, match=r"^stdin: no text; expected an article, or one JSON object a line$"):
        read("-")


def test_an_id_that_comes_twice_names_both_places(tmp_path):
    for name in ("a/x.txt", "b/x.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text("نص", encoding="utf-8")
    with pytest.raises(InputError, match=r"b/x\.txt: id 'x' is taken by .*a/x\.txt; .*the folder that holds them"):
        read(tmp_path / "a" / "x.txt", tmp_path / "b" / "x.txt")
    assert [name for name, _ in read(tmp_path)] == ["a/x", "b/x"]  # the remedy helps


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            "سطر\nسطر\n".encode() + b"\xe4",
            r"a\.txt:3: byte 0xe4 is not UTF-8; expected UTF-8; convert the file",
        ),
        ("a.txt", b" \r\n", r"a\.txt: the file is empty; expected text"),
        ("a.jsonl", b'{"id": "a", "text": "\xe4"}', r"a\.jsonl:1: byte 0xe4 at byte 22 is not UTF-8"),
        ("a.jsonl", b'{"id": "a"}', r"a\.jsonl:1: text is NoneType; expected a string under 'text'"),
        ("a.jsonl", b"\n\n", r"a\.jsonl: the file holds no document"),
        ("a.docx", b"x", r"a\.docx: suffix '\.docx'; expected \.txt files .* or \.jsonl files .*musamma convert"),
        ("a", b"x", r"a: suffix '\(none\)'; expected"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_nothing_to_tag_is_an_error(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"")
    with pytest.raises(InputError, match=f"^{tmp_path}: nothing to tag; expected .txt files"):
        read(tmp_path)
    with pytest.raises(InputError, match="no such file or folder; check the path, or give - for standard input"):
        read(Path("nowhere") / "x.txt")
