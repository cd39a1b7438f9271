"""No patient data in logs, metrics or status pages, at any level, in any format."""

import uuid
from datetime import date

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import SyntheticPatient
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store


@pytest.mark.parametrize("log_format", ["json", "logfmt"])
def test_nothing_of_the_patient_is_told(
    log_format: str, sandbox_site: Site, sandbox: Sandbox
) -> None:
    patient = SyntheticPatient(
        patient_id=f"SECRET-{uuid.uuid4().hex[:8]}",
        family_name="Geheimnis",
        given_name="Verborgen",
        birth_date=date(1949, 7, 23),
    )
    known, unknown = Upload(patient, slices=1), Upload(slices=1)
    create_patient(sandbox.fhir_url, patient)
    site = sandbox_site
    site.settings["log"] = {"format": log_format, "level": "debug"}
    site.launch()
    eventually(lambda: any("daemon.ready" in line for line in site.lines))
    with running_already(site):
        store(site.stow_url, known.files)
        store(site.stow_url, unknown.files)  # held: its Patient is absent
        store(site.stow_url, [known.files[0][:400]])  # a truncated header
        store(site.stow_url, [b"not DICOM Geheimnis"])
        httpx.get(
            f"{site.stow_url}/studies?PatientName=Geheimnis&PatientID={patient.patient_id}",
            timeout=60,
        )
        eventually(lambda: imaging_studies(sandbox.fhir_url, known.uid))
        eventually(lambda: any("study.on_hold" in line for line in site.lines))
        pages = [
            httpx.get(f"{site.console_url}{p}", timeout=60).text
            for p in ("/live", "/ready", "/metrics")
        ]
        told = [site.run("study", u.uid, "--json").stdout for u in (known, unknown)]
        assert site.stop() == 0
    secrets = [
        patient.patient_id,
        unknown.patient.patient_id,
        patient.family_name,
        patient.given_name,
        "19490723",
        "1949-07-23",
        "prostate multiparametric",
    ]
    for text in [*site.lines, *pages, *told]:
        assert not [secret for secret in secrets if secret.lower() in text.lower()], text


def test_study_uids_can_be_hidden(sandbox_site: Site, sandbox: Sandbox) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    key = sandbox_site.folder / "key"
    key.write_text("a key of the site's own")
    sandbox_site.settings["log"] |= {"study_uid": "hashed", "key_file": str(key)}
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        (line,) = eventually(lambda: site.logged("study.synced"))
        assert len(line["study_instance_uid"]) == 12
        assert not [text for text in site.lines if upload.uid in text]


class running_already:  # noqa: N801  reads as a sentence where it is used
    """End a launched daemon with the block."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __enter__(self) -> Site:
        return self._site

    def __exit__(self, *_: object) -> None:
        self._site.close()
