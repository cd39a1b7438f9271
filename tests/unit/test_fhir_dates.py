"""Dates as intervals of local days."""

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.fhir_dates import ALWAYS, Interval, Verdict, add_months, age, date_time, period

UCUM = "http://unitsofmeasure.org"
BIRTH = date_time("1974-12-25")


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2024", "2024-01-01", "2024-12-31"),
        ("2024-02", "2024-02-01", "2024-02-29"),
        ("2023-02", "2023-02-01", "2023-02-28"),
        ("2024-02-29", "2024-02-29", "2024-02-29"),
        ("2024-06-10T00:30:00+02:00", "2024-06-10", "2024-06-10"),
        ("2024-06-10T23:59:60Z", "2024-06-10", "2024-06-10"),
        ("2024-06-10T10:00:00.123456789-05:00", "2024-06-10", "2024-06-10"),
    ],
)
def test_dates(text: str, low: str, high: str) -> None:
    found = date_time(text)
    assert found is not None
    assert (found.low, found.high) == (date.fromisoformat(low), date.fromisoformat(high))
    assert (found.instant is not None) is ("T" in text)


@pytest.mark.parametrize(
    "text", ["2024-06-10T10:00:00", "2024-06-10T10:00", "2024-06-10T10:00:59.5"]
)
def test_a_time_without_a_zone_counts_as_its_day_alone(text: str) -> None:
    assert date_time(text) == Interval(date(2024, 6, 10), date(2024, 6, 10))


@pytest.mark.parametrize(
    "value",
    ["", "24", "2023-02-29", "2024-13", "2024-00-10", "0000", "2024-06-10T10", "2024-6-1", 2024,
     "2024-06-10T", "2024-06-10T25:00:00Z", "2024-06-10Z", None, ["2024"], {"x": 1}],
)  # fmt: skip
def test_what_is_no_date(value: object) -> None:
    assert date_time(value) is None


def test_periods() -> None:
    assert period({"start": "2024-01", "end": "2024-02-03"}) == Interval(
        date(2024, 1, 1), date(2024, 2, 3)
    )
    assert period({"start": "2024-01-05"}) == Interval(date(2024, 1, 5), date.max)
    assert period({"end": "2024-01-05"}) == Interval(date.min, date(2024, 1, 5))
    assert period({"start": "2024-02", "end": "2024-01"}) is None
    assert period({}) is period("2024") is period({"start": "x"}) is None


@pytest.mark.parametrize(
    ("value", "unit", "low", "high"),
    [
        (54, "a", "2028-12-25", "2029-12-24"),
        (0, "a", "1974-12-25", "1975-12-24"),
        (2, "mo", "1975-02-25", "1975-03-24"),
        (1, "wk", "1975-01-01", "1975-01-07"),
        (10, "d", "1975-01-04", "1975-01-04"),
        (Decimal("54.5"), "a", "2029-05-19", "2029-08-01"),
        (Decimal("54.0"), "a", "2028-11-18", "2029-02-01"),
    ],
)
def test_ages(value: object, unit: str, low: str, high: str) -> None:
    found = age({"value": value, "code": unit, "system": UCUM}, BIRTH)
    assert found == Interval(date.fromisoformat(low), date.fromisoformat(high))


def test_who_is_born_on_the_29th_of_february_may_turn_older_on_the_1st_of_march() -> None:
    assert age({"value": 1, "code": "a"}, date_time("2000-02-29")) == Interval(
        date(2001, 2, 28), date(2002, 2, 28)
    )


def test_of_a_birth_date_that_is_a_year_only() -> None:
    assert age({"value": 50, "code": "a"}, date_time("1974")) == Interval(
        date(2024, 1, 1), date(2025, 12, 30)
    )


@pytest.mark.parametrize(
    "value",
    [
        {"value": 54},
        {"value": 54, "unit": "a"},
        {"value": 54, "code": "years"},
        {"value": 54, "code": "a", "system": "urn:x"},
        {"value": 54, "code": "a", "comparator": ">"},
        {"value": "old", "code": "a"},
        {"value": -1, "code": "a"},
        {"value": float("nan"), "code": "a"},
        {"value": 10**30, "code": "a"},
        {"value": Decimal("1e-30000"), "code": "h"},
        {"code": "a"},
        54,
    ],
)
def test_what_is_no_age(value: object) -> None:
    assert age(value, BIRTH) is None
    assert age({"value": 54, "code": "a"}, None) is None


@pytest.mark.parametrize(
    ("day", "months", "result"),
    [
        ("2024-02-29", -12, "2023-02-28"),
        ("2024-02-29", -48, "2020-02-29"),
        ("2024-03-31", -1, "2024-02-29"),
        ("2025-03-01", -12, "2024-03-01"),
        ("2024-01-31", 1, "2024-02-29"),
        ("2024-12-31", 12, "2025-12-31"),
    ],
)
def test_calendar_months(day: str, months: int, result: str) -> None:
    assert add_months(date.fromisoformat(day), months) == date.fromisoformat(result)


DAYS = st.dates(date(2024, 1, 1), date(2024, 1, 8))
INTERVALS = st.builds(lambda a, b: Interval(min(a, b), max(a, b)), DAYS, DAYS)


def days_of(interval: Interval) -> list[date]:
    return [
        date.fromordinal(n) for n in range(interval.low.toordinal(), interval.high.toordinal() + 1)
    ]


@given(INTERVALS, INTERVALS, INTERVALS)
def test_verdicts_are_those_of_all_days(one: Interval, first: Interval, last: Interval) -> None:
    holds = {a <= b <= c for a in days_of(first) for b in days_of(one) for c in days_of(last)}
    verdict = one.within(first, last)
    if holds == {True}:
        assert verdict is Verdict.CERTAIN
    elif verdict is Verdict.CONTRADICTED:
        assert holds == {False}
    elif verdict is Verdict.CERTAIN:
        raise AssertionError(holds)


@given(INTERVALS, INTERVALS)
def test_what_was_before(one: Interval, other: Interval) -> None:
    order = {(a > b) - (a < b) for a in days_of(one) for b in days_of(other)}
    expected = {frozenset({-1}): Verdict.CERTAIN, frozenset({1}): Verdict.CONTRADICTED}
    assert one.before(other) is expected.get(frozenset(order), Verdict.POSSIBLE)


def test_the_ends_of_time() -> None:
    assert ALWAYS.shifted(400) == ALWAYS == ALWAYS.shifted(-400)
    near = Interval(date(9999, 12, 30), date(9999, 12, 30))
    assert near.shifted(5) == Interval(date.max, date.max)
    assert str(Interval(date(2024, 1, 5), date.max)) == "2024-01-05/?"
    assert str(Interval(date.min, date(2024, 1, 5))) == "?/2024-01-05"
