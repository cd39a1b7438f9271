"""The first filling of a real HAPI FHIR server: ``python -m bench.import_archive [--studies N]``.

Our side is ``flute-sync import`` as its verb runs it: it lists an archive, reads each study's
metadata by WADO-RS, maps, looks up, writes, and keeps its ledger. The other side is a loop over as
many connections that sends the same requests to HAPI, for other studies, with bodies made before.
The two take turns. HAPI, archive and both sides share the processor, so that what the archive and
the ledger cost us counts against us.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from bench.figures import Figure, table
from bench.listed_archive import INSTANCES, patient
from bench.sync import JVM_OPTIONS, WORKERS
from bench.sync_bare import Bare, Recorder
from bench.sync_ours import SYSTEM, study_uid
from flute_sync.daemon.config import Config
from flute_sync.daemon.importing import Import, Plan
from flute_sync.daemon.workshop import Workshop
from flute_sync.fhir.client import FhirClient
from flute_sync.sources.listing import Choice
from tests.acceptance.site import eventually, free_port
from tests.services.hapi import Hapi

STUDIES: Final = 10_000
TURNS: Final = 5
GOAL: Final = 0.9
GROWTH_MB: Final = 40
_PHASE: Final = "new"


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=STUDIES)
    print(table(figures(parser.parse_args().studies)))


def figures(studies: int = STUDIES) -> Iterator[Figure]:
    """Import so many studies, in turns with the bare loop."""
    with tempfile.TemporaryDirectory(prefix="flute-sync-bench-") as name, _archive() as archive:
        hapi = Hapi(Path(name), jvm_options=JVM_OPTIONS)
        hapi.start()
        try:
            httpx.post(f"{hapi.base_url}/Patient", json=patient(), timeout=60).raise_for_status()
            yield from _compared(hapi.base_url, archive, Path(name), studies // TURNS)
        finally:
            hapi.stop()


def _compared(fhir_url: str, archive: str, folder: Path, studies: int) -> Iterator[Figure]:
    recorder = Recorder()
    _import(fhir_url, archive, folder, range(1), recorder)
    uid = study_uid(0).encode()
    model = [one for one in recorder.take() if uid in one.content]
    used, ours, theirs, resident = 1, 0.0, 0.0, []
    with Bare({_PHASE: model}, 0, "", WORKERS) as bare:
        for turn in range(TURNS + 1):
            count = studies if turn else max(studies // 5, 50)  # the first turn warms up
            mine = _import(fhir_url, archive, folder, range(used, used + count), None)
            bare_seconds = bare.run(_PHASE, range(used + count, used + 2 * count))
            used += 2 * count
            resident.append(_resident_mb())
            if turn:
                ours, theirs = ours + mine, theirs + bare_seconds
    whole = studies * TURNS
    detail = f"{whole / ours:.1f} studies/s of {INSTANCES} instances, {len(model)} requests each"
    yield Figure(f"import of {whole:,} studies", theirs / ours, at_least=GOAL, detail=detail)
    growth = resident[-1] - resident[0]
    yield Figure("import: resident growth", growth, "MB", at_most=GROWTH_MB)


def _import(
    fhir_url: str, archive: str, folder: Path, numbers: range, recorder: Recorder | None
) -> float:
    """Import these studies and return the seconds."""
    config = Config.model_validate(
        {
            "fhir": {"base_url": fhir_url},
            "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
            "archive": {"dicomweb_url": f"{archive}/{numbers.start}/{len(numbers)}"},
            "patient": {"default_system": SYSTEM, "systems": {"HOSP": SYSTEM}},
            "site": {"timezone": "Europe/Rome"},
            "sync": {"workers": WORKERS},
            # One patient has all the studies: each would have the links of all others judged anew.
            "links": {"enabled": False},
        }
    )
    with Workshop(
        config, create=True, client=lambda settings: FhirClient(settings, transport=recorder)
    ) as shop:
        shop.require_fhir()
        importing = Import(shop, Plan(Choice(), ("pacs",)), shop.listing, lambda _progress: None)
        started = time.perf_counter()
        finished = shop.run(importing.run, workers=WORKERS, beside=[importing.count])
        seconds = time.perf_counter() - started
    assert finished
    assert importing.report.tally.written == len(numbers), importing.report
    return seconds


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = (one for one in status.splitlines() if one.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@contextmanager
def _archive() -> Iterator[str]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-m", "bench.listed_archive", str(port)])
    try:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: _answers(url), what="the archive")
        yield url
    finally:
        process.terminate()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/0/1/studies").status_code == 200
    except httpx.HTTPError:
        return False


if __name__ == "__main__":
    main()
