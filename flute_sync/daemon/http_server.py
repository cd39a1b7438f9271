"""Serve HTTP from a thread of its own: uploads are streamed there while the engine uses threads.

Applications are handed in. All listeners share one event loop.
"""

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, cast

import uvicorn
import uvloop
from starlette.types import ASGIApp
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.settings_errors import ListenerUnavailable, SecretUnreadable

log = logging.getLogger(__name__)

_START: Final = timedelta(seconds=30)
_KEEP_ALIVE: Final = timedelta(seconds=30)
_BEAT: Final = timedelta(seconds=0.5)
_FIRST_BEAT: Final = timedelta(seconds=0.01)
_LAST_WORDS: Final = timedelta(seconds=15)
_STALE: Final = timedelta(seconds=10)
_LARGEST_HEAD_BYTES: Final = 65536
_BULK_BYTES: Final = 65536
_BACKLOG: Final = 512


HEADER_TIMEOUT = timedelta(seconds=20)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate chain in PEM, and its key where the chain's file lacks it."""

    cert_file: Path
    key_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Listener:
    """One address and what is served there.

    ``header_timeout`` is how long a client may take for the head of a request.
    ``max_connections`` beyond which a client is answered 503.
    """

    name: str
    app: ASGIApp
    host: str
    port: int
    tls: TlsFiles | None = None
    header_timeout: timedelta = HEADER_TIMEOUT
    max_connections: int = 512


class HttpServer:
    """Run listeners until told to stop.

    Parameters
    ----------
    listeners
        Port 0 takes a free one; `port` tells which.
    """

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = tuple(listeners)
        self._ports: dict[str, int] = {}
        self._tls: list[tuple[ssl.SSLContext, TlsFiles]] = []
        self._servers: list[uvicorn.Server] = []
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._started: Future[None] = Future()
        self._beaten = time.monotonic()
        self._sockets: list[socket.socket] = []

    def start(self) -> None:
        """Return when every listener takes connections.

        Raises
        ------
        ListenerUnavailable
            When an address cannot be taken or an application does not start.
        SecretUnreadable
            When a certificate or its key cannot be used.
        """
        try:
            for listener in self._listeners:
                context = self._context(listener)
                self._sockets.append(_bound(listener))
                self._ports[listener.name] = self._sockets[-1].getsockname()[1]
                self._servers.append(uvicorn.Server(_config(listener, context)))
        except FluteSyncError:
            for bound in self._sockets:
                bound.close()
            raise
        self._thread.start()
        try:
            self._started.result(_START.total_seconds())
        except TimeoutError:
            raise ListenerUnavailable("an HTTP application does not start") from None
        except ListenerUnavailable:
            self._thread.join()
            raise

    def port(self, name: str) -> int:
        """Return the port on which a listener was started."""
        return self._ports[name]

    def alive(self) -> bool:
        """Tell whether the thread runs and its event loop turns."""
        return self._thread.is_alive() and time.monotonic() - self._beaten < _STALE.total_seconds()

    def reload(self) -> None:
        """Read the certificates again; connections from now on see them.

        Raises
        ------
        SecretUnreadable
            When one cannot be used; the old one stays.
        """
        for context, files in self._tls:
            _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), files)
            _load(context, files)

    def stop(self, grace: timedelta) -> None:
        """Take no more connections, let requests finish for a while, then break them off."""
        for server in self._servers:
            # uvicorn passes it to wait_for, which takes fractions.
            server.config.timeout_graceful_shutdown = cast("int", grace.total_seconds())
            server.should_exit = True
        if self._thread.ident is not None:
            self._thread.join((grace + _LAST_WORDS).total_seconds())

    def _context(self, listener: Listener) -> ssl.SSLContext | None:
        if listener.tls is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        _load(context, listener.tls)
        self._tls.append((context, listener.tls))
        return context

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._serve())
        except ListenerUnavailable as error:
            self._started.set_exception(error)
        finally:
            for bound in self._sockets:
                bound.close()

    async def _serve(self) -> None:
        pairs = zip(self._servers, self._sockets, strict=True)
        serving = [asyncio.create_task(_run_server(one, bound)) for one, bound in pairs]
        while serving:
            self._beaten = time.monotonic()
            if not self._started.done() and all(server.started for server in self._servers):
                self._started.set_result(None)
            beat = _BEAT if self._started.done() else _FIRST_BEAT
            done, _ = await asyncio.wait(serving, timeout=beat.total_seconds())
            for ended in done:
                ended.result()
            serving = [task for task in serving if task not in done]


async def _run_server(server: uvicorn.Server, bound: socket.socket) -> None:
    try:
        await server.serve(sockets=[bound])
    except SystemExit:
        raise ListenerUnavailable("an HTTP application does not start") from None


def _bound(listener: Listener) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            listener.host, listener.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        return socket.create_server(address, family=family, backlog=_BACKLOG)
    except OSError as error:
        where = f"{listener.name}: {listener.host}:{listener.port}"
        raise ListenerUnavailable(f"{where}: {error.strerror}") from None


def _load(context: ssl.SSLContext, files: TlsFiles) -> None:
    try:
        # A key with a passphrase must fail here, not ask at a terminal that nobody watches.
        context.load_cert_chain(files.cert_file, files.key_file, password="")
    except (OSError, ssl.SSLError):
        raise SecretUnreadable("cert_file, key_file: not a usable pair") from None


def _config(listener: Listener, context: ssl.SSLContext | None) -> uvicorn.Config:
    class Protocol(PunctualProtocol):
        header_timeout = listener.header_timeout

    return uvicorn.Config(
        listener.app,
        http=Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=listener.max_connections,
        timeout_keep_alive=int(_KEEP_ALIVE.total_seconds()),
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )


class PunctualProtocol(HttpToolsProtocol):
    """uvicorn's protocol, for clients that are slow to say what they want, or say too much.

    The connection is closed when the head of a request does not come in time or does not end.
    What comes is acknowledged at once: a sender with Nagle's algorithm waits for that.
    """

    header_timeout: timedelta
    _timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _socket: socket.socket | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._socket = transport.get_extra_info("socket")
        if self._socket is not None:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_seen()
        self._socket = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes."""
        if self._socket is not None and len(data) < _BULK_BYTES:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        super().data_received(data)
        if self._timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > _LARGEST_HEAD_BYTES:
                self._too_late()

    def on_message_begin(self) -> None:
        """Wait for the rest of the head."""
        super().on_message_begin()
        self._await_head()

    def on_headers_complete(self) -> None:
        """Go on with the request."""
        self._head_seen()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take some of the body: handed on as it came, where uvicorn copies it twice."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        held: bytes | bytearray = cycle.body
        if held:
            held = bytearray(held) if isinstance(held, bytes) else held
            held += body
        cycle.body = cast("bytearray", held or body)
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def _await_head(self) -> None:
        if self._timer is None:
            seconds = self.header_timeout.total_seconds()
            self._timer = self.loop.call_later(seconds, self._too_late)

    def _head_seen(self) -> None:
        self._head_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        log.warning(
            "a client did not finish the head of its request",
            extra=fields(Event.HTTP_REFUSED, status=408),
        )
        self._head_seen()
        self.transport.close()
