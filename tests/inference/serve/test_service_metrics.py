"""The metrics of the service, as Prometheus reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from starlette.testclient import TestClient

from musamma.data.document import Document
from musamma.inference.serve import Limits, create_app
from musamma.inference.serve.request_queue import RequestQueue
from musamma.inference.serve.service_metrics import ServiceMetrics
from tests.inference.serve.known_names import SECONDS, Tagger


@pytest.fixture
def client() -> Iterator[TestClient]:
    tagger = Tagger()
    tagger.batch_tokens = 25  # A batch has 100 characters.
    app = create_app(tagger, limits=Limits(max_characters=1000, batch_wait=0))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def read(client: TestClient) -> dict[str, float]:
    """Return the values of the service's metrics by name and labels."""
    response = client.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert response.headers["cache-control"] == "no-store"
    samples = (sample for family in parse_text(response.text) for sample in family.samples)
    return {
        " ".join([sample.name, *(value for _, value in sorted(sample.labels.items()))]): sample.value
        for sample in samples
    }


def test_what_was_tagged_is_counted(client: TestClient) -> None:
    before = read(client)
    assert before["musamma_model_info GPE,ORG,PER runs/<known> " + version("musamma")] == 1
    assert before["musamma_words_total"] == before["musamma_batches_total step"] == 0
    assert client.post("/predict", json={"texts": ["زار محمد بيروت", "بغداد\n"]}).status_code == 200
    assert client.post("/predict", json={"text": "كلمة " * 30}).status_code == 200
    after = read(client)
    assert after["musamma_documents_total"] == 3
    assert after["musamma_words_total"] == 4 + 30
    assert after["musamma_characters_total"] == 14 + 6 + 150
    assert after["musamma_batches_total shared"] == 1
    assert after["musamma_batches_total step"] == 2
    for name in ("wait", "tagging"):
        assert after[f"musamma_{name}_seconds_count"] == after[f"musamma_{name}_seconds_bucket +Inf"] == 2
        assert 0 <= after[f"musamma_{name}_seconds_sum"] < SECONDS
    assert 0 < after["musamma_tagger_busy_seconds_total"] <= after["musamma_tagging_seconds_sum"]
    assert after["musamma_requests_active"] == after["musamma_requests_queued"] == 0
    assert after["process_resident_memory_bytes"] > 2**20


def test_responses_are_counted_by_path_and_status(client: TestClient) -> None:
    for text in ("بغداد", "يفشل", "يرفض", "س" * 1001):
        client.post("/predict", json={"text": text})
    client.get("/predict")
    client.get("/health")
    client.get("/page.js")
    for number in range(20):
        client.get(f"/no/such/{number}")
    counted = {name.split(" ", 1)[1]: value for name, value in read(client).items() if "requests_total" in name}
    assert counted == {
        "/predict 200": 1,
        "/predict 500": 1,
        "/predict 422": 1,
        "/predict 413": 1,
        "/predict 405": 1,
        "/health 200": 1,
        "/page.js 200": 1,
        "other 404": 20,
    }


def test_openmetrics_is_sent_to_those_who_ask(client: TestClient) -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    response = client.get("/metrics", headers={"Accept": accept})
    assert response.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    families = {family.name: family.type for family in parse_openmetrics(response.text)}
    assert families["musamma_wait_seconds"] == "histogram"
    assert families["musamma_model"] == "info"


def test_services_in_one_process_count_apart(client: TestClient) -> None:
    with TestClient(create_app(Tagger())) as other:
        other.post("/predict", json={"text": "بغداد"})
        assert read(other)["musamma_documents_total"] == 1
    assert read(client)["musamma_documents_total"] == 0


def test_requests_are_queued_until_their_tagging_begins() -> None:
    tagger, metrics = Tagger(), ServiceMetrics()
    tagger.gate.clear()

    def gauge(name: str) -> float | None:
        return metrics.registry.get_sample_value(f"musamma_requests_{name}")

    async def request(queue: RequestQueue) -> None:
        with queue.admit():
            await queue.tag([Document("1", "بغداد")])

    async def serve() -> None:
        async with RequestQueue(tagger, max_active=9, max_wait=0, metrics=metrics) as queue:
            tasks = [asyncio.create_task(request(queue))]
            async with asyncio.timeout(SECONDS):
                while not tagger.seen:
                    await asyncio.sleep(0.001)
            tasks += [asyncio.create_task(request(queue)) for _ in range(3)]
            await asyncio.sleep(0)  # They now wait in the queue.
            assert (gauge("active"), gauge("queued")) == (4, 3)
            tasks[-1].cancel()
            await asyncio.wait(tasks[-1:])
            assert (gauge("active"), gauge("queued")) == (3, 2)
            tagger.gate.set()
            await asyncio.wait_for(asyncio.gather(*tasks[:-1]), SECONDS)
            assert (gauge("active"), gauge("queued")) == (0, 0)

    asyncio.run(serve())
    assert metrics.registry.get_sample_value("musamma_wait_seconds_count") == 3
