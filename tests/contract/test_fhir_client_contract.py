"""flute-sync's FHIR client against the sandbox and HAPI: the same promises on each."""

import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.endpoints import Endpoints
from flute_sync.fhir.imaging_studies import ImagingStudies, hash_id
from flute_sync.fhir.patient_watch import PatientWatch
from flute_sync.fhir.patients import Patients
from flute_sync.fhir.queries import identifier_search, study_search
from flute_sync.fhir_errors import FhirAmbiguous, FhirConflict, FhirGone, FhirRejected
from flute_sync.identity import PatientKey
from flute_sync.patient_errors import (
    PatientAbsent,
    PatientAmbiguous,
    PatientContradicted,
    PatientInactive,
)
from tests.contract.fhir_rest import created, new_patient, reference, update
from tests.contract.fhir_site import (
    CREATE,
    LOGICAL,
    LOOKUP,
    Counted,
    identity,
    new_uid,
    ours,
    series,
)


@pytest.fixture
def site(fhir_url):
    counted = Counted(fhir_url)
    with counted.client:
        yield counted


@pytest.fixture
def client(site):
    return site.client


@pytest.fixture
def uid():
    return new_uid()


def of_study(client, uid):
    return client.search("ImagingStudy", study_search(uid))


def the(client, uid):
    (study,) = of_study(client, uid)
    return study


# -- capability and bare interactions --------------------------------------------------------------


def test_the_probe_finds_what_is_needed(client):
    found = client.capabilities()
    found.require(client_ids=False, create_patients=True, transactions=True)
    found.require(client_ids=True)
    assert client.bundles


def test_a_stale_update_is_a_conflict(client, uid):
    result = client.create(ours(uid))
    study = client.read("ImagingStudy", result.id)
    client.update({**study, "description": "one"}, if_match=result.version)
    with pytest.raises(FhirConflict):
        client.update({**study, "description": "two"}, if_match=result.version)


def test_a_deleted_resource_is_gone_and_an_unknown_one_is_not_there(client, uid):
    result = client.create(ours(uid))
    client.delete("ImagingStudy", result.id, if_match=result.version)
    client.delete("ImagingStudy", result.id, if_match=result.version)
    with pytest.raises(FhirGone):
        client.read("ImagingStudy", result.id)
    assert client.read("ImagingStudy", "never-was") is None


def test_an_illegal_resource_is_rejected(client, uid):
    with pytest.raises(FhirRejected) as caught:
        client.create({**ours(uid), "status": 7, "nonsense": {"a": 1}})
    assert uid not in str(caught.value)


def test_values_with_separators_match_nothing_else(client, fhir, system):
    odd = created(fhir, new_patient(system, r"a,b|c$d\e&f=g+h é"))
    created(fhir, new_patient(system, "a"))
    found = client.search("Patient", identifier_search([(system, r"a,b|c$d\e&f=g+h é")]))
    assert [one["id"] for one in found] == [odd["id"]]


def test_all_pages_are_read(client, fhir, system):
    for number in range(5):
        created(fhir, new_patient(system, "same", active=number % 2 == 0))
    found = client.search("Patient", [*identifier_search([(system, "same")]), ("_count", "2")])
    assert len({one["id"] for one in found}) == 5


# -- one study ---------------------------------------------------------------------------------


def test_a_new_study_takes_three_requests_and_is_what_was_said(site, uid):
    row = site.sync(uid, ours(uid))
    assert row.outcome == "created"
    assert site.interactions == ["bundle", "create", "search"]
    study = the(site.client, uid)
    assert study["id"] == row.resource_id
    assert study["meta"]["versionId"] == row.version_id == "1"
    assert {k: study[k] for k in ours(uid) if k != "meta"} == {
        k: v for k, v in ours(uid).items() if k != "meta"
    }


def test_an_unchanged_study_is_not_written(site, uid):
    row = site.sync(uid, ours(uid))
    again = site.sync(uid, ours(uid), row)
    assert again.outcome == "unchanged"
    assert site.interactions == ["bundle"]
    assert again.version_id == "1"
    assert again.digest == row.digest


def test_a_changed_study_takes_two_requests(site, uid):
    row = site.sync(uid, ours(uid))
    more = ours(uid, series=[series(f"{uid}.1"), series(f"{uid}.2", number=2)], numberOfSeries=2)
    changed = site.sync(uid, more, row)
    assert changed.outcome == "updated"
    assert changed.version_id == "2"
    assert site.interactions == ["bundle", "update"]
    assert [one["uid"] for one in the(site.client, uid)["series"]] == [f"{uid}.1", f"{uid}.2"]


def test_what_we_state_no_more_goes(site, uid):
    both = ours(uid, series=[series(f"{uid}.1"), series(f"{uid}.2")], description="Prostate")
    row = site.sync(uid, both)
    row = site.sync(uid, ours(uid), row)
    study = the(site.client, uid)
    assert [one["uid"] for one in study["series"]] == [f"{uid}.1"]
    assert "description" not in study


def test_what_others_wrote_stays(site, fhir, uid):
    row = site.sync(uid, ours(uid))
    study = the(site.client, uid)
    study["note"] = [{"text": "seen"}]
    study["extension"] = [{"url": "http://other.example/x", "valueString": "kept"}]
    study["identifier"].append({"system": "urn:other", "value": "42"})
    study["series"][0]["performer"] = [{"actor": {"display": "A radiographer"}}]
    study["series"].append(series(f"{uid}.9", number=9))
    study["description"] = "by somebody else"
    assert update(fhir, study).status_code == 200
    row = site.sync(uid, ours(uid, started="2025-03-05"), row)
    assert row.outcome == "updated"
    after = the(site.client, uid)
    for element in ("note", "extension", "identifier", "description"):
        assert after[element] == study[element]
    assert after["started"] == "2025-03-05"
    assert after["series"][0]["performer"] == study["series"][0]["performer"]
    assert [one["uid"] for one in after["series"]] == [f"{uid}.1", f"{uid}.9"]
    assert site.sync(uid, ours(uid, started="2025-03-05"), row).outcome == "unchanged"


def test_a_write_of_others_in_between_is_merged(site, fhir, uid):
    row = site.sync(uid, ours(uid))
    found = site.studies.find(uid, known_id=row.resource_id)
    study = the(site.client, uid)
    assert update(fhir, {**study, "note": [{"text": "in between"}]}).status_code == 200
    changed = ours(uid, started="2025-03-05")
    written = site.studies.write(
        uid, changed, found.study, last_digest=row.digest, known_id=row.resource_id
    )
    assert written.version_id == "3"
    after = the(site.client, uid)
    assert after["note"] == [{"text": "in between"}]
    assert after["started"] == "2025-03-05"


@pytest.mark.parametrize(
    "form",
    [
        {"system": "urn:dicom:uid", "value": "urn:oid:{uid}"},
        {"system": "urn:dicom:uid", "value": "{uid}"},
        {"value": "{uid}"},
        {"value": "urn:oid:{uid}"},
        {"system": "urn:ietf:rfc:3986", "value": "urn:oid:{uid}"},
    ],
)
def test_an_existing_study_is_taken_over_in_every_form(site, fhir, uid, form):
    identifier = {name: text.format(uid=uid) for name, text in form.items()}
    foreign = created(
        fhir,
        {
            "resourceType": "ImagingStudy",
            "identifier": [identifier, {"system": "urn:other", "value": "7"}],
            "status": "registered",
            "subject": {"display": "somebody"},
            "note": [{"text": "kept"}],
            "series": [series(f"{uid}.9", number=9)],
        },
    )
    row = site.sync(uid, ours(uid))
    assert (row.outcome, row.adopted, row.resource_id) == ("updated", True, foreign["id"])
    after = the(site.client, uid)
    assert after["status"] == "available"
    assert after["note"] == [{"text": "kept"}]
    assert {"system": "urn:other", "value": "7"} in after["identifier"]
    assert sum(one.get("system") == "urn:dicom:uid" for one in after["identifier"]) == 1
    assert {one["uid"] for one in after["series"]} == {f"{uid}.1", f"{uid}.9"}
    assert site.sync(uid, ours(uid), row).outcome == "unchanged"


def test_two_foreign_studies_are_ambiguous(site, fhir, uid):
    for _ in range(2):
        created(fhir, ours(uid))
    with pytest.raises(FhirAmbiguous) as caught:
        site.sync(uid, ours(uid))
    assert uid not in caught.value.detail


def test_one_that_is_in_error_does_not_stand_in_the_way(site, fhir, uid):
    created(fhir, ours(uid, status="entered-in-error"))
    good = created(fhir, ours(uid))
    assert site.sync(uid, ours(uid)).resource_id == good["id"]


def test_several_matches_of_a_conditional_create_are_ambiguous(client, fhir, uid):
    for _ in range(2):
        created(fhir, ours(uid))
    with pytest.raises(FhirAmbiguous):
        ImagingStudies(client).write(uid, ours(uid), None)


def test_a_study_that_appeared_since_the_look_up_is_updated_not_lost(site, fhir, uid):
    other = created(fhir, ours(uid, note=[{"text": "kept"}]))
    row = site.studies.write(uid, ours(uid, started="2025-03-09"), None)
    assert (row.outcome, row.resource_id) == ("updated", other["id"])
    after = the(site.client, uid)
    assert after["started"] == "2025-03-09"
    assert after["note"] == [{"text": "kept"}]


def test_a_deleted_study_waits_for_a_person(site, fhir, uid):
    row = site.sync(uid, ours(uid))
    assert fhir.delete(f"/ImagingStudy/{row.resource_id}").is_success
    with pytest.raises(FhirGone):
        site.studies.find(uid, known_id=row.resource_id)
    found = site.studies.find(uid, known_id=row.resource_id, recreate=True)
    assert found.study is None
    anew = site.studies.write(uid, ours(uid), None)
    assert anew.outcome == "created"
    assert anew.resource_id != row.resource_id


def test_an_id_that_the_server_never_had_leads_to_a_search(site, uid):
    row = site.sync(uid, ours(uid))
    found = site.studies.find(uid, known_id="never-was")
    assert found.study is not None
    assert found.study["id"] == row.resource_id


def test_ids_of_our_own_choosing(site, uid):
    studies = ImagingStudies(site.client, id_strategy="hash")
    site.interactions.clear()
    row = studies.write(uid, ours(uid), studies.find(uid).study)
    assert site.interactions == ["search", "update"]
    assert row.resource_id == hash_id(uid)
    assert uid not in row.resource_id
    assert the(site.client, uid)["id"] == row.resource_id


@pytest.mark.parametrize("strategy", ["server", "hash"])
def test_eight_writers_at_once_leave_one_study(fhir_url, uid, strategy):
    start = threading.Barrier(8)

    def write(number):
        with FhirClient(FhirSettings(base_url=fhir_url)) as client:
            studies = ImagingStudies(client, id_strategy=strategy)
            start.wait(60)
            return studies.write(uid, ours(uid), None)

    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(write, range(8)))
    with FhirClient(FhirSettings(base_url=fhir_url)) as client:
        study = the(client, uid)
    assert {row.resource_id for row in rows} == {study["id"]}


def unconditional(client):
    create = client.create

    def send(resource, *, if_none_exist=None):
        assert if_none_exist
        return create(resource)

    return send


def test_our_own_duplicate_is_removed(site, fhir, uid):
    """A server whose conditional create lets two pass: the younger goes, the older is adopted."""
    studies = ImagingStudies(site.client, pause=lambda _seconds: None)
    older = created(fhir, ours(uid, note=[{"text": "older"}]))
    site.client.create = unconditional(site.client)
    row = studies.write(uid, ours(uid, started="2025-03-09"), None)
    assert row.resource_id == older["id"]
    after = the(site.client, uid)
    assert after["note"] == [{"text": "older"}]
    assert after["started"] == "2025-03-09"


def test_the_look_up_brings_patient_and_order_in_one_request(site, fhir, uid, system):
    patient = created(fhir, new_patient(system))
    created(fhir, new_patient(system, "p2"))
    order = created(
        fhir,
        {
            "resourceType": "ServiceRequest",
            "identifier": [{"system": system, "value": "acc"}],
            "status": "active",
            "intent": "order",
            "subject": {"reference": reference(patient)},
        },
    )
    site.interactions.clear()
    found = site.studies.find(uid, patients=[(system, "p1")], orders=[(system, "acc")])
    assert site.interactions == ["bundle"]
    assert found.study is None
    assert [one["id"] for one in found.patients] == [patient["id"]]
    assert [one["id"] for one in found.service_requests] == [order["id"]]


def test_without_batches_the_look_up_asks_one_by_one(site, uid):
    site.client.bundles = False
    row = site.sync(uid, ours(uid))
    assert row.outcome == "created"
    assert site.interactions == ["search", "search", "create", "search"]


def test_every_write_carries_a_provenance_if_told(site, uid):
    agent = {"display": "flute-sync"}
    studies = ImagingStudies(site.client, agent=agent)
    row = studies.write(uid, ours(uid), None)
    target = f"ImagingStudy/{row.resource_id}"
    changed = studies.write(
        uid,
        ours(uid, started="2025-03-09"),
        the(site.client, uid),
        last_digest=row.digest,
        known_id=row.resource_id,
    )
    assert changed.version_id == "2"
    found = site.client.search("Provenance", [("target", target)])
    assert [one["activity"]["coding"][0]["code"] for one in found].count("CREATE") == 1
    assert [one["activity"]["coding"][0]["code"] for one in found].count("UPDATE") == 1
    stale = {**the(site.client, uid), "meta": {"versionId": "1"}}
    after = studies.write(uid, ours(uid, started="2025-03-10"), stale, known_id=row.resource_id)
    assert after.version_id == "3"


# -- endpoints ---------------------------------------------------------------------------------


def test_an_archive_has_two_endpoints_once(client, fhir, system):
    foreign = created(
        fhir,
        {
            "resourceType": "Endpoint",
            "identifier": [{"system": "urn:other", "value": "pacs-dicom-wado-rs"}],
            "status": "off",
            "connectionType": {"code": "dicom-wado-rs"},
            "payloadType": [{"text": "x"}],
            "address": "http://pacs.example/dicom-web",
        },
    )
    with ThreadPoolExecutor(4) as pool:
        every = list(
            pool.map(
                lambda _n: Endpoints(client, system).references("pacs", "http://pacs.example/rs/"),
                range(4),
            )
        )
    wado, qido = every[0]
    assert set(every) == {(wado, qido)}
    there = client.search("Endpoint", identifier_search([(system, "pacs-dicom-wado-rs")]))
    assert [f"Endpoint/{one['id']}" for one in there] == [wado]
    assert there[0]["address"] == "http://pacs.example/rs"
    assert there[0]["connectionType"]["code"] == "dicom-wado-rs"
    assert client.read("Endpoint", foreign["id"])["status"] == "off"


def test_an_endpoint_follows_its_address_and_keeps_what_others_added(site, fhir, system):
    first = Endpoints(site.client, system).references("pacs", "http://old.example/rs")
    there = site.client.read("Endpoint", first[0].partition("/")[2])
    assert update(fhir, {**there, "contact": [{"value": "123"}]}).status_code == 200
    endpoints = Endpoints(site.client, system)
    assert endpoints.references("pacs", "http://new.example/rs") == first
    after = site.client.read("Endpoint", first[0].partition("/")[2])
    assert after["address"] == "http://new.example/rs"
    assert after["contact"] == [{"value": "123"}]
    site.interactions.clear()
    assert endpoints.references("pacs", "http://new.example/rs") == first
    assert site.interactions == []
    endpoints.forget()
    assert endpoints.references("pacs", "http://new.example/rs") == first
    assert site.interactions == ["search"]


# -- patients ----------------------------------------------------------------------------------


def test_exactly_one_active_patient_is_the_subject(client, fhir, system):
    patient = created(fhir, new_patient(system))
    created(fhir, new_patient(system, active=False))
    subject = Patients(client, LOOKUP).resolve(identity(PatientKey(system, "p1")))
    assert subject.reference == {"reference": reference(patient), "type": "Patient"}


def test_nobody_waits_or_is_logical_or_created_by_policy(client, system):
    who = identity(
        PatientKey(system, "p&1"),
        names=frozenset({"Esempio^Primo"}),
        birth_dates=frozenset({"1951-04-12"}),
        sexes=frozenset({"M"}),
    )
    with pytest.raises(PatientAbsent):
        Patients(client, LOOKUP).resolve(who)
    logical = Patients(client, LOGICAL).resolve(who)
    assert logical.reference["identifier"] == {"system": system, "value": "p&1"}
    made = Patients(client, CREATE).resolve(who)
    assert made.patient is not None
    assert made.patient["birthDate"] == "1951-04-12"
    assert made.patient["gender"] == "male"
    assert made.patient["name"][0]["family"] == "Esempio"
    assert Patients(client, CREATE).resolve(who).reference == made.reference
    assert Patients(client, LOOKUP).resolve(who).reference == made.reference


def test_eight_create_one_patient(fhir_url, system):
    start = threading.Barrier(8)

    def resolve(_number):
        with FhirClient(FhirSettings(base_url=fhir_url)) as client:
            patients = Patients(client, CREATE)
            start.wait(60)
            for _ in range(5):  # as the ledger tries again
                try:
                    return patients.resolve(identity(PatientKey(system, "p1"))).reference
                except (FhirConflict, PatientAmbiguous):
                    continue
            raise AssertionError("never resolved")

    with ThreadPoolExecutor(8) as pool:
        references = {one["reference"] for one in pool.map(resolve, range(8))}
    assert len(references) == 1
    with FhirClient(FhirSettings(base_url=fhir_url)) as client:
        found = client.search("Patient", identifier_search([(system, "p1")]))
    assert [f"Patient/{one['id']}" for one in found] == list(references)


def test_two_active_patients_are_ambiguous(client, fhir, system):
    created(fhir, new_patient(system))
    created(fhir, new_patient(system))
    with pytest.raises(PatientAmbiguous):
        Patients(client, LOOKUP).resolve(identity(PatientKey(system, "p1")))


def test_a_merged_patient_leads_to_the_survivor(client, fhir, system):
    survivor = created(fhir, new_patient(system, "new"))
    middle = created(
        fhir,
        new_patient(
            system,
            "middle",
            active=False,
            link=[{"type": "replaced-by", "other": {"reference": reference(survivor)}}],
        ),
    )
    created(
        fhir,
        new_patient(
            system,
            "old",
            active=False,
            link=[{"type": "replaced-by", "other": {"reference": reference(middle)}}],
        ),
    )
    subject = Patients(client, LOOKUP).resolve(identity(PatientKey(system, "old")))
    assert subject.reference["reference"] == reference(survivor)


def test_a_merge_into_nobody_is_inactive(client, fhir, system):
    created(fhir, new_patient(system, active=False))
    with pytest.raises(PatientInactive):
        Patients(client, LOOKUP).resolve(identity(PatientKey(system, "p1")))


def test_contradicting_demographics_stop(client, fhir, system):
    created(fhir, new_patient(system))
    key = PatientKey(system, "p1")
    patients = Patients(client, LOOKUP)
    with pytest.raises(PatientContradicted):
        patients.resolve(identity(key, birth_dates=frozenset({"1951-04-13"})))
    with pytest.raises(PatientContradicted):
        patients.resolve(identity(key, sexes=frozenset({"F"})))
    patients.resolve(identity(key, sexes=frozenset({"O"}), birth_dates=frozenset({"1951"})))


def test_members_of_a_group(client, fhir, system):
    patients = [created(fhir, new_patient(system, str(number))) for number in range(3)]
    members: list[Any] = [{"entity": {"reference": reference(one)}} for one in patients]
    members[2]["inactive"] = True
    group = created(
        fhir,
        {"resourceType": "Group", "type": "person", "actual": True, "member": members},
    )
    found = Patients(client, LOOKUP).members(reference(group))
    assert found == {patients[0]["id"], patients[1]["id"]}


def test_the_watch_says_each_arrival_once(client, fhir, system):
    watch = PatientWatch(client)
    (start,) = watch.look(None)
    created(fhir, new_patient(system, "a"))
    odd = created(fhir, new_patient(system, "b"))

    def keys(cursor):
        pages = list(watch.look(cursor))
        said = {key for page in pages for key in page.keys if key.startswith(system)}
        return said, pages[-1].cursor

    said, cursor = keys(start.cursor)
    assert said == {f"{system}|a", f"{system}|b"}
    said, cursor = keys(cursor)
    assert said == set()
    odd["identifier"].append({"system": system, "value": uuid.uuid4().hex})
    assert update(fhir, odd).status_code == 200
    said, cursor = keys(cursor)
    assert len(said) == 2
    again, _ = keys(start.cursor)
    assert again == set()
    after_restart = {
        key
        for page in PatientWatch(client).look(cursor)
        for key in page.keys
        if key.startswith(system)
    }
    assert after_restart >= said


def test_who_has_a_number_of_the_hospital_is_counted(client, fhir, system):
    """As `flute-sync check` counts them on a server that must hold pseudonyms alone."""
    asked = [("identifier", f"{system}|,{system}:other|")]
    assert client.total("Patient", asked) == 0
    for number in ("1", "2"):
        created(fhir, new_patient(system, number))
    created(fhir, new_patient(f"{system}:third", "1"))
    assert client.total("Patient", asked) == 2
