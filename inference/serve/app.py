"""The service as an ASGI application: its routes, its errors and its OpenAPI description."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from typing import Any, Protocol

import orjson
from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.inference.serve.label_studio_backend import BACKEND_PATHS, ParseBody, create_backend_router
from musamma.inference.serve.request_limits import BodyReads, Limits, Refusal, cancel_on_disconnect, read_body
from musamma.inference.serve.request_queue import QueueFull, RequestQueue, StepTagger
from musamma.inference.serve.schemas import (
    ErrorResponse,
    HealthResponse,
    PredictRequest,
    PredictResponse,
    describe_request,
    format_response,
    parse_request,
)
from musamma.inference.serve.service_metrics import DISCONNECTED, ResponseCounter, ServiceMetrics
from musamma.inference.serve.web_page import HEADERS, read_script, read_style, render_page

_DESCRIPTION = """Finds names in Arabic text.

`start` and `end` of a name are half-open offsets in Unicode code points of the text as sent, or in UTF-16 code units
with `"offsets": "utf16"`. The text itself is never changed."""
_ERRORS = {
    400: "The body is not JSON or not UTF-8.",
    408: "The body did not arrive in time.",
    413: "Too many bytes, characters or texts.",
    415: "The body was not sent as application/json.",
    422: "The JSON has an unexpected shape.",
    500: "The tagger failed.",
    503: "Too many concurrent requests; see Retry-After.",
}
_RETRY_AFTER = 1
_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class ServedTagger(StepTagger, Protocol):
    """The part of a tagger that the service uses."""

    model: str

    @property
    def labels(self) -> Sequence[str]:
        """The labels the tagger knows."""


def create_app(tagger: ServedTagger, *, limits: Limits | None = None) -> FastAPI:
    """Create the application for ``uvicorn`` or another ASGI server. Each server process holds one tagger.

    Args:
        tagger: the tagger; called by one thread, never twice at the same time.
        limits: the limits of requests.
    """
    bounds = limits or Limits()
    release = version("musamma")
    metrics = ServiceMetrics()
    metrics.describe_model(model=tagger.model, labels=tagger.labels, version=release)
    queue = RequestQueue(tagger, max_active=bounds.max_waiting, max_wait=bounds.batch_wait, metrics=metrics)
    reads = BodyReads(bounds)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with queue:
            yield

    # Switched off: the interactive pages (/docs, /redoc) would load scripts from other servers.
    app = FastAPI(
        title="Musamma",
        description=_DESCRIPTION,
        version=release,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )

    async def answer(request: Request, parse: ParseBody) -> Response:
        try:
            try:
                with queue.admit(reads.end_longest):
                    documents, form = parse(await read_body(request, bounds, reads=reads))
                    return _json_response(200, form(await cancel_on_disconnect(request, queue.tag(documents))))
            except QueueFull as full:
                error = InputError(str(full), expected=f"at most {bounds.max_waiting}", remedy="try again in a second")
                await read_body(request, bounds, refusal=Refusal(503, error, retry_after=_RETRY_AFTER))
                raise
        except ClientDisconnect:
            return Response(status_code=DISCONNECTED)

    def parse_predict(body: bytes) -> tuple[Sequence[Document], Callable[[list[Document]], bytes]]:
        parsed = parse_request(body, bounds)
        return parsed.documents, partial(format_response, parsed)

    @app.post(
        "/predict",
        summary="Find the names in one text or several",
        response_model=PredictResponse,
        responses={status: {"model": ErrorResponse, "description": text} for status, text in _ERRORS.items()},
        openapi_extra={"requestBody": {"required": True, "content": _json_content(PredictRequest)}},
    )
    async def predict(request: Request) -> Response:
        return await answer(request, parse_predict)

    app.include_router(create_backend_router(tagger, limits=bounds, answer=answer))

    _add_state_routes(app, tagger, queue, metrics)
    assets = {
        "/": (render_page(labels=tagger.labels, version=release), "text/html"),
        "/page.css": (read_style(), "text/css"),
        "/page.js": (read_script(), "text/javascript"),
    }
    for path, (content, media_type) in assets.items():
        app.add_route(path, _asset_route(content, media_type), include_in_schema=False)
    app.add_middleware(
        ResponseCounter, metrics=metrics, paths=["/predict", "/health", "/metrics", *BACKEND_PATHS, *assets]
    )
    # FastAPI does not know the schema of the request, because it does not parse the body.
    app.openapi()["components"]["schemas"] |= describe_request(bounds, references="#/components/schemas/{model}")
    _add_error_handlers(app)
    return app


def _add_state_routes(app: FastAPI, tagger: ServedTagger, queue: RequestQueue, metrics: ServiceMetrics) -> None:
    """Add the routes that tell the state of the service: ``/health`` and ``/metrics``."""

    @app.get("/health", summary="State of the service", response_model=HealthResponse)
    async def health() -> Response:
        state = {"status": "ok", "model": tagger.model, "labels": list(tagger.labels), "version": app.version}
        return _json_response(200, orjson.dumps({**state, "waiting": queue.active}))

    @app.get(
        "/metrics",
        summary="Metrics for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}, "application/openmetrics-text": {}}}},
    )
    async def expose_metrics(request: Request) -> Response:
        content, content_type = metrics.expose(request.headers.get("accept", ""))
        return Response(content, headers={**_HEADERS, "Content-Type": content_type})


def _add_error_handlers(app: FastAPI) -> None:
    """Make every error an :class:`ErrorResponse`."""

    @app.exception_handler(Refusal)
    async def handle_refusal(_: Request, refusal: Refusal) -> Response:
        headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
        return _error_response(refusal.status, refusal.error, headers)

    @app.exception_handler(InputError)
    async def handle_input_error(_: Request, error: InputError) -> Response:
        return _error_response(422, error)

    @app.exception_handler(HTTPException)
    async def handle_http_error(request: Request, error: HTTPException) -> Response:
        input_error = InputError(
            f"{request.method} {request.url.path[:80]}: {error.detail}",
            expected="POST /predict, GET /health, GET /metrics or GET /openapi.json",
        )
        return _error_response(error.status_code, input_error, dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def handle_failure(_: Request, error: Exception) -> Response:
        # The server writes the error to its log; clients do not need to see internals.
        return _error_response(500, InputError("the tagger failed", remedy="see the log of the service"))


def _error_response(status: int, error: InputError, headers: dict[str, str] | None = None) -> Response:
    fields = {"where": error.where, "found": error.found, "expected": error.expected, "remedy": error.remedy}
    body = {"error": str(error), **{key: value for key, value in fields.items() if value}}
    return _json_response(status, orjson.dumps(body), headers)


def _json_response(status: int, content: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(content, status, media_type="application/json", headers={**_HEADERS, **(headers or {})})


def _asset_route(content: str, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def asset(_: Request) -> Response:
        return Response(content, media_type=media_type, headers=HEADERS)

    return asset


def _json_content(model: type[PredictRequest]) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{model.__name__}"}}}
