"""The built-in criterion as FHIRPath, by the library that judges a site's own criteria."""

import re

import pytest

from flute_sync.body_part import BODY_PART
from flute_sync.criteria_artefacts import LIBRARY, VERSION, fhirpath_names
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.daemon.criteria_files import FOLDER, built_in
from flute_sync.eligibility import CRITERION, TEXT, judge
from flute_sync.link_settings import LinkSettings
from flute_sync.own_judgement import OwnJudge
from flute_sync.prostate import PELVIC, PROSTATIC
from tests.criteria_cases.patients import CasePatient, more_patients, patients

DISAGREEMENTS: dict[str, dict[str, str]] = {}
"""By case: what it says instead; docs/criteria.md names them too."""


@pytest.fixture(scope="module")
def judges() -> dict[CriteriaSettings, OwnJudge]:
    return {}


def verdicts(one: CasePatient, judges: dict[CriteriaSettings, OwnJudge]) -> dict[str, str]:
    site = LinkSettings()
    if one.settings not in judges:
        judges[one.settings] = OwnJudge(built_in(fhirpath_names(one.settings, site)))
    found = judges[one.settings](one.history, one.settings, site)
    return {result.biopsy.name: result.verdict.value for result in found.results}


def test_it_says_what_the_built_in_one_says(judges: dict[CriteriaSettings, OwnJudge]) -> None:
    asked = [*patients(), *more_patients()]
    assert len(asked) > 200
    found = {one.case: verdicts(one, judges) for one in asked}
    expected = {one.case: one.expected for one in asked}
    assert {name: said for name, said in found.items() if said != expected[name]} == DISAGREEMENTS


def test_what_a_site_has_set_is_in_it() -> None:
    site = LinkSettings(untrusted_dates=True, prostate_procedures=("urn:x|a'b",))
    settings = CriteriaSettings(prostate="certain")
    judge_one = OwnJudge(built_in(fhirpath_names(settings, site)))
    told = set()
    for one in more_patients(procedure="a'b"):
        if " in " not in one.case and "procedure" not in one.case:
            continue
        expected = {r.biopsy.name: r.verdict for r in judge(one.history, settings, site).results}
        found = judge_one(one.history, settings, site)
        assert {r.biopsy.name: r.verdict for r in found.results} == expected
        told |= {*expected.values()}
    assert len(told) == 3


def test_it_is_the_same_criterion_and_of_one_version() -> None:
    assert (built_in().name, built_in().description, built_in().version) == (
        CRITERION, TEXT, VERSION
    )  # fmt: skip
    cql = (FOLDER / f"{LIBRARY}.cql").read_text(encoding="utf-8")
    assert f"library {LIBRARY} version '{VERSION}'\n" in cql


def test_its_lists_are_ours() -> None:
    """CQL and FHIRPath hold as text what the evaluator holds as sets."""
    known = {code: {t for t, concept in BODY_PART.items() if concept.code in code}
             for code in (PROSTATIC, PELVIC)}  # fmt: skip
    others = BODY_PART.keys() - known[PROSTATIC] - known[PELVIC]
    wanted = {frozenset(one) for one in (PROSTATIC, PELVIC, known[PELVIC], others)}
    assert known[PROSTATIC] == {"PROSTATE"}
    define = built_in().define
    in_fhirpath = {_items(define[n]) for n in ("prostatic", "around", "wider", "others")}
    cql = (FOLDER / f"{LIBRARY}.cql").read_text(encoding="utf-8")
    in_cql = {
        _items("".join(re.findall(r"'([^']*)'", found)))
        for found in re.findall(r'^define "(?:Prostatic|Codes|Terms)[^"]*":\n((?:  .*\n)+)', cql,
                                re.MULTILINE)
    }  # fmt: skip
    assert in_fhirpath == wanted
    assert in_cql == wanted


def _items(text: str) -> frozenset[str]:
    return frozenset(text.strip("'|").split("|"))
