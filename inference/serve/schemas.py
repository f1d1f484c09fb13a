"""What is asked and answered: the JSON of ``/predict`` and ``/health``."""

from __future__ import annotations

import json
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.data.records import parse_json
from musamma.inference.serve.requests import Limits, Refusal

_BODY = "request body"
_SHAPES = ("text", "texts", "documents")
_EXPECTED = {"model_type": "a JSON object", "string_too_short": "a string that is not empty"}
_BEYOND = re.compile("[\U00010000-\U0010ffff]")


class InputDocument(BaseModel):
    """A document to be tagged."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1)]
    text: str
    meta: dict[str, Any] | None = Field(None, description="Comes back as it is.")


class PredictRequest(BaseModel):
    """Texts to be tagged, in one of three shapes."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "oneOf": [{"required": [shape]} for shape in _SHAPES],
            "examples": [{"text": "وصل الوفد إلى بيروت وبغداد"}],
        },
    )

    text: str | None = Field(None, description="One text.")
    texts: list[str] | None = Field(None, description="Several texts.", fail_fast=True)
    documents: list[InputDocument] | None = Field(None, description="Several texts with ids.", fail_fast=True)
    min_score: float | None = Field(
        None, ge=0, le=1, allow_inf_nan=False, description="Leave out names with a lower score."
    )
    offsets: Literal["code_points", "utf16"] = Field(
        "code_points",
        description="What start and end count: Unicode code points (as Python does), or UTF-16 code units "
        "(as JavaScript, Java and C# do). They differ behind characters beyond U+FFFF, such as most emoji.",
    )


class Name(BaseModel):
    """A name in a text: ``text`` is what stands from ``start`` to before ``end`` in the text as it was sent."""

    start: int
    end: int
    label: str
    score: float
    text: str


class TaggedDocument(BaseModel):
    """A document with the names found in it; of ``text`` and ``texts``, the id is the number in the request, from 0."""

    id: str
    text: str
    spans: list[Name]
    meta: dict[str, Any] | None = Field(None, description="As it was sent; absent where none was.")


class PredictResponse(BaseModel):
    """The documents, in the order of the request."""

    offsets: Literal["code_points", "utf16"]
    documents: list[TaggedDocument]


class HealthResponse(BaseModel):
    """The state of the service."""

    status: Literal["ok"]
    model: str
    labels: list[str]
    version: str
    waiting: int = Field(description="Requests that are read, waiting or tagged.")


class ErrorResponse(BaseModel):
    """Why a request was not served: ``error`` is one line that holds what there is of the rest."""

    error: str
    where: str | None = None
    found: str | None = None
    expected: str | None = None
    remedy: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """A request that can be served.

    Args:
        documents: what to tag.
        metas: the ``meta`` of each as JSON, ``None`` where there is none.
        min_score: the lowest score that a name may have.
        offsets: what to count offsets in.
    """

    documents: tuple[Document, ...]
    metas: tuple[bytes | None, ...]
    min_score: float
    offsets: str


def parse_request(body: bytes, limits: Limits) -> ParsedRequest:
    """What a request's body asks for.

    Raises:
        Refusal: it is no JSON, not of the shape that is documented, or asks for too much.
    """
    try:
        value = parse_json(body, _BODY)
    except InputError as error:
        raise Refusal(400, InputError(error.found, where=_BODY, expected=error.expected)) from None
    _check_size(value, limits)
    try:
        question = PredictRequest.model_validate(value)
    except ValidationError as error:
        raise Refusal(422, _mistake(error)) from None
    given = [shape for shape in _SHAPES if getattr(question, shape) is not None]
    if len(given) != 1:
        found = " and ".join(map(repr, given)) or "no text"
        raise Refusal(422, InputError(found, where=_BODY, expected=f"one of {', '.join(map(repr, _SHAPES))}"))
    items = question.documents
    if items is None:
        texts = [question.text] if question.text is not None else question.texts or []
        items = [InputDocument(id=str(index), text=text, meta=None) for index, text in enumerate(texts)]
    characters = sum(len(item.text) for item in items)
    if characters > limits.max_characters:
        raise _too_much(f"{characters:,} characters", f"{limits.max_characters:,} a request, all texts together")
    return ParsedRequest(
        documents=tuple(Document(item.id, item.text) for item in items),
        metas=tuple(_meta(item, index) for index, item in enumerate(items)),
        min_score=question.min_score or 0.0,
        offsets=question.offsets,
    )


def format_response(asked: ParsedRequest, tagged: Sequence[Document]) -> bytes:
    """The JSON of an :class:`PredictResponse`."""
    documents = []
    for document, meta in zip(tagged, asked.metas, strict=True):
        record: dict[str, Any] = {
            "id": document.id,
            "text": document.text,
            "spans": _names(document, asked.min_score, utf16=asked.offsets == "utf16"),
        }
        if meta is not None:
            record["meta"] = orjson.Fragment(meta)
        documents.append(record)
    return orjson.dumps({"offsets": asked.offsets, "documents": documents})


def _names(document: Document, min_score: float, *, utf16: bool) -> list[dict[str, Any]]:
    beyond = [found.start() for found in _BEYOND.finditer(document.text)] if utf16 else []
    return [
        {
            "start": span.start + bisect_left(beyond, span.start),
            "end": span.end + bisect_left(beyond, span.end),
            "label": span.label,
            "score": span.score,
            "text": document.surface(span),
        }
        for span in document.spans
        if (span.score or 0.0) >= min_score
    ]


def _meta(item: InputDocument, index: int) -> bytes | None:
    # As bytes it takes the room that it took in the request; as objects it could take many times as much.
    try:
        return None if item.meta is None else orjson.dumps(item.meta)
    except orjson.JSONEncodeError as error:
        found = InputError(f"meta cannot be written: {error}", where=f"documents[{index}]")
        raise Refusal(422, found) from None


def _check_size(value: Any, limits: Limits) -> None:
    """Fail for what would be looked at item by item, or make a mistake each, before anything else is looked at."""
    if not isinstance(value, dict):
        return
    _check_keys(value, PredictRequest, _BODY)
    for shape in ("texts", "documents"):
        if isinstance(items := value.get(shape), list) and len(items) > limits.max_texts:
            raise _too_much(f"{len(items):,} {shape}", f"{limits.max_texts:,} a request")
    if isinstance(items := value.get("documents"), list):
        for index, item in enumerate(items):
            if isinstance(item, dict):
                _check_keys(item, InputDocument, f"documents[{index}]")


def _check_keys(value: dict[str, Any], model: type[BaseModel], where: str) -> None:
    if (unknown := next((key for key in value if key not in model.model_fields), None)) is not None:
        expected = f"keys among {', '.join(model.model_fields)}"
        raise Refusal(422, InputError(f"unknown key {unknown[:80]!r}", where=where, expected=expected))


def _mistake(error: ValidationError) -> InputError:
    """The first mistake of a request, as our own error."""
    first = error.errors(include_url=False)[0]
    place = list(first["loc"])
    if first["type"] == "missing":
        key = place.pop()
        return InputError(f"no {key!r}", where=_path(place), expected=f"{key!r} in each document")
    expected = _EXPECTED.get(first["type"]) or first["msg"].removeprefix("Input should be ").replace("a valid ", "a ")
    given = first["input"]
    plain = isinstance(given, str | int | float | None)
    shown = json.dumps(given, ensure_ascii=False) if plain else f"a {type(given).__name__}"
    return InputError(shown if len(shown) <= 80 else f"{shown[:80]}…", where=_path(place), expected=expected)


def _path(place: list[int | str]) -> str:
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place)
    return path.removeprefix(".") or _BODY


def _too_much(found: str, allowed: str) -> Refusal:
    error = InputError(found, where=_BODY, expected=f"at most {allowed}", remedy="send less at a time")
    return Refusal(413, error)
