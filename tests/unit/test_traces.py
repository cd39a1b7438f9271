"""What is found of a patient, on servers that do not look at what they are asked for."""

from typing import Any

import httpx

from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.traces import Person, Traces
from flute_sync.own_resources import agent
from flute_sync.terminology import FLUTE_SYNC_TAG

WE = agent("urn:test:site")
STUDY: dict[str, Any] = {
    "resourceType": "ImagingStudy",
    "id": "1",
    "subject": {"reference": "Patient/1"},
}


def observation(number: str) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": number,
        "meta": {"tag": [{"system": FLUTE_SYNC_TAG, "code": "derived"}]},
        "subject": {"reference": f"Patient/{number}"},
        "derivedFrom": [{"reference": f"ImagingStudy/{number}"}],
    }


def provenance(number: str) -> dict[str, Any]:
    return {
        "resourceType": "Provenance",
        "id": number,
        "target": [{"reference": f"ImagingStudy/{number}/_history/1"}],
        "agent": [{"who": WE}],
    }


KEPT = {
    "Observation": [observation("1"), observation("2")],
    "Provenance": [provenance("1"), provenance("2")],
}


def careless(request: httpx.Request) -> httpx.Response:
    """Return all of a type, whatever is searched for."""
    kind = request.url.path.split("/")[2]
    entries = [{"resource": one, "search": {"mode": "match"}} for one in KEPT.get(kind, [])]
    bundle = {"resourceType": "Bundle", "type": "searchset", "entry": entries}
    return httpx.Response(404 if "_history" in request.url.path else 200, json=bundle)


def traces(answer: Any) -> Traces:
    settings = FhirSettings(base_url="http://fhir.test/fhir")
    return Traces(FhirClient(settings, transport=httpx.MockTransport(answer)), WE)


def test_what_is_of_others_is_not_his_though_the_server_says_so() -> None:
    trace = traces(careless).trace(STUDY)
    assert [one["id"] for one in trace.observations] == ["1"]
    assert trace.witnesses == ("Provenance/1",)
    derived = traces(careless).derived(Person(frozenset({"Patient/1"})))
    assert [one["id"] for one in derived] == ["1"]


def refusing(request: httpx.Request) -> httpx.Response:
    """Refuse every search of what refers to something."""
    outcome = {"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]}
    return httpx.Response(404 if request.method == "GET" else 400, json=outcome)


def test_what_of_ours_cannot_be_searched_for_is_not_taken_for_absent() -> None:
    sought = traces(refusing)
    sought.person("Patient/1")
    assert sought.unsearched == {"Patient"}
    assert sought.witnesses("ImagingStudy/1") == []
    assert sought.unsearched == {"Patient", "Provenance"}
    sought.trace(STUDY)
    assert sought.unsearched == {"Patient", "Provenance", "Observation"}
    sought.naming(Person(frozenset({"Patient/1"})), "urn:test:site")
    assert sought.unsearched == {"Patient", "Provenance", "Observation", "Group"}
    by_tag = traces(refusing)
    assert by_tag.derived(Person(frozenset({"Patient/1"}))) == []
    assert by_tag.unsearched == {"Observation"}


def test_what_others_cannot_be_asked_for_hides_nothing_of_ours() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.path.split("/")[2], request.content.decode().partition("=")[0]
        ours = (("Provenance", "target"), ("Observation", "derived-from"))
        return careless(request) if asked in ours else refusing(request)

    sought = traces(answer)
    assert sought.trace(STUDY).witnesses == ("Provenance/1",)
    assert sought.unsearched == set()
