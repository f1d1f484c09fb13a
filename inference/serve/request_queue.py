"""Requests that wait at the same time are tagged together, in one thread, and each is handed its part."""

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

#: Characters that are tagged together at most, but for a request that is longer by itself.
BATCH_CHARACTERS = 32_768


class QueueFull(RuntimeError):
    """All max_queue are taken."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A request's documents, in line.

    Args:
        documents: what to tag.
        size: characters of all of them, and one a document.
        arrived: when it came, in the loop's seconds.
        result: where its part goes.
    """

    documents: Sequence[Document]
    size: int
    arrived: float
    result: asyncio.Future[list[Document]]


class RequestQueue:
    """Tags what is in line, batch by batch, first come, first served; entered with ``async with``.

    Args:
        tag: gives documents with the names in them, in order; only one thread calls it.
        max_queue: requests that may be in the house at once.
        wait: seconds that a request waits at most for others to be tagged with, while the tagger is idle.
        characters: what a batch holds at most.

    Attributes:
        taken: how many max_queue are taken.
    """

    def __init__(
        self,
        tag: Callable[[Sequence[Document]], Iterable[Document]],
        *,
        max_queue: int,
        wait: float,
        characters: int = BATCH_CHARACTERS,
    ) -> None:
        self._tag, self._max_queue, self._wait, self._characters = tag, max_queue, wait, characters
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
        """A place for one request, from before it is read until its part is handed over.

        Raises:
            Full: there is none.
        """
        if self.active >= self._max_queue:
            raise QueueFull(f"{self.active} requests are waiting")
        self.active += 1
        try:
            yield
        finally:
            self.active -= 1

    async def tag(self, documents: Sequence[Document]) -> list[Document]:
        """The documents with the names found in them, in order. Cancelled, it leaves the line.

        Raises:
            InputError: the tagger cannot take one of them.
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
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._next()
            try:
                results = await loop.run_in_executor(self._thread, self._results, batch)
            except asyncio.CancelledError:
                for job in batch:
                    job.result.cancel()
                raise
            for job, result in zip(batch, results, strict=True):
                if job.result.done():  # The client has gone.
                    continue
                if isinstance(result, Exception):
                    job.result.set_exception(result)
                else:
                    job.result.set_result(result)

    async def _next(self) -> list[_Job]:
        """The next batch, once there is one to tag and it is full or its first request has waited long enough."""
        loop = asyncio.get_running_loop()
        while True:
            if not self._queue:
                left = None
            elif sum(job.size for job in self._queue) >= self._characters:
                break
            else:
                left = self._queue[0].arrived + self._wait - loop.time()
                if left <= 0:
                    break
            self._wakeup.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wakeup.wait()
        batch = [self._queue.popleft()]
        size = batch[0].size
        while self._queue and size + self._queue[0].size <= self._characters:
            batch.append(self._queue.popleft())
            size += batch[-1].size
        return batch

    def _results(self, batch: Sequence[_Job]) -> list[list[Document] | Exception]:
        """Each request's part, or why there is none; called in the tagger's thread."""
        given = [document for job in batch for document in job.documents]
        try:
            tagged = list(self._tag(given))
            if len(tagged) != len(given):
                raise RuntimeError(f"{len(given)} documents came back as {len(tagged)}")
        # A panic of the tokenizer's is no Exception, and must not end the thread's work either.
        except BaseException as error:
            if len(batch) > 1:
                return [self._results([job])[0] for job in batch]
            if isinstance(error, InputError):
                return [error]
            failure = RuntimeError(f"the tagger failed: {type(error).__name__}: {error}")
            failure.__cause__ = error
            return [failure]
        rest = iter(tagged)
        return [list(islice(rest, len(job.documents))) for job in batch]
