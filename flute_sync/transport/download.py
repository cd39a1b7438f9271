"""A transport for large answers: they are handed on in the pieces in which they come.

httpx's own parses each answer in Python; at the rate of an archive next door that is what one
would wait for. The client above it (credentials, headers) is the same.
"""

import http.client
import ssl
from collections.abc import Iterator
from queue import Empty, SimpleQueue
from typing import Final

import httpx

_PIECE_BYTES: Final = 256 * 1024
_Place = tuple[str, str, int | None]


class DownloadTransport(httpx.BaseTransport):
    """Sends requests without bodies and streams the answers; safe to use from several threads.

    Parameters
    ----------
    tls
        For https.

    References
    ----------
    RFC 9112 6.3, 8 and 9.3
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: SimpleQueue[tuple[_Place, http.client.HTTPConnection]] = SimpleQueue()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises
        ------
        httpx.TransportError
            When there is no answer.
        """
        place = (request.url.scheme, request.url.host, request.url.port)
        limits: dict[str, float | None] = request.extensions.get("timeout", {})
        connection, fresh = self._taken(place), False
        try:
            if connection is None:
                connection, fresh = self._opened(place, limits), True
            try:
                answer = _asked(connection, request)
            except (http.client.RemoteDisconnected, ConnectionError):
                connection.close()
                if fresh:
                    raise
                # A connection that was idle may be closed by the server at any time.
                connection = self._opened(place, limits)
                answer = _asked(connection, request)
        except (OSError, http.client.HTTPException) as error:
            if connection is not None:
                connection.close()
            raise _translated(error) from error
        return httpx.Response(
            answer.status,
            headers=answer.getheaders(),
            stream=_Body(self, place, connection, answer),
        )

    def close(self) -> None:
        """Close what is idle."""
        while (found := self._taken(None)) is not None:
            found.close()

    def put_back(self, place: _Place, connection: http.client.HTTPConnection) -> None:
        """Keep a connection for the next request."""
        self._idle.put((place, connection))

    def _taken(self, place: _Place | None) -> http.client.HTTPConnection | None:
        try:
            at, connection = self._idle.get_nowait()
        except Empty:
            return None
        if place in (None, at):
            return connection
        connection.close()
        return None

    def _opened(self, place: _Place, limits: dict[str, float | None]) -> http.client.HTTPConnection:
        scheme, host, port = place
        patience = limits.get("connect")
        connection = (
            http.client.HTTPSConnection(host, port, timeout=patience, context=self._tls)
            if scheme == "https"
            else http.client.HTTPConnection(host, port, timeout=patience)
        )
        try:
            connection.connect()
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except OSError as error:
            raise httpx.ConnectError("no connection") from error
        connection.sock.settimeout(limits.get("read"))
        return connection


def _asked(
    connection: http.client.HTTPConnection, request: httpx.Request
) -> http.client.HTTPResponse:
    connection.putrequest(
        request.method,
        request.url.raw_path.decode("ascii"),
        skip_host=True,
        skip_accept_encoding=True,
    )
    for name, value in request.headers.raw:
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse()


def _translated(error: Exception) -> httpx.TransportError:
    if isinstance(error, httpx.TransportError):
        return error
    if isinstance(error, TimeoutError):
        return httpx.ReadTimeout("no answer in time")
    if isinstance(error, http.client.HTTPException):
        return httpx.RemoteProtocolError("the answer was not HTTP, or ended early")
    return httpx.ReadError("the connection broke")


class _Body(httpx.SyncByteStream):
    """The body of one answer, and the end of its connection."""

    def __init__(
        self,
        transport: DownloadTransport,
        place: _Place,
        connection: http.client.HTTPConnection,
        answer: http.client.HTTPResponse,
    ) -> None:
        self._transport = transport
        self._place = place
        self._connection = connection
        self._answer = answer
        self._is_whole = False

    def __iter__(self) -> Iterator[bytes]:
        answer = self._answer
        try:
            # A body that is cut off is no error to `read1`: what is still owed tells.
            owed = answer.length
            while piece := answer.read1(_PIECE_BYTES):
                owed = None if owed is None else owed - len(piece)
                yield piece
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise _translated(error) from error
        if owed:
            raise httpx.RemoteProtocolError("the answer ended early")
        self._is_whole = True

    def close(self) -> None:
        """Keep the connection where its answer was read to its end."""
        reusable = self._is_whole and not self._answer.will_close
        self._answer.close()
        if reusable:
            self._transport.put_back(self._place, self._connection)
        else:
            self._connection.close()
