"""The nightly sweep of links over a real HAPI: ``python -m bench.link_sweep [--patients N]``.

Our side is the sweep's own `review` with the ledger filled, over patients of whom nothing changed:
it asks the FHIR server, judges, and compares. The other side sends, for the same patients and over
as many connections, the same requests with bodies made before, and reads the answers as bytes. The
two take turns in portions, and in who goes first. The server is HAPI with all search parameters, on
the same processor.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import httpx

from bench.figures import Figure, table
from bench.sync import JVM_OPTIONS
from bench.sync_bare import Recorder, Request
from bench.sync_ours import SYSTEM, Ours, instances_of
from flute_sync.daemon.link_sweep import review
from flute_sync.daemon.linking import Linker
from flute_sync.fhir.candidates import Candidates
from flute_sync.fhir.client import FhirClient
from flute_sync.intake import Received
from flute_sync.study import PatientId
from tests.linking import PSA, SCORE
from tests.services.hapi import Hapi
from tests.studies import PATIENT

PATIENTS: Final = 10_000
PORTION: Final = 250
CONNECTIONS: Final = 4
GOAL: Final = 0.9
_BUNDLE: Final = 50
_CODE: Final = {"coding": [{"system": "http://loinc.org", "code": "2857-1"}]}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patients", type=int, default=PATIENTS)
    print(table(figures(parser.parse_args().patients)))


def figures(patients: int = PATIENTS) -> Iterator[Figure]:
    """Fill a server and a ledger, and sweep."""
    with tempfile.TemporaryDirectory(prefix="flute-sync-bench-") as name:
        hapi = Hapi(Path(name), jvm_options=JVM_OPTIONS)
        hapi.start()
        try:
            recorder = Recorder()
            with Ours(hapi.base_url, Path(name), CONNECTIONS, None) as ours:
                fill(hapi.base_url, ours, patients)
                client = FhirClient(ours.config.fhir, transport=recorder)
                client.capabilities()
                linker = Linker(ours.ledger, Candidates(client), ours.config.links, client.base_url)
                yield compared(linker, recorder, ours.ledger.links.patients("", patients + 1))
                client.close()
        finally:
            hapi.stop()


def fill(base_url: str, ours: Ours, patients: int) -> None:
    """Make patients of one MRI, three PSA values and a score, and let their studies be written."""
    with httpx.Client(base_url=base_url, timeout=300) as http:
        for first in range(0, patients, _BUNDLE):
            numbers = range(first, min(first + _BUNDLE, patients))
            entry = [one for number in numbers for one in entries(number)]
            body = {"resourceType": "Bundle", "type": "transaction", "entry": entry}
            http.post("", json=body).raise_for_status()
    for number in range(patients):
        ours.deliver(study_of(number))
    ours.work_off(patients)


def entries(number: int) -> Iterator[dict[str, Any]]:
    """Return what a transaction creates of one patient."""
    patient = f"p{number:06}"
    yield _put(
        {
            "resourceType": "Patient",
            "id": patient,
            "identifier": [{"system": SYSTEM, "value": patient}],
            "birthDate": str(PATIENT.birth_date),
            "gender": "male",
        }
    )
    for index, said in enumerate(({**PSA, "code": _CODE},) * 3 + (SCORE,)):
        yield _put(
            {
                "resourceType": "Observation",
                "id": f"o{number:06}-{index}",
                "status": "final",
                "subject": {"reference": f"Patient/{patient}"},
                "effectiveDateTime": str(date(2024, 1, 1) + timedelta(days=60 * index)),
                **said,
            }
        )


def _put(resource: dict[str, Any]) -> dict[str, Any]:
    url = f"{resource['resourceType']}/{resource['id']}"
    return {"resource": resource, "request": {"method": "PUT", "url": url}}


def study_of(number: int) -> list[Received]:
    """Return a study of one patient."""
    said = replace(PATIENT, id=replace(PATIENT.id or PatientId(""), value=f"p{number:06}"))
    return [
        one._replace(
            instance=one.instance._replace(header=replace(one.instance.header, patient=said))
        )
        for one in instances_of(number, 3, range(1, 21))
    ]


def compared(linker: Linker, recorder: Recorder, patients: Sequence[str]) -> Figure:
    """Sweep portion after portion, by both sides."""
    portions = [patients[at : at + PORTION] for at in range(0, len(patients), PORTION)]
    ratios, rates = [], []
    for turn, portion in enumerate(portions):
        recorder.take()
        our_seconds(linker, portion)  # records, and warms the server up for both
        requests = recorder.take()
        if turn % 2:
            theirs, ours = bare_seconds(requests), our_seconds(linker, portion)
        else:
            ours, theirs = our_seconds(linker, portion), bare_seconds(requests)
        ratios.append(theirs / ours)
        rates.append(len(portion) / ours)
    return Figure(
        f"nightly sweep of {len(patients)} patients, to the bare requests",
        statistics.median(ratios),
        at_least=GOAL,
        detail=f"{statistics.median(rates):.0f} patients/s,"
        f" ratios {min(ratios):.2f} to {max(ratios):.2f}",
    )


def our_seconds(linker: Linker, portion: Sequence[str]) -> float:
    """Sweep a portion; nothing may differ."""
    started = time.perf_counter()
    for one in review(linker, portion, CONNECTIONS):
        if one.error is not None or one.differences:
            raise AssertionError(f"{one.patient} was not as it was written: {one}")
    return time.perf_counter() - started


def bare_seconds(requests: Sequence[Request]) -> float:
    """Send requests over as many connections."""
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    with (
        httpx.Client(limits=limits, trust_env=False, timeout=300) as http,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):

        def send(one: Request) -> int:
            headers = dict(one.headers)
            answer = http.request(one.method, one.url, headers=headers, content=one.content)
            return answer.raise_for_status().status_code

        started = time.perf_counter()
        for _ in pool.map(send, requests):
            pass
        return time.perf_counter() - started


if __name__ == "__main__":
    main()
