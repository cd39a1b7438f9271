"""Corrections in the PACS and on the FHIR server: nobody is guessed, nothing is deleted."""

import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import groupby, pairwise
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


def _history(hapi: Hapi, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the versions of a resource, the first one first: nothing is deleted, or said twice.

    How many they are depends on when the archive was looked at while it was about something.
    """
    url = f"{hapi.base_url}/ImagingStudy/{found['id']}/_history?_count=100"
    entries = httpx.get(url, timeout=60).json()["entry"]
    assert all(entry["request"]["method"] in {"POST", "PUT"} for entry in entries)
    versions = [entry["resource"] for entry in reversed(entries)]
    said = [{**one, "meta": None} for one in versions]
    assert all(one != another for one, another in pairwise(said))
    return versions


def _one_by_one(values: Iterable[Any]) -> list[Any]:
    """Return what follows upon what, each as long as it lasts."""
    return [value for value, _ in groupby(values)]


def _whole(site: Site, study: Look, upload: Upload, **expected: Any) -> dict[str, Any]:
    """Wait until all of a study is in FHIR, and nothing is left to do."""
    expected["numberOfInstances"] = len(upload.files)

    def found() -> dict[str, Any]:
        is_done = site.state(upload.uid) == "completed"
        now = study(upload.uid)
        return now if is_done and expected.items() <= now.items() else {}

    whole: dict[str, Any] = eventually(found, every=0.3, what="the whole study")
    return whole


def _is_held(site: Site, uid: str, code: str) -> bool:
    if site.state(uid) != "on-hold":
        return False
    return bool(site.ask("study", uid)["code"] == code)


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
        first = _whole(site, study, upload)
        assert _subject(first) == was
        pacs.modify_patient(upload.uid, right.patient_id)
        eventually(lambda: _is_held(site, upload.uid, "PATIENT-CHANGED"))
        assert study(upload.uid) == first
        done = site.run("retry", upload.uid)
        assert f"goes from {was} to whom the archive names now" in done.stdout
        moved = eventually(
            lambda: _subject(study(upload.uid)) == now and study(upload.uid), every=0.3
        )
        assert moved["id"] == first["id"]
        (said,) = eventually(lambda: _provenances(hapi, moved["id"]))
        assert said["reason"][0]["text"]
        eventually(
            lambda: (
                "moved to another Patient with Provenance"
                in _told(site, "study.synced", upload.uid)[-1]["sentence"]
            )
        )
        site.ask("retry", upload.uid)
        eventually(lambda: _told(site, "study.unchanged", upload.uid))
        eventually(lambda: site.state(upload.uid) == "completed")
        assert "Confirmed" not in site.run("retry", upload.uid).stdout
        eventually(lambda: site.state(upload.uid) == "completed")
    assert _one_by_one(map(_subject, _history(hapi, moved))) == [was, now]
    assert len(_provenances(hapi, moved["id"])) == 1


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
        first = _whole(site, study, upload)
        link = {"other": {"reference": other}, "type": "replaced-by"}
        _put(hapi, mine, active=False, link=[link])
        eventually(lambda: _subject(study(upload.uid)) == other, every=0.3)
        eventually(lambda: len(_provenances(hapi, first["id"])) == 1, every=0.3)
        _put(hapi, mine, active=True, link=None)
        eventually(lambda: _subject(study(upload.uid)) == mine, every=0.3)
        eventually(lambda: len(_provenances(hapi, first["id"])) == 2, every=0.3)
        eventually(lambda: site.state(upload.uid) == "completed")
        assert not _told(site, "study.on_hold", upload.uid)
    assert _one_by_one(map(_subject, _history(hapi, first))) == [mine, other, mine]


def test_a_merge_in_the_pacs_that_the_fhir_server_knows_is_followed(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    right = _another(upload.patient)
    was, now = (create_patient(hapi.base_url, one) for one in (upload.patient, right))
    with running(watched) as site:
        pacs.store(upload.files)
        _whole(site, study, upload)
        link = {"other": {"reference": now}, "type": "replaced-by"}
        _put(hapi, was, active=False, link=[link])
        eventually(lambda: _subject(study(upload.uid)) == now, every=0.3)
        eventually(lambda: site.state(upload.uid) == "completed")
        before = len(_told(site, "study.unchanged", upload.uid))
        pacs.modify_patient(upload.uid, right.patient_id)
        eventually(lambda: len(_told(site, "study.unchanged", upload.uid)) > before)
        assert not _told(site, "study.on_hold", upload.uid)
    assert _one_by_one(map(_subject, _history(hapi, study(upload.uid)))) == [was, now]


def test_two_patients_in_one_study_are_held_until_one_side_is_corrected(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    other = _another(upload.patient)
    mine, _ = (create_patient(hapi.base_url, one) for one in (upload.patient, other))
    half = len(upload.files) // 2
    pacs.store(upload.files[:half])
    pacs.modify_patient(upload.uid, other.patient_id)
    pacs.store(upload.files[half:])
    with running(watched) as site:
        eventually(lambda: _is_held(site, upload.uid, "PATIENT-CONFLICT"))
        eventually(lambda: _told(site, "study.on_hold", upload.uid))
        assert study(upload.uid) == {}
        for file in upload.files[:half]:
            pacs.delete(read(file).SOPInstanceUID)
        pacs.store(upload.files[:half])
        assert _subject(_whole(site, study, upload)) == mine


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

    def held() -> bool:
        return _is_held(watched, upload.uid, "PATIENT-CONFLICT")

    with running(watched) as site:
        for archive in (pacs, copy):
            archive.store(upload.files)
        eventually(lambda: len(study(upload.uid).get("endpoint", [])) == 4, every=0.3)
        first = _whole(site, study, upload)
        copy.modify_patient(upload.uid, other.patient_id)
        eventually(held)
        copy.modify_patient(upload.uid, upload.patient.patient_id)
        eventually(lambda: site.state(upload.uid) == "completed", every=0.5)
        assert study(upload.uid) == first
        copy.modify_patient(upload.uid, other.patient_id)
        eventually(held)
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
        first = _whole(site, study, upload)
        pacs.modify_study(upload.uid, StudyInstanceUID=new_uid)
        eventually(lambda: study(new_uid).get("numberOfInstances") == len(upload.files), every=0.3)
        gone = eventually(
            lambda: (now := study(upload.uid))["status"] == "entered-in-error" and now, every=0.3
        )
        assert gone.keys() == {"resourceType", "id", "meta", "identifier", "status", "subject"}
        pacs.modify_study(new_uid, StudyInstanceUID=upload.uid)  # and back again
        eventually(lambda: study(new_uid)["status"] == "entered-in-error", every=0.3)
        back = _whole(site, study, upload, status="available")
        eventually(lambda: {site.state(one) for one in (upload.uid, new_uid)} == {"completed"})
    assert back["id"] == first["id"]
    assert back["series"] == first["series"]
    statuses = _one_by_one(one["status"] for one in _history(hapi, back))
    assert statuses == ["available", "entered-in-error", "available"]


def test_a_split_and_a_merge_in_the_archive_are_seen(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    create_patient(hapi.base_url, upload.patient)
    dwi = [file for file in upload.files if read(file).SeriesNumber == 4]
    with running(watched) as site:
        pacs.store(upload.files)
        _whole(site, study, upload)
        new_uid = pacs.split(upload.uid, str(read(dwi[0]).SeriesInstanceUID))
        eventually(lambda: study(new_uid).get("numberOfInstances") == len(dwi), every=0.3)
        eventually(lambda: len(study(upload.uid)["series"]) == 5, every=0.3)
        pacs.merge(new_uid, into=upload.uid)
        _whole(site, study, upload)
        assert len(study(upload.uid)["series"]) == 6
        site.ask("retry", new_uid)  # whose instances got new UIDs: nobody can say that they moved
        eventually(lambda: study(new_uid)["status"] == "unknown", every=0.3)
    assert study(upload.uid)["status"] == "available"


def test_what_is_deleted_goes_slowly_and_comes_back(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Look
) -> None:
    upload = Upload(slices=1)
    create_patient(hapi.base_url, upload.patient)
    headers = [read(file) for file in upload.files]
    watched.settings["removal"] = {"confirmations": 3, "period": "1h"}
    with running(watched) as site:
        pacs.store(upload.files)
        first = _whole(site, study, upload)
        pacs.delete(headers[-1].SOPInstanceUID)
        eventually(
            lambda: study(upload.uid)["numberOfInstances"] == len(upload.files) - 1, every=0.3
        )
        pacs.delete(headers[0].SeriesInstanceUID)
        eventually(lambda: len(study(upload.uid)["series"]) == 5, every=0.3)
        eventually(lambda: site.state(upload.uid) == "completed")
        smaller = study(upload.uid)
        pacs.delete(upload.uid)
        eventually(lambda: site.state(upload.uid) == "failed")
        assert study(upload.uid) == smaller
        site.kill()
        (archive,) = site.ask("study", upload.uid)["archives"]
        assert archive["absent_since"]
        site.settings["removal"]["period"] = "2s"
        site.start()
        site.ask("retry", upload.uid)
        gone = eventually(
            lambda: (now := study(upload.uid))["status"] == "unknown" and now, every=0.3
        )
        assert "endpoint" not in gone
        assert (gone["series"], gone["started"]) == (smaller["series"], smaller["started"])
        pacs.store(upload.files)
        back = _whole(site, study, upload, status="available")
        assert (back["id"], back["series"]) == (first["id"], first["series"])
        assert back["endpoint"] == first["endpoint"]
    history = _history(hapi, back)
    statuses = _one_by_one(one["status"] for one in history)
    assert statuses == ["available", "unknown", "available"]
    assert len(history) >= 5
