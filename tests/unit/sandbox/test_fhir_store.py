"""The sandbox's FHIR server below HTTP: transactions, references, persistence, paging."""

import sqlite3
from datetime import UTC, datetime

import pytest

from flute_sync.sandbox.fhir_server.interactions import Interactions
from flute_sync.sandbox.fhir_server.outcome import FhirError
from flute_sync.sandbox.fhir_server.store import ResourceStore
from flute_sync.sandbox.fhir_server.transaction import process

BASE = "http://fhir.example/fhir"
NOW = datetime(2024, 3, 1, 9, 15, tzinfo=UTC)


@pytest.fixture
def interactions(tmp_path):
    store = ResourceStore(str(tmp_path / "fhir.db"), now=lambda: NOW)
    yield Interactions(store)
    store.close()


def patient(value: str = "p1", **elements):
    identifier = [{"system": "urn:oid:1.2", "value": value}]
    return {"resourceType": "Patient", "identifier": identifier, **elements}


def create(interactions, resource, condition=None):
    with interactions.store.exclusive():
        return interactions.create(resource["resourceType"], resource, condition)


def search(interactions, resource_type, *parameters):
    with interactions.store.exclusive():
        return interactions.search(resource_type, parameters, BASE)


@pytest.mark.parametrize("failure", [FhirError(422, "structure", "no"), sqlite3.Error()])
def test_what_fails_leaves_nothing(interactions, failure):
    def fail():
        with interactions.store.exclusive():
            interactions.create("Patient", patient(), None)
            raise failure

    with pytest.raises(type(failure)):
        fail()
    assert search(interactions, "Patient")["total"] == 0


def test_versions_outlive_a_restart(tmp_path):
    file = str(tmp_path / "fhir.db")
    store = ResourceStore(file)
    first = create(Interactions(store), patient()).stored
    store.close()
    store = ResourceStore(file)
    interactions = Interactions(store)
    with store.exclusive():
        assert interactions.read("Patient", first.id) == first
        body = {**first.resource, "gender": "male"}
        assert interactions.update("Patient", first.id, body, first.etag).stored.version == 2
    assert create(interactions, patient("p2")).stored.id != first.id
    store.close()


def test_server_ids_stay_unlike_those_of_clients(interactions):
    with interactions.store.exclusive():
        interactions.update("Patient", "a", patient(id="a"), None)
    ids = [create(interactions, patient(f"p{n}")).stored.id for n in range(3)]
    assert len({"a", *ids}) == 4
    with pytest.raises(FhirError, match="not a number"), interactions.store.exclusive():
        interactions.update("Patient", "77", patient(id="77"), None)


@pytest.mark.parametrize("resource_id", ["", "a" * 65, "a b", "ä", "../a"])
def test_unfit_ids_are_refused(interactions, resource_id):
    body = patient(id=resource_id or "x")
    with pytest.raises(FhirError) as refusal, interactions.store.exclusive():
        interactions.update("Patient", resource_id, body, None)
    assert refusal.value.status in (400, 422)


def test_a_reference_inside_one_interaction_may_point_forward(interactions):
    group = {
        "resourceType": "Group",
        "type": "person",
        "actual": True,
        "member": [{"entity": {"reference": "Patient/late"}}],
    }
    with interactions.store.exclusive():
        interactions.create("Group", group, None)
        interactions.update("Patient", "late", patient(id="late"), None)
    with pytest.raises(FhirError) as refusal, interactions.store.exclusive():
        interactions.delete("Patient", "late", None)
    assert refusal.value.status == 409


def test_referrer_and_target_may_go_together(interactions):
    with interactions.store.exclusive():
        interactions.update("Patient", "a", patient(id="a"), None)
        link = [{"other": {"reference": "Patient/a"}, "type": "replaces"}]
        interactions.update("Patient", "b", patient("p2", id="b", link=link), None)
    with interactions.store.exclusive():
        interactions.delete("Patient", "a", None)
        interactions.delete("Patient", "b", None)
    assert search(interactions, "Patient")["total"] == 0


def test_deletion_obeys_if_match(interactions):
    stored = create(interactions, patient()).stored
    with pytest.raises(FhirError) as refusal, interactions.store.exclusive():
        interactions.delete("Patient", stored.id, 'W/"7"')
    assert refusal.value.status == 409
    with interactions.store.exclusive():
        assert interactions.delete("Patient", stored.id, 'W/"1"').stored.version == 2


def test_a_search_is_fixed_when_it_is_made(interactions):
    for number in range(5):
        create(interactions, patient(f"p{number}"))
    page = search(interactions, "Patient", ("_count", "2"))
    create(interactions, patient("late"))
    address = next(one["url"] for one in page["link"] if one["relation"] == "next")
    token = address.partition("_getpages=")[2].partition("&")[0]
    with interactions.store.exclusive():
        seen = [
            entry["resource"]["identifier"][0]["value"]
            for offset in (0, 2, 4)
            for entry in interactions.page(token, offset, BASE)["entry"]
        ]
    assert seen == ["p0", "p1", "p2", "p3", "p4"]


def test_searches_are_not_kept_for_ever(interactions):
    for number in range(2):
        create(interactions, patient(f"p{number}"))
    first = search(interactions, "Patient", ("_count", "1"))
    for _ in range(250):
        search(interactions, "Patient", ("_count", "1"))
    token = first["link"][1]["url"].partition("_getpages=")[2].partition("&")[0]
    with pytest.raises(FhirError) as refusal:
        interactions.page(token, 1, BASE)
    assert refusal.value.status == 410


def test_elements_are_subsetted_and_marked(interactions):
    create(interactions, patient(gender="male"))
    (entry,) = search(interactions, "Patient", ("_elements", "identifier"))["entry"]
    assert "gender" not in entry["resource"]
    assert entry["resource"]["meta"]["tag"][0]["code"] == "SUBSETTED"


def test_a_batch_goes_on_after_a_failure(interactions):
    def entry(method, url, resource=None):
        return {"request": {"method": method, "url": url}, "resource": resource}

    bundle = {
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [
            {"request": {"method": "GET", "url": "Patient/absent"}},
            entry("POST", "Patient", patient()),
            entry("POST", "Patient", {"resourceType": "Patient", "gender": "none"}),
            {"request": {"method": "GET", "url": "Patient?identifier=urn:oid:1.2|p1"}},
        ],
    }
    answers = process(interactions, bundle, BASE, full=False)["entry"]
    statuses = [one["response"]["status"][:3] for one in answers]
    assert statuses == ["404", "201", "422", "200"]
    assert answers[2]["response"]["outcome"]["resourceType"] == "OperationOutcome"
    assert answers[3]["resource"]["total"] == 1


@pytest.mark.parametrize(
    "request_",
    [
        {"method": "PATCH", "url": "Patient/1"},
        {"method": "PUT", "url": "Patient?identifier=a|b"},
        {"method": "POST", "url": "Patient/1"},
        {"method": "DELETE", "url": "Patient"},
        {"method": "GET", "url": "http://other.example/fhir/Patient/1"},
    ],
)
def test_what_a_transaction_does_not_do_is_refused(interactions, request_):
    entry = {"request": request_, "resource": patient(id="1")}
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": [entry]}
    with pytest.raises(FhirError) as refusal:
        process(interactions, bundle, BASE, full=False)
    assert refusal.value.status in (400, 422)


def test_refusals_repeat_no_values(interactions):
    secret = "Geheim"
    for element in ("birthDate", "gender", "name"):
        with pytest.raises(FhirError) as refusal:
            create(interactions, patient() | {element: secret})
        assert secret not in refusal.value.diagnostics


def test_time_is_said_as_it_is(interactions):
    stored = create(interactions, patient()).stored
    assert stored.resource["meta"]["lastUpdated"] == "2024-03-01T09:15:00.000+00:00"
