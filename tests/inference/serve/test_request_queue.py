"""The request queue, with taggers whose result is known."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Any

import pytest

from musamma.data.document import Document, Span
from musamma.data.errors import InputError
from musamma.inference.serve.request_queue import QueueFull, RequestQueue

#: Limit for everything that must happen at some time, also on a busy machine.
SECONDS = 60


class Panic(BaseException):
    """An error that is not an ``Exception``, as a library in another language raises it."""


class Tagger:
    """Finds one name in each text, the whole text. A step is a character. Records its batches, and waits at a gate."""

    batch_tokens = 8192

    def __init__(self, *, open_gate: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.closed: list[list[str]] = []
        self.threads: set[int] = set()
        self.gate = threading.Event()
        if open_gate:
            self.gate.set()

    def tag_documents(self, documents: Iterable[Document]) -> Iterator[Document]:
        self._begin(list(documents))
        yield from self._tag(documents)

    def tag_in_steps(self, documents: Sequence[Document]) -> Generator[float, None, list[Document]]:
        size = sum(len(document.text) for document in documents)
        try:
            for done in range(size):
                self._begin(documents)
                yield done / size
            return list(self._tag(documents))
        finally:
            self.closed.append([document.text for document in documents])

    def _begin(self, documents: Sequence[Document]) -> None:
        self.batches.append([document.text for document in documents])
        self.threads.add(threading.get_ident())
        assert self.gate.wait(SECONDS)

    def _tag(self, documents: Iterable[Document]) -> Iterator[Document]:
        for document in documents:
            if document.text.startswith("bad"):
                raise InputError("bad text")
            if document.text.startswith("panic"):
                raise Panic("at line 1")
            if not document.text.startswith("lost"):
                yield document.with_spans([Span(0, len(document.text), "ALL", 1.0)])

    async def started(self) -> None:
        """Wait until the first batch is being tagged."""
        async with asyncio.timeout(SECONDS):
            while not self.batches:
                await asyncio.sleep(0.001)


def documents(*texts: str) -> list[Document]:
    return [Document(text, text) for text in texts]


def send_together(
    tagger: Tagger, *requests: Sequence[str], wait: float = 0.02, characters: int | None = None
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


def test_a_batch_is_limited_by_characters() -> None:
    tagger = Tagger()
    requests = [["aaa"], ["bb", "b"], ["c" * 8], ["d"], ["e"]]  # A document counts as one character more than it has.
    assert [texts_of(tagged) for tagged in send_together(tagger, *requests, characters=9)] == requests
    assert tagger.batches == [["aaa", "bb", "b"], ["c" * 8], ["d", "e"]]


def test_the_default_limit_is_what_a_batch_of_the_tagger_holds() -> None:
    tagger = Tagger()
    tagger.batch_tokens = 3
    send_together(tagger, ["aaaa"], ["bbbbbb"], ["c" * 12])
    assert tagger.batches == [["aaaa", "bbbbbb"], *[["c" * 12]] * 12]


# The order of the turns


def order_of_turns(first: str, *later: str, cancelled: Sequence[str] = ()) -> str:
    """Send a text, and others during its first step; return the first letters of the texts of each turn."""
    tagger = Tagger(open_gate=False)

    async def serve() -> None:
        async with RequestQueue(tagger, max_active=99, max_wait=0, max_characters=5) as queue:
            tasks = {first: asyncio.create_task(queue.tag(documents(first)))}
            await tagger.started()
            tasks |= {text: asyncio.create_task(queue.tag(documents(text))) for text in later}
            await asyncio.sleep(0)  # Every task now waits in the queue.
            for text in cancelled:
                tasks[text].cancel()
            await asyncio.sleep(0)
            tagger.gate.set()
            async with asyncio.timeout(SECONDS):
                for text in tasks.keys() - cancelled:
                    assert texts_of(await tasks[text]) == [text]

    asyncio.run(serve())
    return " ".join("".join(text[0] for text in batch) for batch in tagger.batches)


def test_short_requests_come_between_the_steps_of_a_long_one() -> None:
    assert order_of_turns("l" * 6, "a", "b", "c", "d") == "l ab cd l l l l l"


def test_the_oldest_request_gets_every_second_turn() -> None:
    assert order_of_turns("l" * 6, "aaaa", "bbbb", "cccc", "dddd") == "l a b l c l d l l l"


def test_of_long_requests_the_one_with_the_least_remaining_work_comes_first() -> None:
    """The one that arrived first still gets half of the turns."""
    order = "l o o l o l o l o l o l l l l n n m n m n m n m n m n m m m"
    assert order_of_turns("l" * 9, "m" * 8, "n" * 7, "o" * 6) == order


def test_a_cancelled_long_request_takes_no_further_step() -> None:
    assert order_of_turns("l" * 9, "m" * 8, "s", cancelled=["l" * 9]) == "l s" + " m" * 8


def test_a_cancelled_request_is_closed() -> None:
    """It frees what the tagger keeps for it."""
    tagger = Tagger(open_gate=False)

    async def serve() -> None:
        async with RequestQueue(tagger, max_active=1, max_wait=0, max_characters=5) as queue:
            task = asyncio.create_task(queue.tag(documents("l" * 9)))
            await tagger.started()
            task.cancel()
            await asyncio.wait([task])
            assert not tagger.closed  # Its step is still running.
            tagger.gate.set()
            assert texts_of(await queue.tag(documents("a"))) == ["a"]
            assert tagger.closed == [["l" * 9]]

    asyncio.run(serve())
    assert tagger.batches == [["l" * 9], ["a"]]


def test_a_flood_of_short_requests_leaves_a_long_one_half_of_the_turns() -> None:
    tagger = Tagger()

    async def serve() -> None:
        async with RequestQueue(tagger, max_active=99, max_wait=0, max_characters=5) as queue:
            done = asyncio.Event()

            async def flood(text: str) -> None:
                while not done.is_set():
                    assert texts_of(await queue.tag(documents(text))) == [text]

            async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
                for text in ("aaaa", "bbbb", "cccc"):
                    group.create_task(flood(text))
                assert texts_of(await queue.tag(documents("l" * 50))) == ["l" * 50]
                done.set()

    asyncio.run(serve())
    turns = [batch[0][0] for batch in tagger.batches]
    first, last = turns.index("l"), len(turns) - turns[::-1].index("l")
    assert 95 <= last - first <= 105
    assert first <= 6


@pytest.mark.parametrize(
    ("culprit", "kind", "message"),
    [
        ("bad" * 2, InputError, "bad text"),
        ("panic" * 2, RuntimeError, "the tagger failed: Panic: at line 1"),
        ("lost" * 2, RuntimeError, "the tagger failed: RuntimeError: 1 documents came back as 0"),
    ],
)
def test_a_failing_long_request_does_not_affect_the_others(culprit: str, kind: type, message: str) -> None:
    first, second, third = send_together(Tagger(), ["a"], [culprit], ["l" * 9], characters=5)
    assert (texts_of(first), texts_of(third)) == (["a"], ["l" * 9])
    assert type(second) is kind
    assert str(second) == message


# Batches and failures


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
