"""Erasing a patient from every FHIR server: what is ours goes for good, what is not stays."""

import json
import stat
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.daemon.audit import Audit, EraseSettings
from flute_sync.daemon.config import Config
from flute_sync.daemon.erase_plan import Plan, Planner
from flute_sync.daemon.erasing import Eraser, Result
from flute_sync.daemon.pauses import ArchivePauses
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.erase_errors import AuditUnwritable, EraseAmbiguous, EraseUnfinished, EraseUnknown
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.past import expunge, past_of
from flute_sync.fhir_errors import FhirUnavailable
from flute_sync.intake import Delivery
from flute_sync.ledger import Ledger
from flute_sync.study import Issuer, PatientAttributes, PatientId, StudyAttributes, StudyInstanceUID
from flute_sync.terminology import FLUTE_SYNC_TAG
from flute_sync.valuerep import Moment
from tests.contract.fhir_rest import (
    created,
    found,
    new_observation,
    new_patient,
    reference,
    update,
)
from tests.contract.fhir_site import new_uid
from tests.contract.ledger_site import HEADER, received

MRI = date(2024, 3, 1)
WHY = "withdrawal of consent"


class Site:
    """Ledger and pipeline of a daemon without an archive, and who erases."""

    def __init__(self, folder: Path, fhir: httpx.Client, system: str, **settings: Any) -> None:
        self.fhir, self.system, self.folder = fhir, system, folder
        self.audit_file = folder / "audit.jsonl"
        self.config = Config.model_validate(
            {
                "fhir": {"base_url": str(fhir.base_url).rstrip("/"), "provenance": True},
                "ledger": {"url": f"sqlite:///{folder}/ledger.db"},
                "stow_rs": {"mode": "index"},
                "study": {"quiet_period": "0s"},
                "patient": {"default_system": system},
                "erase": {"audit_file": str(self.audit_file)},
                **settings,
            }
        )
        self.client = FhirClient(self.config.fhir)
        self.client.capabilities()
        self.ledger = Ledger.open(
            self.config.ledger, self.config.study, create=True, numbering=self.config.numbering
        )
        self.ledger.bind_target(self.config.fhir.base_url)
        self.pipeline = Pipeline.build(self.config, self.ledger, self.client, {}, ArchivePauses([]))
        self.planner = Planner(self.config, self.ledger, self.client)
        self.eraser = Eraser(self.planner, Audit(EraseSettings(audit_file=self.audit_file)))

    def deliver(
        self, uid: StudyInstanceUID, patient: str = "p1", issuer: Issuer | None = None
    ) -> frozenset[str]:
        said = replace(
            HEADER,
            patient=PatientAttributes(id=PatientId(patient, issuer)),
            study=StudyAttributes(started=Moment(MRI)),
            series=replace(HEADER.series, body_part="PROSTATE"),
        )
        items = received([1, 2], study=uid, said=said)
        return self.ledger.deliver(Delivery("test", "a", datetime.now(UTC), items))

    def work(self) -> None:
        for _ in range(40):
            claimed = self.ledger.claim("test")
            if claimed is None:
                return
            self.ledger.settle(claimed, self.pipeline.step(claimed))
        raise AssertionError("the work never ends")

    def written(self, patient: str = "p1") -> tuple[StudyInstanceUID, str]:
        """Write a study; return its UID and its reference."""
        uid = StudyInstanceUID(new_uid())
        self.deliver(uid, patient)
        self.work()
        view = self.ledger.study_view(uid)
        assert view.state == "completed", view
        assert view.fhir_reference is not None
        return uid, view.fhir_reference

    def plan(self, asked: str) -> Plan:
        return self.planner.plan(self.planner.person(asked))

    def erase(self, asked: str) -> Result:
        return self.eraser.erase(self.planner.person(asked), WHY)

    def audited(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit_file.read_text().splitlines()]

    def status(self, name: str) -> int:
        return self.fhir.get(f"/{name}").status_code

    def close(self) -> None:
        self.client.close()
        self.ledger.close()


@pytest.fixture
def site(tmp_path: Path, fhir: httpx.Client, system: str) -> Iterator[Site]:
    made = Site(tmp_path, fhir, system)
    yield made
    made.close()


def derived(site: Site, study: str, subject: str, **elements: Any) -> str:
    """An Observation of a report, as the service writes it."""
    tag = {"system": FLUTE_SYNC_TAG, "code": "derived"}
    made = {**new_observation(subject, valueInteger=4), "meta": {"tag": [tag]}}
    return reference(
        created(site.fhir, {**made, "derivedFrom": [{"reference": study}], **elements})
    )


def test_all_that_is_ours_goes_for_good_and_nothing_else(site: Site, subject: str) -> None:
    other = reference(created(site.fhir, new_patient(site.system, "p2")))
    clinical = reference(created(site.fhir, new_observation(subject)))
    _, first = site.written()
    uid, second = site.written()
    theirs_uid, theirs = site.written("p2")
    score = derived(site, second, subject)
    witnesses = [
        one for study in (first, second) for one in found(site.fhir, "Provenance", target=study)
    ]
    assert len(witnesses) == 2

    plan = site.plan(subject)
    assert {*plan.references} == {first, second, score, *witnesses}
    assert (plan.left, plan.cleared, plan.referrers) == ([], [], [])
    assert site.status(first) == 200  # nothing was changed by looking

    result = site.erase(subject)
    assert result.remains == []
    assert result.counts["deleted"] == {"ImagingStudy": 2, "Observation": 1, "Provenance": 2}
    assert result.expunged == 5
    for gone in (first, second, score, *witnesses):
        assert site.status(gone) == 404
        assert site.status(f"{gone}/_history") == 404
    for kept in (subject, other, clinical, theirs):
        assert site.status(kept) == 200
    assert site.ledger.study_view(theirs_uid).state == "completed"

    assert site.deliver(uid) == {uid}
    assert site.erase(subject).counts["deleted"] == {}  # again: nothing more
    begun, ended = site.audited()[:2]
    assert (begun["action"], ended["action"], ended["outcome"]) == (
        "erase.begun",
        "erase.ended",
        "complete",
    )
    assert begun["why"] == WHY
    assert begun["who"]
    assert subject not in site.audit_file.read_text()
    assert uid not in site.audit_file.read_text()
    assert stat.S_IMODE(site.audit_file.stat().st_mode) == 0o600


def test_what_others_refer_to_is_told_and_the_rest_goes_on(site: Site, subject: str) -> None:
    _, first = site.written()
    _, second = site.written()
    theirs = reference(
        created(site.fhir, new_observation(subject, derivedFrom=[{"reference": first}]))
    )
    assert [one.what for one in site.plan(subject).referrers] == [theirs]
    result = site.erase(subject)
    assert [one.what for one in result.remains] == [first]
    assert site.status(first) == 200
    assert site.status(second) == 404
    assert site.status(theirs) == 200
    assert site.audited()[-1]["outcome"] == "remains"
    # Its owner let it go: the next run ends what this one could not.
    assert site.fhir.delete(f"/{theirs}").status_code < 300
    assert site.erase(subject).remains == []
    assert site.status(f"{first}/_history") == 404


def test_a_resource_that_others_added_to_is_cleared_of_what_is_ours(
    site: Site, subject: str
) -> None:
    _, study = site.written()
    resource = site.fhir.get(f"/{study}").json()
    assert resource["meta"]["profile"]
    changed = {**resource, "note": [{"text": "discussed on the board"}]}
    assert update(site.fhir, changed).status_code == 200
    plan = site.plan(subject)
    assert [one.what for one in plan.left] == [study]
    assert "note" in plan.left[0].reason
    result = site.erase(subject)
    assert result.cleared == 1
    assert [one.what for one in result.remains] == [study]
    left = site.fhir.get(f"/{study}").json()
    assert left["note"] == changed["note"]
    assert "profile" not in left["meta"]
    assert site.erase(subject).remains  # it still says so


def test_a_study_that_another_system_made_stays(site: Site, subject: str) -> None:
    uid = StudyInstanceUID(new_uid())
    theirs = {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        "subject": {"reference": subject},
    }
    adopted = reference(created(site.fhir, theirs))
    stranger = reference(
        created(site.fhir, {**theirs, "identifier": [{"system": site.system, "value": "s9"}]})
    )
    site.deliver(uid)
    site.work()
    assert site.ledger.study_view(uid).fhir_reference == adopted
    reasons = {one.what: one.reason for one in site.plan(subject).left}
    assert reasons == {
        adopted: "another system made it",
        stranger: "another system wrote it",
    }
    result = site.erase(subject)
    assert {one.what for one in result.remains} == {adopted, stranger}
    assert site.status(adopted) == site.status(stranger) == 200
    assert site.deliver(uid) == {uid}


def test_what_was_derived_from_a_study_that_is_gone_goes_too(site: Site, subject: str) -> None:
    orphan = derived(site, "", subject, derivedFrom=[{"display": "a study that is gone"}])
    extended = derived(
        site, "", subject, derivedFrom=[{"display": "gone, too"}], note=[{"text": "seen"}]
    )
    plan = site.plan(subject)
    assert plan.references == [orphan]
    assert [one.what for one in plan.left] == [extended]
    assert [one.what for one in site.erase(subject).remains] == [extended]
    assert site.status(f"{orphan}/_history") == 404
    assert site.status(extended) == 200


def test_a_patient_is_named_by_an_identifier_and_by_whom_he_was_merged_with(
    site: Site, subject: str
) -> None:
    merged = created(
        site.fhir,
        new_patient(
            site.system,
            "p3",
            active=False,
            link=[{"type": "replaced-by", "other": {"reference": subject}}],
        ),
    )
    _, study = site.written()
    _, older = site.written("p3")
    assert site.fhir.get(f"/{older}").json()["subject"]["reference"] == subject
    for asked in (f"{site.system}|p1", f"{site.system}|p3", reference(merged), subject):
        plan = site.plan(asked)
        assert plan.person.references == {subject, reference(merged)}
        assert {study, older} < {*plan.references}
    assert site.erase(f"{site.system}|p3").remains == []
    uid = StudyInstanceUID(new_uid())
    assert site.deliver(uid) == site.deliver(uid, "p3") == {uid}


@pytest.mark.parametrize("number", ["p9", "p|9", "p,9$\\"])
def test_whom_the_server_does_not_have_is_erased_by_his_number(site: Site, number: str) -> None:
    uid = StudyInstanceUID(new_uid())
    site.deliver(uid, number)
    site.work()
    assert site.ledger.study_view(uid).code == "PATIENT-ABSENT"
    result = site.erase(f"{site.system}|{number}")
    assert (result.studies, result.remains) == (1, [])
    assert site.deliver(uid, number) == {uid}


def test_a_study_that_is_his_only_by_what_its_issuer_means_is_not_kept(
    site: Site, subject: str
) -> None:
    site.erase(subject)
    uid, issuer = StudyInstanceUID(new_uid()), Issuer(None, site.system, "URI")
    assert site.deliver(uid, issuer=issuer) == frozenset()
    site.work()
    assert site.ledger.erasures.held([], [], [uid]) == []
    assert site.deliver(uid, issuer=issuer) == {uid}


def test_a_study_of_somebody_else_that_turns_out_to_be_his_is_held_for_a_person(
    site: Site, subject: str
) -> None:
    created(site.fhir, new_patient(site.system, "p2"))
    uid, study = site.written("p2")
    site.erase(subject)
    assert site.deliver(uid) == {uid}  # the archive was corrected: it is his
    site.work()
    assert site.ledger.study_view(uid).code == "PATIENT-ERASED"
    assert site.status(study) == 200
    assert site.erase(subject).remains == []
    assert site.status(study) == 404
    assert site.ledger.erasures.held([], [], [uid]) == []


def test_who_is_unknown_or_uncertain_is_not_erased(site: Site, subject: str) -> None:
    for unknown in ("Patient/nobody-here", f"{site.system}|nobody"):
        with pytest.raises(EraseUnknown):
            site.plan(unknown)
    twin = created(site.fhir, new_patient(site.system))
    with pytest.raises(EraseAmbiguous):
        site.plan(f"{site.system}|p1")
    # By its id he is certain; the number they share blocks nobody.
    plan = site.plan(reference(twin))
    assert not plan.marks.keys
    assert not plan.marks.stated
    assert [one.what for one in plan.left] == ["an identifier of his"]
    assert site.plan(subject).marks.references == {subject}


def test_nothing_happens_without_an_audit(site: Site, subject: str) -> None:
    uid, study = site.written()
    site.audit_file.mkdir()
    with pytest.raises(AuditUnwritable):
        site.erase(subject)
    assert site.status(study) == 200
    assert site.ledger.study_view(uid).state == "completed"
    assert site.ledger.erasures.studies([uid]) == frozenset()


def test_a_patient_who_consents_again_is_written_again(site: Site, subject: str) -> None:
    uid, _ = site.written()
    with pytest.raises(EraseUnknown):
        site.eraser.allow_again(site.planner.person(subject), WHY)
    site.erase(subject)
    assert site.deliver(uid) == {uid}
    assert site.eraser.allow_again(site.planner.person(subject), WHY) == 1
    assert site.deliver(uid) == frozenset()
    site.work()
    view = site.ledger.study_view(uid)
    assert view.state == "completed"
    assert site.status(str(view.fhir_reference)) == 200
    assert site.audited()[-1]["action"] == "erase.allowed"


@pytest.mark.parametrize("at", [1, 2, 3, 4, 5, 6])
def test_an_erasure_that_was_cut_short_goes_on(site: Site, subject: str, at: int) -> None:
    uid, study = site.written()
    (witness,) = found(site.fhir, "Provenance", target=study)
    words: list[str] = []

    def tell(said: str) -> None:
        words.append(said)
        if len(words) == at:
            raise FhirUnavailable("cut short")

    eraser = replace(site.eraser, tell=tell)
    person = site.planner.person(subject)
    try:
        eraser.erase(person, WHY)
    except FhirUnavailable:
        assert at <= 5
        if at > 1:
            assert site.deliver(uid) == {uid}  # nothing is taken, however little is done yet
            with pytest.raises(EraseUnfinished):
                site.eraser.allow_again(person, WHY)
    result = site.erase(subject)
    assert result.remains == []
    for gone in (study, witness):
        assert site.status(f"{gone}/_history") == 404
    assert site.ledger.erasures.held([subject], [], [uid]) == []
    assert site.ledger.erasures.of(site.planner.marks(person))[0].items == ()


def test_versions_are_removed_for_good(site: Site, subject: str) -> None:
    made = created(site.fhir, new_observation(subject))
    for value in (1, 2):
        assert update(site.fhir, {**made, "valueInteger": value}).status_code == 200
    name = reference(made)
    past = past_of(site.client, name)
    assert past is not None
    assert past.versions == 3
    assert past.oldest is not None
    assert "valueInteger" not in past.oldest
    assert site.fhir.delete(f"/{name}").status_code < 300
    past = past_of(site.client, name)
    assert past is not None
    assert past.versions == 4
    assert site.status(name) == 410
    assert expunge(site.client, name)
    assert site.status(name) == site.status(f"{name}/_history") == 404
    assert past_of(site.client, name) is None
    assert expunge(site.client, name)  # again: it is gone
    assert past_of(site.client, "Observation/never-there") is None


def test_who_gets_another_number_later_is_not_taken_by_it(site: Site, subject: str) -> None:
    site.written()
    site.erase(subject)
    patient = site.fhir.get(f"/{subject}").json()
    patient["identifier"].append({"system": site.system, "value": "p7"})
    assert update(site.fhir, patient).status_code == 200
    uid = StudyInstanceUID(new_uid())
    site.deliver(uid, "p7")
    site.work()
    assert found(site.fhir, "ImagingStudy", subject=subject) == []
    assert site.ledger.erasures.held([], [], [uid]) == []
    assert site.deliver(uid, "p7") == {uid}


class Refusing(httpx.HTTPTransport):
    """Leads to the server, and refuses to search Provenances."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/Provenance/_search"):
            return httpx.Response(400, json={"resourceType": "OperationOutcome", "issue": []})
        return super().handle_request(request)


def test_what_the_server_does_not_let_be_searched_for_is_told(site: Site, subject: str) -> None:
    site.written()
    with FhirClient(site.config.fhir, transport=Refusing()) as client:
        client.capabilities()
        planner = replace(site.planner, fhir=client)
        assert "Provenance" in [one.what for one in planner.plan(planner.person(subject)).left]
        result = replace(site.eraser, planner=planner).erase(planner.person(subject), WHY)
    assert "Provenance" in [one.what for one in result.remains]
    assert site.audited()[-1]["outcome"] == "remains"


def test_his_number_blocks_nobody_else_when_it_means_another_under_other_settings(
    site: Site, subject: str, fhir: httpx.Client
) -> None:
    site.erase(subject)
    created(site.fhir, new_patient(f"{site.system}:b"))
    other = Site(site.folder, fhir, f"{site.system}:b")
    _, study = other.written()
    assert other.status(study) == 200
    other.close()
    own = {"name": "a", "patient_default_system": f"{site.system}:b"}
    added = Site(
        site.folder, fhir, site.system, archives=[{**own, "dicomweb_url": "http://a.test"}]
    )
    assert added.deliver(StudyInstanceUID(new_uid())) == frozenset()
    added.close()
    # Under the old settings his header is enough, and under new ones whose it is.
    assert site.deliver(StudyInstanceUID(new_uid())) != frozenset()
