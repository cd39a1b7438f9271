"""Links that somebody stated: references, requests, encounters, other systems, people."""

from typing import Any

import pytest

from flute_sync.fhir_dates import Verdict
from flute_sync.link_case import Case, Decision, Link
from flute_sync.link_settings import LinkSettings
from flute_sync.supporting_info import judge
from tests.histories import (
    KNEE,
    PATIENT,
    Resource,
    biopsy,
    case,
    family_history,
    isup,
    observation,
    pi_rads,
    psa,
    study,
    uid,
    volume,
)

A, B = study("a", "2024-01-10"), study("b", "2024-03-10")
BASE = "https://fhir.example/base"
CERTAIN, POSSIBLE, CONTRADICTED = Verdict.CERTAIN, Verdict.POSSIBLE, Verdict.CONTRADICTED


def linked(known: Case) -> dict[str, list[tuple[str, str]]]:
    """Name of the study -> its links with their rules."""
    names = {uid(one): one for one in ("a", "b", "knee", "trus")}
    return {
        names[each]: [(link.reference.partition("/")[2], link.rule) for link in found.links]
        for each, found in judge(known).items()
        if found.links
    }


def said(known: Case, name: str, reference: str) -> Link:
    found = judge(known)[uid(name)]
    return next(
        link for link in (*found.links, *found.refused) if link.reference.endswith(f"/{reference}")
    )


def to(reference: str) -> dict[str, Any]:
    return {"reference": reference}


def by_uid(value: str, system: str | None = "urn:dicom:uid") -> dict[str, Any]:
    return {"identifier": {"system": system, "value": value} if system else {"value": value}}


@pytest.mark.parametrize("element", ["derivedFrom", "partOf", "focus"])
@pytest.mark.parametrize(
    "reference",
    [
        to("ImagingStudy/a"),
        to("ImagingStudy/a/_history/7"),
        to(f"{BASE}/ImagingStudy/a"),
        to(f"{BASE}/ImagingStudy/a/_history/2"),
        by_uid(f"urn:oid:{uid('a')}"),
        by_uid(uid("a")),
        by_uid(uid("a"), None),
        by_uid(f"urn:oid:{uid('a')}", "urn:ietf:rfc:3986"),
    ],
)
def test_references_in_all_their_forms(element: str, reference: Resource) -> None:
    # By its date it would be B's.
    score = pi_rads("x", "2024-03-12", **{element: [reference]})
    assert linked(case([A, B], [score], base_url=BASE)) == {"a": [("x", "explicit")]}


@pytest.mark.parametrize(
    "reference",
    [
        to("ImagingStudy/elsewhere"),
        to("https://other.example/ImagingStudy/a"),
        by_uid("urn:oid:1.2.3"),
        {"type": "ImagingStudy", "display": "the MRI of January"},
    ],
)
def test_what_names_another_study_is_not_linked_by_its_date(reference: Resource) -> None:
    known = case([A], [pi_rads("x", "2024-01-12", derivedFrom=[reference])], base_url=BASE)
    assert linked(known) == {}
    assert said(known, "a", "x").rule == "explicit"


@pytest.mark.parametrize(
    "reference",
    [to("#contained"), to("Observation/b"), to("ImagingStudy"), to(""), {}, {"reference": 5}, None],
)
def test_what_names_no_study_says_nothing(reference: Any) -> None:
    known = case([A], [pi_rads("x", "2024-01-12", derivedFrom=[reference])])
    assert linked(known) == {"a": [("x", "time/after-mri")]}


def report(name: str, studies: list[Resource], **elements: Any) -> Resource:
    return {
        "resourceType": "DiagnosticReport",
        "id": name,
        "status": "final",
        "subject": to(PATIENT),
        "imagingStudy": studies,
    } | elements


def test_a_report_of_the_study() -> None:
    score, taken = (
        pi_rads("x", "2024-03-12"),
        biopsy("y", "2024-04-10", report=[to("DiagnosticReport/r")]),
    )
    reason = biopsy("z", "2024-05-10", reasonReference=[to("DiagnosticReport/r")])
    known = case(
        [A, B],
        [score, taken, reason],
        reports=(report("r", [to("ImagingStudy/a")], result=[to("Observation/x")]),),
    )
    rules = [("y", "explicit"), ("z", "explicit"), ("x", "explicit")]
    assert linked(known) == {"a": rules}
    assert "report" in said(known, "a", "x").reason
    withdrawn = report(
        "r", [to("ImagingStudy/a")], result=[to("Observation/x")], status="entered-in-error"
    )
    assert linked(case([A, B], [score], reports=(withdrawn,))) == {"b": [("x", "time/after-mri")]}


def test_members_of_a_panel_follow_it() -> None:
    code = {"system": "urn:x", "code": "panel"}
    inner = observation(
        "inner", code, None, hasMember=[to("Observation/x"), to("Observation/outer")]
    )
    outer = observation(
        "outer", code, None, hasMember=[to("Observation/inner")], derivedFrom=[to("ImagingStudy/a")]
    )
    score = pi_rads("x", "2024-03-12")
    assert linked(case([A, B], [score, inner, outer])) == {"a": [("x", "explicit")]}
    wrong = outer | {"status": "entered-in-error"}
    assert linked(case([A, B], [score, inner, wrong])) == {"b": [("x", "time/after-mri")]}


def test_dates_do_not_undo_a_reference_but_flag_it() -> None:
    early = pi_rads("x", "2021-01-10", derivedFrom=[to("ImagingStudy/a")])
    known = case([A], [early])
    assert linked(known) == {"a": [("x", "explicit")]}
    link = said(known, "a", "x")
    assert link.verdict is CONTRADICTED
    assert "before the MRI of 2024-01-10" in link.reason
    late = pi_rads("x", "2025-01-10", derivedFrom=[to("ImagingStudy/a")])
    assert said(case([A], [late]), "a", "x").verdict is CERTAIN
    for day, verdict in (("2023-12-01", CERTAIN), ("2020-12-01", CONTRADICTED)):
        value = psa("x", day, focus=[to("ImagingStudy/a")])
        assert said(case([A], [value]), "a", "x").verdict is verdict


def test_of_several_mris_that_are_named_the_date_chooses() -> None:
    both = [to("ImagingStudy/a"), to("ImagingStudy/b")]
    later = study("knee", "2024-03-11")
    score = pi_rads("x", "2024-03-12", derivedFrom=both)
    assert linked(case([A, B, later], [score])) == {"b": [("x", "time/after-mri")]}
    undated = pi_rads("x", None, derivedFrom=both)
    known = case([A, B], [undated])
    assert linked(known) == {}
    assert {said(known, name, "x").verdict for name in "ab"} == {POSSIBLE}


def test_an_mri_and_an_ultrasound_may_both_be_named() -> None:
    trus = study("trus", "2024-01-20", modality="US")
    named = volume("x", None, derivedFrom=[to("ImagingStudy/a"), to("ImagingStudy/trus")])
    assert linked(case([A, B, trus], [named])) == {
        "a": [("x", "explicit")],
        "trus": [("x", "explicit")],
    }


def test_what_is_stated_takes_the_place() -> None:
    named = pi_rads("x", "2024-01-20", derivedFrom=[to("ImagingStudy/a")])
    known = case([A], [named, pi_rads("y", "2024-01-12")])
    assert linked(known) == {"a": [("x", "explicit")]}
    assert "stated" in said(known, "a", "y").reason


def test_rules_can_be_left_out() -> None:
    score = pi_rads("x", "2024-03-12", derivedFrom=[to("ImagingStudy/a")])
    by_time = LinkSettings(rules=("time",))
    assert linked(case([A, B], [score], by_time)) == {"b": [("x", "time/after-mri")]}
    stated = LinkSettings(rules=("explicit",))
    plain = pi_rads("y", "2024-03-12")
    known = case([A, B], [score, plain, family_history("f")], stated)
    assert linked(known) == {"a": [("x", "explicit")]}
    assert said(known, "b", "y").verdict is POSSIBLE


# -- request, encounter ---------------------------------------------------------------------


def accession(value: str, system: str | None = "urn:acsn") -> Resource:
    coding = {"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}
    identifier: Resource = {"type": {"coding": [coding]}, "value": value}
    return {"identifier": identifier | ({"system": system} if system else {})}


@pytest.mark.parametrize(
    ("ours", "theirs", "linked_to"),
    [
        (to("ServiceRequest/1"), to("ServiceRequest/1"), "a"),
        (to("ServiceRequest/1"), to("ServiceRequest/1/_history/2"), "a"),
        (to("ServiceRequest/1"), to("ServiceRequest/2"), "b"),
        (to("CarePlan/1"), to("CarePlan/1"), "b"),
        (accession("7"), accession("7"), "a"),
        (accession("7"), accession("8"), "b"),
        (accession("7"), accession("7", "urn:other"), "b"),
        (accession("7"), accession("7", None), "a"),
        (accession("7", None), accession("7", None), "a"),
        (accession("7"), to("ServiceRequest/9"), "a"),
    ],
)
def test_a_common_request(ours: Resource, theirs: Resource, linked_to: str) -> None:
    asked = {
        "resourceType": "ServiceRequest",
        "id": "9",
        "identifier": [accession("7")["identifier"], {"value": "placer"}],
    }
    score = pi_rads("x", "2024-03-12", basedOn=[theirs])
    known = case([A | {"basedOn": [ours]}, B], [score], requests=(asked,))
    rule = "request" if linked_to == "a" else "time/after-mri"
    assert linked(known) == {linked_to: [("x", rule)]}


def test_an_accession_number_without_a_system_counts_only_if_it_is_one_studys() -> None:
    score = pi_rads("x", "2024-01-12", basedOn=[accession("7", None)])
    twice = [study(name, "2022-01-10", basedOn=[accession("7")]) for name in ("a", "trus")]
    twice[1] |= {"series": [], "modality": [{"code": "US"}]}
    assert linked(case([*twice, B], [score])) == {}
    assert linked(case([twice[0], B], [score])) == {"a": [("x", "request")]}


def test_a_request_is_enough_only_for_what_is_read_off_the_images() -> None:
    same = {"basedOn": [to("ServiceRequest/1")]}
    known = case([A | same, B], [psa("x", "2024-03-09", **same), volume("v", "2024-03-12", **same)])
    assert linked(known) == {"a": [("v", "request")], "b": [("x", "time/psa-before")]}


def test_a_request_with_several_mris_leaves_it_to_their_dates() -> None:
    same = {"basedOn": [to("ServiceRequest/1")]}
    later = study("knee", "2024-03-11")
    known = case([A | same, B | same, later], [pi_rads("x", "2024-03-12", **same)])
    assert linked(known) == {"b": [("x", "time/after-mri")]}


@pytest.mark.parametrize(
    "encounter", [to("Encounter/1"), {"identifier": {"system": "urn:vn", "value": "77"}}]
)
def test_a_common_encounter_of_one_day(encounter: Resource) -> None:
    twins = [A | {"encounter": encounter}, study("b", "2024-01-10")]
    same_day = pi_rads("x", "2024-01-10", encounter=encounter)
    assert linked(case(twins, [same_day])) == {"a": [("x", "encounter")]}
    for other in (
        pi_rads("x", "2024-01-11", encounter=encounter),
        pi_rads("x", "2024-01-10", encounter=to("Encounter/2")),
        pi_rads("x", None, encounter=encounter),
        psa("x", "2024-01-10", encounter=encounter),
    ):
        assert linked(case(twins, [other])) == {}


# -- a person's word, other systems -----------------------------------------------------------


def decided(verb: Any, name: str, reference: str) -> Decision:
    return Decision(uid(name), reference, verb, "seen at the conference")


def test_what_a_person_takes_away_frees_the_place() -> None:
    first, second = pi_rads("x", "2024-01-12"), pi_rads("y", "2024-01-20")
    known = case([A], [first, second], decisions=(decided("remove", "a", "Observation/x"),))
    assert linked(known) == {"a": [("y", "time/after-mri")]}
    refusal = said(known, "a", "x")
    assert (refusal.rule, refusal.verdict) == ("person", CONTRADICTED)
    assert "seen at the conference" in refusal.reason


def test_what_a_person_takes_away_may_go_to_the_next_mri() -> None:
    score = pi_rads("x", "2024-03-12")
    known = case([A, B], [score], decisions=(decided("remove", "b", "Observation/x"),))
    assert linked(known) == {"a": [("x", "time/after-mri")]}
    named = psa("x", "2024-01-01", focus=[to("ImagingStudy/b")])
    known = case([A, B], [named], decisions=(decided("remove", "b", "Observation/x"),))
    assert linked(known) == {"a": [("x", "time/psa-before")]}


def test_what_a_person_adds_takes_the_place() -> None:
    first, far = pi_rads("x", "2024-01-12"), pi_rads("y", "2022-01-20")
    known = case([A, B], [first, far], decisions=(decided("add", "a", "Observation/y"),))
    assert linked(known) == {"a": [("y", "person")]}
    assert said(known, "b", "y").reason == "a person gave it to another study"
    assert linked(case([A, B], [first, far])) == {"a": [("x", "time/after-mri")]}


def test_a_person_goes_before_references_conformance_and_body_parts() -> None:
    named = pi_rads("x", "2024-01-12", derivedFrom=[to("ImagingStudy/a")])
    known = case([A, B], [named], decisions=(decided("add", "b", "Observation/x"),))
    assert linked(known) == {"b": [("x", "person")]}
    bad_unit = psa("x", None, valueQuantity={"value": 5, "unit": "pg/mL"})
    knee = study("knee", "2024-01-10", site=KNEE)
    known = case([knee], [bad_unit], decisions=(decided("add", "knee", "Observation/x"),))
    assert linked(known) == {"knee": [("x", "person")]}
    assert said(known, "knee", "x").waived == ("unit",)


@pytest.mark.parametrize(
    ("resource", "status", "words"),
    [
        (psa("x", None, subject=to("Patient/p2")), "available", "another patient"),
        (psa("x", None, status="entered-in-error"), "available", "entered-in-error"),
        (psa("x", None), "entered-in-error", "withdrawn"),
    ],
)
def test_what_not_even_a_person_may_add(resource: Resource, status: str, words: str) -> None:
    decision = decided("add", "a", "Observation/x")
    known = case([A | {"status": status}], [resource], decisions=(decision,))
    assert linked(known) == {}
    assert words in said(known, "a", "x").reason


def test_the_last_decision_holds() -> None:
    score = pi_rads("x", "2022-01-12")
    add_a, add_b = (decided("add", name, "Observation/x") for name in "ab")
    drop_b = decided("remove", "b", "Observation/x")
    assert linked(case([A, B], [score], decisions=(add_a, add_b))) == {"b": [("x", "person")]}
    assert linked(case([A, B], [score], decisions=(add_b, drop_b))) == {}
    assert linked(case([A, B], [score], decisions=(drop_b, add_b))) == {"b": [("x", "person")]}
    unknown = (decided("add", "trus", "Observation/x"), decided("add", "a", "Observation/gone"))
    assert linked(case([A, B], [score], decisions=unknown)) == {}


def test_a_person_may_take_a_family_history_from_one_mri() -> None:
    name = "FamilyMemberHistory/f"
    known = case([A, B], [family_history("f")], decisions=(decided("remove", "a", name),))
    assert linked(known) == {"b": [("f", "family-history")]}
    knee = study("knee", None, site=KNEE)
    known = case([A, knee], [family_history("f")], decisions=(decided("add", "knee", name),))
    assert linked(known) == {"a": [("f", "family-history")], "knee": [("f", "person")]}


def test_decisions_hold_where_links_are_off() -> None:
    off = LinkSettings(enabled=False)
    decision = decided("add", "a", "Observation/x")
    assert linked(case([A], [psa("x", None)], off, decisions=(decision,))) == {
        "a": [("x", "person")]
    }


def test_an_added_biopsy_brings_its_grade() -> None:
    taken, grade = biopsy("b", "2026-01-12"), isup("g", "2026-01-20")
    known = case([A], [taken, grade], decisions=(decided("add", "a", "Procedure/b"),))
    assert linked(known) == {"a": [("b", "person"), ("g", "time/outcome")]}
    known = case(
        [A, B],
        [biopsy("b", "2024-02-12"), isup("g", "2024-02-20")],
        decisions=(decided("remove", "a", "Observation/g"),),
    )
    assert linked(known) == {"a": [("b", "time/biopsy")]}


def test_what_another_system_linked_stays_there() -> None:
    score = pi_rads("x", "2024-01-12")
    foreign = frozenset({(uid("b"), "Observation/x")})
    known = case([A, B], [score, pi_rads("y", "2024-03-12")], foreign=foreign)
    assert linked(known) == {"b": [("x", "foreign")]}
    decisions = (decided("remove", "b", "Observation/x"), decided("add", "a", "Observation/x"))
    for decision in decisions:
        held = case([A, B], [score], foreign=foreign, decisions=(decision,))
        assert linked(held) == {"b": [("x", "foreign")]}
    assert (
        "another system linked it"
        in said(case([A, B], [score], foreign=foreign, decisions=decisions[1:]), "a", "x").reason
    )
