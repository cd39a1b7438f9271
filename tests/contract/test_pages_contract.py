"""What the console's pages ask of servers: searches of people, and pictures."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from flute_sync.archive_errors import ArchiveRefused
from flute_sync.console_errors import PageAbsent, SearchRefused
from flute_sync.fhir.browsing import StudyBrowser, StudyCriteria
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.rendered import Renderer
from tests.contract.dicomweb import Study
from tests.contract.fhir_rest import created, reference
from tests.contract.fhir_site import new_uid, ours


@pytest.fixture
def browser(fhir_url: str) -> Iterator[StudyBrowser]:
    with FhirClient(FhirSettings(base_url=fhir_url)) as client:
        yield StudyBrowser(client)


@pytest.fixture
def study(fhir: httpx.Client, patient: Any) -> Any:
    subject = {"reference": reference(patient)}
    return created(fhir, ours(new_uid(), subject, started="2025-03-04T10:00:00+01:00"))


def ids(browser: StudyBrowser, **criteria: str) -> list[str]:
    return [str(one["id"]) for one in browser.find(StudyCriteria(**criteria)).matches]


def test_a_study_is_found_by_what_people_know(
    browser: StudyBrowser, study: Any, patient: Any, system: str
) -> None:
    mine = [study["id"]]
    uid, subject = study["identifier"][1]["value"], reference(patient)
    assert ids(browser, uid=uid) == mine
    assert ids(browser, patient=subject) == mine
    assert ids(browser, patient=f"{system}|p1") == mine
    assert ids(browser, patient=f"{system} | p1") == mine
    assert study["id"] in ids(browser, patient="p1", uid=uid)
    assert ids(browser, patient=f"{system}|p2") == []
    assert ids(browser, patient=subject, modality="MR") == mine
    assert ids(browser, patient=subject, modality="US") == []
    assert ids(browser, patient=subject, since="2025-03-04", until="2025-03-04") == mine
    assert ids(browser, patient=subject, since="2025-03-06") == []
    assert ids(browser, patient=subject, until="2025-03-02") == []


def test_pages_lead_through_all_studies_the_latest_first(
    browser: StudyBrowser, fhir: httpx.Client, patient: Any
) -> None:
    subject = {"reference": reference(patient)}
    made = [
        created(fhir, ours(new_uid(), subject, started=f"2025-01-{day:02}"))["id"]
        for day in range(1, 31)
    ]
    criteria = StudyCriteria(patient=reference(patient))
    first = browser.find(criteria)
    assert first.next_url is not None
    second = browser.find(criteria, first.next_url)
    assert second.next_url is None
    assert [one["id"] for one in first.matches + second.matches] == made[::-1]


@pytest.mark.parametrize(
    "criteria",
    [
        {"uid": "not a uid"},
        {"uid": "1.2,1.3"},
        {"uid": "4711"},
        {"modality": "MR,US"},
        {"since": "yesterday"},
        {"until": "2025-02-30"},
        {"patient": " | "},
    ],
)
def test_what_cannot_be_searched_for_is_said(
    browser: StudyBrowser, criteria: dict[str, str]
) -> None:
    with pytest.raises(SearchRefused):
        browser.find(StudyCriteria(**criteria))


def test_a_study_is_read_or_absent(browser: StudyBrowser, fhir: httpx.Client, study: Any) -> None:
    assert browser.read(study["id"])["series"] == study["series"]
    assert fhir.delete(f"/ImagingStudy/{study['id']}").is_success
    for name in (study["id"], "no-such-study", "../metadata", "a b", ""):
        with pytest.raises(PageAbsent):
            browser.read(name)


def test_an_archive_renders_small_pictures(archive_url: str, mpmri: Study) -> None:
    renderer = Renderer(ArchiveSettings(dicomweb_url=f"{archive_url}/dicom-web"))
    first = mpmri.datasets[0]
    try:
        series, instance = str(first.SeriesInstanceUID), str(first.SOPInstanceUID)
        picture = renderer.picture(mpmri.uid, series, instance)
        assert picture.media_type == "image/jpeg"
        with pytest.raises(ArchiveRefused):
            renderer.picture(mpmri.uid, series, "1.2.3")
        with pytest.raises(ArchiveRefused):
            renderer.picture(mpmri.uid, series, "../../../instances")
    finally:
        renderer.close()
