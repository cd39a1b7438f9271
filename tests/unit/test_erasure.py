"""What of a patient's resources is ours to delete, and by what he is known again."""

from typing import Any

import pytest

from flute_sync.erasure import (
    Fate,
    cleared,
    is_derived,
    is_witness,
    judge_observation,
    judge_study,
    numbering,
    stated_as,
)
from flute_sync.fhir.traces import targets_of
from flute_sync.identity import PatientKey, PatientSettings
from flute_sync.ownership import digest, foreign
from flute_sync.study import Issuer, PatientId
from flute_sync.terminology import FLUTE_IMAGING_STUDY, FLUTE_SUPPORTING_INFO, FLUTE_SYNC_TAG

SOURCE = "https://pacs.example/dicom-web"
UID = "1.2.3"
OURS: dict[str, Any] = {
    "resourceType": "ImagingStudy",
    "meta": {"source": SOURCE, "profile": [FLUTE_IMAGING_STUDY]},
    "identifier": [
        {"use": "official", "system": "urn:dicom:uid", "value": f"urn:oid:{UID}"},
        {"value": UID},
    ],
    "status": "available",
    "subject": {"reference": "Patient/1"},
    "endpoint": [{"reference": "Endpoint/1"}],
    "series": [{"uid": "1.2.3.1", "modality": {"code": "MR"}, "instance": [{"uid": "1.2.3.1.1"}]}],
}
DIGEST = digest(OURS)
THEIRS = {
    "resourceType": "ImagingStudy",
    "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{UID}"}],
}


def stored(**more: Any) -> dict[str, Any]:
    """As a server keeps it."""
    meta = {**OURS["meta"], "source": f"{SOURCE}#r1", "versionId": "2", "lastUpdated": "2026-11-22"}
    return {**OURS, "id": "7", "meta": meta, "text": {"status": "generated"}, **more}


def fate(current: dict[str, Any], **more: Any) -> tuple[Fate, str]:
    known: dict[str, Any] = {
        "last_digest": DIGEST,
        "is_known": True,
        "oldest": stored(),
        "sources": {SOURCE},
    }
    judged = judge_study(current, **(known | more))
    return judged.fate, judged.reason


def test_what_we_made_and_nobody_changed_goes() -> None:
    assert foreign(stored(), DIGEST) == frozenset()
    assert fate(stored())[0] is Fate.DELETE
    assert fate(stored(), oldest=None)[0] is Fate.DELETE
    assert fate(stored(), last_digest=None, is_known=False)[0] is Fate.DELETE  # by its source


@pytest.mark.parametrize(
    ("element", "value"),
    [
        ("note", [{"text": "seen"}]),
        ("extension", [{"url": "http://other", "valueString": "x"}]),
        ("identifier", [*OURS["identifier"], {"system": "urn:acc", "value": "A1"}]),
        ("endpoint", [*OURS["endpoint"], {"reference": "Endpoint/9"}]),
        ("interpreter", [{"reference": "Practitioner/1"}]),
        ("series", [*OURS["series"], {"uid": "1.2.3.2"}]),
        ("series", [{**OURS["series"][0], "performer": [{"actor": {"display": "x"}}]}]),
    ],
)
def test_what_others_added_is_not_deleted(element: str, value: Any) -> None:
    current = stored(**{element: value})
    assert foreign(current, DIGEST) == {element}
    assert fate(current) == (Fate.CLEAR, f"others added {element}")


def test_without_a_digest_what_we_never_write_counts_as_others() -> None:
    assert fate(stored(note=[]), last_digest=None)[0] is Fate.CLEAR
    assert fate(stored(), last_digest=None)[0] is Fate.DELETE


def test_what_another_system_made_is_not_deleted() -> None:
    assert fate(stored(), oldest=THEIRS) == (Fate.CLEAR, "another system made it")
    # Ours by its identifier, though the archive has another address since.
    assert fate(stored(), oldest={**OURS, "meta": {"source": "old"}})[0] is Fate.DELETE
    assert fate({**THEIRS, "id": "8"}, is_known=False, last_digest=None) == (
        Fate.LEAVE,
        "another system wrote it",
    )


def test_what_is_ours_is_taken_out_of_what_is_not() -> None:
    link = {"url": FLUTE_SUPPORTING_INFO, "valueReference": {"reference": "Observation/1"}}
    their_link = {"url": FLUTE_SUPPORTING_INFO, "valueReference": {"reference": "Observation/2"}}
    current = stored(
        note=[{"text": "seen"}],
        extension=[link, their_link],
        endpoint=[{"reference": "Endpoint/1"}, {"reference": "Endpoint/9"}],
    )
    current["meta"]["profile"] = [FLUTE_IMAGING_STUDY, "http://other/profile"]
    left = cleared(
        current,
        links=["Observation/1"],
        endpoints={"Endpoint/1"},
        sources={SOURCE},
        base_url="http://fhir",
    )
    assert left["extension"] == [their_link]
    assert left["endpoint"] == [{"reference": "Endpoint/9"}]
    assert left["meta"] == {
        "versionId": "2",
        "lastUpdated": "2026-11-22",
        "profile": ["http://other/profile"],
    }
    for kept in ("id", "note", "status", "subject", "series", "identifier"):
        assert left[kept] == current[kept]


def test_observations_are_ours_by_their_tag_and_while_nobody_extends_them() -> None:
    tagged = {
        "resourceType": "Observation",
        "id": "1",
        "meta": {"tag": [{"system": FLUTE_SYNC_TAG, "code": "derived"}]},
        "status": "final",
        "code": {},
        "valueInteger": 4,
    }
    assert is_derived(tagged)
    assert not is_derived({**tagged, "meta": {"tag": [{"system": "urn:other"}]}})
    assert not is_derived({})
    assert judge_observation(tagged).fate is Fate.DELETE
    assert judge_observation({**tagged, "note": []}).fate is Fate.LEAVE


def test_a_provenance_is_ours_when_we_alone_speak_of_one_thing() -> None:
    me = {"type": "Device", "identifier": {"system": "urn:site", "value": "flute-sync"}}
    other = {"reference": "Practitioner/1"}
    target = [{"reference": "ImagingStudy/7"}]
    older = {**me, "display": "flute-sync 0.1"}
    assert is_witness({"target": target, "agent": [{"who": older}]}, me)
    assert not is_witness({"target": target * 2, "agent": [{"who": me}]}, me)
    assert not is_witness({"target": target, "agent": [{"who": me}, {"who": other}]}, me)
    assert not is_witness({"target": target, "agent": [{"who": other}]}, me)
    assert not is_witness({"target": target}, me)
    another = {**me, "identifier": {"system": "urn:other-site", "value": "flute-sync"}}
    assert not is_witness({"target": target, "agent": [{"who": another}]}, me)


def test_a_patient_is_known_by_what_means_nobody_else_in_any_archive() -> None:
    site = PatientSettings(default_system="urn:a", systems={"HOSP": "urn:a", "LAB": "urn:b"})
    key = PatientKey("urn:a", "P1")
    assert stated_as([key], [site]) == {PatientId("P1"), PatientId("P1", Issuer("HOSP"))}
    # Another archive numbers its patients by itself: there P1 alone is somebody else.
    other = site.model_copy(update={"default_system": "urn:c"})
    assert stated_as([key], [site, other]) == {PatientId("P1", Issuer("HOSP"))}
    nobody = site.model_copy(update={"default_system": None})
    assert stated_as([key], [site, nobody]) == {PatientId("P1", Issuer("HOSP"))}
    assert stated_as([PatientKey("urn:x", "P1")], [site]) == frozenset()


def test_numbers_mean_the_same_until_the_settings_say_that_they_are_of_another_system() -> None:
    site = PatientSettings(default_system="urn:a", systems={"HOSP": "urn:h", "CLINIC": "urn:c"})
    turned = PatientSettings(default_system="urn:a", systems={"CLINIC": "urn:c", "HOSP": "urn:h"})
    said = numbering([site])
    assert numbering([site, turned, site.model_copy(update={"policy": "create"})]) == said
    for other in ({"default_system": "urn:b"}, {"systems": {"HOSP": "urn:h"}}):
        assert numbering([site.model_copy(update=other)]) != said
        assert numbering([site, site.model_copy(update=other)]) != said


def test_whatever_refers_to_something_is_found() -> None:
    report = {
        "subject": {"reference": "Patient/1"},
        "imagingStudy": [{"reference": "http://fhir/ImagingStudy/7"}],
        "extension": [{"valueReference": {"reference": "Observation/2/_history/3"}}],
        "contained": [{"reference": 5}],
    }
    assert targets_of(report, "http://fhir") == {"Patient/1", "ImagingStudy/7", "Observation/2"}
