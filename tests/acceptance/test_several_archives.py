"""A site with two archives: one ImagingStudy a study, and neither is in the other's way."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc

OTHER = "urn:oid:1.2.3.4"


def _archive(name: str, orthanc: Orthanc, **more: Any) -> dict[str, Any]:
    feed = {"enabled": True, "url": orthanc.base_url, "interval": "500ms"}
    return {
        "name": name,
        "dicomweb_url": orthanc.dicomweb_url,
        "orthanc_changes": feed,
        **more,
    }


@pytest.fixture
def second(new_orthanc: Callable[..., Orthanc]) -> Orthanc:
    return new_orthanc()


@pytest.fixture
def two(
    make_site: Callable[[str, str | None], Site], hapi: Hapi, orthanc: Orthanc, second: Orthanc
) -> Site:
    site = make_site(hapi.base_url, None)
    site.settings["archives"] = [
        _archive("mri", orthanc),
        _archive("vna", second, patient_systems={"SANDBOX": OTHER}),
    ]
    site.settings["stow_rs"]["archive"] = "vna"
    return site


def _addresses(hapi: Hapi, study: dict[str, Any]) -> set[str]:
    references = [one["reference"] for one in study.get("endpoint", [])]
    return {
        str(httpx.get(f"{hapi.base_url}/{name}", timeout=60).json()["address"])
        for name in references
    }


def _single(hapi: Hapi, uid: str) -> dict[str, Any] | None:
    found = imaging_studies(hapi.base_url, uid)
    assert len(found) <= 1
    return found[0] if found else None


def test_a_study_in_both_is_one_resource_with_the_endpoints_of_both(
    two: Site, hapi: Hapi, orthanc: Orthanc, second: Orthanc
) -> None:
    two.settings["archives"][1]["patient_systems"] = {}
    upload = Upload()
    create_patient(hapi.base_url, upload.patient)
    with running(two) as site:
        assert store(orthanc.dicomweb_url, upload.files).status_code == 200
        study = eventually(lambda: _single(hapi, upload.uid), every=0.3)
        assert _addresses(hapi, study) == {orthanc.dicomweb_url}
        assert store(second.dicomweb_url, upload.files).status_code == 200
        both = {orthanc.dicomweb_url, second.dicomweb_url}
        eventually(lambda: _addresses(hapi, _single(hapi, upload.uid) or {}) == both, every=0.5)
        told = eventually(
            lambda: (now := site.ask("study", upload.uid))["instances"] == len(upload.files) and now
        )
    assert {one["name"] for one in told["archives"]} == {"mri", "vna"}


def test_a_number_belongs_to_the_archive_that_gave_it_out(
    two: Site, hapi: Hapi, orthanc: Orthanc
) -> None:
    """The same Patient ID means one person in one archive and another person in the other."""
    here = Upload()
    there = Upload(patient=here.patient)
    mine = create_patient(hapi.base_url, here.patient)
    identifier = [{"system": OTHER, "value": here.patient.patient_id}]
    theirs = create_patient(hapi.base_url, here.patient, identifier=identifier)
    with running(two) as site:
        assert store(orthanc.dicomweb_url, here.files).status_code == 200
        assert store(site.stow_url, there.files).status_code == 200
        first = eventually(lambda: _single(hapi, here.uid), every=0.3)
        other = eventually(lambda: _single(hapi, there.uid), every=0.3)
    assert first["subject"]["reference"] == mine
    assert other["subject"]["reference"] == theirs


def test_one_that_is_down_keeps_nobody_from_the_other(
    two: Site, hapi: Hapi, orthanc: Orthanc, second: Orthanc
) -> None:
    two.settings["archives"][1]["patient_systems"] = {}
    upload, late = Upload(), Upload()
    for each in (upload, late):
        create_patient(hapi.base_url, each.patient)
    with running(two) as site:
        assert store(second.dicomweb_url, late.files).status_code == 200
        eventually(lambda: site.state(late.uid) == "completed")
        second.stop()
        site.ask("retry", late.uid)  # which the archive that is down owes
        eventually(lambda: site.logged("target.paused"))
        assert store(orthanc.dicomweb_url, upload.files).status_code == 200
        eventually(lambda: _single(hapi, upload.uid), every=0.3)
        ready = httpx.get(f"{site.console_url}/ready", timeout=60)
        assert ready.status_code == 200
        eventually(lambda: "vna" in httpx.get(f"{site.console_url}/ready", timeout=60).text)
        second.start()
        eventually(lambda: site.state(late.uid) == "completed", every=0.5)
