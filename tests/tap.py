"""A tap on a TCP connection: what clients say to a server is kept, and goes on as it is."""

import selectors
import socket
import socketserver
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

_POLL_SECONDS = 0.1


class Tap:
    """Listens on a port of its own before a server on this machine; also a context manager.

    Parameters
    ----------
    behind
        The server's address, whose path is the tap's too.
    """

    def __init__(self, behind: str) -> None:
        server = urlsplit(behind)
        self._behind = ("127.0.0.1", server.port or 0)
        self._path = server.path
        self._lock = threading.Lock()
        self._said = bytearray()
        self._stopping = threading.Event()
        tap = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                tap._relay(self.request)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(_POLL_SECONDS,))

    @property
    def url(self) -> str:
        """The address that clients are told."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{self._path}"

    @property
    def said(self) -> bytes:
        """All that clients said until now: request lines, headers and bodies."""
        with self._lock:
            return bytes(self._said)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()  # waits for the connections in hand

    def _relay(self, client: socket.socket) -> None:
        with socket.create_connection(self._behind) as server, selectors.DefaultSelector() as ready:
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                ready.register(one, selectors.EVENT_READ, other)
            while not self._stopping.is_set():
                for key, _ in ready.select(_POLL_SECONDS):
                    source, sink = key.fileobj, key.data
                    assert isinstance(source, socket.socket)
                    try:
                        data = source.recv(65536)
                        if data and source is client:
                            with self._lock:
                                self._said += data
                        sink.sendall(data)
                    except OSError:
                        return
                    if not data:
                        return
