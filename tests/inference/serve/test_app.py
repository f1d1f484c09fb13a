"""The service over ASGI, with a tagger whose result is known."""

from __future__ import annotations

import asyncio
import json
import re
import tracemalloc
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from musamma.inference.serve import Limits, create_app
from musamma.inference.serve.schemas import ErrorResponse, HealthResponse, PredictResponse
from tests.inference.serve.known_names import NAMES, SECONDS, Tagger


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    limits = Limits(max_characters=1000, max_texts=3, batch_wait=0)
    with TestClient(create_app(Tagger(), limits=limits), raise_server_exceptions=False) as client:
        yield client


def ask(client: TestClient, status: int = 200, /, **body: Any) -> Any:
    """Post a request, check the status and the shape of the response, and return its JSON."""
    response = client.post("/predict", json=body)
    assert response.status_code == status, response.text
    (PredictResponse if status == 200 else ErrorResponse).model_validate_json(response.text, extra="forbid")
    return response.json()


# Responses


def test_one_text(client: TestClient) -> None:
    assert ask(client, text="زار محمد بيروت") == {
        "offsets": "code_points",
        "documents": [
            {
                "id": "0",
                "text": "زار محمد بيروت",
                "spans": [
                    {"start": 4, "end": 8, "label": "PER", "score": 0.3, "text": "محمد"},
                    {"start": 9, "end": 14, "label": "GPE", "score": 0.9, "text": "بيروت"},
                ],
            }
        ],
    }


def test_several_texts_and_documents_in_order(client: TestClient) -> None:
    texts = ask(client, texts=["بغداد", "", "بيروت"])["documents"]
    assert [(d["id"], d["text"], len(d["spans"])) for d in texts] == [
        ("0", "بغداد", 1),
        ("1", "", 0),
        ("2", "بيروت", 1),
    ]
    meta = {"source": "رويترز", "a": [1.5, None, {"b": []}]}
    given = [
        {"id": "ب", "text": "بغداد", "meta": meta},
        {"id": "أ", "text": "محمد"},
        {"id": "c", "text": "", "meta": {}},
    ]
    found = ask(client, documents=given)["documents"]
    assert [{key: value for key, value in document.items() if key != "spans"} for document in found] == given
    assert [[span["label"] for span in document["spans"]] for document in found] == [["GPE"], ["PER"], []]
    assert ask(client, texts=[]) == {"offsets": "code_points", "documents": []}


def test_the_minimum_score_of_a_request(client: TestClient) -> None:
    for minimum, names in {0: 3, 0.6: 2, 0.61: 1, 1: 0}.items():
        (found,) = ask(client, text="محمد بغداد بيروت", min_score=minimum)["documents"]
        assert len(found["spans"]) == names


PIECES = ["بيروت", "بغداد", "😀", "\U0010ffff", "\u202e", "\x00", "a", " ", "\n", "قَ", "\ufeff"]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_offsets_in_both_units(client: TestClient, text: str) -> None:
    points = ask(client, text=text)["documents"][0]
    units = ask(client, text=text, offsets="utf16")["documents"][0]
    assert points["text"] == units["text"] == text
    wide = text.encode("utf-16-le")
    for point, unit in zip(points["spans"], units["spans"], strict=True):
        assert text[point["start"] : point["end"]] == point["text"] in NAMES
        assert wide[2 * unit["start"] : 2 * unit["end"]].decode("utf-16-le") == unit["text"] == point["text"]
    assert len(points["spans"]) == len(re.findall("|".join(NAMES), text))


@pytest.mark.parametrize("text", ["", " \n\t", "\x00", "\u202e\u2066\u200f", "\ufffe", "<script>", "كلمة" * 250])
def test_odd_texts_are_valid(client: TestClient, text: str) -> None:
    assert ask(client, text=text)["documents"] == [{"id": "0", "text": text, "spans": []}]


# Refused requests


@pytest.mark.parametrize(
    ("body", "status", "error"),
    [
        (b"", 400, "request body: broken JSON: "),
        (b'{"text": ', 400, "request body: broken JSON: "),
        (b'{"text": "\\ud800"}', 400, "request body: broken JSON: no low surrogate in string"),
        (b'{"text": "a", "min_score": NaN}', 400, "request body: broken JSON: "),
        (b'{"text": "\xff"}', 400, "request body: byte 0xff at byte 11 is not UTF-8; expected UTF-8"),
        (b'{"text": "\xed\xa0\x80"}', 400, "request body: byte 0xed at byte 11 is not UTF-8; expected UTF-8"),
        (b"[" * 5000, 400, "request body: broken JSON: "),
        (b"[]", 422, "request body: a list; expected a JSON object"),
        (b"null", 422, "request body: null; expected a JSON object"),
        (b"{}", 422, "request body: no text; expected one of 'text', 'texts', 'documents'"),
        (b'{"text": null}', 422, "request body: no text; expected one of"),
        (b'{"text": "", "texts": []}', 422, "request body: 'text' and 'texts'; expected one of"),
        (b'{"text": 5}', 422, "text: 5; expected a string"),
        (b'{"text": ["a"]}', 422, "text: a list; expected a string"),
        (b'{"texts": "a"}', 422, 'texts: "a"; expected a list'),
        (b'{"texts": ["a", null]}', 422, "texts[1]: null; expected a string"),
        (b'{"text": "a", "langu\\u202eage": 1}', 422, "request body: unknown key 'langu\\u202eage'; expected keys among text,"),
        (b'{"text": "a", "' + b"x" * 999 + b'": 1}', 422, f"request body: unknown key '{'x' * 80}'; "),
        (b'{"documents": ["a"]}', 422, 'documents[0]: "a"; expected a JSON object'),
        (b'{"documents": [{"text": "a"}]}', 422, "documents[0]: no 'id'; expected 'id' in each document"),
        (b'{"documents": [{"id": "", "text": "a"}]}', 422, 'documents[0].id: ""; expected a string that is not empty'),
        (b'{"documents": [{"id": "a", "text": "a", "spans": []}]}', 422, "documents[0]: unknown key 'spans'; expected keys among id, text, meta"),
        (b'{"documents": [{"id": "a", "text": "a", "meta": []}]}', 422, "documents[0].meta: a list; expected "),
        (
            b'{"documents": [{"id": "a", "text": "", "meta": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}]}",
            422,
            "documents[0]: meta cannot be written: ",
        ),
        (b'{"text": "a", "min_score": 1.5}', 422, "min_score: 1.5; expected less than or equal to 1"),
        (b'{"text": "a", "min_score": "1"}', 422, 'min_score: "1"; expected a number'),
        (b'{"text": "a", "offsets": "bytes"}', 422, "offsets: \"bytes\"; expected 'code_points' or 'utf16'"),
        (b'{"texts": ["", "", "", ""]}', 413, "request body: 4 texts; expected at most 3 per request; send less at a time"),
        (b'{"documents": [1, 2, 3, 4]}', 413, "request body: 4 documents; expected at most 3 per request; "),
        (json.dumps({"texts": ["ن" * 600, "م" * 401]}).encode(), 413, "request body: 1,001 characters; expected at most 1,000 "),
        (b" " * 80_000, 413, "request body: the body is too long; expected at most 77,536 bytes; "),
    ],
)  # fmt: skip
def test_invalid_requests_are_refused(client: TestClient, body: bytes, status: int, error: str) -> None:
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json; charset=utf-8"})
    assert response.status_code == status
    answer = ErrorResponse.model_validate_json(response.text, extra="forbid")
    assert answer.error.startswith(error)
    assert answer.error.isprintable()
    assert answer.found
    assert answer.found[:20] in json.loads(response.text)["error"] or not answer.found.isprintable()


def test_the_maximum_number_of_characters_is_accepted_in_their_longest_spelling(client: TestClient) -> None:
    body = b'{"text": "' + b"\\ud83d\\ude00" * 1000 + b'"}'
    response = client.post("/predict", content=body, headers={"Content-Type": "application/json"})
    assert len(response.json()["documents"][0]["spans"]) == 1000


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", None])
def test_content_types_that_any_web_page_may_send_are_refused(client: TestClient, kind: str | None) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    response = client.post("/predict", content=b'{"text": "a"}', headers=headers)
    assert response.status_code == 415
    assert "curl --json" in ErrorResponse.model_validate_json(response.text).error


def test_errors_of_the_tagger(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    assert ask(client, 500, text="يفشل") == {
        "error": "the tagger failed; see the log of the service",
        "found": "the tagger failed",
        "remedy": "see the log of the service",
    }
    assert ask(client, 422, text="يرفض")["error"] == "0: a text that cannot be"
    assert len(ask(client, text="بغداد")["documents"][0]["spans"]) == 1


def test_other_paths_and_methods(client: TestClient) -> None:
    for method, path, status in [
        ("GET", "/predict", 405),
        ("POST", "/health", 405),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/../page.js/x", 404),
    ]:
        response = client.request(method, path)
        assert response.status_code == status
        assert "expected POST /predict, GET /health" in ErrorResponse.model_validate_json(response.text).error
    assert client.get("/predict").headers["Allow"] == "POST"


# Health, OpenAPI and the web page


def test_health(client: TestClient) -> None:
    health = HealthResponse.model_validate_json(client.get("/health").text)
    assert (health.status, health.model, health.labels) == ("ok", "runs/<known>", ["GPE", "ORG", "PER"])
    assert health.waiting == 0


def test_the_openapi_description_is_complete_and_its_example_works(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    references = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert references == {
        "PredictRequest",
        "InputDocument",
        "PredictResponse",
        "TaggedDocument",
        "Name",
        "ErrorResponse",
        "HealthResponse",
    }
    assert references <= set(schemas)
    assert "$defs" not in json.dumps(described)
    assert set(described["paths"]) == {"/predict", "/health", "/metrics"}
    assert "code points" in described["info"]["description"]
    for example in schemas["PredictRequest"]["examples"]:
        assert len(ask(client, **example)["documents"][0]["spans"]) == 2


def test_the_page_loads_nothing_from_other_servers(client: TestClient) -> None:
    for path, kind in {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}.items():
        response = client.get(path)
        assert response.status_code == 200
        assert response.headers["content-type"] == f"{kind}; charset=utf-8"
        assert response.headers["x-content-type-options"] == "nosniff"
        policy = response.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "unsafe" not in policy
        assert re.findall(r"//[a-z]|@import|url\(|innerHTML|style=|\bon\w+=", response.text) == []
        assert client.head(path).status_code == 200
    assert "تحرير الموصل" in client.get("/").text
    assert ".PER{background" in client.get("/page.css").text  # the colours of tagged articles


# Clients that disconnect, are slow or many


def scope(app: FastAPI) -> dict[str, Any]:
    """Return the ASGI scope of a request to ``/predict``."""
    headers = [(b"content-type", b"application/json")]
    return {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/predict",
            "raw_path": b"/predict", "query_string": b"", "root_path": "", "headers": headers, "scheme": "http",
            "app": app}  # fmt: skip


async def waiting(app: FastAPI) -> int:
    """Return the number of active requests."""
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        return (await client.get("/health")).json()["waiting"]


@pytest.mark.parametrize(("expects", "most"), [(False, 16 * 2**20 + 75_656), (True, 0)])
def test_an_endless_body_takes_no_memory(expects: bool, most: int) -> None:
    """The body is read for a while and discarded; a client that expects a response first gets it at once."""
    app = create_app(Tagger(), limits=Limits(max_characters=10, max_waiting=1))
    read, sent, part = 0, [], b" " * 10_000
    described = scope(app)
    described["headers"] += [(b"expect", b"100-continue"), (b"content-length", b"9" * 30)] if expects else []

    async def receive() -> dict[str, Any]:
        nonlocal read
        read += len(part)
        return {"type": "http.request", "body": part, "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    async def served() -> int:
        await waiting(app)  # Memory allocated at the first request does not count.
        tracemalloc.start()
        await app(described, receive, send)
        assert await waiting(app) == 0
        return tracemalloc.get_traced_memory()[1]

    try:
        assert asyncio.run(served()) < 2**20
    finally:
        tracemalloc.stop()
    assert sent[0]["status"] == 413
    assert "at most 65,656 bytes" in json.loads(sent[1]["body"])["error"]
    assert read <= most


def test_a_body_that_does_not_arrive_times_out() -> None:
    app = create_app(Tagger(), limits=Limits(read_timeout=0.05))
    parts, sent = [{"type": "http.request", "body": b'{"te', "more_body": True}], []

    async def receive() -> dict[str, Any]:
        return parts.pop() if parts else await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message)

    async def served() -> None:
        await app(scope(app), receive, send)
        assert await waiting(app) == 0

    asyncio.run(served())
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["found"] == "4 bytes of the body after 0.05 seconds"


@pytest.mark.parametrize("when", ["before the body", "in the queue"])
def test_a_client_that_disconnects_is_no_longer_active(when: str) -> None:
    tagger = Tagger()
    app = create_app(tagger, limits=Limits(batch_wait=0, max_waiting=2))
    tagger.gate.clear()
    disconnect = asyncio.Event()
    parts = [{"type": "http.request", "body": '{"text": "بغداد"}'.encode()}] if when == "in the queue" else []

    async def receive() -> dict[str, Any]:
        if parts:
            return parts.pop()
        await disconnect.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        assert message.get("status") in (None, 499)

    async def served() -> None:
        async with app.router.lifespan_context(app):
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                first = asyncio.create_task(client.post("/predict", json={"text": "بيروت"}))
                async with asyncio.timeout(SECONDS):
                    while not tagger.seen:
                        await asyncio.sleep(0.001)
                leaving = asyncio.create_task(app(scope(app), receive, send))
                async with asyncio.timeout(SECONDS):
                    while await waiting(app) < 2:
                        await asyncio.sleep(0.001)
                assert (await client.post("/predict", json={"text": ""})).status_code == 503
                disconnect.set()
                await asyncio.wait_for(leaving, SECONDS)
                assert await waiting(app) == 1
                tagger.gate.set()
                assert (await first).json()["documents"][0]["spans"]
                assert (await client.post("/predict", json={"text": ""})).status_code == 200

    asyncio.run(served())
    assert tagger.seen == 2


def test_a_flood_of_requests_is_partly_refused_and_nothing_hangs() -> None:
    app = create_app(Tagger(seconds=0.002), limits=Limits(max_waiting=20, batch_wait=0.005))

    async def one(client: httpx2.AsyncClient, number: int) -> int:
        await asyncio.sleep(number % 41 * 0.01)
        texts = [f"{'س' * (number % 7)} بغداد {number}"] * (1 + number % 3)
        if number % 10 == 0:
            texts.append("يرفض")
        response = await client.post("/predict", json={"texts": texts})
        if response.status_code == 200:
            documents = response.json()["documents"]
            assert [document["text"] for document in documents] == texts
            assert all([span["text"] for span in document["spans"]] == ["بغداد"] for document in documents)
        elif response.status_code == 503:
            assert response.headers["Retry-After"] == "1"
            assert response.json()["error"].startswith("20 requests are active; expected at most 20; ")
        else:
            assert (response.status_code, number % 10) == (422, 0)
        return response.status_code

    async def flooded() -> tuple[list[int], list[int]]:
        queue: list[int] = []

        async def watch() -> None:
            while True:
                queue.append(await waiting(app))
                await asyncio.sleep(0.002)

        async with app.router.lifespan_context(app):
            watching = asyncio.create_task(watch())
            transport = httpx2.ASGITransport(app)
            async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
                statuses = await asyncio.wait_for(asyncio.gather(*(one(client, n) for n in range(600))), 2 * SECONDS)
                watching.cancel()
                health = (await client.get("/health")).json()
                assert (health["status"], health["waiting"]) == ("ok", 0)
                assert await one(client, 1) == 200
        return statuses, queue

    statuses, queue = asyncio.run(flooded())
    assert max(queue) <= 20
    assert max(queue) > 10
    assert min(statuses.count(status) for status in (200, 422, 503)) > 0
    assert statuses.count(200) >= 15  # Some of the first twenty are refused.
