"""What requests say, what access asks, what listeners' settings allow."""

import base64
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flute_sync.settings_errors import SecretUnreadable
from flute_sync.sources.dicomweb_gateway import Rewriter
from flute_sync.sources.http_access import Access
from flute_sync.sources.http_messages import Request, status_report
from flute_sync.sources.stow_settings import StowRsSettings
from flute_sync.transport.credentials import BasicAuth, BearerAuth, NoAuth
from flute_sync.upload_errors import MultipartError, TooManyUploads


def request(query: str = "", **headers: str) -> Request:
    fields = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    return Request(
        {
            "type": "http",
            "method": "GET",
            "path": "/",
            "raw_path": b"/",
            "query_string": query.encode(),
            "headers": fields,
            "scheme": "https",
            "server": ("10.0.0.1", 8104),
        }
    )


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", "application/dicom+json"),
        ("*/*", "application/dicom+json"),
        ("application/dicom+json", "application/dicom+json"),
        ("application/json", "application/json"),
        ("application/dicom+xml", "application/dicom+xml"),
        ("Application/DICOM+XML", "application/dicom+xml"),
        ("text/xml", "application/xml"),
        ('multipart/related; type="application/dicom+xml"', "application/dicom+xml"),
        ("application/dicom+xml; q=0.5, application/dicom+json; q=0.9", "application/dicom+json"),
        ("application/dicom+json;q=0.1,application/dicom+xml", "application/dicom+xml"),
        ("application/dicom+xml;q=0, */*", "application/dicom+json"),
        ("text/html", "application/dicom+json"),
    ],
)
def test_the_form_of_the_answer(accept: str, chosen: str) -> None:
    assert request(accept=accept).representation() == chosen


def test_the_accept_parameter_goes_before_the_header() -> None:
    asked = request("x=y&accept=application/dicom%2Bxml", accept="application/dicom+json")
    assert asked.representation() == "application/dicom+xml"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("gate.example:8443", "https://gate.example:8443"),
        ("[::1]:80", "https://[::1]:80"),
        ("gate/evil", "https://10.0.0.1:8104"),
        ("a b", "https://10.0.0.1:8104"),
        ('x"><script>', "https://10.0.0.1:8104"),
        ("", "https://10.0.0.1:8104"),
        ("10.0.0.1", "https://10.0.0.1:8104"),
        ("10.0.0.2", "https://10.0.0.2"),
        ("localhost", "https://localhost:8104"),
    ],
)
def test_the_origin_is_what_the_client_used_if_that_is_an_address(host: str, origin: str) -> None:
    assert request(host=host).origin == origin


def test_a_status_report_says_what_to_do() -> None:
    reply = status_report(MultipartError('a "b" \n ü'), request())
    assert reply.status == 400
    assert b"STOW-MULTIPART" in reply.body
    assert MultipartError.hint.encode() in reply.body
    warning = dict(reply.headers)[b"warning"]
    assert warning.startswith(b'299 flute-sync "STOW-MULTIPART: ')
    assert warning.endswith(b'a ?b? ? ?"')


def test_a_busy_service_says_when_to_come_back() -> None:
    reply = status_report(TooManyUploads(), request(accept="application/dicom+json"))
    assert (reply.status, reply.content_type) == (503, "application/json")
    assert int(dict(reply.headers)[b"retry-after"]) > 0


def basic(pair: str) -> bytes:
    return b"Basic " + base64.b64encode(pair.encode())


@pytest.fixture
def secret(tmp_path: Path) -> str:
    file = tmp_path / "secret"
    file.write_text("s3cret\n")
    return str(file)


def test_a_password_is_asked_for(secret: str) -> None:
    access = Access(BasicAuth(method="basic", user="ct", password_file=secret))
    assert access.admits(basic("ct:s3cret"))
    assert access.admits(basic("ct:s3cret").replace(b"Basic", b"bAsIc"))
    refused = [None, b"", b"Basic", b"Basic x", b"Bearer s3cret", basic("ct:"), basic("ct")]
    refused += [basic("ct:s3cre"), basic("CT:s3cret"), basic(":s3cret"), basic("ct:s3cret ")]
    assert [one for one in refused if access.admits(one)] == []
    assert access.challenge.startswith(b"Basic ")


def test_a_token_is_asked_for(secret: str) -> None:
    access = Access(BearerAuth(method="bearer", token_file=secret))
    assert access.admits(b"Bearer s3cret")
    refused = [None, b"", b"Bearer", b"Bearer x", b"s3cret", basic("ct:s3cret"), b"Basic s3cret"]
    assert [one for one in refused if access.admits(one)] == []


def test_nobody_is_let_in_when_the_secret_is_gone(secret: str) -> None:
    access = Access(BearerAuth(method="bearer", token_file=secret))
    Path(secret).unlink()
    with pytest.raises(SecretUnreadable):
        access.admits(b"Bearer s3cret")


def test_without_authentication_all_are_let_in() -> None:
    assert Access(NoAuth()).admits(None)


TLS = {"cert_file": "/c"}
AUTH = {"method": "bearer", "token_file": "/t"}


@pytest.mark.parametrize(
    "settings",
    [
        {"host": "0.0.0.0"},
        {"host": "10.1.2.3", "tls": TLS},
        {"host": "::", "auth": AUTH},
        {"host": "pacs.example"},
        {"path": "no-slash"},
        {"path": "/a b"},
        {"path": "/.."},
        {"mode": "both"},
        {"max_uploads": 0},
        {"auth": {"method": "oauth2"}},
    ],
)
def test_settings_that_would_harm_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        StowRsSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "passes_reads"),
    [
        ({}, True),
        ({"host": "::1"}, True),
        ({"host": "127.0.0.7"}, True),
        ({"host": "localhost"}, True),
        ({"host": "0.0.0.0", "tls": TLS, "auth": AUTH}, True),
        ({"host": "0.0.0.0", "insecure": True}, False),
        ({"host": "0.0.0.0", "insecure": True, "tls": TLS}, False),
        ({"host": "0.0.0.0", "insecure": True, "auth": AUTH}, True),
        ({"mode": "index"}, False),
    ],
)
def test_reads_are_never_passed_through_for_strangers(
    settings: dict[str, Any], passes_reads: bool
) -> None:
    assert StowRsSettings.model_validate(settings).passes_reads is passes_reads


def test_a_path_ends_without_a_slash() -> None:
    assert StowRsSettings(path="/dicom-web/").path == "/dicom-web"
    assert StowRsSettings(path="/").path == ""


@given(
    st.lists(st.sampled_from(["http://pacs/web/", "http:\\/\\/pacs\\/web\\/", "http://pac", "x/"])),
    st.lists(st.integers(0, 200)),
)
def test_addresses_are_replaced_wherever_the_answer_is_cut(
    words: list[str], cuts: list[int]
) -> None:
    text = "".join(words).encode()
    rewriter = Rewriter(["http://pacs/web"], "https://gate")
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [rewriter.feed(text[a:b]) for a, b in pairwise(places)]
    plain = text.replace(b"http://pacs/web/", b"https://gate/")
    expected = plain.replace(b"http:\\/\\/pacs\\/web\\/", b"https:\\/\\/gate\\/")
    assert b"".join(pieces) + rewriter.close() == expected
