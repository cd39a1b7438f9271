"""Large answers over a real socket: whole, or said to be cut off; never sent on elsewhere."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from flute_sync.transport.client import download_client
from flute_sync.transport.http_settings import HttpSettings

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: x/y\r\n"


class Server:
    """Answers each request on each connection with what comes next."""

    def __init__(self, answers: list[tuple[bytes, bool]]) -> None:
        self.answers = answers
        self.connections = 0
        self.requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while self.answers:
            connection, _ = self._listener.accept()
            self.connections += 1
            with connection:
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        while self.answers:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                more = connection.recv(65536)
                if not more:
                    return
                request += more
            self.requests.append(request)
            answer, goes_on = self.answers.pop(0)
            connection.sendall(answer)
            if not goes_on:
                return

    def close(self) -> None:
        self._thread.join(10)
        self._listener.close()


@contextmanager
def serving(*answers: tuple[bytes, bool]) -> Iterator[tuple[Server, httpx.Client]]:
    server = Server(list(answers))
    with download_client(HttpSettings.model_validate({"read_timeout": "2s"}), server.url) as client:
        try:
            yield server, client
        finally:
            server.close()


def body(client: httpx.Client, url: str) -> bytes:
    with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as answer:
        assert answer.status_code == 200
        return b"".join(answer.iter_bytes())


LENGTH = HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
UNTIL_CLOSE = HEAD + b"\r\nhello"


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED])
def test_a_connection_serves_again(answer: bytes) -> None:
    with serving((answer, True), (answer, True)) as (server, client):
        assert [body(client, server.url), body(client, server.url)] == [b"hello", b"hello"]
        assert server.connections == 1
        assert b"Accept-Encoding: identity" in server.requests[0]


def test_an_answer_may_end_with_its_connection() -> None:
    with serving((UNTIL_CLOSE, False), (LENGTH, True)) as (server, client):
        assert [body(client, server.url), body(client, server.url)] == [b"hello", b"hello"]
        assert server.connections == 2


def test_a_connection_that_was_closed_meanwhile_is_opened_anew() -> None:
    with serving((LENGTH, False), (LENGTH, True)) as (server, client):
        assert [body(client, server.url), body(client, server.url)] == [b"hello", b"hello"]


@pytest.mark.parametrize(
    "answer",
    [
        LENGTH[:-1],
        CHUNKED[:-6],
        CHUNKED[:-13],
        CHUNKED.replace(b"\r\n3\r\n", b"\r\nx\r\n"),
        b"SMTP\r\n\r\n",
    ],
)
def test_what_is_cut_off_or_no_http_is_an_error(answer: bytes) -> None:
    with (
        serving((answer, False)) as (server, client),
        pytest.raises(httpx.TransportError),
    ):
        body(client, server.url)


def test_a_silent_server_is_not_waited_for_for_ever() -> None:
    with (
        serving((LENGTH[:-2], True), (b"", False)) as (server, client),
        pytest.raises(httpx.ReadTimeout),
    ):
        body(client, server.url)


def test_nobody_there() -> None:
    with (
        download_client(HttpSettings(), "http://127.0.0.1:9") as client,
        pytest.raises(httpx.ConnectError),
    ):
        client.get("http://127.0.0.1:9/")


def test_a_redirection_is_not_followed() -> None:
    away = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"
    with serving((away, True)) as (server, client):
        assert client.get(server.url).status_code == 302
