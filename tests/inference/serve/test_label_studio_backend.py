"""The protocol of Label Studio's ML backends, over ASGI, with the requests that Label Studio 1.23 sends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from musamma.inference.serve import Limits, create_app
from tests.inference.serve.known_names import Tagger

CONFIGURATION = """<View>
  <Labels name="names" toName="article">
    <Label value="Person" predicted_values="PER, MISC" background="red"/>
    <Label value="gpe"/>
  </Labels>
  <Text name="article" value="$body"/>
</View>"""


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    limits = Limits(max_characters=1000, max_texts=3, batch_wait=0)
    with TestClient(create_app(Tagger(), limits=limits), raise_server_exceptions=False) as client:
        yield client


def post(client: TestClient, path: str, status: int, body: Any) -> Any:
    response = client.post(f"/label-studio/{path}", json=body)
    assert response.status_code == status, response.text
    return response.json() if status == 200 else response.json()["error"]


def request(*texts: str, configuration: str = CONFIGURATION) -> dict[str, Any]:
    tasks = [{"id": number, "data": {"body": text, "id": "x"}} for number, text in enumerate(texts, 7)]
    return {
        "tasks": tasks,
        "project": "1.1764",
        "label_config": configuration,
        "params": {"login": None, "context": None},
    }


def test_health_and_setup(client: TestClient) -> None:
    assert client.get("/label-studio/health").json()["status"] == "UP"
    body = {"project": "1.1764", "schema": CONFIGURATION, "hostname": "http://localhost:8090", "access_token": "t"}
    assert post(client, "setup", 200, body) == {"model_version": "<known>"}


def test_predictions_have_the_names_of_the_projects_configuration(client: TestClient) -> None:
    answer = post(client, "predict", 200, request("😀 زار محمد بيروت", "", "لا أحد"))
    assert answer["model_version"] == "<known>"
    first, *others = answer["results"]
    assert others == [{"result": [], "model_version": "<known>"}] * 2
    # UTF-16 units; the label ORG of the emoji is not in the configuration.
    assert first["left_out"] == {"ORG": 1}
    assert first["score"] == pytest.approx(0.6)
    common = {"type": "labels", "from_name": "names", "to_name": "article"}
    assert [{key: value for key, value in region.items() if key != "id"} for region in first["result"]] == [
        {**common, "value": {"start": 7, "end": 11, "text": "محمد", "labels": ["Person"]}, "score": 0.3},
        {**common, "value": {"start": 12, "end": 17, "text": "بيروت", "labels": ["gpe"]}, "score": 0.9},
    ]
    assert len({region["id"] for region in first["result"]}) == 2


def test_several_texts_and_controls(client: TestClient) -> None:
    configuration = (
        '<View><Text name="a" value="$body"/><Text name="b" value="$id"/><Text name="c" value="$absent"/>'
        '<Labels name="x" toName="a"><Label value="PER"/></Labels><Labels name="y" toName="a"><Label value="PER"/>'
        '<Label value="GPE"/></Labels><Labels name="z" toName="b"><Label value="LOC" alias="GPE"/></Labels></View>'
    )
    body = request("محمد بيروت", configuration=configuration)
    body["tasks"][0]["data"]["id"] = "بغداد"
    [result] = post(client, "predict", 200, body)["results"]
    places = [(r["from_name"], r["to_name"], *r["value"]["labels"], r["value"]["text"]) for r in result["result"]]
    assert places == [("x", "a", "PER", "محمد"), ("y", "a", "GPE", "بيروت"), ("z", "b", "LOC", "بغداد")]
    assert len({region["id"] for region in result["result"]}) == 3


@pytest.mark.parametrize(
    ("path", "status", "body", "message"),
    [
        ("predict", 422, [], "request body: a JSON list; expected a JSON object"),
        ("predict", 422, {"tasks": []}, "request body: no labelling configuration; expected <Labels"),
        ("setup", 422, {"schema": "<View><Text"}, "labelling configuration: broken XML"),
        (
            "setup",
            422,
            {"schema": '<!DOCTYPE x [<!ENTITY a "b">]><View>&a;</View>'},
            "labelling configuration: a document type",
        ),
        (
            "setup",
            422,
            {"schema": CONFIGURATION.replace("PER, ", "").replace("gpe", "Ort")},
            "labelling configuration: the labels Person, Ort; expected labels of the model on a Text, among GPE, ORG, PER; name the model's",
        ),
        (
            "setup",
            422,
            {"schema": CONFIGURATION.replace("<Text", "<HyperText")},
            "labelling configuration: the labels Person, gpe; expected labels of the model on a Text",
        ),
        ("predict", 422, {"label_config": CONFIGURATION}, "request body: tasks is missing; expected"),
        (
            "predict",
            422,
            {"label_config": CONFIGURATION, "tasks": [{"data": {"text": "x"}}]},
            "tasks[0]: no text under data.body; expected a string, which the configuration shows as 'article'",
        ),
        ("predict", 413, request(*"abcd"), "request body: 4 texts; expected at most 3 per request"),
        ("predict", 413, request("x" * 1001), "request body: 1,001 characters; expected at most 1,000 per request"),
        ("predict", 500, request("يفشل"), "the tagger failed"),
    ],
)
def test_errors(client: TestClient, path: str, status: int, body: Any, message: str) -> None:
    assert post(client, path, status, body).startswith(message)


def test_the_limits_of_the_service_apply(client: TestClient) -> None:
    response = client.post("/label-studio/predict", content=b"{}", headers={"Content-Type": "text/plain"})
    assert response.status_code == 415
    response = client.post("/label-studio/predict", content=b"{", headers={"Content-Type": "application/json"})
    assert response.status_code == 400
    with TestClient(create_app(Tagger(), limits=Limits(max_waiting=0))) as full:
        response = full.post("/label-studio/predict", json=request("محمد"))
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert 'musamma_requests_total{path="/label-studio/predict",status="415"}' in client.get("/metrics").text


def test_the_protocol_is_no_part_of_the_description(client: TestClient) -> None:
    assert not any(path.startswith("/label-studio") for path in client.get("/openapi.json").json()["paths"])
