"""What flute-sync relies on in a FHIR R4 server: one suite for the sandbox and for HAPI.

Where servers differ (409 or 412 for a stale If-Match, 400 or 422 for what is refused), the suites
accept the set that flute-sync is written for. Each test has identifiers of its own, so that all
can share a server.
"""

import threading
import uuid

import httpx
import pytest

from tests.contract.fhir_rest import (
    JSON,
    REFUSED,
    STALE,
    create,
    created,
    found,
    new_observation,
    new_patient,
    new_study,
    outcome,
    reference,
    update,
)

# -- metadata ------------------------------------------------------------------------------------


def test_metadata_says_what_the_server_can(fhir):
    statement = fhir.get("/metadata").json()
    assert statement["resourceType"] == "CapabilityStatement"
    assert statement["fhirVersion"] == "4.0.1"
    (rest,) = statement["rest"]
    assert "transaction" in [one["code"] for one in rest["interaction"]]
    by_type = {one["type"]: one for one in rest["resource"]}
    study = by_type["ImagingStudy"]
    assert study["conditionalCreate"] is True
    assert study["versioning"].startswith("versioned")
    assert {"create", "read", "update", "search-type"} <= {
        one["code"] for one in study["interaction"]
    }
    assert {"identifier", "patient", "subject"} <= {one["name"] for one in study["searchParam"]}
    assert {"Patient", "Endpoint", "Observation", "Procedure", "Provenance"} <= by_type.keys()


# -- create --------------------------------------------------------------------------------------


def test_create_gives_id_version_and_address(fhir, fhir_url, system):
    response = create(fhir, new_patient(system))
    body = response.json()
    assert response.status_code == 201
    assert response.headers["etag"] == 'W/"1"'
    assert body["meta"]["versionId"] == "1"
    assert response.headers["location"] == f"{fhir_url}/{reference(body)}/_history/1"
    assert response.headers["last-modified"]
    assert body["identifier"] == new_patient(system)["identifier"]


def test_create_with_a_minimal_answer(fhir, system):
    response = create(fhir, new_patient(system), Prefer="return=minimal")
    assert response.status_code == 201
    assert response.content == b""
    assert "/Patient/" in response.headers["location"]


def test_create_ignores_an_id_of_the_client(fhir, system):
    body = created(fhir, new_patient(system, id="chosen"))
    assert body["id"] != "chosen"


def test_conditional_create_happens_once(fhir, system):
    condition = {"If-None-Exist": f"identifier={system}|p1"}
    first = create(fhir, new_patient(system), **condition)
    assert first.status_code == 201
    second = create(fhir, new_patient(system, gender="female"), **condition)
    assert second.status_code == 200
    assert reference(second.json()) == reference(first.json())
    assert second.headers["etag"] == 'W/"1"'
    assert fhir.get(f"/{reference(first.json())}").json()["gender"] == "male"


def test_conditional_create_refuses_to_choose(fhir, system):
    created(fhir, new_patient(system))
    created(fhir, new_patient(system))
    response = create(fhir, new_patient(system), **{"If-None-Exist": f"identifier={system}|p1"})
    assert response.status_code == 412
    outcome(response)


def test_conditional_create_must_meet_its_own_condition(fhir, system):
    response = create(fhir, new_patient(system), **{"If-None-Exist": f"identifier={system}|p2"})
    assert response.status_code in REFUSED
    assert found(fhir, "Patient", identifier=f"{system}|p1") == []


def test_conditional_create_is_race_free(fhir, patient, system):
    """Eight writers of one study at once make one resource."""
    answers: list[httpx.Response] = []
    together = threading.Barrier(8)

    def write() -> None:
        with httpx.Client(base_url=fhir.base_url, timeout=60) as client:
            together.wait()
            study = new_study(reference(patient), system)
            condition = {"If-None-Exist": f"identifier={system}|s1"}
            answers.append(create(client, study, **condition))

    writers = [threading.Thread(target=write) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    statuses = sorted(one.status_code for one in answers)
    assert statuses.count(201) == 1
    assert set(statuses) <= {200, 201, *STALE}
    assert len(found(fhir, "ImagingStudy", identifier=f"{system}|s1")) == 1


# -- read, vread, history ------------------------------------------------------------------------


def test_read_and_vread(fhir, patient):
    response = fhir.get(f"/{reference(patient)}")
    assert response.status_code == 200
    assert response.headers["etag"] == 'W/"1"'
    assert response.headers["content-type"].startswith("application/fhir+json")
    assert response.json()["birthDate"] == "1951-04-12"
    update(fhir, patient | {"gender": "other"})
    assert fhir.get(f"/{reference(patient)}").headers["etag"] == 'W/"2"'
    assert fhir.get(f"/{reference(patient)}/_history/1").json()["gender"] == "male"
    assert fhir.get(f"/{reference(patient)}/_history/7").status_code == 404


@pytest.mark.parametrize("path", ["/Patient/absent", "/Nonsense/1", "/Patient/absent/_history/1"])
def test_what_is_absent_is_404(fhir, path):
    response = fhir.get(path)
    assert response.status_code == 404
    outcome(response)


def test_history_counts_versions_newest_first(fhir, patient):
    update(fhir, patient | {"gender": "other"})
    bundle = fhir.get(f"/{reference(patient)}/_history").json()
    assert bundle["type"] == "history"
    assert bundle["total"] == 2
    assert [one["resource"]["meta"]["versionId"] for one in bundle["entry"]] == ["2", "1"]


# -- update --------------------------------------------------------------------------------------


def test_update_with_the_current_version(fhir, patient):
    response = update(fhir, patient | {"gender": "other"}, **{"If-Match": 'W/"1"'})
    assert response.status_code == 200
    assert response.headers["etag"] == 'W/"2"'
    assert response.json()["gender"] == "other"
    assert response.json()["meta"]["lastUpdated"] > patient["meta"]["lastUpdated"]


def test_update_with_a_stale_version_changes_nothing(fhir, patient):
    update(fhir, patient | {"gender": "other"})
    response = update(fhir, patient | {"gender": "female"}, **{"If-Match": 'W/"1"'})
    assert response.status_code in STALE
    outcome(response)
    assert fhir.get(f"/{reference(patient)}").json()["gender"] == "other"


def test_an_unchanged_update_makes_no_version(fhir, patient):
    current = fhir.get(f"/{reference(patient)}").json()
    response = update(fhir, current, **{"If-Match": 'W/"1"'})
    assert response.status_code == 200
    assert response.headers["etag"] == 'W/"1"'
    assert fhir.get(f"/{reference(patient)}").headers["etag"] == 'W/"1"'


def test_update_creates_under_an_id_of_the_client(fhir, system):
    body = new_patient(system, id=f"is-{uuid.uuid4().hex}")
    assert update(fhir, body).status_code == 201
    again = update(fhir, body)
    assert again.status_code == 200
    assert again.headers["etag"] == 'W/"1"'
    assert found(fhir, "Patient", identifier=f"{system}|p1") == [reference(body)]


def test_update_to_one_client_id_is_race_free(fhir, patient, system):
    body = new_study(reference(patient), system, id=f"is-{uuid.uuid4().hex}")
    statuses: list[int] = []
    together = threading.Barrier(6)

    def write() -> None:
        with httpx.Client(base_url=fhir.base_url, timeout=60) as client:
            together.wait()
            statuses.append(update(client, body).status_code)

    writers = [threading.Thread(target=write) for _ in range(6)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert 201 in statuses
    assert set(statuses) <= {200, 201, *STALE}
    assert found(fhir, "ImagingStudy", identifier=f"{system}|s1") == [reference(body)]


def test_update_refuses_another_id_than_the_address_says(fhir, patient):
    response = fhir.put(f"/{reference(patient)}", json=patient | {"id": "other"}, headers=JSON)
    assert response.status_code in REFUSED


# -- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        {"status": "no-such-status"},
        {"started": "2024-13-01"},
        {"subject": {"reference": "Patient/absent"}},
        {"subject": {"reference": "Endpoint/absent"}},
        {"subject": {"reference": f"urn:uuid:{uuid.uuid4()}"}},
        {"resourceType": "Patient"},
    ],
)
def test_a_faulty_study_is_refused(fhir, patient, system, fault):
    study = new_study(reference(patient), system) | fault
    response = fhir.post("/ImagingStudy", json=study, headers=JSON)
    assert response.status_code in REFUSED
    outcome(response)
    assert found(fhir, "ImagingStudy", identifier=f"{system}|s1") == []


def test_what_is_not_json_is_refused(fhir):
    response = fhir.post("/Patient", content=b"{", headers=JSON)
    assert response.status_code == 400
    outcome(response)


def test_a_logical_subject_is_accepted(fhir, system):
    subject = {"type": "Patient", "identifier": {"system": system, "value": "p9"}}
    study = created(fhir, new_study("", system) | {"subject": subject})
    assert fhir.get(f"/{reference(study)}").json()["subject"] == subject


def test_extensions_survive_and_may_point_at_what_is_absent(fhir, patient, system):
    """Extensions are not indexed: nothing guards their targets."""
    url = "http://hl7.eu/fhir/ig/flute/StructureDefinition/resource-supportingInfo"
    psa = created(fhir, new_observation(reference(patient)))
    extension = [{"url": url, "valueReference": {"reference": reference(psa), "display": "PSA"}}]
    study = created(fhir, new_study(reference(patient), system, extension=extension))
    assert fhir.get(f"/{reference(study)}").json()["extension"] == extension
    assert fhir.delete(f"/{reference(psa)}").status_code in (200, 204)


# -- delete --------------------------------------------------------------------------------------


def test_a_deleted_resource_is_gone_and_may_come_back(fhir, patient, system):
    study = created(fhir, new_study(reference(patient), system))
    assert fhir.delete(f"/{reference(study)}").status_code in (200, 204)
    response = fhir.get(f"/{reference(study)}")
    assert response.status_code == 410
    outcome(response)
    assert found(fhir, "ImagingStudy", identifier=f"{system}|s1") == []
    assert fhir.delete(f"/{reference(study)}").status_code in (200, 204)
    assert update(fhir, study).status_code in (200, 201)
    assert fhir.get(f"/{reference(study)}").status_code == 200


def test_what_others_refer_to_is_not_deleted(fhir, patient, system):
    created(fhir, new_study(reference(patient), system))
    response = fhir.delete(f"/{reference(patient)}")
    assert response.status_code == 409
    outcome(response)
    assert fhir.get(f"/{reference(patient)}").status_code == 200
