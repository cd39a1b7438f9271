"""QIDO-RS and WADO-RS through the gateway, to an archive that does what the test wants."""

import base64
import gzip
from pathlib import Path

import httpx
import pytest

from flute_sync.sources.archive_settings import ArchiveSettings
from tests.services.process import free_port
from tests.stow import Answer, FakeIntake, ScriptedArchive, dicom, post, serving, talk

JSON = "application/dicom+json"


def answers(body: bytes, kind: str = JSON, **more: object) -> ScriptedArchive:
    return ScriptedArchive(lambda _: Answer(body, content_type=kind, **more))  # type: ignore[arg-type]


def raw_get(url: str, path: str, *headers: str) -> bytes:
    with talk(url) as client:
        lines = [f"GET {httpx.URL(url).path}{path} HTTP/1.1", "Host: gate:81", *headers]
        client.sendall("\r\n".join([*lines, "Connection: close", "", ""]).encode())
        answer = b""
        while got := client.recv(65536):
            answer += got
    return answer


def test_the_query_reaches_the_archive_as_it_came() -> None:
    path = "/studies?PatientName=A*^B,C-D&00080020=20240101-20240102&x=%41%5e%2C|;'"
    with answers(b"[]") as archive, serving(FakeIntake(), archive.settings) as url:
        assert raw_get(url, path).startswith(b"HTTP/1.1 200 ")
    assert archive.requests[0].startswith(f"GET /pacs{path} HTTP/1.1\r\n".encode())


def test_only_what_concerns_the_answer_is_passed_on_of_a_request() -> None:
    sent = ["Accept: a/b", "Accept-Language: it", "Range: bytes=0-1", "If-None-Match: x"]
    kept_back = ["Authorization: Basic x", "Cookie: c=d", "X-Forwarded-For: e", "Origin: f"]
    with answers(b"[]") as archive, serving(FakeIntake(), archive.settings) as url:
        raw_get(url, "/studies", *sent, *kept_back)
    (request,) = archive.requests
    lines = {line.lower() for line in request.decode().split("\r\n")}
    assert {line.lower() for line in sent} <= lines
    names = {line.partition(":")[0] for line in lines}
    assert not names & {"authorization", "cookie", "x-forwarded-for", "origin"}


def test_only_what_concerns_the_answer_is_passed_back() -> None:
    headers = "ETag: x\r\nServer: PACS\r\nSet-Cookie: a=b\r\nLast-Modified: y\r\n"
    with (
        answers(b"\0\1", "application/octet-stream", headers=headers) as archive,
        serving(FakeIntake(), archive.settings) as url,
    ):
        answer = httpx.get(f"{url}/studies/1/bulkdata", timeout=60)
    assert answer.content == b"\0\1"
    assert answer.headers["etag"] == "x"
    assert answer.headers["content-length"] == "2"
    assert not {"server", "set-cookie"} & answer.headers.keys()


@pytest.mark.parametrize("kind", [JSON, "application/json; charset=utf-8", "application/dicom+xml"])
def test_addresses_in_text_lead_back(kind: str) -> None:
    with ScriptedArchive(
        lambda _: Answer(
            f"[x{archive.settings.dicomweb_url}/studies/1 https://pub.invalid/p/studies/2]".encode()
            * 20_000,
            content_type=kind,
            headers=f"Content-Location: {archive.settings.dicomweb_url}/studies/1\r\n",
        )
    ) as archive:
        settings = archive.settings.model_copy(update={"public_url": "https://pub.invalid/p"})
        with serving(FakeIntake(), settings) as url:
            answer = httpx.get(f"{url}/studies", timeout=60)
    assert answer.text == f"[x{url}/studies/1 {url}/studies/2]" * 20_000
    assert answer.headers["content-location"] == f"{url}/studies/1"
    assert answer.headers["transfer-encoding"] == "chunked"


def test_compressed_text_is_rewritten_too() -> None:
    with (
        ScriptedArchive(
            lambda _: Answer(
                gzip.compress(f"{archive.settings.dicomweb_url}/studies/1".encode()),
                headers="Content-Encoding: gzip\r\n",
            )
        ) as archive,
        serving(FakeIntake(), archive.settings) as url,
    ):
        answer = httpx.get(f"{url}/studies", headers={"Accept-Encoding": "gzip"}, timeout=60)
    assert "content-encoding" not in answer.headers
    assert answer.text == f"{url}/studies/1"


def test_pixels_are_never_looked_at() -> None:
    with ScriptedArchive(
        lambda _: Answer(
            f"{archive.settings.dicomweb_url}/studies/1".encode(),
            content_type='multipart/related; type="application/dicom"; boundary=b',
        )
    ) as archive:
        with serving(FakeIntake(), archive.settings) as url:
            answer = httpx.get(f"{url}/studies/1", timeout=60)
        assert answer.text == f"{archive.settings.dicomweb_url}/studies/1"


def test_head_has_no_body() -> None:
    with answers(b"123", "text/plain") as archive, serving(FakeIntake(), archive.settings) as url:
        answer = httpx.head(f"{url}/studies")
    assert (answer.status_code, answer.content) == (200, b"")
    assert archive.requests[0].startswith(b"HEAD ")


@pytest.mark.parametrize("status", [204, 206, 304, 400, 404, 406, 416, 500, 503])
def test_the_archive_s_status_is_passed_back(status: int) -> None:
    with answers(b"", status=status) as archive, serving(FakeIntake(), archive.settings) as url:
        assert httpx.get(f"{url}/studies", timeout=60).status_code == status


@pytest.mark.parametrize("status", [301, 302, 307, 401, 403, 407])
def test_troubles_between_the_archive_and_us_are_ours(status: int) -> None:
    more = "Location: http://elsewhere.invalid/\r\n"
    with (
        answers(b"", status=status, headers=more) as archive,
        serving(FakeIntake(), archive.settings) as url,
    ):
        answer = httpx.get(f"{url}/studies", timeout=60)
    assert answer.status_code == 503
    assert "location" not in answer.headers


def test_an_archive_that_is_down_is_said() -> None:
    archive = ArchiveSettings(dicomweb_url=f"http://127.0.0.1:{free_port()}/pacs")
    with serving(FakeIntake(), archive) as url:
        answer = httpx.get(f"{url}/studies", timeout=60)
    assert answer.status_code == 503
    assert "ARCHIVE-UNAVAILABLE" in answer.text


def test_an_answer_that_breaks_off_is_not_made_to_look_whole() -> None:
    with (
        answers(b"x", headers="Content-Length: 1000\r\nX-") as archive,
        serving(FakeIntake(), archive.settings) as url,
    ):
        archive.hang_up_after_answer = True
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(f"{url}/studies", timeout=60)


@pytest.mark.parametrize(
    "path",
    [
        "/studies/../../system",
        "/studies/%2e%2e/%2e%2e/system",
        "/studies/..%2f..%2fsystem",
        "/studies/%5c..",
        "/../system",
        "/servers",
        "/app/explorer.html",
        "//studies",
        "/studies//series",
        "/studies/a%00b",
        "/studies/<script>",
        "/",
    ],
)
def test_nothing_but_dicomweb_resources_can_be_reached(path: str) -> None:
    with answers(b"[]") as archive, serving(FakeIntake(), archive.settings) as url:
        answer = raw_get(url, path)
    assert answer.split()[1] in (b"400", b"404")
    assert archive.requests == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(method: str) -> None:
    with answers(b"[]") as archive, serving(FakeIntake(), archive.settings) as url:
        answer = httpx.request(method, f"{url}/studies/1", timeout=60)
    assert answer.status_code == 405
    assert answer.headers["allow"] == "POST, GET, HEAD"
    assert archive.requests == []


def test_strangers_are_kept_out(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret")
    auth = {"method": "basic", "user": "ct", "password_file": str(secret)}
    with answers(b"[]") as archive, serving(FakeIntake(), archive.settings, auth=auth) as url:
        refused = httpx.get(f"{url}/studies", timeout=60)
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic ")
        assert post(url, [dicom()]).status_code == 401
        wrong = base64.b64encode(b"ct:wrong").decode()
        assert post(url, [dicom()], Authorization=f"Basic {wrong}").status_code == 401
        assert archive.requests == []
        assert httpx.get(f"{url}/studies", auth=("ct", "s3cret"), timeout=60).status_code == 200
    assert b"s3cret" not in archive.requests[0]
    assert b"authorization" not in archive.requests[0].lower()


def test_without_authentication_nothing_can_be_read_beyond_this_machine() -> None:
    with (
        answers(b"[]") as archive,
        serving(FakeIntake(), archive.settings, host="0.0.0.0", insecure=True) as url,
    ):
        assert httpx.get(f"{url}/studies", timeout=60).status_code == 403
    assert archive.requests == []
