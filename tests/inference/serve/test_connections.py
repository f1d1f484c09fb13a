"""The HTTP server over real sockets: slow, silent, broken and too many connections."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import uvicorn

from musamma.inference.serve import Limits, create_app
from musamma.inference.serve.connection_limits import ConnectionLimits
from musamma.inference.serve.server import configure_server, listen
from tests.inference.serve.known_names import SECONDS, Tagger

#: The only connections beside those of a test are its requests for the state of the service.
MAX_CONNECTIONS = 9
POST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


class Service:
    """A service in a thread."""

    def __init__(self, server: uvicorn.Server, address: tuple[str, int]) -> None:
        self.server, self.address = server, address

    def connect(self, sent: bytes = b"", *, receive_buffer: int | None = None) -> socket.socket:
        """Connect and send."""
        connection = socket.socket()
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(SECONDS)
        connection.connect(self.address)
        connection.sendall(sent)
        return connection

    def waiting(self) -> int:
        """Return the number of active requests, as `/health` reports it."""
        with self.connect(HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")) as connection:
            head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        return json.loads(body)["waiting"]

    def await_state(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds."""
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.005)


def read_to_end(connection: socket.socket) -> bytes:
    """Return everything that the server sends until it closes the connection."""
    received = b""
    try:
        while part := connection.recv(65536):
            received += part
    except ConnectionResetError:
        pass
    return received


def send_for_ever(connection: socket.socket) -> None:
    """Send spaces slowly until the server refuses them, or the time limit."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        connection.send(b" ")
        time.sleep(0.005)


@contextmanager
def serving(
    *, tagger: Tagger | None = None, requests: Limits | None = None, head_seconds: float = 1.0
) -> Iterator[Service]:
    """Start a service with short limits of time, unless others are given."""
    app = create_app(tagger or Tagger(), limits=requests or Limits(batch_wait=0, read_timeout=SECONDS))
    limits = ConnectionLimits(max_connections=MAX_CONNECTIONS, head_seconds=head_seconds, response_seconds=0.2)
    with listen("127.0.0.1", 0) as listener:
        server = uvicorn.Server(configure_server(app, limits))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            service = Service(server, listener.getsockname())
            service.await_state(lambda: server.started)
            yield service
            assert service.waiting() == 0
            service.await_state(lambda: not server.server_state.connections)
        finally:
            server.should_exit = True
            thread.join(SECONDS)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "start",
    [b"", b"GET", b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: ", HEALTH],
    ids=["silent", "line", "header", "idle"],
)
def test_a_connection_without_a_request_is_closed(start: bytes) -> None:
    with serving() as service, service.connect(start) as connection:
        received = read_to_end(connection)
        assert received.startswith(b"HTTP/1.1 200 ") == (start == HEALTH)


def test_bytes_of_a_head_do_not_extend_its_time() -> None:
    with serving() as service, service.connect(b"GET / HTTP/1.1\r\nX-Slow: ") as connection:
        connection.settimeout(0.02)
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                connection.send(b"x")
                if connection.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except OSError:
                return
        pytest.fail("the connection stays open")


def test_a_slow_body_gets_408_and_a_body_after_the_response_is_not_read_for_ever() -> None:
    with (
        serving(requests=Limits(read_timeout=0.2)) as service,
        service.connect(POST + b"Content-Length: 1000000\r\n\r\n{") as connection,
    ):
        assert connection.recv(12) == b"HTTP/1.1 408"
        with pytest.raises(ConnectionError):
            send_for_ever(connection)


def test_slow_bodies_make_room_for_another_request() -> None:
    limits = Limits(batch_wait=0, read_timeout=SECONDS, max_waiting=3, slow_body=0)
    slow = POST + b"Content-Length: 1000\r\n\r\n{"
    with serving(requests=limits, head_seconds=SECONDS) as service:
        connections = []
        for number in range(5):
            connections.append(service.connect(slow))
            service.await_state(lambda number=number: service.waiting() == min(3, number + 1))
        for first in connections[:2]:
            assert first.recv(12) == b"HTTP/1.1 408"
        with service.connect(POST + b'Content-Length: 14\r\n\r\n{"text": "aa"}') as connection:
            assert connection.recv(12) == b"HTTP/1.1 200"
        assert connections[2].recv(12) == b"HTTP/1.1 408"
        assert service.waiting() == 2
        for connection in connections:
            connection.close()
        service.await_state(lambda: service.waiting() == 0)


BROKEN = {
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3 + b"\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "long head": b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"x" * 20_000,
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "broken chunk": POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "unknown coding": POST + b"Transfer-Encoding: gzip\r\n\r\nxx",
    "garbage": b"\x00\xff" * 500 + b"\r\n\r\n",
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with serving() as service:
        yield service


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_requests_get_4xx_and_the_connection_is_closed(service: Service, kind: str) -> None:
    with service.connect(BROKEN[kind]) as connection:
        received = read_to_end(connection)
    assert received.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 "))
    service.await_state(lambda: service.waiting() == 0)


@pytest.mark.parametrize(
    ("after", "statuses"), [(HEALTH * 3, [200] * 4), (b"\x00garbage\r\n\r\n", [200, 400]), (b"GET", [200])]
)
def test_what_follows_a_request_is_handled_after_it(service: Service, after: bytes, statuses: list[int]) -> None:
    with service.connect(HEALTH + after) as connection:
        received = read_to_end(connection)
    assert [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]] == statuses


def test_a_broken_body_after_its_response_is_no_error_of_the_server(caplog: pytest.LogCaptureFixture) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    with serving(head_seconds=SECONDS) as service:
        with service.connect(head) as connection:
            assert connection.recv(12) == b"HTTP/1.1 415"
            connection.sendall(b"zz\r\n")
            read_to_end(connection)
        service.await_state(lambda: not service.server.server_state.connections)
    assert not caplog.records


@pytest.mark.parametrize("sent", [b"", b"GET", POST + b"Content-Length: 9\r\n\r\n{", HEALTH])
def test_a_half_closed_connection_is_closed(sent: bytes) -> None:
    with serving(head_seconds=SECONDS) as service, service.connect(sent) as connection:
        connection.shutdown(socket.SHUT_WR)
        read_to_end(connection)
        service.await_state(lambda: not service.server.server_state.connections)


def test_a_long_request_whose_client_leaves_is_not_tagged_to_its_end() -> None:
    tagger = Tagger()
    tagger.batch_tokens = 1
    tagger.gate.clear()
    body = json.dumps({"texts": ["بيروت"] * 50}).encode()
    request = POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with serving(tagger=tagger, head_seconds=SECONDS) as service:
        with service.connect(request):
            service.await_state(lambda: tagger.seen == 1)
            assert service.waiting() == 1
        service.await_state(lambda: service.waiting() == 0)
        tagger.gate.set()
        with service.connect(request) as connection:
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert tagger.seen == 51


def test_the_connection_that_was_idle_longest_makes_room() -> None:
    with serving(head_seconds=SECONDS) as service:
        connections = [service.connect(b"GET")]
        service.await_state(lambda: len(service.server.server_state.connections) == 1)
        connections += [service.connect(b"GET") for _ in range(3 * MAX_CONNECTIONS)]
        assert read_to_end(connections[0]) == b""
        assert service.waiting() == 0
        assert len(service.server.server_state.connections) < MAX_CONNECTIONS
        for connection in connections:
            connection.close()


def test_a_client_that_does_not_read_is_disconnected() -> None:
    document = {"id": "a", "text": "بيروت", "meta": {"filling": "x" * 1_000_000}}
    body = json.dumps({"documents": [document]}).encode()
    request = POST + f"Content-Length: {len(body)}\r\n\r\n".encode() + body
    with serving(head_seconds=SECONDS) as service, service.connect(receive_buffer=4096) as connection:

        def send() -> None:
            try:
                for _ in range(30):
                    connection.sendall(request)
            except OSError:
                pass

        sender = threading.Thread(target=send)
        sender.start()
        sender.join(SECONDS)
        assert not sender.is_alive()
        service.await_state(lambda: not service.server.server_state.connections)
