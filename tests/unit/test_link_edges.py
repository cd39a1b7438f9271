"""What hostile, odd or very many resources must not do to the judgement of links."""

from decimal import Decimal
from time import process_time
from typing import Any

import pytest

from flute_sync.console.verbs.explain import line
from flute_sync.fhir_dates import Interval, Verdict, age, date_time, effective, timing
from flute_sync.flute_profiles import Rule, broken_rules
from flute_sync.flute_variables import Kind
from flute_sync.ledger import LinkRow
from flute_sync.link_case import Case, Link
from flute_sync.supporting_info import judge
from tests.histories import (
    LOCAL_ICD,
    PATIENT,
    Resource,
    biopsy,
    case,
    family_history,
    isup,
    pi_rads,
    psa,
    study,
    uid,
)

A, B = study("a", "2024-01-10"), study("b", "2024-03-10")
SAME: Resource = {"basedOn": [{"reference": "ServiceRequest/1"}]}


def links(known: Case, name: str = "a") -> list[tuple[str, str, Verdict]]:
    found = judge(known)[uid(name)].links
    return [(one.reference.partition("/")[2], one.rule, one.verdict) for one in found]


def refusal(known: Case, name: str, reference: str) -> Link:
    found = judge(known)[uid(name)].refused
    return next(one for one in found if one.reference.endswith(f"/{reference}"))


@pytest.mark.parametrize(
    "value",
    [
        {"value": 54, "code": ["a"]},
        {"value": 54, "code": {}},
        {"value": Decimal("1E-3000000000"), "code": "a"},
        {"value": Decimal("0E-3000000000"), "code": "d"},
        {"value": Decimal("0E+999999999"), "code": "d"},
    ],
)
def test_an_age_that_is_nonsense_is_none(value: Any) -> None:
    assert age(value, date_time("1974-12-25")) is None


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"event": ["2024-01-12"]}, "2024-01-12"),
        ({"event": ["2024-01-12", "2023-05", None, "x"]}, "2023-05-01/2024-01-12"),
        ({"event": [], "repeat": {"boundsPeriod": {"start": "2024-02-01"}}}, "2024-02-01/?"),
        ({"event": "2024-01-12"}, None),
        ({"repeat": [], "code": {"text": "twice"}}, None),
        ("2024-01-12", None),
    ],
)
def test_a_timing(value: Any, found: str | None) -> None:
    told = timing(value)
    assert (told if told is None else str(told)) == found
    assert effective({"effectiveTiming": value}, None) == told


def test_a_timing_keeps_a_value_from_an_mri_that_is_years_away() -> None:
    value = psa("x", None, effectiveTiming={"event": ["2010-01-12"]})
    assert links(case([A], [value])) == []
    near = psa("x", None, effectiveTiming={"event": ["2024-01-05T10:00:00Z"]})
    assert links(case([A], [near])) == [("x", "time/psa-before", Verdict.CERTAIN)]
    assert effective(near, None) == date_time("2024-01-05T10:00:00Z")
    assert isinstance(effective(near, None), Interval)


@pytest.mark.parametrize(
    "reference",
    [
        {"type": "Procedure", "identifier": {"value": "2024.123"}},
        {"reference": "Procedure/5", "identifier": {"value": "2024.123"}},
        {"reference": "Procedure/5/_history/2", "identifier": {"value": "2024.123"}},
        {"reference": "https://other.example/Media/5", "identifier": {"value": "2024.123"}},
    ],
)
def test_a_number_of_something_else_is_not_taken_for_another_study(reference: Resource) -> None:
    known = case([A], [pi_rads("x", "2024-01-12", partOf=[reference])])
    assert links(known) == [("x", "time/after-mri", Verdict.CERTAIN)]


@pytest.mark.parametrize(
    "about",
    [
        {"reference": "Patient/another"},
        {"reference": "https://other.example/Patient/another"},
        {"reference": "RelatedPerson/brother"},
        {"type": "Patient", "identifier": {"system": "urn:x", "value": "1.2.3"}},
    ],
)
def test_a_value_about_somebody_else_is_not_his(about: Resource) -> None:
    known = case([A], [psa("x", "2024-01-01", focus=[about])])
    assert links(known) == []
    refused = refusal(known, "a", "x")
    assert (refused.rule, refused.reason) == ("patient", "its focus is another person")


@pytest.mark.parametrize("about", [{"reference": PATIENT}, {"reference": "BodyStructure/1"}])
def test_a_value_about_himself_or_a_thing_is_his(about: Resource) -> None:
    known = case([A], [psa("x", "2024-01-01", focus=[about])])
    assert links(known) == [("x", "time/psa-before", Verdict.CERTAIN)]


def test_a_value_whose_meaning_is_modified_is_not_linked() -> None:
    known = case([A], [psa("x", "2024-01-01", modifierExtension=[{"url": "urn:not"}])])
    assert links(known) == []
    assert refusal(known, "a", "x").reason == "it breaks rules of its profile: modifier"


def test_a_request_does_not_overrule_the_dates() -> None:
    score = pi_rads("x", "2024-01-12", **SAME)
    known = case([A, B | SAME], [score])
    assert links(known, "a") == [("x", "time/after-mri", Verdict.CERTAIN)]
    assert links(known, "b") == []
    refused = refusal(known, "b", "x")
    assert (refused.rule, refused.verdict) == ("request", Verdict.CONTRADICTED)
    assert "before the MRI of 2024-03-10" in refused.reason
    assert links(case([B | SAME], [score]), "b") == []


def test_a_request_is_no_surer_than_that_the_mri_shows_the_prostate() -> None:
    score = pi_rads("x", "2024-01-12", **SAME)
    pelvis = study("a", "2024-01-10", site=None)
    assert links(case([pelvis | SAME], [score])) == [("x", "request", Verdict.POSSIBLE)]
    named = score | {"derivedFrom": [{"reference": "ImagingStudy/a"}]}
    assert links(case([pelvis | SAME], [named])) == [("x", "explicit", Verdict.CERTAIN)]


def test_local_codings_beside_one_of_the_list_are_waived() -> None:
    cancer = family_history("f")["condition"][0]["code"]["coding"]
    both = family_history("f", condition=[{"code": {"coding": [*cancer, LOCAL_ICD]}}])
    assert broken_rules(both, Kind.FAMILY_HISTORY) == (Rule.LOCAL_CODING,)
    assert links(case([A], [both])) == [("f", "family-history", Verdict.CERTAIN)]
    father = family_history("f")["relationship"]["coding"]
    spoken = family_history("f", relationship={"coding": [{"code": "vader"}, *father]})
    assert broken_rules(spoken, Kind.FAMILY_HISTORY) == (Rule.LOCAL_CODING,)
    other = {"code": {"coding": [LOCAL_ICD]}}
    mixed = family_history("f", condition=[{"code": {"coding": cancer}}, other])
    assert broken_rules(mixed, Kind.FAMILY_HISTORY) == (Rule.CONDITION,)


def test_of_biopsies_of_one_day_one_is_taken_whichever_state_a_time() -> None:
    """A time goes before none, so that there always is a first."""
    taken = [
        biopsy("x", "2024-02-01T08:00:00Z", meta={"versionId": "1"}),
        biopsy("y", "2024-02-01", meta={"versionId": "2"}),
        biopsy("z", "2024-02-01T09:00:00Z", meta={"versionId": "3"}),
    ]
    known = case([A], taken)
    assert links(known) == [("x", "time/biopsy", Verdict.CERTAIN)]
    for name in ("y", "z"):
        assert "Procedure/x of 2024-02-01" in refusal(known, "a", name).reason


def test_a_refusal_names_the_one_that_was_taken() -> None:
    scores = [
        pi_rads("first", "2024-01-11"),
        pi_rads("second", "2024-01-12"),
        pi_rads("early", "2024-01-15", status="amended"),
        pi_rads("late", "2024-01-20", status="amended"),
    ]
    known = case([A], scores)
    assert links(known) == [("late", "time/after-mri", Verdict.CERTAIN)]
    for name in ("first", "second", "early"):
        assert "Observation/late" in refusal(known, "a", name).reason


def test_of_many_mris_that_a_date_leaves_open_a_few_are_named() -> None:
    mris = [study(f"m{n}", f"2024-01-{n + 1:02}") for n in range(20)]
    undated = [study(f"u{n}", None) for n in range(20)]
    value = psa("x", "2024-01")
    for studies in (mris, undated, [*mris, *undated]):
        reason = judge(case(studies, [value]))[uid(studies[0]["id"])].refused[0].reason
        assert "do not settle it" in reason
        assert reason.count(" and ") < 8
        assert reason.count("an undated MRI") < 2


@pytest.mark.parametrize("system", ["DCM", "urn:oid:1.2.840.10008.2.16.4"])
def test_an_mri_of_another_system_is_one_however_it_names_its_codes(system: str) -> None:
    foreign = study("b", "2024-02-10")
    foreign["series"][0]["modality"] = {"system": system, "code": "MR"}
    known = case([A, foreign], [pi_rads("x", "2024-02-12")])
    assert (links(known), links(known, "b")) == ([], [("x", "time/after-mri", Verdict.CERTAIN)])


@pytest.mark.parametrize(
    ("period", "words"),
    [
        ({"start": "2024-01-05"}, "of 2024-01-05 or after: "),
        ({"end": "2024-01-05"}, "of 2024-01-05 or before: "),
        ({"start": "2024-01-05", "end": "2024-02"}, "of 2024-01-05 to 2024-02-29: "),
    ],
)
def test_people_do_not_read_of_the_ends_of_time(period: Resource, words: str) -> None:
    value = psa("x", None, effectivePeriod=period)
    found = judge(case([B], [value]))[uid("b")]
    (told,) = (*found.links, *found.refused)
    assert told.when is not None
    low, high = (one.isoformat() for one in told.when[:2])
    row = LinkRow(told.reference, told.kind, told.rule, told.verdict, told.reason, (), low, high)
    assert words in line(row)


def many(count: int) -> list[tuple[str, list[Resource], list[Resource]]]:
    mris = [study(f"m{number}", f"{2000 + number % 24}-03-10") for number in range(100)]
    number = {"basedOn": [{"identifier": {"value": "1"}}]}
    return [
        ("scores of one day", [A], [pi_rads(f"x{n}", "2024-01-12") for n in range(count)]),
        ("values after", [A], [psa(f"x{n}", f"2024-02-{n % 28 + 1:02}") for n in range(count)]),
        (
            "a session",
            [A],
            [(isup if n % 2 else biopsy)(f"x{n}", "2024-02-01") for n in range(count)],
        ),
        ("without a date", [A], [psa(f"x{n}", None) for n in range(count)]),
        (
            "one number for all",
            [one | number for one in mris],
            [pi_rads(f"x{n}", "2010-03-12", **number) for n in range(count // 10)],
        ),
    ]


@pytest.mark.parametrize("index", range(5))
def test_many_candidates_take_no_time_by_their_square(index: int) -> None:
    """Four times as many take four times as long, not sixteen times."""
    times = []
    for count in (500, 2000):
        what, studies, candidates = many(count)[index]
        known = case(studies, candidates)
        started = process_time()
        judge(known)
        times.append(process_time() - started)
    assert times[1] < 10 * max(times[0], 0.05), (what, times)
