"""What ``flute-sync check`` says of secrets and certificates."""

from pathlib import Path
from typing import Any

import pytest

from flute_sync.daemon.checks import Verdict, every_check
from flute_sync.daemon.config import Config
from tests.acceptance.site import free_port
from tests.integration.tls import Authority


def checked(folder: Path, **sections: Any) -> dict[str, Verdict]:
    """Check a site of which no server runs."""
    common = {
        "fhir": {"base_url": f"http://127.0.0.1:{free_port()}/fhir"},
        "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
    }
    config = Config.model_validate({**common, **sections})
    return {verdict.check: verdict for verdict in every_check(config)}


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
