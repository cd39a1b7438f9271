"""Servers that come and go, patients that come late, signals: work waits and goes on by itself."""

import signal
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.services.process import free_port


def test_a_fhir_server_that_is_down_pauses_work_which_resumes_by_itself(
    make_site, tmp_path: Path
) -> None:
    archive_port, fhir_port = free_port(), free_port()

    def servers() -> Sandbox:
        return Sandbox(tmp_path / "data", archive_port=archive_port, fhir_port=fhir_port)

    uploads = [Upload(slices=1) for _ in range(3)]
    with servers() as sandbox:
        site = make_site(sandbox.fhir_url, sandbox.dicomweb_url)
        for upload in uploads:
            create_patient(sandbox.fhir_url, upload.patient)
    # Only the archive comes back for now.
    with Sandbox(tmp_path / "data", archive_port=archive_port) as half, running(site):
        for upload in uploads:
            assert store(site.stow_url, upload.files).status_code == 200
        eventually(lambda: site.logged("target.paused"))
        ready = httpx.get(f"{site.console_url}/ready", timeout=60)
        assert ready.status_code == 200
        eventually(
            lambda: (
                "FHIR-UNAVAILABLE" in httpx.get(f"{site.console_url}/ready", timeout=60).text
                and 'flute_sync_target_paused{target="fhir"} 1.0'
                in httpx.get(f"{site.console_url}/metrics", timeout=60).text
            )
        )
        assert half.dicomweb_url == site.settings["archive"]["dicomweb_url"]
        half.stop()
        with servers() as sandbox:
            for upload in uploads:
                eventually(partial(imaging_studies, sandbox.fhir_url, upload.uid))
            eventually(lambda: site.logged("target.resumed"))
            assert all(site.ask("study", upload.uid)["attempts"] == 0 for upload in uploads)


def test_an_archive_that_is_down_means_503_and_nothing_recorded(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    sandbox_site.settings["archive"]["dicomweb_url"] = f"http://127.0.0.1:{free_port()}/dicom-web"
    with running(sandbox_site) as site:
        assert store(site.stow_url, upload.files).status_code == 503
        assert sum(site.ask("status")["counts"].values()) == 0
        done = site.run("study", upload.uid)
        assert done.returncode == 65
        assert "STUDY-UNKNOWN" in done.stderr


def test_a_study_waits_for_its_patient_and_goes_on_when_he_arrives(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    sandbox_site.settings["patient"]["watch_interval"] = "1s"
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        eventually(lambda: site.state(upload.uid) == "on-hold")
        eventually(lambda: site.logged("study.on_hold"))
        told = site.ask("study", upload.uid)
        assert (told["state"], told["code"]) == ("on-hold", "PATIENT-ABSENT")
        assert told["hint"]
        assert site.ask("status")["counts"]["waiting-for-patient"] == 1
        assert imaging_studies(sandbox.fhir_url, upload.uid) == []
        create_patient(sandbox.fhir_url, upload.patient)
        eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid))
        eventually(lambda: site.logged("patient.arrived"))


def test_a_logical_subject_becomes_literal_and_follows_a_merge(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    sandbox_site.settings["patient"] |= {"policy": "logical", "watch_interval": "1s"}

    def subject() -> dict[str, Any]:
        (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
        return dict(found["subject"])

    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        eventually(lambda: site.logged("study.synced"))
        assert "reference" not in subject()
        first = create_patient(sandbox.fhir_url, upload.patient)
        eventually(lambda: subject().get("reference") == first)
        survivor = create_patient(sandbox.fhir_url, upload.patient, identifier=[])
        link = {"other": {"reference": survivor}, "type": "replaced-by"}
        patient = httpx.get(f"{sandbox.fhir_url}/{first}", timeout=60).json()
        merged = patient | {"active": False, "link": [link]}
        assert httpx.put(f"{sandbox.fhir_url}/{first}", json=merged, timeout=60).is_success
        eventually(lambda: subject().get("reference") == survivor)
        eventually(lambda: site.ask("status")["counts"]["completed"] == 1)


def test_a_contradicting_birth_date_is_held_until_it_is_corrected(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    reference = create_patient(sandbox.fhir_url, upload.patient, birthDate="1960-01-01")
    sandbox_site.settings["patient"]["watch_interval"] = "1s"
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        eventually(lambda: site.state(upload.uid) == "on-hold")
        assert site.ask("study", upload.uid)["code"] == "PATIENT-CONTRADICTED"
        assert imaging_studies(sandbox.fhir_url, upload.uid) == []
        url = f"{sandbox.fhir_url}/{reference}"
        patient = httpx.get(url, timeout=60).json()
        patient["birthDate"] = upload.patient.birth_date.isoformat()
        assert httpx.put(url, json=patient, timeout=60).status_code == 200
        eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid))


def test_sigterm_ends_with_code_0_and_the_next_start_goes_on(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    sandbox_site.settings["study"] = {"quiet_period": "8s", "longest_wait": "30s"}
    sandbox_site.start()
    store(sandbox_site.stow_url, upload.files)
    assert sandbox_site.stop() == 0
    assert sandbox_site.logged("daemon.stopped")
    assert sandbox_site.state(upload.uid) == "received"
    with running(sandbox_site):
        eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid))


def test_sighup_reads_the_settings_again_and_judges_anew(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    sandbox_site.settings["select"] = {"modalities": ["US"]}
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        eventually(lambda: site.state(upload.uid) == "cancelled")
        told = site.ask("study", upload.uid)
        assert (told["state"], told["instances"]) == ("cancelled", 0)
        assert site.ask("status")["oldest_unsynced_seconds"] is None
        site.settings["select"] = {"modalities": ["MR"]}
        assert site.config.exists()  # written anew
        site.signal(signal.SIGHUP)
        (found,) = eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid))
        assert found["numberOfInstances"] == len(upload.files)
        site.settings["study"] = {"quiet_period": "nonsense"}
        assert site.config.exists()
        site.signal(signal.SIGHUP)
        eventually(
            lambda: any(r.get("code") == "CONFIG-INVALID" for r in site.logged("settings.warning")),
        )
        assert not site.ended()


def test_index_mode_needs_no_archive(make_site, sandbox: Sandbox) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    site = make_site(sandbox.fhir_url, None)
    site.settings["stow_rs"]["mode"] = "index"
    with running(site):
        answer = store(site.stow_url, upload.files)
        assert answer.status_code == 200
        (found,) = eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid))
        assert found["numberOfInstances"] == len(upload.files)
        assert "endpoint" not in found


def test_only_patients_of_the_fhir_server_are_wanted_and_wake_when_they_come(
    sandbox_site: Site, sandbox: Sandbox
) -> None:
    upload = Upload(slices=1)
    sandbox_site.settings["select"] = {"patients": "known"}
    sandbox_site.settings["patient"]["watch_interval"] = "1s"
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        eventually(lambda: site.state(upload.uid) == "cancelled")
        told = site.ask("study", upload.uid)
        assert (told["state"], told["instances"], told["patient"]) == ("cancelled", 0, None)
        with sqlite3.connect(site.folder / "ledger.db") as ledger:
            rows = "".join(ledger.iterdump())
        ledger.close()
        assert upload.uid in rows
        assert upload.patient.patient_id not in rows
        assert upload.patient.family_name not in rows
        create_patient(sandbox.fhir_url, upload.patient)
        (found,) = eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid))
        assert found["numberOfInstances"] == len(upload.files)
