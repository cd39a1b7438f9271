"""Whose an existing ImagingStudy is: what does not say so clearly is not overwritten."""

from typing import Any

import httpx
import pytest

from flute_sync.daemon.subject import Last, Subjects
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.imaging_studies import Found
from flute_sync.fhir.patients import Patients
from flute_sync.identity import Identity, PatientKey, PatientSettings
from flute_sync.patient import Subject
from flute_sync.patient_errors import PatientAbsent, PatientChanged, PatientGone
from flute_sync.selection import SelectSettings

BASE = "http://fhir.example/fhir"
KEY = {"system": "urn:a", "value": "1"}
PATIENT = {"resourceType": "Patient", "id": "p", "identifier": [KEY]}


def _resolve(subject: dict[str, Any], contained: tuple[dict[str, Any], ...] = ()) -> str:
    answers = httpx.MockTransport(lambda _request: httpx.Response(404))
    client = FhirClient(FhirSettings(base_url=BASE), transport=answers)
    subjects = Subjects(Patients(client, PatientSettings()), SelectSettings(), client.base_url)
    study = {"resourceType": "ImagingStudy", "subject": subject, "contained": list(contained)}
    found = Found(study, patients=(PATIENT,))
    identity = Identity(PatientKey("urn:a", "1"))
    return str(subjects.resolve(identity, found, confirmed=False).reference["reference"])


@pytest.mark.parametrize(
    ("subject", "contained"),
    [
        ({"reference": "Patient/p"}, ()),
        ({"reference": f"{BASE}/Patient/p"}, ()),
        ({"reference": "Patient/p/_history/3"}, ()),
        ({"identifier": KEY}, ()),
        ({"reference": "http://other.example/fhir/Patient/9", "identifier": KEY}, ()),
        ({"reference": "#p"}, ({"id": "p", "identifier": [KEY]},)),
        ({"display": "Somebody"}, ()),
    ],
)
def test_the_same_patient_is_taken_over(
    subject: dict[str, Any], contained: tuple[dict[str, Any], ...]
) -> None:
    assert _resolve(subject, contained) == "Patient/p"


@pytest.mark.parametrize(
    ("subject", "contained"),
    [
        ({"reference": "Patient/q"}, ()),
        ({"reference": "http://other.example/fhir/Patient/p"}, ()),
        ({"reference": "urn:uuid:0c1ff1cb-7d1f-4d5c-9d3e-4f5ad1f0a5b1"}, ()),
        ({"identifier": {"system": "urn:a", "value": "2"}}, ()),
        ({"reference": "#p"}, ({"id": "p", "identifier": [{"system": "urn:b", "value": "1"}]},)),
    ],
)
def test_another_or_unknown_patient_is_not_overwritten(
    subject: dict[str, Any], contained: tuple[dict[str, Any], ...]
) -> None:
    with pytest.raises(PatientChanged):
        _resolve(subject, contained)


def _subjects(policy: str = "lookup") -> Subjects:
    answers = httpx.MockTransport(lambda _request: httpx.Response(404))
    client = FhirClient(FhirSettings(base_url=BASE), transport=answers)
    patients = Patients(client, PatientSettings(policy=policy))
    return Subjects(patients, SelectSettings(), client.base_url)


IDENTITY = Identity(PatientKey("urn:a", "1"))


def test_who_was_sorted_anew_is_followed_where_the_archive_says_the_same() -> None:
    """A merge undone, or a Patient with a new number: the identifier decides, as at first."""
    found = Found({"subject": {"reference": "Patient/q"}}, patients=(PATIENT,))
    ours = Last(is_same_identity=True, patient_reference="Patient/q")
    subject = _subjects().resolve(IDENTITY, found, confirmed=False, last=ours)
    assert subject.reference["reference"] == "Patient/p"


@pytest.mark.parametrize(
    "last",
    [
        Last(is_same_identity=False, patient_reference="Patient/q"),  # the archive was corrected
        Last(is_same_identity=True, patient_reference="Patient/x"),  # somebody else moved it
        Last(is_same_identity=True, patient_reference=None),
    ],
)
def test_another_reason_for_another_patient_is_a_persons_matter(last: Last) -> None:
    found = Found({"subject": {"reference": "Patient/q"}}, patients=(PATIENT,))
    with pytest.raises(PatientChanged):
        _subjects().resolve(IDENTITY, found, confirmed=False, last=last)
    confirmed = _subjects().resolve(IDENTITY, found, confirmed=True, last=last)
    assert confirmed.reference["reference"] == "Patient/p"


@pytest.mark.parametrize("policy", ["lookup", "logical", "create"])
def test_a_patient_who_is_gone_is_not_made_again(policy: str) -> None:
    found = Found({"subject": {"reference": "Patient/q"}})
    same = Last(is_same_identity=True, patient_reference="Patient/q")
    with pytest.raises(PatientGone):
        _subjects(policy).resolve(IDENTITY, found, confirmed=False, last=same)


@pytest.mark.parametrize(
    ("policy", "error"),
    [("lookup", PatientAbsent), ("logical", PatientChanged), ("create", PatientChanged)],
)
def test_nobody_is_made_for_a_study_that_is_of_somebody_else(
    policy: str, error: type[Exception]
) -> None:
    found = Found({"subject": {"reference": "Patient/q"}})
    with pytest.raises(error):
        _subjects(policy).resolve(IDENTITY, found, confirmed=False)


@pytest.mark.parametrize(
    ("current", "moves"),
    [
        ({"reference": "Patient/p"}, False),
        ({"reference": f"{BASE}/Patient/p/_history/2"}, False),
        ({"reference": "Patient/q"}, True),
        ({"identifier": KEY}, False),
        ({"identifier": {"system": "urn:a", "value": "2"}}, True),
        ({"display": "Somebody"}, False),
        (None, False),
    ],
)
def test_what_counts_as_a_move(current: dict[str, Any] | None, moves: bool) -> None:
    study = None if current is None else {"subject": current}
    subject = Subject({"reference": "Patient/p", "type": "Patient"}, PATIENT)
    assert _subjects().moves(study, subject) is moves
