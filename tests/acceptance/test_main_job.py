"""A STOW-RS upload becomes one ImagingStudyFlute: real Orthanc, real HAPI, the real program."""

from typing import Any

import httpx

from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc

PROFILE = "http://hl7.eu/fhir/ig/flute/StructureDefinition/imagingStudy-eu-flute"


def synced(site: Site, uid: str, version: str | None = None) -> dict[str, Any]:
    """Wait until the study is in FHIR, and return what ``study`` says."""

    def told() -> bool:
        records = [r for r in site.logged("study.synced") if r["study_instance_uid"] == uid]
        return any(version in (None, record["version"]) for record in records)

    eventually(told, what="study.synced")
    # It is said before the ledger has it, and a Patient who is new lets it be looked at again.
    eventually(lambda: site.state(uid) == "completed")
    answer: dict[str, Any] = site.ask("study", uid)
    return answer


def errors_of(hapi: Hapi, resource: dict[str, Any]) -> list[str]:
    """Let the server validate a resource against the FLUTE profile."""
    answer = httpx.post(
        f"{hapi.base_url}/ImagingStudy/$validate",
        params={"profile": PROFILE},
        json=resource,
        timeout=300,
    )
    issues = answer.json()["issue"]
    return [issue["diagnostics"] for issue in issues if issue["severity"] in ("error", "fatal")]


def test_an_upload_becomes_one_valid_imaging_study(
    real_site: Site, hapi: Hapi, orthanc: Orthanc
) -> None:
    upload = Upload()
    patient = create_patient(hapi.base_url, upload.patient)
    with running(real_site) as site:
        answer = store(site.stow_url, upload.files)
        assert answer.status_code == 200
        stored = answer.json()["00081199"]["Value"]
        assert len(stored) == len(upload.files)
        assert all(
            one["00081190"]["Value"][0].startswith(site.stow_url + "/studies/") for one in stored
        )
        told = synced(site, upload.uid)
    (resource,) = imaging_studies(hapi.base_url, upload.uid)
    assert errors_of(hapi, resource) == []
    assert told["fhir"] == {
        "reference": f"ImagingStudy/{resource['id']}",
        "version": resource["meta"]["versionId"],
    }
    assert (told["series"], told["instances"]) == (6, len(upload.files))
    assert resource["subject"]["reference"] == patient
    assert resource["status"] == "available"
    assert resource["started"] == "2024-03-01T09:15:00+01:00"
    assert {"value": upload.uid} in resource["identifier"]
    assert [code["code"] for code in resource["modality"]] == ["MR"]
    assert resource["numberOfSeries"] == 6
    assert resource["numberOfInstances"] == len(upload.files)
    # The stored resource alone leads to the pixels.
    endpoint = httpx.get(
        f"{hapi.base_url}/{resource['endpoint'][0]['reference']}", timeout=60
    ).json()
    assert endpoint["connectionType"]["code"] == "dicom-wado-rs"
    assert endpoint["address"] == orthanc.dicomweb_url
    for series in resource["series"]:
        first = series["instance"][0]["uid"]
        url = f"{endpoint['address']}/studies/{upload.uid}/series/{series['uid']}/instances/{first}"
        assert httpx.get(f"{url}/metadata", timeout=60).status_code == 200


def test_more_of_a_study_updates_it_and_the_same_again_writes_nothing(
    real_site: Site, hapi: Hapi
) -> None:
    upload = Upload()
    create_patient(hapi.base_url, upload.patient)
    half = len(upload.files) // 2
    with running(real_site) as site:
        store(site.stow_url, upload.files[:half])
        synced(site, upload.uid, "1")
        (first,) = imaging_studies(hapi.base_url, upload.uid)
        assert first["numberOfInstances"] == half
        store(site.stow_url, upload.files[half:])
        synced(site, upload.uid, "2")
        (second,) = imaging_studies(hapi.base_url, upload.uid)
        assert (second["id"], second["numberOfInstances"]) == (first["id"], len(upload.files))
        store(site.stow_url, upload.files)  # all of it again
        assert store(site.stow_url, upload.files[:1]).status_code == 200
        site.run("retry", upload.uid)  # and a full re-read
        eventually(
            lambda: site.logged("study.unchanged") and site.state(upload.uid) == "completed",
        )
        (third,) = imaging_studies(hapi.base_url, upload.uid)
        assert third == second


def test_what_others_put_on_the_resource_stays(real_site: Site, hapi: Hapi) -> None:
    upload = Upload()
    create_patient(hapi.base_url, upload.patient)
    with running(real_site) as site:
        store(site.stow_url, upload.files[:6])
        reference = synced(site, upload.uid, "1")["fhir"]["reference"]
        url = f"{hapi.base_url}/{reference}"
        theirs = httpx.get(url, timeout=60).json()
        theirs["note"] = [{"text": "read by the radiologist"}]
        theirs["identifier"].append({"system": "http://ris.example", "value": "R-1"})
        theirs["series"][0]["performer"] = [{"actor": {"display": "MR 2"}}]
        assert httpx.put(url, json=theirs, timeout=60).status_code == 200
        store(site.stow_url, upload.files[6:])
        synced(site, upload.uid, "3")
        now = httpx.get(url, timeout=60).json()
    assert now["note"] == theirs["note"]
    assert {"system": "http://ris.example", "value": "R-1"} in now["identifier"]
    assert [one["performer"] for one in now["series"] if "performer" in one]
    assert now["numberOfInstances"] == len(upload.files)


def test_an_existing_imaging_study_is_adopted_whatever_its_form(
    real_site: Site, hapi: Hapi
) -> None:
    upload = Upload()
    patient = create_patient(hapi.base_url, upload.patient)
    theirs = {
        "resourceType": "ImagingStudy",
        "status": "available",
        "identifier": [{"value": upload.uid}],
        "subject": {"reference": patient},
        "note": [{"text": "theirs"}],
    }
    created = httpx.post(f"{hapi.base_url}/ImagingStudy", json=theirs, timeout=60).json()
    with running(real_site) as site:
        store(site.stow_url, upload.files)
        told = synced(site, upload.uid)
    assert told["fhir"]["reference"] == f"ImagingStudy/{created['id']}"
    (resource,) = imaging_studies(hapi.base_url, upload.uid)
    assert resource["id"] == created["id"]
    assert resource["note"] == theirs["note"]
    assert errors_of(hapi, resource) == []
