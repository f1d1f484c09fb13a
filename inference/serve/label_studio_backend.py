"""The protocol of Label Studio's ML backends, below ``/label-studio``: ``GET /health``, ``POST /setup`` and ``POST /predict``.

Label Studio sends its labelling configuration with every request. The names of controls and texts come from there, and so do the
labels: a label of the model is that of a ``Label`` whose ``value``, ``alias`` or ``predicted_values`` is the same, whatever the
case. The requests go through the queue of the service and have its limits. The paths are not part of the service's OpenAPI
description, because Label Studio defines them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from xml.parsers import expat

import orjson
from fastapi import APIRouter, Request, Response

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.formats.label_studio import format_regions, format_score
from musamma.inference.serve.request_limits import BODY, Limits, Refusal, check_characters, check_texts, parse_body

PREFIX = "/label-studio"
#: The paths of the protocol.
BACKEND_PATHS = (f"{PREFIX}/health", f"{PREFIX}/setup", f"{PREFIX}/predict")
_PREDICT_FEWER = "predict fewer tasks at a time"
_CONFIGURATION = "labelling configuration"
_EXAMPLE = '<Labels name="label" toName="text"><Label value="PER"/></Labels><Text name="text" value="$text"/>'


class _Tagger(Protocol):
    model: str

    @property
    def labels(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class LabelledText:
    """A text of a labelling configuration and the labels for it.

    Args:
        name: the text's name in the configuration.
        key: the key of a task's ``data`` that holds the text.
        controls: the control and its label, by the label of the model.
    """

    name: str
    key: str
    controls: Mapping[str, tuple[str, str]]


#: Parses a body: returns the documents to tag, and a function that forms the response of the tagged documents.
ParseBody = Callable[[bytes], tuple[Sequence[Document], Callable[[list[Document]], bytes]]]


def create_backend_router(
    tagger: _Tagger, *, limits: Limits, answer: Callable[[Request, ParseBody], Awaitable[Response]]
) -> APIRouter:
    """Create the routes.

    Args:
        tagger: the tagger of the service.
        limits: the limits of requests.
        answer: admits a request to the queue, reads its body, tags the documents in it and sends the response.
    """
    router = APIRouter(prefix=PREFIX, include_in_schema=False)
    version = Path(tagger.model).name or tagger.model

    def parse_setup(body: bytes) -> tuple[Sequence[Document], Callable[[list[Document]], bytes]]:
        value = _parse_object(body)
        find_texts(value.get("schema", value.get("label_config")), tagger.labels)
        return [], lambda _: orjson.dumps({"model_version": version})

    def parse_predict(body: bytes) -> tuple[Sequence[Document], Callable[[list[Document]], bytes]]:
        value = _parse_object(body)
        texts = find_texts(value.get("label_config"), tagger.labels)

        def form(tagged: list[Document]) -> bytes:
            groups = [tagged[first : first + len(texts)] for first in range(0, len(tagged), len(texts))]
            results = [_format_prediction(group, texts, version) for group in groups]
            return orjson.dumps({"results": results, "model_version": version})

        return parse_tasks(value.get("tasks"), texts, limits), form

    @router.get("/health")
    async def backend_health() -> dict[str, str]:
        return {"status": "UP", "model_class": "musamma", "model_version": version}

    @router.post("/setup")
    async def setup(request: Request) -> Response:
        return await answer(request, parse_setup)

    @router.post("/predict")
    async def backend_predict(request: Request) -> Response:
        return await answer(request, parse_predict)

    return router


# Requests


def _parse_object(body: bytes) -> dict[str, Any]:
    value = parse_body(body)
    if not isinstance(value, dict):
        raise Refusal(422, InputError(f"a JSON {type(value).__name__}", where=BODY, expected="a JSON object"))
    return value


def parse_tasks(tasks: Any, texts: Sequence[LabelledText], limits: Limits) -> list[Document]:
    """Return the texts of all tasks: those of the first, in the order of ``texts``, then those of the second, and so on.

    Raises:
        Refusal: the tasks have another shape, lack a text, or exceed a limit.
    """
    if not isinstance(tasks, list):
        found = f"tasks is {'missing' if tasks is None else f'a {type(tasks).__name__}'}"
        raise Refusal(422, InputError(found, where=BODY, expected='"tasks": [{"id": 1, "data": {...}}]'))
    check_texts(len(tasks) * len(texts), limits, remedy=_PREDICT_FEWER)
    documents, characters = [], 0
    for index, task in enumerate(tasks):
        data = task.get("data") if isinstance(task, dict) else None
        for text in texts:
            value = data.get(text.key) if isinstance(data, dict) else None
            if not isinstance(value, str):
                error = InputError(
                    f"no text under data.{text.key}",
                    where=f"tasks[{index}]",
                    expected=f"a string, which the configuration shows as {text.name!r}",
                )
                raise Refusal(422, error)
            characters += len(value)
            documents.append(Document(f"{index}-{text.name}", value))
    check_characters(characters, limits, remedy=_PREDICT_FEWER)
    return documents


def _format_prediction(tagged: Sequence[Document], texts: Sequence[LabelledText], version: str) -> dict[str, Any]:
    """Format the prediction of a task. ``left_out`` counts names whose label the configuration lacks, if there are any."""
    regions, left_out = [], Counter[str]()
    kept = []
    for document, text in zip(tagged, texts, strict=True):
        regions += format_regions(document, control=text.controls, text=text.name, prefix=f"{text.name}-")
        left_out.update(span.label for span in document.all_spans if span.label not in text.controls)
        kept += [span for span in document.all_spans if span.label in text.controls]
    score = format_score(kept)
    more = {"left_out": dict(sorted(left_out.items()))} if left_out else {}
    return {"result": regions, "model_version": version, **score, **more}


# The labelling configuration


@dataclass(slots=True)
class _Configuration:
    """The controls of a configuration.

    Attributes:
        texts: the key of a task's data, by the text's name.
        controls: the text and the labels, each with its other names, by control.
    """

    texts: dict[str, str] = field(default_factory=dict)
    controls: dict[str, tuple[str, dict[str, list[str]]]] = field(default_factory=dict)


def find_texts(configuration: Any, labels: Iterable[str]) -> list[LabelledText]:
    """Find the texts that a labelling configuration shows, and the labels for them that the model knows.

    Args:
        configuration: the XML.
        labels: the labels of the model.

    Raises:
        Refusal: the XML is broken, or has no text with such labels.
    """
    parsed = _parse_configuration(configuration)
    known = sorted(labels)
    texts = []
    for name, key in parsed.texts.items():
        places: dict[str, tuple[str, str]] = {}
        for control, (shown, values) in parsed.controls.items():
            if shown != name:
                continue
            by_name = {other.casefold(): value for value, others in reversed(values.items()) for other in others}
            by_name |= {value.casefold(): value for value in values}
            for label in known:
                if value := by_name.get(label.casefold()):
                    places.setdefault(label, (control, value))
        if places:
            texts.append(LabelledText(name, key, places))
    if not texts:
        found = [value for _, values in parsed.controls.values() for value in values]
        listed = f"the labels {', '.join(found)}"[:200] if found else "no labels for a text"
        error = InputError(
            listed,
            where=_CONFIGURATION,
            expected=f"labels of the model on a Text, among {', '.join(known)}",
            remedy='name the model\'s label in a Label, e.g. <Label value="Person" predicted_values="PER"/>',
        )
        raise Refusal(422, error)
    return texts


def _parse_configuration(configuration: Any) -> _Configuration:
    if not isinstance(configuration, str) or not configuration.strip():
        raise Refusal(422, InputError("no labelling configuration", where=BODY, expected=_EXAMPLE))
    parsed = _Configuration()
    control: list[str] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        name = attributes.get("name", "")
        if tag == "Text" and name and attributes.get("valueType", "text") == "text":
            if (value := attributes.get("value", "")).startswith("$"):
                parsed.texts[name] = value[1:]
        elif tag == "Labels" and name:
            parsed.controls[name] = (attributes.get("toName", ""), {})
            control.append(name)
        elif tag == "Label" and control and (value := attributes.get("value", "")):
            others = [attributes.get("alias", ""), *attributes.get("predicted_values", "").split(",")]
            parsed.controls[control[-1]][1][value] = [other.strip() for other in others if other.strip()]

    def end(tag: str) -> None:
        if tag == "Labels" and control:
            control.pop()

    def refuse(*_: object) -> None:
        # Entities could take unbounded memory, or be read from files.
        raise Refusal(422, InputError("a document type", where=_CONFIGURATION, expected="XML without one"))

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = start, end, refuse
    try:
        parser.Parse(configuration, True)
    except expat.ExpatError as error:
        raise Refusal(422, InputError(f"broken XML: {error}", where=_CONFIGURATION, expected=_EXAMPLE)) from None
    return parsed
