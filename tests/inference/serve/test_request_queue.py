"""Batches of requests that wait together, with taggers whose answer is known."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.inference.serve.request_queue import QueueFull, RequestQueue


class Panic(BaseException):
    """What a library in another language raises."""


class Tagger:
    """Marks each text as a whole, keeps what it was given together, and stops at a gate."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        if open_gate:
            self.gate.set()

    def __call__(self, documents: Sequence[Document]) -> Iterable[Document]:
        self.batches.append([document.text for document in documents])
        self.threads.add(threading.get_ident())
        assert self.gate.wait(10)
        for document in documents:
            if document.text == "bad":
                raise InputError("bad text")
            if document.text == "panic":
                raise Panic("at line 1")
            if document.text != "lost":
                yield document.with_spans([Span(0, len(document.text), "ALL", 1.0)])


def documents(*texts: str) -> list[Document]:
    return [Document(text, text) for text in texts]


def served(tagger: Callable[..., Any], *requests: Sequence[str], wait: float = 0.02, **options: Any) -> list[Any]:
    """What each of some requests gets that come at once."""

    async def serve() -> list[Any]:
        async with RequestQueue(tagger, max_queue=len(requests), wait=wait, **options) as batcher:
            waiting = (batcher.tag(documents(*texts)) for texts in requests)
            return await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 10)

    return asyncio.run(serve())


def texts_of(answer: list[Document]) -> list[str]:
    assert all([(span.start, span.end) for span in document.spans] == [(0, len(document.text))] for document in answer)
    return [document.text for document in answer]


def test_requests_that_come_together_are_tagged_together_and_parted_again() -> None:
    tagger = Tagger()
    requests = [["a", "b"], ["c"], [], ["d", "e", "f"]]
    assert [texts_of(answer) for answer in served(tagger, *requests)] == requests
    assert tagger.batches == [["a", "b", "c", "d", "e", "f"]]


def test_a_batch_holds_so_many_characters_or_one_request() -> None:
    tagger = Tagger()
    requests = [["aaa"], ["bb", "b"], ["c" * 20], ["d"], ["e"]]  # a document counts for one character more
    assert [texts_of(answer) for answer in served(tagger, *requests, characters=9)] == requests
    assert tagger.batches == [["aaa", "bb", "b"], ["c" * 20], ["d", "e"]]


def test_a_full_batch_does_not_wait() -> None:
    begin = time.monotonic()
    served(Tagger(), ["aaa"], ["bbbb"], wait=9, characters=9)
    assert time.monotonic() - begin < 5


def test_a_request_alone_waits_no_longer_than_is_said() -> None:
    begin = time.monotonic()
    assert texts_of(served(Tagger(), ["a"], wait=0.2)[0]) == ["a"]
    assert 0.19 < time.monotonic() - begin < 5


def test_what_comes_while_the_tagger_works_is_the_next_batch() -> None:
    tagger = Tagger(open_gate=False)

    async def serve() -> None:
        async with RequestQueue(tagger, max_queue=9, wait=0) as batcher:
            first = asyncio.create_task(batcher.tag(documents("first")))
            while not tagger.batches:
                await asyncio.sleep(0.001)
            rest = [asyncio.create_task(batcher.tag(documents(str(number)))) for number in range(5)]
            await asyncio.sleep(0.05)
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
def test_one_request_that_fails_does_not_break_the_others(culprit: str, kind: type, message: str) -> None:
    first, second, third = served(Tagger(), ["a"], ["b", culprit], ["c"])
    assert (texts_of(first), texts_of(third)) == (["a"], ["c"])
    assert type(second) is kind
    assert str(second) == message


def test_it_goes_on_after_a_failure() -> None:
    async def serve() -> None:
        async with RequestQueue(Tagger(), max_queue=1, wait=0) as batcher:
            with pytest.raises(RuntimeError, match="Panic"):
                await batcher.tag(documents("panic"))
            assert texts_of(await batcher.tag(documents("a"))) == ["a"]

    asyncio.run(serve())


def test_who_gives_up_leaves_the_line_and_the_place() -> None:
    tagger = Tagger(open_gate=False)

    async def request(batcher: RequestQueue, text: str) -> list[Document]:
        with batcher.admit():
            return await batcher.tag(documents(text))

    async def serve() -> None:
        async with RequestQueue(tagger, max_queue=3, wait=0) as batcher:
            tasks = [asyncio.create_task(request(batcher, "tagged"))]
            while not tagger.batches:
                await asyncio.sleep(0.001)
            tasks += [asyncio.create_task(request(batcher, text)) for text in ("gone", "stays")]
            await asyncio.sleep(0)
            assert batcher.active == 3
            with pytest.raises(QueueFull, match="3 requests are waiting"):
                await request(batcher, "one more")
            for task in tasks[:2]:
                task.cancel()
            await asyncio.wait(tasks[:2])
            assert batcher.active == 1
            tagger.gate.set()
            assert texts_of(await tasks[2]) == ["stays"]
            assert batcher.active == 0

    asyncio.run(serve())
    assert tagger.batches == [["tagged"], ["stays"]]


def test_closing_leaves_nobody_waiting() -> None:
    tagger = Tagger(open_gate=False)

    async def serve() -> list[Any]:
        async with RequestQueue(tagger, max_queue=2, wait=0) as batcher:
            tasks = [asyncio.create_task(batcher.tag(documents("a")))]
            while not tagger.batches:
                await asyncio.sleep(0.001)
            tasks.append(asyncio.create_task(batcher.tag(documents("b"))))
            await asyncio.sleep(0.01)
            tagger.gate.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)

    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in asyncio.run(serve()))
