"""The request queue: requests that wait at the same time are tagged in one batch, by a single thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Self

from musamma.data.document import Document
from musamma.data.errors import InputError

#: Maximum number of characters in a batch. A longer request is a batch of its own.
BATCH_CHARACTERS = 32_768


class QueueFull(RuntimeError):
    """The maximum number of active requests is reached."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """The documents of a waiting request.

    Args:
        documents: the documents to tag.
        size: their characters plus one per document.
        arrived: arrival time, in seconds of the event loop's clock.
        result: receives the tagged documents.
    """

    documents: Sequence[Document]
    size: int
    arrived: float
    result: asyncio.Future[list[Document]]


class RequestQueue:
    """Tags waiting requests in batches, in the order of arrival. Use it with ``async with``.

    Args:
        tag: returns documents with the names found in them, in order; called by one thread only.
        max_active: maximum number of active requests.
        max_wait: seconds that an idle tagger waits for more requests to fill a batch.
        max_characters: maximum number of characters in a batch.

    Attributes:
        active: requests that are being read, waiting or being tagged.
    """

    def __init__(
        self,
        tag: Callable[[Sequence[Document]], Iterable[Document]],
        *,
        max_active: int,
        max_wait: float,
        max_characters: int = BATCH_CHARACTERS,
    ) -> None:
        self._tag, self._max_queue, self._max_wait, self._max_characters = tag, max_active, max_wait, max_characters
        self.active = 0
        self._queue: deque[_Job] = deque()
        self._wakeup = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tagger")
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.cancel()
            with suppress(asyncio.CancelledError):
                await self._worker
        for job in self._queue:
            job.result.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    @contextmanager
    def admit(self) -> Iterator[None]:
        """Count a request as active, from before its body is read until its documents are tagged.

        Raises:
            QueueFull: the maximum number of active requests is reached.
        """
        if self.active >= self._max_queue:
            raise QueueFull(f"{self.active} requests are active")
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    async def tag(self, documents: Sequence[Document]) -> list[Document]:
        """Tag documents, in order. If cancelled, the request leaves the queue.

        Raises:
            InputError: the tagger cannot process a document.
            RuntimeError: the tagger failed.
        """
        loop = asyncio.get_running_loop()
        size = sum(len(document.text) + 1 for document in documents)
        job = _Job(documents, size, loop.time(), loop.create_future())
        self._queue.append(job)
        self._wakeup.set()
        try:
            return await job.result
        finally:
            with suppress(ValueError):
                self._queue.remove(job)

    async def _work(self) -> None:
        """Tag batch after batch until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next_batch()
            try:
                results = await loop.run_in_executor(self._thread, self._tag_batch, batch)
            except asyncio.CancelledError:
                for job in batch:
                    job.result.cancel()
                raise
            for job, result in zip(batch, results, strict=True):
                if job.result.done():  # The client has disconnected.
                    continue
                if isinstance(result, Exception):
                    job.result.set_exception(result)
                else:
                    job.result.set_result(result)

    async def _next_batch(self) -> list[_Job]:
        """Wait until the queue fills a batch or its first request has waited long enough; then take the batch."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                remaining = None
            elif sum(job.size for job in self._queue) >= self._max_characters:
                break
            else:
                remaining = self._queue[0].arrived + self._max_wait - loop.time()
                if remaining <= 0:
                    break
            self._wakeup.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(remaining):
                    await self._wakeup.wait()
        batch = [self._queue.popleft()]
        size = batch[0].size
        while self._queue and size + self._queue[0].size <= self._max_characters:
            batch.append(self._queue.popleft())
            size += batch[-1].size
        return batch

    def _tag_batch(self, batch: Sequence[_Job]) -> list[list[Document] | Exception]:
        """Return the tagged documents of each request, or the error. Runs in the tagger's thread."""
        documents = [document for job in batch for document in job.documents]
        try:
            tagged = list(self._tag(documents))
            if len(tagged) != len(documents):
                raise RuntimeError(f"{len(documents)} documents came back as {len(tagged)}")
        # A panic of the tokenizer (in Rust) is not an Exception, and must not end the worker either.
        except BaseException as error:
            if len(batch) > 1:  # Only the request that caused the error may fail.
                return [self._tag_batch([job])[0] for job in batch]
            if isinstance(error, InputError):
                return [error]
            failure = RuntimeError(f"the tagger failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            return [failure]
        remaining = iter(tagged)
        return [list(islice(remaining, len(job.documents))) for job in batch]
