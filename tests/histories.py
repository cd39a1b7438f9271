"""Invented clinical histories: what a patient's MRIs and FLUTE variables may look like on a server.

Each builder makes one resource of the shape of the guide's examples; `history` draws a whole
patient from a seed. Nobody's data.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from flute_sync.link_case import Case
from flute_sync.link_settings import LinkSettings

DCM = "http://dicom.nema.org/resources/ontology/DCM"
SNOMED_CT = "http://snomed.info/sct"
SNOMED_CT_OID = "urn:oid:2.16.840.1.113883.6.96"
LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
PROSTATE = {"system": SNOMED_CT, "code": "41216001"}
KNEE = {"system": SNOMED_CT, "code": "72696002", "display": "Knee"}
PELVIS = {"system": SNOMED_CT, "code": "816092008", "display": "Pelvis"}
LOCAL_ICD = {"system": "http://hl7.org/fhir/sid/icd-10", "code": "C61"}
SITE = {**PROSTATE, "display": "Prostatic structure (body structure)"}
ROOT = "1.2.826.0.1.3680043.8.498.5"
PATIENT = "Patient/p1"
START = date(2023, 1, 1)

Resource = dict[str, Any]


def patient(birth: str | None = "1960-05-17", name: str = "p1") -> Resource:
    """A Patient."""
    found: Resource = {"resourceType": "Patient", "id": name, "active": True}
    return found if birth is None else {**found, "birthDate": birth}


def uid(name: str) -> str:
    """The Study Instance UID of the study of this name."""
    return f"{ROOT}.{int.from_bytes(name.encode(), 'big')}"


def study(
    name: str,
    started: str | None,
    *,
    modality: str = "MR",
    site: Resource | None = PROSTATE,
    subject: str = PATIENT,
    **elements: Any,
) -> Resource:
    """An ImagingStudy; by default an MRI of the prostate."""
    series: Resource = {"uid": "1.2.3", "modality": {"system": DCM, "code": modality}}
    found: Resource = {
        "resourceType": "ImagingStudy",
        "id": name,
        "status": "available",
        "identifier": [
            {"system": "urn:dicom:uid", "value": f"urn:oid:{uid(name)}"},
            {"value": uid(name)},
        ],
        "subject": {"reference": subject},
        "series": [series | ({"bodySite": site} if site else {})],
    }
    return found | ({"started": started} if started else {}) | elements


def observation(name: str, code: Resource, effective: object, **elements: Any) -> Resource:
    """An Observation; ``effective`` is a dateTime, a Period or None."""
    found: Resource = {
        "resourceType": "Observation",
        "id": name,
        "status": "final",
        "code": {"coding": [code]},
        "subject": {"reference": PATIENT},
    }
    return found | _when("effective", effective) | elements


def procedure(name: str, code: Resource, performed: object, **elements: Any) -> Resource:
    """A Procedure; ``performed`` is a dateTime, a Period, an age in years or None."""
    found: Resource = {
        "resourceType": "Procedure",
        "id": name,
        "status": "completed",
        "code": {"coding": [code]},
        "subject": {"reference": PATIENT},
        "bodySite": [{"coding": [SITE]}],
    }
    return found | _when("performed", performed) | elements


def _when(element: str, value: object) -> Resource:
    if value is None:
        return {}
    if isinstance(value, int):
        return {f"{element}Age": {"value": value, "code": "a", "system": UCUM}}
    return {f"{element}{'Period' if isinstance(value, dict) else 'DateTime'}": value}


def psa(name: str, effective: object, value: object = Decimal("5.1"), **elements: Any) -> Resource:
    """A PSA value."""
    code = {
        "system": LOINC,
        "code": "2857-1",
        "display": "Prostate specific Ag [Mass/volume] in Serum or Plasma",
    }
    quantity = {"value": value, "unit": "ng/mL", "system": UCUM, "code": "ng/mL"}
    return observation(name, code, effective, valueQuantity=quantity) | elements


def pi_rads(name: str, effective: object, **elements: Any) -> Resource:
    """A PI-RADS score."""
    code = {
        "system": SNOMED_CT,
        "code": "719178004",
        "display": "Multiparametric magnetic resonance imaging of prostate",
    }
    return observation(name, code, effective, valueInteger=3) | elements


def volume(name: str, effective: object, **elements: Any) -> Resource:
    """A volume of the prostate."""
    code = {"system": SNOMED_CT, "code": "1297142007", "display": "Volume of prostate"}
    quantity = {"value": 42, "unit": "cc", "system": UCUM, "code": "cm3"}
    return observation(name, code, effective, valueQuantity=quantity) | elements


def isup(name: str, effective: object, **elements: Any) -> Resource:
    """An ISUP grade."""
    code = {"system": LOINC, "code": "LL5543-5", "display": "ISUP grade"}
    grade = {"coding": [{"system": LOINC, "code": "LA30795-1"}]}
    return observation(name, code, effective, valueCodeableConcept=grade) | elements


def biopsy(name: str, performed: object, **elements: Any) -> Resource:
    """A biopsy."""
    code = {"system": SNOMED_CT, "code": "86273004", "display": "Biopsy"}
    category = {"coding": [{"system": SNOMED_CT, "code": "884001", "display": "Initial"}]}
    return procedure(name, code, performed, category=category) | elements


def dre(name: str, performed: object, **elements: Any) -> Resource:
    """A digital rectal examination."""
    code = {
        "system": SNOMED_CT,
        "code": "410006001",
        "display": "DRE - Digital rectal examination",
    }
    outcome = {"coding": [{"system": SNOMED_CT, "code": "17621005", "display": "Normal"}]}
    return procedure(name, code, performed, outcome=outcome) | elements


def family_history(name: str, **elements: Any) -> Resource:
    """A family history of prostate cancer."""
    role = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
    condition = {"coding": [{"system": SNOMED_CT, "code": "1259388006"}]}
    found: Resource = {
        "resourceType": "FamilyMemberHistory",
        "id": name,
        "status": "completed",
        "patient": {"reference": PATIENT},
        "relationship": {"coding": [{"system": role, "code": "FTH", "display": "father"}]},
        "condition": [{"code": condition}],
    }
    return found | elements


def case(
    studies: Sequence[Resource],
    candidates: Sequence[Resource],
    settings: LinkSettings | None = None,
    **known: Any,
) -> Case:
    """A case of the patient."""
    stated: dict[str, Any] = {
        "patient": patient(),
        "patient_references": frozenset({PATIENT}),
        "studies": tuple(studies),
        "candidates": tuple(candidates),
        "settings": settings or LinkSettings(),
    }
    return Case(**stated | known)


@dataclass(frozen=True)
class History:
    """A patient's ImagingStudies and FLUTE variables."""

    patient: Resource
    studies: tuple[Resource, ...]
    candidates: tuple[Resource, ...]


def history(seed: int, mris: int = 3, variables: int = 12, span: int = 900) -> History:
    """Draw a history with exact dates, in days as recorded with several offsets."""
    chance = random.Random(seed)
    days = [START + timedelta(days=chance.randrange(span)) for _ in range(mris)]
    scans = [study(f"m{number}", _time(chance, day)) for number, day in enumerate(days)]
    others = [study("knee", _time(chance, START), site=KNEE), study("trus", None, modality="US")]
    made = [_variable(chance, number, days, span) for number in range(variables)]
    return History(patient(), (*scans, *others), tuple(made))


def _variable(chance: random.Random, number: int, days: list[date], span: int) -> Resource:
    makers: list[Callable[..., Resource]] = [
        psa,
        psa,
        psa,
        pi_rads,
        volume,
        biopsy,
        isup,
        dre,
        family_history,
    ]
    make = chance.choice(makers)
    day = START + timedelta(days=chance.randrange(-60, span + 200))
    if days and chance.random() < 0.6:
        near = [-200, -181, -180, -179, -30, -1, 0, 1, 30, 89, 90, 91, 180, 181, 364, 365, 366]
        day = chance.choice(days) + timedelta(days=chance.choice(near))
    if make is family_history:
        return family_history(f"family_history-{number}")
    meta = {"versionId": str(chance.randrange(1, 12))}
    amended = make not in (biopsy, dre) and chance.random() < 0.15
    status = {"status": "amended"} if amended else {}
    return make(f"{_NAMES[make]}-{number}", day.isoformat(), meta=meta, **status)


_NAMES: dict[Callable[..., Resource], str] = {
    psa: "psa",
    pi_rads: "pi_rads",
    volume: "volume",
    biopsy: "biopsy",
    isup: "isup",
    dre: "dre",
}


def _time(chance: random.Random, day: date) -> str:
    offset = chance.choice(["Z", "+02:00", "-05:00", "+13:00"])
    return f"{day}T{chance.randrange(24):02}:30:00{offset}"
