"""The request queue, with taggers whose result is known."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.inference.serve.request_queue import BATCH_CHARACTERS, QueueFull, RequestQueue

#: Limit for everything that must happen at some time, also on a busy machine.
SECONDS = 60


class Panic(BaseException):
    """An error that is not an ``Exception``, as a library in another language raises it."""


class Tagger:
    """Finds one name in each text, the whole text. Records its batches, and waits at a gate."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        if open_gate:
            self.gate.set()

    def __call__(self, documents: Sequence[Document]) -> Iterable[Document]:
        self.batches.append([document.text for document in documents])
        self.threads.add(threading.get_ident())
        assert self.gate.wait(SECONDS)
        for document in documents:
            if document.text == "bad":
                raise InputError("bad text")
            if document.text == "panic":
                raise Panic("at line 1")
            if document.text != "lost":
                yield document.with_spans([Span(0, len(document.text), "ALL", 1.0)])

    async def started(self) -> None:
        """Wait until the first batch is being tagged."""
        async with asyncio.timeout(SECONDS):
            while not self.batches:
                await asyncio.sleep(0.001)


def documents(*texts: str) -> list[Document]:
    return [Document(text, text) for text in texts]


def send_together(
    tagger: Callable[..., Any], *requests: Sequence[str], wait: float = 0.02, characters: int = BATCH_CHARACTERS
) -> list[Any]:
    """Send requests at the same time and return the result or error of each."""

    async def serve() -> list[Any]:
        async with RequestQueue(tagger, max_active=len(requests), max_wait=wait, max_characters=characters) as queue:
            waiting = (queue.tag(documents(*texts)) for texts in requests)
            return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), SECONDS)

    return asyncio.run(serve())


def texts_of(tagged: list[Document]) -> list[str]:
    """Return the texts of tagged documents, in each of which the whole text must be a name."""
    assert all([(span.start, span.end) for span in document.spans] == [(0, len(document.text))] for document in tagged)
    return [document.text for document in tagged]


def test_concurrent_requests_share_a_batch_and_get_their_own_documents() -> None:
    tagger = Tagger()
    requests = [["a", "b"], ["c"], [], ["d", "e", "f"]]
    assert [texts_of(tagged) for tagged in send_together(tagger, *requests)] == requests
    assert tagger.batches == [["a", "b", "c", "d", "e", "f"]]


def test_a_batch_is_limited_by_characters_unless_it_is_one_request() -> None:
    tagger = Tagger()
    requests = [["aaa"], ["bb", "b"], ["c" * 20], ["d"], ["e"]]  # A document counts as one character more than it has.
    assert [texts_of(tagged) for tagged in send_together(tagger, *requests, characters=9)] == requests
    assert tagger.batches == [["aaa", "bb", "b"], ["c" * 20], ["d", "e"]]


def test_a_full_batch_does_not_wait() -> None:
    began = time.monotonic()
    send_together(Tagger(), ["aaa"], ["bbbb"], wait=1000, characters=9)
    assert time.monotonic() - began < SECONDS


def test_a_single_request_waits_for_the_given_time() -> None:
    began = time.monotonic()
    assert texts_of(send_together(Tagger(), ["a"], wait=0.2)[0]) == ["a"]
    assert 0.19 < time.monotonic() - began < SECONDS


def test_requests_that_arrive_while_the_tagger_works_are_the_next_batch() -> None:
    tagger = Tagger(open_gate=False)

    async def serve() -> None:
        async with RequestQueue(tagger, max_active=9, max_wait=0) as queue:
            first = asyncio.create_task(queue.tag(documents("first")))
            await tagger.started()
            rest = [asyncio.create_task(queue.tag(documents(str(number)))) for number in range(5)]
            await asyncio.sleep(0)  # Every task now waits in the queue.
            assert len(tagger.batches) == 1
            tagger.gate.set()
            assert [texts_of(await task) for task in (first, *rest)] == [["first"], *([str(n)] for n in range(5))]

    asyncio.run(serve())
    assert tagger.batches == [["first"], ["0", "1", "2", "3", "4"]]
    assert len(tagger.threads) == 1


@pytest.mark.parametrize(
    ("culprit", "kind", "message"),
    [
        ("bad", InputError, "bad text"),
        ("panic", RuntimeError, "the tagger failed: Panic: at line 1"),
        ("lost", RuntimeError, "the tagger failed: RuntimeError: 2 documents came back as 1"),
    ],
)
def test_a_failing_request_does_not_affect_the_others(culprit: str, kind: type, message: str) -> None:
    first, second, third = send_together(Tagger(), ["a"], ["b", culprit], ["c"])
    assert (texts_of(first), texts_of(third)) == (["a"], ["c"])
    assert type(second) is kind
    assert str(second) == message


def test_the_queue_works_on_after_a_failure() -> None:
    async def serve() -> None:
        async with RequestQueue(Tagger(), max_active=1, max_wait=0) as queue:
            with pytest.raises(RuntimeError, match="Panic"):
                await queue.tag(documents("panic"))
            assert texts_of(await queue.tag(documents("a"))) == ["a"]

    asyncio.run(serve())


def test_a_cancelled_request_leaves_the_queue_and_is_no_longer_active() -> None:
    tagger = Tagger(open_gate=False)

    async def request(queue: RequestQueue, text: str) -> list[Document]:
        with queue.admit():
            return await queue.tag(documents(text))

    async def serve() -> None:
        async with RequestQueue(tagger, max_active=3, max_wait=0) as queue:
            tasks = [asyncio.create_task(request(queue, "tagged"))]
            await tagger.started()
            tasks += [asyncio.create_task(request(queue, text)) for text in ("gone", "stays")]
            await asyncio.sleep(0)
            assert queue.active == 3
            with pytest.raises(QueueFull, match="3 requests are active"):
                await request(queue, "one more")
            for task in tasks[:2]:
                task.cancel()
            await asyncio.wait(tasks[:2])
            assert queue.active == 1
            tagger.gate.set()
            assert texts_of(await tasks[2]) == ["stays"]
            assert queue.active == 0

    asyncio.run(serve())
    assert tagger.batches == [["tagged"], ["stays"]]


def test_closing_cancels_waiting_requests() -> None:
    tagger = Tagger(open_gate=False)

    async def serve() -> list[Any]:
        async with RequestQueue(tagger, max_active=2, max_wait=0) as queue:
            tasks = [asyncio.create_task(queue.tag(documents("a")))]
            await tagger.started()
            tasks.append(asyncio.create_task(queue.tag(documents("b"))))
            await asyncio.sleep(0)  # The second task now waits in the queue.
            tagger.gate.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), SECONDS)

    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in asyncio.run(serve()))
