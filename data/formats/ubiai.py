"""UBIAI's JSON export: ``[{"documentName", "document", "tokens": [{"text", "start", "end", "entityLabel"}], "relations": [...]}]``.

``tokens`` are the names. ``text`` is the surface of each, which decides whether offsets are code points or UTF-16 units.
``token_start`` and ``token_end`` are not read. Other keys become ``meta``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from musamma.data.document import parse_id, parse_label, parse_offset
from musamma.data.errors import InputError
from musamma.data.formats.surfaces import SurfaceSpan, read_surface_spans
from musamma.data.formats.unread import count_ignored, count_unread
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, read_json_array
from musamma.data.span_repair import RawDocument

_DOCUMENT = '{"document": ..., "tokens": [{"start", "end", "entityLabel"}]}'


def is_document(record: Any) -> bool:
    """Tell whether a JSON value is a document of UBIAI."""
    if not isinstance(record, dict) or not isinstance(record.get("document"), str):
        return False
    tokens = record.get("tokens")
    return isinstance(tokens, list) and all(isinstance(item, dict) and "entityLabel" in item for item in tokens)


def read_ubiai(path: Path, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the documents of an export.

    Raises:
        InputError: the file is not a JSON list, a document has no text, or a name is invalid; names file and document.
    """
    stem = file_stem(Path(path.name))
    for number, record in enumerate(read_json_array(path, expected=f"a list of {_DOCUMENT}")):
        where = f"{path}, document {number + 1}"
        if not isinstance(record, dict) or not isinstance(record.get("document"), str):
            raise InputError("no document", where=where, expected=_DOCUMENT)
        text: str = record["document"]
        id = parse_id(record.get("documentName"), f"{stem}-{number:05d}", where)
        tokens = record.get("tokens")
        if tokens is not None and not isinstance(tokens, list):
            raise InputError(f"tokens is {tokens!r:.60}", where=where, expected=_DOCUMENT)
        spans = [_parse_name(item, f"tokens[{index}]", where) for index, item in enumerate(tokens or [])]
        count_ignored(record, ["relations"], document=id, where=where, audit=audit)
        used = ("documentName", "document", "tokens", "relations")
        meta = {key: value for key, value in record.items() if key not in used}
        count_unread(meta, text=text, document=id, where=where, audit=audit)
        candidates = read_surface_spans(text, spans, document=id, where=where, audit=audit)
        yield RawDocument(id, text, candidates, meta=meta, where=where)


def _parse_name(item: Any, name: str, where: str) -> SurfaceSpan:
    if not isinstance(item, dict):
        raise InputError(f"{name} is {item!r:.60}", where=where, expected=_DOCUMENT)
    start, end = (parse_offset(item.get(side), f"{name}.{side}", where) for side in ("start", "end"))
    label = parse_label(item.get("entityLabel"), f"{name}.entityLabel", where)
    surface = item.get("text")
    return SurfaceSpan(start, end, label, surface if isinstance(surface, str) else None, where)
