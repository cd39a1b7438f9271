"""Which resource is which variable, and which rules of its profile it breaks."""

import json
from decimal import Decimal
from typing import Any

import pytest

from flute_sync.fhir_dates import Verdict
from flute_sync.flute_profiles import Rule, broken_rules
from flute_sync.flute_variables import PI_RADS_SYSTEM, Kind, is_accepted, kind_of, score
from flute_sync.link_settings import LinkSettings
from flute_sync.supporting_info import judge
from flute_sync.terminology import UCUM
from tests.histories import (
    KNEE,
    LOINC,
    PROSTATE,
    SITE,
    SNOMED_CT,
    Resource,
    biopsy,
    case,
    dre,
    family_history,
    isup,
    pi_rads,
    psa,
    study,
    uid,
    volume,
)

DAY = "2024-01-12"
WELL_FORMED = [
    biopsy("x", 63),
    dre("x", DAY),
    isup("x", DAY),
    pi_rads("x", DAY),
    family_history("x"),
    psa("x", DAY),
    volume("x", DAY),
]


@pytest.mark.parametrize(("resource", "kind"), list(zip(WELL_FORMED, Kind, strict=True)))
def test_what_meets_its_profile(resource: Resource, kind: Kind) -> None:
    assert kind_of(resource) is kind
    assert broken_rules(resource, kind) == ()


def quantity(**elements: Any) -> Resource:
    return {"valueQuantity": elements}


def pi_rads_as(**value: Any) -> Resource:
    found = pi_rads("x", DAY)
    del found["valueInteger"]
    return found | value


def other_display(resource: Resource) -> Resource:
    coding = {**resource["code"]["coding"][0], "display": "as we say here"}
    return resource | {"code": {"coding": [coding]}}


LOCAL = {"system": "urn:oid:1.2.3", "code": "PSA", "display": "PSA"}


def with_local_coding(
    resource: Resource, element: str = "code", local: Resource = LOCAL
) -> Resource:
    return resource | {element: {"coding": [*resource[element]["coding"], local]}}


def negated(resource: Resource) -> Resource:
    """Say of a condition that it means something else."""
    (one,) = resource["condition"]
    return {**resource, "condition": [one | {"modifierExtension": [{"url": "urn:not"}]}]}


def aged(resource: Resource, **age: Any) -> Resource:
    return resource | {"performedAge": age}


@pytest.mark.parametrize(
    ("resource", "broken"),
    [
        *[(other_display(one), {Rule.DISPLAY}) for one in WELL_FORMED if "code" in one],
        (with_local_coding(psa("x", DAY)), {Rule.LOCAL_CODING}),
        (with_local_coding(psa("x", DAY), local={"display": "PSA"}), {Rule.LOCAL_CODING}),
        (with_local_coding(biopsy("x", 63), "category"), {Rule.LOCAL_CODING}),
        (with_local_coding(dre("x", DAY), "outcome", {"display": "soft"}), {Rule.LOCAL_CODING}),
        (with_local_coding(isup("x", DAY), "valueCodeableConcept"), {Rule.LOCAL_CODING}),
        (with_local_coding(pi_rads("x", DAY)), set()),
        (with_local_coding(biopsy("x", 63)), set()),
        (psa("x", DAY, 5), set()),
        (psa("x", DAY, Decimal("5.0")), set()),
        (psa("x", DAY, Decimal("4.50")), {Rule.DECIMALS}),
        (psa("x", DAY, Decimal("4.56")), {Rule.DECIMALS}),
        (psa("x", DAY, 4.56), {Rule.DECIMALS}),
        (psa("x", DAY, Decimal("0.05")), {Rule.DECIMALS}),
        (psa("x", DAY, Decimal("0.1")), set()),
        (psa("x", DAY, -1), {Rule.VALUE}),
        (psa("x", DAY, "5"), {Rule.VALUE}),
        (psa("x", DAY, True), {Rule.VALUE}),
        (psa("x", DAY, float("nan")), {Rule.VALUE}),
        (psa("x", DAY, float("inf")), {Rule.VALUE}),
        (psa("x", DAY, None), {Rule.VALUE}),
        (psa("x", DAY) | quantity(comparator="<", value=Decimal("0.1"), unit="ng/mL"), set()),
        (psa("x", DAY) | quantity(value=5), set()),
        (psa("x", DAY) | quantity(value=5, unit="ug/L"), {Rule.UNIT}),
        (psa("x", DAY) | quantity(value=5, code="ug/L"), {Rule.UNIT}),
        (psa("x", DAY) | quantity(value=5, unit="ng/mL", code="ng/mL"), {Rule.UNIT_SYSTEM}),
        (volume("x", DAY) | quantity(value=30, unit="cc", code="cm3"), {Rule.UNIT_SYSTEM}),
        (psa("x", DAY) | {"valueQuantity": None}, {Rule.VALUE}),
        (volume("x", DAY) | quantity(value=30, unit="cc"), set()),
        (volume("x", DAY) | quantity(value=30, unit="mL", code="mL"), {Rule.UNIT}),
        (volume("x", DAY, bodySite={"coding": [SITE]}), set()),
        (volume("x", DAY, bodySite={"coding": [SITE, KNEE]}), set()),
        (volume("x", DAY, bodySite={"coding": [PROSTATE]}), {Rule.DISPLAY}),
        (volume("x", DAY, bodySite={"coding": [KNEE]}), {Rule.BODY_SITE}),
        (volume("x", DAY, bodySite={"text": "prostate"}), {Rule.BODY_SITE}),
        (biopsy("x", 63, bodySite=[{"coding": [KNEE]}]), {Rule.BODY_SITE}),
        (biopsy("x", 63, bodySite=[{"coding": [SITE, LOCAL]}]), {Rule.LOCAL_CODING}),
        (biopsy("x", 63, bodySite=[{"coding": [SITE, {"display": "x"}]}]), {Rule.LOCAL_CODING}),
        (biopsy("x", 63, bodySite=[{"text": "prostate"}]), set()),
        (aged(biopsy("x", None), value=63, unit="a"), {Rule.PERFORMED}),
        (aged(biopsy("x", None), value=63, code="a"), {Rule.PERFORMED}),
        (aged(biopsy("x", None), value=0, system=UCUM, code="a"), {Rule.PERFORMED}),
        (aged(biopsy("x", None), value=63, system="urn:x", code="a"), {Rule.PERFORMED}),
        (aged(biopsy("x", None), value=63, system=UCUM, code="a"), set()),
        (aged(dre("x", None), value=63, unit="a"), {Rule.PERFORMED}),
        (aged(dre("x", None), value=63, system=UCUM, code="a"), set()),
        (biopsy("x", DAY), {Rule.PERFORMED}),
        (biopsy("x", None), {Rule.PERFORMED}),
        (biopsy("x", 63, category={"coding": [LOCAL]}), {Rule.CATEGORY}),
        (dre("x", None), set()),
        (dre("x", DAY, outcome={"text": "normal"}), {Rule.OUTCOME}),
        (dre("x", DAY, bodySite=[{"coding": [KNEE]}]), {Rule.BODY_SITE}),
        (isup("x", DAY, valueCodeableConcept={"text": "ISUP 2"}), {Rule.VALUE}),
        (isup("x", DAY, component=[{"code": {"text": "x"}}]), {Rule.COMPONENT}),
        (psa("x", DAY, modifierExtension=[{"url": "urn:not"}]), {Rule.MODIFIER}),
        (negated(family_history("x")), {Rule.MODIFIER}),
        (pi_rads("x", DAY, valueInteger=0), {Rule.VALUE}),
        (pi_rads("x", DAY, valueInteger=6), {Rule.VALUE}),
        (pi_rads("x", DAY, valueInteger=True), {Rule.VALUE}),
        (pi_rads_as(), {Rule.VALUE}),
        (pi_rads_as(valueString="4-5"), {Rule.VALUE}),
        (pi_rads_as(valueCodeableConcept={"text": "PI-RADS 4"}), {Rule.VALUE_TYPE}),
        (family_history("x", relationship={"text": "father"}), set()),
        (
            family_history("x", relationship={"coding": [{"system": "urn:x", "code": "FTH"}]}),
            {Rule.RELATIONSHIP},
        ),
    ],
)
def test_rules_that_are_broken(resource: Resource, broken: set[Rule]) -> None:
    kind = kind_of(resource)
    assert kind is not None
    assert set(broken_rules(resource, kind)) == broken


def test_a_family_history_of_something_else_too() -> None:
    cancer = family_history("x")["condition"][0]
    other = {"code": {"coding": [{"system": SNOMED_CT, "code": "44054006"}]}}
    mixed = family_history("x", condition=[cancer, other])
    assert broken_rules(mixed, Kind.FAMILY_HISTORY) == (Rule.CONDITION,)
    assert kind_of(family_history("x", condition=[other])) is None


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ({"valueInteger": 4}, 4),
        ({"valueInteger": "4"}, None),
        ({"valueCodeableConcept": {"coding": [{"system": PI_RADS_SYSTEM, "code": "2"}]}}, 2),
        ({"valueCodeableConcept": {"coding": [{"system": PI_RADS_SYSTEM, "code": "0"}]}}, None),
        ({"valueCodeableConcept": {"coding": [{"system": "urn:x", "code": "2"}]}}, None),
        (
            {
                "valueCodeableConcept": {
                    "coding": [
                        {"system": PI_RADS_SYSTEM, "code": "2"},
                        {"system": PI_RADS_SYSTEM, "code": "3"},
                    ]
                }
            },
            None,
        ),
        ({"valueCodeableConcept": {"text": "PI-RADS 3"}}, 3),
        ({"valueCodeableConcept": {"text": "PIRADS: 5"}}, 5),
        ({"valueCodeableConcept": {"text": "PI-RADS v2.1: 4"}}, 4),
        ({"valueString": "pi-rads 4"}, 4),
        ({"valueString": "PI-RADS v2"}, None),
        ({"valueString": "PI-RADS v2.1"}, None),
        ({"valueString": "PI-RADS 21"}, None),
        ({"valueString": "PI-RADS 4-5"}, None),
        ({"valueString": "PI-RADS X"}, None),
        ({"valueString": 4}, None),
    ],
)
def test_scores_in_any_form(value: Resource, number: int | None) -> None:
    assert score(value) == number


@pytest.mark.parametrize(
    ("resource", "accepted"),
    [
        *[(psa("x", DAY, status=one), True) for one in ("final", "amended", "corrected")],
        *[
            (psa("x", DAY, status=one), False)
            for one in ("preliminary", "registered", "cancelled", "entered-in-error", "unknown")
        ],
        (biopsy("x", 63), True),
        *[
            (biopsy("x", 63, status=one), False)
            for one in ("not-done", "in-progress", "entered-in-error", "unknown", "preliminary")
        ],
        *[(family_history("x", status=one), True) for one in ("completed", "partial")],
        (family_history("x", status="health-unknown"), False),
        (psa("x", DAY, status=None), False),
        (psa("x", DAY, status=["final"]), False),
    ],
)
def test_statuses(resource: Resource, accepted: bool) -> None:
    assert is_accepted(resource) is accepted


def test_preliminary_where_the_site_wants_it() -> None:
    assert is_accepted(psa("x", DAY, status="preliminary"), preliminary=True)
    assert not is_accepted(biopsy("x", 63, status="preliminary"), preliminary=True)


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Observation", "code": {"text": "PSA"}},
        {"resourceType": "Observation", "code": {"coding": [{"code": "2857-1"}]}},
        {
            "resourceType": "Observation",
            "code": {"coding": [{"system": SNOMED_CT, "code": "2857-1"}]},
        },
        {"resourceType": "Procedure", "code": {"coding": [{"system": LOINC, "code": "2857-1"}]}},
        {"resourceType": "Observation", "code": {"coding": [{"system": [], "code": {}}]}},
        {"resourceType": "Observation", "code": {"coding": "2857-1"}},
        {"resourceType": "Observation", "code": [None, 5]},
        {"resourceType": ["Observation"]},
        {"resourceType": "FamilyMemberHistory", "condition": {"code": {}}},
        {},
    ],
)
def test_what_is_no_variable(resource: Resource) -> None:
    assert kind_of(resource) is None
    assert judge(case([study("a", DAY)], [resource | {"id": "x"}]))[uid("a")].refused == ()


# -- the gate, with resources of the shapes of the guide --------------------------------------

MRI = study("a", "2024-01-10")


def gate(resource: Resource, conformance: str) -> tuple[bool, list[str], str]:
    settings = LinkSettings.model_validate({"conformance": conformance})
    found = judge(case([MRI], [resource], settings))[uid("a")]
    link = (*found.links, *found.refused)[0]
    return bool(found.links), [str(rule) for rule in link.waived], link.rule


@pytest.mark.parametrize(
    ("resource", "waived"),
    [
        (psa("x", DAY, Decimal("4.56")), ["decimals"]),
        (psa("x", DAY, Decimal("4.50")), ["decimals"]),
        (other_display(psa("x", DAY)), ["display"]),
        (with_local_coding(psa("x", DAY)), ["local-coding"]),
        (biopsy("x", DAY), ["performed"]),
        (with_local_coding(dre("x", DAY), "outcome"), ["local-coding"]),
        (psa("x", DAY) | quantity(value=5, unit="ng/mL", code="ng/mL"), ["unit-system"]),
        (pi_rads_as(valueCodeableConcept={"text": "PI-RADS 4"}), ["value-type"]),
        (
            pi_rads_as(valueCodeableConcept={"coding": [{"system": PI_RADS_SYSTEM, "code": "4"}]}),
            ["value-type"],
        ),
    ],
)
def test_what_relaxed_waives_and_strict_refuses(resource: Resource, waived: list[str]) -> None:
    assert gate(resource, "relaxed")[:2] == (True, waived)
    assert gate(resource, "strict") == (False, waived, "conformance")


@pytest.mark.parametrize("conformance", ["relaxed", "strict"])
@pytest.mark.parametrize(
    "resource",
    [
        psa("x", DAY) | quantity(value=5, unit="pg/mL"),
        volume("x", DAY) | quantity(value=30, unit="mL"),
        biopsy("x", DAY, category=None),
        dre("x", DAY, outcome=None),
        pi_rads("x", DAY, valueInteger=7),
        isup("x", DAY, valueCodeableConcept={}),
    ],
)
def test_what_neither_takes(resource: Resource, conformance: str) -> None:
    linked, _, rule = gate(resource, conformance)
    assert (linked, rule) == (False, "conformance")


def test_the_profile_that_a_resource_claims_says_nothing() -> None:
    old = {"profile": ["https://flute.example/StructureDefinition/PR-ProstateSpecificAntigen"]}
    assert gate(psa("x", DAY, meta=old), "strict") == (True, [], "time/psa-after")
    assert kind_of({"resourceType": "Observation", "meta": old}) is None


def test_resources_as_extracted_from_the_questionnaire() -> None:
    """Neither dates nor, of quantities, codes: normal, and no reason to refuse them."""
    found = [
        psa("p", None) | quantity(value=5, unit="ng/mL"),
        volume("v", None) | quantity(value=30, unit="cc"),
        pi_rads_as(id="r", valueCodeableConcept={"text": "PI-RADS 4"}),
        dre("d", None),
        isup("g", None),
    ]
    del found[2]["effectiveDateTime"]
    links = judge(case([MRI], found))[uid("a")].links
    assert {link.rule for link in links} == {"sole-candidate"}
    assert len(links) == 5
    assert {link.verdict for link in links} == {Verdict.POSSIBLE}


def test_only_decimals_that_are_parsed_as_such_keep_their_precision() -> None:
    text = json.dumps(psa("x", DAY, 0)).replace('"value": 0', '"value": 4.50')
    exact = json.loads(text, parse_float=Decimal)
    assert gate(exact, "strict")[0] is False
    assert gate(json.loads(text), "strict")[0] is True


@pytest.mark.parametrize(
    ("subject", "linked"),
    [
        ({"reference": "Patient/p1"}, True),
        ({"reference": "Patient/old"}, True),
        ({"reference": "Patient/p1/_history/3"}, True),
        ({"reference": "https://fhir.example/base/Patient/p1"}, True),
        ({"reference": "https://fhir.example/other/Patient/p1"}, False),
        ({"reference": "Patient/p2"}, False),
        ({"reference": "Group/p1"}, False),
        ({"reference": "#p1"}, False),
        ({"reference": "urn:uuid:8a80b7e2-1879-418e-92eb-3641846b599c"}, False),
        ({"identifier": {"system": "urn:x", "value": "p1"}}, False),
        ({}, False),
        (None, False),
    ],
)
def test_of_the_patient_or_of_one_that_he_replaced(subject: object, linked: bool) -> None:
    known = case(
        [MRI],
        [pi_rads("x", DAY, subject=subject), family_history("f", patient=subject)],
        patient_references=frozenset({"Patient/p1", "Patient/old"}),
        base_url="https://fhir.example/base",
    )
    assert len(judge(known)[uid("a")].links) == (2 if linked else 0)
