"""What was read of the input: a document each, or what stands in a document's place and why it is none."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

import orjson

from musamma.data.document import DOCUMENT_KEYS, Document, parse_id
from musamma.data.errors import InputError
from musamma.data.records import ID_COLUMNS as IDS
from musamma.data.records import TEXT_COLUMNS as TEXT
from musamma.data.records import parse_json

#: Bytes of the longest line, text file or cell: what bounds memory, whatever the input holds.
LONGEST = 64 * 2**20
#: Characters of the longest stretch without a space. No text has it, and cutting words in it takes memory without bound.
LONGEST_WORD = 10**6
# Of a line that is too long, so much is kept.
_KEPT = 64 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One text file, line or row; with either ``document`` or ``error``.

    Args:
        file: the file, or ``stdin``.
        line: its line or row in the file, from 1; ``None`` for a whole file.
        raw: its bytes; of a Parquet row, the row as JSON.
        read: bytes of all inputs that have been read with it, as they lie on disk.
    """

    file: str
    line: int | None
    raw: bytes
    read: int
    document: Document | None = None
    error: InputError | None = None

    @property
    def where(self) -> str:
        """File and line."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    def content(self) -> bytes:
        """What decides the outcome: the document without spans, or the raw bytes. For fingerprints."""
        if (document := self.document) is None:
            return b"-" + self.raw
        return b"+" + dump([document.id, document.text, document.meta])

    def to_reject(self) -> bytes:
        """A line of the file of rejects: where the record stands, why it is no document, and its bytes."""
        shown: dict[str, Any] = {"file": self.file, "line": self.line, "reason": str(self.error)}
        raw = self.raw
        if len(raw) > LONGEST:
            raw, shown["bytes"] = raw[:_KEPT], f"the first {_KEPT}"
        try:
            shown["text"] = raw.decode("utf-8")
        except UnicodeDecodeError:
            shown["base64"] = base64.b64encode(raw).decode("ascii")
        return orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE)


def read_record(make: Callable[[], Document], *, file: str, line: int | None, raw: bytes, read: int) -> Record:
    """The record of a document that ``make`` gives, or of the error that it raises."""
    try:
        if len(raw) > LONGEST:
            raise InputError(
                f"more than {LONGEST:,} bytes",
                where=file if line is None else f"{file}:{line}",
                expected="shorter documents",
                remedy="cut it into documents",
            )
        document = make()
        if (
            len(document.text) > LONGEST_WORD
            and (longest := max(map(len, document.text.split()), default=0)) > LONGEST_WORD
        ):
            raise InputError(
                f"{longest:,} characters without a space",
                where=file if line is None else f"{file}:{line}",
                expected=f"at most {LONGEST_WORD:,}",
            )
        if document.meta:
            dump(document.meta)
    except InputError as error:
        return Record(file=file, line=line, raw=raw, read=read, error=error)
    except orjson.JSONEncodeError as error:
        found = InputError(f"meta cannot be written: {error}", where=file if line is None else f"{file}:{line}")
        return Record(file=file, line=line, raw=raw, read=read, error=found)
    return Record(file=file, line=line, raw=raw, read=read, document=document)


def duplicate(record: Record, place: str) -> Record:
    """A document whose id came before at ``place``, as the error that it is."""
    assert record.document is not None
    file, _, line = place.rpartition(":")
    error = InputError(
        f"id {record.document.id!r} is taken by {f'line {line}' if file == record.file else place}",
        where=record.where,
        expected="unique ids",
        remedy="give every input once, or the folder that holds them: ids are then paths in it"
        if record.line is None
        else None,
    )
    return replace(record, document=None, error=error)


def dump(value: Any) -> bytes:
    """JSON of whatever a table's cell can hold: times in ISO 8601, decimals as text, bytes in base64."""
    return orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def numbered_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line, line end included; of a line that is too long only its first :data:`LONGEST` + 1."""
    number = 0
    while line := stream.readline(LONGEST + 1):
        number += 1
        rest = line
        while len(line) > LONGEST and rest and not rest.endswith(b"\n"):
            rest = stream.readline(2**20)
        yield number, line


def json_document(
    line: bytes, *, text_column: str | None, id_column: str | None, default_id: str | None, where: str
) -> Document:
    """The document of a JSON line. Keys that a document does not have go to ``meta``.

    Raises:
        InputError: it is no JSON, or holds no text or id where they should be.
    """
    record = parse_json(line, where)
    if isinstance(record, dict):
        if text_column or id_column:
            text = text_column or first_column(TEXT, list(record)) or TEXT[0]
            return row_document(
                record,
                text=text,
                id=id_column or first_column(IDS, list(record)),
                default_id=default_id,
                where=where,
            )
        if type(record.get("id")) is int:
            record["id"] = str(record["id"])
        # Without a text, what else there is may be the text under another name.
        if "text" in record and (others := {key: record.pop(key) for key in sorted(set(record) - set(DOCUMENT_KEYS))}):
            record["meta"] = _with(record.get("meta"), others, where)
    return Document.from_dict(record, where=where, default_id=default_id)


def row_document(row: Mapping[str, Any], *, text: str, id: str | None, default_id: str | None, where: str) -> Document:
    """The document of a table's row. Spans are left out, for tagging replaces them; other columns go to ``meta``.

    Args:
        row: cells by column.
        text: the column that holds the text.
        id: the column that holds the id, if any.
        default_id: the id of a row that has none; without it that is an error.
        where: file and row for errors.
    """
    content = row.get(text)
    if not isinstance(content, str):
        raise InputError(f"{text} is {type(content).__name__}", where=where, expected=f"a string under {text!r}")
    name = parse_id(row.get(id) if id else None, default_id or "", where)
    if not name:
        raise InputError(f"no {id or 'id'}", where=where, expected=f"an id under {id or 'id'!r}")
    held = {text, id, "meta", "spans", "nested"}
    others = {key: value for key, value in row.items() if key not in held and value is not None}
    return Document(name, content, meta=_with(row.get("meta"), others, where))


def first_column(wanted: tuple[str, ...], columns: list[str]) -> str | None:
    """The first of the wanted columns that is there."""
    return next((name for name in wanted if name in columns), None)


def _with(meta: Any, others: dict[str, Any], where: str) -> dict[str, Any]:
    """What is known of a document: its ``meta`` and what stood beside it."""
    if isinstance(meta, str) and meta:
        try:
            meta = orjson.loads(meta)
        except orjson.JSONDecodeError:
            return {"meta": meta, **others}
    if not meta:
        return others
    if not isinstance(meta, dict):
        raise InputError(f"meta is {type(meta).__name__}", where=where, expected="an object under 'meta'")
    if twice := sorted(set(meta) & set(others)):
        raise InputError(f"{twice[0]!r} is in meta and beside it", where=where, expected="one value")
    return {**meta, **others}
