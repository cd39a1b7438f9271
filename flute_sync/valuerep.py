"""DICOM value representations to plain values, and those to FHIR primitives.

A parser returns None where nothing is stated and raises `Unusable` where something is stated that
cannot be used: the caller then leaves the value out and says so, it never guesses.

References
----------
PS3.5 6.2 and 9.1 (2026b); FHIR R4 datatypes.html; HL7 extension iso21090-EN-representation.
"""

import math
import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

EN_REPRESENTATION: Final = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
LARGEST_INTEGER: Final = 2**31 - 1

_DATE: Final = re.compile(r"(\d{4})(\.?)(\d{2})\2(\d{2})", re.ASCII)
_TIME: Final = re.compile(r"(\d{2})(?:(:?)(\d{2})(?:\2(\d{2})(?:\.(\d{1,6}))?)?)?", re.ASCII)
_DATETIME: Final = re.compile(r"(\d{8})(\d{2,6}(?:\.\d{1,6})?)?([+-]\d{4})?", re.ASCII)
_OFFSET: Final = re.compile(r"([+-])(\d{2})([0-5]\d)", re.ASCII)
_INTEGER: Final = re.compile(r"\+?(\d{1,12})(?:\.0*)?", re.ASCII)
_DECIMAL: Final = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_UID: Final = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))*", re.ASCII)
_DOTTED: Final = re.compile(r"\d+(\.\d+)*", re.ASCII)
_NO_DATE: Final = ("00000000", "00010101")
_EARLIEST_OFFSET: Final = timedelta(hours=-12)
_LATEST_OFFSET: Final = timedelta(hours=14)
_LONGEST_UID: Final = 64
_BLANKS: Final = "\t\n\r\f\v"
_CONTROLS: Final = frozenset({"Cc", "Cs"})

LEADING_ZERO: Final = "leading-zero"
ILLEGAL: Final = "illegal"


class Unusable(ValueError):
    """A value is stated that cannot be used; the text is never part of the message."""


_TimeOfDay: TypeAlias = time  # inside Moment, `time` is the field


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, perhaps a time of day, perhaps an offset from UTC, as recorded.

    ``time`` is local time cut to milliseconds. ``utc_offset`` is (0008,0201), or the value's own.
    A time without a date does not exist here.
    """

    date: date
    time: _TimeOfDay | None = None
    utc_offset: timedelta | None = None


def parse_date(text: str, placeholders: Collection[date] = ()) -> date | None:
    """Read a DA, also in the form with full stops of ACR-NEMA.

    Parameters
    ----------
    placeholders
        Days that stand for "not known" at this site, beside 00000000 and 00010101.

    Raises
    ------
    Unusable
        When it is not a day of the calendar.
    """
    text = text.strip()
    if not text or text in _NO_DATE:
        return None
    match = _DATE.fullmatch(text)
    if match is None:
        raise Unusable("not a date")
    year, _, month, day = match.groups()
    if year + month + day in _NO_DATE:
        return None
    try:
        parsed = date(int(year), int(month), int(day))
    except ValueError as error:
        raise Unusable("not a day of the calendar") from error
    return None if parsed in placeholders else parsed


def parse_time(text: str) -> time | None:
    """Read a TM, also in the form with colons; cut to milliseconds, second 60 becomes 59.

    An hour alone is no time: FHIR needs minutes, and they are not known.

    Raises
    ------
    Unusable
        When it is not a time of day.
    """
    text = text.strip()
    if not text:
        return None
    match = _TIME.fullmatch(text)
    if match is None:
        raise Unusable("not a time")
    hour, _, minute, second, fraction = match.groups()
    if int(hour) > 23:
        raise Unusable("not an hour")
    if minute is None:
        return None
    seconds = int(second or 0)
    if int(minute) > 59 or seconds > 60:
        raise Unusable("not a time of day")
    milliseconds = int((fraction or "").ljust(3, "0")[:3])
    return time(int(hour), int(minute), min(seconds, 59), milliseconds * 1000)


def parse_utc_offset(text: str) -> timedelta | None:
    """Read an offset from UTC, ``+HHMM`` or ``-HHMM``, between -1200 and +1400.

    Raises
    ------
    Unusable
        When it is none, or ``-0000``, which the standard forbids.
    """
    text = text.strip()
    if not text:
        return None
    match = _OFFSET.fullmatch(text)
    if match is None or text == "-0000":
        raise Unusable("not an offset from UTC")
    sign, hours, minutes = match.groups()
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    offset = -offset if sign == "-" else offset
    if not _EARLIEST_OFFSET <= offset <= _LATEST_OFFSET:
        raise Unusable("not an offset from UTC")
    return offset


def parse_datetime(text: str, placeholders: Collection[date] = ()) -> Moment | None:
    """Read a DT; its own offset is kept.

    Raises
    ------
    Unusable
        When it is not a DT, or less than a day: FHIR would take it, but no one can sort by it.
    """
    text = text.strip()
    if not text:
        return None
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise Unusable("not a date and time")
    day = parse_date(match[1], placeholders)
    if day is None:
        return None
    at = parse_time(match[2] or "")
    offset = parse_utc_offset(match[3] or "")
    return Moment(day, at, offset if at is not None else None)


def parse_integer(text: str) -> int | None:
    """Read an IS that FHIR's unsignedInt can hold, 0 to 2147483647; ``1.0`` is 1.

    Raises
    ------
    Unusable
        When it is no such number.
    """
    text = text.strip()
    if not text:
        return None
    match = _INTEGER.fullmatch(text)
    if match is None or int(match[1]) > LARGEST_INTEGER:
        raise Unusable("not a whole number of FHIR's range")
    return int(match[1])


def parse_decimal(text: str) -> float | None:
    """Read a DS.

    Raises
    ------
    Unusable
        When it is not a finite number.
    """
    text = text.strip()
    if not text:
        return None
    if _DECIMAL.fullmatch(text) is None or not math.isfinite(number := float(text)):
        raise Unusable("not a number")
    return number


def clean_text(text: str) -> str | None:
    """Make a FHIR string of a text: NFC, one line, no controls, trimmed; None if nothing is left.

    References
    ----------
    FHIR R4 datatypes.html#string.
    """
    if text.isascii() and text.isprintable():
        return " ".join(text.split()) or None
    text = unicodedata.normalize("NFC", text)
    kept = (c for c in text if c in _BLANKS or unicodedata.category(c) not in _CONTROLS)
    return " ".join("".join(kept).split()) or None


def clean_identifier(text: str) -> str | None:
    """Strip the pad spaces of an identifier, and nothing else: case and leading zeros matter.

    Raises
    ------
    Unusable
        When it holds controls or characters that could not be decoded, or other blanks than pad
        spaces around it, which FHIR strings cannot have: an identifier is never mended.
    """
    text = text.strip(" \0")
    if (
        "\ufffd" in text
        or text != text.strip()
        or any(unicodedata.category(c) in _CONTROLS for c in text)
    ):
        raise Unusable("not an identifier")
    return text or None


def uid_problem(uid: str) -> str | None:
    """Say what is wrong with a UID: None, `LEADING_ZERO` (usable as it is) or `ILLEGAL`.

    References
    ----------
    PS3.5 9.1 (2026b): components without leading zeros, at most 64 characters.
    """
    if len(uid) > _LONGEST_UID or _DOTTED.fullmatch(uid) is None:
        return ILLEGAL
    return None if _UID.fullmatch(uid) else LEADING_ZERO


def fhir_datetime(moment: Moment, zone: ZoneInfo | None) -> str:
    """Write a moment as FHIR dateTime.

    The moment's own offset comes first, else that of ``zone``: the earlier of two readings where
    clocks went back, the offset before the change where they went forward. With neither there
    is no time at all, since FHIR allows none without an offset and UTC would be a guess.

    References
    ----------
    FHIR R4 datatypes.html#dateTime.
    """
    day = moment.date.isoformat()
    if moment.time is None:
        return day
    offset = moment.utc_offset
    if offset is None and zone is not None:
        offset = datetime.combine(moment.date, moment.time, zone).utcoffset()
    if offset is None or offset % timedelta(minutes=1):
        return day
    local = datetime.combine(moment.date, moment.time, timezone(offset))
    return local.isoformat(timespec="milliseconds" if local.microsecond else "seconds")


def human_names(person_name: str) -> list[dict[str, object]]:
    """Write a PN as FHIR HumanNames, one for each component group that says something.

    The second group is marked as ideographic, the third as phonetic.

    References
    ----------
    PS3.5 6.2.1 (2026b); FHIR R4 datatypes.html#HumanName.
    """
    names = []
    groups = person_name.split("=")
    for group, representation in zip(groups, (None, "IDE", "SYL"), strict=False):
        name = _human_name(group)
        if name and representation:
            name["extension"] = [{"url": EN_REPRESENTATION, "valueCode": representation}]
        if name:
            names.append(name)
    return names


def _human_name(group: str) -> dict[str, object]:
    components = [clean_text(component) for component in group.split("^")]
    family, first, middle, prefix, suffix = (*components, *[None] * 5)[:5]
    given = [*(first or "").split(), *(middle or "").split()]
    name: dict[str, object] = {}
    if family:
        name["family"] = family
    if given:
        name["given"] = given
    if prefix:
        name["prefix"] = [prefix]
    if suffix:
        name["suffix"] = [suffix]
    return name
