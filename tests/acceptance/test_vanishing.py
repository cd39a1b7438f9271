"""A study that its archive finds no more: believed slowly, and never taken for other trouble."""

import sqlite3

import httpx

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store


def _delete(sandbox: Sandbox, uid: str) -> None:
    with httpx.Client(base_url=sandbox.archive_url, timeout=30) as archive:
        (found,) = archive.post("/tools/lookup", content=uid).json()
        assert archive.delete(f"/studies/{found['ID']}").status_code == 200


def _let_a_day_pass(site: Site) -> None:
    """Make the ledger believe that two looks a day ago found nothing."""
    with sqlite3.connect(site.folder / "ledger.db", timeout=10) as ledger:
        day = 86_400 * 1_000_000
        ledger.execute(
            "UPDATE study_archive SET absences = 2, absent_since = absent_since - ?", (day,)
        )
    ledger.close()


def test_a_deleted_study_is_looked_for_again_before_fhir_says_so(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        eventually(lambda: site.logged("study.synced"))
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
        eventually(lambda: site.state(upload.uid) == "completed")
        (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
        assert found["status"] == "unknown"
