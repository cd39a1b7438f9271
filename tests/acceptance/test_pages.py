"""The console's pages of the installed program: settings that are refused, and a person's way."""

import re
from pathlib import Path

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.pages import form_token, sign_in

PASSWORD = "correct horse battery"


@pytest.fixture
def users_site(sandbox_site: Site, tmp_path: Path) -> Site:
    """A site with a user, made as an operator makes one."""
    users = str(tmp_path / "users")
    sandbox_site.settings["console"]["auth"] = {"mode": "users", "users_file": users}
    done = sandbox_site.run("console-user", "anna", text=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    return sandbox_site


def synced(site: Site, sandbox: Sandbox) -> tuple[Upload, str]:
    """Upload a study of a new patient and return it with its ImagingStudy's id."""
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    assert store(site.stow_url, upload.files).status_code == 200
    (study,) = eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid))
    return upload, str(study["id"])


def test_a_person_finds_a_study_and_sees_its_pictures(users_site: Site, sandbox: Sandbox) -> None:
    with running(users_site) as site, httpx.Client(base_url=site.console_url, timeout=60) as client:
        upload, name = synced(site, sandbox)
        assert sign_in(client, "anna", PASSWORD).status_code == 303
        token = form_token(client.get("/studies").text)
        asked = {"form_token": token, "patient": f"urn:oid:1.2.3|{upload.patient.patient_id}"}
        found = client.post("/studies", data=asked)
        assert upload.patient.patient_id not in found.headers["location"]
        listed = client.get(found.headers["location"])
        assert re.findall(r'href="/studies/([^"?]+)"', listed.text) == [name]
        page = client.get(f"/studies/{name}")
        pictures = re.findall(r'src="(/studies/[^"]+)"', page.text)
        assert len(pictures) == 6
        for picture in pictures:
            answer = client.get(picture)
            assert answer.headers["content-type"] == "image/jpeg"
            assert answer.content.startswith(b"\xff\xd8\xff")
        told = site.ask("study", upload.uid, "--explain")
        assert told["links"] == []
        assert "No variable is linked to this study." in page.text
        (looked,) = eventually(lambda: site.logged("console.looked"))
        assert looked["study_instance_uid"] == upload.uid
        assert re.fullmatch("[0-9a-f]{12}", looked["user"])
        assert not [line for line in site.lines if "anna" in line or PASSWORD in line]


def test_a_user_who_is_removed_signs_in_no_more(users_site: Site) -> None:
    with running(users_site) as site, httpx.Client(base_url=site.console_url, timeout=60) as client:
        assert sign_in(client, "anna", PASSWORD).status_code == 303
        assert client.get("/studies").status_code == 200
        assert site.run("console-user", "anna", "--remove").returncode == 0
        assert client.get("/studies").status_code == 303
        assert site.run("console-user", "anna", text="another password\n").returncode == 0
        assert sign_in(client, "anna", PASSWORD).status_code == 401
        assert sign_in(client, "anna", "another password").status_code == 303


def test_monitors_need_no_person_and_are_none(users_site: Site, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    users_site.settings["console"]["auth"] |= {"method": "bearer", "token_file": str(token)}
    shown = {"Authorization": "Bearer s3cret"}
    with running(users_site) as site:
        for path in ("/live", "/ready", "/metrics"):
            assert httpx.get(site.console_url + path, timeout=60).status_code == 401
            assert httpx.get(site.console_url + path, headers=shown, timeout=60).status_code == 200
        assert (
            httpx.get(f"{site.console_url}/studies", headers=shown, timeout=60).status_code == 303
        )


def test_beyond_this_machine_monitors_without_credentials_see_nothing(users_site: Site) -> None:
    users_site.settings["console"] |= {"host": "0.0.0.0", "insecure": True}
    with running(users_site) as site, httpx.Client(base_url=site.console_url, timeout=60) as client:
        assert client.get("/metrics").status_code == 401
        sign_in(client, "anna", PASSWORD)
        assert client.get("/metrics").status_code == 200


@pytest.mark.parametrize("auth", [{}, {"mode": "none"}])
def test_pages_for_everybody_are_refused_beyond_this_machine(
    sandbox_site: Site, auth: dict[str, str]
) -> None:
    console = {"host": "0.0.0.0", "insecure": True}
    sandbox_site.settings["console"] |= console | ({"auth": auth} if auth else {})
    done = sandbox_site.run("run")
    assert done.returncode == 78
    assert "CONFIG-INVALID" in done.stderr
    assert "console: auth.mode is none" in done.stderr


def test_users_that_cannot_be_read_stop_the_start(users_site: Site, tmp_path: Path) -> None:
    (tmp_path / "users").write_text("anna:not a hash\n")
    users_site.launch()
    assert users_site.wait() == 78
    assert [line["code"] for line in users_site.logged("daemon.failed")] == ["CONSOLE-USERS"]
    (tmp_path / "users").unlink()
    users_site.launch()
    assert users_site.wait() == 78
    assert [line["code"] for line in users_site.logged("daemon.failed")] == ["CONFIG-SECRET"]


def test_a_password_is_never_in_the_arguments_and_not_in_the_file(
    users_site: Site, tmp_path: Path
) -> None:
    file = tmp_path / "users"
    assert file.stat().st_mode & 0o777 == 0o640
    assert PASSWORD not in file.read_text()
    assert "$argon2id$" in file.read_text()
    assert users_site.run("console-user", "carla", text="short\n").returncode == 2
    assert users_site.run("console-user", "a:b", text=f"{PASSWORD}\n").returncode == 2
    assert users_site.run("console-user", "carla", "--remove").returncode == 2
    assert [line.partition(":")[0] for line in file.read_text().splitlines()[1:]] == ["anna"]
