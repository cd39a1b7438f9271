"""The server that runs our applications: its limits, its certificates, its end."""

import asyncio
import contextlib
import datetime
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.types import ASGIApp, Receive, Scope, Send

from flute_sync.daemon.http_server import HttpServer, Listener, TlsFiles
from flute_sync.settings_errors import ListenerUnavailable, SecretUnreadable

GRACE = timedelta(seconds=20)


class Application:
    """Says hello; ``gate`` holds an answer back; ``broken`` fails to start."""

    def __init__(self, *, broken: bool = False) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.broken = broken
        self.ended = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            if self.broken:
                await send({"type": "lifespan.startup.failed", "message": "no"})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            self.ended = True
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.entered.set()
        while not self.gate.is_set():  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})


@contextlib.contextmanager
def running(*listeners: Listener) -> Iterator[HttpServer]:
    server = HttpServer(listeners)
    server.start()
    try:
        yield server
    finally:
        server.stop(GRACE)


def listener(app: ASGIApp, name: str = "one", **more: object) -> Listener:
    return Listener(name, app, "127.0.0.1", 0, **more)  # type: ignore[arg-type]


def test_several_listeners_start_and_stop_together() -> None:
    one, two = Application(), Application()
    with running(listener(one), listener(two, "two")) as server:
        assert server.alive()
        for name in ("one", "two"):
            assert httpx.get(f"http://127.0.0.1:{server.port(name)}", timeout=60).text == "hello"
    assert one.ended
    assert two.ended
    assert not server.alive()


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = HttpServer([Listener("one", Application(), "127.0.0.1", port)])
        with pytest.raises(ListenerUnavailable, match=f"one: 127.0.0.1:{port}"):
            server.start()


def test_a_host_that_is_not_ours_is_said() -> None:
    with pytest.raises(ListenerUnavailable):
        HttpServer([Listener("one", Application(), "192.0.2.1", 0)]).start()


def test_a_first_listener_is_given_back_when_the_second_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        second = Listener("two", Application(), "127.0.0.1", taken.getsockname()[1])
        server = HttpServer([listener(Application()), second])
        with pytest.raises(ListenerUnavailable):
            server.start()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", server.port("one"))) != 0


def test_an_application_that_does_not_start_is_said() -> None:
    server = HttpServer([listener(Application(broken=True))])
    with pytest.raises(ListenerUnavailable):
        server.start()
    assert not server.alive()


def test_requests_in_hand_are_finished_at_the_end() -> None:
    app = Application()
    app.gate.clear()
    answers: list[str] = []
    with running(listener(app)) as server:
        url = f"http://127.0.0.1:{server.port('one')}"
        client = threading.Thread(target=lambda: answers.append(httpx.get(url, timeout=60).text))
        client.start()
        assert app.entered.wait(60)
        threading.Timer(0.3, app.gate.set).start()
    client.join()
    assert answers == ["hello"]


def test_the_end_does_not_wait_for_ever() -> None:
    app = Application()
    app.gate.clear()
    server = HttpServer([listener(app)])
    server.start()
    with socket.create_connection(("127.0.0.1", server.port("one"))) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert app.entered.wait(60)
        started = time.monotonic()
        server.stop(timedelta(seconds=0.2))
        assert time.monotonic() - started < 10
    assert not server.alive()


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_a_client_that_does_not_finish_its_head_is_hung_up(sent: bytes) -> None:
    app = Application()
    limit = timedelta(seconds=0.3)
    with (
        running(listener(app, header_timeout=limit)) as server,
        socket.create_connection(("127.0.0.1", server.port("one")), timeout=60) as client,
    ):
        client.sendall(sent)
        assert client.recv(1000) == b""
    assert not app.entered.is_set()


def test_a_client_that_trickles_its_head_is_hung_up() -> None:
    app = Application()
    limit = timedelta(seconds=0.5)
    with (
        running(listener(app, header_timeout=limit)) as server,
        socket.create_connection(("127.0.0.1", server.port("one"))) as client,
    ):
        client.settimeout(0.05)
        assert any(_hung_up(client) for _ in range(1200))
    assert not app.entered.is_set()


def _hung_up(client: socket.socket) -> bool:
    try:
        client.sendall(b"X")
        return client.recv(1000) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True


def test_a_head_without_end_is_hung_up() -> None:
    app = Application()
    with (
        running(listener(app)) as server,
        socket.create_connection(("127.0.0.1", server.port("one")), timeout=60) as client,
    ):
        with contextlib.suppress(ConnectionError):
            client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 4_000_000)
        with contextlib.suppress(ConnectionError):
            assert client.recv(1000) == b""
    assert not app.entered.is_set()


def test_a_kept_connection_serves_on_after_the_time_for_a_head() -> None:
    limit = timedelta(seconds=2)
    with (
        running(listener(Application(), header_timeout=limit)) as server,
        socket.create_connection(("127.0.0.1", server.port("one")), timeout=60) as client,
    ):
        for pause in (0.0, 2.5):
            time.sleep(pause)  # the time limit itself is what is tested
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b"0\r\n\r\n" not in answer:
                got = client.recv(1000)
                assert got
                answer += got


def test_too_many_connections_are_answered_503() -> None:
    with running(listener(Application(), max_connections=3)) as server:
        address = ("127.0.0.1", server.port("one"))
        with contextlib.ExitStack() as open_ones:
            for _ in range(3):
                client = open_ones.enter_context(socket.create_connection(address, timeout=60))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(1000).startswith(b"HTTP/1.1 503 ")


def certificate(folder: Path, name: str) -> TlsFiles:
    """Write a self-signed certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(built.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return TlsFiles(cert_file, key_file)


def shown(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def test_tls_and_certificates_that_are_read_again(tmp_path: Path) -> None:
    files = certificate(tmp_path, "first")
    with running(listener(Application(), tls=files)) as server:
        port = server.port("one")
        context = ssl.create_default_context(cafile=str(files.cert_file))
        assert httpx.get(f"https://127.0.0.1:{port}", verify=context, timeout=60).text == "hello"
        before = shown(port)
        certificate(tmp_path, "second")
        assert shown(port) == before
        server.reload()
        assert shown(port) != before
        files.cert_file.write_text("nonsense")
        with pytest.raises(SecretUnreadable):
            server.reload()
        assert httpx.get(f"https://127.0.0.1:{port}", verify=False, timeout=60).text == "hello"


def test_old_tls_is_refused(tmp_path: Path) -> None:
    files = certificate(tmp_path, "only")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    with running(listener(Application(), tls=files)) as server:
        address = ("127.0.0.1", server.port("one"))
        with socket.create_connection(address) as plain, old.wrap_socket(plain) as wrapped:
            assert wrapped.version() in ("TLSv1.2", "TLSv1.3")
        with socket.create_connection(address, timeout=60) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(ConnectionError):
                assert not plain.recv(1000).startswith(b"HTTP/")


def test_a_certificate_that_cannot_be_used_is_said(tmp_path: Path) -> None:
    server = HttpServer([listener(Application(), tls=TlsFiles(tmp_path / "none.pem"))])
    with pytest.raises(SecretUnreadable):
        server.start()
