"""Two archives that number the same people differently: FHIR joins the numbers, or nobody does."""

import io
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydicom import dcmread

from flute_sync.sandbox.clinical import flute_patient
from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import part10
from tests.acceptance.conftest import ISSUER, SYSTEM, Upload, imaging_studies
from tests.acceptance.pacs import Pacs
from tests.acceptance.site import Site, eventually, running

COPY = "urn:oid:1.2.3.4"


@pytest.fixture
def vna(tmp_path: Path) -> Iterator[Sandbox]:
    """The archive of the second sandbox."""
    with Sandbox(tmp_path / "vna") as started:
        yield started


@pytest.fixture
def two(make_site: Callable[[str, str | None], Site], sandbox: Sandbox, vna: Sandbox) -> Site:
    site = make_site(sandbox.fhir_url, None)
    site.settings["stow_rs"]["enabled"] = False
    site.settings["patient"]["watch_interval"] = "500ms"
    site.settings["archives"] = [
        {
            "name": name,
            "dicomweb_url": archive.dicomweb_url,
            "patient_systems": {ISSUER: system},
            "orthanc_changes": {"enabled": True, "url": archive.archive_url, "interval": "500ms"},
        }
        for name, archive, system in (("pacs", sandbox, SYSTEM), ("vna", vna, COPY))
    ]
    return site


def _numbered(files: list[bytes], number: str) -> list[bytes]:
    """The same instances as an archive holds them that calls the patient otherwise."""
    copies = []
    for file in files:
        dataset = dcmread(io.BytesIO(file))
        dataset.PatientID = number
        copies.append(part10(dataset))
    return copies


def _person(upload: Upload, *identifiers: tuple[str, str], **changes: Any) -> dict[str, Any]:
    borne = [{"system": system, "value": value} for system, value in identifiers]
    return {**flute_patient(upload.patient, SYSTEM), "identifier": borne, **changes}


def _created(fhir_url: str, patient: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"{fhir_url}/Patient", json=patient, timeout=60)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


def _put(fhir_url: str, patient: dict[str, Any]) -> None:
    answer = httpx.put(f"{fhir_url}/Patient/{patient['id']}", json=patient, timeout=60)
    assert answer.status_code == 200, answer.text


def _written(fhir_url: str, uid: str) -> dict[str, Any]:
    found = imaging_studies(fhir_url, uid)
    assert len(found) <= 1
    return found[0] if found else {}


def test_numbers_of_two_archives_are_joined_by_the_fhir_server_alone(
    two: Site, sandbox: Sandbox, vna: Sandbox
) -> None:
    fhir = sandbox.fhir_url
    first, second = (Pacs(one.archive_url, one.dicomweb_url) for one in (sandbox, vna))
    alike, apart = Upload(slices=1), Upload(slices=1)
    numbers = {upload.uid: f"V-{uuid.uuid4().hex[:12]}" for upload in (alike, apart)}

    def names(upload: Upload) -> tuple[tuple[str, str], tuple[str, str]]:
        return (SYSTEM, upload.patient.patient_id), (COPY, numbers[upload.uid])

    for upload in (alike, apart):
        first.store(upload.files)
        second.store(_numbered(upload.files, numbers[upload.uid]))
    joined = _created(fhir, _person(alike, *names(alike)))

    def is_held(code: str) -> bool:
        told = two.ask("study", apart.uid)
        is_in_both = {one["name"] for one in told["archives"]} == {"pacs", "vna"}
        return is_in_both and (told["state"], told["code"]) == ("on-hold", code)

    def is_of(upload: Upload, patient: dict[str, Any]) -> bool:
        found = _written(fhir, upload.uid)
        return (
            two.state(upload.uid) == "completed"
            and found.get("subject", {}).get("reference") == f"Patient/{patient['id']}"
            and len(found["endpoint"]) == 4
        )

    with running(two):
        # Both numbers are one Patient's: one resource, with the Endpoints of both archives.
        eventually(lambda: is_of(alike, joined), every=0.3)

        # Nobody has either number, then two Patients have one each: nothing is written.
        eventually(lambda: is_held("PATIENT-ABSENT"), every=0.5)
        mine, theirs = (_created(fhir, _person(apart, one)) for one in names(apart))
        eventually(lambda: is_held("PATIENT-CONFLICT"), every=0.5)
        assert _written(fhir, apart.uid) == {}

        # One of them gets both numbers: the study goes on by itself.
        _put(fhir, _person(apart, (COPY, "V-0"), id=theirs["id"]))
        _put(fhir, _person(apart, *names(apart), id=mine["id"]))
        eventually(lambda: is_of(apart, mine), every=0.3)
        before = _written(fhir, apart.uid)

        # The second archive files it under somebody else: what is in FHIR stays.
        second.delete(apart.uid)
        second.store(_numbered(apart.files, numbers[alike.uid]))
        eventually(lambda: is_held("PATIENT-CONFLICT"), every=0.5)
        assert _written(fhir, apart.uid) == before

        # And takes that back.
        second.delete(apart.uid)
        second.store(_numbered(apart.files, numbers[apart.uid]))
        eventually(lambda: is_of(apart, mine), every=0.3)
        assert _written(fhir, apart.uid) == before
        said = "\n".join(two.lines)
    assert not [value for upload in (alike, apart) for _, value in names(upload) if value in said]
