"""The request queue: a single thread tags short requests in shared batches, and long requests in steps.

The tagger takes turns, and a turn takes one batch at most:

1. Short requests, which fit one batch, come first. Those that wait at the same time share a batch, in the order of arrival.
2. Of the long requests the one with the least remaining work gets the next step (shortest remaining processing time).
3. For every character of others that is tagged before it, the request that arrived first is owed one. While it is owed any, it
   gets the next turn. So the oldest request gets at least half of the tagger, and no request takes more than about twice as long
   as in the order of arrival.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Protocol, Self

from musamma.data.document import Document
from musamma.data.errors import InputError
from musamma.inference.serve.service_metrics import ServiceMetrics

#: Pieces per batch on a CPU. Short requests wait for a batch of a long one, which takes a tenth of a second on two cores.
CPU_BATCH_TOKENS = 512
# Characters of an average piece, a little more than measured on news, because windows overlap.
_CHARACTERS_PER_PIECE = 4


class StepTagger(Protocol):
    """The part of a tagger that the queue uses. One thread calls it."""

    @property
    def batch_tokens(self) -> int:
        """Pieces per batch."""

    def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        """Yield the documents with the names found in them, in order."""

    def tag_in_steps(self, documents: Sequence[Document]) -> Generator[float, None, list[Document]]:
        """Yield the share of the work that is done after each step, and return the documents with the names found in them."""


class QueueFull(RuntimeError):
    """The maximum number of active requests is reached."""


@dataclass(slots=True, eq=False, kw_only=True)
class _Job:
    """The documents of a waiting request.

    Args:
        documents: the documents to tag.
        size: their characters plus one per document.
        arrived: arrival time, in seconds of the event loop's clock.
        result: receives the tagged documents.
        remaining: characters that are not tagged yet.
        began: time at which its tagging began.
        steps: the steps of a long request, once it has begun.
    """

    documents: Sequence[Document]
    size: int
    arrived: float
    result: asyncio.Future[list[Document]]
    remaining: float
    began: float | None = None
    steps: Generator[float, None, list[Document]] | None = None


class RequestQueue:
    """Tags waiting requests. Use it with ``async with``.

    Args:
        tagger: the tagger; called by one thread only.
        max_active: maximum number of active requests.
        max_wait: seconds that an idle tagger waits for more requests to fill a batch.
        max_characters: maximum number of characters in a batch; by default what the tagger's batches hold. A longer request is
            tagged in steps.
        metrics: the metrics to update.

    Attributes:
        active: requests that are being read, waiting or being tagged.
    """

    def __init__(
        self,
        tagger: StepTagger,
        *,
        max_active: int,
        max_wait: float,
        max_characters: int | None = None,
        metrics: ServiceMetrics | None = None,
    ) -> None:
        self._tagger, self._max_queue, self._max_wait = tagger, max_active, max_wait
        self._max_characters = max_characters or _CHARACTERS_PER_PIECE * tagger.batch_tokens
        self.active = 0
        self._metrics = metrics or ServiceMetrics()
        self._metrics.watch_queue(
            active=lambda: self.active, queued=lambda: sum(job.began is None for job in self._queue)
        )
        # In the order of arrival.
        self._queue: list[_Job] = []
        # Characters that were tagged before their turn; see rule 3.
        self._owed = 0
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
    def admit(self, make_room: Callable[[], bool] = lambda: False) -> Iterator[None]:
        """Count a request as active, from before its body is read until its documents are tagged.

        Args:
            make_room: called if the maximum number of active requests is reached; ends one, or returns ``False``.

        Raises:
            QueueFull: the maximum number of active requests is reached.
        """
        if self.active >= self._max_queue and not make_room():
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
        result: asyncio.Future[list[Document]] = loop.create_future()
        job = _Job(documents=documents, size=size, arrived=loop.time(), result=result, remaining=size)
        self._queue.append(job)
        self._wakeup.set()
        try:
            return await result
        finally:
            with suppress(ValueError):
                self._queue.remove(job)
            if job.steps is not None:
                # In the tagger's thread, because a step may be running. The thread is closed if the queue is.
                with suppress(RuntimeError):
                    self._thread.submit(job.steps.close)

    async def _work(self) -> None:
        """Take turn after turn until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._wait_for_requests()
            turn = self._choose_turn()
            is_step = turn[0].size > self._max_characters
            began = loop.time()
            for job in turn:
                if job.began is None:
                    job.began = began
                    self._metrics.wait.observe(began - job.arrived)
            results = await loop.run_in_executor(self._thread, self._tag_step if is_step else self._tag_batch, turn)
            ended = loop.time()
            self._metrics.batches.labels("step" if is_step else "shared").inc()
            self._metrics.busy.inc(ended - began)
            for job, result in zip(turn, results, strict=True):
                if result is None or job.result.done():  # It needs more steps, or the client has disconnected.
                    continue
                self._metrics.tagging.observe(ended - (job.began or began))
                if isinstance(result, Exception):
                    job.result.set_exception(result)
                else:
                    self._metrics.count_tagged(result)
                    job.result.set_result(result)

    async def _wait_for_requests(self) -> None:
        """Wait until the queue fills a batch or its first request has waited long enough."""
        loop = asyncio.get_running_loop()
        while True:
            self._queue = [job for job in self._queue if not job.result.done()]
            if not self._queue:
                remaining = None
                self._owed = 0
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

    def _choose_turn(self) -> list[_Job]:
        """Choose short requests for a batch, or a long one for its next step."""
        oldest = self._queue[0]
        short = [job for job in self._queue if job.size <= self._max_characters]
        if self._owed > 0 and oldest not in short:
            turn = [oldest]
        elif short:
            turn = self._fill_batch(short)
        else:
            turn = [min(self._queue, key=lambda job: job.remaining)]
        if oldest in turn:
            self._owed = max(self._owed - self._max_characters, -self._max_characters)
        else:
            self._owed += min(self._max_characters, sum(job.size for job in turn))
        return turn

    def _fill_batch(self, short: Sequence[_Job]) -> list[_Job]:
        """Return the first requests that fit a batch together."""
        batch, size = [short[0]], short[0].size
        for job in short[1:]:
            size += job.size
            if size > self._max_characters:
                break
            batch.append(job)
        return batch

    def _tag_step(self, turn: Sequence[_Job]) -> list[list[Document] | Exception | None]:
        """Take the next step of a long request; return its tagged documents after the last one. Runs in the tagger's thread."""
        (job,) = turn
        try:
            if job.steps is None:
                job.steps = self._tagger.tag_in_steps(job.documents)
            try:
                job.remaining = job.size * (1 - next(job.steps))
            except StopIteration as stop:
                return [_check_number(job.documents, stop.value)]
        # A panic of the tokenizer (in Rust) is not an Exception, and must not end the worker either.
        except BaseException as error:
            return [_as_failure(error)]
        return [None]

    def _tag_batch(self, batch: Sequence[_Job]) -> Sequence[list[Document] | Exception]:
        """Return the tagged documents of each request, or the error. Runs in the tagger's thread."""
        documents = [document for job in batch for document in job.documents]
        try:
            tagged = _check_number(documents, list(self._tagger.tag_documents(documents)))
        except BaseException as error:
            if len(batch) > 1:  # Only the request that caused the error may fail.
                return [self._tag_batch([job])[0] for job in batch]
            return [_as_failure(error)]
        remaining = iter(tagged)
        return [list(islice(remaining, len(job.documents))) for job in batch]


def _check_number(documents: Sequence[Document], tagged: list[Document]) -> list[Document]:
    """Return the tagged documents.

    Raises:
        RuntimeError: some are missing.
    """
    if len(tagged) != len(documents):
        raise RuntimeError(f"{len(documents)} documents came back as {len(tagged)}")
    return tagged


def _as_failure(error: BaseException) -> Exception:
    """Return the error that the request gets."""
    if isinstance(error, InputError):
        return error
    failure = RuntimeError(f"the tagger failed: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure
