"""The service on a port, until it is told to stop."""

from __future__ import annotations

import gc
import ipaddress
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

from musamma.data.errors import InputError

#: Seconds that a stopping service gives requests that it has taken.
LAST_SECONDS = 60
_BACKLOG = 1024


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections at an address.

    Args:
        host: a name or an IP address.
        port: 0 for any that is free.

    Raises:
        InputError: there is no such host here, or the port is taken or not allowed.
    """
    try:
        # A name may have several addresses; the service listens at the first.
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except (OSError, UnicodeError) as error:
        raise InputError(
            f"cannot listen: {_reason(error)}",
            where=f"{host}:{port}",
            expected="an address of this machine and a free port",
            remedy="give another --host or --port",
        ) from error


def _reason(error: OSError | UnicodeError) -> str:
    # To the system's words, which would do, Python adds its own.
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error)


def listener_url(listener: socket.socket) -> tuple[str, bool]:
    """The URL at which a socket listens, and whether only this machine can reach it."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}", ipaddress.ip_address(host.partition("%")[0]).is_loopback


def run(app: FastAPI, listener: socket.socket, *, max_connections: int) -> None:
    """Serve until SIGTERM or Ctrl-C; what has been taken by then is answered first.

    Args:
        app: the application.
        listener: where connections come in; closed at the end.
        max_connections: further ones are told at once that the service is busy.
    """
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=max_connections,
        timeout_graceful_shutdown=LAST_SECONDS,
    )
    # A million objects of the model's libraries stay. Looked at again and again while a request is parsed, they would make
    # a second of what takes hundredths of one.
    gc.collect()
    gc.freeze()
    try:
        with _stopped_quietly():
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        gc.unfreeze()


@contextmanager
def _stopped_quietly() -> Iterator[None]:
    """Uvicorn sends itself the signal again when it has stopped; here, that it stopped is all that was wanted."""
    before = {number: signal.signal(number, _ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _ignore(number: int, frame: object) -> None:
    """Called instead of what ends the process; ``SIG_IGN`` would be inherited by child processes."""
