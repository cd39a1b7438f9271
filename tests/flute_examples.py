"""A patient with variables in the three shapes in which the FLUTE guide's examples go about.

``guide``: as the guide shows them. ``extracted``: under the earlier canonicals and with other
displays, as its test data hold them. ``undated``: as a questionnaire is extracted, without dates,
codes of units, or the integer that the profile of the PI-RADS score demands.
"""

from typing import Any, Final, Literal

Resource = dict[str, Any]
Shape = Literal["guide", "extracted", "undated"]

BIRTH_DATE: Final = "1974-12-25"
"""The biopsy at the age of 54 is years after the images of 2024: the examples say so."""
_CANONICAL: Final = {
    "guide": "http://hl7.eu/fhir/ig/flute/StructureDefinition/",
    "extracted": "https://flute.com/StructureDefinition/",
    "undated": "https://flute.com/StructureDefinition/",
}
_SCT: Final = "http://snomed.info/sct"
_LOINC: Final = "http://loinc.org"
_UCUM: Final = "http://unitsofmeasure.org"
_PSA: Final = "Prostate specific Ag [Mass/volume] in Serum or Plasma"
_DRE: Final = "DRE - Digital rectal examination"
_MRI: Final = "Multiparametric magnetic resonance imaging of prostate"


def examples(subject: str, shape: Shape) -> dict[str, Resource]:
    """Return the variables of a patient by kind."""
    exact, dated = shape == "guide", shape != "undated"
    age = {"performedAge": {"value": 54, "code": "a", "system": _UCUM}} if dated else {}
    found: dict[str, Resource] = {
        "PR_Biopsy": {
            "resourceType": "Procedure",
            "status": "completed",
            "code": _concept(_SCT, "86273004", "Biopsy"),
            "category": _concept(_SCT, "27582007", "Repeated"),
            "bodySite": [_prostate()],
            **age,
        },
        "PR_DigitalRectalExamination": {
            "resourceType": "Procedure",
            "status": "completed",
            "code": _concept(_SCT, "410006001", _DRE if exact else "digital rectal examination"),
            "outcome": _concept(_SCT, "131196009", "susceptible"),
            "bodySite": [_prostate()],
            **age,
        },
        "PR_ProstateSpecificAntigen": _observation(
            _concept(_LOINC, "2857-1", _PSA if exact else "Prostate specific Ag"),
            "2024-06-03" if dated else None,
            valueQuantity=_quantity(5, "ng/mL", "ng/mL", coded=dated),
        ),
        "PR_ProstateVolume": _observation(
            _concept(_SCT, "1297142007", "Volume of prostate"),
            "2024-03-01" if dated else None,
            valueQuantity=_quantity(30, "cc", "cm3", coded=dated),
            bodySite=_prostate(),
        ),
        "PR_PIRADSScore": _observation(
            _concept(_SCT, "719178004", _MRI),
            "2024-03-01" if dated else None,
            **(
                {"valueInteger": 3}
                if dated
                else {"valueCodeableConcept": _concept("http://acr.org/pi-rads", "3", "PI-RADS 3")}
            ),
        ),
        "PR_ProstateCancerFamilyHistory": {
            "resourceType": "FamilyMemberHistory",
            "status": "completed",
            "relationship": _concept(
                "http://terminology.hl7.org/CodeSystem/v3-RoleCode", "FTH", "father"
            ),
            "condition": [{"code": _concept(_SCT, "1259388006", "Primary carcinoma of prostate")}],
            **({"date": "2024-03-18"} if dated else {}),
        },
    }
    for kind, one in found.items():
        one["meta"] = {"profile": [_CANONICAL[shape] + kind.replace("_", "-")]}
        whose = "patient" if one["resourceType"] == "FamilyMemberHistory" else "subject"
        one[whose] = {"reference": subject}
    return found


def _observation(code: Resource, day: str | None, **elements: Any) -> Resource:
    dated = {} if day is None else {"effectiveDateTime": day}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": code,
        **dated,
        **elements,
    }


def _quantity(value: int, unit: str, code: str, *, coded: bool) -> Resource:
    return {"value": value, **({"code": code, "system": _UCUM} if coded else {"unit": unit})}


def _prostate() -> Resource:
    return _concept(_SCT, "41216001", "Prostatic structure (body structure)")


def _concept(system: str, code: str, display: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": display}]}
