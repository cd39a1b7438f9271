"""What a person gets wrong while it runs does not stop it: uploads go on, and it is said."""

import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.conftest import Upload, create_patient, imaging_studies
from tests.acceptance.site import Site, eventually, running, store
from tests.integration.tls import Authority


def test_an_unusable_certificate_does_not_stop_what_runs(
    sandbox_site: Site, sandbox: Sandbox, tmp_path: Path
) -> None:
    pair = Authority(tmp_path).pair("127.0.0.1")
    sandbox_site.settings["console"]["tls"] = {
        "cert_file": str(pair.certificate),
        "key_file": str(pair.key),
    }
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    with running(sandbox_site) as site:
        pair.certificate.write_text("half a certificate")
        site.signal(signal.SIGHUP)
        eventually(
            lambda: any(r.get("code") == "CONFIG-SECRET" for r in site.logged("settings.warning")),
        )
        assert store(site.stow_url, upload.files).status_code == 200
        eventually(lambda: imaging_studies(sandbox.fhir_url, upload.uid))
        assert site.stop() == 0


class _Refusing(BaseHTTPRequestHandler):
    """A FHIR server to which nobody's credentials are good enough."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refusing) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/fhir"
        server.shutdown()
        thread.join()


def test_refused_credentials_do_not_keep_uploads_out(
    make_site, sandbox: Sandbox, refusing: str
) -> None:
    """They are renewed by a person some day; the archive needs the images today."""
    site = make_site(refusing, sandbox.dicomweb_url)
    upload = Upload(slices=1)
    with running(site):
        paused = eventually(lambda: site.logged("target.paused"))
        assert [r["code"] for r in paused] == ["FHIR-UNAUTHORIZED"]
        assert store(site.stow_url, upload.files).status_code == 200
        assert site.stop() == 0


def test_the_console_asks_for_credentials_where_the_settings_say_so(
    sandbox_site: Site, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret")
    sandbox_site.settings["console"]["auth"] = {"method": "bearer", "token_file": str(token)}
    with running(sandbox_site) as site:
        for page in ("/live", "/ready", "/metrics"):
            url = site.console_url + page
            assert httpx.get(url, timeout=60).status_code == 401
            assert (
                httpx.get(url, headers={"Authorization": "Bearer wrong"}, timeout=60).status_code
                == 401
            )
            assert (
                httpx.get(url, headers={"Authorization": "Bearer s3cret"}, timeout=60).status_code
                == 200
            )
        eventually(lambda: site.logged("http.refused"))


def test_a_start_that_fails_says_so_in_the_log(sandbox_site: Site) -> None:
    sandbox_site.settings["ledger"]["url"] = "sqlite:////nowhere/at/all/ledger.db"
    sandbox_site.launch()
    assert sandbox_site.wait() == 78
    (line,) = sandbox_site.logged("daemon.failed")
    assert line["code"].startswith(("LEDGER-", "CONFIG-"))
    assert line["hint"]


def test_received_studies_are_in_the_log(sandbox_site: Site, sandbox: Sandbox) -> None:
    upload = Upload(slices=1)
    create_patient(sandbox.fhir_url, upload.patient)
    with running(sandbox_site) as site:
        store(site.stow_url, upload.files)
        (line,) = eventually(lambda: site.logged("study.received"))
        assert line["study_instance_uid"] == upload.uid
