"""Notices pushed over HTTP: who is heard, what is answered, and when they are safe."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from pydantic import ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from flute_sync.daemon.http_server import HttpServer, Listener
from flute_sync.intake import Notice
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.hook import mounted
from flute_sync.sources.webhook import Webhook
from flute_sync.sources.webhook_settings import WebhookSettings
from tests.stow import FakeIntake, talk

TOKEN = "correct-horse-battery-staple"
UID = "1.2.3.4"
OURS = orjson.dumps({"study_instance_uid": UID})


class Hook:
    """A running webhook and what was delivered."""

    def __init__(self, url: str, intake: FakeIntake, token: Path) -> None:
        self.url = url
        self.intake = intake
        self.token = token

    def post(self, body: Any = OURS, token: str | None = TOKEN, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        given = {"content-type": "application/json"}
        given |= {"authorization": f"Bearer {token}"} if token is not None else {}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(self.url, content=content, headers=given, timeout=60)

    @property
    def noticed(self) -> list[tuple[str, str, Notice]]:
        return [
            (delivery.archive, str(noticed.study_instance_uid), noticed.notice)
            for delivery in self.intake.deliveries
            for noticed in delivery.noticed
        ]


@contextlib.contextmanager
def hooked(
    folder: Path,
    archives: Sequence[str] = ("pacs",),
    rest: ASGIApp | None = None,
    **settings: Any,
) -> Iterator[Hook]:
    token = folder / "token"
    token.write_text(f"{TOKEN}\n")
    intake = FakeIntake()
    chosen = WebhookSettings(enabled=True, token_file=str(token), **settings)
    app = mounted(chosen.path, Webhook(chosen, intake, archives), rest)
    server = HttpServer([Listener("stow_rs", app, "127.0.0.1", 0)])
    server.start()
    try:
        yield Hook(f"http://127.0.0.1:{server.port('stow_rs')}{chosen.path}", intake, token)
    finally:
        server.stop(chosen.body_timeout)


@pytest.fixture
def hook(tmp_path: Path) -> Iterator[Hook]:
    with hooked(tmp_path) as running:
        yield running


def test_a_notice_is_recorded_before_it_is_answered(hook: Hook) -> None:
    answer = hook.post()
    assert (answer.status_code, answer.headers["content-type"]) == (202, "application/json")
    assert answer.json() == {"studies": 1, "ignored": 0, "refused": 0}
    assert hook.noticed == [("pacs", UID, Notice.CHANGED)]
    (delivery,) = hook.intake.deliveries
    assert delivery.source == "webhook"
    assert delivery.noticed[0].fingerprint is None  # it is always news


def test_a_batch_is_taken_although_some_of_it_is_useless(hook: Hook) -> None:
    batch = [{"study_instance_uid": "1.2.1", "notice": "gone"}, 7, {"study_instance_uid": "x"}]
    batch += [{"study_instance_uid": UID}, {"specversion": "1.0", "type": "a.b"}]
    batch += [{"study_instance_uid": UID, "archive": "elsewhere"}]
    assert hook.post(batch).json() == {"studies": 2, "ignored": 1, "refused": 3}
    assert hook.noticed == [("pacs", "1.2.1", Notice.GONE), ("pacs", UID, Notice.CHANGED)]


def test_a_notice_is_about_the_archive_it_names_or_about_all(tmp_path: Path) -> None:
    with hooked(tmp_path, ["pacs", "vna"]) as hook:
        assert hook.post({"study_instance_uid": UID, "archive": "vna"}).status_code == 202
        assert [archive for archive, _, _ in hook.noticed] == ["vna"]
        assert hook.post().json()["studies"] == 1
        assert [archive for archive, _, _ in hook.noticed] == ["vna", "pacs", "vna"]
        refused = hook.post({"study_instance_uid": UID, "archive": "nowhere"})
    assert (refused.status_code, refused.json()["code"]) == (422, "NOTICE-ARCHIVE")
    assert "nowhere" not in refused.text


@pytest.mark.parametrize("token", [None, "wrong", TOKEN[:-1], f"{TOKEN}x", f" {TOKEN} {TOKEN}"])
def test_without_the_token_nobody_is_heard(
    hook: Hook, token: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    refused = hook.post(token=token)
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"] == 'Bearer realm="flute-sync"'
    assert refused.json()["code"] == "HTTP-REFUSED"
    assert hook.intake.deliveries == []
    assert [record.__dict__["event"] for record in caplog.records] == ["notice.refused"]
    assert not token or token not in caplog.text


def test_other_schemes_and_places_of_the_token_are_not_taken(hook: Hook) -> None:
    for shown in (f"Basic {TOKEN}", "Bearer", TOKEN, f"Bearer{TOKEN}"):
        assert hook.post(token=None, authorization=shown).status_code == 401
    given = {"content": OURS, "headers": {"Content-Type": "application/json"}}
    for query in (f"access_token={TOKEN}", f"token={TOKEN}"):
        assert httpx.post(f"{hook.url}?{query}", **given).status_code == 401  # type: ignore[arg-type]
    assert hook.intake.deliveries == []


def test_a_changed_token_is_read_and_a_lost_one_is_said(hook: Hook) -> None:
    assert hook.post().status_code == 202
    hook.token.write_text("another-token-of-this-site")
    assert hook.post().status_code == 401
    assert hook.post(token="another-token-of-this-site").status_code == 202
    hook.token.unlink()
    lost = hook.post(token="another-token-of-this-site")
    assert (lost.status_code, lost.json()["code"]) == (503, "CONFIG-SECRET")


def test_a_query_changes_nothing(hook: Hook) -> None:
    answer = httpx.post(
        f"{hook.url}?archive=elsewhere&x=y",
        content=OURS,
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"},
        timeout=60,
    )
    assert answer.status_code == 202


def test_a_notice_that_cannot_be_recorded_is_to_be_sent_again(hook: Hook) -> None:
    hook.intake.failing["deliver"] = LedgerUnavailable()
    refused = hook.post()
    assert (refused.status_code, refused.json()["code"]) == (503, "LEDGER-UNAVAILABLE")
    assert int(refused.headers["retry-after"]) > 0
    hook.intake.failing.clear()
    assert hook.post().status_code == 202
    assert hook.noticed == [("pacs", UID, Notice.CHANGED)]


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", {}, 400, "NOTICE-JSON"),
        (b"", {}, 400, "NOTICE-JSON"),
        (b"{}", {}, 422, "NOTICE-MALFORMED"),
        (OURS, {"content_type": "text/plain"}, 415, "NOTICE-MEDIA-TYPE"),
        (OURS, {"content_type": "application/x-www-form-urlencoded"}, 415, "NOTICE-MEDIA-TYPE"),
        (OURS, {"content_type": "json"}, 415, "NOTICE-MEDIA-TYPE"),
        (OURS, {"content_encoding": "gzip"}, 415, "NOTICE-MEDIA-TYPE"),
        (b" " * 3000, {}, 413, "NOTICE-TOO-LARGE"),
        (orjson.dumps(["1.2"] * 201), {}, 413, "NOTICE-TOO-LARGE"),
    ],
)
def test_garbage_is_refused_with_a_code(
    tmp_path: Path, body: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    with hooked(tmp_path, max_body_bytes=2048, max_notices=200) as hook:
        refused = hook.post(body, **headers)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        assert refused.headers["content-type"] == "application/json"
        assert hook.intake.deliveries == []


@pytest.mark.parametrize(
    "label", ["application/cloudevents+json; charset=utf-8", "application/cloudevents-batch+json"]
)
def test_cloud_events_have_labels_of_their_own(hook: Hook, label: str) -> None:
    assert hook.post([{"study_instance_uid": UID}], content_type=label).status_code == 202


def test_a_body_without_length_is_bounded_too(tmp_path: Path) -> None:
    with hooked(tmp_path, max_body_bytes=2048) as hook:
        chunks = (b" " * 1000 for _ in range(10))
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {TOKEN}"}
        refused = httpx.post(hook.url, content=chunks, headers=headers, timeout=60)
        assert (refused.status_code, refused.json()["code"]) == (413, "NOTICE-TOO-LARGE")


def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    with hooked(tmp_path, body_timeout="300ms") as hook:
        address = httpx.URL(hook.url)
        head = f"POST {address.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
        with talk(hook.url) as client:
            client.sendall(f"{head}Content-Length: 100\r\n\r\n{{".encode())
            answer = b"".join(iter(lambda: client.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"NOTICE-TOO-SLOW" in answer


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
def test_other_methods_are_not_served(hook: Hook, method: str) -> None:
    refused = httpx.request(
        method, hook.url, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=60
    )
    assert (refused.status_code, refused.headers["allow"]) == (405, "OPTIONS, POST")
    assert httpx.request(method, hook.url, timeout=60).status_code == 401


def test_event_grid_is_told_that_its_events_are_wanted(hook: Hook) -> None:
    event = {
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
        "data": {"validationCode": "512d38b6"},
    }
    answer = hook.post([event], aeg_event_type="SubscriptionValidation")
    assert (answer.status_code, answer.json()) == (200, {"validationResponse": "512d38b6"})
    assert hook.post([event], token=None).status_code == 401


def test_senders_of_cloud_events_are_told_whether_they_are_wanted(hook: Hook) -> None:
    asked = {"WebHook-Request-Origin": "eventgrid.azure.net", "WebHook-Request-Rate": "120"}
    answer = httpx.options(hook.url, headers=asked)
    assert answer.status_code == 200
    assert answer.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    assert answer.headers["webhook-allowed-rate"] == "*"
    for origin in ("evil.example", "eventgrid.azure.net.evil.example", "", "\u00fc"):
        sent = {"WebHook-Request-Origin": origin.encode("latin-1")}
        assert "webhook-allowed-origin" not in httpx.options(hook.url, headers=sent).headers  # type: ignore[arg-type]


def test_a_failed_commit_fails_all_that_waited_for_it_and_no_other(hook: Hook) -> None:
    hook.intake.failing["deliver"] = LedgerUnavailable()
    with ThreadPoolExecutor(8) as pushers:
        answers = list(pushers.map(lambda _: hook.post().status_code, range(16)))
    assert set(answers) == {503}
    hook.intake.failing.clear()
    assert hook.post().status_code == 202


def test_a_large_batch_is_committed_in_parts(hook: Hook) -> None:
    answer = hook.post({"studies": [f"1.2.{n}" for n in range(2500)]})
    assert answer.json()["studies"] == 2500
    assert [len(delivery.noticed) for delivery in hook.intake.deliveries] == [1000, 1000, 500]


async def _hello(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_it_stands_beside_another_application(tmp_path: Path) -> None:
    with hooked(tmp_path, rest=_hello) as hook:
        assert hook.post().status_code == 202
        for other in ("", "/x", "?"):
            elsewhere = httpx.URL(hook.url).copy_with(path=f"/dicom-web{other.strip('?')}")
            assert httpx.get(elsewhere, timeout=60).text == "hello"
        assert httpx.post(f"{hook.url}/more", timeout=60).text == "hello"


def test_alone_it_serves_nothing_else(hook: Hook) -> None:
    for path in ("/", "/dicom-web/studies", "/notify/study/", "/notify/studyx", "/notify//study"):
        answer = httpx.post(httpx.URL(hook.url).copy_with(path=path), timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (404, "HTTP-REFUSED")


def test_a_token_is_never_optional() -> None:
    assert not WebhookSettings().enabled
    with pytest.raises(ValidationError, match="token_file"):
        WebhookSettings(enabled=True)
    for path in ("", "/", "notify", "/a/", "/a b", "/a?b", "/../x", "/.."):
        with pytest.raises(ValidationError):
            WebhookSettings(path=path)
