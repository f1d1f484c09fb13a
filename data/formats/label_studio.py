"""Label Studio's JSON: a list of tasks with ``data.text`` and ``annotations[].result[].value``.

Label Studio counts offsets in UTF-16 code units, as browsers do: a character outside the Basic Multilingual Plane, such as an
emoji, counts twice. Reading converts them to code points, and writing converts them back. The smaller JSON-MIN is read, too.
A file is one JSON array and is loaded into memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import Document, parse_id, parse_label, parse_offset
from musamma.data.errors import InputError
from musamma.data.formats.options import ReadOptions
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, read_text
from musamma.data.span_repair import CandidateSpan, RawDocument

_INSIDE_CHARACTER = -2
_TASK = '{"data": {"text": ...}, "annotations": [...]}'


def read(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the tasks of an export. Of several annotations of a task, the first that was not cancelled counts.

    Raises:
        InputError: the file is not a JSON list of tasks, or a task has no text; names file and task.
    """
    content = read_text(path)
    try:
        tasks = orjson.loads(content.removeprefix("\ufeff"))
    except orjson.JSONDecodeError as error:
        raise InputError(
            f"broken JSON: {error.msg}", where=f"{path}:{error.lineno}", expected="a list of tasks"
        ) from None
    if not isinstance(tasks, list):
        raise InputError(f"a JSON {type(tasks).__name__}", where=f"{path}:1", expected="a list of tasks")
    stem = file_stem(Path(path.name))
    for number, task in enumerate(tasks):
        yield _parse_task(task, f"{path}, task {number + 1}", f"{stem}-{number:05d}", audit)


def format_lines(documents: Iterable[Document]) -> Iterator[str]:
    """Format documents as annotated tasks for import into Label Studio, with labels ``label`` on a text ``text``."""
    separator = "[\n"
    for document in documents:
        units = _utf16_offsets(document.text)
        result = [
            {
                "id": f"s{index}",
                "type": "labels",
                "from_name": "label",
                "to_name": "text",
                "value": {
                    "start": units[span.start],
                    "end": units[span.end],
                    "text": document.surface(span),
                    "labels": [span.label],
                },
            }
            for index, span in enumerate(document.spans_by_start())
        ]
        data: dict[str, Any] = {"id": document.id, "text": document.text}
        if document.meta:
            data["meta"] = dict(document.meta)
        yield separator + orjson.dumps({"data": data, "annotations": [{"result": result}]}).decode()
        separator = ",\n"
    yield ("[" if separator == "[\n" else "\n") + "]\n"


def _utf16_offsets(text: str) -> list[int]:
    """The UTF-16 offset of every code point, and of the text's end."""
    return list(accumulate((1 + (ord(character) > 0xFFFF) for character in text), initial=0))


def _parse_task(task: Any, where: str, default_id: str, audit: ImportAudit) -> RawDocument:
    data = task.get("data", task) if isinstance(task, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        raise InputError("a task without text", where=where, expected=_TASK)
    text: str = data["text"]
    id = parse_id(data.get("id", task.get("id")), default_id, where)
    if data is task:
        results = [{"type": "labels", "value": value} for value in _check_list(task.get("label"), where)]
        meta = {key: value for key, value in task.items() if key not in ("id", "text", "label")}
    else:
        results = _find_results(task, id, where, audit)
        meta = {key: value for key, value in data.items() if key not in ("id", "text", "meta")}
        inner = data.get("meta")
        meta = {**inner, **meta} if isinstance(inner, dict) else meta if inner is None else {**meta, "meta": inner}
    code_points = {unit: point for point, unit in enumerate(_utf16_offsets(text))}
    spans: list[CandidateSpan] = []
    for index, result in enumerate(results):
        value = result.get("value") if isinstance(result, dict) else None
        if not isinstance(value, dict) or "labels" not in value:
            kind = result.get("type") if isinstance(result, dict) else result
            audit.add("ignored_annotation", document=id, where=where, detail=f"a result of type {kind!r}")
            continue
        spans += _parse_labels(value, text, code_points, f"{where}, result {index + 1}")
    return RawDocument(id, text, tuple(spans), meta=meta, where=where)


def _find_results(task: Mapping[str, Any], id: str, where: str, audit: ImportAudit) -> list[Any]:
    annotations = _check_list(task.get("annotations"), where)
    valid = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    if not valid:
        audit.add("no_annotation", document=id, where=where, detail="the task has no finished annotation")
        return []
    if further := len(valid) - 1:
        audit.add(
            "ignored_annotation", document=id, where=where, detail=f"{further} further annotations", count=further
        )
    return _check_list(valid[0].get("result"), where)


def _parse_labels(
    value: Mapping[str, Any], text: str, code_points: Mapping[int, int], where: str
) -> list[CandidateSpan]:
    units = [parse_offset(value.get(side), side, where) for side in ("start", "end")]
    text_end = len(text.encode("utf-16-le")) // 2

    def to_code_point(unit: int) -> int:
        # An offset outside the text stays outside, so that the span is dropped and counted.
        outside = len(text) + unit - text_end if unit > text_end else -1 if unit < 0 else _INSIDE_CHARACTER
        return code_points.get(unit, outside)

    start, end = map(to_code_point, units)
    issue, detail = None, ""
    if _INSIDE_CHARACTER in (start, end):
        issue, detail = "split_character", f"UTF-16 offsets {units} lie inside a character"
    elif isinstance(value.get("text"), str) and 0 <= start <= end <= len(text) and value["text"] != text[start:end]:
        issue, detail = "surface_mismatch", f"the file says {value['text'][:40]!r}"
    labels = _check_list(value["labels"], where)
    if issue == "split_character":
        start = end = 0
    return [
        CandidateSpan(start, end, parse_label(label, "label", where), None, where, issue, detail) for label in labels
    ]


def _check_list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{value!r:.60}", where=where, expected="a list")
    return value
