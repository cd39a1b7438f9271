"""DICOM values to plain ones and to FHIR: every rule, good and bad (PS3.5 6.2)."""

import re
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync import valuerep
from flute_sync.valuerep import Moment, Unusable, fhir_datetime, human_names

ROME = ZoneInfo("Europe/Rome")
FHIR_DATETIME = re.compile(
    r"([0-9]([0-9]([0-9][1-9]|[1-9]0)|[1-9]00)|[1-9]000)(-(0[1-9]|1[0-2])"
    r"(-(0[1-9]|[1-2][0-9]|3[0-1])(T([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)"
    r"(\.[0-9]+)?(Z|(\+|-)((0[0-9]|1[0-3]):[0-5][0-9]|14:00)))?)?)?"
)
"""FHIR R4 datatypes.html#dateTime."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240229", date(2024, 2, 29)),
        ("2024.02.29", date(2024, 2, 29)),
        (" 20240610 ", date(2024, 6, 10)),
        ("", None),
        ("  ", None),
        ("00000000", None),
        ("00010101", None),
        ("0001.01.01", None),
    ],
)
def test_date(text, expected):
    assert valuerep.parse_date(text) == expected


@pytest.mark.parametrize(
    "text",
    ["20230229", "2024", "202406", "2024-06-10", "20241301", "2024061", "202406100", "2024.0610",
     "10.06.2024", "today", "２０２４０６１０", "20240610-20240611"],
)  # fmt: skip
def test_no_date_is_guessed(text):
    with pytest.raises(Unusable):
        valuerep.parse_date(text)


def test_placeholder_dates_are_absent():
    assert valuerep.parse_date("19000101", (date(1900, 1, 1),)) is None
    assert valuerep.parse_date("19000101") == date(1900, 1, 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("091530", time(9, 15, 30)),
        ("0915", time(9, 15)),
        ("09", None),
        ("", None),
        ("09:15:30", time(9, 15, 30)),
        ("09:15", time(9, 15)),
        ("091530.1", time(9, 15, 30, 100_000)),
        ("091530.999999", time(9, 15, 30, 999_000)),
        ("235960", time(23, 59, 59)),
        ("235959.9999", time(23, 59, 59, 999_000)),
        ("091530 ", time(9, 15, 30)),
    ],
)
def test_time(text, expected):
    assert valuerep.parse_time(text) == expected


@pytest.mark.parametrize(
    "text",
    ["9", "24", "2460", "096100", "091561", "0915301", "091530.", "091530.1234567", "09:1530",
     "0915:30", "noon", "-1", "0915.5"],
)  # fmt: skip
def test_no_time_is_guessed(text):
    with pytest.raises(Unusable):
        valuerep.parse_time(text)


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("+0100", 60), ("-0500", -300), ("+0545", 345), ("+1400", 840), ("-1200", -720), ("+0000", 0)],
)
def test_utc_offset(text, minutes):
    assert valuerep.parse_utc_offset(text) == timedelta(minutes=minutes)


@pytest.mark.parametrize(
    "text", ["0100", "+01", "+01:00", "+1401", "-1201", "-0000", "+0160", "Z", "+9900", "CET"]
)
def test_no_utc_offset_is_guessed(text):
    with pytest.raises(Unusable):
        valuerep.parse_utc_offset(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("20240610", Moment(date(2024, 6, 10))),
        ("2024061009", Moment(date(2024, 6, 10))),
        ("202406100915", Moment(date(2024, 6, 10), time(9, 15))),
        (
            "20240610091530.25-0300",
            Moment(date(2024, 6, 10), time(9, 15, 30, 250_000), timedelta(hours=-3)),
        ),
        ("20240610+0200", Moment(date(2024, 6, 10))),
        ("00010101", None),
        ("", None),
    ],
)
def test_datetime(text, expected):
    assert valuerep.parse_datetime(text) == expected


@pytest.mark.parametrize(
    "text", ["2024", "202406", "20240631", "2024061025", "20240610091530.", "2024-06-10T09:15"]
)
def test_no_datetime_is_guessed(text):
    with pytest.raises(Unusable):
        valuerep.parse_datetime(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("7", 7), (" 7 ", 7), ("+7", 7), ("007", 7), ("1.0", 1), ("2147483647", 2**31 - 1),
     ("", None)],
)  # fmt: skip
def test_integer(text, expected):
    assert valuerep.parse_integer(text) == expected


@pytest.mark.parametrize(
    "text", ["-1", "2147483648", "1.5", "ab", "1e3", "1 2", "٣", "9" * 400, "0x1", "1_000"]
)
def test_no_integer_is_guessed(text):
    with pytest.raises(Unusable):
        valuerep.parse_integer(text)


@pytest.mark.parametrize(("text", "expected"), [("4000.5", 4000.5), ("-1E2", -100.0), ("", None)])
def test_decimal(text, expected):
    assert valuerep.parse_decimal(text) == expected


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1e9999", "1,5", "ab", "--1", "."])
def test_no_decimal_is_guessed(text):
    with pytest.raises(Unusable):
        valuerep.parse_decimal(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MRI  prostate\r\nwith\tcontrast ", "MRI prostate with contrast"),
        ("a\0b\x1b\x07c", "abc"),
        ("Mu\u0308ller", "Müller"),
        ("\ud800x", "x"),
        (" \t\r\n", None),
        ("\x01\x02", None),
        ("", None),
    ],
)
def test_clean_text(text, expected):
    assert valuerep.clean_text(text) == expected


@given(st.text())
def test_clean_text_is_a_fhir_string_and_stays_so(text):
    cleaned = valuerep.clean_text(text)
    if cleaned is not None:
        assert cleaned == cleaned.strip()
        assert cleaned.splitlines() == [cleaned]
        cleaned.encode()
        assert valuerep.clean_text(cleaned) == cleaned


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0007", "0007"), (" ab C ", "ab C"), ("x\0", "x"), ("Ä", "Ä"), ("  ", None), ("", None)],
)
def test_identifier(text, expected):
    assert valuerep.clean_identifier(text) == expected


@pytest.mark.parametrize("text", ["a\ufffd", "a\nb", "a\0b", "\x1b(B7", "\x85", "\xa0", "A1\u3000"])
def test_no_identifier_is_mended(text):
    with pytest.raises(Unusable):
        valuerep.clean_identifier(text)


@pytest.mark.parametrize(
    ("uid", "problem"),
    [
        ("1.2.840.10008.1.1", None),
        ("0", None),
        ("2.25." + "1" * 59, None),
        ("1.2.007.3", valuerep.LEADING_ZERO),
        ("00.1", valuerep.LEADING_ZERO),
        ("2.25." + "1" * 60, valuerep.ILLEGAL),
        ("", valuerep.ILLEGAL),
        ("1..2", valuerep.ILLEGAL),
        (".1", valuerep.ILLEGAL),
        ("1.2.", valuerep.ILLEGAL),
        ("1.2.a", valuerep.ILLEGAL),
        ("1.2.-3", valuerep.ILLEGAL),
        ("1.2 ", valuerep.ILLEGAL),
        ("1.2\n", valuerep.ILLEGAL),
        ("1.²", valuerep.ILLEGAL),
    ],
)
def test_uid_problem(uid, problem):
    assert valuerep.uid_problem(uid) == problem


@pytest.mark.parametrize(
    ("moment", "zone", "expected"),
    [
        (Moment(date(2024, 6, 10)), ROME, "2024-06-10"),
        (Moment(date(2024, 6, 10), time(9, 15)), None, "2024-06-10"),
        (Moment(date(2024, 6, 10), time(9, 15)), ROME, "2024-06-10T09:15:00+02:00"),
        (Moment(date(2024, 1, 10), time(9, 15)), ROME, "2024-01-10T09:15:00+01:00"),
        (
            Moment(date(2024, 6, 10), time(9, 15, 30, 120_000), timedelta(hours=-3, minutes=-30)),
            ROME,
            "2024-06-10T09:15:30.120-03:30",
        ),
        (
            Moment(date(2024, 6, 10), time(0), timedelta(0)),
            ROME,
            "2024-06-10T00:00:00+00:00",
        ),
        # clocks went back at 03:00: the first of two 02:30 is meant
        (Moment(date(2024, 10, 27), time(2, 30)), ROME, "2024-10-27T02:30:00+02:00"),
        # clocks went forward at 02:00: there is no 02:30, the offset before the change holds
        (Moment(date(2024, 3, 31), time(2, 30)), ROME, "2024-03-31T02:30:00+01:00"),
        # local mean time had seconds, which FHIR cannot say
        (Moment(date(1850, 1, 1), time(2, 30)), ROME, "1850-01-01"),
    ],
)
def test_fhir_datetime(moment, zone, expected):
    assert fhir_datetime(moment, zone) == expected


MOMENTS = st.builds(
    Moment,
    st.dates(min_value=date(1000, 1, 1)),
    st.none() | st.times().map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)),
    st.none() | st.integers(-720, 840).map(lambda minutes: timedelta(minutes=minutes)),
)


@given(MOMENTS, st.sampled_from([None, "Europe/Rome", "America/St_Johns", "Asia/Kolkata"]))
def test_fhir_datetime_is_legal_and_says_the_same(moment, zone):
    text = fhir_datetime(moment, ZoneInfo(zone) if zone else None)
    assert FHIR_DATETIME.fullmatch(text)
    if "T" in text:
        parsed = datetime.fromisoformat(text)
        assert (parsed.date(), parsed.time()) == (moment.date, moment.time)
        if moment.utc_offset is not None:
            assert parsed.utcoffset() == moment.utc_offset
    else:
        assert date.fromisoformat(text) == moment.date


@given(st.dates(), st.times())
def test_dates_and_times_round_trip(day, at):
    assert valuerep.parse_date(day.strftime("%Y%m%d").zfill(8)) in (day, None)
    parsed = valuerep.parse_time(at.strftime("%H%M%S.%f"))
    assert parsed == at.replace(microsecond=at.microsecond // 1000 * 1000)


@given(st.text(max_size=30))
def test_parsers_refuse_or_return_but_never_break(text):
    for parse in (
        valuerep.parse_date,
        valuerep.parse_time,
        valuerep.parse_datetime,
        valuerep.parse_utc_offset,
        valuerep.parse_integer,
        valuerep.parse_decimal,
        valuerep.clean_identifier,
    ):
        with suppress(Unusable):
            parse(text)


def test_human_names():
    names = human_names("Müller^Jörg^Karl Otto^Dr.^Jr.=李^明=り^みん")
    assert names[0] == {
        "family": "Müller",
        "given": ["Jörg", "Karl", "Otto"],
        "prefix": ["Dr."],
        "suffix": ["Jr."],
    }
    extension = {"url": valuerep.EN_REPRESENTATION, "valueCode": "IDE"}
    assert names[1] == {"family": "李", "given": ["明"], "extension": [extension]}
    assert names[2]["extension"] == [{**extension, "valueCode": "SYL"}]


@pytest.mark.parametrize(
    ("person_name", "expected"),
    [
        ("", []),
        ("^^^", []),
        ("==", []),
        ("Cher", [{"family": "Cher"}]),
        ("^Ann", [{"given": ["Ann"]}]),
    ],
)
def test_sparse_human_names(person_name, expected):
    assert human_names(person_name) == expected


def test_ideographic_name_alone():
    assert [name.get("family") for name in human_names("=山田^太郎")] == ["山田"]
