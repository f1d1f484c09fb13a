"""The HTTP server: listens on a port and serves the application until it is stopped."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI

from musamma.data.errors import InputError
from musamma.inference.serve.connection_limits import ConnectionLimits, LimitedConnection

#: Seconds a stopping server waits for the responses to accepted requests.
SHUTDOWN_SECONDS = 60
_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """Open a listening socket.

    Args:
        host: a host name or an IP address.
        port: the port; 0 for any free port.

    Raises:
        InputError: the host is not an address of this machine, or the port is in use or not allowed.
    """
    try:
        # A name may have several addresses; the server listens on the first.
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"cannot listen: {_reason(error)}",
            where=f"{host}:{port}",
            expected="an address of this machine and a free port",
            remedy="give another `host` or `port`",
        ) from error


def _reason(error: OSError | UnicodeError) -> str:
    # Python's message repeats the address after the message of the system.
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)


def listener_url(listener: socket.socket) -> tuple[str, bool]:
    """Return the URL of a listening socket, and whether only this machine can reach it."""
    host, port = listener.getsockname()[:2]
    url_host = f"[{host}]" if ":" in host else host
    return f"http://{url_host}:{port}", ipaddress.ip_address(host.partition("%")[0]).is_loopback


def configure_server(app: FastAPI, limits: ConnectionLimits) -> uvicorn.Config:
    """Return the configuration of the HTTP server.

    Args:
        app: the application.
        limits: the limits of connections.
    """
    return uvicorn.Config(
        app,
        http=partial(LimitedConnection, limits=limits),  # type: ignore[arg-type]  # called like the class
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=limits.max_connections,
        h11_max_incomplete_event_size=limits.head_bytes,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def run_server(app: FastAPI, listener: socket.socket, limits: ConnectionLimits) -> None:
    """Serve until SIGTERM or Ctrl-C. Requests accepted by then still get their responses.

    Args:
        app: the application.
        listener: the listening socket; closed at the end.
        limits: the limits of connections.
    """
    config = configure_server(app, limits)
    # The model's libraries keep a million objects. Without freezing, garbage collection would visit them repeatedly while a
    # request is parsed: parsing would take a second instead of hundredths of a second.
    gc.collect()
    gc.freeze()
    try:
        with _ignored_stop_signals():
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        gc.unfreeze()


@contextmanager
def _ignored_stop_signals() -> Iterator[None]:
    """Ignore the signal that uvicorn raises again after it has stopped: the process ends with status 0."""
    previous = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ignore(number: int, frame: object) -> None:
    """Do nothing. Unlike ``SIG_IGN``, a handler is not inherited by child processes."""
