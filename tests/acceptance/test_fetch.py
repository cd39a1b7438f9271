"""The installed program brings images to disk, from what FHIR says of them."""

import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, store
from tests.histories import biopsy
from tests.lying_archive import Answer, LyingArchive, lying_archive
from tests.services.hapi import Hapi
from tests.services.orthanc import Orthanc


@pytest.fixture
def archive(orthanc: Orthanc) -> Iterator[LyingArchive]:
    """The real Orthanc, behind an archive that can be told to lie."""
    with lying_archive(orthanc.dicomweb_url) as running:
        yield running


@pytest.fixture
def site(
    make_site: Callable[[str, str | None], Site], sandbox: Sandbox, archive: LyingArchive
) -> Site:
    """A researcher's site: FHIR names the archive that can lie."""
    made = make_site(sandbox.fhir_url, archive.upstream)
    made.settings["archive"]["public_url"] = archive.url
    made.settings["retry"] = {"first": "10ms", "longest": "50ms"}
    return made


def indexed(site: Site, fhir_url: str, *uploads: Upload) -> list[str]:
    """Store studies, bring them into FHIR, and return the references of their ImagingStudies."""
    dicomweb_url = site.settings["archive"]["dicomweb_url"]
    for upload in uploads:
        create_patient(fhir_url, upload.patient)
        assert store(dicomweb_url, upload.files).status_code == 200
        file = site.folder / "patients"
        file.write_text(f"{upload.patient.patient_id}\n")
        assert site.ask("import", "--patients", str(file))["written"] == 1
    found = [imaging_studies(fhir_url, upload.uid)[0] for upload in uploads]
    return [f"ImagingStudy/{one['id']}" for one in found]


def digests(out: Path) -> set[str]:
    found = out.glob("sub-*/ses-*/*/*.dcm")
    return {hashlib.sha256(file.read_bytes()).hexdigest() for file in found}


def checked(out: Path) -> bool:
    command = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    return subprocess.run(command, cwd=out, check=False).returncode == 0


def judged(site: Site, hapi: Hapi, patient: str) -> str:
    """Give a patient biopsies, of which two are included and one is not, and judge them."""
    for performed in ("2024-05-02", "2024-09-09", "2021-01-04"):
        resource = biopsy("b", performed) | {"subject": {"reference": patient}}
        del resource["id"]
        assert httpx.post(f"{hapi.base_url}/Procedure", json=resource, timeout=60).is_success
    patients = site.folder / "judged"
    patients.write_text(f"{patient}\n")
    done = site.run("criteria", "--patients", str(patients), "--json")
    assert done.returncode == 0, done.stderr
    verdicts = [one["verdict"] for one in json.loads(done.stdout)["results"]]
    assert sorted(verdicts) == ["excluded", "included", "included"]
    return done.stdout


def test_from_every_selector_the_same_files(
    make_site: Callable[[str, str | None], Site], hapi: Hapi, orthanc: Orthanc, tmp_path: Path
) -> None:
    site = make_site(hapi.base_url, orthanc.dicomweb_url)
    upload, other = Upload(), Upload()
    reference, _ = indexed(site, hapi.base_url, upload, other)
    (resource,) = imaging_studies(hapi.base_url, upload.uid)
    patient = resource["subject"]["reference"]
    criteria, manifest = tmp_path / "criteria.json", tmp_path / "manifest.jsonl"
    criteria.write_text(judged(site, hapi, patient))
    query = f"ImagingStudy?subject={patient}"
    told = site.ask("fetch", query, "--manifest", str(manifest))
    assert (told["studies"], told["fetched"], told["out"]) == (1, 0, None)
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert len(lines) == len(upload.files)
    assert manifest.stat().st_mode & 0o777 == 0o600
    for line in lines[:2]:
        assert httpx.get(line["url"], timeout=60).status_code == 200
    expected: set[str] = set()
    whole = f"{query}&_include=ImagingStudy:endpoint&_format=json"
    selectors = (whole, reference, upload.uid, f"{hapi.base_url}/{reference}", criteria, manifest)
    for number, selector in enumerate(selectors):
        out = tmp_path / str(number)
        told = site.ask("fetch", str(selector), "--out", str(out))
        assert (told["finished"], told["fetched"], told["failed"]) == (True, len(upload.files), {})
        assert checked(out)
        expected = expected or digests(out)
        assert digests(out) == expected
    assert len(expected) == len(upload.files)
    # Nobody is unknown; the study that decided is too early for the biopsy that is excluded.
    others = ("--verdict", "excluded", "--verdict", "unknown", "--series-role", "DWI")
    told = site.ask("fetch", str(criteria), "--out", str(tmp_path / "dwi"), *others)
    assert (told["finished"], told["studies"], told["fetched"]) == (True, 1, 6)
    only = ("--b-value", "800", "--modality", "mr")
    assert site.ask("fetch", reference, "--out", str(tmp_path / "b"), *only)["fetched"] == 2
    told = site.ask("fetch", "ImagingStudy?subject=Patient/nobody", "--manifest", str(manifest))
    assert told["studies"] == 0
    told = site.ask("fetch", str(manifest), "--out", str(tmp_path / "nothing"))
    assert (told["finished"], told["studies"]) == (True, 0)


def begin(site: Site, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [str(site.program), "fetch", *arguments, "--json", "--config", str(site.config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_interrupted_it_goes_on_where_it_stopped(
    site: Site, sandbox: Sandbox, archive: LyingArchive, tmp_path: Path, number: signal.Signals
) -> None:
    upload = Upload(slices=4)
    (reference,) = indexed(site, sandbox.fhir_url, upload)
    site.settings["fetch"] = {"connections": 1}
    gate, out = threading.Event(), tmp_path / "out"

    def hold_back(_answer: Answer) -> None:
        if len(archive.requests()) > 3:
            gate.wait(60)

    archive.change = hold_back
    with begin(site, reference, "--out", str(out)) as fetching:
        eventually(lambda: len(archive.requests()) > 3, what="some series are fetched")
        fetching.send_signal(number)
        stdout, stderr = fetching.communicate(timeout=60)
    gate.set()
    assert fetching.returncode == (-9 if number == signal.SIGKILL else 130), stderr
    some = digests(out)
    assert 0 < len(some) < len(upload.files)
    if number != signal.SIGKILL:
        told = json.loads(stdout)
        assert (told["finished"], told["fetched"], told["error"]) == (False, len(some), None)
        assert checked(out)
    asked = len(archive.requests())
    told = site.ask("fetch", reference, "--out", str(out))
    assert (told["already"], told["fetched"]) == (len(some), len(upload.files) - len(some))
    assert some < digests(out)
    assert len(archive.requests()) - asked < 6
    assert list((out / ".flute-sync").glob("tmp/*")) == []
    assert checked(out)


def lie(archive: LyingArchive, upload: Upload, how: Callable[[Answer], Any]) -> str:
    """Change every answer with one series, and return its UID."""
    url = f"{archive.upstream}/studies/{upload.uid}/series"
    found = httpx.get(url, headers={"Accept": "application/dicom+json"}, timeout=60).json()
    victim = str(found[0]["0020000E"]["Value"][0])

    def change(answer: Answer) -> None:
        if victim in answer.path:
            how(answer)

    archive.change = change
    return victim


def cut_off(answer: Answer) -> None:
    answer.cut = True


def cut_within(answer: Answer) -> None:
    """Take bytes from each instance, and leave the multipart whole and its lengths unsaid."""
    boundary = b"--" + answer.content_type.partition("boundary=")[2].strip('"').encode()
    parts = answer.body.split(boundary)
    short = [part.partition(b"\r\n\r\n")[2][:-102] for part in parts[1:-1]]
    head = b"\r\nContent-Type: application/dicom\r\n\r\n"
    answer.body = (
        b"".join(boundary + head + part + b"\r\n" for part in short) + boundary + b"--\r\n"
    )


def other_instances(answer: Answer) -> None:
    """Give each instance another SOP Instance UID than it has."""
    answer.body = answer.body.replace(b"1.2.826.0.1.3680043.8.498.", b"1.2.826.0.1.3680043.8.499.")


@pytest.mark.parametrize(
    ("how", "codes", "exit_code"),
    [
        (cut_off, {"ARCHIVE-UNAVAILABLE"}, 69),
        (cut_within, {"FETCH-TRUNCATED"}, 69),
        (other_instances, {"FETCH-WRONG-INSTANCE"}, 65),
    ],
)
def test_nothing_that_is_not_what_was_asked_for_is_kept(
    site: Site,
    sandbox: Sandbox,
    archive: LyingArchive,
    tmp_path: Path,
    how: Callable[[Answer], None],
    codes: set[str],
    exit_code: int,
) -> None:
    upload = Upload()
    (reference,) = indexed(site, sandbox.fhir_url, upload)
    lie(archive, upload, how)
    out = tmp_path / "out"
    told = site.ask("fetch", reference, "--out", str(out), code=exit_code)
    met = set(told["failed"]) | ({told["error"]["code"]} if told["error"] else set())
    assert met == codes
    assert len(digests(out)) == told["fetched"] < len(upload.files)
    archive.change = lambda _answer: None
    again = site.ask("fetch", reference, "--out", str(out))
    assert again["already"] == told["fetched"]
    assert len(digests(out)) == len(upload.files)
    assert checked(out)


def test_what_the_archive_lost_is_named(
    site: Site, sandbox: Sandbox, archive: LyingArchive, orthanc: Orthanc, tmp_path: Path
) -> None:
    upload = Upload()
    (reference,) = indexed(site, sandbox.fhir_url, upload)
    (resource,) = imaging_studies(sandbox.fhir_url, upload.uid)
    lost = resource["series"][0]["instance"][0]["uid"]
    (found,) = httpx.post(f"{orthanc.base_url}/tools/lookup", content=lost, timeout=60).json()
    assert httpx.delete(f"{orthanc.base_url}{found['Path']}", timeout=60).status_code == 200
    told = site.ask("fetch", reference, "--out", str(tmp_path / "out"), code=65)
    assert told["failed"] == {"FETCH-ABSENT": 1}
    assert told["missed"][0]["sop_instance_uid"] == lost
    assert told["fetched"] == len(upload.files) - 1


def test_faults_have_a_code_and_a_hint(site: Site, sandbox: Sandbox, tmp_path: Path) -> None:
    upload = Upload()
    (reference,) = indexed(site, sandbox.fhir_url, upload)
    out = str(tmp_path / "out")
    site.settings["archive"] |= {"public_url": "http://127.0.0.1:9/x"}
    told = site.ask("fetch", reference, "--out", out, code=78)
    assert set(told["failed"]) == {"FETCH-ENDPOINT"}
    for selector in ("ImagingStudy/none", "1.2.3.4", "no such thing", "ImagingStudy?_count=5"):
        done = site.run("fetch", selector, "--out", out)
        assert done.returncode == 65, done.stderr
        assert "FETCH-SELECTOR" in done.stderr
    site.settings["fhir"]["base_url"] = "http://127.0.0.1:9/fhir"
    assert (
        site.ask("fetch", reference, "--out", out, code=69)["error"]["code"] == "FHIR-UNAVAILABLE"
    )
    assert site.run("fetch", reference).returncode == 2


def test_a_disk_that_takes_no_more_ends_it(site: Site, sandbox: Sandbox, tmp_path: Path) -> None:
    upload = Upload()
    (reference,) = indexed(site, sandbox.fhir_url, upload)
    fetch = [str(site.program), "fetch", reference, "--out", str(tmp_path / "out"), "--json"]
    command = ["bash", "-c", 'ulimit -f 1; exec "$@"', "-", *fetch, "--config", str(site.config)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 78, done.stderr
    assert json.loads(done.stdout)["error"]["code"] == "FETCH-FOLDER"
    assert digests(tmp_path / "out") == set()


def test_nothing_of_the_patient_is_in_a_name(site: Site, sandbox: Sandbox, tmp_path: Path) -> None:
    upload = Upload()
    (reference,) = indexed(site, sandbox.fhir_url, upload)
    done = site.run("fetch", reference, "--out", str(tmp_path / "out"))
    assert done.returncode == 0
    names = "\n".join(str(path) for path in (tmp_path / "out").rglob("*"))
    for secret in (upload.patient.patient_id, upload.uid, "Esempio", upload.patient.family_name):
        assert secret not in names
        assert secret not in done.stdout + done.stderr
    assert os.stat(tmp_path / "out").st_mode & 0o777 == 0o700
