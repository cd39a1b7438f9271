"""The DICOMweb service: STOW-RS (PS3.18 10.5), and QIDO-RS and WADO-RS through to the archive.

`StowRs` is the ASGI application; it routes, checks who asks and how much is under way, and says
what went wrong.
"""

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import timedelta
from typing import Final

import httpx
from starlette.types import Receive, Scope, Send

from flute_sync.archive_errors import ArchiveUnavailable
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.intake import Intake
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicomweb_gateway import Gateway
from flute_sync.sources.http_access import Access
from flute_sync.sources.http_messages import (
    Reply,
    Request,
    body_chunks,
    respond,
    respond_early,
    status_report,
)
from flute_sync.sources.stow_forward import ForwardedUpload
from flute_sync.sources.stow_index import IndexedUpload
from flute_sync.sources.stow_intents import Intents, UploadIntent
from flute_sync.sources.stow_ledger import SOURCE, LedgerDoor
from flute_sync.sources.stow_parts import Headers, Parts, Tally, open_upload
from flute_sync.sources.stow_settings import StowRsSettings
from flute_sync.transport.client import async_client, upload_client
from flute_sync.upload_errors import RequestRefused, TooManyUploads, UploadInterrupted

__all__ = ["StowRs", "StowRsSettings"]

log = logging.getLogger(__name__)

_LAST_WORDS: Final = timedelta(seconds=5)
_STORE: Final = re.compile(rb"/studies(?:/([0-9.]{1,64}))?/?")


class StowRs:
    """The application for one listener.

    Parameters
    ----------
    intake
        Where facts are delivered; its methods may block.
    headers
        Makes a header parser for each part.
    archive
        The PACS to forward to and to read from. In ``index`` mode it only tells where the copies'
        originals are, and may be None.

    Raises
    ------
    ValueError
        When ``mode`` is "forward" and there is no archive.
    """

    def __init__(
        self,
        settings: StowRsSettings,
        intake: Intake,
        headers: Headers,
        archive: ArchiveSettings | None,
    ) -> None:
        if settings.mode == "forward" and archive is None:
            raise ValueError("forward needs an archive")
        self._settings = settings
        self._headers = headers
        self._archive = ArchiveSettings() if archive is None else archive
        self._retrieve_base = None if archive is None else archive.endpoint_url
        self._target = httpx.URL(f"{self._archive.dicomweb_url.rstrip('/')}/studies")
        self._access = Access(settings.auth)
        self._root = settings.path.encode()
        threads = min(settings.max_uploads, 64)
        self._door = LedgerDoor(intake, self._archive.name, threads, final=archive is None)
        self._intents = Intents(self._door)
        self._uploads = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._upload_client: httpx.AsyncClient | None = None
        self._gateway: Gateway | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the life of the server (ASGI 3.0)."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            request = Request(scope)
            try:
                await self._serve(request, receive, send)
            except FluteSyncError as error:
                await respond_early(status_report(error, request), request, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        if self._settings.mode == "forward":
            # Reads have connections of their own: slow readers must not hold uploads up.
            self._upload_client = upload_client(self._archive, self._archive.dicomweb_url)
        reader = None
        if self._settings.passes_reads:
            reader = async_client(self._archive, self._archive.dicomweb_url)
            self._gateway = Gateway(
                reader,
                self._archive.dicomweb_url,
                [self._archive.endpoint_url],
                self._settings.idle_timeout,
            )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS.total_seconds()):
                await self._idle.wait()
        self._intents.close()
        await self._door.close()
        for client in (self._upload_client, reader):
            if client is not None:
                await client.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _serve(self, request: Request, receive: Receive, send: Send) -> None:
        if not self._access.admits(request.headers.get(b"authorization")):
            refusal = status_report(RequestRefused("credentials are needed", status=401), request)
            refusal = refusal.with_header(b"www-authenticate", self._access.challenge)
            _note_refusal("a request without valid credentials was refused", 401)
            await respond_early(refusal, request, receive, send)
            return
        if not request.raw_path.startswith(self._root + b"/"):
            raise RequestRefused("nothing is served at this address", status=404)
        path = request.raw_path[len(self._root) :]
        store = _STORE.fullmatch(path)
        if request.method == "POST" and store is not None:
            await self._upload(request, (store[1] or b"").decode(), receive, send)
        elif request.method in ("GET", "HEAD"):
            await self._read(request, path, receive, send)
        else:
            await self._refuse_method(request, store is not None, receive, send)

    async def _refuse_method(
        self, request: Request, store: bool, receive: Receive, send: Send
    ) -> None:
        allowed = ["POST"] if store else []
        allowed += ["GET", "HEAD"] if self._gateway is not None else []
        refusal = status_report(RequestRefused("this method is not served", status=405), request)
        refusal = refusal.with_header(b"allow", ", ".join(allowed).encode())
        await respond_early(refusal, request, receive, send)

    async def _read(self, request: Request, path: bytes, receive: Receive, send: Send) -> None:
        if self._gateway is None:
            if self._settings.mode == "index":
                raise RequestRefused("nothing can be read here: no archive is behind", status=404)
            _note_refusal("a read was refused: no authentication is set", 403)
            raise RequestRefused("reading needs [stow_rs.auth] beyond this machine", status=403)
        await self._gateway.serve(request, path, self._public_base(request), receive, send)

    async def _upload(self, request: Request, study: str, receive: Receive, send: Send) -> None:
        started = time.monotonic()
        tally = Tally()
        try:
            parts = Parts(open_upload(request, self._settings), self._headers, self._settings)
            if self._uploads >= self._settings.max_uploads:
                raise TooManyUploads
            self._uploads += 1
            self._idle.clear()
            try:
                upload = self._forwarded if self._settings.mode == "forward" else self._indexed
                reply = await upload(request, parts, study, receive, tally)
            finally:
                self._uploads -= 1
                if not self._uploads:
                    self._idle.set()
        except FluteSyncError as error:
            _note_upload(error, tally, error.http_status, time.monotonic() - started)
            raise
        _note_upload(None, tally, reply.status, time.monotonic() - started)
        await respond(reply, send)

    async def _forwarded(
        self, request: Request, parts: Parts, study: str, receive: Receive, tally: Tally
    ) -> Reply:
        if self._upload_client is None:
            raise ArchiveUnavailable("the service is not started")
        settings = self._settings
        connect = self._archive.connect_timeout.total_seconds()
        upload = ForwardedUpload(
            request,
            parts,
            UploadIntent(self._intents),
            self._upload_client,
            tally,
            target=self._target.copy_with(path=f"{self._target.path}/{study}")
            if study
            else self._target,
            public_base=self._public_base(request),
            timeout=httpx.Timeout(settings.answer_timeout.total_seconds(), connect=connect),
        )
        async with aclosing(self._body(receive)) as body:
            return await upload.reply(body)

    async def _indexed(
        self, request: Request, parts: Parts, study: str, receive: Receive, tally: Tally
    ) -> Reply:
        upload = IndexedUpload(
            request,
            parts,
            self._door,
            tally,
            study=study or None,
            retrieve_base=self._retrieve_base,
        )
        async with aclosing(self._body(receive)) as body:
            return await upload.reply(body)

    def _body(self, receive: Receive) -> AsyncGenerator[bytes, None]:
        return body_chunks(
            receive,
            largest_bytes=self._settings.max_request_bytes,
            idle=self._settings.idle_timeout,
            longest=self._settings.longest_upload,
        )

    def _public_base(self, request: Request) -> str:
        if self._settings.public_url is not None:
            return self._settings.public_url.rstrip("/")
        return request.origin + self._settings.path


def _note_refusal(sentence: str, status: int) -> None:
    log.warning(sentence, extra=fields(Event.HTTP_REFUSED, source=SOURCE, status=status))


def _note_upload(error: FluteSyncError | None, tally: Tally, status: int, seconds: float) -> None:
    counts: dict[str, object] = {
        "source": SOURCE,
        "status": status,
        "parts": tally.parts,
        "failed": tally.failed,
        "studies": len(tally.studies),
        "bytes": tally.bytes,
        "duration_seconds": round(seconds, 3),
    }
    if error is None:
        event = Event.UPLOAD_ACCEPTED if tally.failed < tally.parts else Event.UPLOAD_REFUSED
        log.info("an upload was answered", extra=fields(event, **counts))
        return
    gone = isinstance(error, UploadInterrupted)
    event = Event.UPLOAD_INTERRUPTED if gone else Event.UPLOAD_REFUSED
    log.warning(error.sentence, extra=fields(event, code=error.code, hint=error.hint, **counts))
