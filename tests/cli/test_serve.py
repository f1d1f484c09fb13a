"""``musamma serve``: the command in a process of its own on a free port, and its errors."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from musamma.cli.main import run
from musamma.data.document import Document
from musamma.inference import Tagger
from musamma.inference.serve.request_queue import CPU_BATCH_TOKENS
from musamma.inference.serve.server import listen, listener_url

# They start processes and send signals.
pytestmark = pytest.mark.own_process(timeout=300)

#: Limit for everything that must happen at some time, also on a busy machine.
SECONDS = 120
TEXT = "\r\n قَالَ مُحَمَّدٌ 😀 السَّعِيد في \u202bبيروت\u202c لـــ«رويترز» وبغداد\n"


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start the command; yield its process and its URL."""
    command = [sys.executable, "-m", "musamma.cli.main", "serve", "--port", "0", "--device", "cpu", *arguments]
    environment = {**os.environ, "PYTHONWARNINGS": ""}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stderr is not None
        first = process.stderr.readline().decode()
        found = re.search(r"(http://\S+), until Ctrl-C$", first.rstrip("\n"))
        assert found, first + process.stderr.read().decode()
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def ask(url: str, value: Any) -> Any:
    body = json.dumps(value).encode()
    with urlopen(Request(f"{url}/predict", body, {"Content-Type": "application/json"}), timeout=SECONDS) as response:
        return json.load(response)


def test_it_finds_what_the_tagger_finds_and_answers_accepted_requests_after_sigterm(model: str) -> None:
    (expected,) = Tagger(model, device="cpu").tag_documents([Document("0", TEXT)])
    with serving("-m", model, "--max-characters", "200000", "--max-texts", "9") as (process, url):
        with urlopen(f"{url}/health", timeout=SECONDS) as response:
            assert json.load(response)["labels"] == ["LOC", "ORG", "PER"]
        answer = ask(url, {"text": TEXT})
        (found,) = answer["documents"]
        assert [(s["start"], s["end"], s["label"]) for s in found["spans"]] == [span.key for span in expected.spans]
        assert [s["text"] for s in found["spans"]] == [expected.surface(span) for span in expected.spans]
        scores = [span.score for span in expected.spans]
        assert [s["score"] for s in found["spans"]] == pytest.approx(scores, abs=1e-4)
        with pytest.raises(HTTPError, match="413"):
            ask(url, {"texts": [""] * 10})

        late: list[Any] = []
        long = {"text": TEXT * 600}
        client = threading.Thread(target=lambda: late.append(ask(url, long)))
        client.start()
        deadline = time.monotonic() + SECONDS
        while not json.load(urlopen(f"{url}/health", timeout=SECONDS))["waiting"]:
            assert time.monotonic() < deadline
            assert client.is_alive()
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
        client.join(SECONDS)
        whole = Tagger(model, device="cpu", batch_tokens=CPU_BATCH_TOKENS).tag(long["text"])
        (found,) = late[0]["documents"]
        assert found["text"] == long["text"]
        assert [(s["start"], s["end"], s["label"], s["score"]) for s in found["spans"]] == [
            (*span.key, span.score) for span in whole
        ]
        assert process.stderr.read() == b""  # type: ignore[union-attr]
        assert process.stdout.read() == b""  # type: ignore[union-attr]


def test_ctrl_c_stops_it_and_an_address_open_to_others_gives_a_warning(model: str) -> None:
    with serving("-m", model, "--host", "0.0.0.0", "--min-score", "0.5", "--min-score", "PER=1") as (process, url):
        (found,) = ask(url.replace("0.0.0.0", "127.0.0.1"), {"text": TEXT})["documents"]
        assert all(span["score"] >= (1 if span["label"] == "PER" else 0.5) for span in found["spans"])
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 0
        assert process.stderr is not None
        assert process.stderr.read().decode() == (
            "0.0.0.0 is not limited to this machine: anyone who can reach it can use the service, without a password\n"
        )


def test_a_port_in_use(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert run(["serve", "-m", model, "--device", "cpu", "--port", str(port)]) == 2
    assert capsys.readouterr().err == (
        f"musamma: 127.0.0.1:{port}: cannot listen: Address already in use; expected an address of this machine and a "
        "free port; give another --host or --port\n"
    )


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "a" * 300, ""])
def test_an_address_of_another_machine(model: str, host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", "-m", model, "--device", "cpu", "--host", host]) == 2
    assert capsys.readouterr().err.startswith(f"musamma: {host}:8000: cannot listen: ")


def test_an_ipv6_address() -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
        listener.close()
    except OSError:
        pytest.skip("no IPv6 here")
    with listen("::1", 0) as listener:
        url, private = listener_url(listener)
        assert re.fullmatch(r"http://\[::1\]:\d+", url)
        assert private


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "runs/none"], "musamma: runs/none: "),
        (["-m", "{model}", "--device", "abacus"], "musamma: "),
        (["-m", "{model}", "--min-score", "2"], "musamma: --min-score '2'; expected a number from 0 to 1"),
        (["-m", "{model}", "--thresholds"], "musamma: {model}: the checkpoint has no thresholds"),
        (["-m", "{model}", "--max-characters", "0"], "musamma: Invalid value for '--max-characters'"),
        (["-m", "{model}", "--port", "65536"], "musamma: Invalid value for '--port'"),
    ],
)
def test_invalid_calls(model: str, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    assert run(["serve", *(argument.format(model=model) for argument in arguments)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(message.format(model=model))
    assert said.count("\n") == 1


def test_without_the_packages_of_the_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "musamma.models.optional_packages.find_spec", lambda name: None if name == "uvicorn" else there(name)
    )
    assert run(["serve", "-m", "runs/none"]) == 2
    assert capsys.readouterr().err == (
        "musamma: uvicorn is not installed, which runs the service; pip install 'musamma[serve]'\n"
    )
