"""``flute-sync fetch`` against curl: ``python -m bench.fetch [--rounds N]``.

All get the same instances from the same Orthanc on as many connections, and write files. One curl
asks for instance by instance, as who reads a manifest does: a file each, which is a body of
multipart with one part. Another asks for series by series: a file for each series, in which the
instances still are to be cut apart. Ours asks for series, cuts them into instances, checks and
hashes each, and gives each a file and a name. Nobody waits for the disk. They take turns, and who
begins changes each time; what they wrote stays until the end, since a file system is slow to give
out anew what was just deleted. Orthanc shares the processor with all. The start of a program
counts for curl, which has next to none, and not for ours.
"""

import argparse
import gc
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, table
from bench.parties import orthanc_in
from flute_sync.daemon.config import Config
from flute_sync.daemon.fetch_choice import Choice
from flute_sync.daemon.fetch_folder import Folder
from flute_sync.daemon.fetch_places import Places
from flute_sync.daemon.fetching import Fetch
from flute_sync.retrieval import WantedInstance, WantedSeries, WantedStudy, path_of
from flute_sync.sandbox.studies import SyntheticPatient, part10, prostate_mpmri
from tests.acceptance.site import store

CONNECTIONS = 4
GOAL = 0.9
GROWTH_MB = 40
ACCEPT = 'Accept: multipart/related; type="application/dicom"; transfer-syntax=*'


@dataclass(frozen=True)
class Load:
    """What is fetched: studies of one kind."""

    name: str
    studies: int
    slices: int
    size: int


LOADS = (Load("512 KiB instances", 2, 20, 512), Load("10 KB instances", 2, 60, 64))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    print(table(figures(parser.parse_args().rounds)))


def figures(rounds: int = 5) -> Iterator[Figure]:
    """Measure each kind of load."""
    gc.freeze()  # as ``flute-sync`` does
    for load in LOADS:
        with tempfile.TemporaryDirectory(prefix="flute-sync-bench-") as name:
            folder = Path(name)
            with orthanc_in(folder / "orthanc") as orthanc:
                address = f"http://127.0.0.1:{orthanc.port}/dicom-web"
                yield from _compared(load, address, folder, rounds)


def _compared(load: Load, address: str, folder: Path, rounds: int) -> Iterator[Figure]:
    studies = [_filled(address, load, number) for number in range(load.studies)]
    count = sum(len(series.instances) for study in studies for series in study.series)
    seconds: dict[str, list[float]] = {"ours": [], "instances": [], "series": []}
    costs, resident = [], []
    for turn in range(rounds + 1):
        for party in list(seconds)[:: 1 if turn % 2 else -1]:
            out = folder / f"{party}-{turn}"
            before = time.process_time()
            if party == "ours":
                took, size_bytes = _ours(address, studies, out, count)
                costs.append(time.process_time() - before)
                resident.append(_resident_mb())
            else:
                took = _curl(studies, out, by_instance=party == "instances")
            seconds[party].append(took)
    ours = seconds["ours"][1:]  # the first one warms up
    rate = count / statistics.median(ours)
    for party in ("instances", "series"):
        ratios = [curl / own for curl, own in zip(seconds[party][1:], ours, strict=True)]
        yield Figure(
            f"fetch, {load.name}, {CONNECTIONS} connections, of curl's rate by {party}",
            statistics.median(ratios),
            at_least=GOAL,
            detail=f"{rate:.0f} instances/s, {rate * size_bytes / count / 2**20:.0f} MiB/s, "
            f"{statistics.median(costs) / count * 1e3:.2f} ms CPU each, "
            f"ratios {min(ratios):.2f} to {max(ratios):.2f}",
        )
    growth = resident[-1] - resident[0]
    yield Figure(f"fetch, {load.name}: resident growth", growth, "MB", at_most=GROWTH_MB)


def _filled(address: str, load: Load, number: int) -> WantedStudy:
    """Store a study and return what FHIR would say of it."""
    datasets = prostate_mpmri(
        SyntheticPatient(), seed=number, slices=load.slices, size=load.size, dce_phases=4
    )
    series: dict[str, list[WantedInstance]] = {}
    batch: list[bytes] = []
    study_uid = ""
    for dataset in datasets:
        study_uid = str(dataset.StudyInstanceUID)
        listed = series.setdefault(str(dataset.SeriesInstanceUID), [])
        listed.append(WantedInstance(str(dataset.SOPInstanceUID), int(dataset.InstanceNumber)))
        batch.append(part10(dataset))
        if len(batch) == 20:
            assert store(address, batch).status_code == 200
            batch.clear()
    if batch:
        assert store(address, batch).status_code == 200
    found = tuple(
        WantedSeries(uid, (address,), one, "MR", len(listed), tuple(listed))
        for one, (uid, listed) in enumerate(series.items(), 1)
    )
    return WantedStudy(study_uid, None, "Patient/1", found)


def _ours(address: str, studies: list[WantedStudy], out: Path, count: int) -> tuple[float, int]:
    config = Config.model_validate(
        {
            "fhir": {"base_url": "http://127.0.0.1:9/fhir"},
            "archive": {"dicomweb_url": address},
            "fetch": {"connections": CONNECTIONS},
        }
    )
    places = Places(config)
    with Folder(out) as folder:
        started = time.perf_counter()
        fetching = Fetch(config, folder, places, Choice())
        fetching.run(lambda: studies)
        seconds = time.perf_counter() - started
    places.close()
    assert fetching.report.fetched == count, fetching.report
    return seconds, fetching.report.bytes


def _curl(studies: list[WantedStudy], out: Path, *, by_instance: bool) -> float:
    out.mkdir()
    config = out / "curl"
    config.write_text(
        "".join(
            f'url = "{series.addresses[0]}{path_of(study.uid, series.uid, uid)}"\n'
            f'output = "{out}/{uid or series.uid}"\n'
            for study in studies
            for series in study.series
            for uid in ([one.uid for one in series.instances] if by_instance else [None])
        )
    )
    parallel = ["--parallel", "--parallel-immediate", "--parallel-max", str(CONNECTIONS)]
    command = ["curl", "--silent", "--fail", *parallel, "--header", ACCEPT, "--config", str(config)]
    started = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text()
    (line,) = (one for one in status.splitlines() if one.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
