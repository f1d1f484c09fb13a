"""doccano's JSON lines: ``{"id": 1, "text": ..., "label": [[start, end, label], ...]}``, offsets in code points.

Exports with relations have ``"entities": [{"start_offset", "end_offset", "label"}]`` instead, and those of doccano 1.0
``"annotations"``, whose labels are numbers: label 2 becomes ``"2"``, which a label map names. Other keys become ``meta``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import Document, parse_id, parse_label, parse_offset
from musamma.data.errors import InputError
from musamma.data.formats.options import ReadOptions
from musamma.data.formats.unread import count_unread
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, read_json_records
from musamma.data.span_repair import CandidateSpan, RawDocument

LABEL_KEYS = ("label", "labels", "entities", "annotations")


def read_doccano(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the documents of a doccano export.

    Raises:
        InputError: a line is not JSON, has no text, or has labels that are not spans; names file and line.
    """
    stem = file_stem(Path(path.name))
    for number, (where, record) in enumerate(read_json_records(path)):
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise InputError(
                "no text", where=where, expected='an object with "text" and "label": [[start, end, label]]'
            )
        keys = [key for key in LABEL_KEYS if isinstance(record.get(key), list)]
        if len(filled := [key for key in keys if record[key]]) > 1:
            raise InputError(f"both {filled[0]!r} and {filled[1]!r}", where=where, expected="one list of spans")
        spans = tuple(_parse_span(item, f"{key}[{i}]", where) for key in keys for i, item in enumerate(record[key]))
        extra = {key: value for key, value in record.items() if key not in ("id", "text", "meta", *keys)}
        if isinstance(relations := record.get("relations"), list):
            audit.add("ignored_annotation", where=where, detail=f"{len(relations)} relations", count=len(relations))
            del extra["relations"]
        id = parse_id(record.get("id"), f"{stem}-{number:05d}", where)
        count_unread(extra, text=record["text"], document=id, where=where, audit=audit)
        meta = record.get("meta")
        if isinstance(meta, dict):
            extra = {**meta, **extra}
        elif meta is not None:
            extra["meta"] = meta
        yield RawDocument(id, record["text"], spans, meta=extra, where=where)


def format_lines(documents: Iterable[Document]) -> Iterator[str]:
    """Format documents for import into doccano, one per line, nested names among the others."""
    for document in documents:
        names = document.spans_by_start()
        record: dict[str, Any] = {
            "id": document.id,
            "text": document.text,
            "label": [[s.start, s.end, s.label] for s in names],
        }
        if document.meta:
            record["meta"] = dict(document.meta)
        yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE).decode()


def _parse_span(item: Any, name: str, where: str) -> CandidateSpan:
    if isinstance(item, dict):
        start, end = (item.get(f"{side}_offset", item.get(side)) for side in ("start", "end"))
        label = item.get("label")
    elif isinstance(item, list) and len(item) == 3:
        start, end, label = item
    else:
        raise InputError(f"{name} is {item!r}", where=where, expected="[start, end, label]")
    if type(label) is int:
        label = str(label)
    return CandidateSpan(
        parse_offset(start, f"{name} start", where),
        parse_offset(end, f"{name} end", where),
        parse_label(label, f"{name} label", where),
    )
