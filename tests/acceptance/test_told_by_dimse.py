"""The installed program between modalities and a PACS: steps, what is sent on, commitment, IAN."""

import threading
import time
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt

from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running
from tests.dimse_requests import (
    COMMITMENT,
    IAN,
    MPPS,
    associated,
    available,
    becomes,
    commitment,
    notification,
    referenced,
    step,
)
from tests.services.dcmtk import dcmtk
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc
from tests.services.process import free_port

PUSH_MODEL = "1.2.840.10008.1.20.1.1"


@pytest.fixture
def site(real_site: Site, orthanc: Orthanc) -> Site:
    """A site whose modalities send to it; it sends on to Orthanc, by C-STORE."""
    real_site.settings["stow_rs"] = {"enabled": False}
    real_site.settings["archive"]["retrieve_ae_titles"] = ["ORTHANC"]
    real_site.settings["store_scp"] = {
        "enabled": True,
        "port": free_port(),
        "mode": "forward",
        "pacs": {"host": "127.0.0.1", "port": orthanc.dicom_port, "ae_title": "ORTHANC"},
        "ian": True,
        "mpps": True,
        "storage_commitment": True,
    }
    return real_site


def status(hapi: Hapi, uid: str) -> str | None:
    """Return what FHIR says of the one ImagingStudy of a study."""
    found = imaging_studies(hapi.base_url, uid)
    assert len(found) <= 1
    return found[0]["status"] if found else None


def becomes_in_fhir(hapi: Hapi, uid: str, expected: str) -> None:
    """Wait for a status."""
    eventually(lambda: status(hapi, uid) == expected, what=f"status {expected}", every=0.3)


def of(site: Site, name: str, *values: Any) -> int:
    """Send a request of MPPS or IAN and return the status of its answer."""
    sop_class = IAN if name == "ian" else MPPS
    with associated(site.settings["store_scp"]["port"], sop_class) as association:
        send = association.send_n_set if name == "set" else association.send_n_create
        answer, _ = send(values[0], sop_class, values[1])
        return int(answer.Status)


def begun(upload: Upload) -> Dataset:
    """Return the step of a study that is to come."""
    told = step(upload.uid)
    told.PatientID = upload.patient.patient_id
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex"):
        delattr(told, keyword)
    return told


def written(upload: Upload, folder: Path) -> list[str]:
    """Write the files of a study."""
    folder.mkdir()
    for number, file in enumerate(upload.files):
        (folder / f"{number:04d}.dcm").write_bytes(file)
    return sorted(map(str, folder.iterdir()))


def send(site: Site, paths: list[str]) -> int:
    """Send files by dcmtk's storescu and return its exit code."""
    port = str(site.settings["store_scp"]["port"])
    target = ("-aec", "FLUTE_SYNC", "-aet", "MODALITY", "127.0.0.1", port)
    return dcmtk("storescu", *target, *paths).returncode


def held(orthanc: Orthanc, uid: str) -> set[str]:
    """Return the instances of a study that Orthanc has."""
    question = {
        "Level": "Instance",
        "Query": {"StudyInstanceUID": uid},
        "Expand": True,
    }
    found = httpx.post(f"{orthanc.base_url}/tools/find", json=question, timeout=60).json()
    return {one["MainDicomTags"]["SOPInstanceUID"] for one in found}


def test_a_study_from_the_step_that_makes_it_to_the_commitment_for_it(
    site: Site, hapi: Hapi, orthanc: Orthanc, tmp_path: Path
) -> None:
    upload = Upload(slices=1)
    create_patient(hapi.base_url, upload.patient)
    step_uid = generate_uid()
    with running(site):
        assert of(site, "create", begun(upload), step_uid) == 0
        becomes_in_fhir(hapi, upload.uid, "registered")
        assert send(site, written(upload, tmp_path / "files")) == 0
        becomes_in_fhir(hapi, upload.uid, "available")
        assert of(site, "set", becomes("COMPLETED", "1.2.3"), step_uid) == 0
        assert of(site, "set", becomes("DISCONTINUED"), step_uid) == 0x0110
        instances = held(orthanc, upload.uid)
        assert len(instances) == len(upload.files)
        told = committed(site, upload)
        assert {item.ReferencedSOPInstanceUID for item in told.ReferencedSOPSequence} == instances
        assert "FailedSOPSequence" not in told

        def is_whole() -> bool:
            (found,) = imaging_studies(hapi.base_url, upload.uid)
            return bool(found["numberOfInstances"] == len(upload.files))

        eventually(is_whole, every=0.3)
        assert status(hapi, upload.uid) == "available"
        assert site.stop() == 0
    assert not [line for line in site.lines if upload.patient.patient_id in line]


def committed(site: Site, upload: Upload) -> Dataset:
    """Ask for commitment to a study, and return the report."""
    reports: list[Dataset] = []
    taken = threading.Event()

    def take(event: evt.Event) -> tuple[int, None]:
        reports.append(event.event_information)
        taken.set()
        return 0, None

    references = []
    for file in upload.files:
        found = pydicom.dcmread(BytesIO(file), stop_before_pixels=True)
        references.append(referenced(found.SOPInstanceUID, found.SOPClassUID))
    with associated(
        site.settings["store_scp"]["port"],
        COMMITMENT,
        evt_handlers=[(evt.EVT_N_EVENT_REPORT, take)],
    ) as association:
        answer, _ = association.send_n_action(
            commitment(generate_uid(), *references), 1, COMMITMENT, PUSH_MODEL
        )
        assert answer.Status == 0
        assert taken.wait(120)
    return reports[0]


def test_a_step_that_comes_to_nothing(site: Site, hapi: Hapi) -> None:
    upload = Upload(slices=1)
    create_patient(hapi.base_url, upload.patient)
    step_uid = generate_uid()
    with running(site):
        assert of(site, "create", begun(upload), step_uid) == 0
        becomes_in_fhir(hapi, upload.uid, "registered")
        assert of(site, "set", becomes("DISCONTINUED"), step_uid) == 0
        becomes_in_fhir(hapi, upload.uid, "cancelled")


def test_what_a_notification_tells_is_read_from_the_archive(
    site: Site, hapi: Hapi, orthanc: Orthanc
) -> None:
    upload = Upload(slices=1)
    create_patient(hapi.base_url, upload.patient)
    for file in upload.files:
        httpx.post(f"{orthanc.base_url}/instances", content=file, timeout=60).raise_for_status()
    with running(site):
        told = notification(upload.uid, [available("1.2.3", titles=["ORTHANC"])])
        assert of(site, "ian", told, generate_uid()) == 0
        becomes_in_fhir(hapi, upload.uid, "available")


@pytest.mark.parametrize("way", ["c-store", "stow-rs"])
def test_killed_while_it_sends_on_nothing_is_forgotten(
    site: Site, hapi: Hapi, orthanc: Orthanc, tmp_path: Path, way: str
) -> None:
    """The sender repeats what was not acknowledged; what Orthanc has is in FHIR in the end."""
    upload = Upload(slices=3)
    create_patient(hapi.base_url, upload.patient)
    site.settings["store_scp"]["forward"] = way
    paths = written(upload, tmp_path / "files")
    finished = threading.Event()

    def repeat() -> None:
        for path in paths:
            while send(site, [path]) != 0 and not finished.is_set():
                time.sleep(0.05)

    sender = threading.Thread(target=repeat)
    site.start()
    sender.start()
    try:
        for pause in (0.4, 0.7, 1.1):
            time.sleep(pause)
            site.kill()
            site.start()
        sender.join(120)
        assert not sender.is_alive()
    finally:
        finished.set()
        sender.join()
    site.kill()
    site.start()
    assert len(held(orthanc, upload.uid)) == len(upload.files)

    def is_whole() -> bool:
        found = imaging_studies(hapi.base_url, upload.uid)
        return len(found) == 1 and found[0]["numberOfInstances"] == len(upload.files)

    eventually(is_whole, within=90, every=0.5)


def test_what_the_pacs_stored_while_we_were_killed_is_found(
    site: Site, hapi: Hapi, orthanc: Orthanc, tmp_path: Path
) -> None:
    """Nobody repeats anything: the open intent alone leads to the archive."""
    upload = Upload(slices=3)
    create_patient(hapi.base_url, upload.patient)
    paths = written(upload, tmp_path / "files")
    site.start()
    sender = threading.Thread(target=partial(send, site, paths))
    sender.start()
    eventually(lambda: len(held(orthanc, upload.uid)) > 2, every=0.01)
    site.kill()
    sender.join()
    site.start()

    def is_told() -> bool:
        found = imaging_studies(hapi.base_url, upload.uid)
        return bool(found) and found[0]["numberOfInstances"] == len(held(orthanc, upload.uid))

    eventually(is_told, within=90, every=0.5)
