"""Limits of connections: those that send or read too slowly are closed, and idle ones make room for new ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Limits of connections. They bound the memory and the open files of the service, whatever clients do.

    The time of a request's body is limited by :class:`~musamma.inference.serve.request_limits.Limits`.

    Args:
        max_connections: connections served at the same time, exclusive. A further one takes the place of the one that has been
            idle longest, or gets status 503 if none is idle.
        head_seconds: time for the head of a request, from the connection or the last response on.
        response_seconds: time that a client has to read a response.
        head_bytes: maximum length of a request's head.
    """

    max_connections: int
    head_seconds: float = 10.0
    response_seconds: float = 60.0
    head_bytes: int = 16 * 2**10


class LimitedConnection(H11Protocol):
    """A connection of uvicorn with limits. uvicorn has none for a request's head and for reading a response.

    A connection without a request that is being answered is idle. A timer runs while it is idle, and another one while
    the client does not read.

    Args:
        limits: the limits.
        options: the arguments that uvicorn gives.
    """

    def __init__(self, *, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(**options)
        self._limits = limits
        self._idle_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._responded = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Make room for the connection and wait for its first request."""
        # uvicorn refuses requests once the limit is reached, and counts this connection.
        if len(self.connections) >= self._limits.max_connections - 1:
            self._drop_longest_idle()
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Handle received bytes."""
        try:
            super().data_received(data)
        except h11.LocalProtocolError:
            # uvicorn answers broken input with status 400, and cannot if it has sent another response already.
            self._drop()
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request."""
        self._responded = self.loop.time()
        self._stop_watching()
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Limit the time until the client reads what was sent."""
        super().pause_writing()
        self._unread_timer = self.loop.call_later(self._limits.response_seconds, self._drop)

    def resume_writing(self) -> None:
        """The client has read enough."""
        super().resume_writing()
        if self._unread_timer is not None:
            self._unread_timer.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timers."""
        self._stop_watching()
        super().connection_lost(exc)
        if self._unread_timer is not None:
            self._unread_timer.cancel()

    def _watch(self) -> None:
        """Run the timer while the connection is idle."""
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_watching()
        elif self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self._limits.head_seconds, self._end_idle_time)

    def _stop_watching(self) -> None:
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None

    def _end_idle_time(self) -> None:
        self._idle_timer = None
        is_reading = self.loop.time() < self._responded + self._limits.response_seconds
        if self.transport.get_write_buffer_size() and is_reading:
            self._watch()
        else:
            self._drop()

    def _drop_longest_idle(self) -> None:
        idle = {
            connection._idle_timer.when(): connection
            for connection in self.connections
            if isinstance(connection, LimitedConnection) and connection._idle_timer is not None
        }
        if idle:
            idle[min(idle)]._drop()

    def _drop(self) -> None:
        """Close the connection without sending what is left."""
        self.connections.discard(self)
        self._stop_watching()
        self.transport.abort()
