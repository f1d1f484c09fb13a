"""What tagging writes: JSON lines, CoNLL, Parquet, brat, or a page to look at, each in pieces that can be put together."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from html import escape
from pathlib import Path
from shutil import rmtree
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.data.formats import brat
from musamma.data.formats.conll import to_conll
from musamma.data.formats.options import WriteOptions
from musamma.data.import_audit import ImportAudit
from musamma.data.records import parse_json
from musamma.inference.records import dump

# Tokens as the tagger sees words: of two names in "بغداد/الموصل" none is lost.
_CONLL = WriteOptions(split_punctuation=True)
_SPAN = pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string()), ("score", pa.float64())])
_COLUMNS = (("id", pa.string()), ("text", pa.string()), ("spans", pa.list_(_SPAN)))
_META = ("meta", pa.string())
_ROW_GROUP = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """How documents become a file.

    Args:
        head: what it begins with.
        encode: the bytes of some documents; those of all of them, in order, stand between head and tail.
        tail: what it ends with.
        finish: makes of the whole of these bytes, in a file of their own, the file or folder that was asked for.
    """

    head: bytes
    encode: Callable[[list[Document]], bytes]
    tail: bytes
    finish: Callable[[Path, Path], None]


def build_output_format(
    format: str, *, packing: str | None, audit: ImportAudit, table: pa.Schema | None
) -> OutputFormat:
    """The layout of a format.

    Args:
        format: ``jsonl``, ``conll``, ``html``, ``parquet`` or ``brat``.
        packing: ``gzip`` or ``zstd``; each piece is then a member or frame of its own.
        audit: where to count what the format cannot hold.
        table: further columns of the first input, which Parquet keeps as they are.
    """

    def conll(documents: list[Document]) -> bytes:
        return "".join(_conll(document, audit) for document in documents).encode()

    match format:
        case "jsonl":
            return OutputFormat(head=b"", encode=_packed(_lines, packing), tail=pack(b"", packing), finish=_rename)
        case "conll":
            return OutputFormat(head=b"", encode=_packed(conll, packing), tail=pack(b"", packing), finish=_rename)
        case "html":
            return OutputFormat(head=HEAD.encode(), encode=_articles, tail=TAIL.encode(), finish=_rename)
        case "brat":
            return OutputFormat(head=b"", encode=_lines, tail=b"", finish=_write_folder)
        case "parquet":
            return _parquet(table)
        case _:
            raise InputError(f"format {format!r}", expected="jsonl, conll, html, parquet or brat")


def pack(data: bytes, packing: str | None) -> bytes:
    """Bytes as a whole gzip member or Zstandard frame; the same for the same bytes."""
    if packing == "gzip":
        return gzip.compress(data, mtime=0)
    return pa.Codec(packing).compress(data, asbytes=True) if packing else data


def _packed(encode: Callable[[list[Document]], bytes], packing: str | None) -> Callable[[list[Document]], bytes]:
    return lambda documents: pack(encode(documents), packing) if documents else b""


def _lines(documents: list[Document]) -> bytes:
    return b"".join(dump(document.to_dict()) + b"\n" for document in documents)


def _articles(documents: list[Document]) -> bytes:
    return "".join(map(format_article, documents)).encode()


def _conll(document: Document, audit: ImportAudit) -> str:
    audit.add("lost_id")
    audit.add("lost_meta", count=len(document.meta))
    audit.add("lost_score", count=sum(span.score is not None for span in document.spans))
    return to_conll(document, options=_CONLL, audit=audit)


def _rename(part: Path, target: Path) -> None:
    part.replace(target)


def _write_folder(part: Path, target: Path) -> None:
    """JSON lines as a brat folder, which appears when it is whole.

    Raises:
        InputError: the folder is there and not empty, or an id cannot name a file.
    """
    check_folder(target)
    new = target.with_name(target.name + ".part.new")
    rmtree(new, ignore_errors=True)
    new.mkdir()
    with part.open("rb") as lines:
        brat.write((Document.from_dict(parse_json(line, str(part)), where=str(part)) for line in lines), new)
    with suppress(FileNotFoundError):
        target.rmdir()
    new.replace(target)
    part.unlink()


def check_folder(target: Path) -> None:
    """Fail where a folder cannot be written anew.

    Raises:
        InputError: something is there.
    """
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        found = "a file" if target.is_file() else "a folder with files in it"
        raise InputError(
            found, where=str(target), expected="a folder to be made", remedy="choose another --output or remove it"
        )


def _parquet(table: pa.Schema | None) -> OutputFormat:
    # Arrow's stream format can be cut and continued at every batch; a Parquet file cannot, its index stands at the end.
    taken = {name for name, _ in (*_COLUMNS, _META)} | {"nested"}
    kept = [field.remove_metadata().with_nullable(True) for field in table or () if field.name not in taken]
    schema = pa.schema([*map(pa.field, *zip(*_COLUMNS, strict=True)), *kept, pa.field(*_META)])
    names = {field.name for field in kept}

    def encode(documents: list[Document]) -> bytes:
        rows = [_row(document, names) for document in documents]
        try:
            return pa.RecordBatch.from_pylist(rows, schema=schema).serialize().to_pybytes() if rows else b""
        except pa.ArrowException as error:
            raise InputError(
                f"a cell of another type than the first table's column: {error}",
                where=f"documents {documents[0].id!r} to {documents[-1].id!r}",
                expected="tables with the same columns",
                remedy="tag them one by one, or write JSONL",
            ) from error

    return OutputFormat(head=schema.serialize().to_pybytes(), encode=encode, tail=b"", finish=_write_parquet)


def _row(document: Document, names: set[str]) -> dict[str, Any]:
    columns = {name: value for name, value in document.meta.items() if name in names}
    rest = {name: value for name, value in document.meta.items() if name not in names}
    return {
        "id": document.id,
        "text": document.text,
        "spans": [span.to_dict() for span in document.spans],
        **columns,
        "meta": dump(rest).decode(),
    }


def _write_parquet(part: Path, target: Path) -> None:
    new = target.with_name(target.name + ".part.new")
    with (
        pa.OSFile(str(part)) as file,
        pa.ipc.open_stream(file) as stream,
        pq.ParquetWriter(new, stream.schema) as writer,
    ):
        held: list[pa.RecordBatch] = []
        rows = 0
        for batch in stream:
            held.append(batch)
            rows += batch.num_rows
            if rows >= _ROW_GROUP:
                writer.write_table(pa.Table.from_batches(held, stream.schema))
                held, rows = [], 0
        if held:
            writer.write_table(pa.Table.from_batches(held, stream.schema))
    new.replace(target)
    part.unlink()


#: The look of articles and of their names, labels' colours included.
STYLE = """body{font:1.15rem/2.1 "Noto Naskh Arabic","Amiri","Segoe UI",Tahoma,serif;max-width:48rem;margin:0 auto;padding:1rem;color:#1c1c1c;background:#fff}
article{border-bottom:1px solid #ccc;padding-bottom:1rem}h2{font:600 .9rem/1.6 system-ui,sans-serif;color:#555;direction:ltr;text-align:right}
.text{white-space:pre-wrap;overflow-wrap:anywhere;unicode-bidi:plaintext}
mark{padding:.1em .25em;border-radius:.3em;color:inherit;background:#e6e6e6;border-bottom:2px solid #777}
mark small{font:600 .62em system-ui,sans-serif;margin-inline-start:.35em;color:#333;unicode-bidi:isolate}
.PER{background:#fde2e2;border-color:#c0392b}.GPE,.LOC,.FAC{background:#dff0e3;border-color:#1e8449}
.ORG{background:#dfe9fb;border-color:#2456b3}.NORP,.EVENT,.PROD,.MISC{background:#f6ecd2;border-color:#9a7d0a}
"""
HEAD = f"""<!DOCTYPE html>
<html lang="ar" dir="rtl"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"><title>Musamma</title><style>
{STYLE}</style></head><body>
"""
TAIL = "</body></html>\n"


def format_page(documents: Iterable[Document]) -> Iterator[str]:
    """The page, in parts: each name marked with its label in words and colour, its score in the tooltip.

    Text from documents is escaped, every id, name and label is isolated from the writing direction around it, and the page
    forbids scripts.
    """
    yield HEAD
    for document in documents:
        yield format_article(document)
    yield TAIL


def format_article(document: Document) -> str:
    """What stands between the page's head and tail for one document."""
    return f"<article><h2><bdi>{escape(document.id)}</bdi></h2><div class=text>{''.join(_parts(document))}</div></article>\n"


def _parts(document: Document) -> Iterator[str]:
    position = 0
    for span in document.spans:
        yield _text(document.text[position : span.start])
        yield _mark(document, span)
        position = span.end
    yield _text(document.text[position:])


def _text(text: str) -> str:
    # A browser makes a line feed of a carriage return, unless it is written as a number.
    return escape(text).replace("\r", "&#13;")


def _mark(document: Document, span: Span) -> str:
    # A label is free text too: as a class only its letters count.
    name = "".join(c for c in span.label if c.isalnum())
    title = "" if span.score is None else f' title="{span.score:.3f}"'
    surface, label = _text(document.surface(span)), escape(span.label)
    return f'<mark class="{escape(name)}"{title}><bdi>{surface}</bdi><small><bdi>{label}</bdi></small></mark>'
