"""Rejection notes in the PACS: what they take back goes from FHIR, and comes back without them."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.pacs import (
    EXPIRED,
    OF_INTEREST,
    QUALITY,
    SAFETY,
    WORKLIST,
    Pacs,
    note,
    read,
)
from tests.acceptance.site import Site, eventually, running
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc


@pytest.fixture
def pacs(orthanc: Orthanc) -> Pacs:
    return Pacs(orthanc.base_url, orthanc.dicomweb_url)


@pytest.fixture
def watched(real_site: Site, orthanc: Orthanc) -> Site:
    """A site that follows Orthanc's feed and its study search."""
    feed = {"enabled": True, "url": orthanc.base_url, "interval": "300ms", "start": "now"}
    real_site.settings["orthanc_changes"] = feed
    real_site.settings["qido_rs"] = {"enabled": True, "interval": "1s", "lookback": "P4000D"}
    real_site.settings["removal"] = {"confirmations": 2, "period": "2s"}
    return real_site


@pytest.fixture
def study(hapi: Hapi) -> Callable[[str], dict[str, Any]]:
    def found(uid: str) -> dict[str, Any]:
        resources = imaging_studies(hapi.base_url, uid)
        assert len(resources) <= 1
        return resources[0] if resources else {}

    return found


def test_notes_take_back_all_or_a_part_and_count_only_while_they_are_there(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Callable[[str], dict[str, Any]]
) -> None:
    upload = Upload(slices=1)
    patient = create_patient(hapi.base_url, upload.patient)
    first = [file for file in upload.files if read(file).SeriesNumber == 1]
    whole, some = note(QUALITY, upload, upload.files), note(SAFETY, upload, first)

    def says(status: str, series: int, instances: int) -> dict[str, Any]:
        def now() -> dict[str, Any] | None:
            is_settled = watched.state(upload.uid) == "completed"
            found = study(upload.uid)
            agrees = found.get("status") == status and len(found.get("series", [])) == series
            agrees = agrees and found["numberOfInstances"] == instances
            return found if agrees and is_settled else None

        reached: dict[str, Any] = eventually(now, every=0.3, what=f"{status}, {series} series")
        return reached

    with running(watched) as site:
        every = len(upload.files)
        pacs.store(upload.files)
        says("available", 6, every)
        pacs.store([note(OF_INTEREST, upload, upload.files)])  # content like any other
        says("available", 7, every + 1)
        pacs.store([some])
        says("available", 6, every - len(first) + 1)
        pacs.delete(read(some).SOPInstanceUID)
        says("available", 7, every + 1)
        pacs.store([whole])
        remaining = says("available", 1, 1)  # the selection of interest
        assert remaining["series"][0]["modality"]["code"] == "KO"
        pacs.delete(read(whole).SOPInstanceUID)
        versions = says("available", 7, every + 1)["meta"]["versionId"]
        site.ask("retry", upload.uid)
        eventually(lambda: site.state(upload.uid) == "completed", every=0.5)
        assert study(upload.uid)["meta"]["versionId"] == versions
        assert study(upload.uid)["subject"]["reference"] == patient


@pytest.mark.parametrize(
    ("title", "status"),
    [
        (QUALITY, "cancelled"),
        (SAFETY, "entered-in-error"),
        (WORKLIST, "entered-in-error"),
        (EXPIRED, "available"),
    ],
)
def test_a_note_on_everything_says_what_becomes_of_the_study(
    title: str,
    status: str,
    watched: Site,
    hapi: Hapi,
    pacs: Pacs,
    study: Callable[[str], dict[str, Any]],
) -> None:
    """The note comes before the images, as it may; then the PACS deletes the images."""
    upload = Upload(slices=1)
    patient = create_patient(hapi.base_url, upload.patient)
    with running(watched) as site:
        pacs.store([note(title, upload, upload.files), *upload.files])
        eventually(lambda: study(upload.uid).get("status") == status, every=0.3)
        eventually(lambda: site.ask("study", upload.uid)["instances"] == len(upload.files) + 1)
        eventually(lambda: site.state(upload.uid) == "completed", every=0.3)
        found = study(upload.uid)
        assert found["status"] == status
        assert found["subject"]["reference"] == patient
        assert ("endpoint" in found) is (status == "cancelled")
        assert {"value": upload.uid} in found["identifier"]
        if title == EXPIRED:
            assert [one["code"] for one in found["meta"]["tag"]] == ["retention-expired"]
            assert (len(found["series"]), found["started"][:4]) == (6, "2024")
        else:
            assert "series" not in found
        pacs.delete(upload.uid)
        site.ask("retry", upload.uid)
        eventually(lambda: site.state(upload.uid) == "completed", every=0.5)
        assert study(upload.uid) == found
        history = httpx.get(
            f"{hapi.base_url}/ImagingStudy/{found['id']}/_history", timeout=60
        ).json()
        assert history["total"] == int(found["meta"]["versionId"])


def test_a_note_that_another_study_keeps_counts(
    watched: Site, hapi: Hapi, pacs: Pacs, study: Callable[[str], dict[str, Any]]
) -> None:
    """Images under a wrong worklist entry; the note is kept with the corrected study.

    Both are of one patient: a note of another person withdraws nothing.
    """
    wrong = Upload(slices=1)
    right = Upload(slices=1, patient=wrong.patient)
    create_patient(hapi.base_url, wrong.patient)
    rejection = note(WORKLIST, right, wrong.files)

    def says(status: str, series: int) -> dict[str, Any]:
        def now() -> dict[str, Any] | None:
            found = study(wrong.uid)
            agrees = found.get("status") == status and len(found.get("series", [])) == series
            return found if agrees else None

        reached: dict[str, Any] = eventually(now, every=0.3, what=f"{status}, {series} series")
        return reached

    with running(watched) as site:
        pacs.store([*right.files, rejection])
        eventually(lambda: len(study(right.uid).get("series", [])) == 6, every=0.3)
        pacs.store(wrong.files)
        says("entered-in-error", 0)
        assert len(study(right.uid)["series"]) == 6
        pacs.delete(read(rejection).SOPInstanceUID)
        says("available", 6)
        pacs.store([rejection])
        says("entered-in-error", 0)
        eventually(lambda: {site.state(one.uid) for one in (wrong, right)} == {"completed"})
