"""TLS and tokens over real sockets: who is trusted, who is not, and what is said about it."""

import socket
import ssl
import threading
from base64 import b64decode
from urllib.parse import parse_qs

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flute_sync.auth_errors import TokenRefused, TokenUnavailable
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir_errors import FhirUnauthorized, FhirUnavailable
from flute_sync.settings_errors import ConfigurationError, SecretUnreadable
from tests.integration.tls import Authority, https

SECRET = "very secret"


class Site:
    """A FHIR server that wants a token, and the token server that gives it."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-384")
        self.jtis: list[str] = []
        self.good: set[str] = set()
        self.token_url = ""
        self.app = Starlette(
            routes=[
                Route("/fhir/.well-known/smart-configuration", self.discover),
                Route("/token", self.token, methods=["POST"]),
                Route("/fhir/Patient/1", self.patient),
            ]
        )

    async def discover(self, _request: Request) -> Response:
        return JSONResponse({"token_endpoint": self.token_url})

    async def token(self, request: Request) -> Response:
        form = {k: v[0] for k, v in parse_qs((await request.body()).decode()).items()}
        if not self._known(request, form):
            return JSONResponse({"error": "invalid_client"}, 401)
        token = f"token-{len(self.jtis)}"
        self.good = {token}
        self.jtis.append(token)
        return JSONResponse({"access_token": token, "token_type": "bearer", "expires_in": 300})

    def _known(self, request: Request, form: dict[str, str]) -> bool:
        if assertion := form.get("client_assertion"):
            claims = jwt.decode(assertion, self.key, algorithms=["ES384"]).claims
            jwt.JWTClaimsRegistry(aud={"essential": True, "value": self.token_url}).validate(claims)
            return bool(claims["sub"] == "flute")
        pair = request.headers.get("authorization", "").removeprefix("Basic ")
        return b64decode(pair) == b"flat:very+secret"

    async def patient(self, request: Request) -> Response:
        said = request.headers.get("authorization", "").removeprefix("Bearer ")
        if said not in self.good:
            return Response(status_code=401)
        return JSONResponse({"resourceType": "Patient", "id": "1"})


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def pair(authority):
    return authority.pair("127.0.0.1")


async def open_app(scope, _receive, send):
    assert scope["type"] == "http"
    body = b'{"resourceType": "Patient", "id": "1"}'
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def read(port, *, host="127.0.0.1", path="/fhir", **settings):
    base_url = f"https://{host}:{port}{path}"
    with FhirClient(FhirSettings.model_validate({"base_url": base_url, **settings})) as client:
        return client.read("Patient", "1")


def test_a_private_authority_is_trusted_if_told(authority, pair):
    with https(open_app, pair) as port:
        assert read(port, ca_file=str(authority.file))["id"] == "1"


def test_nobody_else_is_trusted(authority, pair, tmp_path):
    other = Authority(tmp_path, "other")
    with https(open_app, pair) as port:
        for settings in ({}, {"ca_file": str(other.file)}):
            with pytest.raises(FhirUnavailable) as got:
                read(port, **settings)
            assert "certificate is not accepted" in got.value.detail


def test_the_environment_trusts_nobody_in_our_name(authority, pair, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    with https(open_app, pair) as port, pytest.raises(FhirUnavailable):
        read(port, ca_file=str(Authority(authority.file.parent, "third").file))


def test_the_host_must_be_the_one_named(authority):
    with (
        https(open_app, authority.pair("elsewhere.example")) as port,
        pytest.raises(FhirUnavailable) as got,
    ):
        read(port, ca_file=str(authority.file))
    assert "certificate is not accepted" in got.value.detail


def test_a_client_certificate_is_shown(authority, pair, tmp_path):
    us = authority.pair("flute-sync.example")
    with https(open_app, pair, clients_of=authority.file) as port:
        with pytest.raises(FhirUnavailable):
            read(port, ca_file=str(authority.file))
        found = read(
            port,
            ca_file=str(authority.file),
            client_cert=str(us.certificate),
            client_key_file=str(us.key),
        )
        both = tmp_path / "both.pem"
        both.write_bytes(us.certificate.read_bytes() + us.key.read_bytes())
        assert read(port, ca_file=str(authority.file), client_cert=str(both)) == found


def test_files_that_do_not_serve_are_named(authority, pair, tmp_path):
    locked = authority.pair("locked.example", passphrase=b"secret")
    for cert, key in ((locked.certificate, locked.key), (pair.certificate, locked.key)):
        with pytest.raises(SecretUnreadable) as got:
            read(9, client_cert=str(cert), client_key_file=str(key))
        assert "client_cert" in got.value.detail
    nonsense = tmp_path / "ca.pem"
    nonsense.write_text("nonsense")
    for file in (nonsense, tmp_path / "absent.pem"):
        with pytest.raises(ConfigurationError):
            read(9, ca_file=str(file))


def test_tls_before_1_2_is_refused(authority, pair):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    shaken = []

    def serve(listening):
        connection, _ = listening.accept()
        with connection:
            try:
                context.wrap_socket(connection, server_side=True).close()
                shaken.append(True)
            except (ssl.SSLError, OSError):
                shaken.append(False)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,))
        thread.start()
        with pytest.raises(FhirUnavailable) as got:
            read(listening.getsockname()[1], ca_file=str(authority.file))
        thread.join(60)
    assert shaken == [False]
    assert got.value.detail == "TLS failed"


def smart(tmp_path, site):
    file = tmp_path / "key.pem"
    file.write_bytes(site.key.as_pem(private=True))
    return {
        "method": "smart",
        "client_id": "flute",
        "key_file": str(file),
        "kid": "1",
        "alg": "ES384",
    }


def oauth2(tmp_path, site, client_id="flat"):
    file = tmp_path / "secret"
    file.write_text(SECRET)
    return {
        "method": "oauth2",
        "client_id": client_id,
        "client_secret_file": str(file),
        "token_url": site.token_url,
    }


@pytest.mark.parametrize("way", [smart, oauth2])
def test_tokens_over_tls(authority, pair, tmp_path, way):
    site = Site()
    with https(site.app, pair) as port:
        site.token_url = f"https://127.0.0.1:{port}/token"
        settings = FhirSettings.model_validate(
            {
                "base_url": f"https://127.0.0.1:{port}/fhir",
                "ca_file": str(authority.file),
                "auth": way(tmp_path, site),
            }
        )
        with FhirClient(settings) as client:
            assert client.read("Patient", "1") is not None
            assert client.read("Patient", "1") is not None
            assert len(site.jtis) == 1
            site.good = set()  # revoked: a new one is asked for, once
            assert client.read("Patient", "1") is not None
            assert len(site.jtis) == 2
            site.good = set()
            site.app.routes.pop(1)  # the token server is gone from its address
            with pytest.raises(TokenRefused):
                client.read("Patient", "1")


def test_a_token_that_never_pleases_is_unauthorized_after_one_renewal(authority, pair, tmp_path):
    site = Site()
    asked = []

    async def refuse(scope, receive, send):
        if scope["path"] == "/token":
            await site.app(scope, receive, send)
            return
        asked.append(scope["path"])
        await Response(status_code=401)(scope, receive, send)

    with https(refuse, pair) as port:
        site.token_url = f"https://127.0.0.1:{port}/token"
        with pytest.raises(FhirUnauthorized):
            read(port, ca_file=str(authority.file), auth=oauth2(tmp_path, site))
    assert len(asked) == 2
    assert len(site.jtis) == 2


def test_a_token_server_that_refuses_is_not_one_that_is_down(authority, pair, tmp_path):
    site = Site()
    with https(site.app, pair) as port:
        site.token_url = f"https://127.0.0.1:{port}/token"
        with pytest.raises(TokenRefused) as refused:
            read(port, ca_file=str(authority.file), auth=oauth2(tmp_path, site, "nobody"))
        assert SECRET not in str(refused.value)
        settings = oauth2(tmp_path, site)
    with pytest.raises(TokenUnavailable):
        read(port, ca_file=str(authority.file), auth=settings)
