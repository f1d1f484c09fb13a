"""Label Studio's JSON: a list of tasks with ``data.text`` and ``annotations[].result[].value``.

Label Studio counts offsets in UTF-16 code units, as browsers do: a character outside the Basic Multilingual Plane, such as an
emoji, counts twice. Reading converts them to code points, and writing converts them back. ``predictions`` are the names of a model,
in the same form with scores; Label Studio shows them to correct. The smaller JSON-MIN is read, too.
A region of another text than ``data.text``, and one without label, is dropped and counted. HyperText regions are read where
their offsets fit the text. A file is one JSON array and is loaded into memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from musamma.data.document import RULES_KEY, Document, Span, parse_id, parse_label, parse_offset
from musamma.data.errors import InputError
from musamma.data.formats.options import DEFAULT_WRITE_OPTIONS, ReadOptions, WriteOptions, offset_unit
from musamma.data.formats.unread import count_annotations, count_unread, report_unread
from musamma.data.import_audit import ImportAudit
from musamma.data.offset_units import TextOffsets, describe_fitting_unit
from musamma.data.records import file_stem, read_json_array
from musamma.data.span_repair import CandidateSpan, RawDocument

_TASK = '{"data": {"text": ...}, "annotations": [...]}'


def read_label_studio(path: Path, options: ReadOptions, audit: ImportAudit) -> Iterator[RawDocument]:
    """Read the tasks of an export.

    Of several annotations of a task, the first that was not cancelled counts, of several predictions the last. The names of a
    prediction have scores, and ``meta`` its ``model_version``.

    Raises:
        InputError: the file is not a JSON list of tasks, or a task has no text; names file and task.
    """
    tasks = read_json_array(path, expected="a list of tasks")
    stem = file_stem(Path(path.name))
    audit.offset_unit = offset_unit(options, "labelstudio")
    audit.offset_reason = "Label Studio's own" if options.offsets == "auto" else "as given"
    for number, task in enumerate(tasks):
        yield _parse_task(task, f"{path}, task {number + 1}", f"{stem}-{number:05d}", options, audit)


def format_lines(
    documents: Iterable[Document], options: WriteOptions = DEFAULT_WRITE_OPTIONS, audit: ImportAudit | None = None
) -> Iterator[str]:
    """Format documents as tasks for import into Label Studio, with labels ``label`` on a text ``text``.

    Args:
        documents: the documents.
        options: the unit of offsets, whether names are annotations or predictions, and the model that predictions name.
        audit: counts the borders that the unit cannot express, which are moved.
    """
    separator = "[\n"
    for document, kind in _choose_kinds(documents, options):
        data: dict[str, Any] = {"id": document.id, "text": document.text}
        if document.meta:
            data["meta"] = dict(document.meta)
        offsets = _offsets_of(document.text, options)
        if audit is not None:
            offsets.count_moved_borders(document, audit)
        regions = format_regions(document, offsets=offsets, scores=kind == "predictions")
        result: dict[str, Any] = {"result": regions}
        if kind == "predictions":
            version = document.meta.get("model_version")
            result["model_version"] = version if isinstance(version, str) else options.model_version
            result |= format_score(document.all_spans)
        yield separator + orjson.dumps({"data": data, kind: [result]}).decode()
        separator = ",\n"
    yield ("[" if separator == "[\n" else "\n") + "]\n"


def format_regions(
    document: Document,
    *,
    control: str | Mapping[str, tuple[str, str]] = "label",
    text: str = "text",
    offsets: TextOffsets | None = None,
    scores: bool = True,
    prefix: str = "s",
) -> list[dict[str, Any]]:
    """Format the names of a document, nested ones among the others, as the regions of a task.

    Args:
        document: the document.
        control: the name of the labels' control, or the control and its label by the document's label. Names of other labels are
            left out.
        text: the name of the text in the labelling interface.
        offsets: the offsets of the document's text; by default in the unit of Label Studio.
        scores: whether to write the scores.
        prefix: the beginning of the regions' ids.
    """
    offsets = offsets or _offsets_of(document.text, DEFAULT_WRITE_OPTIONS)
    regions = []
    for index, span in enumerate(document.spans_by_start()):
        place = (control, span.label) if isinstance(control, str) else control.get(span.label)
        if place is None:
            continue
        start, end = offsets.from_code_points(span.start, span.end)
        region: dict[str, Any] = {
            "id": f"{prefix}{index}",
            "type": "labels",
            "from_name": place[0],
            "to_name": text,
            "value": {"start": start, "end": end, "text": document.surface(span), "labels": [place[1]]},
        }
        if scores and span.score is not None:
            region["score"] = span.score
        regions.append(region)
    return regions


def format_score(spans: Iterable[Span]) -> dict[str, float]:
    """Format the score of a prediction, the mean score of its names. There is none without names."""
    scores = [span.score for span in spans if span.score is not None]
    return {"score": sum(scores) / len(scores)} if scores else {}


def _choose_kinds(documents: Iterable[Document], options: WriteOptions) -> Iterator[tuple[Document, str]]:
    """Choose for each document whether its names are ``annotations`` or ``predictions``; keeps the order."""
    kind = None if options.tasks_as == "auto" else options.tasks_as
    undecided: list[Document] = []
    for document in documents:
        if options.tasks_as == "auto" and (names := document.all_spans):
            # Names that only a rule found have no score.
            is_tagged = RULES_KEY in document.meta or any(name.score is not None for name in names)
            kind = "predictions" if is_tagged else "annotations"
        if kind is None:  # Documents without names before the first with names.
            undecided.append(document)
            continue
        for earlier in undecided:
            yield earlier, kind
        undecided = []
        yield document, kind
    for document in undecided:
        yield document, "annotations"


def _offsets_of(text: str, options: ReadOptions | WriteOptions) -> TextOffsets:
    return TextOffsets(text, offset_unit(options, "labelstudio"))


def has_regions(value: Any) -> bool:
    """Whether a value is a list of regions, as JSON-MIN holds them under the name of each control."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and {"start", "end", "labels"} <= item.keys() for item in value)
    )


def _parse_task(task: Any, where: str, default_id: str, options: ReadOptions, audit: ImportAudit) -> RawDocument:
    data = task.get("data", task) if isinstance(task, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("text"), str):
        keys = f"; it has the keys {', '.join(map(str, data))}" if isinstance(data, dict) and data else ""
        raise InputError(
            f"a task without text{keys}"[:300], where=where, expected=_TASK, remedy="rename the key that holds the text"
        )
    text: str = data["text"]
    prediction: Mapping[str, Any] | None = None
    id = parse_id(data.get("id", task.get("id")), default_id, where)
    if data is task:
        controls = [key for key, value in task.items() if key == "label" or has_regions(value)]
        regions = [value for key in controls for value in _check_list(task[key], where)]
        results = [{"type": "labels", "value": value} for value in regions]
        meta = {key: value for key, value in task.items() if key not in ("id", "text", *controls)}
        count_unread(meta, text=text, document=id, where=where, audit=audit)
    else:
        results, prediction = _find_results(task, id, where, options, audit)
        meta = {key: value for key, value in data.items() if key not in ("id", "text", "meta")}
        count_unread(meta, text=text, document=id, where=where, audit=audit)
        inner = data.get("meta")
        meta = {**inner, **meta} if isinstance(inner, dict) else meta if inner is None else {**meta, "meta": inner}
        if prediction is not None and isinstance(version := prediction.get("model_version"), str) and version:
            meta["model_version"] = version
    reader = _RegionReader(text, id, _offsets_of(text, options), audit)
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
            score = None if prediction is None else _find_score(result, value)
            spans += [replace(span, score=score) for span in reader.read(value, place)]
        elif data is task and (count := count_annotations([result["value"]], "label", length=2 * len(text))):
            report_unread(count, " or ".join(map(repr, controls)), document=id, where=place, audit=audit)
        else:
            kind = result.get("type") if isinstance(result, dict) else result
            audit.add("ignored_annotation", document=id, where=where, detail=f"a result of type {kind!r}")
    return RawDocument(id, text, tuple(spans), meta=meta, where=where)


def _find_results(
    task: Mapping[str, Any], id: str, where: str, options: ReadOptions, audit: ImportAudit
) -> tuple[list[Any], Mapping[str, Any] | None]:
    """The results of a task, and the prediction they belong to, if they are not those of an annotation.

    They are those of the first annotation that was not cancelled; names of the others that it lacks are counted as dropped.
    """
    # Versions before 1.0 called annotations completions.
    annotations = [a for key in ("annotations", "completions") for a in _check_list(task.get(key), where)]
    valid = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    predictions = _check_list(task.get("predictions"), where)
    predicted = [p for p in predictions if isinstance(p, dict)]
    if predicted and (options.predictions == "only" or (options.predictions == "fallback" and not valid)):
        detail = f"the last of {len(predicted)} predictions" if len(predicted) > 1 else "a prediction"
        audit.add("prediction_taken", document=id, where=where, detail=detail)
        return _check_list(predicted[-1].get("result"), where), predicted[-1]
    if not valid or options.predictions == "only":
        if predictions and not predicted:
            _report_numbers(predictions, id, where, options, audit)
        missing = "prediction" if options.predictions == "only" else "finished annotation"
        audit.add("no_annotation", document=id, where=where, detail=f"the task has no {missing}")
        names = max((len(_names_of(p, where)) for p in predicted), default=0)
        report_unread(names, "'predictions'", document=id, where=where, audit=audit)
        return [], None
    if further := valid[1:]:
        detail = f"{len(further)} further annotations"
        audit.add("ignored_annotation", document=id, where=where, detail=detail, count=len(further))
        names = len({name for a in further for name in _names_of(a, where)} - {*_names_of(valid[0], where)})
        report_unread(names, "further annotations of the task", document=id, where=where, audit=audit)
    return _check_list(valid[0].get("result"), where), None


def _report_numbers(predictions: list[Any], id: str, where: str, options: ReadOptions, audit: ImportAudit) -> None:
    """Report predictions of which the file holds only the numbers, as in Label Studio's simple export.

    Raises:
        InputError: they are to be read.
    """
    found = f"{len(predictions)} predictions, by their numbers only"
    if options.predictions != "drop":
        raise InputError(
            found,
            where=where,
            expected="predictions with their results",
            remedy="export a snapshot with complete predictions",
        )
    audit.add("ignored_annotation", document=id, where=where, detail=found, count=len(predictions))


def _find_score(result: Mapping[str, Any], value: Mapping[str, Any]) -> float | None:
    """The score of a region, which stands beside or in its value."""
    for score in (result.get("score"), value.get("score")):
        if isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score):
            return float(score)
    return None


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
    offsets: TextOffsets
    audit: ImportAudit

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
        return _parse_labels(value, self.text, self.offsets, where)

    def drop(self, kind: str, value: Any, detail: str, where: str) -> None:
        """Count a region that does not become a span as dropped."""
        surface = value.get("text") if isinstance(value, dict) else None
        described = f"{detail}: {surface[:40]!r}" if isinstance(surface, str) else detail
        self.audit.spans += 1
        self.audit.add(kind, document=self.id, where=where, detail=described)

    def _agrees(self, value: Mapping[str, Any], where: str) -> bool:
        spans = _parse_labels(value, self.text, self.offsets, where)
        return isinstance(value.get("text"), str) and all(span.issue is None for span in spans)


def _parse_labels(value: Mapping[str, Any], text: str, offsets: TextOffsets, where: str) -> list[CandidateSpan]:
    start, end = (parse_offset(value.get(side), side, where) for side in ("start", "end"))
    labels = [parse_label(label, "label", where) for label in _check_list(value["labels"], where)]
    spans = [offsets.read_span(start, end, label, where=where) for label in labels]
    surface = value.get("text")
    if not isinstance(surface, str):
        return spans
    return [
        replace(
            span,
            issue="surface_mismatch",
            detail=f"the file says {surface[:40]!r}{describe_fitting_unit(text, start, end, surface)}",
        )
        if span.issue is None and 0 <= span.start <= span.end <= len(text) and surface != text[span.start : span.end]
        else span
        for span in spans
    ]


def _check_list(value: Any, where: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InputError(f"{value!r:.60}", where=where, expected="a list")
    return value
