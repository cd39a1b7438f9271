"""Subscriptions of ours on HAPI: made, renewed and ended; the sandbox offers none."""

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from flute_sync.daemon.hints import SubscriptionKeeper
from flute_sync.daemon.pauses import Pause
from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.subscriptions import Subscriptions
from flute_sync.link_settings import LinkSettings
from flute_sync.sandbox.server import Sandbox
from flute_sync.sources.subscription_settings import SubscriptionSettings
from tests.services.hapi import Hapi

WEEK = timedelta(days=7)


class Kept:
    """The Subscriptions to one address."""

    def __init__(self, client: FhirClient, token: Path) -> None:
        self.client, self.token = client, token
        self.url = f"https://sync.example/{uuid.uuid4().hex}"
        self.links = LinkSettings()

    def look(self, now: datetime | None = None, *, enabled: bool = True) -> None:
        settings = SubscriptionSettings(enabled=enabled, url=self.url, token_file=str(self.token))
        keeper = SubscriptionKeeper(
            settings, lambda: self.links, Subscriptions(self.client), Pause("fhir")
        )
        keeper.step(now or datetime.now(UTC), lambda: False)

    @property
    def there(self) -> list[dict[str, Any]]:
        return self.client.search("Subscription", [("url", self.url)])

    @property
    def versions(self) -> set[tuple[str, str]]:
        return {(one["id"], one["meta"]["versionId"]) for one in self.there}


@pytest.fixture
def kept(hapi: Hapi, tmp_path: Path) -> Iterator[Kept]:
    token = tmp_path / "token"
    token.write_text("first\n")
    with FhirClient(FhirSettings(base_url=hapi.base_url)) as client:
        client.capabilities()
        yield Kept(client, token)


def test_they_are_made_once_and_carry_no_payload(kept: Kept) -> None:
    kept.look()
    found = kept.there
    assert {one["criteria"].partition("?")[0] for one in found} == {
        "Observation",
        "Procedure",
        "FamilyMemberHistory",
        "DiagnosticReport",
    }
    for one in found:
        assert one["channel"] == {
            "type": "rest-hook",
            "endpoint": kept.url,
            "header": ["Authorization: Bearer first"],
        }
    before = kept.versions
    kept.look()
    assert kept.versions == before


def test_they_are_renewed_in_time_and_when_the_token_changes(kept: Kept) -> None:
    kept.look()
    first = kept.versions
    kept.look(datetime.now(UTC) + WEEK / 2 + timedelta(hours=1))
    second = kept.versions
    assert not first & second
    assert {one for one, _ in first} == {one for one, _ in second}
    kept.token.write_text("second\n")
    kept.look()
    assert {one["channel"]["header"][0] for one in kept.there} == {"Authorization: Bearer second"}


def test_one_that_failed_or_is_gone_is_made_anew(kept: Kept) -> None:
    kept.look()
    failed, gone, *_ = kept.there
    kept.client.update({**failed, "status": "error"}, if_match=failed["meta"]["versionId"])
    kept.client.delete("Subscription", gone["id"], if_match="1")
    kept.look()
    assert {one["status"] for one in kept.there} <= {"requested", "active"}
    assert len(kept.there) == 4


def test_they_end_when_they_or_links_are_switched_off(kept: Kept) -> None:
    kept.look()
    kept.look(enabled=False)
    assert kept.there == []
    kept.look()
    kept.links = LinkSettings(enabled=False)
    kept.look()
    assert kept.there == []


def test_a_server_without_subscriptions_is_left_alone(sandbox: Sandbox, tmp_path: Path) -> None:
    with FhirClient(FhirSettings(base_url=sandbox.fhir_url)) as client:
        client.capabilities()
        assert not Subscriptions(client).offered
        token = tmp_path / "token"
        token.write_text("x")
        Kept(client, token).look()
