"""Pass QIDO-RS and WADO-RS through to the archive, so that one address serves a client.

Answers are streamed. Addresses in them lead back here: in JSON and XML the archive's own address
is replaced as the bytes go by; pixels and other binary data are never looked at.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import timedelta
from typing import Final
from urllib.parse import unquote_to_bytes, urlsplit

import httpx
from starlette.types import Receive, Send

from flute_sync.archive_errors import ArchiveUnauthorized, ArchiveUnavailable
from flute_sync.events import Event, fields
from flute_sync.sources.http_messages import Request
from flute_sync.sources.multipart import media_type
from flute_sync.transport.failure import what_failed
from flute_sync.upload_errors import RequestRefused

log = logging.getLogger(__name__)

_PATH: Final = re.compile(rb"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+)+/?")
_QUERY: Final = re.compile(rb"[!-~]*")
_RESOURCES: Final = frozenset({b"studies", b"series", b"instances", b"bulkdata"})
_ASKED: Final = frozenset(
    {b"accept", b"range", b"if-match", b"if-none-match", b"if-modified-since"}
    | {b"if-unmodified-since", b"if-range", b"cache-control"}
)
_ANSWERED: Final = frozenset(
    {"content-type", "content-length", "content-encoding", "content-range", "content-disposition"}
    | {"content-location", "accept-ranges", "etag", "last-modified", "cache-control", "expires"}
    | {"vary", "warning", "retry-after"}
)
_OF_THE_BYTES: Final = frozenset(
    {"content-length", "content-encoding", "accept-ranges", "etag", "content-md5"}
)
_UNAUTHORIZED: Final = frozenset({401, 403, 407})


class Rewriter:
    """Replace addresses in a stream of bytes, wherever it is cut.

    Parameters
    ----------
    bases
        Addresses to replace, without a slash at the end; also found with ``/`` written ``\\/``.
    """

    def __init__(self, bases: Iterable[str], replacement: str) -> None:
        self._words: dict[bytes, bytes] = {}
        for base in bases:
            for slash in ("/", "\\/"):
                word, new = f"{base}/".replace("/", slash), f"{replacement}/".replace("/", slash)
                self._words[word.encode()] = new.encode()
        longest_first = sorted(self._words, key=len, reverse=True)
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)))
        self._longest_bytes = len(longest_first[0])
        self._rest = b""

    def feed(self, chunk: bytes) -> bytes:
        """Take some bytes, and return those that are certain."""
        data = self._rest + chunk
        out = []
        position = 0
        for match in self._pattern.finditer(data):
            out += [data[position : match.start()], self._words[match[0]]]
            position = match.end()
        certain = max(position, len(data) - self._longest_bytes + 1)
        out.append(data[position:certain])
        self._rest = data[certain:]
        return b"".join(out)

    def close(self) -> bytes:
        """Return what was still held back."""
        return self._rest


class Gateway:
    """Reads for clients of ours.

    Parameters
    ----------
    client
        To the archive; it adds our credentials, never the client's.
    dicomweb_url
        The archive's address as we reach it.
    other_urls
        Addresses of the archive that may stand in its answers too.
    patience
        How long a client may leave an answer unread.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        dicomweb_url: str,
        other_urls: Iterable[str],
        patience: timedelta,
    ) -> None:
        self._client = client
        self._base = dicomweb_url.rstrip("/")
        self._bases = {self._base, *(url.rstrip("/") for url in other_urls)}
        self._patience = patience

    async def serve(
        self, request: Request, path: bytes, public_base: str, receive: Receive, send: Send
    ) -> None:
        """Answer a GET or HEAD as the archive does.

        Parameters
        ----------
        path
            Below the DICOMweb root, as it came.
        public_base
            Our own root, which takes the place of the archive's in what is answered.

        Raises
        ------
        RequestRefused, ArchiveUnavailable, ArchiveUnauthorized
            When nothing has been answered yet.
        """
        try:
            response = await self._client.send(self._outgoing(request, path), stream=True)
        except httpx.HTTPError as error:
            raise ArchiveUnavailable(what_failed(error)) from error
        try:
            await self._answer(request, response, public_base, receive, send)
        finally:
            await response.aclose()

    def _outgoing(self, request: Request, path: bytes) -> httpx.Request:
        segments = [unquote_to_bytes(segment) for segment in path.split(b"/")[1:]]
        strays = any(part in (b".", b"..") or set(part) & set(b"/\\\0") for part in segments)
        if not _PATH.fullmatch(path) or strays or segments[0] not in _RESOURCES:
            raise RequestRefused("there is no such DICOMweb resource", status=404)
        if not _QUERY.fullmatch(request.query):
            raise RequestRefused("the query has characters that no address may have")
        target = urlsplit(self._base).path.encode() + path
        if request.query:
            # As it came: some archives match nothing where more is encoded than must be.
            target += b"?" + request.query
        headers = [
            (name, value)
            for name, value in request.headers.items()
            if name in _ASKED or name.startswith(b"accept-")
        ]
        if b"accept-encoding" not in request.headers:
            headers.append((b"accept-encoding", b"identity"))
        return self._client.build_request(
            request.method, self._base, headers=headers, extensions={"target": target}
        )

    async def _answer(
        self,
        request: Request,
        response: httpx.Response,
        public_base: str,
        receive: Receive,
        send: Send,
    ) -> None:
        status = response.status_code
        if status in _UNAUTHORIZED:
            raise ArchiveUnauthorized(f"HTTP {status} to a read")
        if 300 <= status < 400 and status != 304:
            raise ArchiveUnavailable(f"HTTP {status}: it redirects; set its final address")
        rewriter = Rewriter(self._bases, public_base) if _is_text(response) else None
        headers = []
        for name, value in response.headers.items():
            if name in _ANSWERED and not (rewriter and name in _OF_THE_BYTES):
                if name == "content-location":
                    value = _led_back(value, self._bases, public_base)
                headers.append((name.encode("latin-1"), value.encode("latin-1", "replace")))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if request.method == "HEAD" or await self._stream(response, rewriter, receive, send):
            await send({"type": "http.response.body"})

    async def _stream(
        self, response: httpx.Response, rewriter: Rewriter | None, receive: Receive, send: Send
    ) -> bool:
        """Send the body; False when it breaks off, and the connection with it."""
        gone = asyncio.create_task(_until_gone(receive))
        try:
            async with aclosing(_pieces(response, rewriter)) as pieces:
                async for piece in pieces:
                    if gone.done():
                        return False
                    async with asyncio.timeout(self._patience.total_seconds()):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            return True
        except httpx.HTTPError as error:
            broken = ArchiveUnavailable(what_failed(error))
            log.warning(broken.sentence, extra=fields(Event.SOURCE_FAILED, code=broken.code))
            return False
        except TimeoutError:
            return False
        finally:
            gone.cancel()


async def _pieces(
    response: httpx.Response, rewriter: Rewriter | None
) -> AsyncGenerator[bytes, None]:
    if rewriter is None:
        async for chunk in response.aiter_raw():
            yield chunk
        return
    async for chunk in response.aiter_bytes():
        certain = rewriter.feed(chunk)
        if certain:
            yield certain
    yield rewriter.close()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_text(response: httpx.Response) -> bool:
    content = media_type(response.headers.get("content-type", "").encode("latin-1"))
    if content is None or response.status_code == 206:
        return False
    essence = content.essence
    if essence == "multipart/related":
        essence = content.parameters.get("type", "").lower()
    return essence.endswith(("/json", "+json", "/xml", "+xml"))


def _led_back(address: str, bases: Iterable[str], public_base: str) -> str:
    for base in bases:
        if address == base or address.startswith(f"{base}/"):
            return public_base + address.removeprefix(base)
    return address
