"""How hard an import leans on an archive."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.daemon.politeness import Rate, Window

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
ROME = ZoneInfo("Europe/Rome")
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("5/s", timedelta(milliseconds=200)),
        ("90/min", timedelta(seconds=60) / 90),
        (" 0.5/s ", 2 * SECOND),
        ("1000/h", timedelta(seconds=3.6)),
    ],
)
def test_rates_are_read(text: str, interval: timedelta) -> None:
    assert Rate.parse(text).interval == interval


@pytest.mark.parametrize("text", ["", "5", "5/day", "-5/s", "0/s", "0.0/h", "1e3/s", "five/s"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a rate is written"):
        Rate.parse(text)


def test_what_was_taken_is_paid_for_before_more_is() -> None:
    rate = Rate.parse("5/s")
    assert rate.most_at_once == 5
    assert rate.wait(NOW) == timedelta()
    rate.spend(3, NOW)
    assert rate.wait(NOW) == timedelta(milliseconds=600)
    assert rate.wait(NOW + SECOND) == timedelta()
    rate.spend(0, NOW + SECOND)
    assert rate.wait(NOW + SECOND) == timedelta()


@given(
    st.floats(0.05, 200),
    st.lists(st.tuples(st.integers(0, 5), st.floats(0, 3)), min_size=1, max_size=40),
)
def test_no_more_than_the_rate_in_the_long_run(
    per_second: float, steps: list[tuple[int, float]]
) -> None:
    rate = Rate(SECOND / per_second)
    at, taken = NOW, 0
    for wanted, pause in steps:
        at += timedelta(seconds=pause)
        at += rate.wait(at)
        some = min(wanted, rate.most_at_once)
        rate.spend(some, at)
        taken += some
    over = (at - NOW).total_seconds()
    assert taken <= over * per_second * 1.01 + rate.most_at_once + 1


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    rate = Rate.parse("2/s")
    rate.spend(2, NOW)
    assert rate.wait(NOW - timedelta(hours=5)) <= SECOND


@pytest.mark.parametrize(
    ("window", "at", "wait"),
    [
        ("22:00-06:00", "23:30", timedelta()),
        ("22:00-06:00", "05:59", timedelta()),
        ("22:00-06:00", "06:00", timedelta(hours=16)),
        ("22:00-06:00", "21:00", timedelta(hours=1)),
        ("12:00-13:00", "12:00", timedelta()),
        ("12:00-13:00", "13:00", timedelta(hours=23)),
        ("12:00-13:00", "11:59", timedelta(minutes=1)),
    ],
)
def test_a_window_says_how_long_it_is_shut(window: str, at: str, wait: timedelta) -> None:
    hour, minute = map(int, at.split(":"))
    now = datetime(2026, 5, 4, hour, minute, tzinfo=ROME)
    assert Window.parse(window, ROME).wait(now.astimezone(UTC)) == wait


def test_the_night_in_which_the_clock_changes() -> None:
    window = Window.parse("02:30-03:30", ROME)
    before = datetime(2026, 3, 29, 1, 0, tzinfo=ROME)  # 02:30 does not exist on this day
    at = before.astimezone(UTC)
    while wait := window.wait(at):
        assert wait > timedelta()
        at += min(wait, timedelta(minutes=1))  # whoever waits asks again and again
    assert at.astimezone(ROME) == datetime(2026, 3, 29, 3, 0, tzinfo=ROME)


@pytest.mark.parametrize("text", ["", "22-6", "22:00", "25:00-26:00", "06:00-06:00", "6:00-7:00"])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a window is written"):
        Window.parse(text, None)


def test_the_hours_of_the_machine_where_no_zone_is_known() -> None:
    local = NOW.astimezone()
    window = Window.parse(f"{local:%H:%M}-{local + timedelta(hours=1):%H:%M}", None)
    assert window.wait(NOW) == timedelta()
    assert str(window).startswith(f"{local:%H:%M}-")
