"""Hints of the FHIR server over HTTP: who is heard, and that nothing of them is believed."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from flute_sync.daemon.config import Config
from flute_sync.daemon.http_server import HttpServer
from flute_sync.daemon.listening import receivers
from flute_sync.daemon.stats import Stats
from flute_sync.sources.subscription_settings import SubscriptionSettings
from tests.acceptance.site import eventually
from tests.stow import FakeIntake

TOKEN = "correct-horse-battery-staple"
URL = "https://sync.example/notify/fhir"


class Hook:
    """A running listener, and how often it was told."""

    def __init__(self, url: str, stats: Stats) -> None:
        self.url, self.stats = url, stats
        self.told = 0

    def send(
        self, method: str = "POST", below: str = "", token: str | None = TOKEN, body: bytes = b""
    ) -> int:
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        address = f"{self.url}/notify/fhir{below}"
        answer = httpx.request(method, address, headers=headers, content=body, timeout=60)
        assert answer.content == b"" or answer.status_code >= 400
        return answer.status_code


@pytest.fixture
def token(tmp_path: Path) -> str:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return str(file)


def configured(token: str, **sections: object) -> Config:
    return Config.model_validate(
        {
            "fhir": {"base_url": "http://localhost:8080/fhir"},
            "stow_rs": {"mode": "index", "port": 0},
            "subscription": {"enabled": True, "url": URL, "token_file": token},
            **sections,
        }
    )


@pytest.fixture
def hook(token: str) -> Iterator[Hook]:
    stats = Stats()
    made = Hook("", stats)

    def hinted() -> None:
        made.told += 1

    server = HttpServer([*receivers(configured(token), FakeIntake(), stats, hinted)])
    server.start()
    made.url = f"http://127.0.0.1:{server.port('stow_rs')}"
    try:
        yield made
    finally:
        server.stop(timedelta(seconds=5))


def test_a_hint_is_taken_with_or_without_a_body(hook: Hook) -> None:
    assert hook.send() == 200
    assert hook.send("PUT", "/Observation/17", body=b'{"resourceType": "Observation"}') == 200
    assert hook.send("DELETE", "/Observation/17") == 200
    assert hook.send(body=b"\x00 not JSON \xff" * 100_000) == 200
    assert hook.told == 4
    eventually(lambda: hook.stats.notices == {"200": 2})


def test_who_shows_no_token_is_not_heard(hook: Hook) -> None:
    assert hook.send(token=None) == 401
    assert hook.send(token="guessed") == 401
    assert hook.send("GET") == 405
    assert hook.send(body=b"x" * (17 << 20)) == 413
    assert hook.told == 0


def test_uploads_and_what_lies_beside_go_elsewhere(hook: Hook) -> None:
    assert hook.send(below="er") == 404
    assert httpx.get(f"{hook.url}/dicom-web/studies", timeout=60).status_code != 200
    assert hook.told == 0


def test_alone_it_answers_at_its_address_only(token: str) -> None:
    config = configured(token, stow_rs={"enabled": False, "port": 0}, qido_rs={"enabled": True})
    stats = Stats()
    server = HttpServer([*receivers(config, FakeIntake(), stats, lambda: None)])
    server.start()
    try:
        alone = Hook(f"http://127.0.0.1:{server.port('stow_rs')}", stats)
        assert alone.send() == 200
        assert alone.send(below="er") == 404
    finally:
        server.stop(timedelta(seconds=5))


def test_the_settings_must_be_whole_and_the_address_its_own(token: str) -> None:
    with pytest.raises(ValidationError, match=r"subscription\.url and subscription\.token_file"):
        SubscriptionSettings(enabled=True, url=URL)
    subscription = {"enabled": True, "url": URL, "token_file": token}
    with pytest.raises(ValidationError, match=r"subscription\.path is an address of \[stow_rs\]"):
        configured(token, subscription={**subscription, "path": "/dicom-web/studies/hints"})
    with pytest.raises(ValidationError, match=r"webhook\.path is an address of \[subscription\]"):
        configured(
            token,
            webhook={"enabled": True, "token_file": token},
            subscription={**subscription, "path": "/notify"},
        )
