"""Sites on real servers, and patients and studies of each test's own."""

import itertools
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.sandbox.clinical import flute_patient
from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import SyntheticPatient, part10, prostate_mpmri
from tests.acceptance.site import Site
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc
from tests.services.process import free_port

SYSTEM = "urn:oid:1.2.3"
ISSUER = "SANDBOX"
_seeds = itertools.count(uuid.uuid4().int % 2**31)


@dataclass
class Upload:
    """One synthetic study as DICOM files, of a patient nobody else has."""

    patient: SyntheticPatient = field(
        default_factory=lambda: SyntheticPatient(patient_id=f"P-{uuid.uuid4().hex[:12]}")
    )
    slices: int = 2
    uid: str = ""
    files: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        datasets = list(
            prostate_mpmri(
                self.patient, seed=next(_seeds), slices=self.slices, size=16, dce_phases=2
            )
        )
        self.uid = str(datasets[0].StudyInstanceUID)
        self.files = [part10(dataset) for dataset in datasets]


def create_patient(fhir_url: str, patient: SyntheticPatient, **changes: Any) -> str:
    """Create a Patient and return its reference."""
    resource = {**flute_patient(patient, SYSTEM), **changes}
    answer = httpx.post(f"{fhir_url}/Patient", json=resource, timeout=60)
    assert answer.status_code == 201, answer.text
    return f"Patient/{answer.json()['id']}"


def imaging_studies(fhir_url: str, uid: str) -> list[dict[str, Any]]:
    """Search the ImagingStudies of a study, whatever the server cached."""
    answer = httpx.post(
        f"{fhir_url}/ImagingStudy/_search",
        data={"identifier": f"urn:dicom:uid|urn:oid:{uid}"},
        headers={"Cache-Control": "no-cache"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


@pytest.fixture
def make_site(tmp_path: Path) -> Iterator[Callable[[str, str | None], Site]]:
    """Make sites whose daemons end with the test."""
    made: list[Site] = []

    def make(fhir_url: str, dicomweb_url: str | None) -> Site:
        folder = tmp_path / f"site-{len(made)}"
        folder.mkdir()
        site = Site(folder, fhir_url, dicomweb_url)
        site.settings["patient"]["systems"] = {ISSUER: SYSTEM}
        made.append(site)
        return site

    yield make
    for site in made:
        site.close()


@pytest.fixture
def real_site(make_site: Callable[[str, str | None], Site], hapi: Hapi, orthanc: Orthanc) -> Site:
    """A site between a real Orthanc and a real HAPI, not started yet."""
    return make_site(hapi.base_url, orthanc.dicomweb_url)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    """Both sandbox servers, for what needs servers that come and go quickly."""
    archive, fhir = free_port(), free_port()
    with Sandbox(tmp_path / "sandbox", archive_port=archive, fhir_port=fhir) as running:
        yield running


@pytest.fixture
def sandbox_site(make_site: Callable[[str, str | None], Site], sandbox: Sandbox) -> Site:
    """A site between the sandbox's servers, not started yet."""
    return make_site(sandbox.fhir_url, sandbox.dicomweb_url)
