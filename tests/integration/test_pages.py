"""The console's pages: who is admitted in each mode, and what is shown of hostile resources."""

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from click.testing import CliRunner
from joserfc.jwk import RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flute_sync.console.cli import cli
from flute_sync.console.pages.users import hash_of, written
from flute_sync.daemon.checks import every_check
from flute_sync.daemon.http_server import HttpServer, Listener
from flute_sync.sandbox.server import Sandbox
from flute_sync.terminology import DCM, FLUTE_SUPPORTING_INFO, OID, URI
from tests.contract.ledger_site import STUDY, received
from tests.contract.ledger_site import Site as LedgerSite
from tests.contract.test_ledger_links_contract import FOREIGN, REFUSED, TAKEN, linked
from tests.openid import CLIENT, SECRET, Provider
from tests.pages import Pages, form_token, sign_in
from tests.services.process import free_port

MR = "1.2.840.10008.5.1.4.1.1.4"
PASSWORD = "correct horse"
HASHED = hash_of(PASSWORD)
EVIL = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"
Open = Callable[..., Pages]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerSite]:
    """A ledger that knows one study, with its links."""
    made = LedgerSite(f"sqlite:///{tmp_path_factory.mktemp('ledger') / 'ledger.db'}")
    made.open()
    made.deliver(received([1]))
    made.ledger.settle(made.claim(), linked(TAKEN, FOREIGN, REFUSED))
    yield made
    made.close()


@pytest.fixture
def pages(sandbox: Sandbox, ledger: LedgerSite) -> Iterator[Open]:
    opened: list[Pages] = []

    def open_them(archive: dict[str, Any] | None = None, **console: Any) -> Pages:
        behind = {"dicomweb_url": sandbox.dicomweb_url, **(archive or {})}
        settings = {"fhir": {"base_url": sandbox.fhir_url}, "archive": behind}
        opened.append(Pages(settings, ledger.ledger, **console))
        return opened[-1]

    yield open_them
    for one in opened:
        one.close()


@pytest.fixture
def users(tmp_path: Path) -> Path:
    file = tmp_path / "users"
    file.write_text(written({"anna": HASHED, "carla": HASHED}))
    return file


@pytest.fixture
def with_users(pages: Open, users: Path) -> Pages:
    return pages(auth={"mode": "users", "users_file": str(users)})


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    made = Provider()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def oidc(pages: Open, provider: Provider, tmp_path: Path) -> Iterator[Pages]:
    before = dict(vars(provider))
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    settings = {"issuer": provider.issuer, "client_id": CLIENT, "role": "viewer"}
    yield pages(auth={"mode": "oidc", "oidc": {**settings, "client_secret_file": str(secret)}})
    vars(provider).update(before)


def study(sandbox: Sandbox, uid: str, **elements: Any) -> str:
    """Create an ImagingStudy of a patient of its own, and return its id."""
    url = f"{sandbox.fhir_url}/Patient"
    patient = httpx.post(url, json={"resourceType": "Patient"}, timeout=60).json()
    resource = {
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"}],
        "status": "available",
        "subject": {"reference": f"Patient/{patient['id']}"},
        **elements,
    }
    answer = httpx.post(f"{sandbox.fhir_url}/ImagingStudy", json=resource, timeout=60)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def logged(caplog: pytest.LogCaptureFixture, event: str) -> list[dict[str, Any]]:
    return [vars(one)["fields"] for one in caplog.records if getattr(one, "event", "") == event]


# -- users -------------------------------------------------------------------------------------


def test_who_is_not_signed_in_is_led_to_the_sign_in_and_back(with_users: Pages) -> None:
    client = with_users.client()
    answer = client.get("/studies?modality=MR")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/sign-in?next=/studies%3Fmodality%3DMR"
    page = client.get(answer.headers["location"])
    following = unescape(re.findall(r'name="next" value="([^"]*)"', page.text)[0])
    answer = sign_in(client, "anna", PASSWORD, next=following)
    assert (answer.status_code, answer.headers["location"]) == (303, "/studies?modality=MR")
    page = client.get(answer.headers["location"])
    assert page.status_code == 200
    assert "<bdi>anna</bdi>" in page.text


@pytest.mark.parametrize(
    "target", ["//evil.example/studies", "https://evil.example", "/studies\\..\\evil", "/\r\nX: y"]
)
def test_nobody_is_led_elsewhere(with_users: Pages, target: str) -> None:
    answer = sign_in(with_users.client(), "anna", PASSWORD, next=target)
    assert answer.headers["location"] == "/studies"


@pytest.mark.parametrize(
    ("name", "password"),
    [("anna", "wrong one"), ("nobody", PASSWORD), ("anna", ""), ("", PASSWORD), ("a:b", "x" * 300)],
)
def test_a_wrong_name_and_a_wrong_password_look_the_same(
    with_users: Pages, name: str, password: str
) -> None:
    client = with_users.client()
    answer = sign_in(client, name, password)
    assert answer.status_code == 401
    assert "CONSOLE-SIGN-IN" in answer.text
    assert "<code>flute-sync console-user NAME</code>" in answer.text
    assert client.get("/studies").status_code == 303


def test_cookies_are_for_this_console_alone(with_users: Pages) -> None:
    client = with_users.client()
    answer = sign_in(client, "anna", PASSWORD)
    (cookie,) = [one for one in answer.headers.get_list("set-cookie") if "session" in one]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie  # plain HTTP on loopback: a browser would not show it again


def test_cookies_are_secure_where_browsers_come_by_https(pages: Open, users: Path) -> None:
    auth = {"mode": "users", "users_file": str(users)}
    opened = pages(auth=auth, public_url="https://flute.example")
    client = opened.client()
    page = client.get("/sign-in")
    (shown,) = page.headers.get_list("set-cookie")
    assert shown.startswith("__Host-flute_sync_form=")
    form = {"form_token": form_token(page.text), "name": "anna", "password": PASSWORD}
    cookie = {"Cookie": shown.partition(";")[0]}
    answer = client.post("/sign-in", data=form, headers=cookie)
    (kept,) = [one for one in answer.headers.get_list("set-cookie") if "session=" in one]
    assert kept.startswith("__Host-flute_sync_session=")
    assert {"Secure", "HttpOnly", "Path=/"} <= {part.strip() for part in kept.split(";")}


def test_a_form_from_elsewhere_is_refused(with_users: Pages) -> None:
    client, form = with_users.client(), {"name": "anna", "password": PASSWORD}
    assert client.post("/sign-in", data=form).status_code == 403
    token = form_token(with_users.client().get("/sign-in").text)  # another browser's
    client.get("/sign-in")
    refused = client.post("/sign-in", data={**form, "form_token": token})
    assert refused.status_code == 403
    assert "CONSOLE-FORM" in refused.text
    own = form_token(client.get("/sign-in").text)
    foreign = {"Sec-Fetch-Site": "cross-site"}
    sent = {**form, "form_token": own}
    assert client.post("/sign-in", data=sent, headers=foreign).status_code == 403
    assert client.post("/sign-in", json=sent).status_code == 403
    assert client.post("/sign-in", data={**sent, "more": "x" * 20_000}).status_code == 403
    assert client.post("/sign-in", data=sent).status_code == 303


def test_signing_out_ends_the_session_and_needs_a_form_of_ours(with_users: Pages) -> None:
    client = with_users.client()
    sign_in(client, "anna", PASSWORD)
    page = client.get("/studies")
    session = client.cookies["flute_sync_session"]
    assert client.post("/sign-out", data={"form_token": "0" * 64}).status_code == 403
    assert client.post("/studies", data={"uid": "1.2"}).status_code == 403
    assert client.get("/studies").status_code == 200
    answer = client.post("/sign-out", data={"form_token": form_token(page.text)})
    assert answer.status_code == 200
    again = with_users.client(cookies={"flute_sync_session": session})
    assert again.get("/studies").status_code == 303


def test_a_form_of_a_session_that_is_over_says_so(with_users: Pages) -> None:
    client = with_users.client()
    answer = client.post("/studies", data={"uid": "1.2"})
    assert (answer.status_code, "location" in answer.headers) == (401, False)
    assert '<a href="/sign-in">Sign in again</a>' in answer.text
    assert client.post("/sign-out", data={}).status_code == 200


@pytest.mark.parametrize(
    ("name", "typed", "code"),
    [
        ("carla", b"another horse\n", 0),
        ("carla", b"latin \xe9\xe8 horse\n", 2),
        ("carla", b"short\n", 2),
        ("c\u202ea", b"another horse\n", 2),
        (os.fsdecode(b"c\xff"), b"another horse\n", 2),
    ],
    ids=["right", "not UTF-8", "short", "turned around", "undecoded"],
)
def test_users_and_passwords_are_text(tmp_path: Path, name: str, typed: bytes, code: int) -> None:
    users = tmp_path / "users"
    done = CliRunner().invoke(cli, ["console-user", name, *settings_for(users)], input=typed)
    assert (done.exit_code, users.exists()) == (code, code == 0), done.output


def settings_for(users: Path) -> list[str]:
    """Write settings, and return the arguments that name them."""
    settings = users.with_name("site.toml")
    behind = f'[fhir]\nbase_url = "http://127.0.0.1:{free_port()}"\n'
    auth = f'auth = {{ mode = "users", users_file = "{users}" }}\n'
    settings.write_text(f"{behind}[console]\nport = 0\n{auth}")
    return ["--config", str(settings)]


@pytest.mark.parametrize(
    ("written_in", "mode", "verdict", "why"),
    [
        (f"anna:{HASHED}\n", 0o640, "ok", "1 may sign in."),
        (f"anna:{HASHED}\n", 0o644, "warning", "Everybody on this machine can reach it."),
        ("# nobody yet\n", 0o640, "warning", "Nobody is in it."),
        ("anna:not a hash\n", 0o640, "error", "CONSOLE-USERS"),
    ],
    ids=["right", "open", "empty", "wrong"],
)
def test_check_reads_the_users(
    tmp_path: Path, written_in: str, mode: int, verdict: str, why: str
) -> None:
    users = tmp_path / "users"
    users.write_text(written_in)
    users.chmod(mode)
    done = CliRunner().invoke(cli, ["check", "--json", *settings_for(users)], standalone_mode=False)
    checks = json.loads(done.stdout)["checks"]
    (found,) = [one for one in checks if one["check"] == "console.auth.users_file"]
    assert (found["verdict"], found["code"] or found["sentence"]) == (verdict, why)


def test_no_answer_leads_to_the_host_that_a_request_names(with_users: Pages) -> None:
    client = with_users.client()
    for path in ("/studies/", "/studies/1/", "/sign-in/", "/", "/studies"):
        location = client.get(path, headers={"Host": "evil.example"}).headers.get("location", "/")
        assert location.startswith("/")


def test_strangers_are_not_told_where_the_users_are(
    with_users: Pages, users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    anna, stranger = with_users.client(), with_users.client()
    sign_in(anna, "anna", PASSWORD)
    users.unlink()
    answers = [sign_in(stranger, "anna", PASSWORD), anna.get("/studies")]
    for answer in answers:
        assert (answer.status_code, "CONFIG-SECRET" in answer.text) == (503, True)
        assert str(users) not in answer.text
    assert [one["code"] for one in logged(caplog, "console.failed")] == ["CONFIG-SECRET"] * 2
    assert str(users) in caplog.text


def test_attempts_are_limited_by_name_and_the_right_password_does_not_help(
    with_users: Pages, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = with_users.client()
    statuses = [sign_in(client, "anna", f"wrong {n}").status_code for n in range(5)]
    assert statuses == [401] * 5
    answer = sign_in(client, "anna", PASSWORD)
    assert answer.status_code == 429
    assert 0 < int(answer.headers["retry-after"]) <= 900
    assert sign_in(client, "carla", PASSWORD).status_code == 303
    refused = logged(caplog, "console.refused")
    assert [one["code"] for one in refused] == ["CONSOLE-SIGN-IN"] * 5 + ["CONSOLE-LIMITED"]
    assert len({one["user"] for one in refused}) == 1
    assert not [one for one in caplog.records if "anna" in f"{one.getMessage()}{vars(one)}"]


def test_attempts_are_limited_by_address(pages: Open, users: Path) -> None:
    auth = {"mode": "users", "users_file": str(users), "attempts_per_address": 3}
    client = pages(auth=auth).client()
    statuses = [sign_in(client, f"nobody-{n}", "wrong one").status_code for n in range(5)]
    assert statuses == [401, 401, 401, 429, 429]
    assert sign_in(client, "anna", PASSWORD).status_code == 429


def test_a_changed_or_removed_password_ends_sessions(with_users: Pages, users: Path) -> None:
    anna, carla = with_users.client(), with_users.client()
    sign_in(anna, "anna", PASSWORD)
    sign_in(carla, "carla", PASSWORD)
    users.write_text(written({"carla": HASHED}))
    assert anna.get("/studies").status_code == 303
    assert carla.get("/studies").status_code == 200
    users.write_text(written({"carla": hash_of("another horse")}))
    assert carla.get("/studies").status_code == 303


def test_answers_may_not_be_kept_framed_or_run(with_users: Pages) -> None:
    client = with_users.client()
    for path in ("/sign-in", "/studies", "/nothing", "/assets/console.css", "/assets/nothing"):
        headers = client.get(path).headers
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_pictures_are_for_who_is_signed_in(with_users: Pages) -> None:
    assert with_users.client().get("/studies/1/pictures/1.2").status_code == 401


# -- this machine alone ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"X-Forwarded-For": "10.0.0.9"}, {"Forwarded": "for=10.0.0.9"}],
)
def test_without_a_mode_only_this_machine_is_admitted(pages: Open, headers: dict[str, str]) -> None:
    client = pages().client()
    assert client.get("/studies").status_code == 200
    refused = client.get("/studies", headers=headers)
    assert refused.status_code == 403
    assert "CONSOLE-PEER" in refused.text
    assert client.get("/sign-in").status_code == 404


# -- a proxy -----------------------------------------------------------------------------------

PROXY = {"user_header": "X-User", "role_header": "X-Roles", "role": "viewer"}
NAMED = {"X-User": "anna", "X-Roles": "other, viewer"}


def test_whom_the_proxy_names_is_admitted_with_the_role(pages: Open) -> None:
    client = pages(auth={"mode": "proxy", "proxy": {**PROXY, "peers": ["127.0.0.0/8"]}}).client()
    page = client.get("/studies", headers=NAMED)
    assert page.status_code == 200
    assert "<bdi>anna</bdi>" in page.text
    for wrong in ({"X-Roles": "other"}, {"X-Roles": "viewers"}, {"X-Roles": ""}):
        refused = client.get("/studies", headers={**NAMED, **wrong})
        assert (refused.status_code, "CONSOLE-ROLE" in refused.text) == (403, True)
    assert client.get("/studies", headers={"X-Roles": "viewer"}).status_code == 403
    accented = [(b"X-User", "Jörg".encode()), (b"X-Roles", b"viewer")]
    assert "<bdi>Jörg</bdi>" in client.get("/studies", headers=accented).text
    twice = [("X-User", "anna"), ("X-User", "root"), ("X-Roles", "viewer")]
    assert client.get("/studies", headers=twice).status_code == 403


def test_the_headers_of_a_stranger_are_refused(
    pages: Open, caplog: pytest.LogCaptureFixture
) -> None:
    client = pages(auth={"mode": "proxy", "proxy": {**PROXY, "peers": ["10.1.2.3"]}}).client()
    refused = client.get("/studies", headers={**NAMED, "X-Forwarded-For": "10.1.2.3"})
    assert (refused.status_code, "CONSOLE-PEER" in refused.text) == (403, True)
    assert [one["code"] for one in logged(caplog, "console.refused")] == ["CONSOLE-PEER"]


# -- an OpenID provider ------------------------------------------------------------------------


def test_a_person_signs_in_at_the_provider(
    oidc: Pages, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    client = oidc.client(follow_redirects=True)
    page = client.get("/studies?modality=MR")
    assert page.status_code == 200
    assert str(page.url).endswith("/studies?modality=MR")
    assert "<bdi>anna</bdi>" in page.text
    asked = provider.asked[-1]
    assert asked["redirect_uri"] == f"http://127.0.0.1:{oidc.port}/sign-in/callback"
    assert len({asked["state"], asked["nonce"], asked["code_challenge"]}) == 3
    assert len(logged(caplog, "console.signed_in")) == 1
    left = client.post("/sign-out", data={"form_token": form_token(page.text)})
    assert "The OpenID provider may still know you" in left.text
    client.follow_redirects = False
    assert client.get("/studies").status_code == 303


def breaks(**changes: Any) -> Callable[[Provider], None]:
    return lambda provider: provider.claims.update(changes)


def skewed(**seconds: int) -> Callable[[Provider], None]:
    """Times so many seconds from now."""
    return lambda provider: provider.claims.update(
        {name: int(time.time()) + offset for name, offset in seconds.items()}
    )


def other_key(provider: Provider) -> None:
    provider.key = RSAKey.generate_key(2048, {"kid": "one"}, private=True)


def by_algorithm(name: str) -> Callable[[Provider], None]:
    return lambda provider: setattr(provider, "algorithm", name)


@pytest.mark.parametrize(
    ("breaking", "code"),
    [
        (breaks(roles=["other"]), "CONSOLE-ROLE"),
        (breaks(roles=None), "CONSOLE-ROLE"),
        (breaks(nonce="another"), "OPENID-REFUSED"),
        (breaks(aud="another client"), "OPENID-REFUSED"),
        (breaks(aud=[CLIENT, "another"]), "OPENID-REFUSED"),
        (breaks(iss="https://evil.example"), "OPENID-REFUSED"),
        (breaks(exp=1), "OPENID-REFUSED"),
        (breaks(exp="soon"), "OPENID-REFUSED"),
        (breaks(sub=None), "OPENID-REFUSED"),
        (breaks(sub=""), "OPENID-REFUSED"),
        (skewed(exp=-600), "OPENID-REFUSED"),
        (skewed(iat=600, exp=900), "OPENID-REFUSED"),
        (skewed(nbf=600), "OPENID-REFUSED"),
        (other_key, "OPENID-REFUSED"),
        (by_algorithm("none"), "OPENID-REFUSED"),
        (by_algorithm("HS256"), "OPENID-REFUSED"),
    ],
)
def test_who_is_not_meant_to_be_admitted_is_not(
    oidc: Pages, provider: Provider, breaking: Callable[[Provider], None], code: str
) -> None:
    provider.claims = dict(provider.claims)
    breaking(provider)
    client = oidc.client(follow_redirects=True)
    refused = client.get("/studies")
    assert (refused.status_code, code in refused.text) == (403, True)
    client.follow_redirects = False
    assert client.get("/studies").status_code == 303


def test_clocks_may_differ_a_little(oidc: Pages, provider: Provider) -> None:
    provider.claims = dict(provider.claims)
    skewed(iat=30, exp=-30)(provider)
    assert oidc.client(follow_redirects=True).get("/studies").status_code == 200


def test_answers_of_a_provider_are_limited_and_logged(
    pages: Open, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"issuer": provider.issuer, "client_id": CLIENT, "role": "viewer"}
    client = pages(auth={"mode": "oidc", "oidc": settings, "attempts_per_address": 2}).client()
    answers = [client.get("/sign-in/callback?code=x&state=y") for _ in range(3)]
    assert [one.status_code for one in answers] == [403, 403, 429]
    assert 0 < int(answers[2].headers["retry-after"]) <= 900
    codes = [one["code"] for one in logged(caplog, "console.refused")]
    assert codes == ["OPENID-REFUSED", "OPENID-REFUSED", "CONSOLE-LIMITED"]


def test_an_answer_belongs_to_the_browser_that_asked(oidc: Pages) -> None:
    asking, other = oidc.client(), oidc.client()
    there = asking.get("/sign-in").headers["location"]
    back = httpx.get(there, timeout=60).headers["location"]
    assert other.get(back).status_code == 403
    other.get("/sign-in")
    assert other.get(back).status_code == 403  # with a way of its own
    assert asking.get(back.replace("state=", "state=x")).status_code == 403
    assert asking.get("/sign-in/callback").status_code == 403


def test_a_code_serves_once(oidc: Pages) -> None:
    client = oidc.client()
    there = client.get("/sign-in").headers["location"]
    back = httpx.get(there, timeout=60).headers["location"]
    way = dict(client.cookies)
    assert client.get(back).status_code == 303
    assert oidc.client(cookies=way).get(back).status_code == 403


def test_another_issuer_and_a_refusal_are_not_believed(oidc: Pages) -> None:
    client = oidc.client()
    state = parse_qs(urlsplit(client.get("/sign-in").headers["location"]).query)["state"][0]
    asked = {"state": state, "code": "x", "iss": "https://evil.example"}
    assert client.get("/sign-in/callback", params=asked).status_code == 403
    state = parse_qs(urlsplit(client.get("/sign-in").headers["location"]).query)["state"][0]
    refused = {"state": state, "error": "access_denied"}
    assert client.get("/sign-in/callback", params=refused).status_code == 403


def test_a_provider_that_is_down_is_said(
    oidc: Pages, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.down = True
    answer = oidc.client().get("/sign-in")
    assert (answer.status_code, "OPENID-UNAVAILABLE" in answer.text) == (503, True)
    assert [one["code"] for one in logged(caplog, "console.failed")] == ["OPENID-UNAVAILABLE"]


def test_a_provider_that_states_another_issuer_is_not_believed(
    oidc: Pages, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.issuer_said = "https://evil.example"
    answer = oidc.client().get("/sign-in")
    assert (answer.status_code, "OPENID-REFUSED" in answer.text) == (403, True)
    assert [one["code"] for one in logged(caplog, "console.refused")] == ["OPENID-REFUSED"]


# -- what is shown -----------------------------------------------------------------------------


def test_links_are_told_with_dates_rules_and_reasons(
    pages: Open, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    name = study(sandbox, STUDY, started="2024-03-01T09:15:00+01:00")
    page = pages().client().get(f"/studies/{name}")
    assert page.status_code == 200
    for said in (TAKEN.reference, TAKEN.rule, TAKEN.reason, FOREIGN.reference, REFUSED.reason):
        assert said in page.text
    drawn = page.text.partition("<svg")[2].partition("</svg>")[0]
    assert "Prostate Specific Antigen" in drawn
    assert f"2024-02-20 {TAKEN.rule}" in drawn
    assert "2024-03-01" in drawn
    assert REFUSED.reference not in drawn
    (looked,) = logged(caplog, "console.looked")
    assert looked["study_instance_uid"] == STUDY
    assert set(looked) == {"user", "study_instance_uid", "reference"}


def test_a_server_that_is_down_is_said_and_one_may_still_sign_out(
    ledger: LedgerSite, users: Path, caplog: pytest.LogCaptureFixture
) -> None:
    auth = {"mode": "users", "users_file": str(users)}
    url = f"http://127.0.0.1:{free_port()}/fhir"
    opened = Pages({"fhir": {"base_url": url}}, ledger.ledger, auth=auth)
    client = opened.client()
    sign_in(client, "anna", PASSWORD)
    answers = [client.get("/studies"), client.get("/studies/1")]
    opened.close()
    for answer in answers:
        assert (answer.status_code, "FHIR-UNAVAILABLE" in answer.text) == (503, True)
        assert "<bdi>anna</bdi>" in answer.text
        assert 'action="/sign-out"' in answer.text
    assert [one["code"] for one in logged(caplog, "console.failed")] == ["FHIR-UNAVAILABLE"] * 2


def test_a_picture_that_is_not_there_is_a_picture_that_says_so(
    pages: Open, sandbox: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    series = {"uid": "1.2.3", "modality": {"system": DCM, "code": "MR"}}
    instance = {"uid": "1.2.3.4", "sopClass": {"system": URI, "code": f"{OID}{MR}"}}
    name = study(sandbox, "1.2.826.78", series=[{**series, "instance": [instance]}])
    there = pages().client().get(f"/studies/{name}/pictures/1.2.3.4")
    gone = {"dicomweb_url": f"http://127.0.0.1:{free_port()}/dicom-web"}
    down = pages(gone).client().get(f"/studies/{name}/pictures/1.2.3.4")
    for answer, status, said in ((there, 404, "No picture"), (down, 503, "The archive does not<")):
        assert (answer.status_code, said in answer.text) == (status, True)
        assert answer.headers["content-type"] == "image/svg+xml"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert [one["code"] for one in logged(caplog, "console.failed")] == ["ARCHIVE-UNAVAILABLE"]


def test_a_study_of_very_many_series_and_no_link(
    ledger: LedgerSite, lying_fhir: Callable[[Any], str]
) -> None:
    series = [
        {"uid": f"1.2.3.{n}", "modality": {"code": "MR"}, "numberOfInstances": n}
        for n in range(1, 231)
    ]
    resource = {
        "resourceType": "ImagingStudy",
        "id": "x",
        "status": "available",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.826.79"}],
        "started": "2024-03-01T09:15:00+01:00",
        "series": series,
    }
    opened = Pages({"fhir": {"base_url": lying_fhir(resource)}}, ledger.ledger)
    page = opened.client().get("/studies/x").text
    listed = opened.client().get("/studies?modality=mr").text
    opened.close()
    assert "30 further series are not shown" in page
    assert page.count("data-copy=") == 201
    assert "<p>1 image</p>" in page
    assert "<p>2 images</p>" in page
    assert "The ImagingStudy names no link." in page
    assert "<svg" not in page
    assert "2024-03-01 09:15 +01:00" in page
    assert ">2024-03-01 09:15 +01:00</a>" in listed
    labels = re.findall(r'aria-labelledby="([^"]+)"[^>]* data-copy=', page)
    assert len(set(labels)) == 201
    assert all(f'id="{one}"' in page for label in labels for one in label.split())


def test_what_others_wrote_cannot_become_markup_or_an_address(
    ledger: LedgerSite, lying_fhir: Callable[[Any], str]
) -> None:
    link = {"reference": "Observation/99", "display": EVIL}
    series = {
        "uid": "1.2.3",
        "modality": {"code": "MR"},
        "description": EVIL,
        "bodySite": {"display": EVIL},
        "instance": [{"uid": "1.2.3/../../x"}],
    }
    resource = {
        "resourceType": "ImagingStudy",
        "id": "x",
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.826.77"}],
        "subject": {"reference": f"javascript:alert(1){EVIL}"},
        "status": EVIL,
        "modality": [{"code": EVIL}],
        "started": EVIL,
        "description": EVIL,
        "series": [series],
        "extension": [{"url": FLUTE_SUPPORTING_INFO, "valueReference": link}],
    }
    viewer = {"name": EVIL[:40], "url": "https://v.example/?s={study_uid}"}
    url = lying_fhir(resource)
    opened = Pages({"fhir": {"base_url": url}}, ledger.ledger, viewers=[viewer])
    client = opened.client()
    pages = [client.get("/studies"), client.get("/studies/x")]
    opened.close()
    for page in pages:
        assert page.status_code == 200
        assert "alert(1)" in page.text
        assert "<script>" not in page.text
        assert "<img src=x" not in page.text
        assert not re.search(r"""(href|src|action)=["']?\s*javascript:""", page.text)
        assert set(re.findall(r"<script[^>]*>", page.text)) == {
            '<script src="/assets/copy.js" defer>'
        }
        assert not re.search(r"<[^>]+\son\w+=", page.text)
    assert "/pictures/" not in pages[1].text


@pytest.mark.parametrize(
    "elements",
    [
        {"series": [{"uid": {"a": 1}, "modality": "MR", "number": -1, "instance": {"uid": 7}}]},
        {"series": "none", "modality": "MR", "started": 7, "description": ["x"]},
        {"identifier": [{"value": "not a uid"}], "subject": {"identifier": {"value": EVIL}}},
        {"series": [{"uid": f"1.2.{n}", "modality": {"code": "SR"}} for n in range(5000)]},
        {"description": "x" * 200_000, "started": "0001-01-01"},
    ],
)
def test_nonsense_of_a_server_is_shown_as_far_as_it_makes_sense(
    elements: dict[str, Any],
    ledger: LedgerSite,
    lying_fhir: Callable[[Any], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    resource = {"resourceType": "ImagingStudy", "id": "x", "status": "available", **elements}
    url = lying_fhir(resource)
    opened = Pages({"fhir": {"base_url": url}}, ledger.ledger)
    try:
        page = opened.client().get("/studies/x")
        assert page.status_code == 200, page.text
        assert len(page.text) < 400_000
        assert "ImagingStudy/x" in page.text
        assert [one["reference"] for one in logged(caplog, "console.looked")] == ["ImagingStudy/x"]
    finally:
        opened.close()


@pytest.fixture
def lying_fhir() -> Iterator[Callable[[Any], str]]:
    running: list[HttpServer] = []

    def serve(resource: Any) -> str:
        async def answer(request: Request) -> Response:
            if not request.url.path.endswith("_search"):
                return JSONResponse(resource)
            entry = [{"resource": resource}]
            return JSONResponse({"resourceType": "Bundle", "type": "searchset", "entry": entry})

        app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
        running.append(HttpServer([Listener("fhir", app, "127.0.0.1", 0)]))
        running[-1].start()
        return f"http://127.0.0.1:{running[-1].port('fhir')}"

    yield serve
    for server in running:
        server.stop(timedelta(seconds=1))


def test_check_asks_the_provider(oidc: Pages, provider: Provider) -> None:
    def verdict() -> tuple[str, str | None]:
        (found,) = [one for one in every_check(oidc.config) if one.check == "console.auth.oidc"]
        return found.level, found.code

    assert verdict() == ("ok", None)
    provider.down = True
    assert verdict() == ("error", "OPENID-UNAVAILABLE")
