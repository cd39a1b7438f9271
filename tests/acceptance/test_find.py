"""A PACS that speaks DIMSE alone: its studies are polled for, and read, by C-FIND."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running
from tests.services.dcmqrscp import Dcmqrscp


def find_site(
    make_site: Callable[[str, str | None], Site], fhir_url: str, dcmqrscp: Dcmqrscp
) -> Site:
    """A site that knows its archive by C-FIND alone."""
    site = make_site(fhir_url, None)
    site.settings["stow_rs"]["enabled"] = False
    site.settings["find_scu"] = {
        "enabled": True,
        "port": dcmqrscp.port,
        "ae_title": dcmqrscp.aet,
        "interval": "500ms",
        "lookback": "P4000D",
    }
    return site


def test_a_pacs_without_dicomweb_and_without_instances_is_followed(
    make_site: Callable[[str, str | None], Site], sandbox: Sandbox, dcmqrscp: Dcmqrscp
) -> None:
    upload = Upload()
    create_patient(sandbox.fhir_url, upload.patient)
    site = find_site(make_site, sandbox.fhir_url, dcmqrscp)
    dcmqrscp.store(upload.files)
    with running(site):
        eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid), every=0.3)
        (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
        # It is in FHIR before the ledger has it.
        told = eventually(lambda: (now := site.ask("study", upload.uid))["instances"] and now)
        checks = {one["check"]: one["verdict"] for one in site.ask("check")["checks"]}
    assert found["numberOfInstances"] == len(upload.files)
    assert sum(series["numberOfInstances"] for series in found["series"]) == len(upload.files)
    assert not any("instance" in series or "endpoint" in series for series in found["series"])
    assert "endpoint" not in found
    assert told["instances"] == len(upload.files)
    assert checks["archive"] == "ok"


@pytest.mark.usefixtures("dcmtk")
def test_what_a_pacs_without_dicomweb_holds_is_imported_and_reconciled(
    make_site: Callable[[str, str | None], Site], sandbox: Sandbox, tmp_path: Path
) -> None:
    pacs = Dcmqrscp(tmp_path)
    pacs.start()
    try:
        uploads = [Upload() for _ in range(3)]
        for upload in uploads:
            create_patient(sandbox.fhir_url, upload.patient)
            pacs.store(upload.files)
        site = find_site(make_site, sandbox.fhir_url, pacs)
        imported = site.ask("import", "--all")
        reconciled = site.ask("reconcile")
    finally:
        pacs.stop()
    assert (imported["listed"], imported["written"]) == (3, 3)
    assert (reconciled["compared"], reconciled["findings"]) == (3, [])
    for upload in uploads:
        (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
        assert found["numberOfInstances"] == len(upload.files)
