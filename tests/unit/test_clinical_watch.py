"""Whom changed clinical data concern, and histories that say nonsense."""

from datetime import timedelta
from typing import Any

import httpx
import pytest

from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.clinical_watch import touched
from flute_sync.fhir.watch import Watch, history
from flute_sync.fhir_errors import FhirServerError

BASE = "http://fhir.example/fhir"
PSA = {"coding": [{"system": "http://loinc.org", "code": "2857-1"}]}
BIOPSY = {"coding": [{"system": "http://snomed.info/sct", "code": "86273004"}]}
SUBJECT = {"subject": {"reference": f"{BASE}/Patient/1/_history/3"}}


def resource(kind: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": kind, "id": "x", **elements}


@pytest.mark.parametrize(
    "one",
    [
        resource("Observation", code=PSA, **SUBJECT),
        resource("Procedure", code=BIOPSY, **SUBJECT),
        resource("Observation", derivedFrom=[{"reference": "ImagingStudy/7"}], **SUBJECT),
        resource("DiagnosticReport", imagingStudy=[{"reference": "ImagingStudy/7"}], **SUBJECT),
        resource(
            "Observation",
            focus=[{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2"}}],
            **SUBJECT,
        ),
    ],
)
def test_a_variable_and_what_names_a_study_concern_their_patient(one: dict[str, Any]) -> None:
    found = touched([one], BASE)
    assert found.patients == {"Patient/1"}
    assert not found.bystanders
    assert found.resources == {f"{one['resourceType']}/x"}


@pytest.mark.parametrize(
    "one",
    [
        resource("Observation", code={"text": "pulse"}, **SUBJECT),
        resource("Observation", code=PSA, subject={"reference": "Group/1"}),
        resource("Observation", code=PSA, subject={"reference": "https://other/Patient/1"}),
        resource("Observation", code=PSA, subject="Patient/1"),
        resource("Observation"),
        resource("DiagnosticReport", imagingStudy="all", **SUBJECT),
    ],
)
def test_what_is_no_variable_or_of_nobody_concerns_only_who_had_it(one: dict[str, Any]) -> None:
    found = touched([one], BASE)
    assert found.patients == frozenset()
    assert found.resources == {f"{one['resourceType']}/x"}


def test_what_a_report_or_a_panel_lists_is_looked_up() -> None:
    results = [{"reference": "Observation/1"}, {"reference": f"{BASE}/Observation/2"}, {}, None]
    report = resource("DiagnosticReport", result=results, **SUBJECT)
    panel = resource("Observation", hasMember=[{"reference": "Observation/3"}])
    found = touched([report, panel], BASE)
    assert found.resources == {
        "DiagnosticReport/x",
        "Observation/x",
        "Observation/1",
        "Observation/2",
        "Observation/3",
    }
    assert found.patients == frozenset()


def test_studies_and_orders_concern_who_has_studies_already() -> None:
    study = resource("ImagingStudy", meta={"versionId": "4"}, **SUBJECT)
    found = touched([study, resource("ServiceRequest", **SUBJECT)], BASE)
    assert found.studies == {("x", "4"): "Patient/1"}
    assert found.bystanders == {"Patient/1"}
    assert not found.patients
    assert touched([resource("ImagingStudy")], BASE).studies == {}
    assert not touched([], BASE)


# -- histories -------------------------------------------------------------------------------


def looked(*pages: Any) -> list[dict[str, Any]]:
    """Look at a history that is answered with these bodies, once."""
    left = list(pages)

    def handler(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=left.pop(0))

    settings = FhirSettings(base_url=BASE)
    with FhirClient(settings, transport=httpx.MockTransport(handler)) as client:
        watch = Watch(client, history(client, "Observation"), overlap=timedelta())
        return [one for news in watch.look("2026-01-01T00:00:00.000Z") for one in news.resources]


def bundle(*entries: Any, next_url: str | None = None) -> dict[str, Any]:
    links = [] if next_url is None else [{"relation": "next", "url": next_url}]
    return {"resourceType": "Bundle", "type": "history", "link": links, "entry": list(entries)}


def deletion(url: str, **response: str) -> dict[str, Any]:
    return {"request": {"method": "DELETE", "url": url}, "response": response}


def test_a_deletion_is_told_by_id_and_version() -> None:
    later = "2026-01-02T00:00:00.000Z"
    found = looked(
        bundle(deletion("Observation/1/_history/3", etag='W/"3"'), next_url=f"{BASE}?page=2"),
        bundle(
            deletion(f"{BASE}/Observation/2", etag='W/"5"', lastModified=later),
            {"resource": resource("Observation", meta={"versionId": "1", "lastUpdated": later})},
        ),
    )
    assert [(one["id"], one["meta"]["versionId"]) for one in found] == [
        ("1", "3"),
        ("2", "5"),
        ("x", "1"),
    ]


def test_nonsense_in_a_history_is_left_out() -> None:
    entries: list[Any] = [
        None,
        7,
        {},
        {"request": "DELETE"},
        deletion("Patient/1/_history/2"),
        deletion(""),
        {"request": {"method": "PUT", "url": "Observation/1"}},
        {"resource": resource("Patient")},
        {"resource": {"resourceType": "Observation"}},
        {"resource": []},
    ]
    assert looked(bundle(*entries)) == []


@pytest.mark.parametrize(
    "body",
    [
        {"resourceType": "Bundle", "type": "searchset"},
        {"resourceType": "Observation"},
        {"resourceType": "Bundle", "type": "history", "entry": {}},
        bundle(next_url="http://elsewhere.example/fhir?page=2"),
    ],
)
def test_what_is_no_history_is_refused(body: dict[str, Any]) -> None:
    with pytest.raises(FhirServerError):
        looked(body)
