"""The criterion as it is published means the same to the engines of others.

Each disagreement is named here and in docs/criteria.md; any other fails.
"""

from pathlib import Path

import orjson
import pytest

from flute_sync.criteria_artefacts import cql_parameters, fhirpath_names, library_contents
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.daemon.criteria_files import FOLDER, built_in
from flute_sync.link_settings import LinkSettings
from tests.criteria_cases.patients import CasePatient, more_patients, patients
from tests.services import criteria_engines

DISAGREEMENTS: dict[str, dict[str, dict[str, str]]] = {
    "fhirpath": {},
    "cql": {
        "of one day, times without a zone": {"Procedure/b": "included"},
        "more: date 2024-06-09Tx": {"Procedure/b": "unknown"},
        "more: by 2024-06-09Tx": {"Procedure/b": "unknown"},
    },
}
"""By engine and case, what it says instead: of dateTimes that FHIR does not allow, and no others.
A time without a zone is read as one of the engine's own."""
pytestmark = pytest.mark.usefixtures("criteria_engines_here")
Answers = list[tuple[CasePatient, dict[str, dict[str, str]]]]


@pytest.fixture(scope="module")
def answers(criteria_engines_here: None) -> Answers:
    dated = ("more: date", "more: by")
    more = [one for n, one in enumerate(more_patients()) if n % 2 or one.case.startswith(dated)]
    asked = [*patients(), *more]
    expressions = {
        settings: built_in(fhirpath_names(settings, LinkSettings())).expressions
        for settings in {one.settings for one in asked}
    }
    questions = [
        {
            "bundle": one.bundle,
            "fhirpath": expressions[one.settings],
            "parameters": cql_parameters(one.settings, LinkSettings()),
        }
        for one in asked
    ]
    elm = orjson.loads((FOLDER / "FluteMriBeforeBiopsy.elm.json").read_bytes())
    return list(zip(asked, criteria_engines.judged(elm, questions), strict=True))


@pytest.mark.parametrize("engine", ["fhirpath", "cql"])
def test_an_engine_of_others_says_what_we_say(answers: Answers, engine: str) -> None:
    assert len(answers) > 150
    assert {
        one.case: said[engine] for one, said in answers if said[engine] != one.expected
    } == DISAGREEMENTS[engine]


def test_the_elm_is_what_the_translator_makes_of_the_cql(tmp_path: Path) -> None:
    """To write it anew: ``python -m tests.services.criteria_engines``.

    What a site has set is put into CQL and ELM apart: both must mean the same.
    """
    cql = (FOLDER / "FluteMriBeforeBiopsy.cql").read_text(encoding="utf-8")
    elm = (FOLDER / "FluteMriBeforeBiopsy.elm.json").read_bytes()
    sites = [
        (CriteriaSettings(), LinkSettings()),
        (
            CriteriaSettings(same_day="include", prostate="certain"),
            LinkSettings(untrusted_dates=True, prostate_procedures=("urn:x|a'b\\c", "urn:x|d")),
        ),
    ]
    trees: list[object] = []
    files: list[Path] = []
    for settings, site in sites:
        text, tree = library_contents(cql, elm, cql_parameters(settings, site)).values()
        files.append(tmp_path / f"{len(files)}.cql")
        files[-1].write_bytes(text)
        trees.append(orjson.loads(tree))
    assert trees[0] == orjson.loads(elm)
    assert files[0].read_text(encoding="utf-8") == cql
    assert criteria_engines.translated(*files) == trees
