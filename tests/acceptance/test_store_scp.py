"""Modalities send to the installed program by C-STORE; kill -9 loses nothing acknowledged."""

import itertools
import random
import threading
import time
import uuid
from functools import partial
from pathlib import Path

import pydicom
import pytest

from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import SyntheticPatient
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running
from tests.dimse import RawSender, bare, message
from tests.services.dcmtk import dcmtk
from tests.services.process import free_port


@pytest.fixture
def index_site(sandbox_site: Site) -> Site:
    """A site whose PACS routes it a copy; nothing is asked of an archive."""
    del sandbox_site.settings["archive"]
    sandbox_site.settings["stow_rs"] = {"enabled": False}
    sandbox_site.settings["store_scp"] = {"enabled": True, "port": free_port()}
    return sandbox_site


def write(upload: Upload, folder: Path) -> Path:
    """Write the files of a study."""
    folder.mkdir()
    for number, file in enumerate(upload.files):
        (folder / f"{number:04d}.dcm").write_bytes(file)
    return folder


def storescu(site: Site, folder: Path, *options: str) -> int:
    """Send a folder with dcmtk; return the exit code."""
    port = str(site.settings["store_scp"]["port"])
    sent = dcmtk("storescu", *options, "-aec", "FLUTE_SYNC", "127.0.0.1", port, "+sd", str(folder))
    return sent.returncode


def is_whole(sandbox: Sandbox, upload: Upload) -> bool:
    """Tell whether FHIR has the study, once, with all its instances."""
    found = imaging_studies(sandbox.fhir_url, upload.uid)
    return len(found) == 1 and found[0]["numberOfInstances"] == len(upload.files)


@pytest.mark.parametrize("data_path", ["lean", "pynetdicom"])
def test_what_modalities_send_is_in_fhir(
    index_site: Site, sandbox: Sandbox, tmp_path: Path, data_path: str
) -> None:
    upload = Upload()
    create_patient(sandbox.fhir_url, upload.patient)
    index_site.settings["store_scp"]["data_path"] = data_path
    with running(index_site) as site:
        assert storescu(site, write(upload, tmp_path / "files")) == 0
        eventually(partial(is_whole, sandbox, upload), every=0.2)
        (told,) = eventually(lambda: site.logged("store.accepted"))
        assert (told["instances"], told["failed"]) == (len(upload.files), 0)
        assert told["calling_ae_title"] == "STORESCU"
        assert site.stop() == 0
    assert not [line for line in site.lines if upload.patient.patient_id in line]


def test_what_is_sent_again_corrected_counts_where_no_archive_can_be_asked(
    index_site: Site, sandbox: Sandbox, tmp_path: Path
) -> None:
    upload, right = Upload(slices=1), SyntheticPatient(patient_id=f"R-{uuid.uuid4().hex[:12]}")
    create_patient(sandbox.fhir_url, upload.patient)
    corrected = create_patient(sandbox.fhir_url, right)
    folder = write(upload, tmp_path / "files")
    with running(index_site) as site:
        assert storescu(site, folder) == 0
        eventually(partial(is_whole, sandbox, upload), every=0.2)
        eventually(lambda: site.state(upload.uid) == "completed")
        for path in folder.iterdir():
            file = pydicom.dcmread(path)
            file.PatientID, file.StudyDescription = right.patient_id, "Corrected"
            file.save_as(path)
        assert storescu(site, folder) == 0
        eventually(lambda: site.ask("study", upload.uid)["code"] == "PATIENT-CHANGED", every=0.5)
        assert site.run("retry", upload.uid).returncode == 0
        eventually(lambda: site.state(upload.uid) == "completed")
    (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
    assert (found["subject"]["reference"], found["description"]) == (corrected, "Corrected")
    assert found["numberOfInstances"] == len(upload.files)


def test_only_what_the_wanted_modality_sends(
    index_site: Site, sandbox: Sandbox, tmp_path: Path
) -> None:
    wanted, unwanted = Upload(), Upload()
    for upload in (wanted, unwanted):
        create_patient(sandbox.fhir_url, upload.patient)
    index_site.settings["select"] = {"calling_ae_titles": ["MR1"]}
    with running(index_site) as site:
        assert storescu(site, write(wanted, tmp_path / "wanted"), "-aet", "MR1") == 0
        assert storescu(site, write(unwanted, tmp_path / "unwanted"), "-aet", "MR2") == 0
        eventually(partial(is_whole, sandbox, wanted), every=0.2)
        eventually(lambda: site.logged("study.out_of_scope"))
        assert not imaging_studies(sandbox.fhir_url, unwanted.uid)


def test_killed_again_and_again_nothing_acknowledged_is_lost(
    index_site: Site, sandbox: Sandbox
) -> None:
    uploads = [Upload(slices=1) for _ in range(4)]
    for upload in uploads:
        create_patient(sandbox.fhir_url, upload.patient)
    finished = threading.Event()
    acknowledged: list[bytes] = []

    def send() -> None:
        for file in itertools.chain.from_iterable(upload.files for upload in uploads):
            while not _acknowledged(index_site.settings["store_scp"]["port"], file):
                if finished.wait(0.02):
                    return
            acknowledged.append(file)

    random.seed(7)
    index_site.start()
    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(4):
            time.sleep(random.uniform(0.1, 0.6))
            index_site.kill()
            index_site.start()
        sender.join(200)
    finally:
        finished.set()
        sender.join()
    assert len(acknowledged) == sum(len(upload.files) for upload in uploads)
    index_site.kill()  # once more, with everything acknowledged and most of it not in FHIR yet
    index_site.start()
    for upload in uploads:
        eventually(partial(is_whole, sandbox, upload), within=90, what=upload.uid, every=0.5)


def _acknowledged(port: int, file: bytes) -> bool:
    """Send one instance on an association of its own; whatever breaks, it was not acknowledged."""
    syntax, body = bare(file)
    header = pydicom.dcmread(pydicom.filebase.DicomBytesIO(file), stop_before_pixels=True)
    name = str(header.SOPInstanceUID)
    try:
        with RawSender(port, ((str(header.SOPClassUID), syntax),)) as sender:
            sender.send(message(1, str(header.SOPClassUID), name, body))
            return sender.status() == 0
    except (OSError, AssertionError):
        return False
