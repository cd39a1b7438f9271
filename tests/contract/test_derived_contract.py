"""Observations of structured reports, on every FHIR server: made once, kept true, linked."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.archive_errors import ArchiveRefused, ArchiveServerError
from flute_sync.daemon.config import Config
from flute_sync.daemon.pauses import ArchivePauses
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.fhir.client import FhirClient
from flute_sync.intake import Delivery, Noticed
from flute_sync.ledger import Ledger, Settlement
from flute_sync.study import (
    Code,
    Header,
    KeyObjects,
    PatientAttributes,
    PatientId,
    Reference,
    StudyAttributes,
    StudyInstanceUID,
)
from flute_sync.terminology import FLUTE_SUPPORTING_INFO
from flute_sync.valuerep import Moment
from tests.contract.fhir_rest import JSON, create, created, found, new_observation, new_patient
from tests.contract.fhir_site import new_uid
from tests.contract.ledger_site import HEADER, received
from tests.reports import FINDING, PROSTATE, VOLUME, Json, coded, group, number, report, score
from tests.shelf import Shelf

KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
COMPREHENSIVE_SR = "1.2.840.10008.5.1.4.1.1.88.33"
PROFILES = {
    "valueInteger": "http://hl7.eu/fhir/ig/flute/StructureDefinition/PR-PIRADSScore",
    "valueQuantity": "http://hl7.eu/fhir/ig/flute/StructureDefinition/PR-ProstateVolume",
}
HIGH, VERY_HIGH = score("RID50292"), score("RID50293")


def of_volume(value: float) -> Json:
    return group(coded(FINDING, PROSTATE), number(VOLUME, value, "mL"))


class Desk(Shelf):
    """An archive that may give out no report."""

    is_down = is_refusing = False

    def content(self, study: str, series: str, sop_instance: str) -> Json | None:
        if self.is_down:
            raise ArchiveServerError("it gives out no instance")
        if self.is_refusing:
            raise ArchiveRefused(status=400)
        return super().content(study, series, sop_instance)


class Site:
    """Ledger and pipeline of a daemon with one archive, one study and one patient."""

    def __init__(self, folder: Path, fhir: httpx.Client, system: str) -> None:
        self.fhir, self.system, self.uid = fhir, system, StudyInstanceUID(new_uid())
        self.folder, self.news = folder, 0
        self.base_url = str(fhir.base_url).rstrip("/")
        config = self.config()
        self.client = FhirClient(config.fhir)
        self.client.capabilities()
        self.ledger = Ledger.open(config.ledger, config.study, create=True, archives=("pacs",))
        self.ledger.bind_target(self.base_url)
        self.shelf = Desk(config.every_archive[0], received=())
        self.follow()

    def config(self, *, enabled: bool = True) -> Config:
        return Config.model_validate(
            {
                "fhir": {"base_url": self.base_url},
                "ledger": {"url": f"sqlite:///{self.folder / 'ledger.db'}"},
                "stow_rs": {"mode": "index"},
                "study": {"quiet_period": "0s"},
                "patient": {"default_system": self.system},
                "archive": {"name": "pacs", "dicomweb_url": "https://pacs.example/dicom-web"},
                "derived": {"enabled": enabled},
            }
        )

    def follow(self, *, enabled: bool = True) -> None:
        pauses = ArchivePauses(["pacs"])
        archives = {"pacs": self.shelf}
        self.pipeline = Pipeline.build(
            self.config(enabled=enabled), self.ledger, self.client, archives, pauses
        )
        self.ledger.rejudge(self.pipeline.rules)

    def hold(self, *reports: Json, unreadable: int = 0) -> None:
        """Let the archive hold these reports, and some more that it does not give out."""
        said = replace(
            HEADER,
            patient=PatientAttributes(id=PatientId("p1")),
            study=StudyAttributes(started=Moment(date(2024, 3, 1))),
            series=replace(HEADER.series, modality="MR", body_part="PROSTATE"),
        )
        sr = Header(COMPREHENSIVE_SR, said.patient, said.study)
        numbers = list(range(1, len(reports) + unreadable + 1))
        documents = received(numbers, series=2, study=self.uid, said=sr) if numbers else ()
        self.shelf.received = received([1], study=self.uid, said=said) + documents
        named = (one.instance.sop_instance_uid for one in documents)
        self.shelf.reports = {metadata["00080018"]["Value"][0]: metadata for metadata in reports}
        assert set(self.shelf.reports) <= set(named)

    def report(self, *children: Json, number: int = 1, **about: Any) -> Json:
        uid = self.uid
        evidence = {"study": uid, "evidence": (uid,)}
        return report(*children, **({"uid": f"{uid}.2.{number}"} | evidence | about))

    def work(self) -> Settlement:
        """Read the archive anew and do all that is due; return how the last step ended."""
        self.news += 1
        news = Noticed(self.uid, fingerprint=str(self.news))
        self.ledger.deliver(Delivery("test", "pacs", datetime.now(UTC), noticed=(news,)))
        steps = []
        while (claimed := self.ledger.claim("test")) is not None:
            steps.append(self.pipeline.step(claimed))
            self.ledger.settle(claimed, steps[-1])
        return steps[-1]

    def observations(self) -> dict[str, Json]:
        """Return what was derived, by the element of its value."""
        reference = f"ImagingStudy/{self.study()['id']}"
        answer = self.fhir.get("/Observation", params={"derived-from": reference}).json()
        found = [entry["resource"] for entry in answer.get("entry", [])]
        return {next(name for name in PROFILES if name in one): one for one in found}

    def study(self) -> Json:
        params = {"identifier": f"urn:dicom:uid|urn:oid:{self.uid}"}
        (entry,) = self.fhir.get("/ImagingStudy", params=params).json()["entry"]
        resource: Json = entry["resource"]
        return resource

    def links(self) -> set[str]:
        return {
            one["valueReference"]["reference"]
            for one in self.study().get("extension", [])
            if one["url"] == FLUTE_SUPPORTING_INFO
        }

    def versions(self) -> list[tuple[str, str]]:
        resources = [self.study(), *self.observations().values()]
        return sorted((one["id"], one["meta"]["versionId"]) for one in resources)


@pytest.fixture
def site(tmp_path: Path, fhir: httpx.Client, system: str) -> Iterator[Site]:
    create(fhir, new_patient(system))
    one = Site(tmp_path, fhir, system)
    yield one
    one.client.close()
    one.ledger.close()


def reference(resource: Json) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def test_a_new_study_with_a_report_is_linked_in_its_first_step(site: Site) -> None:
    site.hold(site.report(HIGH, of_volume(42.55)))
    site.work()
    found = site.observations()
    assert found["valueInteger"]["valueInteger"] == 4
    assert found["valueQuantity"]["valueQuantity"]["value"] == 42.6
    assert {one["status"] for one in found.values()} == {"final"}
    assert {one["subject"]["reference"] for one in found.values()} == {
        site.study()["subject"]["reference"]
    }
    assert site.links() == {reference(one) for one in found.values()}
    before = site.versions()
    for _ in range(2):
        site.work()
    assert site.versions() == before


def test_what_is_written_is_valid_and_accounted_for(
    site: Site, request: pytest.FixtureRequest
) -> None:
    site.hold(site.report(HIGH, of_volume(42)))
    site.work()
    for value, one in site.observations().items():
        about = {"target": reference(one)}
        provenances = site.fhir.get("/Provenance", params=about).json()["entry"]
        written = [one, *(entry["resource"] for entry in provenances)]
        assert len(written) == 2
        for resource in written:
            profile = {"profile": PROFILES[value]} if resource is one else {}
            address = f"/{resource['resourceType']}/$validate"
            answer = site.fhir.post(address, json=resource, params=profile, headers=JSON)
            if answer.status_code == 404:  # the sandbox does not validate
                assert "sandbox" in request.node.name
                continue
            issues = answer.json()["issue"]
            assert [i for i in issues if i["severity"] in {"fatal", "error"}] == []


def test_an_amended_report_takes_the_place_of_the_first(site: Site) -> None:
    first = site.report(HIGH)
    site.hold(first)
    site.work()
    (old,) = site.observations().values()
    amended = site.report(VERY_HIGH, number=2, replaces=(f"{site.uid}.2.1",))
    site.hold(first, amended)
    site.work()
    links = site.links()
    after = site.fhir.get(f"/{reference(old)}").json()
    assert after["status"] == "entered-in-error"
    (new,) = links
    assert site.fhir.get(f"/{new}").json()["valueInteger"] == 5
    assert new != reference(old)


def test_a_report_that_says_something_else_amends_its_observation(site: Site) -> None:
    site.hold(site.report(HIGH))
    site.work()
    site.hold(site.report(VERY_HIGH))
    site.work()
    (one,) = site.observations().values()
    assert (one["valueInteger"], one["status"]) == (5, "amended")
    before = site.versions()
    site.work()
    assert site.versions() == before


def test_a_report_that_is_gone_leaves_an_error_and_no_link(site: Site) -> None:
    site.hold(site.report(HIGH))
    site.work()
    assert len(site.links()) == 1
    site.hold()
    site.work()
    (one,) = site.observations().values()
    assert one["status"] == "entered-in-error"
    assert site.links() == set()
    site.hold(site.report(HIGH))
    site.work()
    (one,) = site.observations().values()
    assert (one["status"], site.links()) == ("final", {reference(one)})


def test_a_report_that_cannot_be_read_changes_nothing(site: Site) -> None:
    site.hold(site.report(HIGH))
    site.work()
    before = site.versions()
    links = site.links()
    site.hold(unreadable=1)
    assert "not all readable" in site.work().sentence
    assert site.links() == links
    observed = [one["meta"]["versionId"] for one in site.observations().values()]
    assert observed == [version for name, version in before if name != site.study()["id"]]


def test_what_is_not_taken_is_told_with_its_reason(site: Site) -> None:
    site.hold(site.report(HIGH), site.report(VERY_HIGH, number=2))
    step = site.work()
    assert "No PR_PIRADSScore: reports of the study differ." in step.sentence
    assert site.observations() == {}


def test_a_preliminary_report_is_written_as_such_and_not_linked(site: Site) -> None:
    site.hold(site.report(HIGH, preliminary="PRELIMINARY"))
    site.work()
    (one,) = site.observations().values()
    assert (one["status"], site.links()) == ("preliminary", set())
    site.hold(site.report(HIGH))
    site.work()
    (one,) = site.observations().values()
    assert (one["status"], site.links()) == ("final", {reference(one)})


def test_off_unless_it_is_switched_on(site: Site) -> None:
    assert Config.model_validate(site.config().model_dump(exclude={"derived"})).derived == (
        site.config(enabled=False).derived
    )
    site.follow(enabled=False)
    site.hold(site.report(HIGH))
    site.work()
    assert site.observations() == {}
    site.follow()
    site.work()
    assert len(site.links()) == 1


def test_a_step_that_fails_between_study_and_observations_is_repaired(site: Site) -> None:
    site.hold(site.report(HIGH))
    site.shelf.is_down = True
    with pytest.raises(ArchiveServerError):
        site.work()
    assert site.observations() == {}
    site.shelf.is_down = False
    site.ledger.release("test")
    site.work()
    assert len(site.links()) == len(site.observations()) == 1


def test_what_the_archive_refuses_keeps_no_study_back(site: Site) -> None:
    site.hold(site.report(HIGH))
    site.shelf.is_refusing = True
    assert "not all readable" in site.work().sentence
    assert site.study()["status"] == "available"
    assert site.observations() == {}


def test_what_the_server_refuses_keeps_no_study_back(site: Site) -> None:
    value = f"urn:oid:{site.uid}.2.1#1.1"
    patient = found(site.fhir, "Patient", identifier=f"{site.system}|p1")[0]
    for _ in range(2):
        identifier = [{"system": "urn:ietf:rfc:3986", "value": value}]
        create(site.fhir, new_observation(patient, identifier=identifier))
    site.hold(site.report(HIGH))
    assert "refuses an Observation" in site.work().sentence
    assert site.study()["status"] == "available"
    assert site.links() == set()


def test_what_others_hold_under_the_identifier_is_not_touched(site: Site) -> None:
    value = f"urn:oid:{site.uid}.2.1#1.1"
    patient = found(site.fhir, "Patient", identifier=f"{site.system}|p1")[0]
    identifier = [{"system": "urn:ietf:rfc:3986", "value": value}]
    other = created(site.fhir, new_observation(patient, identifier=identifier))
    site.hold(site.report(HIGH))
    site.work()
    assert site.observations() == {}
    assert site.fhir.get(f"/{reference(other)}").json()["meta"]["versionId"] == "1"


def test_a_study_that_was_taken_back_takes_back_what_its_reports_stated(site: Site) -> None:
    site.hold(site.report(HIGH))
    site.work()
    title = Code("113037", "DCM")  # Rejected for Patient Safety Reasons
    assert site.shelf.received is not None
    taken_back = tuple(
        Reference(site.uid, one.series_instance_uid, one.instance.sop_instance_uid)
        for one in site.shelf.received
    )
    said = site.shelf.received[0].instance.header
    note = Header(KEY_OBJECTS, said.patient, said.study, key_objects=KeyObjects(title, taken_back))
    site.shelf.received += received([1], series=3, study=site.uid, said=note)
    site.work()
    assert site.study()["status"] == "entered-in-error"
    (one,) = site.observations().values()
    assert one["status"] == "entered-in-error"
    assert site.links() == set()
