"""Whose an existing ImagingStudy is: what does not say so clearly is not overwritten."""

from typing import Any

import httpx
import pytest

from flute_sync.daemon.subject import Subjects
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.imaging_studies import Found
from flute_sync.fhir.patients import Patients
from flute_sync.patient import Identity, PatientKey, PatientSettings
from flute_sync.patient_errors import PatientChanged
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
