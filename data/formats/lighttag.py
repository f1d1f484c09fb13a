"""LightTag's JSON export: ``{"examples": [{"example_id", "content", "metadata", "annotations": [{"start", "end", "tag", "value"}]}]}``.

``value`` is the surface of the annotation, which decides whether offsets are code points or UTF-16 units. An annotation of several
annotators stands in the file once. One that a reviewer marked as wrong (``"correct": false``) is not read, and counted. The file is
loaded into memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import parse_id, parse_label, parse_offset
from musamma.data.errors import InputError
from musamma.data.formats.surfaces import SurfaceSpan, read_surface_spans
from musamma.data.formats.unread import count_ignored, count_unread
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, load_json, read_text
from musamma.data.span_repair import RawDocument

_JOB = '{"examples": [{"content": ..., "annotations": [...]}]}'


def is_job(value: Any) -> bool:
    """Tell whether a JSON value is an export of LightTag."""
    examples = value.get("examples") if isinstance(value, dict) else None
    return isinstance(examples, list) and all(isinstance(item, dict) and "content" in item for item in examples)


def read_lighttag(path: Path, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the examples of an export.

    Raises:
        InputError: the file is not JSON, an example has no content, or an annotation is invalid; names file and example.
    """
    try:
        job = load_json(read_text(path).removeprefix("\ufeff"))
    except orjson.JSONDecodeError as error:
        raise InputError(f"broken JSON: {error.msg}", where=f"{path}:{error.lineno}", expected=_JOB) from None
    examples = job.get("examples") if isinstance(job, dict) else None
    if not isinstance(examples, list):
        raise InputError("no examples", where=str(path), expected=_JOB)
    stem = file_stem(Path(path.name))
    for number, example in enumerate(examples):
        yield _parse_example(example, f"{path}, example {number + 1}", f"{stem}-{number:05d}", audit)
    count_ignored(job, ["relations"], where=str(path), audit=audit)


def _parse_example(example: Any, where: str, default_id: str, audit: ImportAudit) -> RawDocument:
    if not isinstance(example, dict) or not isinstance(example.get("content"), str):
        raise InputError("no content", where=where, expected=_JOB)
    text: str = example["content"]
    id = parse_id(example.get("example_id"), default_id, where)
    annotations = example.get("annotations")
    if annotations is not None and not isinstance(annotations, list):
        raise InputError(f"annotations is {annotations!r:.60}", where=where, expected="a list of annotations")
    spans = []
    for index, item in enumerate(annotations or []):
        name = f"annotations[{index}]"
        if not isinstance(item, dict):
            raise InputError(f"{name} is {item!r:.60}", where=where, expected='{"start", "end", "tag"}')
        if item.get("correct") is False:
            audit.add("not_accepted", document=id, where=where, detail=f"{name} was marked as wrong in the review")
            continue
        start, end = (parse_offset(item.get(side), f"{name}.{side}", where) for side in ("start", "end"))
        label = parse_label(item.get("tag"), f"{name}.tag", where)
        value = item.get("value")
        spans.append(SurfaceSpan(start, end, label, value if isinstance(value, str) else None, where))
    count_ignored(example, ["classifications", "relations"], document=id, where=where, audit=audit)
    metadata = example.get("metadata")
    meta = metadata if isinstance(metadata, dict) else {} if metadata is None else {"metadata": metadata}
    count_unread(meta, text=text, document=id, where=where, audit=audit)
    candidates = read_surface_spans(text, spans, document=id, where=where, audit=audit)
    return RawDocument(id, text, candidates, meta=meta, where=where)
