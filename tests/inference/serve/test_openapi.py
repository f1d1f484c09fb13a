"""Requests that schemathesis generates from the service's own OpenAPI description, valid and invalid ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.python import asgi

from musamma.inference.serve import Limits, create_app
from tests.inference.serve.known_names import Tagger

#: More of them take `benchmarks/serve_load.py --openapi`.
EXAMPLES = 50


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Any, Any]]:
    """Return the description as schemathesis reads it, and a client of the application."""
    app = create_app(Tagger(), limits=Limits(max_texts=3, batch_wait=0))
    # The number of texts is checked before their types.
    statuses = ["400", "405", "413", "422"]
    config = SchemathesisConfig.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": statuses}}})
    with asgi.get_client(app) as client:
        yield schemathesis.openapi.from_asgi("/openapi.json", app, config=config), client


@pytest.mark.parametrize("mode", GenerationMode)
def test_responses_to_generated_requests_are_as_described(service: tuple[Any, Any], mode: GenerationMode) -> None:
    schema, client = service
    statuses: Counter[int] = Counter()

    @settings(
        derandomize=True,
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(schema["/predict"]["POST"].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        statuses[case.call_and_validate(session=client).status_code] += 1

    check()
    assert sum(statuses.values()) >= EXAMPLES
    assert (set(statuses) == {200}) == (mode is GenerationMode.POSITIVE)


@pytest.mark.parametrize("path", ["/health", "/metrics"])
def test_responses_without_a_body_are_as_described(service: tuple[Any, Any], path: str) -> None:
    schema, client = service
    assert schema[path]["GET"].Case().call_and_validate(session=client).status_code == 200


def test_every_path_is_tested(service: tuple[Any, Any]) -> None:
    paths = {(operation.ok().path, operation.ok().method) for operation in service[0].get_all_operations()}
    assert paths == {("/predict", "post"), ("/health", "get"), ("/metrics", "get")}
