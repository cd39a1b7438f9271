"""What tests of the STOW-RS service share: objects to send, an intake, a server, an archive."""

import asyncio
import contextlib
import io
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import orjson
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from flute_sync.daemon.http_server import HttpServer, Listener, TlsFiles
from flute_sync.intake import Delivery, IntentId, Performed, Received
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.stow_rs import StowRs
from flute_sync.sources.stow_settings import StowRsSettings
from flute_sync.study import StudyInstanceUID

MR = "1.2.840.10008.5.1.4.1.1.4"
BOUNDARY = "a-boundary"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def uid(*names: object) -> str:
    """Return a UID that follows from its names."""
    return str(generate_uid(entropy_srcs=[str(name) for name in names]))


def dicom(
    study: str = "study", series: str = "series", instance: object = 1, pixels: bytes = b"\0" * 512
) -> bytes:
    """Return a DICOM file; UIDs follow from the names given."""
    header = Dataset()
    header.SOPClassUID = MR
    header.SOPInstanceUID = uid(study, series, instance)
    header.StudyDate, header.StudyTime = "20240102", "101112"
    header.Modality = "MR"
    header.PatientName, header.PatientID = "Example^Adam", "PX1"
    header.StudyInstanceUID, header.SeriesInstanceUID = uid(study), uid(study, series)
    header.StudyID, header.SeriesNumber, header.InstanceNumber = "1", "1", "1"
    header.Rows, header.Columns = 16, min(max(1, len(pixels) // 32), 65535)
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 16
    header.HighBit, header.PixelRepresentation = 15, 0
    header.add_new("PixelData", "OW", pixels)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(MR)
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID("1.2.826.0.1.3680043.8.498.1")
    header.file_meta = meta
    file = io.BytesIO()
    header.save_as(file, enforce_file_format=True)
    return file.getvalue()


def multipart(parts: Iterable[bytes], boundary: str = BOUNDARY) -> bytes:
    """Return a multipart/related body."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


@dataclass
class FakeIntake:
    """An intake that remembers what it was told, can be told to fail, and can be held up."""

    calls: list[tuple[str, Any]] = field(default_factory=list)
    failing: dict[str, Exception] = field(default_factory=dict)
    gate: threading.Event = field(default_factory=threading.Event)
    erased: frozenset[str] = frozenset()
    asked: int = 0

    def __post_init__(self) -> None:
        self.gate.set()
        self._lock = threading.Lock()
        self._intents = 0

    def _told(self, name: str, what: Any) -> None:
        self.asked += 1
        assert self.gate.wait(60)
        with self._lock:
            if name in self.failing:
                raise self.failing[name]
            self.calls.append((name, what))

    def deliver(self, delivery: Delivery) -> frozenset[StudyInstanceUID]:
        if delivery.received or delivery.noticed or delivery.refused or delivery.under:
            self._told("deliver", delivery)
        else:
            self._told("close", delivery.closes)
        studies = {one.study_instance_uid for one in delivery.received}
        return frozenset(studies & self.erased)

    def intend(self, source: str, archive: str, studies: Iterable[StudyInstanceUID]) -> IntentId:
        self._told("intend", tuple(studies))
        self._intents += 1
        return IntentId(self._intents)

    def extend(self, intent: IntentId, studies: Iterable[StudyInstanceUID]) -> None:
        self._told("extend", (intent, tuple(studies)))

    def abandon(self, intent: IntentId) -> None:
        self._told("abandon", intent)

    def cursor(self, source: str, archive: str) -> str | None:
        return None

    def held(
        self, archive: str, after: StudyInstanceUID | None, limit: int
    ) -> tuple[StudyInstanceUID, ...]:
        return ()

    def performed_step(self, sop_instance_uid: str) -> tuple[Performed, ...]:
        return ()

    @property
    def names(self) -> list[str]:
        """What was called, in order."""
        return [name for name, _ in self.calls]

    @property
    def deliveries(self) -> list[Delivery]:
        """What was delivered."""
        return [what for name, what in self.calls if name == "deliver"]

    @property
    def received(self) -> list[Received]:
        """All that was received."""
        return [one for delivery in self.deliveries for one in delivery.received]


def sop_uids(received: Iterable[Received]) -> list[str]:
    """Return which instances those are."""
    return [str(one.instance.sop_instance_uid) for one in received]


@contextlib.contextmanager
def serving(
    intake: FakeIntake,
    archive: ArchiveSettings | None = None,
    *,
    tls: TlsFiles | None = None,
    grace: timedelta = timedelta(seconds=5),
    **settings: Any,
) -> Iterator[str]:
    """Run the service, and return its DICOMweb address."""
    chosen = StowRsSettings(mode="index" if archive is None else "forward", port=0, **settings)
    app = StowRs(chosen, intake, HeaderReader(), archive)
    listener = Listener("stow_rs", app, "127.0.0.1", 0, tls, header_timeout=chosen.header_timeout)
    server = HttpServer([listener])
    server.start()
    scheme = "http" if tls is None else "https"
    try:
        yield f"{scheme}://127.0.0.1:{server.port('stow_rs')}{chosen.path}"
    finally:
        server.stop(grace)
        assert not server.alive()


@dataclass
class Answer:
    """What a scripted archive says: when it has seen so many bytes, or the request's end."""

    body: bytes
    status: int = 200
    content_type: str = "application/dicom+json"
    headers: str = ""


class ScriptedArchive:
    """An HTTP server that keeps the bytes it gets, and answers as the test wants.

    ``answer`` is called with the decoded body of the request; returning None hangs up.
    """

    def __init__(self, answer: Callable[[bytes], Answer | None]) -> None:
        self._answer = answer
        self.raw = bytearray()
        self.requests: list[bytes] = []
        self.seen = threading.Condition()
        self.hang_up_at: int | None = None
        self.hang_up_after_answer = False
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    def __enter__(self) -> "ScriptedArchive":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(5)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        async def close() -> None:
            self._server.close()
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def settings(self) -> ArchiveSettings:
        """How to reach it."""
        return ArchiveSettings(dicomweb_url=f"http://127.0.0.1:{self.port}/pacs")

    def wait_for(self, condition: Callable[[bytes], bool], within: float = 10) -> None:
        """Wait until the bytes received so far meet a condition."""
        with self.seen:
            assert self.seen.wait_for(lambda: condition(bytes(self.raw)), within)

    def hang_up(self) -> None:
        """Say on every connection that nothing more comes; return when the other ends closed it."""

        async def end() -> None:
            writers = list(self._writers)
            for writer in writers:
                writer.write_eof()
            closing = (writer.wait_closed() for writer in writers)
            await asyncio.gather(*closing, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.remove(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        body = b""
        if b"transfer-encoding: chunked" in head.lower():
            body = await self._chunks(reader)
        answer = self._answer(body)
        if answer is None:
            return False
        writer.write(
            f"HTTP/1.1 {answer.status} X\r\nContent-Type: {answer.content_type}\r\n"
            f"{answer.headers}Content-Length: {len(answer.body)}\r\n\r\n".encode()
        )
        if not head.startswith(b"HEAD"):
            writer.write(answer.body)
        await writer.drain()
        return not self.hang_up_after_answer

    async def _chunks(self, reader: asyncio.StreamReader) -> bytes:
        body = bytearray()
        while True:
            size = int(await reader.readuntil(b"\r\n"), 16)
            chunk = (await reader.readexactly(size + 2))[:-2]
            body += chunk
            with self.seen:
                self.raw += chunk
                self.seen.notify_all()
            if not size:
                return bytes(body)
            if self.hang_up_at is not None and len(body) >= self.hang_up_at:
                raise ConnectionResetError


def sent_uids(body: bytes, parts: Sequence[bytes]) -> list[str]:
    """Return the SOP Instance UIDs of those files that a body holds whole."""
    reader = HeaderReader()
    return [sop_uids([reader.read(part)])[0] for part in parts if part in body]


def store_answer(
    stored: Iterable[str], failed: Iterable[str] = (), base: str = "http://pacs.invalid/pacs"
) -> bytes:
    """Return a Store Instances Response Module as an archive would say it."""

    def item(sop_uid: str, **more: Any) -> dict[str, Any]:
        return {
            "00081150": {"vr": "UI", "Value": [MR]},
            "00081155": {"vr": "UI", "Value": [sop_uid]},
            **more,
        }

    def url(sop_uid: str) -> dict[str, Any]:
        return {"vr": "UR", "Value": [f"{base}/studies/1/series/2/instances/{sop_uid}"]}

    reason = {"vr": "US", "Value": [0x0110]}
    return orjson.dumps(
        {
            "00081190": {"vr": "UR", "Value": [f"{base}/studies/1"]},
            "00081199": {
                "vr": "SQ",
                "Value": [item(one, **{"00081190": url(one)}) for one in stored],
            },
            "00081198": {
                "vr": "SQ",
                "Value": [item(one, **{"00081197": reason}) for one in failed],
            },
        }
    )


def post(url: str, parts: Iterable[bytes], study: str = "", **headers: str) -> httpx.Response:
    """Send an upload."""
    address = f"{url}/studies" + (f"/{study}" if study else "")
    sent = {"Content-Type": RELATED, **headers}
    return httpx.post(address, content=multipart(parts), headers=sent, trust_env=False, timeout=60)


def talk(url: str) -> socket.socket:
    """Open a plain connection to the service."""
    parsed = httpx.URL(url)
    return socket.create_connection((parsed.host, parsed.port or 80), timeout=60)
