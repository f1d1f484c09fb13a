"""Documents as JSON-like records, whose spans may be wrong: the project's own JSON lines, and rows of tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.lines import json_lines
from musamma.data.formats.options import ReadOptions
from musamma.data.import_audit import ImportAudit
from musamma.data.span_repair import CandidateSpan, RawDocument

_SHAPE = "an object with integers 'start' and 'end' and a string 'label'"


def read(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """The documents of a JSONL file, spans unchecked.

    Raises:
        InputError: a line is no JSON or no document; names file and line.
    """
    for where, record in json_lines(path):
        yield from_record(record, where=where)


def from_record(record: Any, *, where: str, default_id: str | None = None) -> RawDocument:
    """A raw document from an object like :meth:`Document.from_dict` takes; only the spans' offsets are not checked."""
    spans, nested = None, None
    if isinstance(record, dict):
        spans, nested = record.get("spans"), record.get("nested")
        record = {key: value for key, value in record.items() if key not in ("spans", "nested")}
    document = Document.from_dict(record, where=where, default_id=default_id)
    return RawDocument(
        document.id,
        document.text,
        _candidates(spans, "spans", where),
        _candidates(nested, "nested", where),
        document.meta,
        where,
    )


def offset(value: Any, name: str, where: str) -> int:
    """An offset of a file: an integer, no float and no boolean."""
    if type(value) is not int:
        raise InputError(f"{name} is {value!r}", where=where, expected="an integer, an offset in the text")
    return value


def label_of(value: Any, name: str, where: str) -> str:
    """A label of a file: a non-empty string."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{name} is {value!r}", where=where, expected="a non-empty string, the label")
    return value


def identifier(value: Any, default: str, where: str) -> str:
    """An id of a file: a string or an integer; ``default`` where there is none."""
    if value is None or value == "":
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InputError(f"id is {value!r}", where=where, expected="a string or a number under 'id'")
    return str(value)


def _candidates(value: Any, key: str, where: str) -> tuple[CandidateSpan, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InputError(f"{key} is {type(value).__name__}", where=where, expected=f"a list under {key!r}")
    found = []
    for index, item in enumerate(value):
        name = f"{key}[{index}]"
        if not isinstance(item, dict):
            raise InputError(f"{name} is {item!r}", where=where, expected=_SHAPE)
        if unknown := sorted(set(item) - {"start", "end", "label", "score"}):
            raise InputError(f"{name} has the unknown key {unknown[0]!r}", where=where, expected=_SHAPE)
        score = item.get("score")
        if score is not None and (isinstance(score, bool) or not isinstance(score, int | float)):
            raise InputError(f"{name}.score is {score!r}", where=where, expected="a number")
        start, end = (offset(item.get(side), f"{name}.{side}", where) for side in ("start", "end"))
        label = label_of(item.get("label"), f"{name}.label", where)
        found.append(CandidateSpan(start, end, label, None if score is None else float(score)))
    return tuple(found)
