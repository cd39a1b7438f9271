"""What the FLUTE profiles demand of each variable: the rules that a resource may break, by name.

A decimal keeps its precision in FHIR: ``4.50`` has two decimals and breaks a rule that ``4.5``
keeps. Only a reader that parses JSON numbers as `decimal.Decimal` can tell them apart; of a float,
the shortest form is judged.

References
----------
FLUTE guide 0.1.0, profiles PR-* (compiled); FHIR R4 datatypes.html#decimal,
valueset v3-FamilyMember.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any, Final

from flute_sync.fhir_elements import Resource, codings, members
from flute_sync.flute_variables import CARCINOMA, CODES, Kind, score
from flute_sync.terminology import LOINC, SNOMED_CT, UCUM

_PROSTATE: Final = (SNOMED_CT, "41216001")
_PROSTATE_DISPLAY: Final = "Prostatic structure (body structure)"
_SITE: Final = {
    "coding": [{"system": _PROSTATE[0], "code": _PROSTATE[1], "display": _PROSTATE_DISPLAY}]
}
_ROLE_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-RoleCode"
_GLEASON: Final = frozenset({"LA30794-4", "LA30795-1", "LA30796-9", "LA30797-7", "LA30798-5"})
_BIOPSY_TYPES: Final = frozenset({"884001", "27582007"})
_DRE_OUTCOMES: Final = frozenset({"17621005", "131196009"})
_INFINITY: Final = float("inf")
_ONE_DECIMAL: Final = re.compile(r"(0|[1-9]\d*)(.\d?)?")
_PATTERNS: Final = {kind: {"coding": [code._asdict()]} for kind, (_, code) in CODES.items()}
_FAMILY: Final = frozenset(
    {
        "ADOPTF", "ADOPTM", "ADOPTP", "AUNT", "BRO", "BROINLAW", "CHILD", "CHLDADOPT", "CHLDFOST",
        "CHLDINLAW", "COUSN", "DAU", "DAUADOPT", "DAUC", "DAUFOST", "DAUINLAW", "DOMPART", "EXT",
        "FAMMEMB", "FMRSPS", "FTH", "FTHFOST", "FTHINLAW", "FTWIN", "FTWINBRO", "FTWINSIS", "GESTM",
        "GGRFTH", "GGRMTH", "GGRPRN", "GRFTH", "GRMTH", "GRNDCHILD", "GRNDDAU", "GRNDSON", "GRPRN",
        "HBRO", "HSIB", "HSIS", "HUSB", "INLAW", "ITWIN", "ITWINBRO", "ITWINSIS", "MAUNT", "MCOUSN",
        "MGGRFTH", "MGGRMTH", "MGGRPRN", "MGRFTH", "MGRMTH", "MGRPRN", "MTH", "MTHFOST", "MTHINLAW",
        "MUNCLE", "NBRO", "NCHILD", "NEPHEW", "NFTH", "NFTHF", "NIECE", "NIENEPH", "NMTH", "NMTHF",
        "NPRN", "NSIB", "NSIS", "PAUNT", "PCOUSN", "PGGRFTH", "PGGRMTH", "PGGRPRN", "PGRFTH",
        "PGRMTH", "PGRPRN", "PRN", "PRNFOST", "PRNINLAW", "PUNCLE", "SIB", "SIBINLAW", "SIGOTHR",
        "SIS", "SISINLAW", "SON", "SONADOPT", "SONC", "SONFOST", "SONINLAW", "SPS", "STPBRO",
        "STPCHLD", "STPDAU", "STPFTH", "STPMTH", "STPPRN", "STPSIB", "STPSIS", "STPSON", "TWIN",
        "TWINBRO", "TWINSIS", "UNCLE", "WIFE",
    }
)  # fmt: skip


class Rule(StrEnum):
    """A rule of a profile that a resource may break."""

    DISPLAY = "display"
    """The display, which is part of the pattern, is another."""

    LOCAL_CODING = "local-coding"
    """There is a further coding where the pattern allows one only."""

    DECIMALS = "decimals"
    """The value has more than one decimal."""

    PERFORMED = "performed"
    """The biopsy is not dated by an Age, or by one that FHIR does not allow; or an examination is
    dated so."""

    VALUE_TYPE = "value-type"
    """The PI-RADS score is coded or text, not an integer."""

    VALUE = "value"
    """There is no value, or not one that the profile allows."""

    UNIT = "unit"
    """The unit is another."""

    UNIT_SYSTEM = "unit-system"
    """The unit has a code, but it is not said of which system."""

    BODY_SITE = "body-site"
    """The body site is not the prostate."""

    CATEGORY = "category"
    """It is not said whether the biopsy is the initial or a repeated one."""

    OUTCOME = "outcome"
    """The result of the examination is absent or another."""

    CONDITION = "condition"
    """A condition is not a cancer of the prostate by the code list."""

    RELATIONSHIP = "relationship"
    """The relationship is not of the code list."""

    COMPONENT = "component"
    """There are components where the profile has none."""

    MODIFIER = "modifier"
    """It may mean something else (R4 extensibility.html#modifierExtension)."""


RELAXED: Final = frozenset(
    {
        Rule.DISPLAY,
        Rule.LOCAL_CODING,
        Rule.DECIMALS,
        Rule.PERFORMED,
        Rule.VALUE_TYPE,
        Rule.UNIT_SYSTEM,
    }
)
"""Rules that ``links.conformance = "relaxed"`` waives: real laboratories and registries break them
without being wrong."""


def broken_rules(resource: Resource, kind: Kind) -> tuple[Rule, ...]:
    """Return the rules of its profile that a resource breaks, sorted; its status is not one."""
    found = [*_CHECKS[kind](resource), *_code_rules(resource.get("code"), kind)]
    if "modifierExtension" in resource:
        found.append(Rule.MODIFIER)
    return tuple(sorted(set(found)) if len(found) > 1 else found)


def _code_rules(concept: object, kind: Kind) -> list[Rule]:
    if kind is Kind.FAMILY_HISTORY or concept == _PATTERNS[kind]:
        return []
    pattern = CODES[kind][1]
    stated = codings(concept)
    worded = [
        one.get("display") == pattern.display
        for one in stated
        if one["code"] == pattern.code and one.get("system") == pattern.system
    ]
    # The PSA profile has its pattern on every coding, the others on the concept.
    only = kind is Kind.PSA
    found = [] if (all(worded) if only else any(worded)) else [Rule.DISPLAY]
    if only and len(worded) < _count(concept):
        found.append(Rule.LOCAL_CODING)
    return found


def _biopsy(resource: Resource) -> Iterator[Rule]:
    # Here the pattern is on every coding.
    for site in members(resource.get("bodySite")):
        yield from _site_rules(site, only=True)
    yield from _bound(resource.get("category"), SNOMED_CT, _BIOPSY_TYPES, Rule.CATEGORY)
    if not _is_age(resource.get("performedAge")):
        yield Rule.PERFORMED


def _is_age(age: object) -> bool:
    """Tell whether this is an Age as FHIR wants it (R4 datatypes.html#Age, age-1 and qty-3)."""
    if not isinstance(age, dict) or age.get("system", UCUM) != UCUM:
        return False
    if "value" not in age:
        return "code" not in age or "system" in age
    return "code" in age and "system" in age and _is_positive(age["value"]) and bool(age["value"])


def _dre(resource: Resource) -> Iterator[Rule]:
    for site in members(resource.get("bodySite")):
        yield from _site_rules(site)
    yield from _bound(resource.get("outcome"), SNOMED_CT, _DRE_OUTCOMES, Rule.OUTCOME)
    if "performedAge" in resource and not _is_age(resource["performedAge"]):
        yield Rule.PERFORMED


def _outcome(resource: Resource) -> Iterator[Rule]:
    yield from _bound(resource.get("valueCodeableConcept"), LOINC, _GLEASON, Rule.VALUE)
    if resource.get("component"):
        yield Rule.COMPONENT


def _pi_rads(resource: Resource) -> Iterator[Rule]:
    if score(resource) is None:
        yield Rule.VALUE
    elif "valueInteger" not in resource:
        yield Rule.VALUE_TYPE


def _family_history(resource: Resource) -> Iterator[Rule]:
    for one in members(resource.get("condition")):
        yield from _list_rules(one.get("code"), SNOMED_CT, CARCINOMA, Rule.CONDITION)
        if "modifierExtension" in one:
            yield Rule.MODIFIER
    relationship = resource.get("relationship")
    yield from _list_rules(relationship, _ROLE_CODE, _FAMILY, Rule.RELATIONSHIP)


def _psa(resource: Resource) -> Iterator[Rule]:
    return _quantity(resource.get("valueQuantity"), "ng/mL", "ng/mL")


def _volume(resource: Resource) -> Iterator[Rule]:
    yield from _quantity(resource.get("valueQuantity"), "cc", "cm3")
    for site in members(resource.get("bodySite")):
        yield from _site_rules(site)


def _quantity(quantity: object, unit: str, code: str) -> Iterator[Rule]:
    number = quantity.get("value") if isinstance(quantity, dict) else None
    if not isinstance(quantity, dict) or not _is_positive(number):
        yield Rule.VALUE
        return
    if not isinstance(number, int) and not _ONE_DECIMAL.fullmatch(str(number)):
        yield Rule.DECIMALS
    if (
        quantity.get("unit", unit) != unit
        or quantity.get("code", code) != code
        or quantity.get("system", UCUM) != UCUM
    ):
        yield Rule.UNIT
    elif "code" in quantity and "system" not in quantity:
        # R4 datatypes.html#Quantity, qty-3
        yield Rule.UNIT_SYSTEM


def _is_positive(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite() and value >= 0
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and 0 <= value < _INFINITY


def _site_rules(site: Resource, *, only: bool = False) -> Iterator[Rule]:
    """Compare a body site with the pattern; ``only``: every coding of it, not one of them."""
    if site == _SITE:
        return
    stated = codings(site)
    matching = [one for one in stated if (one.get("system"), one.get("code")) == _PROSTATE]
    if not matching and (stated or not only):
        yield Rule.BODY_SITE
    elif matching:
        worded = [one.get("display") == _PROSTATE_DISPLAY for one in matching]
        if not (all(worded) if only else any(worded)):
            yield Rule.DISPLAY
        if only and len(matching) < _count(site):
            yield Rule.LOCAL_CODING


def _list_rules(
    concept: object, system: str, allowed: frozenset[str], unlisted: Rule
) -> Iterator[Rule]:
    """Compare with a list that every coding must be of; beside one that is, others are local."""
    stated = codings(concept)
    listed = _of(stated, system, allowed)
    if stated and not listed:
        yield unlisted
    elif len(listed) < len(stated):
        yield Rule.LOCAL_CODING


def _bound(concept: object, system: str, allowed: frozenset[str], unlisted: Rule) -> Iterator[Rule]:
    """Compare with a list that one coding must be of; validators want no other beside it."""
    listed = _of(codings(concept), system, allowed)
    if not listed:
        yield unlisted
    elif len(listed) < _count(concept):
        yield Rule.LOCAL_CODING


def _count(concept: object) -> int:
    """Return how many codings there are, those without a code among them."""
    return sum(len(members(one.get("coding"))) for one in members(concept))


def _of(stated: list[Resource], system: str, allowed: frozenset[str]) -> list[Resource]:
    return [one for one in stated if one["code"] in allowed and one.get("system") == system]


_CHECKS: Final[Mapping[Kind, Callable[[Resource], Iterator[Rule]]]] = {
    Kind.BIOPSY: _biopsy,
    Kind.DRE: _dre,
    Kind.OUTCOME: _outcome,
    Kind.PI_RADS: _pi_rads,
    Kind.FAMILY_HISTORY: _family_history,
    Kind.PSA: _psa,
    Kind.VOLUME: _volume,
}
