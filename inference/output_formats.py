"""Output formats of tagging: JSON lines, CoNLL, brat and an HTML page, each written piece by piece, and Parquet."""

from __future__ import annotations

import gzip
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from shutil import rmtree
from typing import TYPE_CHECKING

from musamma.data.document import Document, Span, select_nested
from musamma.data.errors import InputError, not_one_of, not_writable
from musamma.data.file_content import COMPRESSIONS
from musamma.data.files import FOLDER, path_kind
from musamma.data.formats import brat
from musamma.data.formats.conll import to_conll
from musamma.data.formats.options import WriteOptions
from musamma.data.import_audit import ImportAudit
from musamma.data.records import parse_json, to_json

if TYPE_CHECKING:
    import pyarrow as pa

_BY_SUFFIX = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".conll": "conll",
    ".html": "html",
}
# Formats that can be compressed.
_COMPRESSIBLE = ("jsonl", "conll")
# Tokens are the tagger's words, so that both names in "بغداد/الموصل" are written. Nested names are further tags of their tokens.
_CONLL = WriteOptions(split_punctuation=True, nested=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputFormat:
    """The way documents become a file.

    Args:
        head: the bytes before the first document.
        encode: returns the bytes of some documents. Concatenated in order they form the body of the file.
        tail: the bytes after the last document.
        finish: converts a file of head, body and tail (first argument) to the final file or folder (second argument).
        for_nested: the format for a model that finds nested names, where it differs.
    """

    head: bytes
    encode: Callable[[list[Document]], bytes]
    tail: bytes
    finish: Callable[[Path, Path], None]
    for_nested: OutputFormat | None = None


def choose_format(output: str | None, format: str | None = None) -> tuple[str, str | None]:
    """Choose the format and the compression (``gzip``, ``zstd`` or ``None``) of an output by its suffixes.

    Args:
        output: the file to write; ``None`` for standard output.
        format: the format, if it is not to be chosen by suffix. The default without a suffix is ``jsonl``.

    Raises:
        InputError: the suffix is unknown, or the format cannot be compressed.
    """
    path = Path(output or "")
    compression = COMPRESSIONS.get(path.suffix.lower())
    suffix = Path(path.stem if compression else path.name).suffix.lower()
    if format is None and suffix and suffix not in _BY_SUFFIX:
        raise not_one_of("suffix", suffix, _BY_SUFFIX, where=output, remedy="rename the file, or give a `format`")
    chosen = format or _BY_SUFFIX.get(suffix, "jsonl")
    if compression and chosen not in _COMPRESSIBLE:
        raise InputError(
            f"{chosen} compressed as {path.suffix.lower()}",
            where=output,
            expected=f"no {path.suffix.lower()}, or one of {', '.join(_COMPRESSIBLE)}",
        )
    return chosen, compression


def build_output_format(
    format: str, *, compression: str | None, audit: ImportAudit, table: pa.Schema | None
) -> OutputFormat:
    """Build an output format.

    Args:
        format: ``jsonl``, ``conll``, ``html``, ``parquet`` or ``brat``.
        compression: ``gzip`` or ``zstd``. Every call of ``encode`` then returns a complete gzip member or Zstandard frame.
        audit: counts what the format cannot hold.
        table: further columns of the first input, which Parquet keeps as columns.

    Raises:
        InputError: there is no such format.
    """

    def encode_conll(documents: list[Document]) -> bytes:
        return "".join(_format_conll(document, audit) for document in documents).encode()

    def encode_brat(documents: list[Document]) -> bytes:
        for document in documents:
            _count_lost(document, audit)
        return _encode_json_lines(documents)

    match format:
        case "jsonl":
            encode = _compressing_encoder(_encode_json_lines, compression)
            return OutputFormat(head=b"", encode=encode, tail=compress(b"", compression), finish=_rename)
        case "conll":
            encode = _compressing_encoder(encode_conll, compression)
            return OutputFormat(head=b"", encode=encode, tail=compress(b"", compression), finish=_rename)
        case "html":
            return OutputFormat(head=HEAD.encode(), encode=_encode_articles, tail=TAIL.encode(), finish=_rename)
        case "brat":
            return OutputFormat(head=b"", encode=encode_brat, tail=b"", finish=_write_brat_folder)
        case "parquet":
            return replace(_build_parquet(table), for_nested=_build_parquet(table, nested=True))
        case _:
            raise not_one_of("format", format, ("jsonl", "conll", "html", "parquet", "brat"))


def _build_parquet(table: pa.Schema | None, *, nested: bool = False) -> OutputFormat:
    # Imported here, as in `compress`, because pyarrow takes time to load.
    from musamma.inference.parquet_output import build_encoder, write_parquet

    head, encode = build_encoder(table, nested=nested)
    return OutputFormat(head=head, encode=encode, tail=b"", finish=write_parquet)


def compress(data: bytes, compression: str | None) -> bytes:
    """Compress bytes to one gzip member or Zstandard frame, which is the same for the same bytes."""
    if compression == "gzip":
        return gzip.compress(data, mtime=0)
    if compression is None:
        return data
    import pyarrow as pa

    return pa.Codec(compression).compress(data, asbytes=True)


def _compressing_encoder(
    encode: Callable[[list[Document]], bytes], compression: str | None
) -> Callable[[list[Document]], bytes]:
    return lambda documents: compress(encode(documents), compression) if documents else b""


def _rename(part: Path, target: Path) -> None:
    part.replace(target)


# JSON lines, CoNLL and brat


def _encode_json_lines(documents: list[Document]) -> bytes:
    return b"".join(to_json(document.to_dict()) + b"\n" for document in documents)


def _format_conll(document: Document, audit: ImportAudit) -> str:
    audit.add("lost_id")
    _count_lost(document, audit)
    return to_conll(document, options=_CONLL, audit=audit)


def _count_lost(document: Document, audit: ImportAudit) -> None:
    """Count what neither CoNLL nor brat can hold."""
    audit.add("lost_meta", count=len(document.meta))
    audit.add("lost_score", count=sum(span.score is not None for span in document.all_spans))
    audit.add("lost_rule", count=sum(span.rule is not None for span in document.spans))


def check_brat_folder(target: Path) -> None:
    """Check that a brat folder can be made.

    Raises:
        InputError: there is a file, or a folder that is not empty, or this user may not look there.
    """
    remedy = "delete it, or choose another `output`"
    try:
        kind = path_kind(target)
        occupied = kind == FOLDER and any(target.iterdir())
    except OSError as error:
        raise not_writable(target, error, remedy="choose another `output`") from error
    if occupied or kind not in (None, FOLDER):
        raise InputError(
            "a folder with files in it" if occupied else str(kind),
            where=str(target),
            expected="a new or an empty folder",
            remedy=remedy,
        )


def _write_brat_folder(part: Path, target: Path) -> None:
    """Convert JSON lines to a brat folder, which appears under its name when it is complete.

    Raises:
        InputError: the folder exists and is not empty, or an id cannot name a file.
    """
    check_brat_folder(target)
    new = target.with_name(target.name + ".part.new")
    rmtree(new, ignore_errors=True)
    new.mkdir()
    with part.open("rb") as lines:
        brat.write((Document.from_dict(parse_json(line, str(part)), where=str(part)) for line in lines), new)
    with suppress(FileNotFoundError):
        target.rmdir()
    new.replace(target)
    part.unlink()


# HTML

#: The style of articles and names, with the colours of the labels.
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


def format_article(document: Document) -> str:
    """Format one document as an element of the page.

    Each name is marked with its label in words and colour; a tooltip shows its score. Text from documents is escaped, and each
    id, name and label is isolated from the surrounding writing direction.
    """
    return f"<article><h2><bdi>{escape(document.id)}</bdi></h2><div class=text>{''.join(_text_parts(document))}</div></article>\n"


def _encode_articles(documents: list[Document]) -> bytes:
    return "".join(map(format_article, documents)).encode()


def _text_parts(document: Document) -> Iterator[str]:
    yield from _mark_names(document, document.spans, 0, len(document.text))


def _mark_names(document: Document, names: Sequence[Span], start: int, end: int) -> Iterator[str]:
    """Yield ``text[start:end]`` with the names in it marked."""
    position = start
    for span in names:
        if span.start < position:  # It crosses a nested name before it.
            continue
        yield _escape_text(document.text[position : span.start])
        yield _format_name(document, span)
        position = span.end
    yield _escape_text(document.text[position:end])


# "relabelled" holds the model's score, and "added" none.
_RULES_IN_WORDS = {"added": "rule", "confirmed": "rule and model", "relabelled": "label by rule"}


def _escape_text(text: str) -> str:
    # A browser turns a carriage return into a line feed unless it is written as a number.
    return escape(text).replace("\r", "&#13;")


def _format_name(document: Document, span: Span) -> str:
    # A label may hold any character; its class consists of its letters and digits.
    name = "".join(c for c in span.label if c.isalnum())
    title = "" if span.score is None else f' title="{span.score:.3f}"'
    first, stop = (
        bisect_left(document.nested, offset, key=lambda name: name.start) for offset in (span.start, span.end)
    )
    inner = sorted(select_nested(document.nested[first:stop], [span]), key=lambda other: (other.start, -other.end))
    surface, label = "".join(_mark_names(document, inner, span.start, span.end)), escape(span.label)
    if span.rule is not None:
        label += f" · {_RULES_IN_WORDS[span.rule]}"
    return f'<mark class="{escape(name)}"{title}><bdi>{surface}</bdi><small><bdi>{label}</bdi></small></mark>'
