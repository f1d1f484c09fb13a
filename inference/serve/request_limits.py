"""Limits of requests: bodies are read within the limits, and requests beyond them or without JSON are refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from musamma.data.errors import InputError
from musamma.data.records import parse_json

#: The place that errors of a body name.
BODY = "request body"
# The longest spelling of a character in JSON: "\ud83d\ude00".
_BYTES_PER_CHARACTER = 12
# Number of bytes allowed in a body in addition to its texts.
_EXTRA_BYTES = 64 * 2**10
# A refused body is read and discarded up to this number of bytes beyond the limit, and for this number of seconds.
_DISCARDED_BYTES, _DISCARD_SECONDS = 16 * 2**20, 5.0

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of requests, which bound the memory of the service.

    Args:
        max_characters: maximum number of Unicode characters in the texts of a request.
        max_texts: maximum number of texts in a request.
        max_waiting: maximum number of active requests: being read, waiting or being tagged.
        batch_wait: seconds that an idle tagger waits for more requests to fill a batch.
        read_timeout: seconds a client has to send the body.
        slow_body: seconds after which a body that is still being read makes room for a further request.
    """

    max_characters: int = 100_000
    max_texts: int = 64
    max_waiting: int = 256
    batch_wait: float = 0.005
    read_timeout: float = 30.0
    slow_body: float = 5.0

    @property
    def max_bytes(self) -> int:
        """Maximum number of bytes in a body: the maximum number of characters in their longest spelling, and 64 KiB."""
        return _BYTES_PER_CHARACTER * self.max_characters + _EXTRA_BYTES


class Refusal(Exception):
    """A request that is refused.

    Args:
        status: the HTTP status.
        error: the reason.
        retry_after: seconds after which the client may try again.
    """

    def __init__(self, status: int, error: InputError, *, retry_after: int | None = None) -> None:
        super().__init__(str(error))
        self.status, self.error, self.retry_after = status, error, retry_after


class BodyReads:
    """The bodies that are being read. Slow ones make room, so that slow clients cannot keep others out.

    Args:
        limits: the limits of a body's time.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        # Time at which each began, in order.
        self._began: dict[asyncio.Timeout, float] = {}

    @asynccontextmanager
    async def limit_time(self) -> AsyncIterator[None]:
        """Limit the time of a read.

        Raises:
            TimeoutError: the time is over, or the read has made room for another request.
        """
        async with asyncio.timeout(self._limits.read_timeout) as timeout:
            self._began[timeout] = asyncio.get_running_loop().time()
            try:
                yield
            finally:
                self._began.pop(timeout, None)

    def end_longest(self) -> bool:
        """End the read that began first, if it is slow; return whether there was one."""
        now = asyncio.get_running_loop().time()
        for timeout, began in self._began.items():
            if timeout.expired():
                continue
            if now < began + self._limits.slow_body:
                break
            del self._began[timeout]
            timeout.reschedule(now)
            return True
        return False


async def read_body(
    request: Request, limits: Limits, *, refusal: Refusal | None = None, reads: BodyReads | None = None
) -> bytes:
    """Read the body of a request.

    The body of a refused request is read for a while and discarded, because many clients read the response only after they
    have sent everything.

    Args:
        request: a request whose body has not been read.
        limits: the maximum length and time.
        refusal: the reason to refuse the request regardless of its body.
        reads: the bodies that are being read, of which this is one; not needed for a request that is refused.

    Raises:
        Refusal: ``refusal`` is given, or the body is not declared as JSON, is too long or arrives too slowly.
        ClientDisconnect: the client has disconnected.
    """
    refusal = refusal or _check_headers(request, limits)
    if refusal and "expect" in request.headers:  # This client waits for a response before it sends the body.
        raise refusal
    body, size = bytearray(), 0
    loop = asyncio.get_running_loop()
    began = loop.time()
    discarding = asyncio.timeout(min(limits.read_timeout, _DISCARD_SECONDS)) if refusal else None
    try:
        async with discarding or (reads or BodyReads(limits)).limit_time():
            async for chunk in request.stream():
                size += len(chunk)
                if refusal is None and size > limits.max_bytes:
                    refusal = _too_long(limits)
                    body.clear()
                if refusal is None:
                    body += chunk
                elif size > limits.max_bytes + _DISCARDED_BYTES:
                    break
    except TimeoutError:
        found = f"{size:,} bytes of the body after {min(limits.read_timeout, round(loop.time() - began, 1)):g} seconds"
        refusal = refusal or Refusal(408, InputError(found, expected="the whole body"))
    if refusal:
        raise refusal
    return bytes(body)


def parse_body(body: bytes) -> Any:
    """Parse the body of a request as JSON.

    Raises:
        Refusal: it is not JSON.
    """
    try:
        return parse_json(body, BODY)
    except InputError as error:
        # Without the remedy, which is for files.
        raise Refusal(400, InputError(error.found, where=BODY, expected=error.expected)) from None


def check_texts(count: int, limits: Limits, *, remedy: str, name: str = "texts") -> None:
    """Check the number of texts of a request.

    Args:
        count: the number.
        limits: the limits.
        remedy: what the client can do.
        name: what the request calls the texts.

    Raises:
        Refusal: there are too many.
    """
    if count > limits.max_texts:
        raise _over_limit(f"{count:,} {name}", f"{limits.max_texts:,} per request", remedy)


def check_characters(count: int, limits: Limits, *, remedy: str) -> None:
    """Check the number of characters in all texts of a request, as :func:`check_texts` checks the number of texts.

    Raises:
        Refusal: there are too many.
    """
    if count > limits.max_characters:
        raise _over_limit(f"{count:,} characters", f"{limits.max_characters:,} per request, all texts together", remedy)


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, _T]) -> _T:
    """Return the result of a coroutine; cancel it if the client disconnects first.

    Args:
        request: a request whose body has been read.
        work: the coroutine.

    Raises:
        ClientDisconnect: the client has disconnected.
    """
    working = asyncio.ensure_future(work)
    disconnecting = asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({working, disconnecting}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        disconnecting.cancel()
        # The cancelled job must have left the queue before the request stops counting as active.
        await asyncio.gather(working, disconnecting, return_exceptions=True)


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _check_headers(request: Request, limits: Limits) -> Refusal | None:
    """Return the reason to refuse a request because of its headers, if there is one."""
    # Only JSON is accepted: any web page can make a browser send a form or plain text here, but not JSON.
    content_type = request.headers.get("content-type", "")
    if content_type.partition(";")[0].strip().lower() != "application/json":
        found = f"Content-Type {content_type[:80]!r}" if content_type else "no Content-Type"
        remedy = "send the header, e.g. with curl --json"
        return Refusal(415, InputError(found, expected="application/json", remedy=remedy))
    length = request.headers.get("content-length", "")
    too_long = length.isascii() and length.isdigit() and int(length[:20]) > limits.max_bytes
    return _too_long(limits) if too_long else None


def _too_long(limits: Limits) -> Refusal:
    return _over_limit("the body is too long", f"{limits.max_bytes:,} bytes", "send fewer or shorter texts per request")


def _over_limit(found: str, limit: str, remedy: str) -> Refusal:
    return Refusal(413, InputError(found, where=BODY, expected=f"at most {limit}", remedy=remedy))
