"""Transactions that flute-sync relies on, in the sandbox and in HAPI."""

import uuid

import pytest

from tests.contract.fhir_rest import (
    REFUSED,
    STALE,
    created,
    found,
    new_endpoint,
    new_patient,
    new_study,
    outcome,
    post_entry,
    put_entry,
    reference,
    transaction,
    update,
)


def test_a_transaction_ties_its_entries_together(fhir, patient, system):
    archive, study = uuid.uuid4().urn, uuid.uuid4().urn
    body = new_study(reference(patient), system, endpoint=[{"reference": archive}])
    provenance = {
        "resourceType": "Provenance",
        "target": [{"reference": study}],
        "recorded": "2024-03-01T10:00:00Z",
        "agent": [{"who": {"display": "flute-sync"}}],
    }
    entries = (
        post_entry(new_endpoint(system), archive, ifNoneExist=f"identifier={system}|e1"),
        post_entry(body, study, ifNoneExist=f"identifier={system}|s1"),
        post_entry(provenance),
    )
    response = transaction(fhir, *entries)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert answer["type"] == "transaction-response"
    responses = [one["response"] for one in answer["entry"]]
    assert [one["status"][:3] for one in responses] == ["201", "201", "201"]
    assert [one["location"].split("/")[0] for one in responses] == [
        "Endpoint",
        "ImagingStudy",
        "Provenance",
    ]
    assert all(one["etag"].strip('W/"') == "1" for one in responses)
    (stored,) = found(fhir, "ImagingStudy", identifier=f"{system}|s1")
    (endpoint,) = found(fhir, "Endpoint", identifier=f"{system}|e1")
    assert fhir.get(f"/{stored}").json()["endpoint"] == [{"reference": endpoint}]
    assert len(found(fhir, "Provenance", target=stored)) == 1

    again = transaction(fhir, *entries[:2]).json()["entry"]
    assert [one["response"]["status"][:3] for one in again] == ["200", "200"]
    assert again[1]["response"]["location"].startswith(stored)
    assert fhir.get(f"/{stored}").headers["etag"] == 'W/"1"'


def test_a_new_entry_may_refer_to_one_that_exists(fhir, patient, system):
    endpoint = created(fhir, new_endpoint(system))
    name = uuid.uuid4().urn
    response = transaction(
        fhir,
        post_entry(new_study(reference(patient), system, endpoint=[{"reference": name}])),
        post_entry(new_endpoint(system), name, ifNoneExist=f"identifier={system}|e1"),
    )
    statuses = [one["response"]["status"][:3] for one in response.json()["entry"]]
    assert statuses == ["201", "200"]
    (study,) = found(fhir, "ImagingStudy", endpoint=reference(endpoint))
    assert fhir.get(f"/{study}").json()["endpoint"] == [{"reference": reference(endpoint)}]


def test_a_transaction_updates_and_reads(fhir, patient, system):
    study = created(fhir, new_study(reference(patient), system))
    response = transaction(
        fhir,
        {"request": {"method": "GET", "url": reference(patient)}},
        put_entry(study | {"description": "MRI"}, ifMatch='W/"1"'),
    )
    first, second = response.json()["entry"]
    assert first["resource"]["birthDate"] == "1951-04-12"
    assert second["response"]["status"].startswith("200")
    assert second["response"]["location"] == f"{reference(study)}/_history/2"
    assert second["response"]["etag"].strip('W/"') == "2"
    assert fhir.get(f"/{reference(study)}").json()["description"] == "MRI"


def test_a_transaction_creates_under_an_id_of_the_client(fhir, patient, system):
    study = new_study(reference(patient), system, id=f"is-{uuid.uuid4().hex}")
    for status in ("201", "200"):
        (entry,) = transaction(fhir, put_entry(study)).json()["entry"]
        assert entry["response"]["status"].startswith(status)
        assert entry["response"]["location"] == f"{reference(study)}/_history/1"


@pytest.mark.parametrize("fault", ["stale", "reference", "placeholder", "several", "code"])
def test_a_transaction_that_fails_does_nothing(fhir, patient, system, fault):
    subject = reference(patient)
    study = created(fhir, new_study(subject, system))
    update(fhir, study | {"description": "changed by somebody else"})
    created(fhir, new_patient(system, "twice"))
    created(fhir, new_patient(system, "twice"))
    twice = f"identifier={system}|twice"
    faulty, statuses = {
        "stale": (put_entry(study | {"description": "ours"}, ifMatch='W/"1"'), STALE),
        "reference": (post_entry(new_study("Patient/absent", system, "s2")), REFUSED),
        "placeholder": (post_entry(new_study(uuid.uuid4().urn, system, "s2")), REFUSED),
        "several": (post_entry(new_patient(system, "twice"), ifNoneExist=twice), {412}),
        "code": (post_entry(new_study(subject, system, "s2", status="none")), REFUSED),
    }[fault]
    response = transaction(fhir, post_entry(new_endpoint(system)), faulty)
    assert response.status_code in statuses
    outcome(response)
    assert found(fhir, "Endpoint", identifier=f"{system}|e1") == []
    assert found(fhir, "ImagingStudy", identifier=f"{system}|s2") == []
    assert fhir.get(f"/{reference(study)}").headers["etag"] == 'W/"2"'


def test_a_transaction_names_nothing_twice(fhir, patient):
    entries = [put_entry(patient | {"gender": gender}) for gender in ("female", "other")]
    response = transaction(fhir, *entries)
    assert response.status_code in REFUSED
    assert fhir.get(f"/{reference(patient)}").headers["etag"] == 'W/"1"'


def test_a_large_study_is_stored_whole(fhir, patient, system):
    uid = f"2.25.{uuid.uuid4().int % 10**30}"
    sop_class = {"system": "urn:ietf:rfc:3986", "code": "urn:oid:1.2.840.10008.5.1.4.1.1.4"}
    instances = [
        {"uid": f"{uid}.{number}", "sopClass": sop_class, "number": number}
        for number in range(1, 1001)
    ]
    modality = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "MR"}
    series = [{"uid": uid, "modality": modality, "instance": instances}]
    study = new_study(reference(patient), system, series=series)
    (entry,) = transaction(fhir, post_entry(study)).json()["entry"]
    stored = fhir.get("/" + entry["response"]["location"]).json()
    assert stored["series"] == series
