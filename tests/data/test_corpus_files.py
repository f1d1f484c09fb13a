"""All formats: reading inverts writing, the format is guessed, ids are unique, and nothing is lost silently."""

import gzip
import logging
import re
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musamma.data.corpus_files import (
    FORMATS,
    ReadOptions,
    WriteOptions,
    choose_write_format,
    guess_format,
    read_documents,
    write_documents,
)
from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.formats.options import TOOL_UNITS
from musamma.data.import_audit import ImportAudit
from musamma.data.labels import LabelMap

FILES = {
    "jsonl": "c.jsonl",
    "csv": "c.csv",
    "parquet": "c.parquet",
    "doccano": "d.jsonl",
    "labelstudio": "c.json",
    "brat": "brat",
    "khabar": "khabar",
    "prodigy": "p.jsonl",
    "gliner": "g.json",
    "spacy": "s.spacy",
    "webanno": "webanno",
}
#: What a format does not hold.
LOST = {"brat": {"lost_meta"}, "webanno": {"lost_meta"}}
FORMAT_FILES = [*FILES.items(), ("conll", "c.conll"), ("conll", "c.txt"), ("conll", "c.tsv")]
ONE = Document("a", "في بغداد", (Span(3, 8, "LOC"),))
GUIDE = Path(__file__).parents[2] / "docs" / "annotate.md"


@st.composite
def corpora(draw):
    texts = st.text(st.sampled_from("ابتل وف[]\\|-\n\r\t\u064b\u0640\u200f\u2028\u0085,;\"'😀x1\0"), max_size=30)
    documents = []
    for index in range(draw(st.integers(1, 3))):
        text = draw(texts)
        cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
        spans, nested = [], []
        for start, end in zip(cuts[::2], cuts[1::2], strict=False):
            surface = text[start:end]
            # Whitespace at a border would be snapped off, which is another test.
            if surface == surface.strip():
                spans.append(Span(start, end, draw(st.sampled_from(["PER", "LOC"]))))
                if end - start > 2 and text[start + 1 : end - 1].strip() == text[start + 1 : end - 1]:
                    nested.append(Span(start + 1, end - 1, "ORG"))
        meta = draw(
            st.dictionaries(st.text("topicنص", min_size=1, max_size=4), st.text("خبر\n1:", max_size=4), max_size=2)
        )
        documents.append(Document(f"news/{index}", text, tuple(spans), tuple(nested), meta))
    return documents


@pytest.mark.parametrize("format", FILES)
@settings(deadline=None)
@given(documents=corpora())
def test_reading_is_the_inverse_of_writing(tmp_path_factory, format, documents):
    path = tmp_path_factory.mktemp("trip", numbered=True) / FILES[format]
    audit = ImportAudit()
    assert write_documents(documents, path, format=format, audit=audit) == len(documents)
    assert set(audit.kinds) <= LOST.get(format, set())
    audit = ImportAudit()
    # From the names alone, the unit of offsets can only be guessed: " 1😀11" with a name that cuts 😀11 in the unit it was written in.
    units = {"offsets": "utf16"} if format == "doccano" else {}
    options = ReadOptions(overlaps="nested", **units)
    found = list(read_documents(path, format=format, options=options, audit=audit))
    if "lost_meta" in LOST.get(format, ()):
        documents = [Document(d.id, d.text, d.spans, d.nested) for d in documents]
    assert found == documents
    assert audit.exact == audit.spans == sum(len(d.spans) + len(d.nested) for d in documents)


@pytest.mark.parametrize(("format", "name"), FORMAT_FILES)
def test_format_is_guessed(tmp_path, format, name):
    write_documents([ONE], tmp_path / name, format=format)
    assert guess_format(tmp_path / name) == format
    [document] = read_documents(tmp_path / name)
    assert (document.text, document.spans) == (ONE.text, ONE.spans)


def test_the_guide_says_what_each_format_holds(tmp_path):
    held = guide_table("read, written")
    assert sorted(guide_table("input")) == sorted(held) == sorted(FORMATS)
    surface = "وزارة الدفاع العراقية"
    names = (Span(5, 5 + len(surface), "ORG", 0.5),), (Span(18, 26, "NORP", 0.25),)
    document = Document("a", f"قالت {surface}", *names, {"topic": "x"})
    for format, row in held.items():
        if format in TOOL_UNITS:
            assert {"code-points": "code points", "utf16": "UTF-16 units"}[TOOL_UNITS[format]] in row["offsets"]
        if row["read, written"] == "read":
            with pytest.raises(InputError, match=f"format '{format}'; expected one of"):
                choose_write_format("a", format)
            continue
        assert row["read, written"] == "both"
        audit = ImportAudit()
        options = WriteOptions(nested=row["nested"] == "`--nested-tags`")
        write_documents([document], tmp_path / format, format=format, options=options, audit=audit)
        columns = {"lost_id": "id", "lost_meta": "`meta`", "lost_nested": "nested", "lost_score": "scores"}
        assert {kind for kind, count in audit.kinds.items() if count} == {
            kind for kind, column in columns.items() if row[column] == "no"
        }, format


def guide_table(second: str) -> dict[str, dict[str, str]]:
    """Return the rows of the guide's table of formats whose second column has this title, by format."""
    ((header, body),) = re.findall(
        rf"^(\| format \| {second} \|.*)\n\|[-| ]+\|\n((?:\|.*\n)+)", GUIDE.read_text("utf-8"), re.MULTILINE
    )
    titles, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in (header, *body.splitlines()))
    return {format: dict(zip(titles, row, strict=True)) for row in rows for format in re.findall(r"`(\w+)`", row[0])}


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
@pytest.mark.parametrize("name", ["c.jsonl", "c.csv", "d.jsonl", "c.json", "c.conll", "c.TSV", "a.txt"])
def test_compressed_files_are_read_like_plain_ones(tmp_path, name, suffix):
    """Formats are guessed and default ids are made without the suffix of the compression."""
    format = {"c.TSV": "conll", "a.txt": "khabar"}.get(name) or next(key for key, file in FORMAT_FILES if file == name)
    if format == "khabar":
        (tmp_path / name).write_text("---\n---\nفي [بغداد|LOC]", "utf-8")
    else:
        write_documents([ONE], tmp_path / name, format=format)
    content = (tmp_path / name).read_bytes()
    compressed = tmp_path / (name + suffix)
    compressed.write_bytes(
        gzip.compress(content) if suffix == ".gz" else pa.Codec("zstd").compress(content, asbytes=True)
    )
    assert guess_format(compressed) == format
    [document] = read_documents(compressed)
    assert document == next(read_documents(tmp_path / name))
    assert (document.text, document.spans) == (ONE.text, ONE.spans)


def test_a_truncated_compressed_file_is_an_error(tmp_path):
    lines = b"".join(b'{"id": "%d", "text": "%x"}\n' % (n, n**70) for n in range(4000))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:-2000])
    with pytest.raises(InputError, match=r"a\.jsonl\.gz: cannot be read beyond line \d{4}: .*; copy it again"):
        list(read_documents(tmp_path / "a.jsonl.gz"))


def test_a_single_article_is_distinguished_from_conll(tmp_path):
    (tmp_path / "a.txt").write_text("---\n---\nفي [بغداد|LOC]", "utf-8")
    assert guess_format(tmp_path / "a.txt") == "khabar"
    assert list(read_documents(tmp_path / "a.txt")) == [ONE]


@pytest.mark.parametrize(
    ("name", "content", "format", "message"),
    [
        ("nothing.jsonl", None, None, r"nothing\.jsonl: no such file or folder"),
        ("nothing.jsonl", None, "conll", r"nothing\.jsonl: no such file or folder"),
        ("a.doc", b"x", None, r"a\.doc: the format cannot be told from the name; expected a suffix among"),
        ("a.jsonl", b"{}", "xml", r"format 'xml'; expected one of jsonl, conll"),
        ("a.jsonl", b"{}", "brat", r"a\.jsonl: a file; expected a folder for brat"),
        ("a.jsonl", b"\n", None, r"a\.jsonl: no document in it"),
        ("a.jsonl", b'\n{"text": "x"}', None, r"a\.jsonl:2: id is None"),
        ("a.jsonl", b'{"id": "a", "text": "x", "spans": [3]}', None, r"a\.jsonl:1: spans\[0\] is 3"),
        (
            "a.jsonl",
            b'{"id": "a", "text": "x", "spans": [{"start": 0, "end": 1.0}]}',
            None,
            r"a\.jsonl:1: spans\[0\]\.end is 1\.0",
        ),
        (
            "a.jsonl",
            b'{"id": "a", "text": "x", "spans": [{"from": 0}]}',
            None,
            r"a\.jsonl:1: spans\[0\] has the unknown key 'from'",
        ),
        ("a.jsonl", b'{"id": "a", "text": "x", "nested": {}}', None, r"a\.jsonl:1: nested is dict"),
        (
            "a.jsonl",
            b'{"id":"a","text":"x"}\n\n{"id":"a","text":"y"}',
            None,
            r"a\.jsonl:3: id 'a' is taken by \S+a\.jsonl:1",
        ),
        ("a.jsonl", b'{"id":"a","text":"x"', None, r"a\.jsonl:1: broken JSON"),
    ],
)
def test_errors_name_file_and_line(tmp_path, name, content, format, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        list(read_documents(tmp_path / name, format=format))


def test_an_empty_folder_has_no_format(tmp_path):
    with pytest.raises(InputError, match="the format cannot be told"):
        guess_format(tmp_path)


def test_without_an_audit_a_loss_is_an_error(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a", "text": "في بغداد", "spans": [{"start": 2, "end": 8, "label": "LOC"}]}', "utf-8")
    with pytest.raises(
        InputError, match=r"a\.jsonl:1, document 'a': span \[3, 8\) LOC 'بغداد': was \[2, 8\), with whitespace"
    ):
        list(read_documents(path))
    audit = ImportAudit()
    assert [d.spans for d in read_documents(path, audit=audit)] == [ONE.spans]
    assert audit.kinds == {"whitespace": 1}


def test_without_an_audit_other_findings_are_logged(tmp_path, caplog):
    (tmp_path / "a.conll").write_text("\u200eبغداد I-LOC\nفي O\nمصر B-LOC\n", "utf-8")
    with caplog.at_level(logging.WARNING):
        assert len(list(read_documents(tmp_path / "a.conll"))) == 1
    assert caplog.messages == [f"{tmp_path / 'a.conll'}: 1 direction_mark, 1 repaired_tag"]


def test_repeated_ids_can_be_counted(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"id":"a","text":"x"}\n{"id":"a","text":"y"}')
    audit = ImportAudit()
    documents = list(read_documents(tmp_path / "a.jsonl", options=ReadOptions(repeated_ids="count"), audit=audit))
    assert [d.text for d in documents] == ["x", "y"]
    assert audit.kinds == {"duplicate_id": 1}


def test_labels_are_mapped_before_they_are_checked(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "في بغداد", "label": [[3, 8, "اسم مكان"]]}', "utf-8")
    options = ReadOptions(labels=LabelMap("mine", {"اسم مكان": "LOC"}))
    assert [d.spans for d in read_documents(path, options=options)] == [ONE.spans]


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        ("out", None, r"the format cannot be told"),
        ("x.parquet", "datasets", r"format 'datasets'; expected one of"),
        ("file/x.jsonl", None, r"choose a path that can be written"),
        ("file/x.csv", None, r"choose a path that can be written"),
        ("file/x.parquet", None, r"choose a path that can be written"),
    ],
)
def test_invalid_output_paths(tmp_path, name, format, message):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=message):
        write_documents([ONE], tmp_path / name, format=format)


@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "x.conll", "x.json"])
def test_a_label_with_a_space_is_not_written(tmp_path, name):
    with pytest.raises(InputError, match="document 'a': label 'A B'"):
        write_documents([ONE, Document("a", "نص", (Span(0, 2, "A B"),))], tmp_path / name)
    assert list(tmp_path.iterdir()) == []  # no half a file


@pytest.mark.parametrize("options", [{"overlaps": "both"}, {"scheme": "io"}, {"missing_tags": "X"}, {"sentences": -1}])
def test_options_are_checked(options):
    [name] = options
    with pytest.raises(InputError, match=f"{name} is "):
        ReadOptions(**options)
    with pytest.raises(InputError, match="scheme is 'auto'"):
        WriteOptions(scheme="auto")


def test_integer_ids_are_taken_in_every_format(tmp_path):
    for name, content in {
        "a.jsonl": '{"id": 7, "text": "نص"}',
        "a.json": '[{"id": 7, "text": "نص", "spans": []}]',
        "b.jsonl": '{"id": 7, "text": "نص", "label": []}',
        "b.json": '[{"id": 7, "data": {"text": "نص"}, "annotations": [{"result": []}]}]',
        "a.csv": "id,text\n7,نص",
    }.items():
        (tmp_path / name).write_text(content, "utf-8")
        assert [document.id for document in read_documents(tmp_path / name)] == ["7"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param("1" * 30, "broken JSON: an integer of 30 digits", id="30 digits"),
        pytest.param("1" * 5000, "broken JSON: number is infinity", id="5000 digits"),
        pytest.param("[" * 900 + "]" * 900, "document 'a': meta cannot be written", id="900 levels"),
        pytest.param("[" * 1500 + "]" * 1500, "broken JSON: depth limit exceeded", id="1500 levels"),
    ],
)
def test_values_that_cannot_be_kept_are_an_error(tmp_path, value, message):
    (tmp_path / "a.jsonl").write_text(f'{{"id": "a", "text": "x", "meta": {{"n": {value}}}}}', "utf-8")
    with pytest.raises(InputError, match=message):
        write_documents(read_documents(tmp_path / "a.jsonl"), tmp_path / "b.jsonl")


def test_long_digits_in_strings_and_64_bits_are_kept(tmp_path):
    digits = "1" * 30
    line = f'{{"id": "{digits}", "text": "{digits}", "meta": {{"n": 18446744073709551615, "m": -9223372036854775808}}}}'
    (tmp_path / "a.jsonl").write_text(line, "utf-8")
    [document] = read_documents(tmp_path / "a.jsonl")
    assert (document.id, document.text, document.meta) == (digits, digits, {"n": 2**64 - 1, "m": -(2**63)})


def test_reversed_spans_are_called_so(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"id": "a", "text": "نص", "spans": [{"start": 2, "end": 0, "label": "X"}]}', "utf-8"
    )
    with pytest.raises(InputError, match=r"a\.jsonl:1, document 'a': span \[2, 0\) X '': reversed"):
        list(read_documents(tmp_path / "a.jsonl"))
