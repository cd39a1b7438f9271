"""Corrections in the PACS and on the FHIR server: nobody is guessed, nothing is deleted."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from flute_sync.sandbox.studies import SyntheticPatient
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.pacs import Pacs, read
from tests.acceptance.site import Site, eventually, running
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc

Look = Callable[[str], dict[str, Any]]


@pytest.fixture
def pacs(orthanc: Orthanc) -> Pacs:
    return Pacs(orthanc.base_url, orthanc.dicomweb_url)


@pytest.fixture
def watched(real_site: Site, orthanc: Orthanc) -> Site:
    """A site that follows Orthanc's feed and its study search."""
    feed = {"enabled": True, "url": orthanc.base_url, "interval": "300ms", "start": "now"}
    feed["removals"] = "500ms"
    real_site.settings["orthanc_changes"] = feed
    real_site.settings["qido_rs"] = {"enabled": True, "interval": "1s", "lookback": "P4000D"}
    real_site.settings["patient"]["watch_interval"] = "1s"
    real_site.settings["removal"] = {"confirmations": 2, "period": "2s"}
    return real_site


@pytest.fixture
def study(hapi: Hapi) -> Look:
    def found(uid: str) -> dict[str, Any]:
        resources = imaging_studies(hapi.base_url, uid)
        assert len(resources) <= 1
        return resources[0] if resources else {}

    return found


def _told(site: Site, event: str, uid: str) -> list[dict[str, Any]]:
    return [line for line in site.logged(event) if line["study_instance_uid"] == uid]


def _subject(found: dict[str, Any]) -> str | None:
    subject: dict[str, str] = found.get("subject", {})
    return subject.get("reference")


def _provenances(hapi: Hapi, study_id: str) -> list[dict[str, Any]]:
    answer = httpx.get(
        f"{hapi.base_url}/Provenance",
        params={"target": f"ImagingStudy/{study_id}"},
        headers={"Cache-Control": "no-cache"},
        timeout=60,
    )
    return [entry["resource"] for entry in answer.json().get("entry", [])]


def _versions(hapi: Hapi, found: dict[str, Any]) -> int:
    """Count the versions of a resource; a deletion would be one of them."""
    url = f"{hapi.base_url}/ImagingStudy/{found['id']}/_history"
    history = httpx.get(url, timeout=60).json()
    assert all(entry["request"]["method"] in {"POST", "PUT"} for entry in history["entry"])
    return int(history["total"])


def _another(patient: SyntheticPatient) -> SyntheticPatient:
    """The same person under another number."""
    return replace(patient, patient_id=f"P-{uuid.uuid4().hex[:12]}")


def test_a_corrected_patient_is_held_until_a_person_confirms_and_then_moves(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    right = _another(upload.patient)
    was, now = (create_patient(hapi.base_url, one) for one in (upload.patient, right))
    with running(watched) as site:
        pacs.store(upload.files)
        first = eventually(lambda: study(upload.uid), every=0.3)
        assert _subject(first) == was
        pacs.modify_patient(upload.uid, right.patient_id)
        eventually(lambda: _told(site, "study.on_hold", upload.uid))
        assert site.ask("study", upload.uid)["code"] == "PATIENT-CHANGED"
        assert study(upload.uid) == first
        done = site.run("retry", upload.uid)
        assert f"goes from {was} to whom the archive names now" in done.stdout
        moved = eventually(
            lambda: _subject(study(upload.uid)) == now and study(upload.uid), every=0.3
        )
        assert moved["id"] == first["id"]
        (said,) = eventually(lambda: _provenances(hapi, moved["id"]))
        assert said["reason"][0]["text"]
        (_, line) = _told(site, "study.synced", upload.uid)
        assert "moved to another Patient with Provenance" in line["sentence"]
        site.ask("retry", upload.uid)
        eventually(lambda: _told(site, "study.unchanged", upload.uid))
        assert "Confirmed" not in site.run("retry", upload.uid).stdout
        eventually(lambda: site.state(upload.uid) == "completed", every=0.5)
    assert _versions(hapi, moved) == 2
    assert {entry["subject"]["reference"] for entry in [study(upload.uid)]} == {now}


def _put(hapi: Hapi, reference: str, **changes: Any) -> None:
    url = f"{hapi.base_url}/{reference}"
    resource = {**httpx.get(url, timeout=60).json(), **changes}
    resource = {name: value for name, value in resource.items() if value is not None}
    assert httpx.put(url, json=resource, timeout=60).is_success


def test_a_merge_on_the_fhir_server_and_its_undoing_are_followed_with_provenance(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    mine = create_patient(hapi.base_url, upload.patient)
    other = create_patient(hapi.base_url, _another(upload.patient))
    with running(watched) as site:
        pacs.store(upload.files)
        first = eventually(lambda: study(upload.uid), every=0.3)
        link = {"other": {"reference": other}, "type": "replaced-by"}
        _put(hapi, mine, active=False, link=[link])
        eventually(lambda: _subject(study(upload.uid)) == other, every=0.3)
        assert len(_provenances(hapi, first["id"])) == 1
        _put(hapi, mine, active=True, link=None)
        eventually(lambda: _subject(study(upload.uid)) == mine, every=0.3)
        assert len(_provenances(hapi, first["id"])) == 2
        assert not _told(site, "study.on_hold", upload.uid)
    assert _versions(hapi, first) == 3


def test_a_merge_in_the_pacs_that_the_fhir_server_knows_is_followed(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    right = _another(upload.patient)
    was, now = (create_patient(hapi.base_url, one) for one in (upload.patient, right))
    with running(watched) as site:
        pacs.store(upload.files)
        eventually(lambda: study(upload.uid), every=0.3)
        link = {"other": {"reference": now}, "type": "replaced-by"}
        _put(hapi, was, active=False, link=[link])
        eventually(lambda: _subject(study(upload.uid)) == now, every=0.3)
        pacs.modify_patient(upload.uid, right.patient_id)
        eventually(lambda: _told(site, "study.unchanged", upload.uid))
        assert not _told(site, "study.on_hold", upload.uid)
    assert _subject(study(upload.uid)) == now
    assert _versions(hapi, study(upload.uid)) == 2


def test_two_patients_in_one_study_are_held_until_one_side_is_corrected(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    other = _another(upload.patient)
    mine, theirs = (create_patient(hapi.base_url, one) for one in (upload.patient, other))
    half = len(upload.files) // 2
    with running(watched) as site:
        pacs.store(upload.files[:half])
        pacs.modify_patient(upload.uid, other.patient_id)
        pacs.store(upload.files[half:])
        eventually(lambda: _told(site, "study.on_hold", upload.uid))
        eventually(lambda: site.ask("study", upload.uid)["code"] == "PATIENT-CONFLICT")
        assert study(upload.uid) == {} or _subject(study(upload.uid)) in {mine, theirs}
        before = study(upload.uid)
        for file in upload.files[:half]:
            pacs.delete(read(file).SOPInstanceUID)
        pacs.store(upload.files[:half])
        whole = eventually(
            lambda: (
                (now := study(upload.uid)).get("numberOfInstances") == len(upload.files) and now
            ),
            every=0.3,
        )
        assert _subject(whole) == mine
        assert not before or before["id"] == whole["id"]


def test_two_archives_that_name_two_patients_are_held_until_they_agree(
    watched: Site,
    hapi: Hapi,
    pacs: Pacs,
    new_orthanc: Callable[..., Orthanc],
    study: Look,
) -> None:
    upload = Upload(slices=1)
    other = _another(upload.patient)
    mine, _ = (create_patient(hapi.base_url, one) for one in (upload.patient, other))
    second = new_orthanc()
    copy = Pacs(second.base_url, second.dicomweb_url)
    del watched.settings["archive"], watched.settings["orthanc_changes"]
    watched.settings["stow_rs"]["enabled"] = False
    watched.settings["archives"] = [
        {"name": name, "dicomweb_url": archive.dicomweb_url}
        for name, archive in (("pacs", pacs), ("copy", copy))
    ]

    def held(times: int) -> bool:
        lines = _told(watched, "study.on_hold", upload.uid)
        return [line["code"] for line in lines].count("PATIENT-CONFLICT") >= times

    with running(watched) as site:
        for archive in (pacs, copy):
            archive.store(upload.files)
        first = eventually(
            lambda: len((now := study(upload.uid)).get("endpoint", [])) == 4 and now, every=0.3
        )
        copy.modify_patient(upload.uid, other.patient_id)
        eventually(lambda: held(1))
        copy.modify_patient(upload.uid, upload.patient.patient_id)
        eventually(lambda: site.state(upload.uid) == "completed", every=0.5)
        assert study(upload.uid) == first
        copy.modify_patient(upload.uid, other.patient_id)
        eventually(lambda: held(2))
        copy.delete(upload.uid)
        site.ask("retry", upload.uid)
        eventually(lambda: len(study(upload.uid)["endpoint"]) == 2, every=0.3)
        assert _subject(study(upload.uid)) == mine
        eventually(lambda: site.state(upload.uid) == "completed")


def test_a_study_that_moves_to_another_uid_was_an_error(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    create_patient(hapi.base_url, upload.patient)
    new_uid = f"{upload.uid[:40]}.1"
    with running(watched) as site:
        pacs.store(upload.files)
        first = eventually(lambda: study(upload.uid), every=0.3)
        pacs.modify_study(upload.uid, StudyInstanceUID=new_uid)
        eventually(lambda: study(new_uid).get("numberOfInstances") == len(upload.files), every=0.3)
        gone = eventually(
            lambda: (now := study(upload.uid))["status"] == "entered-in-error" and now, every=0.3
        )
        assert gone.keys() == {"resourceType", "id", "meta", "identifier", "status", "subject"}
        pacs.modify_study(new_uid, StudyInstanceUID=upload.uid)  # and back again
        eventually(lambda: study(upload.uid)["status"] == "available", every=0.3)
        eventually(lambda: study(new_uid)["status"] == "entered-in-error", every=0.3)
        back = study(upload.uid)
        eventually(lambda: {site.state(one) for one in (upload.uid, new_uid)} == {"completed"})
    assert back["id"] == first["id"]
    assert back["series"] == first["series"]
    assert _versions(hapi, back) == 3


def test_a_split_and_a_merge_in_the_archive_are_seen(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    create_patient(hapi.base_url, upload.patient)
    dwi = [file for file in upload.files if read(file).SeriesNumber == 4]
    with running(watched) as site:
        pacs.store(upload.files)
        eventually(lambda: study(upload.uid), every=0.3)
        new_uid = pacs.split(upload.uid, str(read(dwi[0]).SeriesInstanceUID))
        eventually(lambda: study(new_uid).get("numberOfInstances") == len(dwi), every=0.3)
        eventually(lambda: len(study(upload.uid)["series"]) == 5, every=0.3)
        pacs.merge(new_uid, into=upload.uid)
        eventually(lambda: len(study(upload.uid)["series"]) == 6, every=0.3)
        site.ask("retry", new_uid)  # whose instances got new UIDs: nobody can say that they moved
        eventually(lambda: study(new_uid)["status"] == "unknown", every=0.3)
    assert study(upload.uid)["status"] == "available"


def test_what_is_deleted_goes_slowly_and_comes_back(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    create_patient(hapi.base_url, upload.patient)
    headers = [read(file) for file in upload.files]
    watched.settings["removal"] = {"confirmations": 3, "period": "12s"}
    with running(watched) as site:
        pacs.store(upload.files)
        first = eventually(lambda: study(upload.uid), every=0.3)
        pacs.delete(headers[-1].SOPInstanceUID)
        eventually(
            lambda: study(upload.uid)["numberOfInstances"] == len(upload.files) - 1, every=0.3
        )
        pacs.delete(headers[0].SeriesInstanceUID)
        eventually(lambda: len(study(upload.uid)["series"]) == 5, every=0.3)
        smaller = study(upload.uid)
        pacs.delete(upload.uid)
        eventually(lambda: _told(site, "study.retry", upload.uid))
        assert study(upload.uid) == smaller
        site.kill()
        (archive,) = site.ask("study", upload.uid)["archives"]
        assert archive["absent_since"]
        site.start()
        gone = eventually(
            lambda: (now := study(upload.uid))["status"] == "unknown" and now, every=0.3
        )
        assert "endpoint" not in gone
        assert (gone["series"], gone["started"]) == (smaller["series"], smaller["started"])
        pacs.store(upload.files)
        back = eventually(
            lambda: (now := study(upload.uid))["status"] == "available" and now, every=0.3
        )
        assert (back["id"], back["series"]) == (first["id"], first["series"])
        assert back["endpoint"] == first["endpoint"]
    assert _versions(hapi, back) == 5
