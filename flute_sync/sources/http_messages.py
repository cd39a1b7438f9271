"""Requests and replies of our HTTP services, between ASGI and what PS3.18 8 says of them."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import parse_qs

import orjson
from starlette.types import Receive, Scope, Send

from flute_sync.errors import FluteSyncError, TransientError
from flute_sync.upload_errors import (
    RequestRefused,
    UploadInterrupted,
    UploadTooLarge,
    UploadTooSlow,
)

_HOST: Final = re.compile(r"[0-9A-Za-z._~-]+(?::[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](?::[0-9]{1,5})?")
_Q: Final = re.compile(r"q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")
_UNSAFE: Final = re.compile(r"[^ !#-\[\]-~]")
_RETRY_AFTER: Final = timedelta(seconds=5)
_LINGER: Final = timedelta(seconds=2)
_LINGER_BYTES: Final = 64 << 20


class Representation(StrEnum):
    """In which form an answer is given; the value is the media type it is labelled with."""

    JSON = "application/dicom+json"
    PLAIN_JSON = "application/json"
    XML = "application/dicom+xml"
    PLAIN_XML = "application/xml"

    @property
    def is_xml(self) -> bool:
        """Whether it is the Native DICOM Model (PS3.19 A.1)."""
        return self in (Representation.XML, Representation.PLAIN_XML)


_OFFERED: Final = {
    "application/dicom+json": Representation.JSON,
    "application/json": Representation.PLAIN_JSON,
    "application/dicom+xml": Representation.XML,
    "application/xml": Representation.PLAIN_XML,
    "text/xml": Representation.PLAIN_XML,
}


class Request:
    """What an HTTP request says before its body.

    ``headers`` has names in lower case; what is repeated is joined by commas (RFC 9110 5.3).
    """

    def __init__(self, scope: Scope) -> None:
        self.method: str = scope["method"]
        self.raw_path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope.get("query_string", b"")
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            headers[name] = headers[name] + b", " + value if name in headers else value
        self.headers: Mapping[bytes, bytes] = headers
        self._scheme: str = scope.get("scheme", "http")
        self._server: tuple[str, int | None] | None = scope.get("server")

    @property
    def origin(self) -> str:
        """Scheme, host and port by which the client reached us.

        A Host that is our own address without a port leaves it out by mistake, as dicomweb-client
        does: what stands between a client and us would have a name of its own.
        """
        host = self.headers.get(b"host", b"").decode("latin-1")
        name, port = self._server or ("localhost", None)
        name = f"[{name}]" if ":" in name else name
        portless = host in (name, "localhost")
        if _HOST.fullmatch(host) and not portless:
            return f"{self._scheme}://{host}"
        return f"{self._scheme}://{host if portless else name}" + (f":{port}" if port else "")

    @property
    def content_length(self) -> int | None:
        """How long the body says it is."""
        value = self.headers.get(b"content-length", b"")
        return int(value) if value.isdigit() else None

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for leave to send its body (RFC 9110 10.1.1)."""
        return self.headers.get(b"expect", b"").lower() == b"100-continue"

    def representation(self) -> Representation:
        """Choose the form of the answer by the ``accept`` parameter or the Accept header.

        DICOM JSON is the default, and also the answer to those who accept nothing we have: a
        sender that stored its images should read an answer rather than send them again.

        References
        ----------
        PS3.18 8.7.5 (2026b)
        """
        asked = parse_qs(self.query.decode("latin-1")).get("accept")
        header = self.headers.get(b"accept", b"").decode("latin-1")
        best, best_quality = Representation.JSON, 0.0
        for media_range in (asked or [header])[0].split(","):
            name, _, parameters = media_range.partition(";")
            offered = _OFFERED.get(name.strip().lower())
            if name.strip().lower() == "multipart/related" and "dicom+xml" in parameters:
                offered = Representation.XML
            match = _Q.search(parameters.replace(" ", ""))
            quality = float(match[1]) if match else 1.0
            if offered is not None and quality > best_quality:
                best, best_quality = offered, quality
        return best


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    body: bytes
    content_type: str
    headers: tuple[tuple[bytes, bytes], ...] = ()

    def with_header(self, name: bytes, value: bytes) -> "Reply":
        """Return the same answer with one header more."""
        return replace(self, headers=(*self.headers, (name, value)))


def status_report(error: FluteSyncError, request: Request, *, as_json: bool = False) -> Reply:
    """Say an error in a Status Report: code, message and hint (PS3.18 8.6.3, 2026b).

    Parameters
    ----------
    as_json
        Whether it is JSON whatever the client accepts.
    """
    status = error.status if isinstance(error, RequestRefused) else error.http_status
    sentence = _UNSAFE.sub("?", f"{error.code}: {error.sentence}")
    if as_json or b"json" in request.headers.get(b"accept", b"").lower():
        report = {"code": error.code, "message": error.sentence, "hint": error.hint}
        reply = Reply(status, orjson.dumps(report), "application/json")
    else:
        text = f"{error.code}: {error.sentence}.\n{error.hint}\n"
        reply = Reply(status, text.encode(), "text/plain; charset=utf-8")
    reply = reply.with_header(b"warning", f'299 flute-sync "{sentence}"'.encode())
    if isinstance(error, TransientError) and reply.status == 503:
        wait = error.retry_after or _RETRY_AFTER
        seconds = max(1, round(wait.total_seconds()))
        reply = reply.with_header(b"retry-after", str(seconds).encode())
    return reply


async def respond(reply: Reply, send: Send) -> None:
    """Send an answer."""
    await _begin(reply, send)
    await send({"type": "http.response.body", "body": reply.body})


async def respond_early(reply: Reply, request: Request, receive: Receive, send: Send) -> None:
    """Send an answer although the body was not read to its end, and close the connection.

    What the client still sends is read for a moment, since closing at once would reset the
    connection and could take the answer away from it (RFC 9112 9.6).
    """
    await _begin(reply.with_header(b"connection", b"close"), send)
    await send({"type": "http.response.body", "body": reply.body, "more_body": True})
    if not request.expects_continue:
        await _linger(receive)
    await send({"type": "http.response.body"})


async def _begin(reply: Reply, send: Send) -> None:
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    ]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})


async def _linger(receive: Receive) -> None:
    left = _LINGER_BYTES
    try:
        async with asyncio.timeout(_LINGER.total_seconds()):
            while left > 0:
                message = await receive()
                if not message.get("more_body", False):
                    return
                left -= len(message["body"])
    except TimeoutError:
        return


async def body_chunks(
    receive: Receive, *, largest_bytes: int, idle: timedelta, longest: timedelta
) -> AsyncGenerator[bytes, None]:
    """Yield a request's body as it comes.

    Parameters
    ----------
    largest_bytes
        Of the whole body.
    idle
        How long the client may send nothing.
    longest
        How long the whole body may take, waits for whoever consumes it included.

    Raises
    ------
    UploadTooLarge, UploadTooSlow, UploadInterrupted
        Also when the client has gone.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + longest.total_seconds()
    taken = 0
    more = True
    while more:
        try:
            async with asyncio.timeout_at(min(until, clock() + idle.total_seconds())):
                message = await receive()
        except TimeoutError:
            raise UploadTooSlow from None
        if message["type"] == "http.disconnect":
            raise UploadInterrupted
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        taken += len(chunk)
        if taken > largest_bytes:
            raise UploadTooLarge("the request is larger than stow_rs.max_request_bytes")
        if chunk:
            yield chunk
