"""Who may see the console's pages: which settings are refused, and what follows from the rest."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from flute_sync.console.pages.contents import viewer_links
from flute_sync.daemon.console_settings import ConsoleSettings, ProxySettings, Viewer
from flute_sync.transport.credentials import BasicAuth, BearerAuth, NoAuth
from flute_sync.transport.openid_settings import OpenIdSettings

OIDC = {"issuer": "https://sso.example", "client_id": "flute", "role": "viewer"}
PROXY = {"peers": ["10.0.0.1"], "role": "viewer"}
USERS = {"mode": "users", "users_file": "/etc/users"}
TLS = {"cert_file": "/etc/cert.pem"}
TOKEN = {"method": "bearer", "token_file": "/etc/token"}


def settings(**given: Any) -> ConsoleSettings:
    return ConsoleSettings.model_validate(given)


@pytest.mark.parametrize(
    "given",
    [
        {"host": "0.0.0.0"},
        {"host": "0.0.0.0", "insecure": True},
        {"host": "10.1.1.1", "tls": TLS},
        {"host": "::", "insecure": True, "auth": {"mode": "none"}},
        {"host": "0.0.0.0", "tls": TLS, "auth": {"mode": "none", **TOKEN}},
    ],
)
def test_none_is_for_loopback_alone(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="none, which is for loopback alone"):
        settings(**given)
    assert settings(**given, enabled=False).host == given["host"]


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"auth": {"mode": "users"}}, "users_file"),
        ({"auth": {"mode": "oidc"}}, "oidc"),
        ({"auth": {"mode": "proxy"}}, "proxy"),
        ({"auth": {"mode": "anybody"}}, "mode"),
        ({"auth": {"mode": "users", "users_file": "users"}}, "users_file"),
        ({"auth": {"method": "bearer"}}, "token_file"),
        ({"auth": {"method": "basic", "user": "a"}}, "password_file"),
        ({"auth": {"method": "basic", "user": "a:b", "password_file": "/p"}}, "user"),
        ({"host": "0.0.0.0", "auth": USERS}, "needs tls"),
        ({"port": 0, "auth": {"mode": "oidc", "oidc": OIDC}}, "public_url"),
        ({"auth": {"mode": "oidc", "oidc": {**OIDC, "issuer": "http://sso.example"}}}, "https"),
        ({"auth": {"mode": "proxy", "proxy": {**PROXY, "peers": []}}}, "peers"),
        ({"auth": {"mode": "proxy", "proxy": {**PROXY, "peers": ["proxy"]}}}, "peers"),
        ({"auth": {"mode": "proxy", "proxy": {**PROXY, "peers": ["0.0.0.0/0"]}}}, "peers"),
        ({"auth": {"mode": "proxy", "proxy": {**PROXY, "peers": ["::/0"]}}}, "peers"),
        ({"auth": {"mode": "proxy", "proxy": {**PROXY, "user_header": "a b"}}}, "user_header"),
        ({"public_url": "https://flute.example/console"}, "public_url"),
    ],
)
def test_what_cannot_protect_is_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        settings(**given)


@pytest.mark.parametrize(
    ("given", "shows"),
    [
        ({}, True),
        ({"auth": {"mode": "none", **TOKEN}}, True),
        ({"auth": TOKEN}, False),
        ({"host": "0.0.0.0", "tls": TLS, "auth": TOKEN}, False),
        ({"host": "0.0.0.0", "tls": TLS, "auth": USERS}, True),
    ],
)
def test_where_there_are_pages(given: dict[str, Any], shows: bool) -> None:
    assert settings(**given).shows_pages is shows


def test_what_monitors_show_is_written_as_before() -> None:
    assert settings().auth.machines == NoAuth()
    bearer = BearerAuth(method="bearer", token_file="/etc/token")
    assert settings(auth=TOKEN).auth.machines == bearer
    basic = {"method": "basic", "user": "monitor", "password_file": "/etc/password"}
    assert settings(auth=basic).auth.machines == BasicAuth.model_validate(basic)


@pytest.mark.parametrize(
    ("given", "address", "secure"),
    [
        ({}, "http://127.0.0.1:8105", False),
        ({"host": "::1"}, "http://[::1]:8105", False),
        ({"tls": TLS, "port": 1}, "https://127.0.0.1:1", True),
        ({"public_url": "https://flute.example/"}, "https://flute.example", True),
    ],
)
def test_how_browsers_reach_it(given: dict[str, Any], address: str, secure: bool) -> None:
    made = settings(**given)
    assert (made.address, made.is_secure) == (address, secure)


@pytest.mark.parametrize(
    ("peer", "believed"),
    [
        ("10.0.0.1", True),
        ("10.0.0.2", False),
        ("::ffff:10.0.0.1", True),
        ("fd00::7", True),
        ("fd01::7", False),
        ("", False),
        ("testclient", False),
    ],
)
def test_which_peers_are_the_proxy(peer: str, believed: bool) -> None:
    proxy = ProxySettings(peers=("10.0.0.1", "fd00::/16"), role="viewer")
    assert proxy.believes(peer) is believed


@pytest.mark.parametrize(
    ("claims", "admitted"),
    [
        ({"realm": {"roles": ["viewer"]}}, True),
        ({"realm": {"roles": "viewer"}}, True),
        ({"realm": {"roles": ["viewers"]}}, False),
        ({"realm": {"roles": "viewer other"}}, False),
        ({"realm": {"roles": {"viewer": True}}}, False),
        ({"realm": ["roles"]}, False),
        ({"realm.roles": ["viewer"]}, False),
        ({}, False),
    ],
)
def test_which_claims_admit(claims: dict[str, Any], admitted: bool) -> None:
    made = OpenIdSettings.model_validate({**OIDC, "role_claim": "realm.roles"})
    assert made.admits(claims) is admitted


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert('{study_uid}')",
        "data:text/html,{study_uid}",
        "//v.example/{study_uid}",
        "https://v.example/",
        "https://v.example/{study_uid}/{patient}",
        "https://{study_uid}.example/",
        "https://v.example/{study_uid}{",
        "https://v.example/{study_uid} x",
        "https://v.example/{study_uid}\n",
    ],
)
def test_a_viewer_that_leads_astray_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Viewer(name="V", url=url)


def test_viewers_are_given_what_they_need_or_left_out() -> None:
    viewers = (
        Viewer(name="OHIF", url="https://v.example/viewer?StudyInstanceUIDs={study_uid}"),
        Viewer(name="Weasis", url="weasis://x%22{dicomweb_url}%22{study_uid}"),
    )
    ohif, weasis = viewer_links(viewers, "1.2.3", "https://pacs.example/a?b&c")
    assert ohif["url"] == "https://v.example/viewer?StudyInstanceUIDs=1.2.3"
    assert weasis["url"] == "weasis://x%22https%3A%2F%2Fpacs.example%2Fa%3Fb%26c%221.2.3"
    assert [one["name"] for one in viewer_links(viewers, "1.2.3", None)] == ["OHIF"]


def colours(css: str, theme: int) -> dict[str, str]:
    block = css.split(":root {")[1 + theme].partition("}")[0]
    pairs = (one.split(":") for one in block.split(";") if one.strip().startswith("--"))
    return {name.strip(): value.strip() for name, value in pairs}


def luminance(colour: str) -> float:
    parts = (int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5))
    red, green, blue = (
        one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("theme", [0, 1])
@pytest.mark.parametrize("ink", ["--ink", "--soft", "--accent", "--warn"])
@pytest.mark.parametrize("paper", ["--paper", "--shade"])
def test_text_can_be_read(theme: int, ink: str, paper: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least."""
    root = Path(__file__).parents[2]
    css = (root / "flute_sync/console/pages/assets/console.css").read_text(encoding="utf-8")
    known = colours(css, theme)
    low, high = sorted((luminance(known[ink]), luminance(known[paper])))
    assert (high + 0.05) / (low + 0.05) >= 4.5
