"""Which variable belongs to which MRI: each line of the rules, its boundaries to the day."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from flute_sync.fhir_dates import Verdict
from flute_sync.link_case import Case, Link
from flute_sync.link_settings import LinkSettings
from flute_sync.supporting_info import display, judge, rule_set
from tests.histories import (
    KNEE,
    PELVIS,
    Resource,
    biopsy,
    case,
    dre,
    family_history,
    isup,
    patient,
    pi_rads,
    psa,
    study,
    uid,
    volume,
)

MRI = study("a", "2024-03-10T09:00:00+01:00")
CERTAIN, POSSIBLE, CONTRADICTED = Verdict.CERTAIN, Verdict.POSSIBLE, Verdict.CONTRADICTED


def links(known: Case, name: str = "a") -> dict[str, tuple[str, Verdict]]:
    found = judge(known)[uid(name)].links
    return {link.reference.partition("/")[2]: (link.rule, link.verdict) for link in found}


def refused(known: Case, name: str = "a") -> dict[str, Link]:
    return {link.reference.partition("/")[2]: link for link in judge(known)[uid(name)].refused}


def alone(resource: Resource, **settings: object) -> tuple[str, Verdict]:
    """What becomes of one variable of a patient with one MRI."""
    known = case([MRI], [resource], LinkSettings(**{"sole_candidate": "never", **settings}))
    found = judge(known)[uid("a")]
    link = (*found.links, *found.refused)[0]
    return ("linked" if found.links else "refused"), link.verdict


LINKED, POSSIBLY, NO = ("linked", CERTAIN), ("refused", POSSIBLE), ("refused", CONTRADICTED)


@pytest.mark.parametrize(
    ("resource", "outcome"),
    [
        (pi_rads("x", "2024-03-09"), NO),
        (pi_rads("x", "2024-03-10"), LINKED),
        (pi_rads("x", "2024-03-10T00:10:00+01:00"), LINKED),
        (pi_rads("x", "2024-06-08"), LINKED),
        (pi_rads("x", "2024-06-09"), NO),
        (pi_rads("x", "2024-03"), POSSIBLY),
        (pi_rads("x", "2024-04"), LINKED),
        (pi_rads("x", "2024-06"), POSSIBLY),
        (pi_rads("x", "2024"), POSSIBLY),
        (pi_rads("x", "2023"), NO),
        (pi_rads("x", None), POSSIBLY),
        (volume("x", "2024-06-08"), LINKED),
        (volume("x", "2024-06-09"), NO),
        (volume("x", {"start": "2024-03-11", "end": "2024-03-12"}), LINKED),
        (volume("x", {"start": "2024-03-11"}), POSSIBLY),
        (volume("x", {"end": "2024-03-09"}), NO),
        (psa("x", "2023-09-12"), LINKED),  # 180 days before, the 29th of February among them
        (psa("x", "2023-09-11"), NO),
        (psa("x", "2024-03-10"), LINKED),
        (psa("x", "2024-03-10T23:00:00+01:00"), LINKED),
        (psa("x", "2024-03-11"), LINKED),
        (psa("x", "2024-09-06"), LINKED),
        (psa("x", "2024-09-07"), NO),
        (psa("x", "2024-02"), LINKED),
        (psa("x", "2024-03"), POSSIBLY),  # before the MRI or after it
        (dre("x", "2023-09-12"), LINKED),
        (dre("x", "2023-09-11"), NO),
        (dre("x", "2024-09-06"), LINKED),
        (dre("x", "2024-09-07"), NO),
        (biopsy("x", "2024-03-09"), NO),
        (biopsy("x", "2024-03-10"), POSSIBLY),
        (biopsy("x", "2024-03-10T08:59:00+01:00"), NO),
        (biopsy("x", "2024-03-10T09:01:00+01:00"), LINKED),
        (biopsy("x", "2024-03-10T10:01:00+02:00"), LINKED),
        (biopsy("x", "2024-03-11"), LINKED),
        (biopsy("x", "2025-03-10"), LINKED),
        (biopsy("x", "2025-03-11"), NO),
        (biopsy("x", "2025-03"), POSSIBLY),
        (biopsy("x", {"start": "2024-04-01", "end": "2024-04-03"}), LINKED),
        (biopsy("x", 63), POSSIBLY),  # 2023-05-17 to 2024-05-16
        (biopsy("x", 62), NO),
        (biopsy("x", 65), NO),  # from 2025-05-17 on
        (biopsy("x", None, performedString="last year"), POSSIBLY),
    ],
)
def test_windows_to_the_day(resource: Resource, outcome: tuple[str, Verdict]) -> None:
    assert alone(resource) == outcome


@pytest.mark.parametrize(
    ("setting", "resource", "linked", "beyond"),
    [
        ("report_after", pi_rads, "2024-03-12", "2024-03-13"),
        ("psa_before", psa, "2024-03-08", "2024-03-07"),
        ("psa_after", psa, "2024-03-12", "2024-03-13"),
        ("dre_before", dre, "2024-03-08", "2024-03-07"),
        ("dre_after", dre, "2024-03-12", "2024-03-13"),
    ],
)
def test_windows_are_settings(setting, resource, linked, beyond) -> None:
    two_days = {setting: timedelta(days=2)}
    assert alone(resource("x", linked), **two_days) == LINKED
    assert alone(resource("x", beyond), **two_days) == NO


@pytest.mark.parametrize(
    ("mri", "day", "linked"),
    [
        ("2024-02-29", "2025-02-28", True),
        ("2024-02-29", "2025-03-01", False),
        ("2023-02-28", "2024-02-28", True),
        ("2023-02-28", "2024-02-29", True),
        ("2023-02-27", "2024-02-29", False),
    ],
)
def test_a_year_before_is_the_calendars(mri: str, day: str, linked: bool) -> None:
    known = case([study("a", mri)], [biopsy("x", day)])
    assert ("x" in links(known)) is linked


def test_a_biopsy_may_follow_later_where_the_site_says_so() -> None:
    assert alone(biopsy("x", "2025-06-10"), biopsy_after_months=15) == LINKED
    assert alone(biopsy("x", "2025-06-11"), biopsy_after_months=15) == NO


# -- several MRIs, several variables -----------------------------------------------------------

A, B = study("a", "2024-01-10"), study("b", "2024-03-10")


def both(resources: Sequence[Resource], *studies: Resource) -> tuple[list[str], list[str]]:
    known = case(studies or [A, B], resources)
    return sorted(links(known, "a")), sorted(links(known, "b"))


def test_a_score_goes_to_the_latest_mri_before_it() -> None:
    assert both([pi_rads("x", "2024-03-09")]) == (["x"], [])
    assert both([pi_rads("x", "2024-03-10")]) == ([], ["x"])
    assert both([pi_rads("x", "2024-03-20")]) == ([], ["x"])
    # Within A's 90 days, but B is later.
    assert both([pi_rads("x", "2024-04-05")]) == ([], ["x"])


def test_a_new_nearer_mri_steals() -> None:
    found = [pi_rads("x", "2024-03-20"), biopsy("y", "2024-04-20"), psa("z", "2023-12-20")]
    assert sorted(links(case([A], found))) == ["x", "y", "z"]
    assert both(found) == (["z"], ["x", "y"])
    earlier = study("b", "2023-12-24")
    assert sorted(links(case([A, earlier], found), "b")) == ["z"]


def test_of_several_scores_the_earliest_final_or_the_latest_amended() -> None:
    first, second = pi_rads("x", "2024-01-12"), pi_rads("y", "2024-01-20")
    assert sorted(links(case([A], [second, first]))) == ["x"]
    amended = second | {"status": "amended"}
    assert sorted(links(case([A], [amended, first]))) == ["y"]
    corrected = pi_rads("z", "2024-01-22", status="corrected")
    assert sorted(links(case([A], [amended, first, corrected]))) == ["z"]
    assert "comes before" in refused(case([A], [amended, first]))["x"].reason


def test_a_doubtful_rival_makes_a_choice_uncertain() -> None:
    found = refused(case([A], [pi_rads("x", "2024-01-12"), pi_rads("y", "2024-01")]))
    assert {name: link.verdict for name, link in found.items()} == {"x": POSSIBLE, "y": POSSIBLE}


def test_the_first_biopsy_after_an_mri() -> None:
    first, second = biopsy("x", "2024-02-10"), biopsy("y", "2024-02-20")
    assert both([second, first]) == (["x"], [])
    assert both([biopsy("z", "2024-05-10"), first]) == (["x"], ["z"])
    assert "comes before" in refused(case([A, B], [second, first]))["y"].reason


def test_mris_of_one_day_leave_it_open() -> None:
    twin = study("b", "2024-01-10")
    known = case([A, twin], [pi_rads("x", "2024-01-12"), psa("y", "2024-01-02")])
    assert links(known) == links(known, "b") == {}
    assert {link.verdict for link in refused(known).values()} == {POSSIBLE}


def test_an_mri_without_a_date_leaves_it_open() -> None:
    known = case([A, study("b", None)], [pi_rads("x", "2024-01-12"), psa("y", "2024-01-02")])
    assert links(known) == links(known, "b") == {}
    assert {link.verdict for link in refused(known, "b").values()} == {POSSIBLE}
    assert "undated MRI" in refused(known)["x"].reason


def test_the_closest_value_before_else_after() -> None:
    far, near, after = psa("x", "2023-12-01"), psa("y", "2024-01-08"), psa("z", "2024-01-11")
    assert links(case([A], [far, near, after])) == {"y": ("time/psa-before", CERTAIN)}
    assert links(case([A], [after])) == {"z": ("time/psa-after", CERTAIN)}
    assert "after-MRI" in judge(case([A], [after]))[uid("a")].links[0].reason


def test_each_mri_has_a_value_of_its_own() -> None:
    far, near = psa("x", "2023-12-01"), psa("y", "2024-01-08")
    assert both([far, near]) == (["y"], ["x"])
    assert both([near]) == (["y"], [])
    # Before one and after the other: what is before is given away first.
    between = psa("z", "2024-01-15")
    assert both([between]) == ([], ["z"])
    assert both([between, psa("w", "2024-03-01")]) == (["z"], ["w"])


@pytest.mark.parametrize(
    ("versions", "times", "winner"),
    [
        (("1", "2"), ("", ""), "y"),
        (("2", "1"), ("", ""), "x"),
        (("10", "9"), ("", ""), "x"),
        (("1", "1"), ("", ""), "y"),
        (("9", "1"), ("T08:00:00Z", "T09:00:00Z"), "y"),
        (("1", "9"), ("T08:00:00Z", "T09:00:00+02:00"), "x"),
    ],
)
def test_ties_go_to_the_later_time_then_the_higher_version_then_the_id(
    versions: tuple[str, str], times: tuple[str, str], winner: str
) -> None:
    found = [
        psa(name, f"2024-01-08{time}", meta={"versionId": version})
        for name, version, time in zip("xy", versions, times, strict=True)
    ]
    assert list(links(case([A], found))) == [winner]


def test_the_next_biopsy_ends_what_comes_after_an_mri() -> None:
    taken = biopsy("b", "2024-02-10")
    assert "x" in links(case([A], [psa("x", "2024-02-10"), taken]))
    assert "x" not in links(case([A], [psa("x", "2024-02-11"), taken]))
    # Which day a doubtful biopsy was decides.
    assert refused(case([A], [psa("x", "2024-02-11"), biopsy("b", "2024-02")]))["x"].verdict is (
        POSSIBLE
    )
    # A biopsy that is of another organ, or did not happen, ends nothing.
    breast = taken | {"bodySite": [{"coding": [KNEE]}]}
    cancelled = taken | {"status": "not-done"}
    for other in (breast, cancelled):
        assert "x" in links(case([A], [psa("x", "2024-02-11"), other]))


def test_a_biopsy_ends_it_even_if_it_breaks_its_profile() -> None:
    strict = LinkSettings(conformance="strict")
    known = case([A], [psa("x", "2024-02-11"), biopsy("b", "2024-02-10")], strict)
    assert links(known) == {}


# -- the ISUP grade -------------------------------------------------------------------------


def test_a_grade_goes_with_its_biopsy() -> None:
    taken = biopsy("b", "2024-02-10")
    for element in ("partOf", "basedOn", "derivedFrom"):
        grade = isup("g", None, **{element: [{"reference": "Procedure/b"}]})
        assert links(case([A, B], [taken, grade]))["g"] == ("biopsy", CERTAIN)


def test_a_grade_goes_with_the_biopsy_of_its_request() -> None:
    """By R4 `basedOn` of an Observation cannot name a Procedure: they share what was ordered."""
    order, other = ([{"reference": f"ServiceRequest/{name}"}] for name in ("order", "other"))
    found = [biopsy("x", "2024-02-10", basedOn=order), biopsy("y", "2024-04-10", basedOn=other)]
    undated = isup("g", None, basedOn=order)
    assert links(case([A, B], [*found, undated]))["g"] == ("biopsy", CERTAIN)
    late = isup("g", "2024-12-01", basedOn=order)
    assert links(case([A, B], [*found, late]))["g"] == ("biopsy", CERTAIN)
    before = isup("g", "2024-02-09", basedOn=order)
    assert "g" not in links(case([A, B], [*found, before]))
    unused = LinkSettings(rules=("explicit", "time"))
    assert "g" not in links(case([A, B], [*found, undated], unused))
    withdrawn = biopsy("z", "2024-02-10", basedOn=order, status="entered-in-error")
    assert links(case([A, B], [withdrawn, undated])) == {}
    unsure = biopsy("x", None, basedOn=order)
    assert links(case([MRI], [unsure, undated])) == {
        "x": ("sole-candidate", POSSIBLE),
        "g": ("biopsy", POSSIBLE),
    }


@pytest.mark.parametrize(
    ("day", "linked"),
    [("2024-02-09", False), ("2024-02-10", True), ("2024-05-10", True), ("2024-05-11", False)],
)
def test_a_grade_without_a_reference_goes_by_its_date(day: str, linked: bool) -> None:
    known = case([A, B], [biopsy("b", "2024-02-10"), isup("g", day)])
    assert ("g" in links(known)) is linked


def test_a_grade_goes_with_the_latest_biopsy_before_it() -> None:
    found = [biopsy("x", "2024-02-10"), biopsy("y", "2024-04-10"), isup("g", "2024-04-12")]
    assert both(found) == (["x"], ["g", "y"])


def test_all_grades_of_a_biopsy_go_with_it() -> None:
    found = [biopsy("x", "2024-02-10"), isup("g", "2024-02-12"), isup("h", "2024-02-12")]
    assert both(found) == (["g", "h", "x"], [])
    # Two procedures of one session: the MRI has one of them, the grade comes along all the same.
    assert "g" in links(case([A, B], [*found, biopsy("z", "2024-02-10")]))


def test_a_grade_without_a_home() -> None:
    late = biopsy("b", "2026-02-10")
    named = isup("g", "2026-02-12", partOf=[{"reference": "Procedure/b"}])
    other = isup("h", "2026-02-12")
    surgery = isup("s", "2024-02-12", partOf=[{"reference": "Procedure/prostatectomy"}])
    found = refused(case([A], [late, named, other, surgery]))
    assert {name: found[name].verdict for name in "ghs"} == dict.fromkeys("ghs", CONTRADICTED)


def test_a_grade_is_no_surer_than_its_biopsy() -> None:
    found = [biopsy("b", 63), isup("g", None, partOf=[{"reference": "Procedure/b"}])]
    assert links(case([MRI], found)) == {
        "b": ("sole-candidate", POSSIBLE),
        "g": ("biopsy", POSSIBLE),
    }


# -- which studies --------------------------------------------------------------------------


def test_family_history_belongs_to_all_mris_of_the_prostate() -> None:
    found = [family_history("f", date="2024-01-01")]
    known = case([A, B, study("knee", "2024-01-01", site=KNEE)], found)
    assert links(known) == links(known, "b") == {"f": ("family-history", CERTAIN)}
    assert links(known, "knee") == {}


def test_a_knee_has_nothing() -> None:
    named = pi_rads("x", "2024-01-10", derivedFrom=[{"reference": "ImagingStudy/knee"}])
    found = [named, psa("y", "2024-01-01"), family_history("f")]
    known = case([study("knee", "2024-01-10", site=KNEE)], found)
    assert links(known, "knee") == {}
    assert "another part of the body" in refused(known, "knee")["x"].reason
    assert "another part of the body" in refused(known, "knee")["y"].reason


@pytest.mark.parametrize("site", [None, PELVIS, {"display": "Becken"}])
def test_an_mri_that_perhaps_shows_the_prostate(site: Resource | None) -> None:
    perhaps = study("a", "2024-01-10", site=site)
    found = [pi_rads("x", "2024-01-12"), family_history("f")]
    assert links(case([perhaps], found)) == {
        "x": ("time/after-mri", POSSIBLE),
        "f": ("family-history", POSSIBLE),
    }
    for other in (study("b", "2022-01-10"), study("b", "2022-01-10", site=KNEE)):
        assert links(case([perhaps, other], found)) == {}
        named = pi_rads("y", None, derivedFrom=[{"reference": "ImagingStudy/a"}])
        assert links(case([perhaps, other], [named])) == {"y": ("explicit", CERTAIN)}
    reason = refused(case([perhaps, study("b", "2022-01-10")], found))["x"].reason
    assert "does not say that it shows the prostate" in reason


def test_a_site_says_how_it_names_the_prostate() -> None:
    plain = study("a", "2024-01-10", site=None, description="MRT Vorsteherdruese")
    coded = plain | {
        "procedureCode": [{"coding": [{"system": "urn:x", "code": "MRPRO"}]}],
        "description": "MR",
    }
    found = [pi_rads("x", "2024-01-12")]
    by_text = LinkSettings(prostate_description="vorsteher")
    by_code = LinkSettings(prostate_procedures=("urn:x|MRPRO",))
    for one, settings in ((plain, by_text), (coded, by_code)):
        known = case([one, study("b", "2022-01-10")], found, settings)
        assert links(known) == {"x": ("time/after-mri", CERTAIN)}


@pytest.mark.parametrize("modality", ["US", "CT", "PT"])
def test_other_studies_take_what_names_them(modality: str) -> None:
    trus = study("a", "2024-01-10", modality=modality)
    near = [biopsy("x", "2024-01-10"), volume("y", "2024-01-10"), family_history("f")]
    assert links(case([trus], near)) == {}
    assert "no MRI" in refused(case([trus], near))["y"].reason
    named = volume("z", "2024-01-10", derivedFrom=[{"reference": "ImagingStudy/a"}])
    known = case([trus, study("b", "2024-01-09")], [named])
    assert links(known) == {"z": ("explicit", CERTAIN)}
    assert links(known, "b") == {}


@pytest.mark.parametrize("status", ["entered-in-error", "cancelled", "registered"])
def test_what_was_withdrawn_has_nothing(status: str) -> None:
    withdrawn = A | {"status": status}
    named = pi_rads("y", None, derivedFrom=[{"reference": "ImagingStudy/a"}])
    assert links(case([withdrawn], [pi_rads("x", "2024-01-12"), named, family_history("f")])) == {}


def test_what_vanished_from_its_archive_took_place_all_the_same() -> None:
    vanished = B | {"status": "unknown"}
    assert both([pi_rads("x", "2024-03-20")], A, vanished) == ([], ["x"])


def test_a_date_that_is_not_to_be_trusted_is_none() -> None:
    tag = {"system": "urn:uuid:6f3d2c54-6a0b-5e0c-9d0b-3f6d1f0b7c11", "code": "date-untrusted"}
    shifted = A | {"meta": {"tag": [tag]}}
    found = [pi_rads("x", "2024-01-12")]
    assert links(case([shifted], found)) == {}
    assert "x" in links(case([shifted], found, LinkSettings(untrusted_dates=True)))


def test_days_are_those_that_were_recorded() -> None:
    """Half an hour after midnight in Rome it is still the day before in UTC."""
    night = study("a", "2024-06-10T00:30:00+02:00")
    known = case([night], [pi_rads("x", "2024-06-09"), volume("y", "2024-06-10")])
    assert list(links(known)) == ["y"]


# -- only one of each -----------------------------------------------------------------------


def test_the_sole_candidate_of_the_only_mri() -> None:
    sole = ("sole-candidate", POSSIBLE)
    for one in (
        psa("x", None),
        dre("x", None),
        biopsy("x", 63),
        isup("x", None),
        volume("x", None),
    ):
        assert links(case([MRI], [one])) == {"x": sole}


def test_who_is_not_the_sole_candidate() -> None:
    one = psa("x", None)
    for known in (
        case([A, B], [one]),
        case([MRI], [one, psa("y", None)]),
        case([MRI], [one, psa("y", "2024-03-01")]),
        case([MRI], [biopsy("x", 70)]),
        case([MRI], [psa("x", "2024")]),
        case([MRI], [one], LinkSettings(sole_candidate="never")),
        case([MRI], [one], LinkSettings(rules=("explicit", "time"))),
    ):
        assert "x" not in links(known)
    # What is no candidate is no rival, nor is a study of another part of the body.
    spoiled = psa("y", None, status="entered-in-error")
    assert "x" in links(case([MRI, study("b", "2024-01-01", site=KNEE)], [one, spoiled]))


def test_a_doubtful_date_may_do_for_the_sole_candidate() -> None:
    any_of = LinkSettings(sole_candidate="any")
    assert links(case([MRI], [psa("x", "2024")], any_of)) == {"x": ("sole-candidate", POSSIBLE)}
    assert links(case([MRI], [psa("x", "2021")], any_of)) == {}


# -- explain, display -----------------------------------------------------------------------


def test_every_candidate_is_explained_for_every_study() -> None:
    found = [
        pi_rads("x", "2024-01-12"),
        psa("y", None),
        psa("z", "2024-01-01", status="entered-in-error"),
        psa("w", "2024-01-01", subject={"reference": "Patient/other"}),
        psa("v", "2024-01-01", valueQuantity={"value": 5, "unit": "pg/mL"}),
        family_history("f"),
        biopsy("b", 63),
    ]
    studies = [A, B, study("knee", "2024-01-01", site=KNEE), study("us", None, modality="US")]
    judged = judge(case(studies, found))
    for one in judged.values():
        names = [link.reference for link in (*one.links, *one.refused)]
        assert len(names) == len(set(names)) == len(found)
        assert all(link.reason for link in (*one.links, *one.refused))
    elsewhere = refused(case(studies, found), "b")
    assert "belongs to the MRI of 2024-01-10" in elsewhere["x"].reason
    assert {name: elsewhere[name].rule for name in "zwv"} == {
        "z": "status",
        "w": "patient",
        "v": "conformance",
    }
    assert "unit" in elsewhere["v"].reason


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        (psa("x", "2024-02-29"), "PSA 2024-02-29 - rule time/psa-before, 10 d before MRI"),
        (
            pi_rads("x", "2024-03-10"),
            "PI-RADS 2024-03-10 - rule time/after-mri, on the day of the MRI",
        ),
        (biopsy("x", "2024-03-20"), "Biopsy 2024-03-20 - rule time/biopsy, 10 d after MRI"),
        (psa("x", None), "PSA - rule sole-candidate, uncertain"),
        (family_history("f"), "Family history - rule family-history"),
        (
            pi_rads("x", "2024-03-09", derivedFrom=[{"reference": "ImagingStudy/a"}]),
            "PI-RADS 2024-03-09 - rule explicit, 1 d before MRI, contradicted by dates",
        ),
    ],
)
def test_what_people_read_at_a_link(resource: Resource, words: str) -> None:
    link = judge(case([MRI], [resource]))[uid("a")].links[0]
    assert display(link, MRI) == words


def test_the_rule_set_is_named_anew_when_rules_or_windows_change() -> None:
    plain = rule_set(LinkSettings())
    assert plain == rule_set(LinkSettings(display=False, watch_interval=timedelta(minutes=5)))
    for other in (
        LinkSettings(psa_before=timedelta(days=179)),
        LinkSettings(rules=("explicit",)),
        LinkSettings(conformance="strict"),
        LinkSettings(prostate_description="pro"),
    ):
        assert rule_set(other) != plain
    assert " " not in plain


def test_nothing_by_rule_where_links_are_off() -> None:
    off = LinkSettings(enabled=False)
    known = case([A], [pi_rads("x", "2024-01-12"), family_history("f")], off)
    assert links(known) == {}
    assert set(refused(known)) == {"x", "f"}


def test_ages_need_a_birth_date() -> None:
    aged = [biopsy("b", 63)]
    known = case([A], aged, patient=patient(None))
    assert links(known) == {"b": ("sole-candidate", POSSIBLE)}
    assert judge(known)[uid("a")].links[0].when is None
