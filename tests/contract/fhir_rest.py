"""Small FHIR client of the tests: resources, interactions and what they answer."""

import uuid
from typing import Any

import httpx

JSON = {"Content-Type": "application/fhir+json"}
STALE = {409, 412}
"""What servers answer to a stale If-Match."""
REFUSED = {400, 422}
"""What servers answer to a body that they do not take."""
Resource = dict[str, Any]


def new_patient(system: str, value: str = "p1", **elements: Any) -> Resource:
    return {
        "resourceType": "Patient",
        "identifier": [{"system": system, "value": value}],
        "active": True,
        "name": [{"family": "Esempio", "given": ["Primo"]}],
        "gender": "male",
        "birthDate": "1951-04-12",
        **elements,
    }


def new_study(subject: str, system: str, value: str = "s1", **elements: Any) -> Resource:
    return {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": system, "value": value}],
        "status": "available",
        "subject": {"reference": subject, "type": "Patient"},
        **elements,
    }


def new_endpoint(system: str, value: str = "e1", **elements: Any) -> Resource:
    return {
        "resourceType": "Endpoint",
        "identifier": [{"system": system, "value": value}],
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "name": "Archive",
        "payloadType": [{"text": "DICOM WADO-RS"}],
        "address": "https://pacs.example/dicom-web",
        **elements,
    }


def new_observation(subject: str, code: str = "2857-1", **elements: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": subject},
        **elements,
    }


def reference(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def create(fhir: httpx.Client, resource: Resource, **headers: str) -> httpx.Response:
    return fhir.post(f"/{resource['resourceType']}", json=resource, headers=JSON | headers)


def created(fhir: httpx.Client, resource: Resource) -> Any:
    response = create(fhir, resource)
    assert response.status_code == 201, response.text
    return response.json()


def update(fhir: httpx.Client, resource: Resource, **headers: str) -> httpx.Response:
    return fhir.put(f"/{reference(resource)}", json=resource, headers=JSON | headers)


def search(fhir: httpx.Client, resource_type: str, **parameters: Any) -> Any:
    """Search by POST, so that no value gets into an address; ``__`` stands for ``-``."""
    form = {name.replace("__", "-"): value for name, value in parameters.items()}
    response = fhir.post(f"/{resource_type}/_search", data=form)
    assert response.status_code == 200, response.text
    assert response.json()["type"] == "searchset"
    return response.json()


def matches(bundle: Resource) -> list[str]:
    return [
        reference(entry["resource"])
        for entry in bundle.get("entry", [])
        if entry["search"]["mode"] == "match"
    ]


def found(fhir: httpx.Client, resource_type: str, **parameters: Any) -> list[str]:
    return matches(search(fhir, resource_type, **parameters))


def transaction(fhir: httpx.Client, *entries: Resource) -> httpx.Response:
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}
    return fhir.post("/", json=bundle, headers=JSON)


def post_entry(resource: Resource, name: str = "", **request: str) -> Resource:
    request = {"method": "POST", "url": resource["resourceType"], **request}
    return {"fullUrl": name or uuid.uuid4().urn, "resource": resource, "request": request}


def put_entry(resource: Resource, **request: str) -> Resource:
    request = {"method": "PUT", "url": reference(resource), **request}
    return {"resource": resource, "request": request}


def outcome(response: httpx.Response) -> Any:
    answer = response.json()
    assert answer["resourceType"] == "OperationOutcome"
    assert answer["issue"][0]["severity"] in ("error", "fatal")
    return answer
