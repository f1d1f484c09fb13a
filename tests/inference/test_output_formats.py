"""Output formats of tagging. The HTML page is read back with a parser, as by a browser."""

from __future__ import annotations

import datetime
import gzip
import json
from html.parser import HTMLParser
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musamma.data.corpus_files import read_documents
from musamma.data.document import Document, Span, format_json_line, read_jsonl
from musamma.data.errors import InputError
from musamma.data.import_audit import ImportAudit
from musamma.inference.output_formats import (
    HEAD,
    TAIL,
    OutputFormat,
    build_output_format,
    check_brat_folder,
    choose_format,
    compress,
    format_article,
)

TEXT = "أعلن (داعش)-الموصل\r\nوصل محمد السعيد وببغداد 😀"
SPANS = (
    Span(6, 10, "ORG", 0.9),
    Span(12, 18, "LOC", 0.8),
    Span(24, 35, "PER", 0.7),
    Span(38, 43, "LOC", 0.6),
)
DOCUMENTS = [Document("ب/١", TEXT, SPANS, meta={"source": "x"}), Document("2", "\ufeffلا شيء\n"), Document("3", "")]


def build(
    format: str, *, compression: str | None = None, table: pa.Schema | None = None
) -> tuple[OutputFormat, ImportAudit]:
    audit = ImportAudit()
    return build_output_format(format, compression=compression, audit=audit, table=table), audit


def write(tmp_path: Path, name: str, format: str, documents=DOCUMENTS, **options) -> tuple[Path, ImportAudit]:
    """Write documents as a file, one piece for each; return its path and the audit."""
    output_format, audit = build(format, **options)
    part = tmp_path / "part"
    part.write_bytes(
        output_format.head + b"".join(output_format.encode([document]) for document in documents) + output_format.tail
    )
    output_format.finish(part, tmp_path / name)
    assert not part.exists()
    return tmp_path / name, audit


def page(documents) -> str:
    return HEAD + "".join(map(format_article, documents)) + TAIL


def test_the_spans_of_the_example():
    assert [DOCUMENTS[0].surface(span) for span in SPANS] == ["داعش", "الموصل", "محمد السعيد", "بغداد"]


def test_json_lines_hold_everything(tmp_path):
    path, audit = write(tmp_path, "out.jsonl", "jsonl")
    assert list(read_jsonl(path)) == DOCUMENTS
    assert path.read_bytes() == b"".join(map(format_json_line, DOCUMENTS))
    assert not audit.kinds
    first = json.loads(path.read_text("utf-8").split("\n")[0])
    assert first["spans"][0] == {"start": 6, "end": 10, "label": "ORG", "score": 0.9}


def test_conll_has_a_line_per_word_and_counts_what_it_cannot_hold(tmp_path):
    path, audit = write(tmp_path, "out.conll", "conll")
    assert path.read_bytes().decode() == (
        "أعلن O\n( O\nداعش B-ORG\n) O\n- O\nالموصل B-LOC\n\nوصل O\nمحمد B-PER\nالسعيد I-PER\nوببغداد B-LOC\n😀 O\n\n"
        "لا O\nشيء O\n\n"
    )
    assert dict(audit.kinds) == {"widened": 1, "lost_id": 3, "lost_meta": 1, "lost_score": 4}
    again = [d.surface(span) for d in read_documents(path) for span in d.spans]
    assert again == ["داعش", "الموصل", "محمد السعيد", "وببغداد"]


@pytest.mark.parametrize("format", ["jsonl", "conll"])
def test_compressed_pieces_are_complete_members_or_frames(tmp_path, format):
    plain = write(tmp_path, "plain", format)[0].read_bytes()
    zipped = write(tmp_path, "out.gz", format, compression="gzip")[0].read_bytes()
    assert gzip.decompress(zipped) == plain
    path, _ = write(tmp_path, "out.zst", format, compression="zstd")
    with pa.input_stream(str(path), compression="zstd") as stream:
        assert stream.read() == plain
    output_format, _ = build(format, compression="gzip")
    assert gzip.decompress(output_format.encode(DOCUMENTS[:2])) in plain
    assert output_format.encode([]) == b""
    assert gzip.decompress(output_format.tail) == compress(b"", None) == b""


def test_a_page_written_in_pieces_is_the_whole_page(tmp_path):
    path, _ = write(tmp_path, "out.html", "html")
    assert path.read_bytes().decode() == page(DOCUMENTS)


def test_brat_is_a_folder(tmp_path):
    path, _ = write(tmp_path, "out", "brat")
    again = {document.id: document for document in read_documents(path)}
    for document in DOCUMENTS:
        assert again[document.id].text == document.text
        assert [span.key for span in again[document.id].spans] == [span.key for span in document.spans]
    with pytest.raises(InputError, match=r"out: a folder with files in it; expected a new or an empty folder"):
        check_brat_folder(path)
    check_brat_folder(tmp_path / "new")


def test_parquet_keeps_the_columns_of_a_table(tmp_path):
    day = datetime.date(2024, 1, 12)
    table = pa.schema(
        [pa.field("day", pa.date32(), nullable=False), pa.field("text", pa.int8()), ("tags", pa.list_(pa.string()))]
    )
    documents = [
        Document("1", TEXT, SPANS, meta={"day": day, "tags": ["أ"], "page": day}),
        Document("2", "نص", meta={"text": "x"}),
    ]
    path, _ = write(tmp_path, "out.parquet", "parquet", documents, table=table)
    found = pq.read_table(path)
    assert found.schema.names == ["id", "text", "spans", "day", "tags", "meta"]
    assert found.schema.field("day").type == pa.date32()
    assert found.column("day").to_pylist() == [day, None]
    assert found.column("tags").to_pylist() == [["أ"], None]
    assert [json.loads(cell) for cell in found.column("meta").to_pylist()] == [{"page": "2024-01-12"}, {"text": "x"}]
    assert next(iter(read_documents(path))).spans == SPANS
    output_format, _ = build("parquet", table=table)
    with pytest.raises(InputError, match=r"documents '9' to '9': a cell of another type.*; tag them one by one"):
        output_format.encode([Document("9", "نص", meta={"day": "غدا"})])


def test_parquet_joins_pieces_to_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("musamma.inference.parquet_output._ROW_GROUP", 4)
    documents = [Document(str(n), "نص") for n in range(10)]
    path, _ = write(tmp_path, "out.parquet", "parquet", documents)
    with pq.ParquetFile(path) as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [4, 4, 2]
    assert [document.id for document in read_documents(path)] == [document.id for document in documents]


def test_an_unknown_format():
    with pytest.raises(InputError, match="format 'xml'; expected one of jsonl, conll, html, parquet, brat"):
        build("xml")


@pytest.mark.parametrize(
    ("output", "format", "chosen"),
    [
        (None, None, ("jsonl", None)),
        ("out", None, ("jsonl", None)),
        ("OUT.NDJSON", None, ("jsonl", None)),
        ("out.jsonl.gz", None, ("jsonl", "gzip")),
        ("out.conll.ZST", None, ("conll", "zstd")),
        ("out.html", None, ("html", None)),
        ("v1.2/out", None, ("jsonl", None)),
        ("out.conll", "jsonl", ("jsonl", None)),
        ("out.gz", "conll", ("conll", "gzip")),
    ],
)
def test_the_suffix_chooses_the_format(output, format, chosen):
    assert choose_format(output, format) == chosen


# HTML

OVERRIDE = "\u202e"
VOID = {"meta"}


class ParsedPage(HTMLParser):
    """Texts and headings of the articles of a page; surface, label, class and tooltip of every name."""

    def __init__(self, documents: list[Document]) -> None:
        super().__init__(convert_charrefs=True)
        self.texts: list[str] = []
        self.headings: list[str] = []
        self.names: list[tuple[str, str, str, str | None]] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self._open: list[str] = []
        self.feed(page(documents))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.attributes |= set(found)
        if tag not in VOID:
            self._open.append(tag)
        if tag == "h2":
            self.headings.append("")
        if found.get("class") == "text":
            self.texts.append("")
        if tag == "mark":
            self.names.append(("", "", found["class"] or "", found.get("title")))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "article" not in self._open:
            return
        inner = self._open[self._open.index("article") + 1 :]
        if inner[:1] == ["h2"]:
            assert inner == ["h2", "bdi"]
            self.headings[-1] += data
        elif inner[:1] == ["div"]:
            if "mark" in inner:
                # A change of writing direction in a name or label ends with it.
                assert inner[-1] == "bdi"
                surface, label, *rest = self.names[-1]
                small = "small" in inner
                self.names[-1] = (surface + data * (not small), label + data * small, *rest)
            if "small" not in inner:
                self.texts[-1] += data


HOSTILE = Document(
    f'</h2><script>alert("id")</script>{OVERRIDE}',
    f"قال <script>alert(1)</script> & {OVERRIDE}محمد\r\n</div></article> &amp; في «بيروت»",
    (Span(4, 12, '"><script>', 0.98765), Span(32, 37, f"PER{OVERRIDE}"), Span(66, 71, "LOC", 0.5)),
)


def test_no_text_of_a_document_becomes_html():
    found = ParsedPage([HOSTILE, Document("2", "بغداد", (Span(0, 5, "LOC"),))])
    assert found.texts == [HOSTILE.text, "بغداد"]
    assert found.headings == [HOSTILE.id, "2"]
    assert "script" not in found.tags
    assert not {name for name in found.attributes if name.startswith("on")}
    assert found.names == [
        ("<script>", '"><script>', "script", "0.988"),
        (f"{OVERRIDE}محمد", f"PER{OVERRIDE}", "PER", None),
        ("بيروت", "LOC", "LOC", "0.500"),
        ("بغداد", "LOC", "LOC", None),
    ]


def test_the_page_is_right_to_left_and_forbids_scripts():
    head = page([])
    assert '<html lang="ar" dir="rtl">' in head
    assert "default-src 'none'" in head
    assert '<meta charset="utf-8">' in head


@given(st.text(st.sampled_from("بغداد <>&\"'\r\n\t\u202e\u2066;#x0a"), max_size=40), st.data())
def test_every_text_is_shown_unchanged(text, data):
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=6)))
    spans = tuple(Span(a, b, "LOC", 0.5) for a, b in zip(cuts[::2], cuts[1::2], strict=False))
    document = Document("d", text, spans)
    found = ParsedPage([document])
    assert found.texts == [text]
    assert [name[0] for name in found.names] == [document.surface(span) for span in spans]
