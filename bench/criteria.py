"""Judging a cohort from exported files: ``python -m bench.criteria``.

The installed program judges an NDJSON export of 100,000 invented patients, as a bulk export has it,
a file for each type and nothing in the order of patients; and ones of a half and a tenth of them,
which show that the cost is linear and memory flat. Each MRI has three series of twenty images. The
time of the processors, of all its processes, says the same on a machine that does other work too.
"""

import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

from bench.figures import Figure, table
from tests.histories import DCM, PELVIS, PROSTATE, biopsy, patient, pi_rads, psa, study

PATIENTS = 100_000
FEWER = (10_000, 50_000)
SERIES, INSTANCES = 3, 20
GOAL_SECONDS = 60
GOAL_PROCESSOR_SECONDS = 110
GOAL_RATIO = 1.2
FIRST = date(2018, 1, 1)
_UID = "THE-UID"
MR = "urn:oid:1.2.840.10008.5.1.4.1.1.4"


def main() -> None:
    """Print the figures."""
    print(table(figures()))


class Run(NamedTuple):
    """What judging an export took: of the processors in all its processes, and its largest."""

    seconds: float
    processor_seconds: float
    memory_megabytes: float
    summary: dict[str, Any]


def figures() -> Iterator[Figure]:
    """Measure the smaller exports, then the whole one."""
    with tempfile.TemporaryDirectory(prefix="flute-sync-bench-") as folder:
        runs = {}
        for patients in (*FEWER, PATIENTS):
            export = Path(folder) / str(patients)
            write(export, patients)
            runs[patients] = judged(export)
        size = sum(one.stat().st_size for one in export.iterdir()) / 1e9
    whole = runs[PATIENTS]
    counts = whole.summary
    yield Figure(
        f"criteria, {PATIENTS:,} patients from NDJSON",
        whole.seconds,
        "s",
        at_most=GOAL_SECONDS,
        detail=f"{size:.2f} GB, {counts['biopsies']:,} biopsies, {counts['mris']:,} MRIs",
    )
    yield Figure(
        "criteria, time of the processors",
        whole.processor_seconds,
        "s",
        at_most=GOAL_PROCESSOR_SECONDS,
    )
    for patients in FEWER:
        run = runs[patients]
        yield Figure(
            f"criteria, cost of a patient against {patients:,} of them",
            whole.processor_seconds / PATIENTS * patients / run.processor_seconds,
            at_most=GOAL_RATIO,
            detail=f"{run.seconds:.1f} s, {run.processor_seconds:.1f} s of the processors",
        )
    few = ", ".join(f"{runs[one].memory_megabytes:.0f} MB for {one:,}" for one in FEWER)
    yield Figure("criteria, most memory of a process", whole.memory_megabytes, "MB", detail=few)


def judged(folder: Path) -> Run:
    """Run the program on an export."""
    program = Path(sys.executable).with_name("flute-sync")
    answer = folder.with_suffix(".json")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = perf_counter()
    with answer.open("wb") as file:
        command = [str(program), "criteria", "--from", str(folder), "--json"]
        subprocess.run(command, stdout=file, stderr=subprocess.DEVNULL, check=True)
    seconds = perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    summary = json.loads(answer.read_bytes())["summary"]
    return Run(seconds, processors, used.ru_maxrss / 1e3, summary)


def write(folder: Path, patients: int) -> None:
    """Write an export, the same each time."""
    folder.mkdir()
    chance = random.Random(patients)
    names = [f"p{number}" for number in range(patients)]
    kinds = ("Patient", "ImagingStudy", "Procedure", "Observation")
    for kind in kinds:
        chance.shuffle(names)
        with (folder / f"{kind}.ndjson").open("w", encoding="utf-8") as file:
            for name in names:
                for one in _MADE[kind](name, random.Random(f"{kind} {name}")):
                    file.write(_line(one) + "\n")


def _line(one: dict[str, Any]) -> str:
    """One resource as JSON; the many images of a study are not written anew each time."""
    if "series" not in one:
        return json.dumps(one, separators=(",", ":"))
    _, site, number = one["series"]
    text = json.dumps({**one, "series": _UID}, separators=(",", ":"))
    uid = f"1.2.826.0.1.3680043.8.498.{number}"
    return text.replace(f'"{_UID}"', _SERIES[site].replace(_UID, uid))


def _day(chance: random.Random) -> str:
    return (FIRST + timedelta(days=chance.randrange(2000))).isoformat()


def _patients(name: str, _: random.Random) -> Iterator[dict[str, Any]]:
    yield patient(name=name)


def _studies(name: str, chance: random.Random) -> Iterator[dict[str, Any]]:
    for number in range(chance.choice([0, 1, 1, 2, 3])):
        subject, site = f"Patient/{name}", chance.choice([PROSTATE, PELVIS])
        made = study(f"{name}-m{number}", _day(chance), subject=subject)
        yield made | {"series": [_UID, site["code"], f"{name.removeprefix('p')}.{number}"]}


def _series(site: dict[str, str]) -> str:
    """The series of a study as JSON, with `_UID` where its own UID belongs."""
    sop_class = {"system": "urn:ietf:rfc:3986", "code": MR}
    modality = {"system": DCM, "code": "MR"}
    made = [
        {
            "uid": f"{_UID}.{one}",
            "modality": modality,
            "bodySite": site,
            "instance": [
                {"uid": f"{_UID}.{one}.{number}", "sopClass": sop_class, "number": number}
                for number in range(1, INSTANCES + 1)
            ],
        }
        for one in range(SERIES)
    ]
    return json.dumps(made, separators=(",", ":"))


def _procedures(name: str, chance: random.Random) -> Iterator[dict[str, Any]]:
    for number in range(chance.choice([0, 1, 1, 1, 2])):
        performed = chance.choice([_day(chance), _day(chance), 54, None])
        yield biopsy(f"{name}-b{number}", performed) | _of(name)


def _observations(name: str, chance: random.Random) -> Iterator[dict[str, Any]]:
    for number in range(3):
        yield psa(f"{name}-psa{number}", _day(chance), 5.1) | _of(name)
    yield pi_rads(f"{name}-score", _day(chance)) | _of(name)


def _of(name: str) -> dict[str, Any]:
    return {"subject": {"reference": f"Patient/{name}"}}


_SERIES = {site["code"]: _series(site) for site in (PROSTATE, PELVIS)}
_MADE = {
    "Patient": _patients,
    "ImagingStudy": _studies,
    "Procedure": _procedures,
    "Observation": _observations,
}


if __name__ == "__main__":
    main()
