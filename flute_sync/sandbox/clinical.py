"""A FLUTE patient for the FHIR server: the person of a synthetic study, and their variables."""

from datetime import date, timedelta
from typing import Any, Final
from uuid import NAMESPACE_URL, uuid5

from flute_sync.sandbox.studies import SyntheticPatient
from flute_sync.terminology import LOINC, SNOMED_CT, UCUM

Resource = dict[str, Any]
_PROFILES: Final = "http://hl7.eu/fhir/ig/flute/StructureDefinition/"
_ROLE: Final = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
_GENDER: Final = {"M": "male", "F": "female", "O": "other"}
_PROSTATE: Final = (SNOMED_CT, "41216001", "Prostatic structure (body structure)")


def flute_patient(patient: SyntheticPatient, system: str) -> Resource:
    """Write the patient as a FHIR Patient.

    Parameters
    ----------
    patient
        Who.
    system
        The identifier system of the patient's number.
    """
    return {
        "resourceType": "Patient",
        "identifier": [{"system": system, "value": patient.patient_id}],
        "active": True,
        "name": [{"family": patient.family_name, "given": [patient.given_name]}],
        "gender": _GENDER.get(patient.sex, "unknown"),
        "birthDate": patient.birth_date.isoformat(),
    }


def flute_variables(
    subject: str, system: str, patient: SyntheticPatient, mri: date
) -> list[Resource]:
    """Write the patient's FLUTE variables around an MRI: one resource of each of the profiles.

    Parameters
    ----------
    subject
        The reference to the Patient.
    system
        The identifier system of these resources.
    patient
        Who; the biopsy is dated by age, as its profile demands.
    mri
        The day of the MRI.

    References
    ----------
    FLUTE guide 0.1.0, profiles PR-*.
    """
    variables = [*_findings(mri), *_procedures(mri, patient.birth_date)]
    for variable in variables:
        variable["subject"] = {"reference": subject}
    variables.append(_family_history(subject))
    for number, variable in enumerate(variables):
        variable["identifier"] = [{"system": system, "value": f"{patient.patient_id}-{number}"}]
    return variables


def dated_biopsy(subject: str, system: str, patient: SyntheticPatient, day: date) -> Resource:
    """Write a repeated biopsy with its day, which the criterion of the study needs.

    References
    ----------
    FLUTE requirements 5.2.5; the profile PR-Biopsy demands an age instead.
    """
    biopsy = _procedure(
        "PR-Biopsy", (SNOMED_CT, "86273004", "Biopsy"), performedDateTime=day.isoformat()
    )
    del biopsy["meta"]
    biopsy["subject"] = {"reference": subject}
    biopsy["identifier"] = [{"system": system, "value": f"{patient.patient_id}-dated"}]
    return biopsy


def flute_bundle(
    patient: SyntheticPatient, system: str, mri: date, biopsy: date | None = None
) -> Resource:
    """Write patient and variables as a transaction that may be sent again without effect.

    Parameters
    ----------
    patient
        Who.
    system
        The identifier system of the patient's number and of the variables.
    mri
        The day of the MRI.
    biopsy
        The day of a second biopsy; None where there is none.
    """
    person = flute_patient(patient, system)
    variables = flute_variables(_name(person), system, patient, mri)
    if biopsy is not None:
        variables.append(dated_biopsy(_name(person), system, patient, biopsy))
    entries = [
        {"fullUrl": _name(one), "resource": one, "request": _create(one)}
        for one in (person, *variables)
    ]
    return {"resourceType": "Bundle", "type": "transaction", "entry": entries}


def _name(resource: Resource) -> str:
    """Name a resource within a transaction: a server that validates wants every entry named."""
    identifier = resource["identifier"][0]
    return uuid5(NAMESPACE_URL, f"{identifier['system']}|{identifier['value']}").urn


def _create(resource: Resource) -> dict[str, str]:
    identifier = resource["identifier"][0]
    return {
        "method": "POST",
        "url": resource["resourceType"],
        "ifNoneExist": f"identifier={identifier['system']}|{identifier['value']}",
    }


def _findings(mri: date) -> list[Resource]:
    read = (mri + timedelta(days=1)).isoformat()
    return [
        _observation(
            "PR-ProstateSpecificAntigen",
            (LOINC, "2857-1", "Prostate specific Ag [Mass/volume] in Serum or Plasma"),
            valueQuantity={"value": 5.1, "unit": "ng/mL", "system": UCUM, "code": "ng/mL"},
            effectiveDateTime=(mri - timedelta(days=10)).isoformat(),
        ),
        _observation(
            "PR-PIRADSScore",
            (SNOMED_CT, "719178004", "Multiparametric magnetic resonance imaging of prostate"),
            valueInteger=4,
            effectiveDateTime=read,
        ),
        _observation(
            "PR-ProstateVolume",
            (SNOMED_CT, "1297142007", "Volume of prostate"),
            valueQuantity={"value": 42.5, "unit": "cc", "system": UCUM, "code": "cm3"},
            effectiveDateTime=read,
        ),
        _observation(
            "PR-OutcomeBCN-RC2",
            (LOINC, "LL5543-5", "ISUP grade"),
            valueCodeableConcept=_concept(LOINC, "LA30795-1", "Grade group 2"),
            effectiveDateTime=(mri + timedelta(days=30)).isoformat(),
        ),
    ]


def _procedures(mri: date, birth_date: date) -> list[Resource]:
    age_years = (mri - birth_date) // timedelta(days=365.25)
    return [
        _procedure(
            "PR-DigitalRectalExamination",
            (SNOMED_CT, "410006001", "DRE - Digital rectal examination"),
            performedDateTime=(mri - timedelta(days=10)).isoformat(),
            outcome=_concept(SNOMED_CT, "131196009", "susceptible"),
        ),
        _procedure(
            "PR-Biopsy",
            (SNOMED_CT, "86273004", "Biopsy"),
            performedAge={"value": age_years, "unit": "a", "system": UCUM, "code": "a"},
            category=_concept(SNOMED_CT, "884001", "Initial"),
        ),
    ]


def _observation(profile: str, code: tuple[str, str, str], **elements: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "meta": {"profile": [_PROFILES + profile]},
        "status": "final",
        "code": _concept(*code),
        **elements,
    }


def _procedure(profile: str, code: tuple[str, str, str], **elements: Any) -> Resource:
    return {
        "resourceType": "Procedure",
        "meta": {"profile": [_PROFILES + profile]},
        "status": "completed",
        "code": _concept(*code),
        "bodySite": [_concept(*_PROSTATE)],
        **elements,
    }


def _family_history(patient: str) -> Resource:
    return {
        "resourceType": "FamilyMemberHistory",
        "meta": {"profile": [_PROFILES + "PR-ProstateCancerFamilyHistory"]},
        "status": "completed",
        "patient": {"reference": patient},
        "relationship": _concept(_ROLE, "FTH", "father"),
        "condition": [{"code": _concept(SNOMED_CT, "1259388006", "Primary carcinoma of prostate")}],
    }


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}
