"""The scripts of docs/orthanc in a real Orthanc: what they tell of, and when flute-sync is down."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.daemon.http_server import HttpServer, Listener
from flute_sync.intake import Notice
from flute_sync.sources.webhook import Webhook
from flute_sync.sources.webhook_settings import WebhookSettings
from tests.acceptance.site import eventually
from tests.contract.dicomweb import Study, new_mpmri, new_trus
from tests.services.missing import orthanc_plugin
from tests.services.orthanc import Orthanc
from tests.services.process import free_port
from tests.stow import FakeIntake

SCRIPTS = Path(__file__).parents[2] / "docs" / "orthanc"
CHANGED, GONE = Notice.CHANGED, Notice.GONE


class Site:
    """An Orthanc with one of the scripts, and the webhook that it tells."""

    def __init__(self, orthanc: Orthanc, port: int, token: Path) -> None:
        self.orthanc = orthanc
        self.intake = FakeIntake()
        self.native = httpx.Client(base_url=orthanc.base_url, timeout=60)
        self._settings = WebhookSettings(enabled=True, token_file=str(token))
        self._port = port
        self._server: HttpServer | None = None

    def listen(self) -> None:
        webhook = Webhook(self._settings, self.intake, ["pacs", "vna"])
        self._server = HttpServer([Listener("hook", webhook, "127.0.0.1", self._port)])
        self._server.start()

    def stop_listening(self) -> None:
        if self._server is not None:
            self._server.stop(timedelta(seconds=2))
            self._server = None

    def close(self) -> None:
        self.stop_listening()
        self.native.close()

    def store(self, study: Study) -> None:
        for part in study.parts:
            self.native.post("/instances", content=part).raise_for_status()

    def found(self, uid: str) -> str:
        ((found),) = self.native.post("/tools/lookup", content=uid).json()
        return str(found["Path"])

    def heard(self, uid: str, notice: Notice) -> None:
        """Wait until the webhook was told this of a study of its archive, last."""
        eventually(lambda: self.told(uid)[-1:] == [("pacs", notice)])

    def stable(self, uid: str) -> None:
        """Wait until Orthanc calls a study stable, and the script did all it does then."""
        eventually(lambda: self.native.get(self.found(uid)).json()["IsStable"])
        self.in_step()

    def in_step(self) -> None:
        """Wait until the script has gone through all that happened so far: it keeps the order."""
        last = new_trus()
        self.store(last)
        self.heard(last.uid, CHANGED)

    def told(self, uid: str) -> list[tuple[str, Notice]]:
        return [
            (delivery.archive, one.notice)
            for delivery in list(self.intake.deliveries)
            for one in delivery.noticed
            if one.study_instance_uid == uid
        ]

    def forget(self) -> None:
        self.intake.calls.clear()


@pytest.fixture(scope="module", params=["lua", "python"])
def site(
    request: pytest.FixtureRequest,
    new_orthanc: Callable[..., Orthanc],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    if request.param == "python":
        request.getfixturevalue("orthanc_python")
    port, token = free_port(), tmp_path_factory.mktemp("hook") / "token"
    token.write_text("a-token-for-orthanc\n")
    told = {
        "Url": f"http://127.0.0.1:{port}/notify/study",
        "TokenFile": str(token),
        "Archive": "pacs",
    }
    script: dict[str, Any] = {"LuaScripts": [str(SCRIPTS / "notify.lua")]}
    if request.param == "python":
        plugins = [orthanc_plugin("DicomWeb"), orthanc_plugin("Python")]
        script = {"PythonScript": str(SCRIPTS / "notify.py"), "Plugins": [*map(str, plugins)]}
    with ExitStack() as closing:
        orthanc = new_orthanc(settings={**script, "FluteSync": told, "HttpTimeout": 5})
        site = Site(orthanc, port, token)
        closing.callback(site.close)
        site.listen()
        yield site


def test_a_study_that_is_stored_is_told_of_its_archive_alone(site: Site) -> None:
    study = new_trus()
    site.store(study)
    site.heard(study.uid, CHANGED)
    assert {archive for archive, _ in site.told(study.uid)} == {"pacs"}


def test_few_notices_are_made_of_many_instances(site: Site) -> None:
    study = new_mpmri()
    site.store(study)
    site.stable(study.uid)
    assert len(study.parts) / 2 > len(site.told(study.uid)) >= 1


def test_a_deleted_study_is_told_by_its_uid(site: Site) -> None:
    study = new_trus()
    site.store(study)
    site.heard(study.uid, CHANGED)
    site.native.delete(site.found(study.uid)).raise_for_status()
    site.heard(study.uid, GONE)


def test_a_deleted_series_is_a_change_of_its_study(site: Site) -> None:
    study = new_mpmri()
    site.store(study)
    path = site.found(study.uid)
    series = site.native.get(path).json()["Series"]
    site.stable(study.uid)
    site.forget()
    site.native.delete(f"/series/{series[0]}").raise_for_status()
    site.heard(study.uid, CHANGED)


def test_what_was_stored_before_a_restart_is_told_when_it_is_deleted(site: Site) -> None:
    study = new_trus()
    site.store(study)
    site.heard(study.uid, CHANGED)
    site.orthanc.stop()
    site.orthanc.start()
    site.in_step()
    site.native.delete(site.found(study.uid)).raise_for_status()
    site.heard(study.uid, GONE)


def test_what_could_not_be_told_is_told_later(site: Site) -> None:
    missed = new_trus()
    site.stop_listening()
    site.store(missed)
    eventually(lambda: site.native.get(site.found(missed.uid)).json()["IsStable"])
    site.listen()
    while not site.told(missed.uid):
        site.store(new_trus())  # Lua has no clock of its own: the next change tells what is left
        threading.Event().wait(0.5)


def test_orthanc_logs_neither_the_token_nor_anything_of_the_patient(site: Site) -> None:
    log = (site.orthanc.directory / "orthanc.log").read_text(errors="replace")
    assert "a-token-for-orthanc" not in log
    assert not re.search(r"Traceback|Lua: .*notify\.lua", log), log[-3000:]
