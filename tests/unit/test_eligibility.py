"""The criterion: the shared table of cases, and what a result says."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from flute_sync.criteria_evidence import History, history, piece
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.eligibility import Eligibility, Ground, Judged, judge
from flute_sync.link_settings import LinkSettings
from flute_sync.terminology import FLUTE_SYNC_TAG
from tests import criteria_cases
from tests.criteria_cases.table import UNTRUSTED
from tests.histories import KNEE, PATIENT, PELVIS, Resource, biopsy, patient, study

DAY = "2024-06-10"
CASES = json.loads(criteria_cases.FILE.read_text(encoding="utf-8"))
JOINED = {"references", "several"}
"""Cases of several patients, or of references: they are for those who read exports."""
ALONE = [case for case in CASES if case["kind"] not in JOINED]


def known(*resources: Resource) -> History:
    pieces = [found for one in resources if (found := piece(one)) is not None]
    return history(PATIENT, [one for one in pieces if one.patient == PATIENT])


def judged(*resources: Resource, site: LinkSettings | None = None, **settings: Any) -> Judged:
    made = known(patient(), *resources)
    return judge(made, CriteriaSettings(**settings), site or LinkSettings())


def test_the_file_of_cases_is_current() -> None:
    assert criteria_cases.FILE.read_text(encoding="utf-8") == criteria_cases.text()


def test_the_cases_have_names_of_their_own() -> None:
    names = [case["name"] for case in CASES]
    assert len({*names}) == len(names) > 80


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case["name"])
def test_the_cases(case: Any) -> None:
    entries = case["bundle"]["entry"]
    made = known(*(entry["resource"] for entry in entries))
    results = judge(made, CriteriaSettings(**case["settings"]), LinkSettings()).results
    said = {one.biopsy.name: (one.verdict.value, one.study and one.study.name) for one in results}
    wanted = {one["biopsy"]: (one["verdict"], one["study"]) for one in case["expected"]}
    assert said == wanted


def only(found: Judged) -> tuple[Eligibility, Ground, str]:
    (result,) = found.results
    return result.verdict, result.ground, result.reason


@pytest.mark.parametrize(
    ("studies", "performed", "verdict", "ground", "words"),
    [
        ([study("m", "2024-01-05")], DAY, "included", "mri-in-window",
         ["2024-01-05", "ImagingStudy/m", "2024-06-10", "the prostate"]),
        ([study("m", "2024-01-05", site=PELVIS)], DAY, "included", "mri-in-window",
         ["not contradicted"]),
        ([], DAY, "excluded", "no-mri", ["no MRI", "2024-06-10"]),
        ([study("m", "2021-01-05")], DAY, "excluded", "mri-too-early",
         ["2021-01-05", "earlier than one year"]),
        ([study("m", "2025-01-05")], DAY, "excluded", "mri-not-before", ["2025-01-05"]),
        ([study("m", DAY)], DAY, "unknown", "same-day", ["one day"]),
        ([study("m", "2024-06")], DAY, "unknown", "dates-inexact", ["2024-06-01/2024-06-30"]),
        ([study("m", None)], DAY, "unknown", "mri-undated", ["ImagingStudy/m"]),
        ([study("m", "2024-01-05", meta=UNTRUSTED)], DAY, "unknown", "mri-date-untrusted",
         ["not to be trusted"]),
        ([study("m", "2024-01-05")], None, "unknown", "biopsy-undated", ["no date"]),
        ([study("m", "2014-07-01")], 54, "unknown", "biopsy-dated-by-age",
         ["2014-05-17/2015-05-16", "age"]),
        ([study("m", "2024-01-05", site=KNEE)], DAY, "excluded", "no-mri",
         ["not counted: 1 MRI of another body part"]),
        ([study("m", "2024-01-05", status="cancelled")], DAY, "excluded", "no-mri",
         ["not counted: 1 MRI that is not available"]),
    ],
)  # fmt: skip
def test_the_reason_names_study_and_dates(
    studies: Sequence[Resource], performed: Any, verdict: str, ground: str, words: list[str]
) -> None:
    found = only(judged(*studies, biopsy("b", performed)))
    assert found[:2] == (verdict, ground)
    assert [word for word in words if word not in found[2]] == []


@pytest.mark.parametrize(
    ("started", "same_day", "verdict", "ground", "words"),
    [
        ("09:59:00+02:00", "unknown", "included", "mri-in-window", "by their times"),
        ("07:30:00Z", "exclude", "included", "mri-in-window", "by their times"),
        ("10:10:00+02:00", "unknown", "unknown", "same-day", "no times with a zone"),
        ("10:10:00+02:00", "exclude", "excluded", "mri-not-before", "by criteria.same_day"),
        ("10:30:00+02:00", "include", "excluded", "mri-not-before", "by their times"),
    ],
)
def test_a_biopsy_has_hours(
    started: str, same_day: str, verdict: str, ground: str, words: str
) -> None:
    """Before it began, or after it ended, the times tell; in between they do not."""
    performed = {"start": f"{DAY}T10:00:00+02:00", "end": f"{DAY}T08:30:00Z"}
    found = only(judged(study("m", f"{DAY}T{started}"), biopsy("b", performed), same_day=same_day))
    assert found[:2] == (verdict, ground)
    assert words in found[2]


def test_hours_that_end_before_they_begin_are_no_date() -> None:
    performed = {"start": f"{DAY}T10:00:00Z", "end": f"{DAY}T09:00:00Z"}
    assert only(judged(study("m", DAY), biopsy("b", performed)))[1] == "biopsy-undated"


def test_certain_says_what_it_left_out() -> None:
    found = only(judged(study("m", "2024-01-05", site=None), biopsy("b", DAY), prostate="certain"))
    assert found[:2] == ("excluded", "no-mri")
    assert "1 MRI that does not say it shows the prostate" in found[2]


def test_a_biopsy_of_another_organ_is_judged_and_flagged() -> None:
    liver = [{"coding": [{"system": "http://snomed.info/sct", "code": "10200004"}]}]
    found = only(judged(study("m", "2024-01-05"), biopsy("b", DAY, bodySite=liver)))
    assert found[0] == "included"
    assert "another body site" in found[2]


def test_the_site_may_name_the_prostate_and_trust_its_dates() -> None:
    resources = (study("m", "2024-01-05", site=None, description="mpMRI PROSTATA", meta=UNTRUSTED),
                 biopsy("b", DAY))  # fmt: skip
    site = LinkSettings(prostate_description="prostat", untrusted_dates=True)
    assert only(judged(*resources, site=site, prostate="certain"))[0] == "included"
    assert UNTRUSTED["tag"][0]["system"] == FLUTE_SYNC_TAG


def test_results_are_in_the_order_of_their_days() -> None:
    found = judged(biopsy("z", None), biopsy("b", "2024"), biopsy("c", "2023-05-01"))
    assert [one.biopsy.name for one in found.results] == [
        "Procedure/c", "Procedure/b", "Procedure/z"]  # fmt: skip


@pytest.mark.parametrize("value", [None, 5, [], {}, "x", {"value": 5}, [[{}]], True])
@pytest.mark.parametrize(
    "element", ["started", "series", "modality", "status", "meta", "extension", "procedureCode"]
)
def test_nonsense_in_a_study_is_as_good_as_nothing(element: str, value: object) -> None:
    odd = study("odd", "2024-01-01") | {element: value}
    found = judged(odd, study("m", "2024-05-01"), biopsy("b", DAY))
    assert found.results[0].study is not None
    assert found.results[0].verdict == "included"


@pytest.mark.parametrize("value", [None, 5, [], {}, "x", {"value": 5}, {"start": 5}, True])
@pytest.mark.parametrize(
    "element", ["performedDateTime", "performedPeriod", "performedAge", "bodySite", "meta"]
)
def test_nonsense_in_a_biopsy_is_as_good_as_nothing(element: str, value: object) -> None:
    odd = biopsy("b", None) | {element: value}
    assert only(judged(study("m", "2024-05-01"), odd))[:2] == ("unknown", "biopsy-undated")


@pytest.mark.parametrize("dates", [("0001-01-01", "0001-06-01"), ("9998-12-31", "9999-12-31")])
def test_the_ends_of_the_calendar(dates: tuple[str, str]) -> None:
    assert only(judged(study("m", dates[0]), biopsy("b", dates[1])))[0] == "included"
