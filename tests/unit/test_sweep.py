"""A sweep tells of every study, goes on after a kill, and says of none that it is gone in error."""

import tracemalloc
from bisect import bisect_right
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from flute_sync.archive_errors import ArchiveUnavailable
from flute_sync.intake import Delivery, Notice
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.listing import Choice, Page
from flute_sync.sources.search import StudyRow
from flute_sync.sources.sweep import Sweep
from flute_sync.sources.sweep_settings import SweepSettings
from flute_sync.study import StudyInstanceUID
from tests.intake import MemoryIntake

NOW = datetime(2026, 11, 22, 23, 0, tzinfo=UTC)


class Archive:
    """A listing of three studies a page; ``fails_at`` is the page that raises once."""

    def __init__(self, *uids: str, size: int = 3) -> None:
        self.size = size
        self.uids = list(uids)
        self.fails_at: int | None = None
        self.asked: list[str | None] = []

    def pages(self, choice: Choice, resume, now, stop) -> Iterator[Page]:
        assert choice == Choice()
        self.asked.append(resume)
        for start in range(int(resume or 0), len(self.uids), self.size):
            if self.fails_at == start:
                self.fails_at = None
                raise ArchiveUnavailable("archive: HTTP 503")
            rows = tuple(
                StudyRow(StudyInstanceUID(uid), 1, 1, f"print {uid}", ({},))
                for uid in self.uids[start : start + self.size]
            )
            yield Page(rows, str(start + self.size))
            if stop():
                return

    def count(self, choice: Choice, now: datetime) -> None:
        """It cannot."""


class Site:
    def __init__(self, held: int = 10, listed: int | None = None, **options) -> None:
        self.all = [f"1.2.{number:03}" for number in range(max(held, listed or 0))]
        self.archive = Archive(*self.all[: held if listed is None else listed])
        self.intake = MemoryIntake()
        self.intake.holdings["pacs"] = set(map(StudyInstanceUID, self.all[:held]))
        self.options = {"enabled": True, **options}
        self.now = NOW
        self.restart()

    def restart(self, zone=None) -> None:
        settings = SweepSettings.model_validate(self.options)
        self.sweep = Sweep(settings, self.archive, "pacs", self.intake, zone)

    def step(self) -> timedelta:
        self.sweep.step(self.now)
        self.now += self.sweep.interval
        return self.sweep.interval

    def run(self, steps: int = 60) -> None:
        for _ in range(steps):
            if self.step() == timedelta(minutes=1):
                return

    @property
    def changed(self) -> dict[str, str | None]:
        return {
            one.study_instance_uid: one.fingerprint
            for one in self.intake.noticed
            if one.notice is Notice.CHANGED
        }

    @property
    def gone(self) -> list[str]:
        return [one.study_instance_uid for one in self.intake.noticed if one.notice is Notice.GONE]


def test_every_study_is_told_with_its_fingerprint():
    site = Site(10)
    site.run()
    assert site.changed == {uid: f"print {uid}" for uid in site.all}
    assert site.gone == []


def test_what_is_held_and_not_listed_is_a_hint_that_it_is_gone(caplog):
    caplog.set_level("INFO")
    site = Site(held=10, listed=8)
    site.run()
    assert site.gone == ["1.2.008", "1.2.009"]
    assert [record.event for record in caplog.records] == ["sweep.finished"]


def test_what_came_during_the_sweep_is_not_gone():
    site = Site(10)
    site.step()
    site.intake.holdings["pacs"].add(StudyInstanceUID("1.1.1"))
    site.run()
    assert site.gone == []


def test_what_went_meanwhile_is_not_asked_for():
    site = Site(held=10, listed=9)
    site.step()
    site.intake.holdings["pacs"].discard(StudyInstanceUID("1.2.009"))
    site.run()
    assert site.gone == []


class TestCutOff:
    def test_a_listing_that_fails_goes_on_and_says_nothing_too_early(self):
        site = Site(held=10, listed=8)
        site.archive.fails_at = 3
        site.step()
        with pytest.raises(ArchiveUnavailable):
            site.step()
        assert site.gone == []
        site.run()
        assert site.archive.asked == [None, "3"]
        assert site.gone == ["1.2.008", "1.2.009"]

    def test_one_that_was_told_to_stop_says_nothing(self):
        site = Site(held=10, listed=2)
        site.sweep.step(NOW, lambda: True)
        answers = iter([False, False, True, True, True])
        site.sweep.step(NOW, lambda: next(answers))
        site.sweep.step(NOW, lambda: True)
        assert site.gone == []

    def test_after_a_restart_it_goes_on_and_then_goes_through_all_before_it_judges(self):
        site = Site(held=10, listed=8)
        site.step()
        site.restart()
        site.step()
        assert site.archive.asked == [None, "3"]
        while len(site.archive.asked) == 2:
            site.step()
            if len(site.archive.asked) == 2:
                assert site.gone == []
        assert site.archive.asked == [None, "3", None]
        site.run()
        assert site.gone == ["1.2.008", "1.2.009"]

    @given(st.lists(st.integers(0, 12), max_size=6))
    def test_whenever_it_is_killed_all_is_told_in_the_end(self, kills):
        site = Site(held=12, listed=10)
        for steps in kills:
            for _ in range(steps):
                site.step()
            site.restart()
        site.now += timedelta(days=2)
        site.run()
        assert set(site.changed) == set(site.all[:10])
        assert set(site.gone) == set(site.all[10:])

    def test_what_could_not_be_committed_is_told_again(self):
        site = Site(10)
        site.step()
        site.intake.failure = LedgerUnavailable()
        with pytest.raises(LedgerUnavailable):
            site.step()
        site.restart()
        site.run()
        assert set(site.changed) == set(site.all)


class TestDoubtful:
    @pytest.mark.parametrize(
        ("held", "listed", "looked_into", "doubted"),
        [
            (100, 0, 100, True),
            (600, 0, 100, True),
            (600, 250, 100, True),
            (2000, 0, 200, True),
            (600, 300, 300, False),
            (100, 60, 40, False),
        ],
    )
    def test_some_removals_are_looked_into(self, caplog, held, listed, looked_into, doubted):
        site = Site(held=held, listed=listed, rate=1000)
        site.run(1000)
        assert len(site.gone) == looked_into
        events = [record.event for record in caplog.records if record.levelname == "WARNING"]
        assert events == (["sweep.doubtful"] if doubted else [])

    def test_an_empty_archive_of_which_nothing_was_held_is_no_news(self, caplog):
        site = Site(0)
        site.run()
        assert site.intake.noticed == []
        assert [r for r in caplog.records if r.levelname == "WARNING"] == []


class TestPace:
    def test_as_many_a_second_as_was_said(self):
        site = Site(9, rate=0.5)
        waits = [site.step() for _ in range(3)]
        assert waits == [timedelta(seconds=6)] * 3

    def test_removals_too(self):
        site = Site(held=10, listed=6, rate=1)
        while not site.gone:
            site.step()
        assert [site.sweep.interval] + [site.step() for _ in range(3)] == [timedelta(seconds=1)] * 4
        assert len(site.gone) == 4

    def test_the_next_one_begins_an_interval_after_the_last_began(self):
        site = Site(5, interval="6h")
        site.run()
        site.restart()
        began = len(site.archive.asked)
        site.now = NOW + timedelta(hours=5, minutes=59)
        site.step()
        assert len(site.archive.asked) == began
        site.now = NOW + timedelta(hours=6)
        site.step()
        assert len(site.archive.asked) == began + 1

    def test_one_that_is_asked_for_begins_at_once(self):
        site = Site(5, enabled=False)
        site.run()
        assert site.archive.asked == []
        site.sweep.ask()
        site.run()
        assert set(site.changed) == set(site.all)
        site.run()
        assert len(site.archive.asked) == 1

    def test_one_that_is_only_asked_for_tells_of_what_is_known(self):
        site = Site(held=7, listed=20, enabled=False)
        site.sweep.ask()
        site.step()
        site.restart()
        site.run()
        assert set(site.changed) == set(site.all[:7])


class TestWindow:
    @pytest.mark.parametrize(
        ("window", "inside", "outside"),
        [
            ("22:00-05:00", ["22:00", "23:59", "00:00", "04:59"], ["05:00", "12:00", "21:59"]),
            ("01:00-05:00", ["01:00", "04:59"], ["05:00", "00:59", "23:00"]),
            (None, ["00:00", "12:00"], []),
        ],
    )
    def test_is_of_local_hours(self, window, inside, outside):
        settings = SweepSettings(window=window)
        assert all(settings.is_open(time.fromisoformat(at)) for at in inside)
        assert not any(settings.is_open(time.fromisoformat(at)) for at in outside)

    @pytest.mark.parametrize("window", ["22-05", "24:00-05:00", "05:00-05:00", "night"])
    def test_of_another_form_is_refused(self, window):
        with pytest.raises(ValidationError):
            SweepSettings(window=window)

    def test_a_sweep_rests_outside_and_goes_on(self):
        site = Site(held=10, listed=9, window="23:00-23:30")
        site.restart(ZoneInfo("Europe/Rome"))  # 23:00 UTC is midnight there
        site.step()
        assert site.archive.asked == []
        site.now = NOW - timedelta(minutes=50)
        site.step()
        assert len(site.changed) == 3
        site.now = NOW
        site.step()
        assert len(site.changed) == 3
        site.now = NOW + timedelta(hours=23)
        site.run()
        assert site.archive.asked == [None, "3"]
        assert site.gone == ["1.2.009"]


class _Counting(MemoryIntake):
    """Holds many studies and keeps no delivery."""

    def __init__(self, uids: list[str]) -> None:
        super().__init__()
        self.ordered = sorted(map(StudyInstanceUID, uids))

    def deliver(self, delivery: Delivery) -> frozenset[StudyInstanceUID]:
        return frozenset()

    def held(self, archive, after, limit):
        start = bisect_right(self.ordered, after) if after else 0
        return tuple(self.ordered[start : start + limit])


def test_a_hundred_thousand_studies_need_little_memory():
    uids = [f"1.2.840.113619.2.55.3.2831868886.{number}" for number in range(100_000)]
    archive = Archive(*uids, size=500)
    sweep = Sweep(SweepSettings(enabled=True, rate=100_000), archive, "pacs", _Counting(uids))
    tracemalloc.start()
    for _ in range(202):
        sweep.step(NOW)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sweep.interval == timedelta(minutes=1)
    assert peak < 12 << 20
