"""How much a request may hold, and what a client is told that it cannot have."""

from __future__ import annotations

from dataclasses import dataclass

from musamma.data.errors import InputError

#: The most characters of a request that can be allowed: cutting a longer stretch without a space takes memory without bound.
MOST_CHARACTERS = 10**6
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
