"""The seven kinds of FLUTE variables: by which code each is known, and what its profile demands.

A resource is chosen by type and code, never by ``meta.profile``: real data carry old canonicals or
none. Its structure is checked here, rule by rule, each with a name that ``links.conformance`` and
the report use.

References
----------
FLUTE guide 0.1.0, profiles PR-*; FHIR R4 observation.html, procedure.html,
familymemberhistory.html.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final, Literal

from flute_sync.terminology import LOINC, SNOMED_CT, UCUM

Resource = Mapping[str, Any]
PI_RADS: Final = "http://acr.org/pi-rads"
_PROSTATE: Final = (SNOMED_CT, "41216001", "Prostatic structure (body structure)")
_GLEASON: Final = frozenset({"LA30794-4", "LA30795-1", "LA30796-9", "LA30797-7", "LA30798-5"})
_BIOPSY_TYPES: Final = frozenset({"884001", "27582007"})
_DRE_OUTCOMES: Final = frozenset({"17621005", "131196009"})
_CARCINOMA: Final = frozenset(
    {
        "1098981000119101", "1264500002", "1259710009", "1259674002", "1259672003", "1259669005",
        "1259666003", "1259388006", "1251485006", "1240359008", "1240353009", "1237422007",
        "1208457007", "823017009", "822970008", "722103009", "715412008", "449318001", "448217003",
        "448213004", "427492003", "399590005", "399490008", "399068003", "369485004", "314969001",
        "278060005", "254900004", "94503003", "93974005",
    }
)  # fmt: skip
_PI_RADS_TEXT: Final = re.compile(r"\s*PI-?RADS(?:\s*v?2(?:\.[01])?)?\s*[:=]?\s*([1-5])\s*", re.I)
_ONE_DECIMAL: Final = re.compile(r"(0|[1-9]\d*)(.\d?)?")
_SCORES: Final = frozenset(range(1, 6))


class Kind(StrEnum):
    """A FLUTE variable, named as its profile."""

    BIOPSY = "PR_Biopsy"
    DRE = "PR_DigitalRectalExamination"
    OUTCOME = "PR_OutcomeBCN_RC2"
    PI_RADS = "PR_PIRADSScore"
    FAMILY_HISTORY = "PR_ProstateCancerFamilyHistory"
    PSA = "PR_ProstateSpecificAntigen"
    VOLUME = "PR_ProstateVolume"


class Rule(StrEnum):
    """A rule of a profile that a resource may break."""

    DISPLAY = "display"  # the code's display is part of the pattern
    LOCAL_CODING = "local-coding"  # a further coding, where the pattern forbids one
    DECIMALS = "decimals"  # more than one decimal
    PERFORMED = "performed"  # performed[x] is no Age
    CODE = "code"
    VALUE = "value"
    UNIT = "unit"
    BODY_SITE = "body-site"
    CATEGORY = "category"
    OUTCOME = "outcome"
    CONDITION = "condition"
    COMPONENT = "component"
    STATUS = "status"


RELAXED: Final = frozenset({Rule.DISPLAY, Rule.LOCAL_CODING, Rule.DECIMALS, Rule.PERFORMED})
"""Rules that ``links.conformance = "relaxed"`` waives: real laboratories and registries break them
without being wrong."""

ACCEPTED_STATUSES: Final[Mapping[str, frozenset[str]]] = {
    "Observation": frozenset({"final", "amended", "corrected"}),
    "Procedure": frozenset({"completed"}),
    "FamilyMemberHistory": frozenset({"completed", "partial"}),
}


@dataclass(frozen=True, slots=True)
class Profile:
    """What makes a resource one of a kind.

    ``display`` belongs to the code; ``only`` tells that no further coding is allowed beside it.
    """

    kind: Kind
    resource_type: Literal["Observation", "Procedure", "FamilyMemberHistory"]
    system: str
    code: str
    display: str
    check: Callable[[Resource], Iterator[Rule]]
    only: bool = False


def kind_of(resource: Resource) -> Kind | None:
    """Return which variable a resource is, by its type and code; None where it is none."""
    for profile in PROFILES.values():
        if resource.get("resourceType") == profile.resource_type and _bears(resource, profile):
            return profile.kind
    return None


def broken_rules(resource: Resource, kind: Kind) -> frozenset[Rule]:
    """Return the rules of its profile that a resource breaks; of its status, see `is_accepted`."""
    profile = PROFILES[kind]
    return frozenset({*_code_rules(resource, profile), *profile.check(resource)})


def is_accepted(resource: Resource, *, preliminary: bool = False) -> bool:
    """Tell whether the status of a resource lets it be used at all."""
    kind, status = resource.get("resourceType"), resource.get("status")
    if preliminary and kind == "Observation" and status == "preliminary":
        return True
    return status in ACCEPTED_STATUSES.get(str(kind), frozenset())


def score(resource: Resource) -> int | None:
    """Return a PI-RADS score, 1 to 5, in any of the forms it is found in; None where it is none."""
    value = resource.get("valueInteger")
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value in _SCORES else None
    concept = resource.get("valueCodeableConcept")
    coded = {one.get("code") for one in _codings(concept) if one.get("system") == PI_RADS} & {
        str(number) for number in _SCORES
    }
    if len(coded) == 1:
        return int(str(next(iter(coded))))
    text = concept.get("text") if isinstance(concept, Mapping) else resource.get("valueString")
    found = _PI_RADS_TEXT.fullmatch(text) if isinstance(text, str) else None
    return int(found[1]) if found and not coded else None


# -- codes -----------------------------------------------------------------------------------


def _codings(concept: object) -> list[Resource]:
    concepts = concept if isinstance(concept, list) else [concept]
    found = [one.get("coding") for one in concepts if isinstance(one, Mapping)]
    return [
        coding
        for codings in found
        if isinstance(codings, list)
        for coding in codings
        if isinstance(coding, Mapping)
    ]


def _bears(resource: Resource, profile: Profile) -> bool:
    if profile.kind is Kind.FAMILY_HISTORY:
        return any(one in _CARCINOMA for one in _condition_codes(resource))
    return any(
        one.get("system") == profile.system and one.get("code") == profile.code
        for one in _codings(resource.get("code"))
    )


def _code_rules(resource: Resource, profile: Profile) -> Iterator[Rule]:
    if profile.kind is Kind.FAMILY_HISTORY:
        return
    for coding in _codings(resource.get("code")):
        if (coding.get("system"), coding.get("code")) == (profile.system, profile.code):
            if coding.get("display") != profile.display:
                yield Rule.DISPLAY
        elif profile.only:
            yield Rule.LOCAL_CODING


def _condition_codes(resource: Resource) -> list[str]:
    conditions = resource.get("condition")
    stated = conditions if isinstance(conditions, list) else []
    return [
        str(coding.get("code"))
        for one in stated
        if isinstance(one, Mapping)
        for coding in _codings(one.get("code"))
        if coding.get("system") == SNOMED_CT
    ]


def _site_rules(resource: Resource) -> Iterator[Rule]:
    """A body site, where one is stated, is the prostate in the words of the pattern."""
    for coding in _codings(resource.get("bodySite")):
        if (coding.get("system"), coding.get("code")) != _PROSTATE[:2]:
            yield Rule.BODY_SITE
        elif coding.get("display") != _PROSTATE[2]:
            yield Rule.DISPLAY


def _one_code(concept: object, system: str, allowed: frozenset[str]) -> bool:
    return any(
        one.get("system") == system and one.get("code") in allowed for one in _codings(concept)
    )


# -- profiles --------------------------------------------------------------------------------


def _biopsy(resource: Resource) -> Iterator[Rule]:
    yield from _site_rules(resource)
    if not _one_code(resource.get("category"), SNOMED_CT, _BIOPSY_TYPES):
        yield Rule.CATEGORY
    if "performedAge" not in resource:
        yield Rule.PERFORMED


def _dre(resource: Resource) -> Iterator[Rule]:
    yield from _site_rules(resource)
    if not _one_code(resource.get("outcome"), SNOMED_CT, _DRE_OUTCOMES):
        yield Rule.OUTCOME


def _outcome(resource: Resource) -> Iterator[Rule]:
    if not _one_code(resource.get("valueCodeableConcept"), LOINC, _GLEASON):
        yield Rule.VALUE
    if resource.get("component"):
        yield Rule.COMPONENT


def _pi_rads(resource: Resource) -> Iterator[Rule]:
    if score(resource) is None or "valueInteger" not in resource:
        yield Rule.VALUE


def _family_history(resource: Resource) -> Iterator[Rule]:
    conditions = resource.get("condition")
    stated = conditions if isinstance(conditions, list) else []
    for one in stated:
        codings = _codings(one.get("code")) if isinstance(one, Mapping) else []
        if not codings or any(
            (coding.get("system"), coding.get("code") in _CARCINOMA) != (SNOMED_CT, True)
            for coding in codings
        ):
            yield Rule.CONDITION


def _quantity(unit: str, code: str) -> Callable[[Resource], Iterator[Rule]]:
    def check(resource: Resource) -> Iterator[Rule]:
        quantity = resource.get("valueQuantity")
        number = quantity.get("value") if isinstance(quantity, Mapping) else None
        if not isinstance(quantity, Mapping) or not _is_positive(number):
            yield Rule.VALUE
            return
        if not _ONE_DECIMAL.fullmatch(str(number)):
            yield Rule.DECIMALS
        stated = (
            quantity.get("unit", unit),
            quantity.get("system", UCUM),
            quantity.get("code", code),
        )
        if stated != (unit, UCUM, code):
            yield Rule.UNIT

    return check


def _volume(resource: Resource) -> Iterator[Rule]:
    yield from _quantity("cc", "cm3")(resource)
    yield from _site_rules(resource)


def _is_positive(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        return False
    try:
        return Decimal(str(value)) >= 0
    except InvalidOperation:
        return False


PROFILES: Final[Mapping[Kind, Profile]] = {
    profile.kind: profile
    for profile in (
        Profile(Kind.BIOPSY, "Procedure", SNOMED_CT, "86273004", "Biopsy", _biopsy),
        Profile(
            Kind.DRE,
            "Procedure",
            SNOMED_CT,
            "410006001",
            "DRE - Digital rectal examination",
            _dre,
        ),
        Profile(Kind.OUTCOME, "Observation", LOINC, "LL5543-5", "ISUP grade", _outcome),
        Profile(
            Kind.PI_RADS,
            "Observation",
            SNOMED_CT,
            "719178004",
            "Multiparametric magnetic resonance imaging of prostate",
            _pi_rads,
        ),
        Profile(Kind.FAMILY_HISTORY, "FamilyMemberHistory", SNOMED_CT, "", "", _family_history),
        Profile(
            Kind.PSA,
            "Observation",
            LOINC,
            "2857-1",
            "Prostate specific Ag [Mass/volume] in Serum or Plasma",
            _quantity("ng/mL", "ng/mL"),
            only=True,
        ),
        Profile(Kind.VOLUME, "Observation", SNOMED_CT, "1297142007", "Volume of prostate", _volume),
    )
}
