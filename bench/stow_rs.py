"""STOW-RS through flute-sync against straight to Orthanc, and against a receiver that drops all.

Usage: ``python -m bench.stow_rs [--instances N] [--rounds N] [--quick]``. Every party is a process
of its own; the two ways alternate, so that what else the machine does hits both alike. The ledger
is the real one, on SQLite. The bare receiver is uvicorn as it comes.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import uvicorn
from starlette.types import Receive, Scope, Send

from flute_sync.completeness import StudySettings
from flute_sync.daemon.http_server import HttpServer, Listener
from flute_sync.ledger import Ledger, LedgerSettings
from flute_sync.sources.dicomweb import ArchiveSettings
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.multipart import MultipartReader, media_type
from flute_sync.sources.stow_rs import StowRs
from flute_sync.sources.stow_settings import StowRsSettings
from tests.acceptance.site import eventually, free_port
from tests.stow import dicom, uid

PIXEL_BYTES = 512 * 1024
BOUNDARY = "bench-boundary"
HEAD = (
    "POST /dicom-web/studies HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n"
    f'Content-Type: multipart/related; type="application/dicom"; boundary={BOUNDARY}\r\n\r\n'
)
PART = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
END = f"--{BOUNDARY}--\r\n".encode()


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
    """A process with an address, whose CPU time and memory can be read."""

    def __init__(self, process: subprocess.Popen[bytes], port: int) -> None:
        self.process, self.port = process, port

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self, peak: bool = False) -> int:
        """Resident memory now, or at most so far."""
        name = "VmHWM:" if peak else "VmRSS:"
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        raise LookupError(name)


@contextmanager
def party(kind: str, folder: Path, orthanc: str = "") -> Iterator[Party]:
    """Start a party, and stop it."""
    port = free_port()
    if kind == "orthanc":
        file = folder / "orthanc.json"
        settings = {
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
            "HttpPort": port,
            "DicomServerEnabled": False,
            "StableAge": 60,
        }
        file.write_text(json.dumps(settings))
        command = ["Orthanc", str(file)]
    else:
        command = [sys.executable, "-m", "bench.stow_rs", "--serve", kind, "--port", str(port)]
        command += ["--orthanc", orthanc, "--folder", str(folder)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    try:
        eventually(lambda: _listens(port), within=20, what=kind)
        yield Party(process, port)
    finally:
        process.terminate()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Sender:
    """Sends instances that differ in their UID only, with as little work as can be."""

    def __init__(self, pixel_bytes: int = PIXEL_BYTES) -> None:
        self._file = dicom("bench", "series", 0, os.urandom(pixel_bytes))
        self._uid = uid("bench", "series", 0).encode()
        self._lock = threading.Lock()
        self._next = 0

    def file(self) -> bytes:
        """Return the next instance."""
        with self._lock:
            self._next += 1
            number = f"{self._next:012d}".encode()
        return self._file.replace(self._uid, self._uid[: -len(number)] + number)

    def run(self, port: int, instances: int, per_request: int, clients: int) -> float:
        """Send instances, and return how many seconds it took."""
        requests = instances // per_request
        batches = [[self.file() for _ in range(per_request)] for _ in range(requests)]
        queue = iter(batches)
        lock = threading.Lock()

        def client(_: int) -> None:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    with lock:
                        batch = next(queue, None)
                    if batch is None:
                        return
                    upload(connection, batch)

        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            list(pool.map(client, range(clients)))
        return time.perf_counter() - started


def upload(connection: socket.socket, files: Iterable[bytes], length: int | None = None) -> None:
    """Send one request, and read its answer."""
    if length is None:
        files = list(files)
        length = sum(len(PART) + len(file) + 2 for file in files) + len(END)
    connection.sendall(HEAD.format(length).encode())
    for file in files:
        connection.sendall(PART + file + b"\r\n")
    connection.sendall(END)
    answer = b""
    while b"\r\n\r\n" not in answer:
        got = connection.recv(65536)
        if not got:
            raise ConnectionError(answer)
        answer += got
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), answer[:500]
    size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    while len(body) < size:
        body += connection.recv(65536)


def empty(orthanc: Party) -> None:
    """Delete what Orthanc holds."""
    base = f"http://127.0.0.1:{orthanc.port}"
    for study in httpx.get(f"{base}/studies", trust_env=False).json():
        httpx.delete(f"{base}/studies/{study}", trust_env=False, timeout=120)


def compare(
    title: str,
    ours: Party,
    other: Party,
    cells: Iterable[tuple[int, int, int]],
    rounds: int,
    between: Callable[[], None],
) -> None:
    """Print, for each way of sending, both rates, their ratio and our CPU per instance."""
    print(
        f"\n{title}\n  per request, clients: ours inst/s  other inst/s  ratio  our CPU ms/instance"
    )
    sender = Sender()
    for instances, per_request, clients in cells:
        ratios, rates, costs = [], [], []
        for turn in range(rounds):
            pair = {}
            for one in (ours, other) if turn % 2 else (other, ours):
                cpu = one.cpu()
                seconds = sender.run(one.port, instances, per_request, clients)
                pair[one] = instances / seconds
                if one is ours:
                    costs.append((one.cpu() - cpu) / instances * 1000)
                between()
            rates.append((pair[ours], pair[other]))
            ratios.append(pair[ours] / pair[other])
        mine, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
        print(
            f"  {per_request:4} {clients:2}: {mine:8.1f} {theirs:8.1f}   "
            f"{statistics.median(ratios):5.2f} ({min(ratios):.2f}-{max(ratios):.2f})  "
            f"{statistics.median(costs):6.2f}",
            flush=True,
        )


def growth(ours: Party, orthanc: Party | None, total_bytes: int) -> None:
    """Print how much resident memory one upload of a given size takes."""
    sender = Sender(64 * PIXEL_BYTES)
    sender.run(ours.port, 1, 1, 1)
    before = ours.resident_bytes()
    file = len(sender.file())
    count = total_bytes // file
    length = count * (len(PART) + file + 2) + len(END)
    with socket.create_connection(("127.0.0.1", ours.port)) as connection:
        started = time.perf_counter()
        upload(connection, (sender.file() for _ in range(count)), length)
        seconds = time.perf_counter() - started
    grown = (ours.resident_bytes(peak=True) - before) / 2**20
    rate = length / 2**20 / seconds
    way = "forward" if orthanc else "index"
    print(
        f"  {way}: one request of {length / 2**30:.2f} GiB: {before / 2**20:.0f} MiB before, "
        f"at most {grown:.1f} MiB more; {rate:.0f} MiB/s",
        flush=True,
    )
    if orthanc:
        empty(orthanc)


def main() -> None:
    """Run the bench, or be a party of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve", choices=["forward", "index", "bare"])
    parser.add_argument("--port", type=int)
    parser.add_argument("--orthanc", default="")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--instances", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--only", choices=["forward", "index"])
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port, options.orthanc, options.folder)
        return
    folder = Path(tempfile.mkdtemp(prefix="flute-sync-bench-"))
    total = int(options.gigabytes * 2**30)
    n = options.instances
    cells = [(n, 1, 1), (n, 1, 4), (n, 100, 1), (n * 2, 100, 4)]
    try:
        if options.only != "forward":
            with party("index", folder) as index, party("bare", folder) as bare:
                compare(
                    "index mode against a bare receiver", index, bare, cells, options.rounds, int
                )
                growth(index, None, total)
        if options.only != "index":
            with party("orthanc", folder) as orthanc:
                base = f"http://127.0.0.1:{orthanc.port}"
                with party("forward", folder, base) as forward:
                    compare(
                        "forward mode against straight to Orthanc",
                        forward,
                        orthanc,
                        cells,
                        options.rounds,
                        lambda: empty(orthanc),
                    )
                    growth(forward, orthanc, total)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
