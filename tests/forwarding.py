"""A listener that sends on what it gets, and archives behind it that do what a test wants."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.presentation import build_context

from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dimse_acceptor import Acceptor
from flute_sync.sources.dimse_peer import DimsePeerSettings
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.store_forward import ForwardSink, Outlets
from flute_sync.sources.store_pacs import PacsOutlets
from flute_sync.sources.store_settings import StoreScpSettings
from flute_sync.sources.store_stow import StowOutlets
from tests.dimse import EXPLICIT, RawSender, message
from tests.services.process import Process, free_port
from tests.stow import MR, FakeIntake


def pacs_at(port: int, **settings: Any) -> DimsePeerSettings:
    """Tell how a PACS on this machine is called."""
    chosen = {"answer_timeout": timedelta(seconds=10)} | settings
    return DimsePeerSettings(host="127.0.0.1", port=port, ae_title="PACS", **chosen)


@contextmanager
def forwarding(
    intake: FakeIntake, behind: DimsePeerSettings | ArchiveSettings, **settings: Any
) -> Iterator[Acceptor]:
    """Listen, and send on: by C-STORE to a PACS, by STOW-RS to an archive."""
    stow = None
    if isinstance(behind, DimsePeerSettings):
        outlets: Outlets = PacsOutlets(behind)
    else:
        outlets = stow = StowOutlets(behind, timedelta(seconds=10))
    sink = ForwardSink(intake, HeaderReader(), "pacs", outlets)
    acceptor = Acceptor(StoreScpSettings(port=0, mode="forward", **settings), sink)
    acceptor.start()
    try:
        yield acceptor
    finally:
        acceptor.stop(timedelta(seconds=2))
        if stow is not None:
            stow.close()


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[int]:
    """Run dcmtk's storescp, which writes what it gets as it came; return its port."""
    port = free_port()
    folder.mkdir(exist_ok=True)
    command = [shutil.which("storescp") or "storescp", "+B", "-od", str(folder), *options]
    process = Process([*command, str(port)], folder / "log", {"TCP_NODELAY": "1"})
    try:
        process.await_ready(lambda: _listens(port), 60)
        yield port
    finally:
        process.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@contextmanager
def answering(
    status: Callable[[evt.Event], int], syntax: str = EXPLICIT, port: int = 0
) -> Iterator[int]:
    """Run a PACS that answers as the test wants."""
    entity = AE("PACS")
    entity.supported_contexts = [build_context(MR, syntax)]
    server = entity.start_server(
        ("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, status)]
    )
    try:
        assert server is not None
        yield server.server_address[1]
    finally:
        entity.shutdown()


@contextmanager
def silent(reads: int = 0) -> Iterator[int]:
    """Take connections, read so many bytes, and say nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            opened.append(connection)
            if reads:
                connection.recv(reads)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in opened:
            connection.close()


def dataset_of(file: bytes) -> bytes:
    """Cut the data set out of a DICOM file."""
    length = int.from_bytes(file[140:144], "little")
    return file[144 + length :]


class Sender:
    """An association with one context, by which data sets are sent as they are."""

    def __init__(self, acceptor: Acceptor, syntax: str = EXPLICIT, sop_class: str = MR) -> None:
        self._sop_class = sop_class
        self.raw = RawSender(acceptor.port, ((sop_class, syntax),))
        assert self.raw.kind == 2

    def __enter__(self) -> "Sender":
        return self

    def __exit__(self, *_: object) -> None:
        self.raw.send(b"\5\0\0\0\0\4\0\0\0\0")
        self.raw.read()
        self.raw.socket.close()

    def store(self, instance: str, data: bytes) -> int:
        """Send an instance and return the status."""
        self.raw.send(message(1, self._sop_class, instance, data))
        return self.raw.status()


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a tool of dcmtk."""
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
