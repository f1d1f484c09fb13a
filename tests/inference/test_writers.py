"""What tagging writes."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from musamma.data.document import Document, Span, format_json_line, read_jsonl
from musamma.data.errors import InputError
from musamma.data.formats import read_documents
from musamma.data.import_audit import ImportAudit
from musamma.inference.writers import OutputFormat, build_output_format, check_brat_folder, format_page, pack

TEXT = "أعلن (داعش)-الموصل\r\nوصل محمد السعيد وببغداد 😀"
SPANS = (
    Span(6, 10, "ORG", 0.9),
    Span(12, 18, "LOC", 0.8),
    Span(24, 35, "PER", 0.7),
    Span(38, 43, "LOC", 0.6),
)
DOCUMENTS = [Document("ب/١", TEXT, SPANS, meta={"source": "x"}), Document("2", "\ufeffلا شيء\n"), Document("3", "")]


def of(format: str, *, packing: str | None = None, table: pa.Schema | None = None) -> tuple[OutputFormat, ImportAudit]:
    audit = ImportAudit()
    return build_output_format(format, packing=packing, audit=audit, table=table), audit


def written(tmp_path: Path, name: str, format: str, documents=DOCUMENTS, **options) -> tuple[Path, ImportAudit]:
    """A file made of one piece for each document."""
    made, audit = of(format, **options)
    part = tmp_path / "part"
    part.write_bytes(made.head + b"".join(made.encode([document]) for document in documents) + made.tail)
    made.finish(part, tmp_path / name)
    assert not part.exists()
    return tmp_path / name, audit


def test_the_example_is_what_it_says():
    assert [DOCUMENTS[0].surface(span) for span in SPANS] == ["داعش", "الموصل", "محمد السعيد", "بغداد"]


def test_json_lines_hold_everything(tmp_path):
    path, audit = written(tmp_path, "out.jsonl", "jsonl")
    assert list(read_jsonl(path)) == DOCUMENTS
    assert path.read_bytes() == b"".join(map(format_json_line, DOCUMENTS))
    assert not audit.kinds
    first = json.loads(path.read_text("utf-8").split("\n")[0])
    assert first["spans"][0] == {"start": 6, "end": 10, "label": "ORG", "score": 0.9}


def test_conll_is_written_by_words_and_what_it_cannot_hold_is_counted(tmp_path):
    path, audit = written(tmp_path, "out.conll", "conll")
    assert path.read_bytes().decode() == (
        "أعلن O\n( O\nداعش B-ORG\n) O\n- O\nالموصل B-LOC\n\nوصل O\nمحمد B-PER\nالسعيد I-PER\nوببغداد B-LOC\n😀 O\n\n"
        "لا O\nشيء O\n\n"
    )
    assert dict(audit.kinds) == {"widened": 1, "lost_id": 3, "lost_meta": 1, "lost_score": 4}
    again = [d.surface(span) for d in read_documents(path) for span in d.spans]
    assert again == ["داعش", "الموصل", "محمد السعيد", "وببغداد"]


@pytest.mark.parametrize("format", ["jsonl", "conll"])
def test_packed_pieces_are_whole_in_themselves(tmp_path, format):
    plain = written(tmp_path, "plain", format)[0].read_bytes()
    zipped = written(tmp_path, "out.gz", format, packing="gzip")[0].read_bytes()
    assert gzip.decompress(zipped) == plain
    path, _ = written(tmp_path, "out.zst", format, packing="zstd")
    with pa.input_stream(str(path), compression="zstd") as stream:
        assert stream.read() == plain
    made, _ = of(format, packing="gzip")
    assert gzip.decompress(made.encode(DOCUMENTS[:2])) in plain
    assert made.encode([]) == b""
    assert gzip.decompress(made.tail) == pack(b"", None) == b""


def test_a_page_in_pieces_is_the_page(tmp_path):
    path, _ = written(tmp_path, "out.html", "html")
    assert path.read_bytes().decode() == "".join(format_page(DOCUMENTS))


def test_brat_is_a_folder(tmp_path):
    path, _ = written(tmp_path, "out", "brat")
    again = {document.id: document for document in read_documents(path)}
    for document in DOCUMENTS:
        assert again[document.id].text == document.text
        assert [span.key for span in again[document.id].spans] == [span.key for span in document.spans]
    with pytest.raises(InputError, match=r"out: a folder with files in it; expected a new or an empty folder"):
        check_brat_folder(path)
    check_brat_folder(tmp_path / "new")


def test_parquet_keeps_what_a_table_had(tmp_path):
    day = datetime.date(2024, 1, 12)
    table = pa.schema(
        [pa.field("day", pa.date32(), nullable=False), pa.field("text", pa.int8()), ("tags", pa.list_(pa.string()))]
    )
    documents = [
        Document("1", TEXT, SPANS, meta={"day": day, "tags": ["أ"], "page": day}),
        Document("2", "نص", meta={"text": "x"}),
    ]
    path, _ = written(tmp_path, "out.parquet", "parquet", documents, table=table)
    found = pq.read_table(path)
    assert found.schema.names == ["id", "text", "spans", "day", "tags", "meta"]
    assert found.schema.field("day").type == pa.date32()
    assert found.column("day").to_pylist() == [day, None]
    assert found.column("tags").to_pylist() == [["أ"], None]
    assert [json.loads(cell) for cell in found.column("meta").to_pylist()] == [{"page": "2024-01-12"}, {"text": "x"}]
    assert next(iter(read_documents(path))).spans == SPANS
    made, _ = of("parquet", table=table)
    with pytest.raises(InputError, match=r"documents '9' to '9': a cell of another type.*; tag them one by one"):
        made.encode([Document("9", "نص", meta={"day": "غدا"})])


def test_parquet_joins_pieces_to_row_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("musamma.inference.writers._ROW_GROUP", 4)
    documents = [Document(str(n), "نص") for n in range(10)]
    path, _ = written(tmp_path, "out.parquet", "parquet", documents)
    with pq.ParquetFile(path) as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [4, 4, 2]
    assert [document.id for document in read_documents(path)] == [document.id for document in documents]


def test_a_format_that_is_none():
    with pytest.raises(InputError, match="format 'xml'; expected one of jsonl, conll, html, parquet, brat"):
        of("xml")
