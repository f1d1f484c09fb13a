"""doccano's JSON lines: ``{"id": 1, "text": ..., "label": [[start, end, label], ...]}``.

doccano counts offsets in UTF-16 units, or in grapheme clusters in a project with "Count grapheme clusters as one character"; the
file does not name the unit. It is found by the spans: in another unit, those after an emoji or a vowel mark cut words.

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
from musamma.data.formats.options import DEFAULT_WRITE_OPTIONS, TOOL_UNITS, ReadOptions, WriteOptions, offset_unit
from musamma.data.formats.unread import collect_meta, count_ignored
from musamma.data.import_audit import ImportAudit
from musamma.data.offset_units import OffsetUnit, TextOffsets, UnitEvidence
from musamma.data.records import file_stem, read_json_records
from musamma.data.span_repair import CandidateSpan, RawDocument

LABEL_KEYS = ("label", "labels", "entities", "annotations")


def read_doccano(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the documents of a doccano export.

    Raises:
        InputError: a line is not JSON, has no text, or has labels that are not spans; names file and line.
    """
    stem = file_stem(Path(path.name))
    unit: OffsetUnit
    rivals: tuple[OffsetUnit, ...]
    if options.offsets == "auto":
        unit, audit.offset_reason, rivals = _find_unit(path)
    else:
        unit, audit.offset_reason, rivals = options.offsets, "as given", ()
    audit.offset_unit = unit
    for number, (where, record) in enumerate(read_json_records(path)):
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise InputError(
                "no text", where=where, expected='an object with "text" and "label": [[start, end, label]]'
            )
        keys = [key for key in LABEL_KEYS if isinstance(record.get(key), list)]
        if len(filled := [key for key in keys if record[key]]) > 1:
            raise InputError(f"both {filled[0]!r} and {filled[1]!r}", where=where, expected="one list of spans")
        offsets = TextOffsets(record["text"], unit, rivals)
        spans = tuple(
            _parse_span(item, f"{key}[{i}]", where, offsets) for key in keys for i, item in enumerate(record[key])
        )
        used = ["id", "text", "meta", "relations", *keys]
        if record.get("Comments") == []:  # doccano exports the key with every document.
            used.append("Comments")
        id = parse_id(record.get("id"), f"{stem}-{number:05d}", where)
        count_ignored(record, ["relations"], document=id, where=where, audit=audit)
        meta = collect_meta(record, used, text=record["text"], document=id, where=where, audit=audit)
        yield RawDocument(id, record["text"], spans, meta=meta, where=where)


def format_lines(
    documents: Iterable[Document], options: WriteOptions = DEFAULT_WRITE_OPTIONS, audit: ImportAudit | None = None
) -> Iterator[str]:
    """Format documents for import into doccano, one per line, nested names among the others.

    Args:
        documents: the documents.
        options: the unit of offsets.
        audit: counts the borders that the unit cannot express, which are moved.
    """
    unit = offset_unit(options, "doccano")
    for document in documents:
        offsets = TextOffsets(document.text, unit)
        names = document.spans_by_start()
        if audit is not None:
            offsets.count_moved_borders(document, audit)
        record: dict[str, Any] = {
            "id": document.id,
            "text": document.text,
            "label": [[*offsets.from_code_points(s.start, s.end), s.label] for s in names],
        }
        if document.meta:
            record["meta"] = dict(document.meta)
        yield orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE).decode()


def _find_unit(path: Path) -> tuple[OffsetUnit, str, tuple[OffsetUnit, ...]]:
    """Find the unit of the file's offsets, the reason for it and the units that fit as well."""
    evidence = UnitEvidence()
    for _, record in read_json_records(path):
        if isinstance(record, dict) and isinstance(text := record.get("text"), str):
            items = [item for key in LABEL_KEYS if isinstance(record.get(key), list) for item in record[key]]
            pairs = map(_find_offsets, items)
            evidence.add(text, [(start, end) for start, end in pairs if type(start) is int and type(end) is int])
    return evidence.choose(TOOL_UNITS["doccano"])


def _find_offsets(item: Any) -> tuple[Any, Any]:
    """The offsets of a span, checked or not."""
    if isinstance(item, dict):
        start, end = (item.get(f"{side}_offset", item.get(side)) for side in ("start", "end"))
        return start, end
    return (item[0], item[1]) if isinstance(item, list) and len(item) == 3 else (None, None)


def _parse_span(item: Any, name: str, where: str, offsets: TextOffsets) -> CandidateSpan:
    if not (isinstance(item, dict) or (isinstance(item, list) and len(item) == 3)):
        raise InputError(f"{name} is {item!r}", where=where, expected="[start, end, label]")
    start, end = _find_offsets(item)
    label = item.get("label") if isinstance(item, dict) else item[2]
    if type(label) is int:
        label = str(label)
    return offsets.read_span(
        parse_offset(start, f"{name} start", where),
        parse_offset(end, f"{name} end", where),
        parse_label(label, f"{name} label", where),
    )
