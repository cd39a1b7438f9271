"""Searches that flute-sync relies on, in the sandbox and in HAPI."""

import uuid
from typing import Any
from urllib.parse import quote

import pytest

from tests.contract.fhir_rest import (
    created,
    found,
    matches,
    new_endpoint,
    new_observation,
    new_patient,
    new_study,
    outcome,
    reference,
    search,
    update,
)


@pytest.mark.parametrize(
    ("value", "query"),
    [
        ("p1", "{system}|p1"),
        ("p1", "p0,{system}|p1"),
        ("p1", "{system}|"),
        ("a|b", r"{system}|a\|b"),
        ("a,b", r"{system}|a\,b"),
        ("a$b", r"{system}|a\$b"),
        (r"a\b", r"{system}|a\\b"),
        ("a b+c%d&e", "{system}|a b+c%d&e"),
        ("Łé", "{system}|Łé"),
    ],
)
def test_identifier_search_finds(fhir, system, value, query):
    expected = reference(created(fhir, new_patient(system, value)))
    created(fhir, new_patient(system + "x", value))
    assert found(fhir, "Patient", identifier=query.format(system=system)) == [expected]


@pytest.mark.parametrize("query", ["{system}|P1", "{system}|p", "{system}|p1x", "|p1-{system}"])
def test_identifier_search_is_exact(fhir, patient, system, query):
    created(fhir, new_patient(system, f"p1-{system}"))
    assert found(fhir, "Patient", identifier=query.format(system=system)) == []


def test_identifier_without_a_system(fhir, system):
    identifier = [{"value": f"1.2.{system}"}]
    expected = reference(created(fhir, new_patient(system) | {"identifier": identifier}))
    assert found(fhir, "Patient", identifier=f"|1.2.{system}") == [expected]
    assert found(fhir, "Patient", identifier=f"1.2.{system}") == [expected]


def test_search_by_get(fhir, patient, system):
    query = quote(f"{system}|p1", safe="")
    assert matches(fhir.get(f"/Patient?identifier={query}").json()) == [reference(patient)]


def test_search_answers_whole_resources_at_full_addresses(fhir, fhir_url, patient, system):
    (entry,) = search(fhir, "Patient", identifier=f"{system}|p1")["entry"]
    assert entry["fullUrl"] == f"{fhir_url}/{reference(patient)}"
    assert entry["resource"] == fhir.get(f"/{reference(patient)}").json()
    assert entry["search"]["mode"] == "match"


def test_search_sees_the_latest_write(fhir, patient, system):
    for value in ("s1", "s2", "s3"):
        assert found(fhir, "ImagingStudy", identifier=f"{system}|{value}") == []
        study = created(fhir, new_study(reference(patient), system, value))
        assert found(fhir, "ImagingStudy", identifier=f"{system}|{value}") == [reference(study)]


@pytest.mark.parametrize("form", ["Patient/{id}", "{id}"])
@pytest.mark.parametrize("parameter", ["patient", "subject"])
def test_studies_of_a_patient(fhir, patient, system, parameter, form):
    study = created(fhir, new_study(reference(patient), system))
    value = form.format(id=patient["id"])
    assert found(fhir, "ImagingStudy", **{parameter: value}) == [reference(study)]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("2024-03-01", {"time", "date"}),
        ("2024-03", {"time", "date"}),
        ("2024-02-29", set()),
        ("ge2024-03-01", {"time", "date"}),
        ("le2024-03-01", {"time", "date"}),
        ("gt2024-03-01", set()),
        ("lt2024-03-01", set()),
        ("gt2024-02-29", {"time", "date"}),
        ("lt2024-03-02", {"time", "date"}),
        ("2024-03-01T08:15:00Z", {"time"}),
        ("2024-03-01T09:15:00+01:00", {"time"}),
        ("2024-03-01T09:15:00Z", set()),
    ],
)
def test_date_search(fhir, patient, system, query, expected):
    subject = reference(patient)
    studies = {
        reference(created(fhir, new_study(subject, system, name, started=started))): name
        for name, started in (("time", "2024-03-01T09:15:00+01:00"), ("date", "2024-03-01"))
    }
    answer = found(fhir, "ImagingStudy", patient=subject, started=query)
    assert {studies[one] for one in answer} == expected


def test_studies_by_other_parameters(fhir, patient, system):
    endpoint = created(fhir, new_endpoint(system))
    uid = f"2.25.{uuid.uuid4().int}"
    series = {
        "uid": uid,
        "modality": {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "MR"},
        "instance": [
            {
                "uid": uid + ".1",
                "sopClass": {
                    "system": "urn:ietf:rfc:3986",
                    "code": "urn:oid:1.2.840.10008.5.1.4.1.1.4",
                },
            }
        ],
    }
    links = [{"reference": reference(endpoint)}]
    study = new_study(reference(patient), system, endpoint=links, series=[series])
    expected = [reference(created(fhir, study))]
    subject = reference(patient)
    assert found(fhir, "ImagingStudy", endpoint=reference(endpoint)) == expected
    assert found(fhir, "ImagingStudy", series=uid) == expected
    assert found(fhir, "ImagingStudy", instance=uid + ".1") == expected
    assert found(fhir, "ImagingStudy", patient=subject, status="available") == expected
    assert found(fhir, "ImagingStudy", patient=subject, status="cancelled") == []
    assert found(fhir, "ImagingStudy", _id=expected[0].partition("/")[2]) == expected


def test_endpoints(fhir, system):
    endpoint = created(fhir, new_endpoint(system))
    wanted = {"connection__type": "dicom-wado-rs", "identifier": f"{system}|e1"}
    assert found(fhir, "Endpoint", **wanted) == [reference(endpoint)]
    assert found(fhir, "Endpoint", **(wanted | {"connection__type": "dicom-qido-rs"})) == []


def test_patients_replaced_by_others_and_in_groups(fhir, patient, system):
    link = [{"other": {"reference": reference(patient)}, "type": "replaced-by"}]
    old = created(fhir, new_patient(system, "old", active=False, link=link))
    assert found(fhir, "Patient", link=reference(patient)) == [reference(old)]
    member = [{"entity": {"reference": reference(patient)}}]
    group = {"resourceType": "Group", "type": "person", "actual": True, "member": member}
    expected = reference(created(fhir, group))
    assert found(fhir, "Group", member=reference(patient)) == [expected]
    assert found(fhir, "Group", _id=expected.partition("/")[2]) == [expected]


def test_clinical_resources_of_a_patient_and_of_a_study(fhir, patient, system):
    subject = reference(patient)
    study = {"reference": reference(created(fhir, new_study(subject, system)))}
    links: dict[str, Any] = {"derivedFrom": [study], "partOf": [study], "focus": [study]}
    psa = reference(created(fhir, new_observation(subject, **links)))
    created(fhir, new_observation(subject, "1234-5"))
    codes = "http://loinc.org|2857-1,http://snomed.info/sct|719178004"
    assert found(fhir, "Observation", patient=subject, code=codes) == [psa]
    for parameter in ("derived__from", "part__of", "focus"):
        assert found(fhir, "Observation", **{parameter: study["reference"]}) == [psa]
    biopsy = {
        "resourceType": "Procedure",
        "status": "completed",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "86273004"}]},
        "subject": {"reference": subject},
        "performedAge": {"value": 54, "system": "http://unitsofmeasure.org", "code": "a"},
    }
    expected = reference(created(fhir, biopsy))
    code = "http://snomed.info/sct|86273004"
    assert found(fhir, "Procedure", patient=subject, code=code) == [expected]
    history = {
        "resourceType": "FamilyMemberHistory",
        "status": "completed",
        "patient": {"reference": subject},
        "relationship": {"text": "father"},
    }
    expected = reference(created(fhir, history))
    assert found(fhir, "FamilyMemberHistory", patient=subject) == [expected]
    request = {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "identifier": [{"system": system, "value": "A1"}],
        "subject": {"reference": subject},
    }
    expected = reference(created(fhir, request))
    assert found(fhir, "ServiceRequest", patient=subject, identifier=f"{system}|A1") == [expected]


def test_reports_bring_their_results(fhir, patient):
    subject = reference(patient)
    psa = created(fhir, new_observation(subject))
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "MRI"},
        "subject": {"reference": subject},
        "result": [{"reference": reference(psa)}],
    }
    expected = reference(created(fhir, report))
    bundle = search(fhir, "DiagnosticReport", patient=subject, _include="DiagnosticReport:result")
    modes = {reference(one["resource"]): one["search"]["mode"] for one in bundle["entry"]}
    assert modes == {expected: "match", reference(psa): "include"}


def test_paging_reaches_every_match_once(fhir, patient, system):
    expected = {
        reference(created(fhir, new_study(reference(patient), system, f"s{number}")))
        for number in range(7)
    }
    bundle = search(fhir, "ImagingStudy", identifier=f"{system}|", _count=3)
    pages = [matches(bundle)]
    while following := [one["url"] for one in bundle["link"] if one["relation"] == "next"]:
        assert system not in following[0]
        bundle = fhir.get(following[0]).json()
        pages.append(matches(bundle))
    assert [len(page) for page in pages] == [3, 3, 1]
    assert {one for page in pages for one in page} == expected


def test_search_by_last_update_in_order(fhir, system):
    first, second, third = (
        created(fhir, new_patient(system, value)) for value in ("p1", "p2", "p3")
    )
    changed = update(fhir, first | {"gender": "other"}).json()
    whole = {"identifier": f"{system}|"}
    order = [reference(one) for one in (second, third, changed)]
    assert found(fhir, "Patient", **whole, _sort="_lastUpdated") == order
    assert found(fhir, "Patient", **whole, _sort="-_lastUpdated") == order[::-1]
    since = f"ge{changed['meta']['lastUpdated']}"
    assert found(fhir, "Patient", **whole, _lastUpdated=since) == [reference(first)]
    assert found(fhir, "Patient", **whole, _lastUpdated="gt2099-01-01") == []


def test_counting_sends_no_resources(fhir, patient, system):
    bundle = search(fhir, "Patient", identifier=f"{system}|", _summary="count")
    assert bundle["total"] == 1
    assert "entry" not in bundle


@pytest.mark.parametrize(
    ("resource_type", "query"),
    [
        ("ImagingStudy", "no-such-parameter=1"),
        ("ImagingStudy", "started=yesterday"),
        ("ImagingStudy", "_sort=no-such-parameter"),
        ("ImagingStudy", "_include=ImagingStudy:no-such-parameter"),
        ("Patient", "_count=many"),
    ],
)
def test_a_search_that_is_not_understood_is_refused(fhir, resource_type, query):
    response = fhir.get(f"/{resource_type}?{query}")
    assert response.status_code == 400
    outcome(response)
