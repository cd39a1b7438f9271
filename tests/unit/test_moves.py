"""A study goes to another patient with a Provenance, and without where the server takes none."""

import json
from typing import Any

import httpx
import pytest

from flute_sync.bundle import Resource
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.imaging_studies import ImagingStudies, Written
from flute_sync.fhir_errors import FhirConflict, FhirRejected

BASE = "http://fhir.example/fhir"
UID = "1.2.3"
AGENT = {"display": "flute-sync"}


def _study(patient: str, **elements: Any) -> Resource:
    return {
        "resourceType": "ImagingStudy",
        "id": "7",
        "meta": {"versionId": "4"},
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{UID}"}],
        "status": "available",
        "subject": {"reference": patient},
        **elements,
    }


class _Server:
    """Takes updates and transactions as it is told; remembers what it was sent."""

    def __init__(self, transaction: int, provenance: int, update: int = 200) -> None:
        self.answers = {"Bundle": transaction, "Provenance": provenance, "ImagingStudy": update}
        self.sent: list[Resource] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=_study("Patient/old"))
        body = json.loads(request.content)
        self.sent.append(body)
        status = self.answers[body["resourceType"]]
        if status >= 400:
            return httpx.Response(status)
        if body["resourceType"] == "Bundle":
            entries = [
                {"response": {"status": "200", "location": "ImagingStudy/7/_history/5"}},
                {"response": {"status": "201", "location": "Provenance/1/_history/1"}},
            ]
            done = {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
            return httpx.Response(200, json=done)
        where = {"Provenance": "Provenance/1", "ImagingStudy": "ImagingStudy/7"}
        location = f"{BASE}/{where[body['resourceType']]}/_history/5"
        return httpx.Response(status, headers={"Location": location, "ETag": 'W/"5"'})


def _move(server: _Server, *, transactions: bool = True, moved: bool = True) -> Written:
    client = FhirClient(FhirSettings(base_url=BASE), transport=httpx.MockTransport(server))
    client.transactions = transactions
    studies = ImagingStudies(client, mover=AGENT, pause=lambda _seconds: None)
    ours = {
        name: value for name, value in _study("Patient/new").items() if name not in {"id", "meta"}
    }
    with client:
        return studies.write(UID, ours, _study("Patient/old"), known_id="7", moved=moved)


def test_both_go_in_one_transaction() -> None:
    server = _Server(transaction=200, provenance=201)
    written = _move(server)
    assert (written.outcome, written.version_id, written.moved) == ("updated", "5", "witnessed")
    ((study, said),) = ([entry["resource"] for entry in bundle["entry"]] for bundle in server.sent)
    assert study["subject"] == {"reference": "Patient/new"}
    assert said["target"] == [{"reference": "ImagingStudy/7"}]
    assert said["entity"] == [
        {"role": "revision", "what": {"reference": "ImagingStudy/7/_history/4"}}
    ]
    assert said["agent"][0]["who"] == AGENT
    assert said["reason"][0]["text"]
    assert server.sent[0]["entry"][0]["request"]["ifMatch"] == 'W/"4"'


def test_what_is_no_move_carries_none() -> None:
    server = _Server(transaction=200, provenance=201)
    assert _move(server, moved=False).moved is None
    assert [body["resourceType"] for body in server.sent] == ["ImagingStudy"]


@pytest.mark.parametrize("refusal", [400, 403, 405, 422])
@pytest.mark.parametrize(("provenance", "how"), [(201, "witnessed"), (403, "unwitnessed")])
def test_a_server_that_takes_no_provenance_gets_the_move_alone(
    refusal: int, provenance: int, how: str
) -> None:
    server = _Server(transaction=refusal, provenance=provenance)
    written = _move(server)
    assert (written.version_id, written.moved) == ("5", how)
    sent = [body["resourceType"] for body in server.sent]
    assert sent == ["Bundle", "ImagingStudy", "Provenance"]
    assert server.sent[2]["target"] == [{"reference": "ImagingStudy/7/_history/5"}]


def test_without_transactions_the_provenance_follows() -> None:
    server = _Server(transaction=500, provenance=201)
    assert _move(server, transactions=False).moved == "witnessed"
    assert [body["resourceType"] for body in server.sent] == ["ImagingStudy", "Provenance"]


def test_a_resource_that_is_refused_itself_is_not_written() -> None:
    with pytest.raises(FhirRejected):
        _move(_Server(transaction=422, provenance=201, update=422))


def test_a_conflict_is_no_refusal() -> None:
    server = _Server(transaction=409, provenance=201)
    with pytest.raises(FhirConflict):
        _move(server)
    assert {body["resourceType"] for body in server.sent} == {"Bundle"}


@pytest.mark.parametrize("found", [_study("Patient/old"), None])
def test_a_subject_that_others_gave_it_meanwhile_is_not_written_over(
    found: Resource | None,
) -> None:
    """It is for the next step to judge who is meant."""
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        if request.method == "GET":
            return httpx.Response(200, json=_study("Patient/of-others"))
        if request.method == "POST":  # a conditional create that finds one
            location = f"{BASE}/ImagingStudy/7/_history/4"
            return httpx.Response(200, headers={"Location": location, "ETag": 'W/"4"'})
        return httpx.Response(412)

    client = FhirClient(FhirSettings(base_url=BASE), transport=httpx.MockTransport(answer))
    studies = ImagingStudies(client, pause=lambda _seconds: None)
    ours = {name: value for name, value in _study("Patient/new").items() if name != "id"}
    with client, pytest.raises(FhirConflict):
        studies.write(UID, ours, found, known_id="7" if found else None)
    assert sent == ["PUT" if found else "POST", "GET"]
