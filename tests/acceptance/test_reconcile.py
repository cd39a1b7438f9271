"""Reconcile finds each way in which archive, ledger and FHIR server can differ, and mends it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import SyntheticPatient
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc

DIFFERENCES = {
    "changed": ("different", True),
    "grown": ("different", True),
    "gone": ("gone", False),
    "other_patient": ("wrong-patient", False),
    "duplicate": ("duplicate", False),
    "extra": ("extra", False),
    "absent": ("on-hold", None),
}
"""What is found, and whether `--repair` mends it without a person."""
NAMES = [*DIFFERENCES, "well"]
JSON = {"Content-Type": "application/fhir+json", "Cache-Control": "no-cache"}


@pytest.fixture(scope="module")
def pacs(new_orthanc: Callable[..., Orthanc]) -> Orthanc:
    """An Orthanc that holds the studies of these tests alone."""
    return new_orthanc()


@pytest.fixture
def site(make_site: Callable[[str, str | None], Site], pacs: Orthanc, hapi: Hapi) -> Site:
    return make_site(hapi.base_url, pacs.dicomweb_url)


def the_one(fhir_url: str, uid: str) -> dict[str, Any]:
    (found,) = imaging_studies(fhir_url, uid)
    return found


def put(fhir_url: str, resource: dict[str, Any]) -> None:
    kind, identity = resource["resourceType"], resource["id"]
    answer = httpx.put(f"{fhir_url}/{kind}/{identity}", json=resource, headers=JSON, timeout=60)
    assert answer.status_code == 200, answer.text


def post(fhir_url: str, resource: dict[str, Any]) -> str:
    kind = resource["resourceType"]
    answer = httpx.post(f"{fhir_url}/{kind}", json=resource, headers=JSON, timeout=60)
    assert answer.status_code == 201, answer.text
    return f"{kind}/{answer.json()['id']}"


def forget(pacs: Orthanc, uid: str) -> None:
    """Delete a study from Orthanc."""
    found = httpx.post(f"{pacs.base_url}/tools/lookup", content=uid, timeout=60).json()
    (own,) = [one["ID"] for one in found if one["Type"] == "Study"]
    assert httpx.delete(f"{pacs.base_url}/studies/{own}", timeout=60).status_code == 200


def told(answer: dict[str, Any]) -> dict[str | None, tuple[str, Any]]:
    """Each study's finding, and whether it was mended."""
    return {
        one["study_instance_uid"]: (one["finding"], one["mended"]) for one in answer["findings"]
    }


@dataclass
class Planted:
    """What was changed behind flute-sync's back, one difference for each study."""

    url: str
    pacs: Orthanc
    system: str
    uploads: dict[str, Upload] = field(default_factory=dict)
    new: Upload = field(default_factory=lambda: Upload(slices=1))
    stranger: str = ""
    copy: dict[str, Any] = field(default_factory=dict)
    retired: str = ""
    foreign: str = ""

    def before(self) -> None:
        """Fill the archive; nobody knows the patient of ``absent``."""
        self.uploads = {name: Upload(slices=1) for name in NAMES}
        for name, upload in self.uploads.items():
            if name != "absent":
                create_patient(self.url, upload.patient)
            held = upload.files[:3] if name == "grown" else upload.files
            assert store(self.pacs.dicomweb_url, held).status_code == 200

    def one(self, name: str) -> dict[str, Any]:
        return the_one(self.url, self.uploads[name].uid)

    def now(self) -> None:
        """Change everything."""
        changed = {**self.one("changed"), "numberOfInstances": 1, "description": "by somebody else"}
        put(self.url, changed)
        store(self.pacs.dicomweb_url, self.uploads["grown"].files)
        gone = f"{self.url}/ImagingStudy/{self.one('gone')['id']}"
        assert httpx.delete(gone, timeout=60).status_code in (200, 204)
        self.stranger = create_patient(self.url, Upload(slices=1).patient)
        put(self.url, {**self.one("other_patient"), "subject": {"reference": self.stranger}})
        own = self.one("duplicate")
        self.copy = {name: value for name, value in own.items() if name not in ("id", "meta")}
        self.copy["id"] = post(self.url, self.copy).partition("/")[2]
        forget(self.pacs, self.uploads["extra"].uid)
        create_patient(self.url, self.new.patient)
        store(self.pacs.dicomweb_url, self.new.files)
        self.retired = post(self.url, endpoint(self.system, "retired-dicom-wado-rs"))
        self.foreign = post(self.url, endpoint("urn:oid:9.9", "retired-dicom-wado-rs"))

    def by_a_person(self) -> None:
        """Do what only a person may."""
        put(self.url, {**self.copy, "status": "entered-in-error"})
        store(self.pacs.dicomweb_url, self.uploads["extra"].files)


@pytest.fixture
def planted(site: Site, hapi: Hapi, pacs: Orthanc) -> Planted:
    """A site in which all was well, and then much was not."""
    made = Planted(hapi.base_url, pacs, site.settings["site"]["system"])
    made.before()
    assert site.ask("import", "--all")["written"] == len(NAMES) - 1
    clean = site.ask("reconcile")
    assert clean["remaining"] == 0
    assert clean["compared"] >= len(NAMES)  # and what other sites have on the same FHIR server
    assert told(clean) == {made.uploads["absent"].uid: ("on-hold", None)}
    made.now()
    return made


@pytest.mark.timeout(900)
def test_each_difference_is_found_and_mended(site: Site, planted: Planted) -> None:
    uploads, url = planted.uploads, planted.url
    found = site.ask("reconcile", code=1)
    expected: dict[str | None, str] = {planted.new.uid: "missing", None: "orphaned-endpoint"}
    expected |= {uploads[name].uid: kind for name, (kind, _) in DIFFERENCES.items()}
    assert {uid: kind for uid, (kind, _) in told(found).items()} == expected
    assert found["remaining"] == len(expected) - 1
    reasons = {one["study_instance_uid"]: one["reasons"] for one in found["findings"]}
    assert reasons[uploads["grown"].uid] == ["the archive changed"]
    assert "fewer instances than the archive states" in reasons[uploads["changed"].uid]
    assert set(found["mended"].values()) == {0}
    assert planted.one("changed")["numberOfInstances"] == 1  # nothing was written
    assert imaging_studies(url, planted.new.uid) == []

    outcome = told(site.ask("reconcile", "--repair", code=1))
    mended = {name: outcome[uploads[name].uid][1] for name in DIFFERENCES}
    assert mended == {name: done for name, (_, done) in DIFFERENCES.items()}
    assert outcome[planted.new.uid] == ("missing", True)
    assert outcome[None] == ("orphaned-endpoint", True)
    for name in ("changed", "grown"):
        assert planted.one(name)["numberOfInstances"] == len(uploads[name].files)
    assert planted.one("other_patient")["subject"]["reference"] == planted.stranger
    assert site.ask("study", uploads["other_patient"].uid)["code"] == "PATIENT-CHANGED"
    assert len(imaging_studies(url, planted.new.uid)) == 1
    assert httpx.get(f"{url}/{planted.retired}", timeout=60).json()["status"] == "off"
    assert httpx.get(f"{url}/{planted.foreign}", timeout=60).json()["status"] == "active"

    planted.by_a_person()
    with running(site):
        for uid in (uploads["gone"].uid, uploads["other_patient"].uid):
            assert site.run("retry", uid).returncode == 0
            eventually(partial(is_done, site, uid), what=uid, every=0.5)
        # What the archive lacked is looked for again in hours.
        resting = {"completed", "on-hold"}
        others = uploads.keys() - {"extra"}
        eventually(
            lambda: {site.states()[uploads[name].uid] for name in others} <= resting,
            what="no work",
        )
        assert site.stop() == 0
    site.run("reconcile", "--repair")
    clean = site.ask("reconcile")
    assert told(clean) == {uploads["absent"].uid: ("on-hold", None)}


def is_done(site: Site, uid: str) -> bool:
    return site.state(uid) == "completed"


def endpoint(system: str, value: str) -> dict[str, Any]:
    return {
        "resourceType": "Endpoint",
        "identifier": [{"system": system, "value": value}],
        "status": "active",
        "connectionType": {"code": "dicom-wado-rs"},
        "payloadType": [{"text": "DICOM"}],
        "address": "http://retired.example/dicom-web",
    }


def test_a_merged_patient_is_the_right_one(sandbox_site: Site, sandbox: Sandbox) -> None:
    upload = Upload(slices=1)
    old = create_patient(sandbox.fhir_url, upload.patient)
    store(sandbox.dicomweb_url, upload.files)
    sandbox_site.ask("import", "--all")
    survivor = create_patient(sandbox.fhir_url, SyntheticPatient("SURVIVOR"))
    patient = httpx.get(f"{sandbox.fhir_url}/{old}", timeout=60).json()
    link = [{"other": {"reference": survivor}, "type": "replaced-by"}]
    put(sandbox.fhir_url, {**patient, "active": False, "link": link})
    study = the_one(sandbox.fhir_url, upload.uid)
    put(sandbox.fhir_url, {**study, "subject": {"reference": survivor}})
    found = sandbox_site.ask("reconcile", code=1)
    assert [one["finding"] for one in found["findings"]] == ["different"]
    assert sandbox_site.ask("reconcile", "--repair")["remaining"] == 0
    assert the_one(sandbox.fhir_url, upload.uid)["subject"]["reference"] == survivor


def test_nothing_of_a_patient_is_told(sandbox_site: Site, sandbox: Sandbox) -> None:
    patient = SyntheticPatient("SECRET-91", family_name="Geheimnis")
    known, absent = Upload(patient, slices=1), Upload(SyntheticPatient("SECRET-92"), slices=1)
    create_patient(sandbox.fhir_url, patient)
    store(sandbox.dicomweb_url, known.files)
    sandbox_site.settings["log"] = {"format": "json", "level": "debug"}
    sandbox_site.ask("import", "--all")
    store(sandbox.dicomweb_url, absent.files)
    texts = []
    for arguments in ([], ["--json"], ["--repair"], ["--repair", "--json"]):
        done = sandbox_site.run("reconcile", *arguments)
        assert done.returncode in (0, 1), done.stderr
        texts += [done.stdout, done.stderr]
    assert not [text for text in texts if "SECRET" in text or "Geheimnis" in text]


def test_a_server_that_is_down_says_nothing_about_studies(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    store(sandbox.dicomweb_url, upload.files)
    assert sandbox_site.ask("reconcile", code=78)["error"]["code"] == "LEDGER-ABSENT"
    sandbox_site.ask("import", "--all")
    sandbox_site.settings["archive"]["dicomweb_url"] = "http://127.0.0.1:9/dicom-web"
    down = sandbox_site.ask("reconcile", "--repair", code=69)
    assert down["error"]["code"] == "ARCHIVE-UNAVAILABLE"
    assert the_one(sandbox.fhir_url, upload.uid)["status"] == "available"
