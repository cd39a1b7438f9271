"""Credentials and secrets: what is sent, to whom, how often, and what is never shown."""

import asyncio
import base64
import json
import os
import threading
import traceback
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey
from pydantic import ValidationError

from flute_sync.auth_errors import TokenRefused, TokenUnavailable
from flute_sync.settings_errors import SecretUnreadable
from flute_sync.transport.client import async_client, client, exposes_credentials
from flute_sync.transport.failure import what_failed
from flute_sync.transport.http_settings import HttpSettings
from flute_sync.transport.secret import Secret, read_secret, secret_path
from flute_sync.transport.tokens import TokenSource

BASE = "https://fhir.example/fhir"
TOKENS = "https://login.example/token"
SECRET = "s3cr:t/+ é"


def settings(**auth: Any) -> HttpSettings:
    return HttpSettings.model_validate({"auth": auth})


class Server:
    """A peer and its token server, scripted."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.issued = 0
        self.expires_in: Any = 300
        self.accepted = lambda _authorization: True
        self.answer: httpx.Response | None = None

    @property
    def token_requests(self) -> list[httpx.Request]:
        return [one for one in self.requests if one.url.host == "login.example"]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if request.url.path.endswith("/.well-known/smart-configuration"):
            return httpx.Response(200, json={"token_endpoint": TOKENS})
        if request.url.host == "login.example":
            if self.answer is not None:
                return self.answer
            self.issued += 1
            body = {"access_token": f"t{self.issued}", "token_type": "Bearer"}
            return httpx.Response(200, json=body | {"expires_in": self.expires_in})
        said = request.headers.get("authorization")
        return httpx.Response(200 if self.accepted(said) else 401, text=said or "")

    def client(self, configured: HttpSettings) -> httpx.Client:
        return client(configured, BASE, transport=httpx.MockTransport(self))


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def secret_file(tmp_path):
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n")
    return file


@pytest.fixture
def oauth2(secret_file):
    return settings(
        method="oauth2",
        token_url=TOKENS,
        client_id="flute sync",
        client_secret_file=str(secret_file),
        scope="system/*.read",
    )


def key_settings(tmp_path, key, alg, **more):
    file = tmp_path / "key.pem"
    file.write_bytes(key.as_pem(private=True))
    return settings(
        method="smart", client_id="flute", key_file=str(file), kid="k1", alg=alg, **more
    )


# -- secrets ----------------------------------------------------------------------------------


def test_a_secret_ends_before_the_line_end(tmp_path):
    file = tmp_path / "s"
    file.write_bytes(b" pass word \r\n")
    assert read_secret(str(file)) == " pass word "


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * 70_000, None])
def test_an_unusable_secret_says_which_but_not_what(tmp_path, content):
    file = tmp_path / "s"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SecretUnreadable) as got:
        read_secret(str(file))
    assert str(file) in got.value.detail
    assert "xxx" not in got.value.detail


def test_a_directory_is_no_secret(tmp_path):
    with pytest.raises(SecretUnreadable):
        read_secret(str(tmp_path))


def test_a_systemd_credential(tmp_path, monkeypatch):
    (tmp_path / "fhir").write_text("x")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_secret("credential:fhir") == "x"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(SecretUnreadable):
        secret_path("credential:fhir")


def test_a_secret_is_read_again_when_its_file_changes(tmp_path):
    file = tmp_path / "s"
    file.write_text("one")
    secret = Secret(str(file))
    assert secret.read() == "one"
    fresh = tmp_path / "new"
    fresh.write_text("two")
    os.replace(fresh, file)
    assert secret.read() == "two"
    file.unlink()
    with pytest.raises(SecretUnreadable):
        secret.read()
    assert "two" not in repr(secret)


# -- settings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "auth",
    [
        {"method": "basic", "user": "a:b", "password_file": "/x"},
        {"method": "basic", "user": "a", "password_file": "relative"},
        {"method": "bearer", "token": "inline"},
        {"method": "kerberos"},
        {
            "method": "oauth2",
            "token_url": "http://login.example/t",
            "client_id": "a",
            "client_secret_file": "/x",
        },
        {"method": "smart", "client_id": "a", "key_file": "/x", "kid": "k", "alg": "HS256"},
    ],
)
def test_settings_that_are_refused(auth):
    with pytest.raises(ValidationError):
        settings(**auth)


def test_a_key_needs_its_certificate():
    with pytest.raises(ValidationError):
        HttpSettings(client_key_file="/key.pem")


def test_credentials_in_the_clear_are_noticed(secret_file):
    bearer = settings(method="bearer", token_file=str(secret_file))
    assert exposes_credentials(bearer, "http://fhir.example/fhir")
    assert not exposes_credentials(bearer, "http://127.0.0.1:8080/fhir")
    assert not exposes_credentials(bearer, BASE)
    assert not exposes_credentials(HttpSettings(), "http://fhir.example/fhir")


# -- the simple ways --------------------------------------------------------------------------


def test_without_auth_nothing_is_said(server):
    with server.client(HttpSettings()) as http:
        assert http.get("Patient/1").text == ""


def test_the_environment_decides_nothing(server, monkeypatch, tmp_path):
    (tmp_path / ".netrc").write_text("machine fhir.example login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    with server.client(HttpSettings()) as http:
        assert http.get("Patient/1").text == ""
        assert not http.trust_env


def test_basic(server, secret_file):
    configured = settings(method="basic", user="us er", password_file=str(secret_file))
    with server.client(configured) as http:
        said = http.get("x").text
        secret_file.write_text("changed, and longer")
        again = http.get("x").text
    assert base64.b64decode(said.removeprefix("Basic ")).decode() == f"us er:{SECRET}"
    assert base64.b64decode(again.removeprefix("Basic ")).decode() == "us er:changed, and longer"


def test_a_bearer_token_that_was_renewed_in_its_file(server, tmp_path):
    file = tmp_path / "token"
    file.write_text("old\n")
    with server.client(settings(method="bearer", token_file=str(file))) as http:
        assert http.get("x").text == "Bearer old"
        file.write_text("newer\n")
        assert http.get("x").text == "Bearer newer"
        server.accepted = lambda _said: False
        assert http.get("x").status_code == 401
    assert len(server.requests) == 3


@pytest.mark.parametrize("token", ["two words", "line\nbreak", "é"])
def test_a_bearer_token_that_would_break_the_header(server, tmp_path, token):
    file = tmp_path / "token"
    file.write_text(token)
    with (
        server.client(settings(method="bearer", token_file=str(file))) as http,
        pytest.raises(SecretUnreadable) as got,
    ):
        http.get("x")
    assert token not in str(got.value)


def test_credentials_go_to_the_configured_origin_only(server, tmp_path):
    file = tmp_path / "token"
    file.write_text("t")
    with server.client(settings(method="bearer", token_file=str(file))) as http:
        for url in (
            "http://fhir.example/fhir/x",
            "https://evil.example/fhir/x",
            "https://fhir.example:8443/fhir/x",
        ):
            assert http.get(url).text == ""
        assert http.get("https://FHIR.example:443/fhir/x").text == "Bearer t"


# -- tokens -----------------------------------------------------------------------------------


def test_one_token_serves_many_requests(server, oauth2):
    with server.client(oauth2) as http:
        assert {http.get("x").text for _ in range(5)} == {"Bearer t1"}
    (asked,) = server.token_requests
    assert parse_qs(asked.content.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["system/*.read"],
    }
    pair = base64.b64decode(asked.headers["authorization"].removeprefix("Basic ")).decode()
    assert pair == "flute+sync:s3cr%3At%2F%2B+%C3%A9"


def test_the_secret_may_stand_in_the_form(server, oauth2):
    auth = oauth2.auth.model_dump() | {"client_authentication": "post", "audience": "api"}
    with server.client(settings(**auth)) as http:
        http.get("x")
    (asked,) = server.token_requests
    form = parse_qs(asked.content.decode())
    assert form["client_id"] == ["flute sync"]
    assert form["client_secret"] == [SECRET]
    assert form["audience"] == ["api"]
    assert "authorization" not in asked.headers


def test_a_refused_token_is_renewed_once(server, oauth2):
    server.accepted = lambda said: said != "Bearer t1"
    with server.client(oauth2) as http:
        assert http.post("x", content=b"body").text == "Bearer t2"
        assert http.get("x").text == "Bearer t2"
        server.accepted = lambda _said: False
        assert http.get("x").status_code == 401
    assert server.issued == 3


def test_a_streamed_upload_is_not_sent_twice(server, oauth2):
    server.accepted = lambda _said: False
    with server.client(oauth2) as http:
        assert http.post("x", content=iter([b"part"])).status_code == 401
    assert server.issued == 1


def clocked(server, *, seconds: list[float]) -> TokenSource:
    from flute_sync.transport.tokens import TokenRequest  # noqa: PLC0415

    return TokenSource(
        lambda _http: TokenRequest(TOKENS, {"grant_type": "client_credentials"}, {}),
        lambda: httpx.Client(transport=httpx.MockTransport(server)),
        clock=lambda: seconds[0],
    )


@pytest.mark.parametrize(
    ("expires_in", "still_good", "renewed"),
    [
        (3600, 3539, 3541),
        (60, 44, 46),
        ("300", 239, 241),
        (None, 239, 241),
        (-1, 239, 241),
        ("soon", 239, 241),
        (True, 0.5, 1.0),
        (10**12, 239, 241),
    ],
)
def test_a_token_is_renewed_before_it_ends(server, expires_in, still_good, renewed):
    now = [1000.0]
    server.expires_in = expires_in
    source = clocked(server, seconds=now)
    assert source.token() == "t1"
    now[0] = 1000.0 + still_good
    assert source.token() == "t1"
    assert source.held() == "t1"
    now[0] = 1000.0 + renewed
    assert source.held() is None
    assert source.token() == "t2"


def test_threads_that_are_refused_together_renew_once(server):
    source = clocked(server, seconds=[0.0])
    first = source.token()
    start = threading.Barrier(8)
    tokens = []

    def renew():
        start.wait(60)
        tokens.append(source.token(refused=first))

    threads = [threading.Thread(target=renew) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert tokens == ["t2"] * 8
    assert server.issued == 2


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.Response(500), TokenUnavailable),
        (httpx.Response(503, headers={"Retry-After": "7"}), TokenUnavailable),
        (httpx.Response(429), TokenUnavailable),
        (httpx.Response(400, json={"error": "invalid_client"}), TokenRefused),
        (httpx.Response(400, json={"error": {"a": 1}}), TokenRefused),
        (httpx.Response(401, text="no"), TokenRefused),
        (httpx.Response(404, text="no"), TokenRefused),
        (httpx.Response(302, headers={"Location": "https://evil.example"}), TokenRefused),
        (httpx.Response(200, text="<html>"), TokenUnavailable),
        (httpx.Response(200, json=[]), TokenUnavailable),
        (httpx.Response(200, json={"access_token": 7}), TokenUnavailable),
        (httpx.Response(200, json={"access_token": "a b"}), TokenUnavailable),
        (httpx.Response(200, json={"access_token": "a", "token_type": "mac"}), TokenUnavailable),
        (httpx.Response(200, content=b" " * 300_000), TokenUnavailable),
    ],
)
def test_a_token_server_that_is_down_is_not_one_that_refuses(server, oauth2, answer, error):
    server.answer = answer
    with server.client(oauth2) as http, pytest.raises(error):
        http.get("x")


def test_the_reason_of_a_refusal_is_said_if_it_is_a_known_one(server, oauth2):
    server.answer = httpx.Response(400, json={"error": "invalid_scope"})
    with server.client(oauth2) as http, pytest.raises(TokenRefused) as got:
        http.get("x")
    assert got.value.detail == "HTTP 400, invalid_scope"
    server.answer = httpx.Response(400, json={"error": f"secret {SECRET} is wrong"})
    with server.client(oauth2) as http, pytest.raises(TokenRefused) as got:
        http.get("x")
    assert got.value.detail == "HTTP 400"


def test_an_unreachable_token_server_is_unavailable(oauth2):
    def fail(request):
        raise httpx.ConnectTimeout("x", request=request)

    with (
        client(oauth2, BASE, transport=httpx.MockTransport(fail)) as http,
        pytest.raises(TokenUnavailable),
    ):
        http.get("x")


def test_no_secret_is_in_any_text(server, oauth2):
    server.answer = httpx.Response(400, json={"error": "invalid_client"})
    with server.client(oauth2) as http:
        shown = repr(http.auth) + repr(oauth2) + repr(http)
        try:
            http.get("x")
        except TokenRefused as error:
            shown += "".join(traceback.format_exception(error))
    assert SECRET not in shown
    assert "Basic " not in shown


# -- SMART backend services ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "alg"),
    [(RSAKey.generate_key(2048), "RS384"), (ECKey.generate_key("P-384"), "ES384")],
    ids=["RS384", "ES384"],
)
def test_assertions_are_signed_short_lived_and_unique(server, tmp_path, key, alg):
    server.expires_in = 1
    server.accepted = lambda said: said == "Bearer t2"
    with server.client(key_settings(tmp_path, key, alg)) as http:
        assert http.get("x").status_code == 200
    discovery, *_ = server.requests
    assert str(discovery.url) == f"{BASE}/.well-known/smart-configuration"
    assert "authorization" not in discovery.headers
    forms = [parse_qs(one.content.decode()) for one in server.token_requests]
    decoded = [jwt.decode(one["client_assertion"][0], key, algorithms=[alg]) for one in forms]
    assert len(decoded) == 2
    for form, token in zip(forms, decoded, strict=True):
        assert form["grant_type"] == ["client_credentials"]
        assert form["client_assertion_type"] == [
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
        ]
        assert "system/ImagingStudy.cruds" in form["scope"][0].split()
        assert token.header == {"typ": "JWT", "alg": alg, "kid": "k1"}
        claims = token.claims
        assert claims["iss"] == claims["sub"] == "flute"
        assert claims["aud"] == TOKENS
        assert 0 < claims["exp"] - claims["iat"] <= 300
    assert decoded[0].claims["jti"] != decoded[1].claims["jti"]


def test_a_configured_token_address_needs_no_discovery(server, tmp_path):
    key = ECKey.generate_key("P-384")
    configured = key_settings(tmp_path, key, "ES384", token_url=TOKENS, scope="system/*.rs")
    with server.client(configured) as http:
        assert http.get("x").text == "Bearer t1"
    assert [one.url.host for one in server.requests] == ["login.example", "fhir.example"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"token_endpoint": "http://login.example/token"}),
        httpx.Response(200, json={"token_endpoint": 7}),
    ],
)
def test_discovery_that_leads_nowhere_needs_a_person(tmp_path, answer):
    configured = key_settings(tmp_path, ECKey.generate_key("P-384"), "ES384")
    with (
        client(configured, BASE, transport=httpx.MockTransport(lambda _r: answer)) as http,
        pytest.raises(TokenRefused),
    ):
        http.get("x")


@pytest.mark.parametrize("content", ["nonsense", "{}", "PUBLIC", "WRONG"])
def test_a_key_that_does_not_fit_is_not_quoted(server, tmp_path, content):
    key = RSAKey.generate_key(2048)
    configured = key_settings(tmp_path, key, "ES384")
    file = tmp_path / "key.pem"
    if content == "PUBLIC":
        file.write_bytes(ECKey.generate_key("P-384").as_pem(private=False))
    elif content != "WRONG":
        file.write_text(content)
    with server.client(configured) as http, pytest.raises(SecretUnreadable) as got:
        http.get("x")
    assert file.read_text()[:40] not in "".join(traceback.format_exception(got.value))


def test_a_key_may_be_a_jwk(server, tmp_path):
    key = ECKey.generate_key("P-384")
    configured = key_settings(tmp_path, key, "ES384")
    (tmp_path / "key.pem").write_text(json.dumps(key.as_dict(private=True)))
    with server.client(configured) as http:
        assert http.get("x").text == "Bearer t1"


# -- in an event loop -------------------------------------------------------------------------


def test_the_same_in_an_event_loop(server, oauth2):
    server.accepted = lambda said: said != "Bearer t1"

    async def go() -> list[str]:
        async with async_client(
            oauth2,
            BASE,
            transport=httpx.MockTransport(server),
            token_transport=httpx.MockTransport(server),
        ) as http:
            first = await http.get("x")
            second = await http.get("https://evil.example/x")
            return [first.text, second.text]

    assert asyncio.run(go()) == ["Bearer t2", ""]


# -- failures ---------------------------------------------------------------------------------


def test_failures_are_told_without_addresses():
    with client(HttpSettings(connect_timeout="2s"), "http://127.0.0.1:9") as http:
        with pytest.raises(httpx.HTTPError) as got:
            http.get("Patient?identifier=secret")
        told = what_failed(got.value)
    assert told == "no connection (Connection refused)"
