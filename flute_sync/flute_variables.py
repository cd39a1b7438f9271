"""The seven kinds of FLUTE variables: by which code each is known, and what it says.

A resource is chosen by type and code, never by ``meta.profile``: real data carry old canonicals or
none. What its profile demands of it is in `flute_sync.flute_profiles`.

References
----------
FLUTE guide 0.1.0, profiles PR-*; FHIR R4 observation.html, procedure.html,
familymemberhistory.html.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from flute_sync.fhir_elements import Resource, codings, members
from flute_sync.terminology import LOINC, SNOMED_CT, SNOMED_CT_FORMS

PI_RADS_SYSTEM: Final = "http://acr.org/pi-rads"
CARCINOMA: Final = frozenset(
    {
        "1098981000119101", "1264500002", "1259710009", "1259674002", "1259672003", "1259669005",
        "1259666003", "1259388006", "1251485006", "1240359008", "1240353009", "1237422007",
        "1208457007", "823017009", "822970008", "722103009", "715412008", "449318001", "448217003",
        "448213004", "427492003", "399590005", "399490008", "399068003", "369485004", "314969001",
        "278060005", "254900004", "94503003", "93974005",
    }
)  # fmt: skip
"""VS-PCa: cancers of the prostate (SNOMED CT)."""
_PI_RADS_TEXT: Final = re.compile(
    r"\s*PI-?RADS(?:\s*v2(?:\.[01])?(?=[\s:=]))?[\s:=]*([1-5])\s*", re.IGNORECASE
)
_SCORES: Final = {str(number): number for number in range(1, 6)}


class Kind(StrEnum):
    """A FLUTE variable, named as its profile."""

    BIOPSY = "PR_Biopsy"
    DRE = "PR_DigitalRectalExamination"
    OUTCOME = "PR_OutcomeBCN_RC2"
    PI_RADS = "PR_PIRADSScore"
    FAMILY_HISTORY = "PR_ProstateCancerFamilyHistory"
    PSA = "PR_ProstateSpecificAntigen"
    VOLUME = "PR_ProstateVolume"


class Code(NamedTuple):
    """A code in its system, with the display that is part of the profile's pattern."""

    system: str
    code: str
    display: str


CODES: Final[Mapping[Kind, tuple[str, Code]]] = {
    Kind.BIOPSY: ("Procedure", Code(SNOMED_CT, "86273004", "Biopsy")),
    Kind.DRE: ("Procedure", Code(SNOMED_CT, "410006001", "DRE - Digital rectal examination")),
    Kind.OUTCOME: ("Observation", Code(LOINC, "LL5543-5", "ISUP grade")),
    Kind.PI_RADS: (
        "Observation",
        Code(SNOMED_CT, "719178004", "Multiparametric magnetic resonance imaging of prostate"),
    ),
    Kind.PSA: (
        "Observation",
        Code(LOINC, "2857-1", "Prostate specific Ag [Mass/volume] in Serum or Plasma"),
    ),
    Kind.VOLUME: ("Observation", Code(SNOMED_CT, "1297142007", "Volume of prostate")),
}
"""Resource type and code of each kind; a family history is known by its conditions."""

SHORT: Final[Mapping[Kind, str]] = {
    Kind.BIOPSY: "Biopsy",
    Kind.DRE: "DRE",
    Kind.OUTCOME: "ISUP grade",
    Kind.PI_RADS: "PI-RADS",
    Kind.FAMILY_HISTORY: "Family history",
    Kind.PSA: "PSA",
    Kind.VOLUME: "Prostate volume",
}
"""What people call each kind."""

ACCEPTED_STATUSES: Final[Mapping[str, frozenset[str]]] = {
    "Observation": frozenset({"final", "amended", "corrected"}),
    "Procedure": frozenset({"completed"}),
    "FamilyMemberHistory": frozenset({"completed", "partial"}),
}


def systems(code: Code) -> tuple[str, ...]:
    """Return how resources may write the system of a code."""
    return SNOMED_CT_FORMS if code.system == SNOMED_CT else (code.system,)


_BY_CODE: Final[Mapping[tuple[str, str | None, str], Kind]] = {
    (resource_type, system, code.code): kind
    for kind, (resource_type, code) in CODES.items()
    for system in systems(code)
}


def kind_of(resource: Resource) -> Kind | None:
    """Return which variable a resource is, by its type and code; None where it is none."""
    resource_type = str(resource.get("resourceType"))
    if resource_type == "FamilyMemberHistory":
        return Kind.FAMILY_HISTORY if _has_carcinoma(resource) else None
    for coding in codings(resource.get("code")):
        kind = _BY_CODE.get((resource_type, coding.get("system"), coding["code"]))
        if kind is not None:
            return kind
    return None


def is_accepted(resource: Resource, *, preliminary: bool = False) -> bool:
    """Tell whether the status of a resource lets it be used at all."""
    resource_type, status = str(resource.get("resourceType")), str(resource.get("status"))
    if status in ACCEPTED_STATUSES.get(resource_type, ()):
        return True
    return preliminary and resource_type == "Observation" and status == "preliminary"


def score(resource: Resource) -> int | None:
    """Return a PI-RADS score, 1 to 5, in any of the forms it is found in; None where it is none."""
    if "valueInteger" in resource:
        value = resource["valueInteger"]
        known = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 5
        return value if known else None
    concept = resource.get("valueCodeableConcept")
    coded = {str(one["code"]) for one in codings(concept) if one.get("system") == PI_RADS_SYSTEM}
    if coded:
        return _SCORES.get(coded.pop()) if len(coded) == 1 else None
    text = concept.get("text") if isinstance(concept, dict) else resource.get("valueString")
    found = _PI_RADS_TEXT.fullmatch(text) if isinstance(text, str) else None
    return int(found[1]) if found else None


def _has_carcinoma(resource: Resource) -> bool:
    return any(
        coding.get("system") == SNOMED_CT and coding.get("code") in CARCINOMA
        for one in members(resource.get("condition"))
        for coding in codings(one.get("code"))
    )
