"""Notices that an archive pushes: from Orthanc's own scripts to FHIR, with STOW-RS on and off."""

import re
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.services.orthanc import Orthanc

SCRIPT = Path(__file__).parents[2] / "docs" / "orthanc" / "notify.lua"
TOKEN = "a-token-that-nobody-may-see"


@pytest.fixture
def hooked(sandbox_site: Site) -> Site:
    """A site that hears of its archive by the webhook alone."""
    token = sandbox_site.folder / "token"
    token.write_text(TOKEN)
    sandbox_site.settings["webhook"] = {"enabled": True, "token_file": str(token)}
    sandbox_site.settings["stow_rs"]["enabled"] = False
    return sandbox_site


def push(site: Site, notice: dict[str, object], token: str = TOKEN) -> httpx.Response:
    return httpx.post(
        f"http://127.0.0.1:{site.port}/notify/study",
        json=notice,
        headers={"Authorization": f"Bearer {token}"},
        timeout=60,
    )


def test_what_orthanc_stores_and_deletes_reaches_fhir(
    hooked: Site, sandbox: Sandbox, new_orthanc: Callable[..., Orthanc]
) -> None:
    told = {
        "Url": f"http://127.0.0.1:{hooked.port}/notify/study",
        "TokenFile": hooked.settings["webhook"]["token_file"],
        "Archive": "pacs",
    }
    settings = {"LuaScripts": [str(SCRIPT)], "FluteSync": told, "HttpTimeout": 10}
    orthanc = new_orthanc(settings=settings)
    hooked.settings["archive"] = {"name": "pacs", "dicomweb_url": orthanc.dicomweb_url}
    hooked.settings["removal"] = {"confirmations": 1, "period": "1ms"}
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    with running(hooked) as site, httpx.Client(base_url=orthanc.base_url, timeout=60) as native:
        assert store(orthanc.dicomweb_url, upload.files).status_code == 200

        def whole() -> bool:
            found = imaging_studies(sandbox.fhir_url, upload.uid)
            return [one["numberOfInstances"] for one in found] == [len(upload.files)]

        eventually(whole)
        (study,) = native.post("/tools/lookup", content=upload.uid).json()
        native.delete(study["Path"]).raise_for_status()
        eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid)[0]["status"] == "unknown")
        trail = str(site.ask("study", upload.uid))
    assert "webhook says that it is gone from pacs." in trail


def test_a_forged_deletion_removes_nothing(hooked: Site, sandbox: Sandbox) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    hooked.settings["removal"] = {"confirmations": 1, "period": "1ms"}
    with running(hooked) as site:
        assert store(sandbox.dicomweb_url, upload.files).status_code == 200
        assert push(site, {"study_instance_uid": upload.uid}).status_code == 202
        eventually(lambda: site.logged("study.synced"))
        assert push(site, {"study_instance_uid": upload.uid, "notice": "gone"}).status_code == 202
        eventually(lambda: site.logged("study.unchanged"))
        (found,) = imaging_studies(sandbox.fhir_url, upload.uid)
    assert (found["status"], found["meta"]["versionId"]) == ("available", "1")


def test_uploads_and_notices_share_an_address_and_are_counted_apart(
    hooked: Site, sandbox: Sandbox
) -> None:
    hooked.settings["stow_rs"]["enabled"] = True
    upload = Upload(slices=1)
    with running(hooked) as site:
        assert store(site.stow_url, upload.files).status_code == 200
        assert push(site, {"study_instance_uid": upload.uid}).status_code == 202
        assert push(site, {"study_instance_uid": upload.uid}, token="wrong").status_code == 401
        eventually(
            lambda: (
                _counted(site)
                == [
                    'flute_sync_uploads_total{status="200"} 1.0',
                    'flute_sync_notices_total{status="202"} 1.0',
                    'flute_sync_notices_total{status="401"} 1.0',
                ]
            )
        )


def _counted(site: Site) -> list[str]:
    metrics = httpx.get(f"{site.console_url}/metrics", timeout=60).text
    return [line for line in metrics.splitlines() if re.match(r"\S*(uploads|notices)_t", line)]


def test_nothing_of_a_notice_is_told(hooked: Site) -> None:
    hooked.settings["log"] = {"format": "json", "level": "debug"}
    secret = {
        "PatientName": "Geheimnis^Verborgen",
        "PatientID": "SECRET-1",
        "AccessionNumber": "A7",
    }
    with running(hooked) as site:
        assert push(site, {**secret, "StudyInstanceUID": "1.2.3.4"}).status_code == 202
        assert push(site, {**secret, "StudyInstanceUID": "Geheimnis"}).status_code == 422
        assert push(site, {**secret, "StudyInstanceUID": "1.2", "archive": "SECRET"}).is_error
        assert push(site, {**secret, "StudyInstanceUID": "1.2.3.4"}, token="SECRET").is_error
        eventually(lambda: len(site.logged("notice.refused")) == 3)
        assert site.stop() == 0
        text = "".join(site.lines)
    assert site.logged("notice.taken")
    for word in ("Geheimnis", "Verborgen", "SECRET", "A7", TOKEN):
        assert word not in text


def test_check_looks_at_the_token_and_the_address(hooked: Site) -> None:
    def verdicts(code: int) -> dict[str, str]:
        return {one["check"]: one["verdict"] for one in hooked.ask("check", code=code)["checks"]}

    assert verdicts(0)["webhook"] == "ok"
    Path(hooked.settings["webhook"]["token_file"]).unlink()
    assert verdicts(78)["webhook.token_file"] == "error"
    del hooked.settings["webhook"]["token_file"]
    refused = hooked.run("check")
    assert refused.returncode == 78
    assert "webhook.token_file" in refused.stderr + refused.stdout
