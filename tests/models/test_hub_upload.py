"""Uploads: which files, and what the real client of the hub sends and makes of the answers."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from httpx2 import Client, ConnectError, MockTransport, Request, Response
from huggingface_hub import DatasetCard, ModelCard

from musamma.data.errors import InputError, RunError
from musamma.models import hub_upload
from musamma.models.hub_upload import HubUpload, collect_checkpoint, collect_corpus, push

KHABAR = Path(__file__).parents[2] / "data" / "corpora" / "khabar"
CARD = """---
language: ar
model-index:
- name: mine
  results:
  - task: {type: token-classification}
    dataset: {name: khabar, type: musamma}
    metrics:
    - {type: f1, value: 0.77, name: strict}
---
Tagger("mine").tag("نص")
"""
HUB = "http://hub.invalid"


class FakeHub:
    """Answers the requests of an upload and keeps what they hold."""

    def __init__(self) -> None:
        self.created: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.tokens: set[str | None] = set()
        self.answer: Callable[[Request], Response | None] = lambda request: None

    def handle(self, request: Request) -> Response:
        path, body = request.url.path, request.read()
        if not path.startswith(("/api/repos/", "/api/models/", "/api/datasets/", "/api/validate-yaml")):
            return Response(404, request=request)
        if path != "/api/validate-yaml":  # which anyone may call
            self.tokens.add(request.headers.get("authorization"))
        if (given := self.answer(request)) is not None:
            return given
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return Response(200, json={"url": f"{HUB}/owner/mine"}, request=request)
        if path == "/api/validate-yaml":
            return Response(200, json={"warnings": [], "errors": []}, request=request)
        if "/preupload/" in path:
            modes = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return Response(200, json={"files": modes}, request=request)
        assert "/commit/" in path, path
        for line in body.decode().splitlines():
            entry = json.loads(line)
            if entry["key"] == "file":
                self.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
        return Response(
            200, json={"commitUrl": f"{HUB}/owner/mine/commit/1", "commitOid": "1", "success": True}, request=request
        )


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    fake = FakeHub()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_upload, "get_token", lambda: "hf_secret")
    huggingface_hub.set_client_factory(lambda: Client(transport=MockTransport(fake.handle)))
    yield fake
    huggingface_hub.set_client_factory(huggingface_hub.utils._http.default_client_factory)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "seed-1").mkdir(parents=True)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    for name in (
        *("config.json", "model.safetensors", "proclitic_head.safetensors", "tokenizer.json", "tokenizer_config.json"),
        *("run.yaml", "scores.json", "losses.jsonl", "log.jsonl", "inputs.json", "seed-1/model.safetensors"),
    ):
        (folder / name).write_text(f"content of {name}", encoding="utf-8")
    return folder


def write_export(folder: Path, runtime: str = "openvino", quantization: str | None = "int8") -> Path:
    folder.mkdir()
    for name in ("openvino_model.xml", "openvino_model.bin", "config.json", "tokenizer.json", "README.md", "other.txt"):
        (folder / name).write_text(name, encoding="utf-8")
    (folder / "export.json").write_text(json.dumps({"runtime": runtime, "quantization": quantization}))
    return folder


def names(upload: HubUpload) -> list[str]:
    return [file.path for file in upload.files]


CHECKPOINT_NAMES = [
    *("README.md", "config.json", "model.safetensors", "proclitic_head.safetensors", "run.yaml", "scores.json"),
    *("tokenizer.json", "tokenizer_config.json"),
]


def test_a_checkpoint_is_uploaded_without_the_files_of_training(trained, hub):
    upload = collect_checkpoint(trained, "owner/mine")
    assert names(upload) == CHECKPOINT_NAMES
    assert upload.scores == 1
    assert push(upload, endpoint=HUB) == f"{HUB}/owner/mine/commit/1"
    assert sorted(hub.files) == CHECKPOINT_NAMES
    assert hub.files["proclitic_head.safetensors"] == b"content of proclitic_head.safetensors"
    card = hub.files["README.md"].decode()
    assert card == CARD.replace('Tagger("mine")', 'Tagger("owner/mine")')
    assert ModelCard(card).data.eval_results[0].metric_value == 0.77
    assert [(repo["name"], repo["organization"], repo.get("visibility")) for repo in hub.created] == [
        ("mine", "owner", None)
    ]
    assert hub.tokens == {"Bearer hf_secret"}


def test_an_export_becomes_a_folder(trained, tmp_path, hub):
    upload = collect_checkpoint(trained, "owner/mine", exports=[write_export(tmp_path / "int8")])
    exported = [name for name in names(upload) if "/" in name]
    assert exported == [
        f"openvino-int8/{name}"
        for name in (
            *("README.md", "config.json", "export.json"),
            *("openvino_model.bin", "openvino_model.xml", "tokenizer.json"),
        )
    ]
    push(upload, endpoint=HUB)
    assert hub.files["openvino-int8/openvino_model.bin"] == b"openvino_model.bin"
    with pytest.raises(InputError, match="a second export for openvino-int8"):
        collect_checkpoint(trained, "owner/mine", exports=[tmp_path / "int8", write_export(tmp_path / "again")])


def test_a_corpus_is_uploaded_whole_and_private(hub, tmp_path):
    corpus = tmp_path / "khabar"
    (corpus / "articles").mkdir(parents=True)
    for name in ("README.md", "LICENSE", "splits.yaml", "articles/seed-mosul.txt"):
        shutil.copyfile(KHABAR / name, corpus / name)
    (corpus / ".hidden").write_text("no")
    push(collect_corpus(corpus, "owner/khabar"), private=True, endpoint=HUB)
    assert sorted(hub.files) == ["LICENSE", "README.md", "articles/seed-mosul.txt", "splits.yaml"]
    assert hub.files["README.md"] == (KHABAR / "README.md").read_bytes()
    assert [(repo["type"], repo["visibility"]) for repo in hub.created] == [("dataset", "private")]


def test_the_packaged_corpus_can_be_uploaded():
    upload = collect_corpus(KHABAR, "owner/khabar")
    assert {"README.md", "LICENSE", "jsonl/train.jsonl", "articles/seed-mosul.txt"} <= set(names(upload))
    assert DatasetCard.load(KHABAR / "README.md").data.license


@pytest.mark.parametrize("repository", ["mine", "a/b/c", "owner/", "owner/a--b", "owner/اسم", ""])
def test_invalid_names(trained, repository):
    with pytest.raises(InputError, match="expected OWNER/NAME"):
        collect_checkpoint(trained, repository)


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json", "README.md", "model.safetensors"])
def test_incomplete_checkpoints(trained, missing):
    (trained / missing).unlink()
    with pytest.raises(InputError, match=f"no {missing}"):
        collect_checkpoint(trained, "owner/mine")


def test_a_checkpoint_without_the_head_of_its_nested_names(trained):
    (trained / "config.json").write_text('{"musamma": {"nested": {"labels": ["PER"]}}}', encoding="utf-8")
    with pytest.raises(InputError, match=r"no nested_head\.safetensors; expected the head of the nested names"):
        collect_checkpoint(trained, "owner/mine")


def test_incomplete_corpora(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        collect_corpus(tmp_path / "missing", "owner/mine")
    with pytest.raises(InputError, match=r"no README\.md"):
        collect_corpus(tmp_path, "owner/mine")
    (tmp_path / "README.md").write_text("---\nlanguage: ar\n---\n")
    with pytest.raises(InputError, match="no licence"):
        collect_corpus(tmp_path, "owner/mine")


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (401, InputError, r"owner/mine: the hub does not accept the access token \(401\); log in with"),
        (403, InputError, r"owner/mine: the access token may not write there \(403\)"),
        (500, RunError, "owner/mine: the hub answers 500: out of order"),
    ],
)
def test_answers_of_the_hub_in_one_line(trained, hub, status, kind, message):
    hub.answer = lambda request: Response(
        status, json={"error": "out of order"}, headers={"x-error-message": "out of order"}, request=request
    )
    with pytest.raises(kind, match=message) as caught:
        push(collect_checkpoint(trained, "owner/mine"), endpoint=HUB)
    assert "\n" not in str(caught.value)
    assert hub.files == {}


def test_without_network_or_token(trained, hub, monkeypatch):
    upload = collect_checkpoint(trained, "owner/mine")

    def unreachable(request: Request) -> Response:
        raise ConnectError("no route", request=request)

    hub.answer = unreachable
    with pytest.raises(RunError, match=rf"^owner/mine: the hub at {HUB} cannot be reached: no route$"):
        push(upload, endpoint=HUB)
    monkeypatch.setattr(hub_upload, "get_token", lambda: None)
    with pytest.raises(InputError, match="no access token for the hub; log in with"):
        push(upload, endpoint=HUB)


def test_a_hub_that_is_switched_off(trained, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub_upload, "get_token", lambda: "hf_secret")
    huggingface_hub.utils._http.close_session()
    with pytest.raises(InputError, match="the hub is switched off; unset the environment variable HF_HUB_OFFLINE"):
        push(collect_checkpoint(trained, "owner/mine"), endpoint=HUB)
