"""kill -9 at any time: what was acknowledged reaches FHIR, once."""

import itertools
import random
import threading
import time
from functools import partial
from typing import Any

import httpx

from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, store
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc

STUDIES = 6


def test_killed_again_and_again_nothing_acknowledged_is_lost(
    real_site: Site, hapi: Hapi, orthanc: Orthanc
) -> None:
    uploads = [Upload(slices=1) for _ in range(STUDIES)]
    for upload in uploads:
        create_patient(hapi.base_url, upload.patient)
    acknowledged: list[bytes] = []
    finished = threading.Event()

    def send() -> None:
        for file in itertools.chain.from_iterable(upload.files for upload in uploads):
            while not _acknowledged(real_site.stow_url, file):
                if finished.wait(0.05):
                    return
            acknowledged.append(file)

    random.seed(4)
    real_site.start()
    sender = threading.Thread(target=send)
    sender.start()
    try:
        for _ in range(4):
            time.sleep(random.uniform(0.3, 1.5))
            real_site.kill()
            real_site.start()
        sender.join(200)
    finally:
        finished.set()
        sender.join()
    assert len(acknowledged) == sum(len(upload.files) for upload in uploads)
    real_site.kill()  # once more, with everything acknowledged and most of it not in FHIR yet
    real_site.start()
    for upload in uploads:
        eventually(
            partial(_whole, hapi.base_url, upload),
            within=90,
            what=f"all of {upload.uid} in FHIR",
            every=0.5,
        )


def _acknowledged(url: str, file: bytes) -> bool:
    try:
        return store(url, [file]).status_code == 200
    except httpx.HTTPError:
        return False


def _whole(fhir_url: str, upload: Upload) -> bool:
    found = imaging_studies(fhir_url, upload.uid)
    return len(found) == 1 and found[0]["numberOfInstances"] == len(upload.files)


def test_what_the_archive_stored_is_not_forgotten_when_the_answer_was_lost(
    real_site: Site, hapi: Hapi
) -> None:
    """The sender hears nothing, yet the PACS has it: the open intent becomes a read."""
    upload = Upload(slices=4)
    create_patient(hapi.base_url, upload.patient)
    real_site.start()
    sender = threading.Thread(target=_send_in_vain, args=(real_site.stow_url, upload.files))
    sender.start()
    eventually(lambda: _instances(real_site, upload.uid) > 0, every=0.01)
    real_site.kill()
    sender.join()
    real_site.start()

    def said() -> bool:
        found = imaging_studies(hapi.base_url, upload.uid)
        held = _instances(real_site, upload.uid)  # Orthanc may have been at work on the last one
        return len(found) == 1 and found[0]["numberOfInstances"] == held

    eventually(said, within=90, what="what the archive holds is in FHIR", every=0.5)


def _send_in_vain(url: str, files: list[bytes]) -> None:
    for file in files:
        try:
            store(url, [file])
        except httpx.HTTPError:
            return


def _instances(site: Site, uid: str) -> int:
    archive = site.settings["archive"]["dicomweb_url"]
    answer = httpx.get(f"{archive}/studies/{uid}/instances", timeout=60)
    return len(answer.json()) if answer.status_code == 200 else 0


def test_two_daemons_on_one_ledger_write_a_study_once(
    real_site: Site, hapi: Hapi, make_site
) -> None:
    upload = Upload(slices=1)
    create_patient(hapi.base_url, upload.patient)
    other = make_site(hapi.base_url, real_site.settings["archive"]["dicomweb_url"])
    other.settings["ledger"] = real_site.settings["ledger"]
    for site in (real_site, other):
        site.settings["study"]["quiet_period"] = "3s"
    real_site.start()
    other.start()
    for number, file in enumerate(upload.files):
        assert store((real_site, other)[number % 2].stow_url, [file]).status_code == 200
    eventually(partial(_whole, hapi.base_url, upload))
    eventually(lambda: real_site.state(upload.uid) == "completed")
    (found,) = imaging_studies(hapi.base_url, upload.uid)
    assert [one.stop() for one in (real_site, other)] == [0, 0]
    # A pause of the sender may divide it; each version is written by one of them.
    assert str(len(_synced(real_site) + _synced(other))) == found["meta"]["versionId"]


def _synced(site: Site) -> list[dict[str, Any]]:
    return site.logged("study.synced")
