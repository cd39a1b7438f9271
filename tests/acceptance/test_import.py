"""The first filling: all of an archive reaches FHIR, once, whatever happens on the way."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import SyntheticPatient
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc

STUDIES = 20


@pytest.fixture(scope="module")
def pacs(new_orthanc: Callable[..., Orthanc]) -> Orthanc:
    """An Orthanc that holds the studies of these tests alone."""
    return new_orthanc()


@pytest.fixture(scope="module")
def uploads(pacs: Orthanc, hapi: Hapi) -> list[Upload]:
    """What the archive held before we heard of it; the last one has no Patient."""
    return filled(pacs, hapi, STUDIES)


def filled(pacs: Orthanc, hapi: Hapi, studies: int) -> list[Upload]:
    made = [Upload(slices=1) for _ in range(studies)]
    for upload in made:
        assert store(pacs.dicomweb_url, upload.files).status_code == 200
    for upload in made[:-1]:
        create_patient(hapi.base_url, upload.patient)
    return made


@pytest.fixture
def site(make_site: Callable[[str, str | None], Site], pacs: Orthanc, hapi: Hapi) -> Site:
    made = make_site(hapi.base_url, pacs.dicomweb_url)
    made.settings["study"] = {"quiet_period": "1h", "longest_wait": "2h"}  # an import waits not
    return made


def versions(hapi: Hapi, uploads: list[Upload]) -> list[Any]:
    """The version of each study's one ImagingStudy; None where there is none."""
    found = [imaging_studies(hapi.base_url, upload.uid) for upload in uploads]
    assert all(len(one) <= 1 for one in found)
    return [one[0]["meta"]["versionId"] if one else None for one in found]


Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Start imports that end with the test."""
    with ExitStack() as begun:

        def start(site: Site, *arguments: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [str(site.program), "import", *arguments, "--json", "--config", str(site.config)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            begun.enter_context(process)
            begun.callback(process.kill)
            return process

        yield start


def in_fhir(site: Site) -> int:
    """How many studies the ledger has as done."""
    try:
        return [*site.states().values()].count("completed")
    except sqlite3.OperationalError:
        return 0  # the ledger is being made


def test_everything_arrives_once_and_twice_changes_nothing(
    site: Site, hapi: Hapi, uploads: list[Upload]
) -> None:
    told = site.ask("import", "--all")
    assert told == {
        "archives": ["pacs"],
        "finished": True,
        "resumed": False,
        "listed": STUDIES,
        "new": STUDIES,
        "written": STUDIES - 1,
        "unchanged": 0,
        "out_of_scope": 0,
        "on_hold": {"PATIENT-ABSENT": 1},
        "failed": {},
        "error": None,
    }
    before = versions(hapi, uploads)
    assert before[-1] is None
    assert all(before[:-1])
    again = site.ask("import", "--all")
    assert (again["new"], again["written"], again["unchanged"]) == (0, 0, STUDIES - 1)
    assert again["on_hold"] == {"PATIENT-ABSENT": 1}
    assert versions(hapi, uploads) == before


def test_a_killed_import_goes_on_where_it_stopped(
    begin: Begin, site: Site, hapi: Hapi, new_orthanc: Callable[..., Orthanc]
) -> None:
    fresh = new_orthanc()
    uploads = filled(fresh, hapi, STUDIES)
    site.settings["archive"] = {"dicomweb_url": fresh.dicomweb_url, "page_size": 4}
    running_import = begin(site, "--all", "--rate", "1/s")

    def arrived() -> int:
        return sum(bool(imaging_studies(hapi.base_url, upload.uid)) for upload in uploads)

    eventually(lambda: arrived() >= 6, what="some are imported", every=0.1)
    running_import.kill()
    running_import.communicate()
    assert arrived() < STUDIES - 1
    told = site.ask("import", "--all")
    assert told["resumed"] is True
    assert told["finished"] is True
    settled = told["written"] + told["unchanged"] + sum(told["on_hold"].values())
    assert settled == told["listed"] <= STUDIES
    assert in_fhir(site) == STUDIES - 1
    assert versions(hapi, uploads) == ["1"] * (STUDIES - 1) + [None]  # none was written twice
    assert site.ask("import", "--all")["new"] == 0


def test_an_interrupted_import_says_how_to_go_on(
    begin: Begin, site: Site, uploads: list[Upload]
) -> None:
    running_import = begin(site, "--all", "--rate", "30/min")
    eventually(lambda: in_fhir(site) >= 2, what="some are imported", every=0.1)
    running_import.send_signal(signal.SIGTERM)
    stdout, stderr = running_import.communicate(timeout=60)
    assert running_import.returncode == 130
    told = json.loads(stdout)
    assert told["finished"] is False
    assert 0 < told["listed"] < STUDIES
    assert "the same command goes on" in stderr
    assert site.ask("status")["counts"]["in-progress"] == 0


def test_a_choice_is_kept_to(site: Site, hapi: Hapi, uploads: list[Upload], tmp_path: Path) -> None:
    chosen = uploads[:2]
    file = tmp_path / "patients"
    file.write_text("".join(f"{upload.patient.patient_id}\n" for upload in chosen))
    told = site.ask("import", "--patients", str(file))
    assert (told["listed"], told["written"] + told["unchanged"]) == (2, 2)
    assert site.states().keys() == {upload.uid for upload in chosen}
    assert site.ask("import", "--modality", "US")["listed"] == 0
    assert site.ask("import", "--to", "1990-01-01")["listed"] == 0
    assert site.ask("import", "--from", "1990-01-01", "--modality", "MR")["listed"] == STUDIES


def test_beside_a_running_service_nothing_is_written_twice(
    site: Site, hapi: Hapi, uploads: list[Upload]
) -> None:
    site.settings["patient"]["watch_interval"] = "1h"  # who is new lets be looked again
    site.settings["links"] = {"watch_interval": "1h", "sweep": False}
    with running(site):
        told = site.ask("import", "--all")
        assert told["written"] + told["unchanged"] == STUDIES - 1
        done = [site.ask("study", one.uid) for one in uploads[:-1:4]]
        by_service = len(site.logged("study.synced") + site.logged("study.unchanged"))
        assert site.stop() == 0
    for view in done:
        looks = [
            one for one in view["events"] if one["event"] in ("study.synced", "study.unchanged")
        ]
        assert len(looks) == 1
    assert by_service < STUDIES  # both took their share, whatever it was
    found = versions(hapi, uploads)
    assert all(found[:-1])


def test_it_waits_for_its_hours_and_for_its_rate(
    begin: Begin, site: Site, uploads: list[Upload]
) -> None:
    now = datetime.now(UTC).astimezone()
    site.settings["site"].pop("timezone")
    closed = f"{now + timedelta(hours=2):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    waiting = begin(site, "--all", "--window", closed)
    assert waiting.stderr is not None
    said = waiting.stderr.readline()
    assert f"waiting for {closed}" in said
    assert in_fhir(site) == 0
    waiting.send_signal(signal.SIGINT)
    waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    began = time.monotonic()
    open_now = f"{now - timedelta(hours=1):%H:%M}-{now + timedelta(hours=3):%H:%M}"
    site.ask("import", "--all", "--rate", "6/s", "--window", open_now)
    assert time.monotonic() - began > (STUDIES - 6) / 6


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--all", "--modality", "MR"],
        ["--from", "2026-02-01", "--to", "2026-01-01"],
        ["--all", "--rate", "fast"],
        ["--all", "--rate", "0/s"],
        ["--all", "--window", "25:00-26:00"],
        ["--all", "--archive", "none-such"],
        ["--from", "yesterday"],
    ],
)
def test_wrong_usage_is_said(sandbox_site: Site, arguments: list[str]) -> None:
    done = sandbox_site.run("import", *arguments)
    assert done.returncode == 2
    assert "Error:" in done.stderr
    assert not (sandbox_site.folder / "ledger.db").exists()


@pytest.mark.parametrize(
    ("section", "setting", "code"),
    [
        ("fhir", "base_url", "FHIR-UNAVAILABLE"),
        ("archive", "dicomweb_url", "ARCHIVE-UNAVAILABLE"),
    ],
)
def test_a_server_that_cannot_be_reached_is_a_clear_error(
    sandbox_site: Site, section: str, setting: str, code: str
) -> None:
    sandbox_site.settings[section][setting] = "http://127.0.0.1:9/nothing"
    told = sandbox_site.ask("import", "--all", code=69)
    assert told["error"]["code"] == code
    assert told["error"]["hint"]


def test_it_outlasts_a_fhir_server_that_goes_away(
    begin: Begin, sandbox_site: Site, sandbox: Sandbox
) -> None:
    uploads = [Upload(slices=1) for _ in range(30)]
    for upload in uploads:
        create_patient(sandbox.fhir_url, upload.patient)
        assert store(sandbox.dicomweb_url, upload.files).status_code == 200
    waiting = begin(sandbox_site, "--all", "--rate", "3/s")
    assert waiting.stderr is not None
    eventually(lambda: in_fhir(sandbox_site) >= 1, every=0.05)
    sandbox.stop()
    assert any("waiting for" in line for line in iter(waiting.stderr.readline, ""))
    sandbox.start()
    stdout, stderr = waiting.communicate(timeout=120)
    assert waiting.returncode == 0, stderr
    told = json.loads(stdout)
    assert (told["written"] + told["unchanged"], told["failed"]) == (30, {})


def test_nothing_of_a_patient_is_told(sandbox_site: Site, sandbox: Sandbox, tmp_path: Path) -> None:
    patient = SyntheticPatient(patient_id="SECRET-77", family_name="Geheimnis")
    upload, absent = Upload(patient, slices=1), Upload(SyntheticPatient("SECRET-78"), slices=1)
    create_patient(sandbox.fhir_url, patient)
    for one in (upload, absent):
        assert store(sandbox.dicomweb_url, one.files).status_code == 200
    file = tmp_path / "patients"
    file.write_text("SECRET-77\nSECRET-78\n")
    sandbox_site.settings["log"] = {"format": "json", "level": "debug"}
    texts = []
    for arguments in (["--patients", str(file)], ["--all"], ["--all", "--json"]):
        done = sandbox_site.run("import", *arguments)
        assert done.returncode == 0, done.stderr
        texts += [done.stdout, done.stderr]
    assert not [text for text in texts if "SECRET" in text or "Geheimnis" in text]
    # Nor can a guess of who was chosen be tested without the ledger's own key.
    guess = json.dumps(["None", "None", [], ["SECRET-77", "SECRET-78"]], separators=(",", ":"))
    with closing(sqlite3.connect(sandbox_site.folder / "ledger.db")) as ledger:
        (names,) = zip(*ledger.execute("SELECT source FROM source_cursor"), strict=True)
    assert len([name for name in names if name.startswith("import ")]) == 2
    assert blake2b(guess.encode(), digest_size=8).hexdigest() not in str(names)
    assert len(imaging_studies(sandbox.fhir_url, upload.uid)) == 1


def test_the_progress_bar_is_for_a_terminal(sandbox_site: Site, sandbox: Sandbox) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    assert store(sandbox.dicomweb_url, upload.files).status_code == 200
    ours, theirs = os.openpty()
    done = subprocess.run(
        [str(sandbox_site.program), "import", "--all", "--config", str(sandbox_site.config)],
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
        timeout=120,
        check=False,
    )
    os.close(theirs)
    drawn = os.read(ours, 65536).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "import" in drawn
    assert "1/1" in drawn
    assert "1  written" in done.stdout


def test_of_several_archives_one_or_all(
    sandbox_site: Site, sandbox: Sandbox, tmp_path: Path
) -> None:
    with Sandbox(tmp_path / "other") as other:
        site = sandbox_site
        del site.settings["archive"]
        site.settings["archives"] = [
            {"name": "mri", "dicomweb_url": sandbox.dicomweb_url},
            {"name": "vna", "dicomweb_url": other.dicomweb_url},
        ]
        in_both, in_one = Upload(slices=1), Upload(slices=1)
        for upload in (in_both, in_one):
            create_patient(sandbox.fhir_url, upload.patient)
            assert store(other.dicomweb_url, upload.files).status_code == 200
        assert store(sandbox.dicomweb_url, in_both.files).status_code == 200
        alone = site.ask("import", "--all", "--archive", "mri")
        assert (alone["archives"], alone["listed"], alone["written"]) == (["mri"], 1, 1)
        told = site.ask("import", "--all")
        assert (told["archives"], told["listed"]) == (["mri", "vna"], 3)
        (found,) = imaging_studies(sandbox.fhir_url, in_both.uid)
        assert len(found["endpoint"]) == 4
        assert site.ask("reconcile")["findings"] == []
        assert site.ask("reconcile", "--archive", "mri")["findings"] == []


def test_an_archive_that_cannot_be_listed_keeps_nobody_from_the_next(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    site = sandbox_site
    del site.settings["archive"]
    site.settings["archives"] = [
        {"name": "lost", "dicomweb_url": "http://127.0.0.1:9/nothing"},
        {"name": "vna", "dicomweb_url": sandbox.dicomweb_url},
    ]
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    assert store(sandbox.dicomweb_url, upload.files).status_code == 200
    told = site.ask("import", "--all", code=69)
    assert (told["listed"], told["written"], told["finished"]) == (1, 1, False)
    assert (told["error"]["archive"], told["error"]["code"]) == ("lost", "ARCHIVE-UNAVAILABLE")
    assert len(imaging_studies(sandbox.fhir_url, upload.uid)) == 1
    done = site.run("import", "--all")
    assert done.returncode == 69
    assert "lost: it was not listed" in done.stderr
    assert "ARCHIVE-UNAVAILABLE" in done.stderr
