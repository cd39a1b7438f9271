"""Pauses of a target: they grow, are spoken of once, and always end."""

import traceback
from datetime import UTC, datetime, timedelta

import pytest

from flute_sync.archive_errors import ArchiveUnavailable
from flute_sync.daemon.pauses import LONGEST, Pause

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_a_pause_grows_and_ends() -> None:
    pause, now = Pause("pacs"), NOW
    waits = []
    for _ in range(8):
        waits.append(pause.begin(ArchiveUnavailable(), now) - now)
        now += pause.remaining(now)
        assert not pause.remaining(now)
    assert waits == sorted(waits)
    assert (waits[0], waits[-1]) == (SECOND, LONGEST)
    pause.end()
    assert pause.error is None


def test_a_clock_that_is_set_back_does_not_prolong_it() -> None:
    pause = Pause("pacs")
    pause.begin(ArchiveUnavailable(), NOW)
    earlier = NOW - timedelta(hours=5)
    assert not pause.remaining(earlier)
    assert pause.begin(ArchiveUnavailable(), earlier) < NOW


def test_what_paused_it_is_raised_for_everybody_who_asks_and_does_not_grow() -> None:
    pause = Pause("pacs")
    pause.begin(ArchiveUnavailable(), NOW)
    for _ in range(50):
        with pytest.raises(ArchiveUnavailable) as refused:
            pause.refuse(NOW)
    assert len(traceback.extract_tb(refused.value.__traceback__)) < 5
    pause.refuse(NOW + LONGEST)
