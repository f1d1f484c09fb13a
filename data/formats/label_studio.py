"""Label Studio's JSON: a list of tasks with ``data.text`` and ``annotations[].result[].value``.

Label Studio counts offsets in UTF-16 code units, as browsers do: a character outside the Basic Multilingual Plane, such as an
emoji, counts twice. Reading converts them to code points, and writing converts them back. The smaller JSON-MIN is read, too.
A region of another text than ``data.text``, and one without label, is dropped and counted. HyperText regions are read where
their offsets fit the text. A file is one JSON array and is loaded into memory as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import Document, parse_id, parse_label, parse_offset
from musamma.data.errors import InputError
from musamma.data.formats.options import ReadOptions
from musamma.data.formats.unread import count_annotations, count_unread, report_unread
from musamma.data.import_audit import ImportAudit
from musamma.data.records import file_stem, read_json_array
from musamma.data.span_repair import CandidateSpan, RawDocument

_INSIDE_CHARACTER = -2
_TASK = '{"data": {"text": ...}, "annotations": [...]}'


def read_label_studio(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the tasks of an export. Of several annotations of a task, the first that was not cancelled counts.

    Raises:
        InputError: the file is not a JSON list of tasks, or a task has no text; names file and task.
    """
    tasks = read_json_array(path, expected="a list of tasks")
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


def has_regions(value: Any) -> bool:
    """Whether a value is a list of regions, as JSON-MIN holds them under the name of each control."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and {"start", "end", "labels"} <= item.keys() for item in value)
    )


def _parse_task(task: Any, where: str, default_id: str, audit: ImportAudit) -> RawDocument:
    data = task.get("data", task) if isinstance(task, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        keys = f"; it has the keys {', '.join(map(str, data))}" if isinstance(data, dict) and data else ""
        raise InputError(
            f"a task without text{keys}"[:300], where=where, expected=_TASK, remedy="rename the key that holds the text"
        )
    text: str = data["text"]
    id = parse_id(data.get("id", task.get("id")), default_id, where)
    if data is task:
        controls = [key for key, value in task.items() if key == "label" or has_regions(value)]
        regions = [value for key in controls for value in _check_list(task[key], where)]
        results = [{"type": "labels", "value": value} for value in regions]
        meta = {key: value for key, value in task.items() if key not in ("id", "text", *controls)}
        count_unread(meta, text=text, document=id, where=where, audit=audit)
    else:
        results = _find_results(task, id, where, audit)
        meta = {key: value for key, value in data.items() if key not in ("id", "text", "meta")}
        count_unread(meta, text=text, document=id, where=where, audit=audit)
        inner = data.get("meta")
        meta = {**inner, **meta} if isinstance(inner, dict) else meta if inner is None else {**meta, "meta": inner}
    reader = _RegionReader(text, id, audit)
    fields = _other_texts(results, data, where)
    labelled = {
        repr(result.get("id")) for result in results if isinstance(result, dict) and _find_labels(result.get("value"))
    }
    spans: list[CandidateSpan] = []
    for index, result in enumerate(results, 1):
        place = f"{where}, result {index}"
        if isinstance(result, dict) and isinstance(field := result.get("to_name"), str) and field in fields:
            detail = f"a region of {field!r}, where the text taken is 'text'"
            reader.drop("other_text", result.get("value"), detail, place)
        elif (
            isinstance(result, dict)
            and isinstance(value := result.get("value"), dict)
            and (
                _find_labels(value)
                or ("start" in value and (result.get("id") is None or repr(result["id"]) not in labelled))
            )
        ):
            spans += reader.read(value, place)
        elif data is task and (count := count_annotations([result["value"]], "label", length=2 * len(text))):
            report_unread(count, " or ".join(map(repr, controls)), document=id, where=place, audit=audit)
        else:
            kind = result.get("type") if isinstance(result, dict) else result
            audit.add("ignored_annotation", document=id, where=where, detail=f"a result of type {kind!r}")
    return RawDocument(id, text, tuple(spans), meta=meta, where=where)


def _find_results(task: Mapping[str, Any], id: str, where: str, audit: ImportAudit) -> list[Any]:
    """The results of the first annotation that was not cancelled; names of the others that it lacks are counted as dropped."""
    # Versions before 1.0 called annotations completions.
    annotations = [a for key in ("annotations", "completions") for a in _check_list(task.get(key), where)]
    valid = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    if not valid:
        audit.add("no_annotation", document=id, where=where, detail="the task has no finished annotation")
        predicted = [p for p in _check_list(task.get("predictions"), where) if isinstance(p, dict)]
        names = max((len(_names_of(p, where)) for p in predicted), default=0)
        report_unread(names, "'predictions'", document=id, where=where, audit=audit)
        return []
    if further := valid[1:]:
        detail = f"{len(further)} further annotations"
        audit.add("ignored_annotation", document=id, where=where, detail=detail, count=len(further))
        names = len({name for a in further for name in _names_of(a, where)} - {*_names_of(valid[0], where)})
        report_unread(names, "further annotations of the task", document=id, where=where, audit=audit)
    return _check_list(valid[0].get("result"), where)


def _names_of(annotation: Mapping[str, Any], where: str) -> list[str]:
    values = [r.get("value") for r in _check_list(annotation.get("result"), where) if isinstance(r, dict)]
    return [
        repr((value.get("start"), value.get("end"), value.get("globalOffsets"), labels))
        for value in values
        if isinstance(value, dict) and (labels := _find_labels(value))
    ]


def _other_texts(results: Iterable[Any], data: Mapping[str, Any], where: str) -> set[str]:
    """The names of texts other than ``data.text`` to which regions belong.

    A region names its text as the labelling interface does, which may call ``data.text`` anything but a key of another text.

    Raises:
        InputError: regions belong to several texts, and none is called ``text``.
    """
    names = {
        result["to_name"]
        for result in results
        if isinstance(result, dict)
        and isinstance(result.get("to_name"), str)
        and isinstance(result.get("value"), dict)
        and "start" in result["value"]
    }
    if "text" in names:
        return names - {"text"}
    other = {name for name in names if isinstance(data.get(name), str)}
    if len(names - other) > 1:
        raise InputError(
            f"regions of the texts {', '.join(map(repr, sorted(names - other)))}",
            where=where,
            expected="regions of 'text'",
            remedy="rename the one that shows data.text to 'text'",
        )
    return other


def _find_labels(value: Any) -> list[Any]:
    """The labels of a region, also those of HyperText."""
    labels = value.get("labels", value.get("hypertextlabels")) if isinstance(value, dict) else None
    return labels if isinstance(labels, list) else []


@dataclass(slots=True)
class _RegionReader:
    """Reads the regions of a text; counts those that cannot be read."""

    text: str
    id: str
    audit: ImportAudit
    _code_points: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._code_points = {unit: point for point, unit in enumerate(_utf16_offsets(self.text))}

    def read(self, value: Mapping[str, Any], where: str) -> list[CandidateSpan]:
        labels = _find_labels(value)
        if not labels:
            unknown = next((key for key in value if key.endswith("labels") and value[key] and key != "labels"), None)
            if unknown is None:
                self.drop("no_label", value, "a region without label", where)
            else:
                self.drop("unread_annotation", value, f"a region with {unknown!r}", where)
            return []
        if "hypertextlabels" in value:
            offsets = value.get("globalOffsets")
            value = {**value, **(offsets if isinstance(offsets, dict) else {}), "labels": labels}
            # Offsets in HTML count its text without tags; they are those of the text where the surface agrees.
            if not isinstance(offsets, dict) or not self._agrees(value, where):
                self.drop("unread_annotation", value, "a HyperText region, which marks HTML and not this text", where)
                return []
        return _parse_labels(value, self.text, self._code_points, where)

    def drop(self, kind: str, value: Any, detail: str, where: str) -> None:
        """Count a region that does not become a span as dropped."""
        surface = value.get("text") if isinstance(value, dict) else None
        described = f"{detail}: {surface[:40]!r}" if isinstance(surface, str) else detail
        self.audit.spans += 1
        self.audit.add(kind, document=self.id, where=where, detail=described)

    def _agrees(self, value: Mapping[str, Any], where: str) -> bool:
        spans = _parse_labels(value, self.text, self._code_points, where)
        return isinstance(value.get("text"), str) and all(span.issue is None for span in spans)


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
