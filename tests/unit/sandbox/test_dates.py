"""Dates of any precision as intervals of instants."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.sandbox.fhir_server.dates import BEGINNING, END, interval, interval_of


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2024", "2024-01-01T00:00:00.000000", "2024-12-31T23:59:59.999999"),
        ("2024-02", "2024-02-01T00:00:00.000000", "2024-02-29T23:59:59.999999"),
        ("2024-12", "2024-12-01T00:00:00.000000", "2024-12-31T23:59:59.999999"),
        ("2024-02-29", "2024-02-29T00:00:00.000000", "2024-02-29T23:59:59.999999"),
        ("2024-03-01T09:15+01:00", "2024-03-01T08:15:00.000000", "2024-03-01T08:15:59.999999"),
        ("2024-03-01T00:30:00+02:00", "2024-02-29T22:30:00.000000", "2024-02-29T22:30:00.999999"),
        ("2024-03-01T08:15:00.5Z", "2024-03-01T08:15:00.500000", "2024-03-01T08:15:00.500999"),
        ("2024-03-01T08:15:00", "2024-03-01T08:15:00.000000", "2024-03-01T08:15:00.999999"),
        ("9999", "9999-01-01T00:00:00.000000", END),
    ],
)
def test_interval(text, low, high):
    assert interval(text) == (low, high)


@pytest.mark.parametrize(
    "text", ["", "24", "2024-13", "2023-02-29", "2024-3-1", "2024-03-01T25:00:00Z", "yesterday"]
)
def test_what_is_no_date_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        interval(text)
    assert interval_of(text) is None


def test_an_open_period_reaches_to_the_end_of_time():
    assert interval_of({"start": "2024"}) == ("2024-01-01T00:00:00.000000", END)
    assert interval_of({"end": "2024"}) == (BEGINNING, "2024-12-31T23:59:59.999999")
    assert interval_of({"value": 54}) is None
    assert interval_of(3) is None


moments = st.datetimes(
    min_value=datetime(1800, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m))),
)


@given(moments)
def test_an_instant_lies_in_its_interval_whatever_its_zone(moment):
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    found = interval(moment.isoformat(timespec="milliseconds"))
    utc = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    assert found.low == utc
    assert found.low < found.high


@given(moments, moments)
def test_text_sorts_as_time_does(one, other):
    one, other = (each.replace(microsecond=0) for each in (one, other))
    lows = [interval(each.isoformat()).low for each in (one, other)]
    assert (lows[0] < lows[1]) == (one < other)


@given(moments)
def test_coarser_precision_covers_finer(moment):
    text = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ").rjust(20, "0")
    inner = interval(text)
    for coarser in (text[:10], text[:7], text[:4]):
        outer = interval(coarser)
        assert outer.low <= inner.low <= inner.high <= outer.high
        inner = outer
