"""The service: tags texts that come over HTTP, those that wait together in one batch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, Protocol

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.inference.serve.request_queue import QueueFull, RequestQueue
from musamma.inference.serve.requests import Limits, Refusal, cancel_on_disconnect, read_body
from musamma.inference.serve.schemas import (
    ErrorResponse,
    HealthResponse,
    PredictRequest,
    PredictResponse,
    format_response,
    parse_request,
)
from musamma.inference.serve.web_page import HEADERS, read_script, read_style, render_page

_DESCRIPTION = """Finds names in Arabic text.

`start` and `end` of a name are half-open offsets in Unicode code points of the text as it was sent, or in UTF-16 code
units where `"offsets": "utf16"` is asked for. Nothing of a text is rewritten."""
_REASONS = {
    400: "No JSON, or no UTF-8.",
    408: "The body did not come in time.",
    413: "More bytes, characters or texts than allowed.",
    415: "Not sent as application/json.",
    422: "JSON of another shape.",
    500: "The tagger failed.",
    503: "Too many requests are waiting; see Retry-After.",
}
_RETRY_AFTER = 1


class ServedTagger(Protocol):
    """What is needed of a tagger."""

    model: str

    @property
    def labels(self) -> Sequence[str]:
        """The labels that it knows."""

    def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents with the names found in them, in order."""


def create_app(tagger: ServedTagger, *, limits: Limits | None = None) -> FastAPI:
    """The application, for ``uvicorn`` or any other ASGI server; one process of it holds one tagger.

    Args:
        tagger: called from one thread, never twice at a time.
        limits: what bounds a request and the service's memory.
    """
    bounds = limits or Limits()
    batcher = RequestQueue(tagger.tag_documents, max_queue=bounds.max_waiting, wait=bounds.batch_wait)
    release = version("musamma")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with batcher:
            yield

    # The interactive pages of the documentation would load their scripts from elsewhere.
    app = FastAPI(
        title="Musamma",
        description=_DESCRIPTION,
        version=release,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )

    @app.post(
        "/predict",
        summary="The names in one text or several",
        response_model=PredictResponse,
        responses={status: {"model": ErrorResponse, "description": reason} for status, reason in _REASONS.items()},
        openapi_extra={"requestBody": {"required": True, "content": _content(PredictRequest)}},
    )
    async def predict(request: Request) -> Response:
        try:
            try:
                with batcher.admit():
                    asked = parse_request(await read_body(request, bounds), bounds)
                    tagged = await cancel_on_disconnect(request, batcher.tag(asked.documents))
                    return _json(200, format_response(asked, tagged))
            except QueueFull as full:
                error = InputError(str(full), expected=f"at most {bounds.max_waiting}", remedy="try again in a second")
                await read_body(request, bounds, refusal=Refusal(503, error, retry_after=_RETRY_AFTER))
                raise
        except ClientDisconnect:
            return Response(status_code=400)  # to nobody

    @app.get("/health", summary="Whether the service is up, and what it runs", response_model=HealthResponse)
    async def health() -> Response:
        state = {"status": "ok", "model": tagger.model, "labels": list(tagger.labels), "version": release}
        return _json(200, orjson.dumps({**state, "waiting": batcher.active}))

    shown = render_page(labels=tagger.labels, version=release)
    assets = {
        "/": (shown, "text/html"),
        "/page.css": (read_style(), "text/css"),
        "/page.js": (read_script(), "text/javascript"),
    }
    for path, (content, kind) in assets.items():
        app.add_route(path, _asset(content, kind), include_in_schema=False)
    _describe(app)
    _answer_errors(app)
    return app


def _answer_errors(app: FastAPI) -> None:
    """Give every error the one shape."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, refusal: Refusal) -> Response:
        headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
        return _failure(refusal.status, refusal.error, headers)

    @app.exception_handler(InputError)
    async def unusable(_: Request, error: InputError) -> Response:
        return _failure(422, error)

    @app.exception_handler(HTTPException)
    async def elsewhere(request: Request, error: HTTPException) -> Response:
        found = InputError(
            f"{request.method} {request.url.path[:80]}: {error.detail}",
            expected="POST /predict, GET /health or GET /openapi.json",
        )
        return _failure(error.status_code, found, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        # What went wrong inside is for the log, where the server writes it.
        return _failure(500, InputError("the tagger failed", remedy="see the log of the service"))


def _failure(status: int, error: InputError, headers: dict[str, str] | None = None) -> Response:
    parts = {"where": error.where, "found": error.found, "expected": error.expected, "remedy": error.remedy}
    answer = {"error": str(error), **{key: part for key, part in parts.items() if part}}
    return _json(status, orjson.dumps(answer), headers)


def _json(status: int, content: bytes, headers: dict[str, str] | None = None) -> Response:
    fixed = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
    return Response(content, status, media_type="application/json", headers={**fixed, **(headers or {})})


def _asset(content: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def asset(_: Request) -> Response:
        return Response(content, media_type=kind, headers=HEADERS)

    return asset


def _content(model: type[PredictRequest]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}


def _describe(app: FastAPI) -> None:
    """Put what is asked into the description too: the body is read by hand, so FastAPI does not know of it."""
    schema = PredictRequest.model_json_schema(ref_template="#/components/schemas/{model}")
    app.openapi()["components"]["schemas"] |= {**schema.pop("$defs"), PredictRequest.__name__: schema}
