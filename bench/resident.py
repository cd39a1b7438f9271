"""What the installed service takes: memory and processor time when idle, memory under an upload.

Usage: ``python -m bench.resident [--gigabytes N] [--seconds N]``. The daemon is a process started
as a hospital starts it, with a FHIR server (the sandbox) and an Orthanc.
"""

import argparse
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from bench.figures import Figure, table
from bench.parties import Party, orthanc_in
from bench.sender import END, PART, PIXEL_BYTES, Sender
from tests.acceptance.site import PROGRAM, Site, eventually, free_port, running

IDLE_MB: Final = 120
GROWTH_MB: Final = 40
IDLE_PERCENT: Final = 1
POLLERS: Final[dict[str, dict[str, Any]]] = {
    "qido_rs": {"enabled": True},
    "orthanc_changes": {"enabled": True},
}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--seconds", type=float, default=30)
    options = parser.parse_args()
    print(table(figures(options.gigabytes, options.seconds)))


def figures(gigabytes: float = 2, seconds: float = 30) -> Iterator[Figure]:
    """Measure ``index`` without an archive, then ``forward`` with all sources."""
    with tempfile.TemporaryDirectory(prefix="flute-sync-bench-") as name, _fhir() as fhir_url:
        alone, whole = Path(name) / "index", Path(name) / "forward"
        alone.mkdir()
        whole.mkdir()
        site = Site(alone, fhir_url, None)
        site.settings["stow_rs"]["mode"] = "index"
        yield from _measured(site, "index", gigabytes, seconds)
        with orthanc_in(Path(name) / "orthanc") as orthanc:
            site = Site(whole, fhir_url, f"http://127.0.0.1:{orthanc.port}/dicom-web")
            changes = {"url": f"http://127.0.0.1:{orthanc.port}"}
            site.settings |= POLLERS
            site.settings["orthanc_changes"] = POLLERS["orthanc_changes"] | changes
            yield from _measured(site, "forward, all sources", gigabytes, seconds)


@contextmanager
def _fhir() -> Iterator[str]:
    port = free_port()
    command = [str(PROGRAM), "sandbox", "--archive-port", "0", "--fhir-port", str(port), "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        assert process.stdout.readline(), "the sandbox did not start"
        yield f"http://127.0.0.1:{port}/fhir"
    finally:
        process.terminate()
        process.wait()


def _measured(site: Site, way: str, gigabytes: float, seconds: float) -> Iterator[Figure]:
    with running(site):
        daemon = Party(site.pid, site.port)
        used, megabytes = _idle(daemon, seconds)
        yield Figure(f"resident when idle, {way}", megabytes, "MB", at_most=IDLE_MB)
        yield Figure(f"processor when idle, {way}", used, "%", at_most=IDLE_PERCENT)
        grown, rate = _growth(daemon, int(gigabytes * 2**30))
        detail = f"one request of {gigabytes:g} GiB, {rate:.0f} MiB/s"
        name = f"resident growth under upload, {way}"
        yield Figure(name, grown, "MB", at_most=GROWTH_MB, detail=detail)
        eventually(lambda: site.logged("study.on_hold"), what="the step")
        _, megabytes = _idle(daemon, 1)
        yield Figure(f"resident afterwards, {way}", megabytes, "MB", at_most=IDLE_MB)


def _idle(daemon: Party, seconds: float) -> tuple[float, float]:
    """Return the percentage of one processor and the megabytes of a daemon left alone."""
    time.sleep(2)  # what a start leaves to do
    before, started = daemon.cpu(), time.monotonic()
    time.sleep(seconds)
    used = (daemon.cpu() - before) / (time.monotonic() - started)
    return used * 100, daemon.resident_bytes() / 1e6


def _growth(daemon: Party, total_bytes: int) -> tuple[float, float]:
    """Return how many megabytes one upload adds at most, after a first small one, and MiB/s."""
    sender = Sender(64 * PIXEL_BYTES)
    sender.run(daemon.port, 1, 1, 1)
    before = daemon.resident_bytes()
    length = len(PART) + len(sender.file()) + 2
    count = max(1, (total_bytes - len(END)) // length)
    seconds = sender.stream(daemon.port, count)
    grown = (daemon.resident_bytes(peak=True) - before) / 1e6
    return grown, count * length / 2**20 / seconds


if __name__ == "__main__":
    main()
