"""The DICOM change feed: no gap stops it, no late entry is missed, nothing is asked twice."""

from datetime import UTC, datetime, timedelta

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.archive_errors import (
    ArchiveCapabilityMissing,
    ArchiveServerError,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.intake import Notice
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.change_entries import Position
from flute_sync.sources.change_feed import ChangeFeedPoller
from flute_sync.sources.change_feed_settings import ChangeFeedSettings
from flute_sync.sources.peer_settings import PeerSettings
from tests.changes import ChangeFeed
from tests.intake import MemoryIntake

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Site:
    def __init__(self, version: int = 1, **options) -> None:
        self.feed = ChangeFeed(version)
        self.intake = MemoryIntake()
        self.options = options
        self.restart()

    def restart(self) -> None:
        self.poller = ChangeFeedPoller(
            ChangeFeedSettings(**self.options),
            f"http://pacs/dicom/v{self.feed.version}",
            "pacs",
            PeerSettings(),
            self.intake,
            transport=httpx.MockTransport(self._answer),
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        return self.feed(request)

    def heard(self) -> dict[str, str | None]:
        self.poller.step(NOW)
        while not self.poller.interval:
            self.poller.step(NOW)
        return self.intake.take()


@pytest.fixture(params=[1, 2])
def site(request) -> Site:
    return Site(request.param)


def test_each_study_that_changed_is_told_once(site):
    for study in ("1.2.1", "1.2.2", "1.2.1"):
        site.feed.say(study)
    first = site.heard()
    assert set(first) == {"1.2.1", "1.2.2"}
    assert site.heard() == {}
    site.feed.say("1.2.1", "Update")
    second = site.heard()
    assert set(second) == {"1.2.1"}
    assert second["1.2.1"] != first["1.2.1"]


@pytest.mark.parametrize("action", ["delete", "Delete", "update", "create", "archive", ""])
def test_whatever_the_action_the_study_is_read(site, action):
    site.feed.say("1.2.1", action)
    site.poller.step(NOW)
    assert [one.notice for one in site.intake.noticed] == [Notice.CHANGED]


def test_an_action_that_is_not_known_is_remarked_once(site, caplog):
    for _ in range(3):
        site.feed.say("1.2.1", "archive")
        site.heard()
    assert [record.event for record in caplog.records] == ["study.remark"]


@pytest.mark.parametrize("uid", ["", "x/y", None])
def test_an_entry_without_a_usable_uid_is_passed(site, uid, caplog):
    site.feed.say("1.2.1", StudyInstanceUid=uid)
    site.feed.say("1.2.2")
    assert set(site.heard()) == {"1.2.2"}
    assert [record.event for record in caplog.records] == ["study.remark"]


@pytest.mark.parametrize("gap", [1, 99, 100, 101, 1000, 10_000])
def test_a_gap_does_not_stop_it(site, gap):
    site.feed.say("1.2.1", sequence=7)
    assert set(site.heard()) == {"1.2.1"}
    site.feed.say("1.2.2", sequence=7 + gap)
    assert set(site.heard()) == {"1.2.2"}
    assert site.heard() == {}


def test_a_gap_at_the_beginning_and_numbers_of_64_bits(site):
    site.feed.say("1.2.1", sequence=2**63 - 3)
    site.options["start"] = "now"
    site.restart()
    assert site.heard() == {}
    site.feed.say("1.2.2", sequence=2**63 - 1)
    assert "1.2.2" in site.heard()
    assert site.heard() == {}


def test_a_step_that_is_killed_in_a_gap_goes_on_in_it():
    site = Site(1)
    site.feed.say("1.2.1")
    site.heard()
    site.feed.say("1.2.2", sequence=5000)
    answers = iter([False] * 10 + [True] * 2)
    site.poller.step(NOW, lambda: next(answers))
    site.restart()
    asked = len(site.feed.asked)
    assert set(site.heard()) == {"1.2.2"}
    assert len(site.feed.asked) - asked < 50


def test_a_gap_that_cannot_be_crossed_is_no_new_feed(caplog):
    site = Site(1)
    site.feed.say("1.2.1")
    site.heard()
    site.feed.say("1.2.2")
    site.feed.say("1.2.3", sequence=5000)
    answers = iter([False, True])  # the page before the gap, and the gap's first
    site.poller.step(NOW, lambda: next(answers))
    site.restart()
    assert set(site.heard()) >= {"1.2.3"}
    assert not [record for record in caplog.records if record.event == "source.reset"]


def test_an_entry_that_appears_behind_a_later_one_is_not_missed(site):
    for _ in range(30):
        site.feed.say("1.2.1")
    late = site.feed.entries.pop(20)
    late["StudyInstanceUid"] = "1.2.2"
    assert set(site.heard()) == {"1.2.1"}
    site.feed.entries.append(late)
    assert set(site.heard()) == {"1.2.2"}
    assert site.heard() == {}


def test_after_a_restart_what_is_read_again_is_no_news(site):
    for number in range(30):
        site.feed.say(f"1.2.{number % 3}")
    first = site.heard()
    site.restart()
    again = site.heard()
    assert again.items() <= first.items()


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 250), st.booleans()), max_size=30),
    st.sampled_from([1, 7, 100]),
    st.sampled_from([1, 2]),
)
@settings(deadline=None, max_examples=25)
def test_whatever_comes_and_whenever_it_is_asked_all_is_told(changes, page_size, version):
    site = Site(version, page_size=page_size)
    told: dict[str, str | None] = {}
    newest: dict[str, int] = {}
    for study, gap, ask in changes:
        site.feed.say(f"1.2.{study}", sequence=site.feed.sequence + gap)
        newest[f"1.2.{study}"] = site.feed.sequence
        if ask:
            told |= site.heard()
    told |= site.heard()
    assert {uid: int(str(mark).split()[1]) for uid, mark in told.items()} == newest


def test_many_changes_of_one_moment_are_all_read():
    site = Site(2)
    for number in range(6000):
        site.feed.say(f"1.2.{number}")
    for entry in site.feed.entries[:5500]:
        entry["Timestamp"] = site.feed.entries[0]["Timestamp"]
    assert len(site.heard()) == 6000
    assert site.heard() == {}


class TestStart:
    def test_from_the_beginning(self, site):
        site.feed.say("1.2.1")
        assert set(site.heard()) == {"1.2.1"}

    def test_from_now_on(self, site):
        site.feed.say("1.2.1")
        site.options["start"] = "now"
        site.restart()
        assert site.heard() == {}
        site.feed.say("1.2.2")
        assert "1.2.2" in site.heard()

    def test_of_an_empty_feed(self, site):
        for start in ("beginning", "now"):
            site.options["start"] = start
            site.restart()
            assert site.heard() == {}
        site.feed.say("1.2.1")
        assert set(site.heard()) == {"1.2.1"}

    @pytest.mark.parametrize(
        ("address", "paging", "by_time"),
        [
            ("http://pacs/v1", "auto", False),
            ("http://pacs/v1.0-prerelease", "auto", False),
            ("https://pacs.example/v2/partitions/a", "auto", True),
            ("http://pacs/v2", "sequence", False),
            ("http://pacs/dicom-web", "auto", False),
            ("http://pacs/dicom-web", "time", True),
        ],
    )
    def test_how_it_is_paged_follows_from_the_version(self, address, paging, by_time):
        asked = []

        def server(request):
            asked.append(request.url)
            return httpx.Response(200, content=b"[]")

        intake = MemoryIntake()
        intake.cursors["change_feed", "pacs"] = "5 2026-11-22T09:00:00+00:00"
        poller = ChangeFeedPoller(
            ChangeFeedSettings(paging=paging),
            address,
            "pacs",
            PeerSettings(),
            intake,
            transport=httpx.MockTransport(server),
        )
        poller.step(NOW)
        assert ("startTime" in asked[0].params) is by_time
        assert str(asked[0]).startswith(f"{address}/changefeed?")


class TestReset:
    def test_a_feed_that_counts_from_one_again_is_read_from_the_start(self, site, caplog):
        for _ in range(200):
            site.feed.say("1.2.1")
        site.heard()
        site.feed.entries.clear()
        site.feed.sequence = 0
        site.feed.now -= timedelta(days=10)
        site.feed.say("1.2.1")
        site.feed.say("1.2.2")
        assert set(site.heard()) == {"1.2.1", "1.2.2"}
        assert [record.event for record in caplog.records] == ["source.reset"]
        assert site.heard() == {}

    def test_one_that_has_grown_beyond_what_was_read_too(self, site, caplog):
        for _ in range(120):
            site.feed.say("1.2.1")
        site.heard()
        site.feed.entries.clear()
        site.feed.sequence = 0
        site.feed.now += timedelta(days=1)
        site.feed.say("1.2.5")
        for _ in range(300):
            site.feed.say("1.2.2")
        assert set(site.heard()) == {"1.2.2", "1.2.5"}
        assert site.heard() == {}

    def test_an_empty_one_too(self, site):
        site.feed.say("1.2.1")
        site.heard()
        site.feed.entries.clear()
        assert site.heard() == {}
        site.feed.sequence = 0
        site.feed.say("1.2.3")
        assert set(site.heard()) == {"1.2.3"}


class TestFailures:
    @pytest.mark.parametrize(
        ("status", "error"),
        [
            (404, ArchiveCapabilityMissing),
            (410, ArchiveCapabilityMissing),
            (400, ArchiveCapabilityMissing),
            (401, ArchiveUnauthorized),
            (503, ArchiveUnavailable),
            (500, ArchiveServerError),
        ],
    )
    def test_are_said(self, site, status, error):
        site.feed.status = status
        with pytest.raises(error):
            site.poller.step(NOW)
        assert site.intake.deliveries == []

    @pytest.mark.parametrize(
        "body",
        [
            b"{}",
            b"[1]",
            b'[{"Sequence": -1}]',
            b'[{"Sequence": true}]',
            b'[{"Sequence": 9223372036854775808}]',
            b"[",
            b"<html>",
        ],
    )
    def test_what_is_no_feed_is_not_taken_for_one(self, site, body):
        site.feed = lambda request: httpx.Response(200, content=body)
        with pytest.raises(ArchiveServerError):
            site.poller.step(NOW)
        assert site.intake.deliveries == []

    def test_pages_that_do_not_end_are_given_up(self, site):
        page = b'[{"Sequence": 5, "StudyInstanceUid": "1.2", "Action": "create"}]'
        site.feed = lambda request: httpx.Response(200, content=page)
        with pytest.raises(ArchiveServerError):
            site.poller.step(NOW)

    def test_what_could_not_be_committed_is_told_again(self, site):
        site.feed.say("1.2.1")
        site.intake.failure = LedgerUnavailable()
        with pytest.raises(LedgerUnavailable):
            site.poller.step(NOW)
        assert site.intake.cursors == {}
        assert set(site.heard()) == {"1.2.1"}


def test_an_idle_feed_costs_few_requests(site):
    for _ in range(500):
        site.feed.say("1.2.1")
    site.heard()
    before = len(site.feed.asked)
    site.heard()
    assert len(site.feed.asked) - before <= 4


@pytest.mark.parametrize("position", [Position(), Position(5), Position(2**63 - 1, NOW)])
def test_a_position_is_written_and_read(position):
    assert Position.parse(str(position)) == position
