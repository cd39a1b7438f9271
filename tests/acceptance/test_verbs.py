"""The verbs as other people's scripts use them: JSON shapes, exit codes, options anywhere."""

import json
import subprocess
from pathlib import Path

import httpx

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.conftest import Upload, create_patient
from tests.acceptance.site import PROGRAM, Site, eventually, running, store
from tests.services.process import free_port


def program(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(PROGRAM), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def test_the_shapes_that_scripts_rely_on(sandbox_site: Site, sandbox: Sandbox) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        # It is logged before the ledger has it.
        eventually(lambda: site.state(upload.uid) == "completed")
        told = site.ask("study", upload.uid)
        assert {"state", "code", "fhir", "series", "instances", "events"} <= told.keys()
        assert [one["role"] for one in told["series_roles"]] == [
            "T2",
            "T2",
            "T2",
            "DWI",
            "ADC",
            "DCE",
        ]
        assert told["series_roles"][3]["b_values"] == [50, 800, 1400]
        assert told["fhir"]["reference"].startswith("ImagingStudy/")
        assert "/_history" not in told["fhir"]["reference"]
        assert all(event.keys() == {"at", "event", "sentence", "code"} for event in told["events"])
        # A Patient who is new lets it be looked at again.
        counts = eventually(lambda: (now := site.ask("status"))["counts"]["completed"] and now)
        assert counts["counts"]["completed"] == 1
        assert counts["oldest_unsynced_seconds"] is None
        again = site.ask("retry", upload.uid)
        assert again["state"] in {"ready", "in-progress", "completed"}
        eventually(lambda: site.logged("study.unchanged"))
        # --config before and after the arguments
        config = str(site.config)
        for order in (
            ["study", "--config", config, upload.uid],
            ["study", upload.uid, "--config", config],
        ):
            assert program(*order).returncode == 0


def test_check_says_what_is_wrong_and_writes_nothing(sandbox_site: Site, sandbox: Sandbox) -> None:
    before = sorted(sandbox_site.folder.iterdir())
    answer = sandbox_site.ask("check")
    assert answer["ok"] is True
    assert {check["check"]: check["verdict"] for check in answer["checks"]} == {
        "settings": "ok", "ledger": "ok", "fhir": "ok", "archive": "ok", "stow_rs": "ok",
        "console": "ok", "pseudonyms.sources": "warning",
    }  # fmt: skip
    config = sandbox_site.config
    assert sorted(sandbox_site.folder.iterdir()) == sorted({*before, config})
    with running(sandbox_site) as site:
        busy = site.ask("check")
        assert busy["ok"] is True  # the ports are taken by the daemon: a warning
    sandbox_site.settings["fhir"]["base_url"] = f"http://127.0.0.1:{free_port()}/fhir"
    down = sandbox_site.ask("check", code=69)
    (verdict,) = [check for check in down["checks"] if check["verdict"] == "error"]
    assert (verdict["check"], verdict["code"]) == ("fhir", "FHIR-UNAVAILABLE")
    assert verdict["hint"]


def test_wrong_settings_name_the_setting_and_exit_78(sandbox_site: Site) -> None:
    sandbox_site.settings["stow_rs"]["prot"] = 1
    sandbox_site.settings["study"]["quiet_period"] = "30"
    for verb in ("check", "run", "status"):
        done = sandbox_site.run(verb)
        assert done.returncode == 78
        assert "stow_rs.prot" in done.stderr
        assert "study.quiet_period" in done.stderr
        assert "CONFIG-INVALID" in done.stderr
    told = json.loads(sandbox_site.run("check", "--json").stdout)
    assert told["error"]["code"] == "CONFIG-INVALID"


def test_settings_from_the_environment_win(sandbox_site: Site) -> None:
    port = free_port()
    sandbox_site.start(environment={"FLUTE_SYNC_STOW_RS__PORT": str(port)})
    answer = httpx.get(f"http://127.0.0.1:{port}/dicom-web/studies?limit=1", timeout=60)
    assert answer.status_code in (200, 204)


def test_convert_works_offline(tmp_path: Path) -> None:
    upload = Upload(slices=1)
    for number, file in enumerate(upload.files):
        (tmp_path / f"{number}.dcm").write_bytes(file)
    done = program("convert", tmp_path)
    assert done.returncode == 0, done.stderr
    resource = json.loads(done.stdout)
    assert resource["resourceType"] == "ImagingStudy"
    assert resource["numberOfInstances"] == len(upload.files)
    assert resource["subject"] == {
        "type": "Patient", "identifier": {"value": upload.patient.patient_id}
    }  # fmt: skip
    (tmp_path / "broken.dcm").write_bytes(b"no DICOM at all")
    done = program("convert", "--json", tmp_path)
    assert done.returncode == 65
    told = json.loads(done.stdout)
    assert len(told["resources"]) == 1
    assert [refused["code"] for refused in told["refused"]] == ["DICOM-UNREADABLE"]


def test_a_ledger_of_another_target_stops_with_a_hint(
    sandbox_site: Site, sandbox: Sandbox, tmp_path: Path
) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        eventually(lambda: site.logged("study.synced"))
        assert site.stop() == 0
    with Sandbox(tmp_path / "other") as other:
        sandbox_site.settings["fhir"]["base_url"] = other.fhir_url
        sandbox_site.launch()
        assert sandbox_site.wait() == 78
    assert any("LEDGER-TARGET" in line for line in sandbox_site.lines)


def test_a_port_that_is_taken_stops_with_a_hint(sandbox_site: Site, make_site, sandbox) -> None:
    other = make_site(sandbox.fhir_url, sandbox.dicomweb_url)
    other.settings["stow_rs"]["port"] = sandbox_site.port
    with running(sandbox_site):
        other.launch()
        assert other.wait() == 78
    assert any("CONFIG-LISTENER" in line for line in other.lines)


def test_the_demo_runs_and_tells() -> None:
    done = program("demo", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [one["ledger"]["state"] for one in told["studies"]] == ["completed", "completed"]
    assert all(one["thumbnail_bytes"] > 500 and one["wado_rs"] for one in told["studies"])
    assert {one["verdict"] for one in told["research"]["results"]} == {"included", "unknown"}
    assert told["research"]["files"] == len(told["studies"][0]["wado_rs"])
