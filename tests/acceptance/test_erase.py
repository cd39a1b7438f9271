"""A patient withdraws: `flute-sync erase` beside the running service, killed, repeated, lifted."""

import json
import os
import pty
import signal
import subprocess
import time
import uuid
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.clinic import Clinic, later_study, send, settled
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, store

WHEN = datetime(2024, 5, 6, 9, 30)  # noqa: DTZ001  as DICOM states it


def audited(site: Site) -> list[dict[str, Any]]:
    path = Path(site.settings["erase"]["audit_file"])
    return [json.loads(line) for line in path.read_text().splitlines()]


def ready(site: Site) -> Site:
    site.settings["erase"] = {"audit_file": str(site.folder / "audit.jsonl")}
    site.settings["fhir"]["provenance"] = True
    return site


def raw(site: Site) -> bytes:
    return b"".join(one.read_bytes() for one in sorted(site.folder.glob("ledger.db*")))


def test_a_patient_withdraws_while_the_service_runs(sandbox_site: Site, sandbox: Sandbox) -> None:
    site, clinic = ready(sandbox_site), Clinic(sandbox.fhir_url)
    site.settings["qido_rs"] = {"enabled": True, "interval": "1s"}
    upload, other = Upload(slices=1), Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    create_patient(clinic.base_url, other.patient)
    site.start()
    for one in (upload, other):
        send(site, one)
    study = f"ImagingStudy/{clinic.study(upload.uid)['id']}"

    planned = site.ask("erase", "--patient", subject, "--dry-run")
    assert study in planned["delete"]
    assert [one["study_instance_uid"] for one in planned["ledger"]] == [upload.uid]
    refused = site.run("erase", "--patient", "-", text=f"{subject}\n")
    assert refused.returncode == 65
    assert "ERASE-UNCONFIRMED" in refused.stderr
    assert httpx.get(f"{clinic.base_url}/{study}", timeout=60).status_code == 200

    markers = (upload.patient.patient_id, upload.uid, subject)
    assert all(one.encode() in raw(site) for one in markers)
    done = site.run("erase", "--patient", "-", "--yes", "--why", "withdrawal", text=f"{subject}\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert httpx.get(f"{clinic.base_url}/{study}/_history", timeout=60).status_code == 404
    assert httpx.get(f"{clinic.base_url}/{subject}", timeout=60).status_code == 200
    assert [one for one in markers if one.encode() in raw(site)] == []
    assert [one["action"] for one in audited(site)] == ["erase.begun", "erase.ended"]
    assert not any(one in (site.folder / "audit.jsonl").read_text() for one in markers)

    new = later_study(upload, WHEN)
    nothing_is_taken(site, clinic, (upload, new), other)
    told = "\n".join(site.lines)
    assert upload.patient.patient_id not in told
    assert subject not in told

    site.ask("erase", "--patient", subject, "--allow-again", "--why", "consents again")
    assert site.run("import", "--all", "--restart").returncode == 0
    for one in (upload, new):
        settled(site, one.uid)
    assert len(imaging_studies(clinic.base_url, upload.uid)) == 1


def nothing_is_taken(site: Site, clinic: Clinic, erased: tuple[Upload, ...], other: Upload) -> None:
    """However it comes: sent again, as a new study, listed by the archive, imported."""
    for one in erased:
        # The archive has it: care goes on.
        assert store(site.stow_url, one.files).status_code == 200
    assert site.run("import", "--all").returncode == 0
    more = Upload(slices=1)
    create_patient(clinic.base_url, more.patient)
    send(site, more)
    # What is sent is known for a moment, until it is refused.
    eventually(lambda: {*site.states()} == {other.uid, more.uid}, what="all refused")
    assert all(imaging_studies(clinic.base_url, one.uid) == [] for one in erased)
    eventually(lambda: site.logged("study.erased"))
    eventually(lambda: owes_nothing(site), what="nothing missing")


def owes_nothing(site: Site) -> bool:
    """Tell whether reconciliation finds nothing; what is looked at again is owed meanwhile."""
    done = site.run("reconcile", "--json")
    return done.returncode == 0 and json.loads(done.stdout)["found"]["missing"] == 0


def test_killed_again_and_again_it_comes_to_its_end(sandbox_site: Site, sandbox: Sandbox) -> None:
    site, clinic = ready(sandbox_site), Clinic(sandbox.fhir_url)
    upload = Upload(slices=1)
    subject = create_patient(clinic.base_url, upload.patient)
    uploads = [upload, *(later_study(upload, WHEN.replace(year=2020 + n)) for n in range(3))]
    site.start()
    for one in uploads:
        send(site, one)
    studies = [f"ImagingStudy/{clinic.study(one.uid)['id']}" for one in uploads]
    audit = site.folder / "audit.jsonl"
    program = [str(site.program), "erase", "--patient", subject, "--yes", "--config"]
    for lines in range(4):
        process = subprocess.Popen(
            [*program, str(site.config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        eventually(partial(_begun, process, audit, lines), what="an erasure begun")
        time.sleep(0.05 * 2**lines)  # where exactly it is killed does not matter
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert store(site.stow_url, uploads[0].files).status_code == 200
    done = site.run("erase", "--patient", subject, "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    for study in studies:
        assert httpx.get(f"{clinic.base_url}/{study}/_history", timeout=60).status_code == 404
    assert site.states() == {}
    assert audited(site)[-1]["outcome"] == "complete"
    assert upload.patient.patient_id.encode() not in raw(site)

    site.settings["patient"]["systems"] = {"SANDBOX": "urn:test:another"}
    assert site.config.exists()  # written anew
    site.signal(signal.SIGHUP)
    eventually(lambda: site.logged("daemon.reloaded"))
    namesake = later_study(upload, WHEN)
    assert store(site.stow_url, namesake.files).status_code == 200
    eventually(lambda: site.state(namesake.uid) == "on-hold", what="somebody else's study")


def _begun(process: "subprocess.Popen[bytes]", audit: Path, lines: int) -> bool:
    if process.poll() is not None:
        return True
    return audit.exists() and len(audit.read_text().splitlines()) > lines


def test_history_remains_where_the_server_does_not_remove_it(
    make_site: Callable[[str, str | None], Site], tmp_path: Path
) -> None:
    with Sandbox(tmp_path / "keeps", expunge=False) as sandbox:
        site, clinic = (
            ready(make_site(sandbox.fhir_url, sandbox.dicomweb_url)),
            Clinic(sandbox.fhir_url),
        )
        upload = Upload(slices=1)
        subject = create_patient(clinic.base_url, upload.patient)
        site.start()
        send(site, upload)
        study = f"ImagingStudy/{clinic.study(upload.uid)['id']}"
        assert answered(site, subject, "n") == 65
        assert httpx.get(f"{clinic.base_url}/{study}", timeout=60).status_code == 200
        told = site.ask("erase", "--patient", subject, "--yes", code=1)
        remains = {one["what"]: one["reason"] for one in told["remains"]}
        assert "the server keeps 2 versions" in remains[study]
        assert httpx.get(f"{clinic.base_url}/{study}", timeout=60).status_code == 410
        again = site.ask("erase", "--patient", subject, "--yes", code=1)
        assert {one["what"] for one in again["remains"]} == {*remains}
        unknown = site.run("erase", "--patient", f"{uuid.uuid4().urn}|x", "--yes")
        assert unknown.returncode == 65
        assert "ERASE-UNKNOWN" in unknown.stderr


def answered(site: Site, subject: str, word: str) -> int:
    """Run it at a terminal, and answer its question; return the exit code."""
    master, slave = pty.openpty()
    try:
        process = subprocess.Popen(
            [str(site.program), "erase", "--patient", subject, "--config", str(site.config)],
            stdin=slave,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.write(master, f"{word}\n".encode())
        return process.wait(60)
    finally:
        os.close(master)
        os.close(slave)
