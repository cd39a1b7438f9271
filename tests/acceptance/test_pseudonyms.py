"""A research FHIR server that must not hold what identifies a patient."""

import csv
import io
import itertools
import json
import sqlite3
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from pydicom import dcmread
from pydicom._dicom_dict import DicomDictionary
from pydicom.dataset import Dataset

from flute_sync.errors import EXIT_CONFIG
from flute_sync.pseudonym import Kind as PseudonymKind
from flute_sync.pseudonym import PseudonymKey, ShiftRule
from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import part10
from tests.acceptance.clinic import Clinic
from tests.acceptance.conftest import SYSTEM, Upload, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.services.hapi import Hapi
from tests.tap import Tap

MARKER = "GEHEIM"
PSEUDONYMS = "urn:test:pseudonyms"
KEY = "a key of the site's own, long enough to be one"
STUDY_DATE = date(2024, 3, 1)
BIRTH_DATE = date(1951, 4, 12)
# What names somebody or something, or is free text: patient, study, visit, request, equipment.
GROUPS = {0x0008, 0x0010, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040}
TEXTS = {"PN": 60, "LO": 60, "SH": 15, "AE": 15, "ST": 60, "LT": 60, "UT": 60, "UC": 60}
KEPT = {
    *("Manufacturer", "ManufacturerModelName", "CodingSchemeDesignator", "CodingSchemeVersion"),
    *("CodeValue", "LongCodeValue", "SequenceName", "UniversalEntityID"),
}
_numbers = itertools.count()


def marker(length: int = 60) -> str:
    return f"{MARKER}{next(_numbers):06d}"[:length]


def mark(dataset: Dataset) -> None:
    """Put a marker into every attribute of a study that may identify, and what refers to one."""
    for tag, (vr, multiplicity, _, retired, keyword) in DicomDictionary.items():
        is_text = vr in TEXTS and multiplicity in ("1", "1-n") and not retired
        if tag >> 16 in GROUPS and is_text and keyword not in KEPT:
            setattr(dataset, keyword, marker(TEXTS[vr]))
    dataset.PatientBirthDate = BIRTH_DATE.strftime("%Y%m%d")
    dataset.OtherPatientIDsSequence = [_item(PatientID=marker(), IssuerOfPatientID="OTHER")]
    person = _item(PersonIdentificationCodeSequence=[_code("A1", "SCT")], InstitutionName=marker())
    dataset.ReferringPhysicianIdentificationSequence = [person]
    dataset.RequestAttributesSequence = [
        _item(
            AccessionNumber=marker(15),
            RequestedProcedureID=marker(15),
            RequestedProcedureDescription=marker(),
            ReasonForTheRequestedProcedure=marker(),
            ScheduledProcedureStepID=marker(15),
            ReasonForRequestedProcedureCodeSequence=[_code("399068003", "SCT")],
        )
    ]
    dataset.ProcedureCodeSequence = [_code("RPID2235", "RADLEX"), _code("LOCAL", "99LOCAL")]
    dataset.AnatomicRegionSequence = [_code("41216001", "SCT")]


def _item(**elements: Any) -> Dataset:
    item = Dataset()
    for keyword, value in elements.items():
        setattr(item, keyword, value)
    return item


def _code(value: str, scheme: str) -> Dataset:
    return _item(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=marker())


def marked(upload: Upload, patient_id: str = f"{MARKER} 0042") -> list[bytes]:
    """Return the files of an upload, each alike marked."""
    template, files = Dataset(), []
    mark(template)
    for file in upload.files:
        dataset = dcmread(io.BytesIO(file))
        dataset.update(template)
        dataset.PatientID = patient_id
        dataset.IssuerOfPatientID = f"{MARKER} HOSPITAL"
        files.append(part10(dataset))
    return files


def contents(sandbox: Sandbox, folder: Any) -> Iterator[str]:
    """Yield every version of every resource, and all that is indexed of them."""
    with closing(sqlite3.connect(folder / "sandbox" / "fhir.db", timeout=60)) as database:
        for (body,) in database.execute("SELECT body FROM version"):
            yield bytes(body or b"").decode()
        for row in database.execute("SELECT system, value FROM entry"):
            yield "|".join(row)


@pytest.fixture
def site(sandbox_site: Site, tap: Tap) -> Site:
    return pseudonymous(sandbox_site, tap)


def pseudonymous(site: Site, tap: Tap) -> Site:
    """Let a site know patients by pseudonyms alone, and whatever it says to FHIR be kept."""
    key = site.folder / "pseudonym.key"
    key.write_text(f"{KEY}\n")
    key.chmod(0o400)
    site.settings["fhir"] |= {"base_url": tap.url, "provenance": True}
    site.settings["patient"] |= {"systems": {f"{MARKER} HOSPITAL": SYSTEM}}
    site.settings["imaging_study"] = {"accession_identifier": True, "encounter": True}
    site.settings["imaging_study"] |= {"study_id_system": "urn:test:study-ids"}
    site.settings["pseudonyms"] = {
        "mode": "hmac",
        "key_file": str(key),
        "system": PSEUDONYMS,
        "dates": "shifted-here",
    }
    return site


def pseudonym(site: Site, value: str, kind: str = "patient") -> dict[str, str]:
    """Ask for one pseudonym as who sends clinical data does."""
    done = site.run("pseudonym", "--kind", kind, "--system", SYSTEM, text=f"{value}\n")
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(io.StringIO(done.stdout))
    return row


@pytest.mark.parametrize("policy", ["lookup", "logical", "create"])
def test_nothing_that_identifies_reaches_the_fhir_server(
    policy: str, site: Site, sandbox: Sandbox, tap: Tap
) -> None:
    site.settings["patient"] |= {"policy": policy, "use_other_ids": True}
    upload = Upload(slices=1)
    who = PseudonymKey(KEY.encode()).pseudonym(PseudonymKind.PATIENT, SYSTEM, f"{MARKER} 0042")
    days = ShiftRule(364).days(PseudonymKey(KEY.encode()), who)
    shift, told = timedelta(days=days), ""
    clinic = Clinic(sandbox.fhir_url)
    psa = None
    if policy == "lookup":
        assert pseudonym(site, f"{MARKER} 0042") == {
            "id": f"{MARKER} 0042",
            "pseudonym": who,
            "shift_days": str(days),
        }
        identifier = {"system": PSEUDONYMS, "value": who}
        person = {"resourceType": "Patient", "identifier": [identifier], "gender": "male"}
        patient = clinic.create(person | {"birthDate": str((BIRTH_DATE + shift).year)})
        psa = clinic.psa(patient, STUDY_DATE + shift - timedelta(days=10))
    with running(site):
        store(site.stow_url, marked(upload))
        eventually(lambda: site.state(upload.uid) == "completed", what="the study")
        (study,) = imaging_studies(sandbox.fhir_url, upload.uid)
        if policy == "lookup":
            told = site.run("study", upload.uid, "--explain").stdout
            # The service looks again soon after it starts, for what FHIR had: owed meanwhile.
            eventually(lambda: not site.ask("reconcile")["findings"], what="nothing found")
    assert study["started"].startswith(str(STUDY_DATE + shift))
    assert {one["code"] for one in study["meta"]["security"]} == {"PSEUDED"}
    assert {one["code"] for one in study["meta"]["tag"]} == {"date-shifted"}
    assert "description" not in study
    if policy == "lookup":
        assert [*clinic.links(upload.uid)] == [psa]
    elif policy == "logical":
        assert study["subject"]["identifier"]["value"] == who
    else:
        (made,) = [one for one in map(_resource, contents(sandbox, site.folder.parent)) if one]
        assert made.keys() - {"id", "meta"} == (
            {"resourceType", "identifier", "active", "gender", "birthDate"}
        )
        assert made["birthDate"] == str((BIRTH_DATE + shift).year)
    said = tap.said.decode("utf-8", "replace")
    stored = [*contents(sandbox, site.folder.parent)]
    for text in (said, *stored, *site.lines, told):
        assert MARKER not in text
        assert not [one for one in (STUDY_DATE, BIRTH_DATE) if str(one) in text]
        assert "20240301" not in text
    for text in (said, "".join(stored)):
        assert who in text


def _resource(text: str) -> dict[str, Any] | None:
    found = json.loads(text) if text.startswith("{") else {}
    return found if found.get("resourceType") == "Patient" else None


def test_a_real_server_holds_pseudonyms_alone_and_forgets_them(real_site: Site, hapi: Hapi) -> None:
    """Nothing of it is in any version; the hospital's own number is enough to erase all of it."""
    upload, patient_id = Upload(slices=1), f"{MARKER} {uuid.uuid4().hex[:8]}"
    who = PseudonymKey(KEY.encode()).pseudonym(PseudonymKind.PATIENT, SYSTEM, patient_id)
    shift = timedelta(days=ShiftRule(364).days(PseudonymKey(KEY.encode()), who))
    clinic = Clinic(hapi.base_url)
    identifier = {"system": PSEUDONYMS, "value": who}
    patient = clinic.create({"resourceType": "Patient", "identifier": [identifier]})
    psa = clinic.psa(patient, STUDY_DATE + shift - timedelta(days=10))
    audit = real_site.folder / "audit.jsonl"
    real_site.settings["erase"] = {"audit_file": str(audit)}
    with Tap(hapi.base_url) as tap, running(pseudonymous(real_site, tap)) as site:
        files = marked(upload, patient_id)
        assert store(site.stow_url, files).status_code == 200
        eventually(lambda: site.state(upload.uid) == "completed", what="the study")
        study, witnesses = clinic.study(upload.uid), clinic.provenances(upload.uid)
        assert [*clinic.links(upload.uid)] == [psa]
        assert study["subject"]["reference"] == patient
        assert study["started"].startswith(str(STUDY_DATE + shift))
        assert clinic.faults(study) == []
        made = [f"{one['resourceType']}/{one['id']}" for one in (study, *witnesses)]
        said = [tap.said.decode(), *(past(hapi, one).text for one in made)]
        for text in (*said, *site.lines):
            assert MARKER not in text
            assert not [one for one in (STUDY_DATE, BIRTH_DATE) if str(one) in text]
        named = f"{SYSTEM}|{patient_id}\n"
        done = site.run("erase", "--patient", "-", "--yes", "--why", "withdrawal", text=named)
        assert done.returncode == 0, done.stdout + done.stderr
        assert {past(hapi, one).status_code for one in made} == {404}
        kept = b"".join(one.read_bytes() for one in site.folder.glob("ledger.db*"))
        for one in (patient_id, who, patient, upload.uid):
            assert one.encode() not in kept
            assert one not in audit.read_text()
        assert store(site.stow_url, files).status_code == 200  # the archive has it
        eventually(lambda: site.logged("study.erased"), what="refused")
        assert site.states() == {}
        assert not imaging_studies(hapi.base_url, upload.uid)


def past(hapi: Hapi, reference: str) -> httpx.Response:
    """Return all versions of a resource, whatever the server cached."""
    return httpx.get(
        f"{hapi.base_url}/{reference}/_history",
        params={"_since": "1970-01-01T00:00:00Z"},
        timeout=60,
    )


def test_identified_and_pseudonymised_studies_do_not_meet(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    """By default the first study decides; it is for good, whatever the settings say later."""
    sandbox_site.settings["patient"] |= {"policy": "logical"}
    known, other = Upload(slices=1), Upload(slices=1)
    with running(sandbox_site) as site:
        store(site.stow_url, known.files)
        eventually(lambda: site.state(known.uid) == "completed", what="the first study")
        store(site.stow_url, [part10(_removed(file)) for file in other.files])
        eventually(lambda: site.state(other.uid) == "on-hold", what="the other study")
        assert site.ask("study", other.uid)["code"] == "PATIENT-PSEUDONYMISED"
        assert imaging_studies(sandbox.fhir_url, other.uid) == []
        assert site.stop() == 0
    site.settings["pseudonyms"] = {"sources": "pseudonymised"}
    refused(site, "its sources are identified, not pseudonymised")
    key = site.folder / "pseudonym.key"
    key.write_text(KEY)
    key.chmod(0o400)
    site.settings["pseudonyms"] = {"mode": "hmac", "key_file": str(key), "system": PSEUDONYMS}
    refused(site, "with pseudonyms now, unlike before")
    key.chmod(0o444)
    (verdict,) = [
        one for one in site.ask("check", code=78)["checks"] if one["check"] == "pseudonyms"
    ]
    assert verdict["code"] == "CONFIG-PSEUDONYM-KEY"


def _removed(file: bytes) -> Dataset:
    dataset = dcmread(io.BytesIO(file))
    dataset.PatientIdentityRemoved = "YES"
    return dataset


def refused(site: Site, why: str) -> None:
    """Assert that the service does not start."""
    site.launch()
    assert site.wait() == EXIT_CONFIG
    said = "".join(site.lines)
    assert "LEDGER-PSEUDONYMS" in said
    assert why in said
