"""Hours of the day: when they are open, and when they began last."""

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from flute_sync.hours import Hours, is_open, opened

TIMES = st.times().map(lambda one: one.replace(second=0, microsecond=0))


@pytest.mark.parametrize(
    ("hours", "local", "began"),
    [
        ("02:00-05:00", "2026-03-02T02:00", "2026-03-02T02:00"),
        ("02:00-05:00", "2026-03-02T01:59", "2026-03-01T02:00"),
        ("22:00-05:00", "2026-03-02T04:00", "2026-03-01T22:00"),
        ("22:00-05:00", "2026-03-01T23:00", "2026-03-01T22:00"),
    ],
)
def test_they_began_last_at_their_first_minute(hours: str, local: str, began: str) -> None:
    assert opened(hours, datetime.fromisoformat(local)) == datetime.fromisoformat(began)


@given(TIMES, TIMES, st.datetimes(timezones=st.just(UTC)))
def test_each_minute_is_in_the_hours_or_in_those_that_are_left(
    first: time, last: time, local: datetime
) -> None:
    if first == last or local < datetime(2, 1, 1, tzinfo=UTC):
        return
    one, other = (f"{a:%H:%M}-{b:%H:%M}" for a, b in ((first, last), (last, first)))
    assert is_open(one, local.time()) != is_open(other, local.time())
    began = opened(one, local)
    assert timedelta() <= local - began < timedelta(days=1)
    assert is_open(one, began.time())


@pytest.mark.parametrize("text", ["22-05", "24:00-05:00", "05:00-05:00", "night", ""])
def test_what_is_no_window_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Hours).validate_python(text)
