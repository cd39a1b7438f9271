"""FHIR dates of any precision as closed intervals of UTC instants, written to sort as text."""

import re
from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

_DATE_TIME: Final = re.compile(
    r"(?P<year>\d{4})(-(?P<month>\d\d)(-(?P<day>\d\d)"
    r"(T(?P<hour>\d\d):(?P<minute>\d\d)(:(?P<second>\d\d)(\.(?P<fraction>\d{1,9}))?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?"
)
_SPANS: Final = (
    ("fraction", timedelta(milliseconds=1)),
    ("second", timedelta(seconds=1)),
    ("minute", timedelta(minutes=1)),
    ("day", timedelta(days=1)),
)
_TICK: Final = timedelta(microseconds=1)
BEGINNING: Final = "0001-01-01T00:00:00.000000"
END: Final = "9999-12-31T23:59:59.999999"


class Interval(NamedTuple):
    """First and last instant, UTC, in microseconds; text that sorts as time does."""

    low: str
    high: str


def interval(text: str) -> Interval:
    """Give the instants that a date, dateTime or instant covers; no zone means UTC.

    Raises
    ------
    ValueError
        When the text is none of them.

    References
    ----------
    FHIR R4 search.html#date.
    """
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        raise ValueError("not a FHIR date")
    part = match.groupdict()
    start = datetime(
        int(part["year"]),
        int(part["month"] or 1),
        int(part["day"] or 1),
        int(part["hour"] or 0),
        int(part["minute"] or 0),
        int(part["second"] or 0),
        int((part["fraction"] or "").ljust(6, "0")[:6]),
        tzinfo=UTC,
    )
    zone = part["zone"]
    try:
        if zone not in (None, "Z"):
            offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:]))
            start -= offset if zone[0] == "+" else -offset
        return Interval(_text(start), _text(_following(start, part) - _TICK))
    except OverflowError:
        return Interval(_text(start), END)


def interval_of(element: Any) -> Interval | None:
    """Give the instants of a date, a Period or another element; None where it has none."""
    try:
        if isinstance(element, str):
            return interval(element)
        if isinstance(element, dict) and ("start" in element or "end" in element):
            low = interval(element["start"]).low if "start" in element else BEGINNING
            return Interval(low, interval(element["end"]).high if "end" in element else END)
    except ValueError:
        return None  # an unfit date is stored as it came and found by no date search
    return None


def _following(start: datetime, part: dict[str, str | None]) -> datetime:
    for name, span in _SPANS:
        if part[name] is not None:
            return start + span
    if part["month"] is not None and start.month < 12:
        return start.replace(month=start.month + 1)
    if start.year == MAXYEAR:
        raise OverflowError
    return start.replace(year=start.year + 1, month=1)


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")
