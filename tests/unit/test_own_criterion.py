"""A criterion of a site's own: its file, its expressions, and what becomes of what is wrong."""

import json
import os
import re
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flute_sync.criteria_evidence import history, piece
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.criterion_errors import (
    CriterionContradicts,
    CriterionFailed,
    CriterionMalformed,
    CriterionSlow,
    CriterionUnreadable,
)
from flute_sync.daemon.config import Config
from flute_sync.daemon.criteria_files import artefacts, built_in, criterion_named, own
from flute_sync.eligibility import Eligibility, Judged
from flute_sync.exports.judging import OWN_ALONE_PIECES, OwnRule
from flute_sync.exports.judging import judged as judged_all
from flute_sync.exports.loading import load
from flute_sync.exports.spool import Spool
from flute_sync.exports.time_limit import limited
from flute_sync.link_settings import LinkSettings
from flute_sync.own_criterion import LARGEST_BYTES, read
from flute_sync.own_judgement import OwnJudge
from tests.histories import Resource, biopsy, patient, psa, study
from tests.own_criteria import PSA

ROOT = Path(__file__).parents[2]
PLAIN: Mapping[str, Any] = {
    "name": "plain",
    "version": "1",
    "title": "t",
    "description": "d",
    "resources": ["Procedure"],
    "index": "entry.resource.ofType(Procedure)",
    "included": "false",
    "excluded": "false",
}
WHOLE = ("Patient", "ImagingStudy", "Procedure", "Observation")


def file_of(let: str = "", define: str = "", **changed: Any) -> str:
    lines = [f"{name} = {value!r}" for name, value in {**PLAIN, **changed}.items()]
    return "\n".join([*lines, "[let]", let, "[define]", define])


def judged(text: str, *resources: Resource) -> Judged:
    found = [piece(one, whole=WHOLE) for one in (patient(), *resources)]
    known = history("Patient/p1", [one for one in found if one is not None])
    return OwnJudge(read(text))(known, CriteriaSettings(), LinkSettings())


def verdicts(text: str, *resources: Resource) -> dict[str, str]:
    return {one.biopsy.name: one.verdict.value for one in judged(text, *resources).results}


def test_each_index_resource_gets_its_own_of_three_verdicts() -> None:
    found = judged(
        PSA,
        biopsy("third", "2026-01-01"),
        biopsy("first", "2024-06-10"),
        biopsy("second", "2025-06-10"),
        biopsy("planned", "2024-06-10", status="preparation"),
        psa("high", "2024-05-01", 4.1),
        psa("low", "2025-05-01", 2.9),
        psa("not", "2025-05-02", 9.9, status="cancelled"),
        study("m", "2024-05-01"),
    )
    assert [(one.biopsy.name, one.verdict.value, one.ground.value) for one in found.results] == [
        ("Procedure/first", "included", "included-by-expression"),
        ("Procedure/second", "excluded", "excluded-by-expression"),
        ("Procedure/third", "unknown", "neither-by-expression"),
    ]
    assert str(found.results[0].biopsy.day) == "2024-06-10"
    assert [one.name for one in found.mris] == ["ImagingStudy/m"]


@pytest.mark.parametrize(("value", "verdict"), [(3.0, "excluded"), (3.01, "included")])
def test_numbers_are_numbers(value: float, verdict: str) -> None:
    known = (biopsy("b", "2024-06-10"), psa("o", "2024-05-01", value))
    assert verdicts(PSA, *known) == {"Procedure/b": verdict}


def test_the_study_that_decided_is_the_last_of_those_named() -> None:
    text = file_of(study="entry.resource.ofType(ImagingStudy)")
    (found,) = judged(text, biopsy("b", "2024-06-10"), study("z", "2024-01-01"),
                      study("a", "2024-05-01")).results  # fmt: skip
    assert found.study is not None
    assert found.study.name == "ImagingStudy/a"


def test_names_stand_for_texts_and_values_alike() -> None:
    text = file_of(
        let='day = "entry.resource.ofType(Procedure).performed"',
        define='is_first = "%here = \'b\'"\nhere = "id"\nall_of = "where(%is_first or false)"',
        index="entry.resource.ofType(Procedure).%all_of",
        included="%day.exists() and '%here' = '%' & 'here' // %nothing",
    )
    assert verdicts(text, biopsy("b", "2024-06-10"), biopsy("c", "2024-06-10")) == {
        "Procedure/b": "included"
    }
    assert read(text).expressions["index"] == (
        "entry.resource.ofType(Procedure).where(((id) = 'b') or false)"
    )
    assert (
        "(%resource.select(entry.resource.ofType(Procedure).performed)).exists()"
        in (read(text).expressions["included"])
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name = ", "it is not TOML"),
        (file_of(name="A b"), "name"),
        (file_of(included=""), "included"),
        (file_of(resources=[]), "resources"),
        (file_of(resources=["procedure"]), "resources.0"),
        (file_of(other="x"), "other"),
        (file_of(included="%nothing"), "%nothing is not defined"),
        (file_of(define='a = "%b"\nb = "%a"', included="%a"), "is defined by itself"),
        (file_of(let='a = "%b"\nb = "true"', included="%a"), "%b is not defined, or not yet"),
        (file_of(let='a = "true"', define='a = "true"'), "is in [let] and in [define]"),
        (
            file_of(
                define="\n".join(
                    [f'a{n} = "{" or ".join([f"%a{n + 1}"] * 10)}"' for n in range(9)]
                    + ['a9 = "true"']
                ),
                included="%a0",
            ),
            "too long",
        ),
        (file_of(included="true)"), "`included`, line 1, character 4"),
        (file_of(included="true and"), "`included`, line 1"),
        (file_of(included="entry..resource"), "`included`, line 1"),
        (file_of(included="'open"), "`included`, line 1"),
        (file_of(included="true # false"), "`included`, line 1"),
        (file_of(included="entry.exist()"), "`included` calls exist(), which is not known"),
        (file_of(included="(" * 3000 + "true" + ")" * 3000), "`included` is nested too deeply"),
    ],
)  # fmt: skip
def test_what_is_no_criterion_is_refused_with_its_place(text: str, words: str) -> None:
    with pytest.raises(CriterionMalformed) as refused:
        OwnJudge(read(text))
    assert words in refused.value.detail


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("entry.resource.id + 1", "`included`: "),
        ("'a'.toDate() & entry.resource.ofType(Procedure).id.toInteger() / (1 | 2)", "`included`"),
        ("entry.resource.id", "`included` is not boolean"),
        ("'true'", "`included` is not boolean"),
        ("entry.resource.select(true)", "`included` is not boolean"),
        ("%undefined_by_us", "not defined"),
    ],
)
def test_what_cannot_be_evaluated_says_nothing_of_the_data(expression: str, words: str) -> None:
    secret = biopsy("secret-id", "2024-06-10", status="secret-status")
    with pytest.raises((CriterionFailed, CriterionMalformed)) as refused:
        judged(file_of(included=expression), secret)
    assert words in refused.value.detail
    assert "secret" not in str(refused.value)
    assert refused.value.__cause__ is None


def test_an_index_is_of_resources() -> None:
    with pytest.raises(CriterionFailed, match="selects something else than resources"):
        judged(file_of(index="entry.resource.id"), biopsy("b", "2024-06-10"))


def test_nobody_is_included_and_excluded() -> None:
    with pytest.raises(CriterionContradicts) as refused:
        judged(file_of(included="true", excluded="true"), biopsy("b", "2024-06-10"))
    assert "plain" in str(refused.value)


def test_the_example_of_the_documentation_is_right() -> None:
    page = (ROOT / "docs" / "criteria.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```\n(name = .*?)^```$", page, re.MULTILINE | re.DOTALL)
    ours, shown = (read(text).expressions for text in (PSA, example))
    assert {name: text.split() for name, text in shown.items()} == {
        name: text.split() for name, text in ours.items()
    }


def test_a_merged_patient_is_no_longer_there() -> None:
    text = file_of(included="entry.resource.ofType(Patient).count() = 1")
    old = {"resourceType": "Patient", "id": "p0",
           "link": [{"type": "replaced-by", "other": {"reference": "Patient/p1"}}]}  # fmt: skip
    assert verdicts(text, old, biopsy("b", "2024-06-10")) == {"Procedure/b": "included"}


def test_what_takes_too_long_is_ended() -> None:
    text = file_of(included=f"'{'a' * 60}b'.matches('^(a+)+$')")
    with (
        pytest.raises(CriterionSlow, match=r"mine: more than 0\.2 s"),
        limited("mine", timedelta(seconds=0.2)),
    ):
        judged(text, biopsy("b", "2024-06-10"))
    with limited("mine", timedelta(seconds=60)):
        assert verdicts(PSA) == {}


def test_only_the_main_thread_is_limited() -> None:
    done: list[bool] = []

    def work() -> None:
        with limited("mine", timedelta(microseconds=1)):
            done.append(sum(range(100_000)) > 0)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]


def test_files_and_names(tmp_path: Path) -> None:
    file = tmp_path / "psa.toml"
    file.write_text(PSA, encoding="utf-8")
    assert own(file).name == "psa-before-biopsy"
    assert criterion_named(str(file), ()) == criterion_named("psa-before-biopsy", [str(file)])
    assert criterion_named(built_in().name, ()) is None
    for named in ("other", "./none.toml"):
        with pytest.raises(CriterionUnreadable):
            criterion_named(named, [str(file)])
    file.write_bytes(b"\xff")
    with pytest.raises(CriterionMalformed, match="UTF-8"):
        own(file)
    file.write_text("#" * (LARGEST_BYTES + 1), encoding="utf-8")
    with pytest.raises(CriterionMalformed, match="64 KiB"):
        own(file)
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(CriterionUnreadable):
        own(file)


def test_no_two_criteria_are_published_under_one_name(tmp_path: Path) -> None:
    file = tmp_path / "psa.toml"
    for name in ("psa-before-biopsy", built_in().name, f"{built_in().name}-fhirpath"):
        file.write_text(PSA.replace("psa-before-biopsy", name), encoding="utf-8")
        twice = [str(file)] * (2 if name.startswith("psa") else 1)
        config = Config.model_validate(
            {
                "fhir": {"base_url": "https://site.example/fhir"},
                "stow_rs": {"enabled": True},
                "criteria": {"files": twice},
            }
        )
        with pytest.raises(CriterionMalformed, match="name"):
            artefacts(config)


def test_many_are_judged_in_several_processes(tmp_path: Path) -> None:
    """In the order of their names, and what goes wrong in another process is told as well."""
    file = tmp_path / "export.ndjson"
    with file.open("w", encoding="utf-8") as lines:
        for number in range(600):
            subject = {"subject": {"reference": f"Patient/p{number:03}"}}
            for one in (
                patient(name=f"p{number:03}"),
                biopsy(f"b{number}", "2024-06-10", **subject),
                psa(f"o{number}", "2024-05-01", number % 7, **subject),
            ):
                lines.write(json.dumps(one) + "\n")
    with Spool() as spool:
        load(file, spool, lambda _done, _all_of: None, whole=WHOLE)
        assert spool.pieces > OWN_ALONE_PIECES
        rule = OwnRule(read(PSA).model_dump_json(), CriteriaSettings(), LinkSettings())
        parts = list(judged_all(spool, None, rule, OWN_ALONE_PIECES))
        found = [one for part in parts for patient_ in part.judged for one in patient_.results]
        assert [one.patient for one in found] == [f"Patient/p{n:03}" for n in range(600)]
        assert [one.verdict is Eligibility.INCLUDED for one in found] == [
            n % 7 > 3 for n in range(600)
        ]
        text = PSA.replace("%recent.exists() and", "%recent.exists(value.value = 4) or")
        both = OwnRule(read(text).model_dump_json(), CriteriaSettings(), LinkSettings())
        with pytest.raises(CriterionContradicts):
            list(judged_all(spool, None, both, OWN_ALONE_PIECES))
