"""Windows of Study Date cover every day once and find every study, whatever the PACS cuts off."""

from collections.abc import Generator
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.archive_errors import ArchiveQueryRefused, ArchiveTooSlow
from flute_sync.sources.find_windows import Answer, Found, Window, Windows, asked

SINCE, UNTIL = date(2026, 1, 1), date(2026, 1, 12)
Row = dict[str, Any]


def row(number: int, at: datetime, *, timed: bool = True) -> Row:
    found: Row = {
        "0020000D": {"vr": "UI", "Value": [f"1.2.{number}"]},
        "00080020": {"vr": "DA", "Value": [f"{at:%Y%m%d}"]},
    }
    return found | ({"00080030": {"vr": "TM", "Value": [f"{at:%H%M%S}"]}} if timed else {})


def uid(one: Row) -> str:
    (found,) = one["0020000D"]["Value"]
    return str(found)


class Pacs:
    """Answers as many as it wants: it refuses, ends early, or stops and says success."""

    def __init__(self, rows: list[Row], limit: int = 10**9, how: str = "silent") -> None:
        self.rows, self.limit, self.how = rows, limit, how
        self.heeds = self.takes_times = True
        self.asked: list[Window] = []

    def __call__(self, window: Window, most: int | None) -> Answer:
        self.asked.append(window)
        return asked(lambda _: self._answers(window), window, most)

    def _answers(self, window: Window) -> Generator[Row, None, None]:
        found = [one for one in self.rows if not self.heeds or self._matches(one, window)]
        is_timed = window.seconds is not None and not self.takes_times
        if is_timed or (self.how == "refuses" and len(found) > self.limit):
            raise ArchiveQueryRefused(0xA700)
        yield from found[: self.limit]
        if self.how == "ends early" and len(found) > self.limit:
            raise ArchiveQueryRefused(0xFE00)

    @staticmethod
    def _matches(one: Row, window: Window) -> bool:
        (day,) = one["00080020"]["Value"]
        assert window.since is not None
        assert window.until is not None
        if not f"{window.since:%Y%m%d}" <= str(day) <= f"{window.until:%Y%m%d}":
            return False
        if window.seconds is None:
            return True
        if "00080030" not in one:
            return False
        (at,) = one["00080030"]["Value"]
        hour, minute, second = (int(str(at)[n : n + 2]) for n in (0, 2, 4))
        return window.seconds[0] <= hour * 3600 + minute * 60 + second <= window.seconds[1]


def days_of(found: list[Found]) -> list[date]:
    """The days that windows cover; the parts of a day come before it and cover it once."""
    days: list[date] = []
    second = 0
    for window, *_ in found:
        assert window.since is not None
        assert window.until is not None
        if window.seconds is not None:
            assert window.seconds[0] == second
            second = window.seconds[1] + 1
            continue
        assert second in (0, 86_400)
        second = 0
        days += [window.since + timedelta(n) for n in range((window.until - window.since).days + 1)]
    return days


SECONDS = st.integers(0, 12 * 86_400 - 1)
START = datetime(2026, 1, 1, tzinfo=UTC)


@given(
    st.sets(SECONDS, max_size=60),
    st.integers(1, 70),
    st.sampled_from(["silent", "refuses", "ends early"]),
    st.integers(2, 80),
)
def test_every_day_is_covered_once_and_every_study_found_whatever_the_limit(
    moments, limit, how, most
):
    rows = [row(number, START + timedelta(seconds=at)) for number, at in enumerate(moments)]
    pacs = Pacs(rows, limit, how)
    windows = Windows(most, least_limit=1)
    for _ in range(2):  # what was learnt may not harm what comes next
        found = list(windows.through(SINCE, UNTIL, pacs))
        assert days_of(found) == [SINCE + timedelta(n) for n in range(12)]
        assert {uid(one) for part in found for one in part.rows} == {uid(one) for one in rows}


@given(
    st.integers(0, 400),
    st.integers(50, 300),
    st.sampled_from([500, 86_400, 12 * 86_400]),
    st.integers(0, 9),
)
def test_an_archive_that_stops_at_fifty_or_more_is_found_out(count, limit, span, seed):
    moments = Random(seed).sample(range(span), count)
    rows = [row(number, START + timedelta(seconds=at)) for number, at in enumerate(moments)]
    found = Windows(500).through(SINCE, UNTIL, Pacs(rows, limit))
    seen = {uid(one) for part in found for one in part.rows}
    assert seen == {uid(one) for one in rows}


def test_an_archive_without_limits_is_asked_little():
    rows = [
        row(n, datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=80 * n)) for n in range(200)
    ]
    pacs, windows = Pacs(rows), Windows(500)
    list(windows.through(SINCE, UNTIL, pacs))
    pacs.asked.clear()
    list(windows.through(SINCE, UNTIL, pacs))
    assert len(pacs.asked) == 2


def test_few_studies_are_asked_for_at_once():
    pacs = Pacs([row(n, datetime(2026, 1, 3, tzinfo=UTC)) for n in range(20)])
    list(Windows(500).through(date(1900, 1, 1), date(2026, 12, 31), pacs))
    assert len(pacs.asked) == 1


def test_a_long_empty_past_costs_few_queries():
    rows = [row(n, datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=n)) for n in range(2000)]
    pacs = Pacs(rows, 100, "refuses")
    found = list(Windows(500).through(date(1895, 11, 8), date(2026, 1, 1), pacs))
    assert sum(len(part.rows) for part in found) == 2000
    assert len(pacs.asked) < 200


def test_studies_without_a_time_on_a_full_day_are_those_of_the_cut_answer():
    at = datetime(2026, 1, 5, 12, tzinfo=UTC)
    rows = [row(n, at + timedelta(seconds=n), timed=n >= 5) for n in range(80)]
    found = list(Windows(500).through(SINCE, UNTIL, Pacs(rows, 60)))
    assert {uid(one) for part in found for one in part.rows} == {uid(one) for one in rows}


def test_more_in_one_second_than_is_answered_is_said():
    rows = [row(n, datetime(2026, 1, 5, tzinfo=UTC)) for n in range(80)]
    found = list(Windows(500).through(SINCE, UNTIL, Pacs(rows, 60, "ends early")))
    assert [part.window.seconds for part in found if part.cut] == [(0, 0)]
    assert max(len(part.rows) for part in found) == 60


def test_an_archive_that_refuses_everything_is_asked_no_more_than_it_takes_to_know():
    pacs = Pacs([row(n, datetime(2026, 1, 1, tzinfo=UTC)) for n in range(5)], -1, "refuses")
    with pytest.raises(ArchiveQueryRefused):
        list(Windows(500).through(SINCE, UNTIL, pacs))
    assert len(pacs.asked) < 60


@pytest.mark.parametrize("second", [0, 45_000, 86_399])
def test_a_second_that_is_refused_hides_no_other(second):
    full = START + timedelta(days=3, seconds=second)
    others = [START + timedelta(hours=11 * n, seconds=1) for n in range(24)]
    rows = [row(n, at) for n, at in enumerate([full] * 30 + others)]
    pacs = Pacs(rows, 20, "refuses")
    found = list(Windows(500).through(SINCE, UNTIL, pacs))
    assert days_of(found) == [SINCE + timedelta(n) for n in range(12)]
    assert {uid(one) for part in found for one in part.rows} == {f"1.2.{n}" for n in range(30, 54)}
    assert [part.window.seconds for part in found if part.cut] == [(second, second)]
    assert len(pacs.asked) < 150


def test_an_archive_that_refuses_times_hides_no_other_day():
    full = [START + timedelta(days=day, minutes=n) for day in (0, 5) for n in range(30)]
    others = [START + timedelta(days=n) for n in (1, 2, 8, 11)]
    rows = [row(n, at) for n, at in enumerate([*full, *others])]
    pacs = Pacs(rows, 20, "refuses")
    pacs.takes_times = False
    found = list(Windows(500).through(SINCE, UNTIL, pacs))
    assert {uid(one) for part in found for one in part.rows} == {f"1.2.{n}" for n in range(60, 64)}
    assert {part.window.since for part in found if part.cut} == {SINCE, SINCE + timedelta(5)}
    assert len(pacs.asked) < 150


def test_an_archive_too_slow_for_a_window_is_asked_for_half_of_it_next():
    windows = Windows(500)
    widths: list[int] = []

    def slow(window: Window, _: int | None) -> Answer:
        assert window.since is not None
        assert window.until is not None
        widths.append((window.until - window.since).days + 1)
        if widths[-1] > 4:
            raise ArchiveTooSlow
        return Answer([], whole=True)

    for _ in range(2):
        with pytest.raises(ArchiveTooSlow):
            list(windows.through(SINCE, UNTIL, slow))
    found = list(windows.through(SINCE, UNTIL, slow))
    assert widths == [12, 6, 3, 3, 3, 3]
    assert days_of(found) == [SINCE + timedelta(n) for n in range(12)]


def test_an_archive_that_ignores_the_date_is_asked_for_everything_once():
    rows = [row(n, datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=n)) for n in range(900)]
    pacs = Pacs(rows)
    pacs.heeds = False
    (found,) = Windows(500).through(SINCE, UNTIL, pacs)
    assert (len(found.rows), found.cut, found.unheeded) == (900, False, True)
    assert len(pacs.asked) == 2


@pytest.mark.parametrize(
    ("window", "match"),
    [
        (Window(SINCE, SINCE), {0x0008_0020: "20260101"}),
        (Window(SINCE, UNTIL), {0x0008_0020: "20260101-20260112"}),
        (Window(SINCE, None), {0x0008_0020: "20260101-"}),
        (Window(None, UNTIL), {0x0008_0020: "-20260112"}),
        (Window(None, None), {}),
        (
            Window(SINCE, SINCE, (43_200, 86_399)),
            {0x0008_0020: "20260101", 0x0008_0030: "120000-235959.999999"},
        ),
    ],
)
def test_the_keys_of_a_window(window, match):
    assert window.match == match
