"""What ``flute-sync check`` says of secrets, certificates, and what links need."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from flute_sync.daemon.checks import Verdict, every_check
from flute_sync.daemon.config import Config
from flute_sync.daemon.pseudonymity import Pseudonymity
from flute_sync.intake import Delivery
from flute_sync.ledger import Ledger
from flute_sync.sandbox.fhir_server.capability import capability_statement
from flute_sync.sandbox.server import Sandbox
from tests.contract.fhir_rest import create, new_patient
from tests.contract.ledger_site import received
from tests.integration.tls import Authority
from tests.services.process import free_port


def checked(folder: Path, **sections: Any) -> dict[str, Verdict]:
    """Check a site of which no server runs."""
    common = {
        "fhir": {"base_url": f"http://127.0.0.1:{free_port()}/fhir"},
        "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
    }
    config = Config.model_validate({**common, **sections})
    return {verdict.check: verdict for verdict in every_check(config)}


@contextmanager
def fhir_server(without: set[str], reads_only: set[str]) -> Iterator[str]:
    """A server that offers no interaction with some types, and no more than reading of others."""
    statement = capability_statement("http://fhir.example", "2026-01-01", {})
    (rest,) = statement["rest"]
    rest["resource"] = [one for one in rest["resource"] if one["type"] not in without]
    for one in rest["resource"]:
        if one["type"] in reads_only:
            one["interaction"] = [{"code": "read"}]

    class Metadata(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = orjson.dumps(statement)
            self.send_response(200)
            self.send_header("Content-Type", "application/fhir+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/fhir"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("without", "reads_only", "said"),
    [
        (set(), set(), []),
        ({"Procedure", "FamilyMemberHistory"}, set(), ["FamilyMemberHistory, Procedure: no such"]),
        (set(), {"Observation"}, ["no search of Observation: no such links"]),
        ({"Provenance"}, set(), ["It takes no Provenance"]),
        ({"Observation"}, {"Provenance"}, ["no search of Observation", "It takes no Provenance"]),
    ],
)
def test_what_links_need_of_the_server(
    tmp_path: Path, without: set[str], reads_only: set[str], said: list[str]
) -> None:
    with fhir_server(without, reads_only) as url:
        found = checked(tmp_path, fhir={"base_url": url})["fhir"]
        off = checked(tmp_path, fhir={"base_url": url}, links={"enabled": False})["fhir"]
    assert found.level == ("warning" if said else "ok")
    assert found.exit_code == 0
    assert [one for one in said if one not in found.sentence] == []
    assert ("Provenance" in found.sentence) == any("Provenance" in one for one in said)
    assert (off.level, off.sentence) == ("ok", "FHIR 4.0.1, flute-sync sandbox.")


def test_secrets_of_several_archives_are_read(tmp_path: Path) -> None:
    there = tmp_path / "token"
    there.write_text("secret")
    url = f"http://127.0.0.1:{free_port()}/dicom-web"
    files = {"a": there, "b": tmp_path / "absent"}
    archives = [
        {
            "name": name,
            "dicomweb_url": url,
            "auth": {"method": "bearer", "token_file": str(file)},
        }
        for name, file in files.items()
    ]
    found = checked(tmp_path, archives=archives)
    assert "archives.1.auth.token_file" not in found
    assert found["archives.2.auth.token_file"].level == "error"


@pytest.mark.parametrize(("fits", "level"), [(True, "ok"), (False, "error")])
def test_certificates_of_associations_are_tried(tmp_path: Path, fits: bool, level: str) -> None:
    authority = Authority(tmp_path)
    shown, other = authority.pair("127.0.0.1"), authority.pair("other")
    tls = {
        "cert_file": str(shown.certificate),
        "key_file": str((shown if fits else other).key),
        "ca_file": str(authority.file),
    }
    store = {"enabled": True, "port": free_port(), "tls": tls}
    assert checked(tmp_path, store_scp=store)["store_scp"].level == level


def test_a_credential_of_the_service_is_no_error(tmp_path: Path) -> None:
    store = {"enabled": True, "port": free_port(), "tls": {"cert_file": "credential:cert"}}
    found = checked(tmp_path, store_scp=store)
    assert found["store_scp"].level == "ok"
    assert found["store_scp.tls.cert_file"].level == "warning"


def test_that_the_first_study_decides_for_good_is_told(tmp_path: Path) -> None:
    found = checked(tmp_path)["pseudonyms.sources"]
    assert (found.level, found.exit_code) == ("warning", 0)
    assert "pseudonyms.sources" not in checked(tmp_path, pseudonyms={"sources": "identified"})


def test_a_ledger_that_was_filled_in_another_way_is_told(tmp_path: Path) -> None:
    """The service would not start: who checks his settings learns it before it stops."""
    settings = Config.model_validate(
        {"fhir": {"base_url": "http://a.example"}, "ledger": {"url": f"sqlite:///{tmp_path}/l.db"}}
    )
    key = tmp_path / "pseudonym.key"
    key.write_text("a key of the site's own, long enough to be one")
    key.chmod(0o400)
    said = {"mode": "hmac", "key_file": str(key), "system": "urn:test:pseudonyms"}
    ledger = {"url": settings.ledger.url}
    assert checked(tmp_path, ledger=ledger, pseudonyms=said)["ledger"].level == "ok"
    with closing(Ledger.open(settings.ledger, settings.study, create=True)) as there:
        Pseudonymity.bind(settings, there)
        there.deliver(Delivery("test", "a", datetime.now(UTC), received([1])))
    assert checked(tmp_path, ledger=ledger)["ledger"].level == "ok"
    found = checked(tmp_path, ledger=ledger, pseudonyms=said)["ledger"]
    assert (found.level, found.code, found.exit_code) == ("error", "LEDGER-PSEUDONYMS", 78)
    assert "with pseudonyms now, unlike before" in found.sentence
    key.chmod(0o444)
    both = checked(tmp_path, ledger=ledger, pseudonyms=said)
    assert (both["ledger"].level, both["pseudonyms"].level) == ("ok", "error")


def test_a_server_that_must_hold_pseudonyms_alone_is_looked_at(tmp_path: Path) -> None:
    key = tmp_path / "pseudonym.key"
    key.write_text("a key of the site's own, long enough to be one")
    key.chmod(0o400)
    said = {"mode": "hmac", "key_file": str(key), "system": "urn:test:pseudonyms"}
    sections = {"patient": {"systems": {"A": "urn:a", "B": "urn:b"}}, "pseudonyms": said}
    with (
        Sandbox(tmp_path / "sandbox") as sandbox,
        httpx.Client(base_url=sandbox.fhir_url, timeout=60) as fhir,
    ):
        sections["fhir"] = {"base_url": sandbox.fhir_url}
        create(fhir, new_patient("urn:test:pseudonyms", "MLTQ"))
        found = checked(tmp_path, **sections)
        assert found["pseudonyms"].level == found["pseudonyms.fhir"].level == "ok"
        assert "key id " in found["pseudonyms"].sentence
        create(fhir, new_patient("urn:b", "0042"))
        sections["imaging_study"] = {"free_text": True}
        found = checked(tmp_path, **sections)
    assert found["pseudonyms.fhir"].sentence.startswith("1 Patients")
    assert {found[one].level for one in ("pseudonyms", "pseudonyms.fhir")} == {"warning"}
    key.chmod(0o444)
    found = checked(tmp_path, **sections)
    assert (found["pseudonyms"].level, found["pseudonyms"].exit_code) == ("error", 78)


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        ({}, True),
        ({"public_url": "https://flute.example"}, False),
        ({"public_url": "http://flute.example"}, True),
    ],
)
def test_a_console_in_the_clear_is_warned_of(
    tmp_path: Path, more: dict[str, str], warned: bool
) -> None:
    auth = {"mode": "users", "users_file": str(tmp_path / "users")}
    console = {"host": "0.0.0.0", "port": 0, "insecure": True, "auth": auth, **more}
    assert ("console.insecure" in checked(tmp_path, console=console)) is warned
