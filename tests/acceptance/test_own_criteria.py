"""`flute-sync criteria --criterion` as it is installed: every form of the report."""

import csv
import io
import json
from pathlib import Path

import httpx
import pytest
from pyarrow import parquet

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.site import Site
from tests.acceptance.test_criteria import criteria, put
from tests.histories import biopsy, patient, psa, study
from tests.own_criteria import PSA

KNOWN = [patient(), study("m", "2024-06-01"), biopsy("b1", "2024-06-10"),
         biopsy("b2", "2020-06-10"), psa("o", "2024-05-01", 5.1)]  # fmt: skip
VERDICTS = {"Procedure/b1": "included", "Procedure/b2": "unknown"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "psa.toml"
    found.write_text(PSA, encoding="utf-8")
    return found


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    found = tmp_path / "bundle.json"
    entries = [{"resource": one} for one in KNOWN]
    text = json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})
    found.write_text(text, encoding="utf-8")
    return found


def test_every_form_of_the_report(tmp_path: Path, file: Path, bundle: Path) -> None:
    html, table = tmp_path / "report.html", tmp_path / "report.parquet"
    answer = json.loads(
        criteria("--from", bundle, "--criterion", file, "--json", "--html", html,
                 "--parquet", table).stdout
    )  # fmt: skip
    assert answer["criterion"] == "psa-before-biopsy"
    assert {one["biopsy"]: one["verdict"] for one in answer["results"]} == VERDICTS
    assert answer["summary"]["why"]["included"] == {"included-by-expression": 1}
    assert answer["summary"]["mris"] == 1
    words = html.read_text(encoding="utf-8")
    assert "a final PSA above 3.0 ng/mL" in words
    assert "Patient/p1" not in words
    assert dict(zip(*(parquet.read_table(table)[one].to_pylist() for one in
                      ("biopsy", "verdict")), strict=True)) == VERDICTS  # fmt: skip
    rows = csv.DictReader(io.StringIO(criteria("--from", bundle, "--criterion", file,
                                               "--csv").stdout))  # fmt: skip
    assert {row["biopsy"]: row["verdict"] for row in rows} == VERDICTS
    assert "the expression `included` holds" in (
        criteria("--from", bundle, "--criterion", file).stdout
    )


def test_what_is_wrong_with_it_is_told_without_the_data(file: Path, bundle: Path) -> None:
    wrong = {
        "CRITERION-MALFORMED": ("exists(value", "exist(value"),
        "CRITERION-CONTRADICTS": ("excluded = ", "excluded = 'true'\n#"),
        "CRITERION-FAILED": ("included = ", "included = 'entry.resource.id'\n#"),
    }
    for code, (old, new) in wrong.items():
        file.write_text(PSA.replace(old, new), encoding="utf-8")
        said = criteria("--from", bundle, "--criterion", file, code=78)
        assert code in said.stderr
        assert "p1" not in said.stderr + said.stdout
    assert "CRITERION-UNREADABLE" in criteria("--from", bundle, "--criterion", "x", code=78).stderr


def test_what_fails_midway_tells_nothing_of_those_before(tmp_path: Path, file: Path) -> None:
    file.write_text(
        'name = "x"\nversion = "1"\ntitle = "x"\ndescription = "x"\nresources = ["Procedure"]\n'
        'index = "entry.resource.ofType(Procedure)"\nexcluded = "false"\n'
        'included = "entry.resource.ofType(Procedure).note.text"\n',
        encoding="utf-8",
    )
    # More than is judged at once lies between the first result and the one that fails.
    people = [patient(name=f"p{number}") for number in range(1000, 5100)]
    first, last = (
        biopsy("b1", "2024-06-10"),
        biopsy("b2", "2024-06-10") | {"note": [{"text": "x"}] * 2},
    )
    first |= {"subject": {"reference": "Patient/p1000"}}
    last |= {"subject": {"reference": "Patient/p5099"}}
    many = tmp_path / "many.ndjson"
    many.write_text("\n".join(map(json.dumps, [*people, first, last])), encoding="utf-8")
    table = tmp_path / "x.parquet"
    said = criteria("--from", many, "--criterion", file, "--json", "--parquet", table, code=78)
    assert json.loads(said.stdout)["error"]["code"] == "CRITERION-FAILED"
    assert said.stderr == ""
    assert not table.exists()


def test_from_a_server_by_its_name_and_written_back(
    sandbox_site: Site, sandbox: Sandbox, file: Path
) -> None:
    put(sandbox, *KNOWN)
    sandbox_site.settings["criteria"] = {"files": [str(file)]}
    answer = sandbox_site.ask("criteria", "--criterion", "psa-before-biopsy", "--write")
    assert {one["biopsy"]: one["verdict"] for one in answer["results"]} == VERDICTS
    (group,) = httpx.get(f"{sandbox.fhir_url}/Group", timeout=60).json()["entry"]
    assert group["resource"]["name"] == "Included: psa-before-biopsy"
    (report,) = httpx.get(f"{sandbox.fhir_url}/MeasureReport", timeout=60).json()["entry"]
    assert report["resource"]["measure"].endswith("/Measure/psa-before-biopsy")
