"""Finding what may be linked, on the sandbox and on HAPI."""

import json
from decimal import Decimal
from typing import Any

import httpx

from flute_sync.fhir.candidates import Candidates
from flute_sync.fhir.client import FhirClient, FhirSettings
from tests.contract.fhir_rest import JSON, create, new_patient

PSA = ("http://loinc.org", "2857-1")
SCORE = ("http://snomed.info/sct", "719178004")
Resource = dict[str, Any]


def observation(subject: str, code: tuple[str, str] = PSA, **elements: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": code[0], "code": code[1]}]},
        "subject": {"reference": subject},
        **elements,
    }


def made(fhir: httpx.Client, resource: Resource) -> str:
    answer = create(fhir, resource)
    assert answer.status_code == 201, answer.text
    return f"{resource['resourceType']}/{answer.json()['id']}"


def references(*names: str) -> list[Resource]:
    return [{"reference": name} for name in names]


def test_a_patient_without_anything_has_nothing(client: FhirClient, subject: str) -> None:
    found = Candidates(client).of(subject)
    assert found.patient is not None
    assert f"Patient/{found.patient['id']}" == subject
    assert (found.references, found.resources) == ({subject}, {})


def test_a_patient_who_is_not_there(client: FhirClient) -> None:
    assert Candidates(client).of("Patient/never-was").patient is None


def test_a_study_that_the_server_finds_is_left_out_where_it_is_of_somebody_else() -> None:
    """An index that lags, or a server that leaves a criterion out, must not lend MRIs."""

    def stale(request: httpx.Request) -> httpx.Response:
        def searchset(url: str) -> Resource:
            named = [("own", "Patient/p1"), ("strange", "Patient/p2"), ("nobodys", None)]
            found = [
                {"resourceType": "ImagingStudy", "id": name, "subject": {"reference": whose}}
                for name, whose in named
            ]
            entries = [{"resource": one, "search": {"mode": "match"}} for one in found]
            is_studies = url.startswith("ImagingStudy?")
            bundle = {"resourceType": "Bundle", "type": "searchset"}
            return bundle | ({"entry": entries} if is_studies else {})

        asked = [one["request"]["url"] for one in json.loads(request.content)["entry"]]
        answers = [
            {"resourceType": "Patient", "id": "p1"} if url == "Patient/p1" else searchset(url)
            for url in asked
        ]
        entry = [{"response": {"status": "200 OK"}, "resource": one} for one in answers]
        answer = {"resourceType": "Bundle", "type": "batch-response", "entry": entry}
        return httpx.Response(200, json=answer, headers={"Content-Type": "application/fhir+json"})

    settings = FhirSettings(base_url="https://fhir.example/base")
    with FhirClient(settings, transport=httpx.MockTransport(stale)) as client:
        assert Candidates(client).of("Patient/p1").resources.keys() == {"ImagingStudy/own"}


def test_all_kinds_are_found_whatever_their_status_date_and_profile(
    fhir: httpx.Client, client: FhirClient, subject: str
) -> None:
    biopsy = {
        "resourceType": "Procedure",
        "status": "not-done",
        "code": {"coding": [{"system": "http://snomed.info/sct", "code": "86273004"}]},
        "subject": {"reference": subject},
        "performedAge": {"value": 54, "system": "http://unitsofmeasure.org", "code": "a"},
    }
    father = {
        "resourceType": "FamilyMemberHistory",
        "status": "completed",
        "patient": {"reference": subject},
        "relationship": {"text": "father"},
    }
    old = {"profile": ["https://flute.com/StructureDefinition/PR-PSA"]}
    expected = {
        made(fhir, observation(subject, status="entered-in-error", meta=old)),
        made(fhir, observation(subject, SCORE, valueInteger=4)),
        made(fhir, biopsy),
        made(fhir, father),
    }
    made(fhir, observation(subject, ("http://loinc.org", "718-7")))
    found = Candidates(client).of(subject)
    assert found.resources.keys() == expected
    assert len(found.candidates) == 4


def test_decimals_keep_their_precision(
    fhir: httpx.Client, client: FhirClient, subject: str
) -> None:
    resource = observation(subject, valueQuantity={"value": "4.50", "unit": "ng/mL"})
    body = json.dumps(resource).replace('"4.50"', "4.50")
    assert fhir.post("/Observation", content=body, headers=JSON).status_code == 201
    (one,) = Candidates(client).of(subject).candidates
    value = one["valueQuantity"]["value"]
    assert isinstance(value, Decimal)
    assert value == Decimal("4.50")


def test_all_pages_are_read(fhir: httpx.Client, client: FhirClient, subject: str) -> None:
    entries = [
        {"resource": observation(subject), "request": {"method": "POST", "url": "Observation"}}
        for _ in range(230)
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
    assert fhir.post("/", json=bundle, headers=JSON).status_code == 200
    assert len(Candidates(client).of(subject).candidates) == 230


def test_panels_reports_and_requests_come_along(
    fhir: httpx.Client, client: FhirClient, subject: str, system: str
) -> None:
    panel_code = (system, "panel")
    request = made(
        fhir,
        {
            "resourceType": "ServiceRequest",
            "status": "active",
            "intent": "order",
            "subject": {"reference": subject},
        },
    )
    study = made(
        fhir,
        {
            "resourceType": "ImagingStudy",
            "status": "available",
            "subject": {"reference": subject},
            "basedOn": references(request),
        },
    )
    score = made(fhir, observation(subject, SCORE, valueInteger=4, basedOn=references(request)))
    naming = {
        made(fhir, observation(subject, panel_code, **{name: references(study)}))
        for name in ("derivedFrom", "partOf", "focus")
    }
    of_report = made(fhir, observation(subject, panel_code, hasMember=references(score)))
    report = made(
        fhir,
        {
            "resourceType": "DiagnosticReport",
            "status": "final",
            "code": {"text": "MRI"},
            "subject": {"reference": subject},
            "imagingStudy": references(study),
            "result": references(of_report),
        },
    )
    expected = {request, study, score, of_report, report, *naming}
    assert Candidates(client).of(subject).resources.keys() == expected
    known = Candidates(client).of(subject, [study.partition("/")[2]])
    assert known.resources.keys() == expected


def test_those_who_were_merged_into_him_are_searched_too(
    fhir: httpx.Client, client: FhirClient, subject: str, system: str
) -> None:
    def replaced(by: str, value: str) -> str:
        link = [{"type": "replaced-by", "other": {"reference": by}}]
        return made(fhir, new_patient(system, value, active=False, link=link))

    older = replaced(subject, "p-older")
    oldest = replaced(older, "p-oldest")
    related = [{"type": "seealso", "other": {"reference": subject}}]
    other = made(fhir, new_patient(system, "p-other", link=related))
    expected = {made(fhir, observation(one)) for one in (subject, older, oldest)}
    made(fhir, observation(other))
    found = Candidates(client).of(subject)
    assert found.references == {subject, older, oldest}
    assert found.resources.keys() == expected


def test_whom_he_says_that_he_replaces_is_searched_too(
    fhir: httpx.Client, client: FhirClient, subject: str, system: str
) -> None:
    """R4 has either end of a merge say so; who is active, or another's, is not believed to be."""

    def person(value: str, **elements: Any) -> str:
        return made(fhir, new_patient(system, value, **elements))

    older, active = person("p-older", active=False), person("p-active")
    replaced = [{"type": "replaced-by", "other": {"reference": active}}]
    anothers = person("p-anothers", active=False, link=replaced)
    split = [*replaced, {"type": "replaced-by", "other": {"reference": subject}}]
    twice = person("p-twice", active=False, link=split)
    link = [
        {"type": "replaces", "other": {"reference": one}}
        for one in (older, active, anothers, twice)
    ]
    resource = fhir.get(subject).json() | {"link": link}
    answer = fhir.put(subject, json=resource, headers=JSON)
    assert answer.status_code == 200, answer.text
    of_him, *_ = [made(fhir, observation(one)) for one in (older, active, anothers, twice)]
    found = Candidates(client).of(subject)
    assert found.references == {subject, older}
    assert found.resources.keys() == {of_him}


def test_a_server_that_takes_no_bundles_is_asked_one_by_one(
    fhir: httpx.Client, client: FhirClient, subject: str
) -> None:
    psa = made(fhir, observation(subject, valueQuantity={"value": 4.5, "unit": "ng/mL"}))
    client.bundles = False
    found = Candidates(client).of(subject)
    assert found.resources.keys() == {psa}
    assert found.patient is not None
    assert isinstance(found.candidates[0]["valueQuantity"]["value"], Decimal)


def test_a_type_that_the_server_does_not_offer_is_not_asked_for(
    fhir: httpx.Client, client: FhirClient, subject: str
) -> None:
    psa = made(fhir, observation(subject))
    client.types = frozenset({"Patient", "Observation", "ImagingStudy"})
    assert Candidates(client).of(subject).resources.keys() == {psa}
