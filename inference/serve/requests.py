"""How much a request may hold, and what a client is told that it cannot have."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from musamma.data.errors import InputError

#: The most characters of a request that can be allowed: cutting a longer stretch without a space takes memory without bound.
MAX_CHARACTERS = 10**6
# The longest way to write a character in JSON: "\ud83d\ude00".
_BYTES_A_CHARACTER = 12
_BYTES_BESIDE = 64 * 2**10


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds the service's memory.

    Args:
        max_characters: Unicode characters of all texts of a request together.
        max_texts: texts of a request.
        max_waiting: requests that are read, waiting or tagged at once.
        batch_wait: seconds that a request waits at most for others to be tagged with.
        read_timeout: seconds in which a request's body must have come.
    """

    max_characters: int = 100_000
    max_texts: int = 64
    max_waiting: int = 256
    batch_wait: float = 0.005
    read_timeout: float = 30.0

    @property
    def max_bytes(self) -> int:
        """Bytes of a request's body: as many characters as are allowed, however they are written, and 64 KiB."""
        return _BYTES_A_CHARACTER * self.max_characters + _BYTES_BESIDE


class Refusal(Exception):
    """A request that is not served.

    Args:
        status: the HTTP status.
        error: what is wrong with it.
        retry_after: seconds after which it may be served.
    """

    def __init__(self, status: int, error: InputError, *, retry_after: int | None = None) -> None:
        super().__init__(str(error))
        self.status, self.error, self.retry_after = status, error, retry_after


# Of what is refused, so many bytes and seconds are read.
_DISCARDED, _PATIENCE = 16 * 2**20, 5.0

_T = TypeVar("_T")


async def read_body(request: Request, limits: Limits, *, refusal: Refusal | None = None) -> bytes:
    """The body of a request.

    What is refused is read for a while, and thrown away: many clients listen only when they have sent all.

    Args:
        request: a request whose body has not been read.
        limits: how long it may be, and may take.
        refusal: why it is not served, whatever its body.

    Raises:
        Refusal: the one that is given, or it is no JSON by its own account, longer than allowed or too slow.
        ClientDisconnect: the client has gone.
    """
    refusal = refusal or _refusal(request, limits)
    if refusal and "expect" in request.headers:  # It listens before it sends.
        raise refusal
    body, size = bytearray(), 0
    try:
        async with asyncio.timeout(min(limits.read_timeout, _PATIENCE) if refusal else limits.read_timeout):
            async for chunk in request.stream():
                size += len(chunk)
                if refusal is None and size > limits.max_bytes:
                    refusal = _too_long(limits)
                    body.clear()
                if refusal is None:
                    body += chunk
                elif size > limits.max_bytes + _DISCARDED:
                    break
    except TimeoutError:
        found = f"{size:,} bytes of the body after {limits.read_timeout:g} seconds"
        refusal = refusal or Refusal(408, InputError(found, expected="all of it"))
    if refusal:
        raise refusal
    return bytes(body)


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """The outcome of the work, which is cancelled where the client leaves before.

    Args:
        request: a request whose body has been read.
        work: what the client waits for.

    Raises:
        ClientDisconnect: the client has gone.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        # A job that is given up must have left the line before its place is free.
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _refusal(request: Request, limits: Limits) -> Refusal | None:
    """What a request's header says against it."""
    # Any page of the web may have a browser send a form or plain text here, but not JSON.
    kind = request.headers.get("content-type", "")
    if kind.partition(";")[0].strip().lower() != "application/json":
        found = f"Content-Type {kind[:80]!r}" if kind else "no Content-Type"
        remedy = "send the header, e.g. with curl --json"
        return Refusal(415, InputError(found, expected="application/json", remedy=remedy))
    announced = request.headers.get("content-length", "")
    too_long = announced.isascii() and announced.isdigit() and int(announced[:20]) > limits.max_bytes
    return _too_long(limits) if too_long else None


def _too_long(limits: Limits) -> Refusal:
    return Refusal(
        413,
        InputError(
            "the body is too long",
            where="request body",
            expected=f"at most {limits.max_bytes:,} bytes",
            remedy="send fewer or shorter texts a request",
        ),
    )
