"""Who takes part in the bench of STOW-RS, each a process: ``python -m bench.parties KIND ...``."""

import argparse
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import uvicorn
from starlette.types import Receive, Scope, Send

from flute_sync.completeness import StudySettings
from flute_sync.daemon.http_server import HttpServer, Listener
from flute_sync.ledger import Ledger, LedgerSettings
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.multipart import MultipartReader, media_type
from flute_sync.sources.stow_rs import StowRs
from flute_sync.sources.stow_settings import StowRsSettings
from tests.acceptance.site import eventually, free_port
from tests.services.orthanc import Orthanc


async def drop_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Take an upload apart and keep nothing of it."""
    if scope["type"] == "lifespan":
        for told in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{told}.complete"})
        return
    content = media_type(dict(scope["headers"])[b"content-type"])
    assert content is not None
    reader = MultipartReader(content.parameters["boundary"])
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        for _ in reader.feed(message["body"]):
            pass
    reader.close()
    headers = [(b"content-type", b"application/dicom+json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def serve(kind: str, port: int, orthanc: str, folder: Path) -> None:
    """Be one of the parties until told to stop."""
    if kind == "bare":
        uvicorn.run(drop_all, port=port, http="httptools", loop="uvloop", log_level="critical")
        return
    settings = StowRsSettings.model_validate({"mode": kind})
    archive = ArchiveSettings(dicomweb_url=f"{orthanc}/dicom-web") if orthanc else None
    url = f"sqlite:///{folder / kind}.db"
    ledger = Ledger.open(LedgerSettings(url=url), StudySettings(), create=True)
    app = StowRs(settings, ledger, HeaderReader(), archive)
    server = HttpServer([Listener("bench", app, "127.0.0.1", port)])
    server.start()
    signal.sigwait({signal.SIGTERM})
    server.stop(timedelta(seconds=1))
    ledger.close()


class Party:
    """A process with an address, whose processor time and memory can be read."""

    def __init__(self, pid: int, port: int, dicom_port: int | None = None) -> None:
        self.pid, self.port = pid, port
        self.dicom_port = dicom_port or port

    def cpu(self) -> float:
        """Seconds of processor time used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self, *, peak: bool = False) -> int:
        """Resident memory now, or at most so far."""
        name = "VmHWM:" if peak else "VmRSS:"
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise LookupError(name)


@contextmanager
def party(kind: str, folder: Path, orthanc: str = "") -> Iterator[Party]:
    """Start a party, and stop it."""
    port = free_port()
    command = [sys.executable, "-m", "bench.parties", kind, str(port), str(folder), orthanc]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: listens(port), what=kind)
        yield Party(process.pid, port)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def orthanc_in(folder: Path) -> Iterator[Party]:
    """Start an Orthanc, and stop it."""
    folder.mkdir()
    started = Orthanc(folder, stable_age=timedelta(minutes=1))
    started.start()
    try:
        assert started.process is not None
        yield Party(started.process.pid, started.port, started.dicom_port)
    finally:
        started.stop()


def listens(port: int) -> bool:
    """Tell whether somebody takes connections."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def empty(orthanc: Party) -> None:
    """Delete what Orthanc holds."""
    base = f"http://127.0.0.1:{orthanc.port}"
    for study in httpx.get(f"{base}/studies", trust_env=False).json():
        httpx.delete(f"{base}/studies/{study}", trust_env=False, timeout=120)


def main() -> None:
    """Be a party."""
    parser = argparse.ArgumentParser(description="A party of bench.stow_rs.")
    parser.add_argument("kind", choices=["forward", "index", "bare"])
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("orthanc", nargs="?", default="")
    options = parser.parse_args()
    serve(options.kind, options.port, options.orthanc, options.folder)


if __name__ == "__main__":
    main()
