"""`flute-sync criteria` as it is installed: from files, and from a server."""

import csv
import io
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
from pyarrow import parquet

from flute_sync.sandbox.server import Sandbox
from tests import criteria_cases
from tests.acceptance.site import PROGRAM, Site
from tests.histories import Resource, biopsy, patient, psa, study

CASES = json.loads(criteria_cases.FILE.read_text(encoding="utf-8"))
TWO_VERDICTS = [patient(), study("m", "2024-06-01"), biopsy("b1", "2024-06-10"),
                biopsy("b2", "2020-06-10"), psa("o", "2024-05-01", 5.1)]  # fmt: skip


def criteria(*arguments: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the program without settings of any kind."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [str(PROGRAM), "criteria", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    for one in TWO_VERDICTS:
        with (folder / f"{one['resourceType']}.ndjson").open("a", encoding="utf-8") as file:
            file.write(json.dumps(one) + "\n")
    return folder


def test_a_bundle_without_server_and_settings(tmp_path: Path) -> None:
    (case,) = (one for one in CASES if one["name"] == "several biopsies, each its own")
    file = tmp_path / "bundle.json"
    file.write_text(json.dumps(case["bundle"]), encoding="utf-8")
    answer = json.loads(criteria("--from", file, "--json").stdout)
    assert answer.keys() == {"criterion", "results", "summary"}
    assert all(
        one.keys() == {"patient", "biopsy", "verdict", "reason", "study"}
        for one in answer["results"]
    )
    assert [{name: one[name] for name in ("biopsy", "verdict", "study")}
            for one in answer["results"]] == case["expected"]  # fmt: skip
    assert {one["patient"] for one in answer["results"]} == {"Patient/p1"}
    assert (answer["summary"]["included"], answer["summary"]["excluded"]) == (1, 2)


def test_every_form_of_the_answer(export: Path, tmp_path: Path) -> None:
    text = criteria("--from", export).stdout.splitlines()
    assert text[0].startswith("excluded  Patient/p1  Procedure/b2  ")
    assert text[1].startswith("included  Patient/p1  Procedure/b1  ")
    rows = list(csv.DictReader(io.StringIO(criteria("--from", export, "--csv").stdout)))
    assert [one["verdict"] for one in rows] == ["excluded", "included"]
    assert [one["study_from"] for one in rows] == ["2024-06-01", "2024-06-01"]
    table, report = tmp_path / "x.parquet", tmp_path / "x.html"
    said = criteria("--from", export, "--parquet", table, "--html", report).stdout
    assert "Patient/p1" not in said
    found = parquet.read_table(table).to_pylist()
    assert [one["verdict"] for one in found] == ["excluded", "included"]
    assert str(found[1]["biopsy_from"]) == "2024-06-10"
    assert "Patient/p1" not in report.read_text(encoding="utf-8")
    for file in (table, report):
        assert file.stat().st_mode & 0o777 == 0o600
    named = tmp_path / "named.html"
    criteria("--from", export, "--html", named, "--references", "--json")
    assert "Patient/p1" in named.read_text(encoding="utf-8")
    assert {one.name for one in tmp_path.iterdir()} == {
        "export", "x.parquet", "x.html", "named.html"}  # fmt: skip


def test_who_stops_reading_the_answer_has_the_files(export: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    files = ["--html", tmp_path / "x.html", "--parquet", tmp_path / "x.parquet"]
    command = [str(PROGRAM), "criteria", "--from", str(export), "--csv", *map(str, files)]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, check=False, timeout=120)
    os.close(write)
    assert done.stderr == b""
    assert parquet.read_table(tmp_path / "x.parquet").num_rows == 2
    assert {one.name for one in tmp_path.iterdir()} == {"export", "x.html", "x.parquet"}


def test_settings_by_option_and_by_file(tmp_path: Path) -> None:
    file = tmp_path / "bundle.json"
    resources = [patient(), study("m", "2024-06-10", site=None), biopsy("b", "2024-06-10")]
    entries = [{"resource": one} for one in resources]
    file.write_text(json.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries}))

    def verdict(*arguments: str | Path) -> str:
        (result,) = json.loads(criteria("--from", file, "--json", *arguments).stdout)["results"]
        return str(result["verdict"])

    assert verdict() == "unknown"
    assert verdict("--same-day", "include") == "included"
    assert verdict("--same-day", "include", "--prostate", "certain") == "excluded"
    config = tmp_path / "site.toml"
    config.write_text('[fhir]\nbase_url = "http://127.0.0.1:9/fhir"\n[archive]\n'
                      'dicomweb_url = "http://127.0.0.1:9/dicom-web"\n'
                      '[criteria]\nsame_day = "exclude"\n')  # fmt: skip
    assert verdict("--config", config) == "excluded"
    assert verdict("--config", config, "--same-day", "include") == "included"


def test_errors_have_codes_and_name_nobody(tmp_path: Path) -> None:
    file = tmp_path / "bad.ndjson"
    file.write_text('{"resourceType": "Patient", "id": "Rossi", "name": [{"family": "Rossi"}\n')
    done = criteria("--from", file, code=65)
    assert "INPUT-MALFORMED" in done.stderr
    assert "bad.ndjson" in done.stderr
    assert "Rossi" not in done.stderr + done.stdout
    answer = json.loads(criteria("--from", file, "--json", code=65).stdout)
    assert answer["error"]["code"] == "INPUT-MALFORMED"
    assert answer["error"]["hint"]
    assert "INPUT-UNREADABLE" in criteria("--from", tmp_path / "absent", code=65).stderr
    copies = [study("m", day) for day in ("2024-01-01", "2020-01-01")]
    file.write_text("\n".join(map(json.dumps, copies)))
    answer = json.loads(criteria("--from", file, "--json", code=65).stdout)
    assert "two copies of one ImagingStudy differ" in answer["error"]["sentence"]
    file.write_text("")
    absent = criteria("--from", file, "--group", "Group/x", code=65)
    assert "INPUT-PATIENTS" in absent.stderr
    unwritable = criteria("--from", file, "--html", tmp_path / "no" / "x.html", code=65)
    assert "INPUT-UNREADABLE" in unwritable.stderr
    for wrong in (["--csv", "--json"], ["--write"], ["--group", "Patient/x"],
                  ["--group", "x", "--patients", "y"]):  # fmt: skip
        criteria("--from", file, *wrong, code=2)
    assert "CONFIG-INVALID" in criteria(code=78).stderr


def put(sandbox: Sandbox, *resources: Resource) -> None:
    for one in resources:
        url = f"{sandbox.fhir_url}/{one['resourceType']}/{one['id']}"
        httpx.put(url, json=one, timeout=60).raise_for_status()


def test_a_server_and_the_result_written_back(
    sandbox_site: Site, sandbox: Sandbox, tmp_path: Path
) -> None:
    subject = {"subject": {"reference": "Patient/p2"}}
    put(sandbox, *TWO_VERDICTS, patient(name="p2"), biopsy("b3", 54) | subject)
    answer: Any = sandbox_site.ask("criteria")
    assert [(one["biopsy"], one["verdict"]) for one in answer["results"]] == [
        ("Procedure/b2", "excluded"), ("Procedure/b1", "included"), ("Procedure/b3", "excluded"),
    ]  # fmt: skip
    assert answer["summary"]["patients"] == 2
    listing = tmp_path / "patients"
    listing.write_text("p2\n")
    listed: Any = sandbox_site.ask("criteria", "--patients", str(listing))
    assert [one["biopsy"] for one in listed["results"]] == ["Procedure/b3"]
    outcomes = []
    for _ in range(2):
        done = sandbox_site.run("criteria", "--write")
        assert done.returncode == 0, done.stderr
        outcomes.append([line.split() for line in done.stderr.splitlines() if "/" in line])
    assert [what for _, what in outcomes[0]] == ["created", "created"]
    assert outcomes[1] == [[name, "unchanged"] for name, _ in outcomes[0]]
    group = httpx.get(f"{sandbox.fhir_url}/{outcomes[0][0][0]}", timeout=60).json()
    assert [one["entity"]["reference"] for one in group["member"]] == ["Patient/p1"]
    whole: Any = sandbox_site.ask("criteria", "--group", f"Group/{group['id']}")
    assert [one["biopsy"] for one in whole["results"]] == ["Procedure/b2", "Procedure/b1"]
