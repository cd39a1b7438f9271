"""When something took place, as FHIR says it: an interval of local days, never a guess.

A day is the one that was recorded, the first ten characters: converted to another time zone, an MRI
half an hour after midnight would be of the day before. Partial dates, periods and ages are
intervals; what holds for every day of them is certain, what holds for some is possible.

References
----------
FHIR R4 datatypes.html (date, dateTime, instant, Period, Timing, Age).
"""

import calendar
import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, Final, NamedTuple

from flute_sync.terminology import UCUM

_DATE_TIME: Final = re.compile(
    r"(\d{4})(?:-(0[1-9]|1[0-2])(?:-(0[1-9]|[12]\d|3[01])"
    r"(T(?:[01]\d|2[0-3]):[0-5]\d(?::(?:[0-5]\d|60)(?:\.\d+)?)?(Z|[+-](?:0\d|1[0-4]):[0-5]\d)?)?)?)?"
)
_DAY_LENGTH: Final = len("2024-01-31")
_DAYS_OF: Final = {"d": 1, "wk": 7}
_MONTHS_OF: Final = {"a": 12, "mo": 1}
_DAYS_A_MONTH: Final = Decimal("30.436875")
_MOST_DIGITS: Final = 18  # of a decimal (FHIR R4 datatypes.html#decimal)
_UNKNOWN: Final = frozenset({date.min, date.max})


class Verdict(StrEnum):
    """How sure a statement about intervals is."""

    CERTAIN = "certain"
    POSSIBLE = "possible"
    CONTRADICTED = "contradicted"


class Interval(NamedTuple):
    """Closed interval of local days; ``instant`` where a time and a zone are stated too.

    An end that is not known is `date.min` or `date.max`.
    """

    low: date
    high: date
    instant: datetime | None = None

    def __str__(self) -> str:
        if self.low == self.high:
            return self.low.isoformat()
        low = "?" if self.low == date.min else self.low.isoformat()
        high = "?" if self.high == date.max else self.high.isoformat()
        return f"{low}/{high}"

    def shifted(self, days: int) -> "Interval":
        """Return the interval so many days later, without its time."""
        low = plus(self.low, days)
        return Interval(low, low if self.high == self.low else plus(self.high, days))

    def within(self, earliest: "Interval", latest: "Interval") -> Verdict:
        """Tell whether this lies from ``earliest`` to ``latest``, both included."""
        if self.low >= earliest.high and self.high <= latest.low:
            return Verdict.CERTAIN
        if self.high < earliest.low or self.low > latest.high:
            return Verdict.CONTRADICTED
        return Verdict.POSSIBLE

    def before(self, other: "Interval") -> Verdict:
        """Tell whether this precedes ``other``: of one day, only times with a zone can tell."""
        if self.high < other.low:
            return Verdict.CERTAIN
        if self.low > other.high:
            return Verdict.CONTRADICTED
        if self.instant is not None and other.instant is not None:
            return Verdict.CERTAIN if self.instant < other.instant else Verdict.CONTRADICTED
        return Verdict.POSSIBLE


ALWAYS: Final = Interval(date.min, date.max)
"""Any day at all: what is known of something without a date."""


def date_time(value: object) -> Interval | None:
    """Read a date, dateTime or instant; None where it is none.

    FHIR wants a zone with every time. Where servers let one pass without, its day counts alone:
    as good as undated, it might be linked to what is years away.
    """
    if not isinstance(value, str):
        return None
    if len(value) == _DAY_LENGTH:
        return _day(value)
    found = _DATE_TIME.fullmatch(value)
    if found is None:
        return None
    year, month, day, time, zone = found.groups()
    if day is not None:
        return _day(value[:_DAY_LENGTH], _instant(value, time) if zone else None)
    try:
        first = date(int(year), int(month or 1), 1)
    except ValueError:
        return None
    last = first.replace(month=int(month or 12))
    return Interval(first, last.replace(day=calendar.monthrange(last.year, last.month)[1]))


def _day(value: str, instant: datetime | None = None) -> Interval | None:
    try:
        day = date.fromisoformat(value)
    except ValueError:
        return None
    return None if value[5] == "W" else Interval(day, day, instant)  # "2024-W01-1" is not FHIR's


def period(value: object) -> Interval | None:
    """Read a Period; an end that is missing is open, and one that ends before it begins is none."""
    if not isinstance(value, dict):
        return None
    start, end = date_time(value.get("start")), date_time(value.get("end"))
    if start is None and end is None:
        return None
    low = start.low if start else date.min
    high = end.high if end else date.max
    return Interval(low, high) if low <= high else None


def timing(value: object) -> Interval | None:
    """Read a Timing: from its first event to its last, else the period that bounds it."""
    if not isinstance(value, dict):
        return None
    stated = value.get("event")
    events = [date_time(one) for one in stated] if isinstance(stated, list) else []
    known = [one for one in events if one is not None]
    if len(known) == 1:
        return known[0]
    if known:
        return Interval(min(one.low for one in known), max(one.high for one in known))
    repeat = value.get("repeat")
    return period(repeat.get("boundsPeriod")) if isinstance(repeat, dict) else None


def age(value: object, birth: Interval | None) -> Interval | None:
    """Read an Age of a person born in ``birth``: the days on which the age was that.

    A whole number counts completed units; a decimal one is right to a unit of its last digit.
    None where nothing is known: no birth date, no UCUM unit of time, a comparator.
    """
    if not isinstance(value, dict) or birth is None or "comparator" in value:
        return None
    if value.get("system", UCUM) != UCUM:
        return None
    unit, number = str(value.get("code")), _number(value.get("value"))
    if number is None:
        return None
    exponent = int(number.as_tuple().exponent)
    whole = exponent >= 0
    least = Decimal(1).scaleb(exponent)
    low, high = (number, number + 1) if whole else (max(number - least, Decimal(0)), number + least)
    if unit in _DAYS_OF:
        return _days_after(birth, low * _DAYS_OF[unit], high * _DAYS_OF[unit], whole=whole)
    if unit in _MONTHS_OF:
        return _months_after(birth, low * _MONTHS_OF[unit], high * _MONTHS_OF[unit], whole=whole)
    return None


def _number(value: object) -> Decimal | None:
    """Return a number that may be an age in some unit; an absurd exponent is none."""
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    if not number.is_finite() or not 0 <= number <= 150 * 366:
        return None
    return number if abs(int(number.as_tuple().exponent)) <= _MOST_DIGITS else None


def _days_after(birth: Interval, low: Decimal, high: Decimal, *, whole: bool) -> Interval:
    last = int(high.to_integral_value(ROUND_CEILING)) - (1 if whole else 0)
    first = int(low.to_integral_value(ROUND_FLOOR))
    return Interval(plus(birth.low, first), plus(birth.high, last))


def _months_after(birth: Interval, low: Decimal, high: Decimal, *, whole: bool) -> Interval:
    first, last = int(low), int(high)
    early = int(((low - first) * _DAYS_A_MONTH).to_integral_value(ROUND_FLOOR))
    late = int(((high - last) * _DAYS_A_MONTH).to_integral_value(ROUND_CEILING))
    begin = plus(add_months(birth.low, first), early)
    # Who is born on the 29th of February may turn older on the 1st of March.
    end = plus(add_months(birth.high, last, late=True), late)
    return Interval(begin, plus(end, -1) if whole else end)


def add_months(day: date, months: int, *, late: bool = False) -> date:
    """Return the day so many calendar months later, or earlier.

    Parameters
    ----------
    late
        Where that month has no such day, take the first of the next month, not its own last.
    """
    index = day.year * 12 + day.month - 1 + months
    year, month = index // 12, index % 12 + 1
    if not date.min.year <= year <= date.max.year:
        return date.min if months < 0 else date.max
    try:
        return date(year, month, day.day)
    except ValueError:
        last = calendar.monthrange(year, month)[1]
    return plus(date(year, month, last), 1 if late else 0)


def plus(day: date, days: int) -> date:
    """Return the day so many days later, within the calendar; what is not known stays so."""
    if day in _UNKNOWN:
        return day
    try:
        return date.fromordinal(day.toordinal() + days)
    except (ValueError, OverflowError):
        return date.max if days > 0 else date.min


def _instant(value: str, time: str) -> datetime | None:
    try:
        return datetime.fromisoformat(value.replace(":60", ":59", 1) if ":60" in time else value)
    except ValueError:
        return None


def effective(resource: Mapping[str, Any], birth: Interval | None) -> Interval | None:
    """Return when an Observation, Procedure or FamilyMemberHistory says that it took place."""
    for name, read in _READERS:
        if name in resource:
            return read(resource[name])
    if "performedAge" in resource:
        return age(resource["performedAge"], birth)
    return None


_READERS: Final[tuple[tuple[str, Callable[[object], Interval | None]], ...]] = (
    ("effectiveDateTime", date_time),
    ("effectiveInstant", date_time),
    ("effectivePeriod", period),
    ("effectiveTiming", timing),
    ("performedDateTime", date_time),
    ("performedPeriod", period),
    ("date", date_time),
)
