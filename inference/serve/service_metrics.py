"""The metrics of the service, in the formats of Prometheus and OpenMetrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from musamma.data.document import Document

# Upper bounds in seconds: a sentence takes hundredths of a second, a long text on few cores up to minutes in a long queue.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
#: Status of a request whose client disconnected before its response, as in nginx. Nobody receives it.
DISCONNECTED = 499


class ServiceMetrics:
    """The metrics of one service. They have a registry of their own, so that several services can run in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.responses = Counter(
            "musamma_requests", "Requests that are done.", ["path", "status"], registry=self.registry
        )
        self.active = Gauge(
            "musamma_requests_active",
            "Requests that are being read, waiting or being tagged.",
            registry=self.registry,
        )
        self.queued = Gauge("musamma_requests_queued", "Requests whose tagging has not begun.", registry=self.registry)
        self.documents = Counter("musamma_documents", "Texts tagged.", registry=self.registry)
        self.words = Counter("musamma_words", "Words tagged, as separated by white space.", registry=self.registry)
        self.characters = Counter("musamma_characters", "Characters tagged.", registry=self.registry)
        self.batches = Counter(
            "musamma_batches",
            "Batches: shared ones of short requests, and steps of long requests.",
            ["kind"],
            registry=self.registry,
        )
        self.busy = Counter("musamma_tagger_busy_seconds", "Time that the tagger worked.", registry=self.registry)
        self.wait = Histogram(
            "musamma_wait_seconds",
            "Time from the end of a request's body until its tagging begins.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.tagging = Histogram(
            "musamma_tagging_seconds",
            "Time from the beginning to the end of a request's tagging, with the batches of others in between.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._model = Info("musamma_model", "The model that is loaded.", registry=self.registry)
        for kind in ("shared", "step"):
            self.batches.labels(kind)

    def describe_model(self, *, model: str, labels: Sequence[str], version: str) -> None:
        """Set the information on the model.

        Args:
            model: its name.
            labels: the labels it knows.
            version: the version of the package.
        """
        self._model.info({"model": model, "labels": ",".join(labels), "version": version})

    def watch_queue(self, *, active: Callable[[], float], queued: Callable[[], float]) -> None:
        """Set the functions that return the numbers of active and of queued requests."""
        self.active.set_function(active)
        self.queued.set_function(queued)

    def count_tagged(self, documents: Sequence[Document]) -> None:
        """Count documents that were tagged."""
        self.documents.inc(len(documents))
        self.words.inc(sum(len(document.text.split()) for document in documents))
        self.characters.inc(sum(len(document.text) for document in documents))

    def expose(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text, and its content type.

        Args:
            accept: the request's ``Accept`` header, which chooses between the formats.
        """
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class ResponseCounter:
    """ASGI middleware that counts responses by path and status.

    Args:
        app: the application.
        metrics: the metrics.
        paths: the paths to distinguish. All others are counted as ``other``, because clients choose them.
    """

    def __init__(self, app: ASGIApp, *, metrics: ServiceMetrics, paths: Sequence[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, frozenset(paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its response."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # What the server makes of an exception.

        async def count(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, count)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.responses.labels(path, status).inc()
