"""A transport for streamed uploads: little work per piece, and no connection that grew old.

httpx's own costs several milliseconds of CPU for each upload, which is as much as an archive
needs to store an image; the client above it (credentials, headers) is the same.
"""

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator
from datetime import timedelta
from typing import Final, cast

import httptools
import httpx

_LARGEST_ANSWER_BYTES: Final = 64 << 20
_LONGEST_IDLE: Final = timedelta(seconds=0.25)
"""A server closes what is idle, and an upload that meets it then cannot be repeated."""


class UploadTransport(httpx.AsyncBaseTransport):
    """Sends requests whose bodies are streamed, and reads answers whole.

    An answer that comes before the body was sent ends the sending. Bodies are asked for only once
    the connection stands, and nothing is sent before their first piece is there.

    Parameters
    ----------
    tls
        For https.

    References
    ----------
    RFC 9112 7.1 and 9.3
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: list[tuple[tuple[str, int], _Connection]] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises
        ------
        httpx.TransportError
            When there is no whole answer.
        """
        limits: dict[str, float | None] = request.extensions.get("timeout", {})
        connection = self._idle_to(request.url) or await self._open(request.url, limits)
        try:
            body = _pieces(request)
            first = await anext(body, b"")
            if not connection.reusable:
                connection = await self._open(request.url, limits)
            whole = await connection.send(request, first, body, limits.get("write"))
            answer = await connection.answer(limits.get("read"))
        except BaseException:
            connection.close()
            raise
        if whole and connection.reusable:
            self._idle.append((_origin(request.url), connection))
            asyncio.get_running_loop().call_later(_LONGEST_IDLE.total_seconds(), self._expire)
        else:
            connection.close()
        return answer

    async def aclose(self) -> None:
        """Close what is idle."""
        for _, connection in self._idle:
            connection.close()
        self._idle.clear()

    def _expire(self) -> None:
        # Each connection that is put aside brings one call with it, the oldest first.
        if self._idle and self._idle[0][1].idle_since + _LONGEST_IDLE.total_seconds() <= _now():
            self._idle.pop(0)[1].close()

    def _idle_to(self, url: httpx.URL) -> "_Connection | None":
        for index, (origin, connection) in reversed(list(enumerate(self._idle))):
            if origin == _origin(url):
                del self._idle[index]
                if connection.reusable:
                    return connection
        return None

    async def _open(self, url: httpx.URL, limits: dict[str, float | None]) -> "_Connection":
        tls = self._tls if url.scheme == "https" else None
        try:
            async with asyncio.timeout(limits.get("connect")):
                _, connection = await asyncio.get_running_loop().create_connection(
                    _Connection, *_origin(url), ssl=tls
                )
        except TimeoutError:
            raise httpx.ConnectTimeout("no connection in time") from None
        except OSError as error:
            raise httpx.ConnectError("no connection") from error
        return connection


def _now() -> float:
    return asyncio.get_running_loop().time()


def _origin(url: httpx.URL) -> tuple[str, int]:
    return url.host, url.port or {"http": 80, "https": 443}[url.scheme]


class _Connection(asyncio.Protocol):
    """One connection, and one exchange on it at a time."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._answer: asyncio.Future[httpx.Response] = self._loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._status = 0
        self.reusable = True
        self.idle_since = 0.0

    def close(self) -> None:
        """Break the connection off."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    async def send(
        self,
        request: httpx.Request,
        first: bytes,
        body: AsyncIterator[bytes],
        patience: float | None,
    ) -> bool:
        """Send a request; False when the answer came before its end."""
        if self._answer.done():
            self._answer = self._loop.create_future()
        chunked = b"chunked" in request.headers.get("transfer-encoding", "").encode()
        await self._write([_head(request), *_framed(first, chunked)], patience)
        async for piece in body:
            if self._answer.done():
                return False
            await self._write(_framed(piece, chunked), patience)
        if chunked:
            await self._write([b"0\r\n\r\n"], patience)
        return not self._answer.done()

    async def _write(self, pieces: list[bytes], patience: float | None) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.writelines(pieces)
        if not self._writable.is_set():
            try:
                async with asyncio.timeout(patience):
                    await self._writable.wait()
            except TimeoutError:
                raise httpx.WriteTimeout("the upload does not go on") from None

    async def answer(self, patience: float | None) -> httpx.Response:
        """Wait for the answer."""
        try:
            async with asyncio.timeout(patience):
                return await self._answer
        except TimeoutError:
            raise httpx.ReadTimeout("no answer in time") from None

    # What the event loop tells.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not derive from asyncio's.
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        if self._answer.done():
            # Nobody asked for this: whatever it is, it answers no request of ours.
            self.close()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(httpx.RemoteProtocolError("the answer is not HTTP"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        lengths = {b"content-length", b"transfer-encoding"}
        if self._status >= 200 and not any(name.lower() in lengths for name, _ in self._headers):
            self.on_message_complete()
        self._fail(httpx.RemoteProtocolError("the connection ended without a whole answer"))

    def _fail(self, error: httpx.TransportError) -> None:
        self.reusable = False
        self._writable.set()
        if not self._answer.done():
            self._answer.set_exception(error)
            # Whoever sends meets the error later, or another one first.
            self._answer.exception()

    # What the parser tells.

    def on_message_begin(self) -> None:
        self._headers, self._body, self._status = [], bytearray(), 0

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        self._body += body
        if len(self._body) > _LARGEST_ANSWER_BYTES:
            self._fail(httpx.RemoteProtocolError("the answer is too large"))
            self.close()

    def on_message_complete(self) -> None:
        if self._status < 200 or self._answer.done():
            return
        self.reusable = self.reusable and self._parser.should_keep_alive()
        self.idle_since = self._loop.time()
        answer = httpx.Response(self._status, headers=self._headers, content=bytes(self._body))
        self._answer.set_result(answer)
        self._writable.set()


def _pieces(request: httpx.Request) -> AsyncIterator[bytes]:
    if not isinstance(request.stream, AsyncIterable):
        raise TypeError("the body of an upload is an async stream")
    return aiter(request.stream)


def _framed(piece: bytes, chunked: bool) -> list[bytes]:
    if chunked:
        return [b"%x\r\n" % len(piece), piece, b"\r\n"] if piece else []
    return [piece]


def _head(request: httpx.Request) -> bytes:
    lines = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%s: %s" % field for field in request.headers.raw]
    if any(b"\r" in line or b"\n" in line for line in lines):
        raise httpx.LocalProtocolError("a line end in a header")
    return b"\r\n".join((*lines, b"", b""))
