"""Units of offsets: conversion there and back, and the unit of doccano's, Label Studio's and brat's files."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musamma.data.corpus_files import ReadOptions, WriteOptions, read_documents, write_documents
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.data.offset_units import OFFSET_UNITS, TextOffsets, UnitEvidence, fits_words
from tests.support import make_document, read_content, surfaces

FAMILY = "👨\u200d👩\u200d👧"
WORDS = st.sampled_from(
    [
        "الرباط",
        "مُحَمَّد",
        "وداعش",
        "😀",
        FAMILY,
        "🇲🇦",
        "cafe\u0301",
        "café",
        "\r\n",
        "\n",
        "،",
        "👍🏽",
        "\u202bدمشق\u202c",
        "🧑\u200d🚒",
    ]
)
TEXTS = st.lists(WORDS, max_size=12).map(" ".join)
#: Emoji, combining marks, CR LF, and the same decomposed and composed.
TEXT = f"😀 زار مُحَمَّد {FAMILY} الرباط\r\nثم café 🇲🇦 القاهرة، آخر"
NAMES = (("مُحَمَّد", "PER"), ("الرباط", "LOC"), ("café", "ORG"), ("القاهرة", "LOC"))


def slice_javascript(text, start, end):
    return text.encode("utf-16-le")[2 * start : 2 * end].decode("utf-16-le")


@settings(max_examples=25)
@given(TEXTS)
def test_utf16_offsets_are_those_of_javascript(text):
    offsets = TextOffsets(text, "utf16")
    for end in range(len(text) + 1):
        start, last = offsets.from_code_points(end // 2, end)
        assert slice_javascript(text, start, last) == text[end // 2 : end]
        assert (offsets.to_code_points(start), offsets.to_code_points(last)) == (end // 2, end)


@settings(max_examples=25)
@given(TEXTS, st.sampled_from(OFFSET_UNITS))
def test_every_offset_of_a_unit_comes_back(text, unit):
    offsets = TextOffsets(text, unit)
    length = offsets.from_code_points(0, len(text))[1]
    inside = 0
    for offset in range(length + 1):
        point = offsets.to_code_points(offset)
        if point is None:
            inside += 1
        else:
            assert offsets.from_code_points(point, point)[0] == offset
    assert inside == (sum(c > "\uffff" for c in text) if unit == "utf16" else 0)
    # An offset outside the text stays outside.
    assert offsets.to_code_points(length + 2) == len(text) + 2
    assert offsets.to_code_points(-1) == -1


@pytest.mark.parametrize(
    ("text", "clusters"),
    [
        ("مُحَمَّد", 4),
        (FAMILY, 1),
        ("🇲🇦", 1),
        ("e\u0301", 1),
        ("é", 1),
        ("\r\n", 1),
        ("\n\r", 2),
        ("👍🏽", 1),
        ("ـُ", 1),
        ("لا", 2),
    ],
)
def test_grapheme_clusters(text, clusters):
    assert TextOffsets(text, "graphemes").from_code_points(0, len(text)) == (0, clusters)


@settings(max_examples=5)
@given(st.lists(WORDS, min_size=1, max_size=10).filter(lambda words: any(word.strip() for word in words)), st.data())
def test_names_survive_each_tool_in_each_unit(tmp_path_factory, words, data):
    text = " ".join(words)
    borders, position = [], 0
    for word in words:
        if word.strip():
            borders.append((position, position + len(word)))
        position += len(word) + 1
    spans = data.draw(st.lists(st.sampled_from(borders), unique=True, min_size=1))
    document = Document("d", text, tuple(Span(*border, "LOC") for border in spans))
    folder = tmp_path_factory.mktemp("tools")
    for format, name in (("doccano", "d.jsonl"), ("labelstudio", "l.json"), ("brat", "b")):
        for unit in OFFSET_UNITS:
            audit = ImportAudit()
            path = folder / f"{unit}-{name}"
            write_documents([document], path, format=format, options=WriteOptions(offsets=unit), audit=audit)
            [read] = read_documents(path, format=format, options=ReadOptions(offsets=unit), audit=audit)
            assert (read.text, read.spans, audit.lost) == (text, document.spans, 0)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("unit", OFFSET_UNITS)
def test_the_unit_of_a_doccano_file_is_found(tmp_path, unit, form):
    document = make_document(
        unicodedata.normalize(form, TEXT), *((unicodedata.normalize(form, n), c) for n, c in NAMES)
    )
    path = tmp_path / "d.jsonl"
    write_documents([document], path, format="doccano", options=WriteOptions(offsets=unit))
    audit = ImportAudit()
    [read] = read_documents(path, audit=audit)
    assert read.spans == document.spans
    assert (audit.offset_unit, audit.lost, audit.exact) == (unit, 0, 4)
    assert audit.to_dict()["offsets"] == {"unit": unit, "reason": audit.offset_reason}
    assert "of 4 spans that depend on the unit" in audit.offset_reason
    # Reading for training and scoring takes the same unit.
    assert [d.spans for d in read_documents(path)] == [document.spans]


def test_the_example_of_the_emoji(tmp_path):
    # As doccano exports it: the emoji counts twice.
    record = {"id": 1, "text": "😀 في الرباط", "label": [[6, 12, "LOC"]]}
    [document], audit = read_content(tmp_path, record, "d.jsonl")
    assert surfaces(document) == [("الرباط", "LOC")]
    assert audit.offset_unit == "utf16"
    assert audit.offset_reason == (
        "of 1 spans that depend on the unit, those that do not fit the words: 1 in code points, 0 in UTF-16 units,"
        " 1 in grapheme clusters"
    )


def test_without_evidence_the_unit_is_the_tools_own(tmp_path):
    record = {"text": "في الرباط", "label": [[3, 9, "LOC"]]}
    [document], audit = read_content(tmp_path, record, "d.jsonl")
    assert surfaces(document) == [("الرباط", "LOC")]
    assert (audit.offset_unit, audit.offset_reason) == ("utf16", "every unit gives the same spans")


def test_spans_that_fit_in_two_units_are_doubtful_until_the_unit_is_given(tmp_path):
    # In code points and clusters the span is ب, in UTF-16 units ا.
    record = {"text": "😀😀 ا ب ج", "label": [[5, 6, "X"]]}
    [document], audit = read_content(tmp_path, record, "d.jsonl")
    assert surfaces(document) == [("ا", "X")]
    assert (audit.offset_unit, audit.kinds, audit.lost) == ("utf16", {"doubtful_offsets": 1}, 1)
    assert audit.exact == 0
    with pytest.raises(InputError, match="another span in code points, which fit the words of the file as well"):
        list(read_documents(tmp_path / "d.jsonl"))
    audit = ImportAudit()
    [document] = read_documents(tmp_path / "d.jsonl", options=ReadOptions(offsets="code-points"), audit=audit)
    assert surfaces(document) == [("ب", "X")]
    assert (audit.offset_reason, audit.lost) == ("as given", 0)


def test_a_span_with_another_issue_is_counted_once(tmp_path):
    record = {"text": "😀😀 ا ب ج", "label": [[5, 6, "X"], [5, 106, "X"], [5, 6, "X"]]}
    [document], audit = read_content(tmp_path, record, "d.jsonl")
    assert surfaces(document) == [("ا", "X")]
    assert audit.kinds == {"doubtful_offsets": 1, "outside": 1, "duplicate": 1}
    assert (audit.spans, audit.exact) == (3, 0)


def test_proclitics_before_a_name_do_not_count_against_a_unit():
    text = "😀 وبالموصل وللجيش"
    assert fits_words(text, text.index("الموصل"), text.index("الموصل") + 6)
    assert fits_words(text, text.index("لجيش"), len(text))
    assert not fits_words(text, text.index("موصل"), text.index("موصل") + 4)
    assert not fits_words("مُحمد", 1, 5)
    evidence = UnitEvidence()
    offsets = TextOffsets(text, "utf16")
    evidence.add(text, [offsets.from_code_points(text.index("الموصل"), text.index("الموصل") + 6)])
    assert evidence.choose("utf16")[::2] == ("utf16", ())


def test_a_border_inside_a_cluster_is_moved_and_counted(tmp_path):
    # The case ending is no part of the name.
    document = make_document("زار دمشقُ", ("دمشق", "LOC"))
    for format, name in (("doccano", "d.jsonl"), ("labelstudio", "l.json"), ("brat", "b")):
        audit = ImportAudit()
        options = WriteOptions(offsets="graphemes")
        write_documents([document], tmp_path / name, format=format, options=options, audit=audit)
        assert audit.kinds == {"split_cluster": 1}
        assert audit.count_category("snapped") == 1
    [read] = read_documents(tmp_path / "d.jsonl", format="doccano", options=ReadOptions(offsets="graphemes"))
    assert surfaces(read) == [("دمشقُ", "LOC")]


@pytest.mark.parametrize(("format", "name"), [("labelstudio", "l.json"), ("brat", "b")])
def test_the_surface_in_the_file_tells_the_unit(tmp_path, format, name):
    document = make_document(TEXT, *NAMES)
    other = "code-points" if format == "labelstudio" else "utf16"
    write_documents([document], tmp_path / name, format=format, options=WriteOptions(offsets=other))
    audit = ImportAudit()
    [read] = read_documents(tmp_path / name, format=format, audit=audit)
    assert audit.lost > 0
    assert "which fits offsets in" in audit.find_examples("surface_mismatch")[0].detail
    audit = ImportAudit()
    [read] = read_documents(tmp_path / name, format=format, options=ReadOptions(offsets=other), audit=audit)
    assert (read.spans, audit.lost, audit.offset_unit) == (document.spans, 0, other)


def test_a_broken_line_of_a_doccano_file_is_named_once(tmp_path):
    lines = [json.dumps({"text": "😀 في الرباط", "label": [[6, 12, "LOC"]]}), '{"text": "x", "label": [[0, 1]]}']
    (tmp_path / "d.jsonl").write_text("\n".join(lines), "utf-8")
    with pytest.raises(InputError, match=r"d\.jsonl:2: label\[0\] is \[0, 1\]; expected \[start"):
        list(read_documents(tmp_path / "d.jsonl", format="doccano"))
