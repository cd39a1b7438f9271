"""The way onward by STOW-RS: each instance that comes by C-STORE is one request to the archive.

The association's thread hands pieces to an event loop, which streams them on; a few are on their
way at once, so that memory stays flat.

References
----------
PS3.18 10.5 and I.2 (2026b), PS3.10 7.1 (2026b).
"""

import asyncio
import secrets
import threading
from collections.abc import AsyncGenerator, Coroutine, Sequence
from concurrent.futures import CancelledError
from datetime import timedelta
from struct import pack
from typing import Any, Final, TypeVar

import httpx
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID

from flute_sync.archive_errors import (
    ArchiveRefused,
    ArchiveServerError,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.errors import PermanentError, TransientError
from flute_sync.intake import Received
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.store_sink import Caller, Context, StoreCommand
from flute_sync.sources.stow_forward import TELLING, UNAUTHORIZED, judge, upload
from flute_sync.sources.stow_response import StoreResponse
from flute_sync.transport.client import upload_client

_T = TypeVar("_T")

_PIECE_BYTES: Final = 256 << 10
_PIECES: Final = 4
_PROCESSING_FAILURE: Final = 0x0110
_FAILURES: Final = range(0x0100, 0x0300)  # PS3.7 annex C
_FAILURE_CLASSES: Final = frozenset({0xA000, 0xC000})  # PS3.4 B.2.3


class StowOutlets:
    """Makes ways to one archive, which share an event loop and its connections.

    Parameters
    ----------
    answer_timeout
        How long the archive may take to answer an upload.
    """

    def __init__(self, archive: ArchiveSettings, answer_timeout: timedelta) -> None:
        self._client = upload_client(archive, archive.dicomweb_url)
        self._target = httpx.URL(f"{archive.dicomweb_url.rstrip('/')}/studies")
        self._timeout = httpx.Timeout(
            answer_timeout.total_seconds(), connect=archive.connect_timeout.total_seconds()
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="store-stow", daemon=True
        )
        self._thread.start()

    def acceptable(self, proposed: Sequence[Context]) -> Sequence[Context]:
        """Take every context: what the archive does not take it refuses by instance."""
        return proposed

    def __call__(self, _caller: Caller) -> "StowOutlet":
        """Make the way for an association."""
        return StowOutlet(self)

    def alive(self) -> bool:
        """Whether the event loop runs."""
        return self._thread.is_alive()

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Do something in the event loop, and wait for it.

        Raises
        ------
        ArchiveUnavailable
            When the event loop is ended instead.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError:
            raise ArchiveUnavailable("the way to it is closed") from None

    def close(self) -> None:
        """Break off what is on its way, and end the event loop."""
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        uploads = asyncio.all_tasks() - {asyncio.current_task()}
        for task in uploads:
            task.cancel()
        await asyncio.gather(*uploads, return_exceptions=True)
        await self._client.aclose()

    async def post(self, content_type: str, body: AsyncGenerator[bytes, None]) -> httpx.Response:
        """Send one upload; runs in the event loop.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError
            When there is no whole answer.
        """
        return await upload(self._client, self._target, content_type, body, self._timeout)


class StowOutlet:
    """Sends the instances of one association, one request each."""

    def __init__(self, outlets: StowOutlets) -> None:
        self._outlets = outlets
        self._upload: _Upload | None = None
        self._ready = bytearray()

    def begin(self, command: StoreCommand) -> None:
        """Connect, and begin a request.

        Raises
        ------
        ArchiveUnavailable
            When there is no connection.
        """
        self._upload = self._outlets.run(_Upload.open(self._outlets))
        self._ready = bytearray(self._upload.head + _meta_group(command))

    def send(self, data: bytes) -> None:
        """Send a piece of the data set; small ones wait for others."""
        self._ready += data
        if len(self._ready) >= _PIECE_BYTES:
            self._hand_over()

    def finish(self, received: Received) -> int:
        """Complete the request, and return the status that the archive's answer amounts to.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveRefused, ArchiveUnauthorized
            When it does not say what became of the instance.
        """
        current = self._current()
        self._ready += current.tail
        self._hand_over()
        self._upload = None
        return _status(self._outlets.run(current.answer()), received)

    def cancel(self) -> None:
        """Break the request off; its end was not sent."""
        current, self._upload = self._upload, None
        if current is not None:
            self._outlets.run(current.cancel())

    def close(self) -> None:
        """End the way."""
        self.cancel()

    def _hand_over(self) -> None:
        piece, self._ready = bytes(self._ready), bytearray()
        self._outlets.run(self._current().hand_over(piece))

    def _current(self) -> "_Upload":
        if self._upload is None:
            raise RuntimeError("no instance was begun")
        return self._upload


class _Upload:
    """One request; made and used in the event loop."""

    def __init__(self, outlets: StowOutlets) -> None:
        boundary = secrets.token_hex(16)
        self.head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
        self.tail = f"\r\n--{boundary}--\r\n".encode()
        content_type = f'multipart/related; type="application/dicom"; boundary={boundary}'
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue(_PIECES)
        self._connected = asyncio.Event()
        self._is_whole = False
        self._task = asyncio.create_task(outlets.post(content_type, self._body()))

    @classmethod
    async def open(cls, outlets: StowOutlets) -> "_Upload":
        opened = cls(outlets)
        if await opened._ended_during(opened._connected.wait()):
            opened._task.result()
            raise ArchiveServerError("it answered before it had anything of the upload")
        return opened

    async def hand_over(self, piece: bytes) -> None:
        if await self._ended_during(self._pieces.put(piece)):
            self._task.result()  # an answer that came too early is judged at the end

    async def answer(self) -> httpx.Response:
        await self._ended_during(self._pieces.put(None))
        response = await self._task
        if response.is_success and not self._is_whole:
            raise ArchiveServerError("it answered before it had the whole upload")
        return response

    async def cancel(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _ended_during(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Do something for which the archive must go on; tell whether it ended instead."""
        doing = asyncio.create_task(work)
        await asyncio.wait({doing, self._task}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            return False
        doing.cancel()
        return True

    async def _body(self) -> AsyncGenerator[bytes, None]:
        self._connected.set()
        while (piece := await self._pieces.get()) is not None:
            yield piece
        self._is_whole = True


def _status(response: httpx.Response, received: Received) -> int:
    """Turn the archive's answer into a C-STORE status."""
    uid = received.instance.sop_instance_uid
    try:
        answer = StoreResponse.read(response.headers.get("content-type", ""), response.content)
        judgement = judge({uid: {received}}, answer)
    except ArchiveServerError as error:
        raise _failure(response.status_code, error) from error
    if judgement.received:
        warning = answer.reason(uid)
        return warning if warning & 0xF000 == 0xB000 else 0
    if judgement.doubtful:
        raise ArchiveServerError("its answer to an upload does not name the instance")
    reason = answer.reason(uid)
    is_failure = reason & 0xF000 in _FAILURE_CLASSES or reason in _FAILURES
    return reason if is_failure else _PROCESSING_FAILURE


def _failure(
    status: int, error: ArchiveServerError
) -> PermanentError | TransientError | ArchiveUnauthorized:
    if status in UNAUTHORIZED:
        return ArchiveUnauthorized(f"HTTP {status} to an upload")
    if status in TELLING and status >= 400:
        return ArchiveRefused(f"HTTP {status} to an upload", status=status)
    return error


def _meta_group(command: StoreCommand) -> bytes:
    """Write what comes before the data set in a DICOM file."""
    elements = (
        pack("<HH2sxxL", 2, 0x0001, b"OB", 2) + b"\0\1"
        + _uid(0x0002, command.sop_class_uid)
        + _uid(0x0003, command.sop_instance_uid)
        + _uid(0x0010, command.transfer_syntax)
        + _uid(0x0012, PYNETDICOM_IMPLEMENTATION_UID)
    )  # fmt: skip
    return bytes(128) + b"DICM" + pack("<HH2sHL", 2, 0, b"UL", 4, len(elements)) + elements


def _uid(element: int, uid: str) -> bytes:
    value = uid.encode("ascii", "replace")
    value += b"\0" * (len(value) % 2)
    return pack("<HH2sH", 2, element, b"UI", len(value)) + value
