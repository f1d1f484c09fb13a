"""The JSON of requests and responses: pydantic models that describe it, and functions that parse and format it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from musamma.data.document import Document, Span, select_nested
from musamma.data.errors import InputError, meta_not_json
from musamma.data.offset_units import TextOffsets
from musamma.inference.serve.request_limits import BODY, Limits, Refusal, check_characters, check_texts, parse_body

_SEND_LESS = "send less at a time"
_SHAPES = ("text", "texts", "documents")
# Pydantic's error types whose message is replaced.
_EXPECTED = {"model_type": "a JSON object", "string_too_short": "a string that is not empty"}


# Models


class InputDocument(BaseModel):
    """A document to tag."""

    model_config = ConfigDict(extra="forbid", strict=True)

    id: Annotated[str, Field(min_length=1)]
    text: str
    meta: dict[str, Any] | None = Field(None, description="Returned unchanged.")


class PredictRequest(BaseModel):
    """Texts to tag, in one of three shapes."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            # A key whose value is null counts as absent.
            "oneOf": [{"required": [shape], "properties": {shape: {"not": {"type": "null"}}}} for shape in _SHAPES],
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
        description="The unit of start and end: Unicode code points (as in Python), or UTF-16 code units "
        "(as in JavaScript, Java and C#). They differ after characters beyond U+FFFF, such as most emoji.",
    )


def describe_request(limits: Limits, *, references: str) -> dict[str, Any]:
    """Return the JSON schemas of a request and its parts, by name.

    Args:
        limits: the limits to state.
        references: the form of references between them, such as ``"#/components/schemas/{model}"``.
    """
    schema = PredictRequest.model_json_schema(ref_template=references)
    for shape, limit in {
        "text": {"maxLength": limits.max_characters},
        "texts": {"maxItems": limits.max_texts},
        "documents": {"maxItems": limits.max_texts},
    }.items():
        schema["properties"][shape]["anyOf"][0] |= limit
    return {**schema.pop("$defs"), PredictRequest.__name__: schema}


class Name(BaseModel):
    """A name in a text: ``text`` holds the characters from ``start`` up to, not including, ``end`` of the text as sent."""

    start: int
    end: int
    label: str
    score: float | None = Field(None, description="Absent if only a rule found the name.")
    rule: Literal["added", "confirmed", "relabelled"] | None = Field(
        None, description="What a rule of the service did to the name; absent without a rule."
    )
    text: str


class TaggedDocument(BaseModel):
    """A document with the names found in it. For ``text`` and ``texts`` the id is the index in the request, from 0."""

    id: str
    text: str
    spans: list[Name]
    nested: list[Name] | None = Field(None, description="The names inside those of spans; absent if there are none.")
    meta: dict[str, Any] | None = Field(None, description="As sent; absent if none was sent.")


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
    waiting: int = Field(description="Requests that are being read, waiting or being tagged.")


class ErrorResponse(BaseModel):
    """The reason a request failed: ``error`` is one line that includes all other fields."""

    error: str
    where: str | None = None
    found: str | None = None
    expected: str | None = None
    remedy: str | None = None


# Parsing requests


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedRequest:
    """A valid request.

    Args:
        documents: the documents to tag.
        metas: the ``meta`` of each document as JSON; ``None`` if it has none.
        min_score: the minimum score of a name.
        offsets: the unit of offsets.
    """

    documents: tuple[Document, ...]
    metas: tuple[bytes | None, ...]
    min_score: float
    offsets: str


def parse_request(body: bytes, limits: Limits) -> ParsedRequest:
    """Parse the body of a request.

    Raises:
        Refusal: the body is not JSON, does not match :class:`PredictRequest`, or exceeds a limit.
    """
    value = parse_body(body)
    _check_size(value, limits)
    try:
        request = PredictRequest.model_validate(value)
    except ValidationError as error:
        raise Refusal(422, _first_error(error)) from None
    shapes = [shape for shape in _SHAPES if getattr(request, shape) is not None]
    if len(shapes) != 1:
        found = " and ".join(map(repr, shapes)) or "no text"
        raise Refusal(422, InputError(found, where=BODY, expected=f"one of {', '.join(map(repr, _SHAPES))}"))
    items = request.documents
    if items is None:
        texts = [request.text] if request.text is not None else request.texts or []
        items = [InputDocument(id=str(index), text=text, meta=None) for index, text in enumerate(texts)]
    characters = sum(len(item.text) for item in items)
    check_characters(characters, limits, remedy=_SEND_LESS)
    return ParsedRequest(
        documents=tuple(Document(item.id, item.text) for item in items),
        metas=tuple(_encode_meta(item, index) for index, item in enumerate(items)),
        min_score=request.min_score or 0.0,
        offsets=request.offsets,
    )


def _check_size(value: Any, limits: Limits) -> None:
    """Check numbers of items and keys before validation, which looks at every item and lists every error.

    Raises:
        Refusal: there are too many items, or unknown keys.
    """
    if not isinstance(value, dict):
        return
    _check_keys(value, PredictRequest, BODY)
    for shape in ("texts", "documents"):
        if isinstance(items := value.get(shape), list):
            check_texts(len(items), limits, name=shape, remedy=_SEND_LESS)
    if isinstance(items := value.get("documents"), list):
        for index, item in enumerate(items):
            if isinstance(item, dict):
                _check_keys(item, InputDocument, f"documents[{index}]")


def _check_keys(value: dict[str, Any], model: type[BaseModel], where: str) -> None:
    if (unknown := next((key for key in value if key not in model.model_fields), None)) is not None:
        expected = f"keys among {', '.join(model.model_fields)}"
        raise Refusal(422, InputError(f"unknown key {unknown[:80]!r}", where=where, expected=expected))


def _encode_meta(item: InputDocument, index: int) -> bytes | None:
    # Kept as bytes, which take as much memory as in the request; objects could take many times as much.
    try:
        return None if item.meta is None else orjson.dumps(item.meta)
    except orjson.JSONEncodeError as error:
        raise Refusal(422, meta_not_json(error, where=f"documents[{index}]")) from None


def _first_error(error: ValidationError) -> InputError:
    """Convert the first of pydantic's errors."""
    first = error.errors(include_url=False)[0]
    location = list(first["loc"])
    if first["type"] == "missing":
        key = location.pop()
        return InputError(f"no {key!r}", where=_format_location(location), expected=f"{key!r} in each document")
    expected = _EXPECTED.get(first["type"]) or first["msg"].removeprefix("Input should be ").replace("a valid ", "a ")
    value = first["input"]
    is_scalar = isinstance(value, str | int | float | None)
    found = json.dumps(value, ensure_ascii=False) if is_scalar else f"a {type(value).__name__}"
    found = found if len(found) <= 80 else f"{found[:80]}…"
    return InputError(found, where=_format_location(location), expected=expected)


def _format_location(location: list[int | str]) -> str:
    """Format a location such as ``documents[0].id``."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return path.removeprefix(".") or BODY


# Formatting responses


def format_response(request: ParsedRequest, tagged: Sequence[Document]) -> bytes:
    """Format tagged documents as the JSON of a :class:`PredictResponse`."""
    documents = []
    for document, meta in zip(tagged, request.metas, strict=True):
        offsets = TextOffsets(document.text, "utf16" if request.offsets == "utf16" else "code-points")
        spans = _at_least(document.spans, request.min_score)
        record: dict[str, Any] = {
            "id": document.id,
            "text": document.text,
            "spans": _names(document, spans, offsets),
        }
        if nested := select_nested(_at_least(document.nested, request.min_score), spans):
            record["nested"] = _names(document, nested, offsets)
        if meta is not None:
            record["meta"] = orjson.Fragment(meta)
        documents.append(record)
    return orjson.dumps({"offsets": request.offsets, "documents": documents})


def _at_least(spans: Iterable[Span], min_score: float) -> list[Span]:
    # A minimum score is one of the model; a name in a list of rules stays.
    return [span for span in spans if span.rule in ("added", "confirmed") or (span.score or 0.0) >= min_score]


def _names(document: Document, spans: Iterable[Span], offsets: TextOffsets) -> list[dict[str, Any]]:
    names = []
    for span in spans:
        start, end = offsets.from_code_points(span.start, span.end)
        names.append({**span.to_dict(), "start": start, "end": end, "text": document.surface(span)})
    return names
