"""C-STORE over TLS, PS3.15 B.12: who gets in, and with what."""

import socket
import ssl
import warnings
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from pydantic import ValidationError

from flute_sync.settings_errors import SecretUnreadable
from flute_sync.sources.dimse_acceptor import Acceptor
from flute_sync.sources.store_settings import DimseTlsSettings, StoreScpSettings
from tests.acceptance.site import eventually
from tests.dimse import listening
from tests.intake import MemoryIntake
from tests.integration.tls import Authority, Pair
from tests.services.dcmtk import dcmtk
from tests.stow import dicom


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def shown(authority: Authority) -> Pair:
    return authority.pair("127.0.0.1")


def tls(shown: Pair, authority: Authority | None = None) -> DimseTlsSettings:
    return DimseTlsSettings(
        cert_file=str(shown.certificate),
        key_file=str(shown.key),
        ca_file=None if authority is None else str(authority.file),
    )


@pytest.fixture(params=["lean", "pynetdicom"])
def intake_and_acceptor(
    request: pytest.FixtureRequest, shown: Pair, authority: Authority
) -> Iterator[tuple[MemoryIntake, Acceptor]]:
    intake = MemoryIntake()
    with listening(intake, tls=tls(shown, authority), data_path=request.param) as acceptor:
        yield intake, acceptor


def store(port: int, folder: Path, *options: str) -> CompletedProcess[str]:
    file = folder / "one.dcm"
    file.write_bytes(dicom(pixels=b"\0" * 600_000))
    return dcmtk("storescu", *options, "-aec", "FLUTE_SYNC", "127.0.0.1", str(port), str(file))


def test_with_a_client_certificate(
    intake_and_acceptor: tuple[MemoryIntake, Acceptor], authority: Authority, tmp_path: Path
) -> None:
    intake, acceptor = intake_and_acceptor
    client = authority.pair("modality")
    keys = "+tls", str(client.key), str(client.certificate), "+cf", str(authority.file)
    done = store(acceptor.port, tmp_path, *keys)
    assert done.returncode == 0, done.stderr
    assert len(intake.deliveries) == 1
    acceptor.stop(timedelta(seconds=5))
    assert not acceptor.alive()


def test_who_has_no_certificate_of_ours_stays_out(
    intake_and_acceptor: tuple[MemoryIntake, Acceptor], authority: Authority, tmp_path: Path
) -> None:
    intake, acceptor = intake_and_acceptor
    trust = "+cf", str(authority.file)
    assert store(acceptor.port, tmp_path, "+tla", *trust).returncode != 0
    other = Authority(tmp_path, "another").pair("stranger")
    keys = "+tls", str(other.key), str(other.certificate)
    assert store(acceptor.port, tmp_path, *keys, *trust).returncode != 0
    assert store(acceptor.port, tmp_path).returncode != 0
    assert not intake.deliveries
    assert acceptor.alive()


def test_a_handshake_that_fails_is_told(
    intake_and_acceptor: tuple[MemoryIntake, Acceptor],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, acceptor = intake_and_acceptor
    assert store(acceptor.port, tmp_path).returncode != 0

    def reasons() -> list[str]:
        return [one.__dict__["fields"]["reason"] for one in caplog.records if "fields" in vars(one)]

    eventually(lambda: any(reason.startswith("TLS: ") for reason in reasons()), within=60)


def test_without_an_authority_no_certificate_is_asked_for(
    shown: Pair, authority: Authority, tmp_path: Path
) -> None:
    intake = MemoryIntake()
    with listening(intake, tls=tls(shown)) as acceptor:
        done = store(acceptor.port, tmp_path, "+tla", "+cf", str(authority.file))
    assert done.returncode == 0, done.stderr
    assert len(intake.deliveries) == 1


@pytest.mark.parametrize(
    ("version", "is_taken"),
    [
        (ssl.TLSVersion.TLSv1_1, False),
        (ssl.TLSVersion.TLSv1_2, True),
        (ssl.TLSVersion.TLSv1_3, True),
    ],
)
def test_versions(
    shown: Pair, authority: Authority, version: ssl.TLSVersion, *, is_taken: bool
) -> None:
    client = ssl.create_default_context(cafile=str(authority.file))
    client.set_ciphers("ALL:@SECLEVEL=0")
    client.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that 1.1 is old is the point
        client.maximum_version = version
    with listening(MemoryIntake(), tls=tls(shown)) as acceptor:
        plain = socket.create_connection(("127.0.0.1", acceptor.port), timeout=60)
        with plain:
            if not is_taken:
                with pytest.raises(ssl.SSLError):
                    client.wrap_socket(plain, server_hostname="127.0.0.1")
                return
            with client.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                assert secured.version() == version.name.replace("TLSv1_", "TLSv1.")
                cipher = secured.cipher()
                assert cipher is not None
                assert "GCM" in cipher[0] or "CHACHA" in cipher[0]


def test_who_never_shakes_hands_holds_nobody_up(
    intake_and_acceptor: tuple[MemoryIntake, Acceptor], authority: Authority, tmp_path: Path
) -> None:
    intake, acceptor = intake_and_acceptor
    silent = [socket.create_connection(("127.0.0.1", acceptor.port)) for _ in range(5)]
    client = authority.pair("modality")
    keys = "+tls", str(client.key), str(client.certificate), "+cf", str(authority.file)
    assert store(acceptor.port, tmp_path, *keys).returncode == 0
    for connection in silent:
        connection.close()
    assert len(intake.deliveries) == 1


def test_a_reload_shows_the_new_certificate(
    shown: Pair, authority: Authority, tmp_path: Path
) -> None:
    with listening(MemoryIntake(), tls=tls(shown)) as acceptor:
        before = ssl.get_server_certificate(("127.0.0.1", acceptor.port))
        shown.key.write_text("rubbish", encoding="ascii")
        with pytest.raises(SecretUnreadable):
            acceptor.reload()
        assert ssl.get_server_certificate(("127.0.0.1", acceptor.port)) == before
        fresh = Authority(tmp_path, "fresh").pair("127.0.0.1")
        shown.key.write_bytes(fresh.key.read_bytes())
        shown.certificate.write_bytes(fresh.certificate.read_bytes())
        acceptor.reload()
        assert ssl.get_server_certificate(("127.0.0.1", acceptor.port)) != before


def test_beyond_loopback_tls_with_an_authority_or_insecure(
    shown: Pair, authority: Authority
) -> None:
    for wrong in (None, tls(shown)):
        with pytest.raises(ValidationError, match="ca_file"):
            StoreScpSettings(host="0.0.0.0", tls=wrong)
    StoreScpSettings(host="0.0.0.0", tls=tls(shown, authority))
    StoreScpSettings(host="0.0.0.0", insecure=True)


@pytest.mark.parametrize("title", ["", " ", "A" * 17, "A\\B", " LED", "TAB\t", "ÄTITEL"])
def test_ae_titles_that_are_none(title: str) -> None:
    with pytest.raises(ValidationError):
        StoreScpSettings(ae_title=title)
