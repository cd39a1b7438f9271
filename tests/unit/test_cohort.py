"""What is told of a whole cohort: counts, resources, and a report that names nobody."""

import io
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from typing import Any

import pytest
from fhir.resources.R4B.group import Group
from fhir.resources.R4B.measurereport import MeasureReport

from flute_sync.cohort import Tally
from flute_sync.cohort_resources import group, identifier, measure_report, says_the_same
from flute_sync.console.criteria_html import MOST_DRAWN, HtmlSink
from flute_sync.criteria_evidence import History, history, piece
from flute_sync.criteria_settings import CriteriaSettings
from flute_sync.eligibility import Judged, judge
from flute_sync.link_settings import LinkSettings
from flute_sync.terminology import FLUTE_SUPPORTING_INFO
from tests.histories import Resource, biopsy, dre, patient, psa, study

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
KEY = identifier("urn:uuid:7c1f0f2e-8f3f-4f0e-9a39-3f0c6e7a0001", "")
Judgement = tuple[History, Judged]


def one(name: str, *resources: Resource) -> Judgement:
    subject = {"subject": {"reference": f"Patient/{name}"}}
    found = [piece(x if x["resourceType"] == "Patient" else {**x, **subject}) for x in resources]
    known = history(f"Patient/{name}", [x for x in found if x is not None])
    return known, judge(known, CriteriaSettings(), LinkSettings())


def linked(resource: Resource, *references: str) -> Resource:
    links = [{"url": FLUTE_SUPPORTING_INFO, "valueReference": {"reference": x}} for x in references]
    return {**resource, "extension": links}


def cohort() -> list[Judgement]:
    return [
        one("Verdi", patient(name="Verdi"), biopsy("b1", "2024-06-10"), biopsy("b2", "2026-06-10"),
            linked(study("m1", "2024-01-05"), "Observation/o1/_history/2", "Procedure/b1",
                   "Observation/elsewhere"),
            psa("o1", "2024-01-01"), psa("o2", "2024-01-02"), psa("o3", None, status="cancelled"),
            dre("d", "2024-01-01")),
        one("Bianchi", patient(name="Bianchi"), biopsy("b3", "2024-06")),
        one("Neri", patient(name="Neri"), biopsy("b4", 54), study("m4", "2015-01-01")),
        one("Russo", patient(name="Russo"), study("m5", "2024-01-01")),
        one("Gallo", patient(name="Gallo")),
    ]  # fmt: skip


def tally(judgements: list[Judgement]) -> Tally:
    counted = Tally()
    for known, judged in judgements:
        counted.add(known, judged)
    return counted


def test_the_counts() -> None:
    found = tally(cohort()).as_dict()
    links = found.pop("links")
    assert found == {
        "patients": 5, "patients_with_biopsy": 3, "patients_with_mri": 3, "patients_with_both": 2,
        "patients_included": 1, "biopsies": 4, "included": 1, "excluded": 2, "unknown": 1,
        "why": {"included": {"mri-in-window": 1}, "excluded": {"no-mri": 1, "mri-too-early": 1},
                "unknown": {"biopsy-dated-by-age": 1}},
        "mris": 3, "without_patient": 0, "absent_patients": 0, "files_not_read": 0,
        "pages_missing": 0,
    }  # fmt: skip
    assert links["PR_ProstateSpecificAntigen"] == {"resources": 2, "linked": 1, "mris": 1}
    assert links["PR_Biopsy"] == {"resources": 4, "linked": 1, "mris": 1}
    assert links["PR_DigitalRectalExamination"] == {"resources": 1, "linked": 0, "mris": 0}


@pytest.mark.parametrize("judgements", [cohort(), []])
def test_the_resources_are_valid(judgements: list[Judgement]) -> None:
    members = ["Patient/b", "Patient/a"] if judgements else []
    made = group(KEY, members)
    assert [one["entity"]["reference"] for one in made.get("member", [])] == sorted(members)
    report = measure_report(
        KEY, tally(judgements), measure="urn:x:y", written=NOW, subject="Group/1"
    )
    Group.model_validate(made)
    MeasureReport.model_validate(report)
    assert ("start" in report["period"]) is bool(judgements)


def test_the_same_again_is_known_as_the_same() -> None:
    made = measure_report(KEY, tally(cohort()), measure="urn:x:y", written=NOW, subject=None)
    stored = {**made, "id": "1", "meta": {"versionId": "1"}}
    later = made | {"date": "2027-01-01T00:00:00+00:00"}
    assert says_the_same(stored, later)
    other = measure_report(KEY, tally(cohort()[1:]), measure="urn:x:y", written=NOW, subject=None)
    assert not says_the_same(stored, other)


def report(judgements: list[Judgement], *, references: bool = False) -> str:
    file = io.BytesIO()
    sink = HtmlSink(file, CriteriaSettings(), now=NOW, references=references)
    for _, judged in judgements:
        sink.take(judged)
    sink.end(tally(judgements))
    return file.getvalue().decode()


def elements(html: str) -> list[ET.Element]:
    """The elements of a report, which is written so that XML reads it too."""
    text = html.partition("\n")[2].replace("&middot;", "-")
    for name in ("meta", "br"):
        text = re.sub(rf"<{name}\b([^>]*)>", rf"<{name}\1/>", text)
    return list(ET.fromstring(text).iter())


def test_the_report_names_nobody_and_loads_nothing() -> None:
    html = report(cohort())
    for word in ("Verdi", "Bianchi", "Procedure", "ImagingStudy", "2024-0", "2015"):
        assert word not in html
    assert re.findall(r"https?:|//|src=|href=|url\(|<script|@import", html) == []
    found = elements(html)
    assert len([one for one in found if one.get("class") == "biopsy"]) == 2
    assert len([one for one in found if one.get("class") == "biopsy inexact"]) == 2
    assert len([one for one in found if one.get("class") == "mri deciding"]) == 3
    assert "-157 days from the biopsy" in html


def test_labels_belong_to_one_report() -> None:
    labels = [set(re.findall(r">([A-Z2-7]{8}-\d)<", report(cohort()))) for _ in range(2)]
    assert len(labels[0]) == len(labels[1]) == 4
    assert labels[0].isdisjoint(labels[1])


def test_the_report_may_show_references() -> None:
    html = report(cohort(), references=True)
    assert "Patient/Verdi Procedure/b1" in html
    assert "the MRI of 2024-01-05" in html
    assert "names patients" in html


def test_what_is_shown_is_escaped() -> None:
    odd = "<script>x</script>"
    html = report([one("p", biopsy(odd, "2024-01-01"))], references=True)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_a_large_cohort_is_a_sample_and_a_histogram_of_all() -> None:
    many = [
        one(f"p{number}", biopsy(f"b{number}", "2024-06-10"), study("m", f"2024-0{number % 5 + 1}"))
        for number in range(MOST_DRAWN + 50)
    ]
    html = report(many)
    drawn = [one for one in elements(html) if one.get("class") == "biopsy"]
    assert len(drawn) == MOST_DRAWN
    assert f"{MOST_DRAWN} of {len(many)} dated biopsies" in html
    bars = re.findall(r"<title>(\d+) from day", html)
    assert sum(map(int, bars)) == len(many)


def test_an_empty_cohort_has_a_report() -> None:
    html = report([])
    assert "<svg" not in html
    assert elements(html)


def test_far_and_open_dates_stand_at_the_edge() -> None:
    period: Any = {"end": "2024-06-10"}
    html = report([one("p", biopsy("b", {"start": "2024-06-10"}), study("m", "0001-01-01")),
                   one("q", biopsy("c", period), study("n", "9999-12-31"))])  # fmt: skip
    assert elements(html)
