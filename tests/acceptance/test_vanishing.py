"""A study that its archive finds no more: believed slowly, and never taken for other trouble."""

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store


def _delete(sandbox: Sandbox, uid: str) -> None:
    with httpx.Client(base_url=sandbox.archive_url, timeout=60) as archive:
        (found,) = archive.post("/tools/lookup", content=uid).json()
        assert archive.delete(f"/studies/{found['ID']}").status_code == 200


def _statuses(sandbox: Sandbox, uploads: list[Upload]) -> set[str]:
    found = (imaging_studies(sandbox.fhir_url, upload.uid) for upload in uploads)
    return {study["status"] for (study,) in found}


def _let_a_day_pass(site: Site) -> None:
    """Make the ledger believe that two looks a day ago found nothing.

    The service counts what is missing now and then: it must not go by what it counted before.
    """
    site.stop()
    with sqlite3.connect(site.folder / "ledger.db", timeout=60) as ledger:
        day = 86_400 * 1_000_000
        ledger.execute(
            "UPDATE study_archive SET absences = 2, absent_since = absent_since - ?", (day,)
        )
    ledger.close()
    site.start()


def test_a_deleted_study_is_looked_for_again_before_fhir_says_so(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        eventually(lambda: site.state(upload.uid) == "completed")
        _delete(sandbox, upload.uid)
        site.ask("retry", upload.uid)
        told = eventually(
            lambda: (now := site.ask("study", upload.uid))["state"] == "failed" and now
        )
        assert told["code"] == "ARCHIVE-STUDY-ABSENT"
        assert told["next_attempt_at"]
        (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
        assert found["status"] == "available"
        _let_a_day_pass(site)
        site.ask("retry", upload.uid)
        eventually(lambda: site.state(upload.uid) == "completed", every=0.5)
        (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
        assert found["status"] == "unknown"


@pytest.fixture
def three(sandbox_site: Site, sandbox: Sandbox) -> list[Upload]:
    """Three studies, of which one at once may be missing."""
    sandbox_site.settings["removal"] = {"most_at_once": 1}
    uploads = [Upload(slices=1) for _ in range(3)]
    for upload in uploads:
        create_patient(sandbox.fhir_url, upload.patient)
    return uploads


def _doubt(site: Site, sandbox: Sandbox, uploads: list[Upload]) -> None:
    """Store studies, let the archive lose them all, and wait until that is doubted."""
    for upload in uploads:
        store(site.stow_url, upload.files)
    eventually(lambda: _all_are(site, uploads, "completed"))
    for upload in uploads:
        _delete(sandbox, upload.uid)
        site.run("retry", upload.uid)
    eventually(lambda: _all_are(site, uploads, "failed"))
    _let_a_day_pass(site)
    for upload in uploads:
        site.run("retry", upload.uid)
    eventually(lambda: len(_doubted(site)) == len(uploads))


def _all_are(site: Site, uploads: list[Upload], state: str) -> bool:
    return {site.state(upload.uid) for upload in uploads} == {state}


def _doubted(site: Site) -> set[str]:
    lines = [one for one in site.logged("study.retry") if one["code"] == "ARCHIVE-MANY-ABSENT"]
    return {one["study_instance_uid"] for one in lines}


def _warnings(site: Site) -> list[str]:
    ready = httpx.get(f"{site.console_url}/ready", timeout=60)
    assert ready.status_code == 200
    return [str(warning) for warning in ready.json()["warnings"]]


def test_an_archive_that_loses_all_is_not_believed_until_a_person_says_so(
    sandbox_site: Site, sandbox: Sandbox, three: list[Upload]
) -> None:
    with running(sandbox_site) as site:
        _doubt(site, sandbox, three)
        (line,) = eventually(lambda: site.logged("archive.doubted"))
        assert (line["level"], line["studies"]) == ("error", 3)
        assert _statuses(sandbox, three) == {"available"}
        (warning,) = eventually(lambda: _warnings(site))
        assert "misses 3 studies at once" in warning
        site.kill()  # what was counted is in the ledger
        site.start()
        eventually(lambda: site.logged("archive.doubted"))
        (told,) = site.ask("removals")["archives"]
        assert (told["missing"], told["limit"], told["doubted"]) == (3, 1, True)
        assert _statuses(sandbox, three) == {"available"}
        assert site.run("removals", "--confirm", "nobody").returncode == 78
        done = site.run("removals", "--confirm", told["name"])
        assert "misses 3" in done.stdout
        eventually(lambda: _statuses(sandbox, three) == {"unknown"}, every=0.5)
        eventually(lambda: _warnings(site) == [], every=0.5)


def test_an_archive_that_finds_its_studies_again_is_believed_again(
    sandbox_site: Site, sandbox: Sandbox, three: list[Upload]
) -> None:
    def versions() -> list[Any]:
        found = (imaging_studies(sandbox.fhir_url, upload.uid) for upload in three)
        return [study for (study,) in found]

    with running(sandbox_site) as site:
        _doubt(site, sandbox, three)
        before = versions()
        for upload in three:
            assert store(sandbox.dicomweb_url, upload.files).status_code == 200
            site.run("retry", upload.uid)  # or a source that lists it
        eventually(lambda: site.logged("archive.trusted"))
        eventually(lambda: _all_are(site, three, "completed"))
        assert versions() == before


def test_what_one_of_two_archives_loses_costs_its_endpoint_alone(
    sandbox_site: Site, sandbox: Sandbox, tmp_path: Path
) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    sandbox_site.settings["removal"] = {"confirmations": 2, "period": "2s"}
    del sandbox_site.settings["archive"]

    def endpoints() -> int:
        found = imaging_studies(sandbox.fhir_url, upload.uid)
        return len(found[0].get("endpoint", [])) if found else 0

    with Sandbox(tmp_path / "other") as other:
        poll = {"enabled": True, "interval": "500ms", "lookback": "P4000D"}
        sandbox_site.settings["archives"] = [
            {"name": name, "dicomweb_url": archive.dicomweb_url, "qido_rs": poll}
            for name, archive in (("here", sandbox), ("there", other))
        ]
        sandbox_site.settings["stow_rs"]["enabled"] = False
        with running(sandbox_site) as site:
            for archive in (sandbox, other):
                store(archive.dicomweb_url, upload.files)
            eventually(lambda: endpoints() == 4, every=0.3)
            _delete(other, upload.uid)
            site.ask("retry", upload.uid)
            eventually(lambda: site.logged("study.retry"))
            eventually(lambda: endpoints() == 2, every=0.3)
            (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
            assert (found["status"], len(found["series"])) == ("available", 6)
            store(other.dicomweb_url, upload.files)
            eventually(lambda: endpoints() == 4, every=0.3)


def test_a_patient_who_is_gone_is_not_made_again_and_the_next_one_is_followed(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    first = create_patient(sandbox.fhir_url, upload.patient)
    sandbox_site.settings["patient"] |= {"policy": "create", "watch_interval": "1s"}
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        eventually(lambda: site.logged("study.synced"))
        url = f"{sandbox.fhir_url}/{first}"
        nobody = {**httpx.get(url, timeout=60).json(), "identifier": []}
        assert httpx.put(url, json=nobody, timeout=60).is_success
        # News of it, not `retry`: were it held already, that would be a person's decision.
        assert store(site.stow_url, upload.files).status_code == 200
        eventually(lambda: site.state(upload.uid) == "on-hold")
        assert site.ask("study", upload.uid)["code"] == "PATIENT-GONE"
        second = create_patient(sandbox.fhir_url, upload.patient)
        eventually(lambda: site.state(upload.uid) == "completed", every=0.5)
        (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
        assert found["subject"]["reference"] == second
