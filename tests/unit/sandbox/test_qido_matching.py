"""Attribute matching of QIDO-RS (PS3.4 C.2.2.2)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.sandbox.archive.headers import Header
from flute_sync.sandbox.archive.qido_rs import BadQuery, matches, parse_query

HEADER: Header = {
    "00080020": {"vr": "DA", "Value": ["20240301"]},
    "00080030": {"vr": "TM", "Value": ["091500.25"]},
    "00080050": {"vr": "SH", "Value": ["A[1]"]},
    "00080061": {"vr": "CS", "Value": ["MR", "SEG"]},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Esempio^Primo"}]},
    "0020000D": {"vr": "UI", "Value": ["1.2.3"]},
    "00201206": {"vr": "IS", "Value": [6]},
    "00080090": {"vr": "PN"},
}


@pytest.mark.parametrize(
    ("key", "wanted", "expected"),
    [
        ("00080020", "20240301", True),
        ("00080020", "20240301-20240301", True),
        ("00080020", "20240302-", False),
        ("00080020", "-20240229", False),
        ("00080030", "0915-0916", True),
        ("00080030", "0916-", False),
        ("00080050", "A[1]", True),
        ("00080050", "A1", False),
        ("00080050", "a[1]", False),
        ("00080050", "A*", True),
        ("00080050", "A???", True),
        ("00080050", "A??", False),
        ("00080061", "SEG", True),
        ("00080061", "CT", False),
        ("00100010", "esempio*", True),
        ("0020000D", "1.2.3", True),
        ("0020000D", "1.2", False),
        ("0020000D", "1.2,1.2.3", True),
        ("0020000D", "1.2\\1.2.3", True),
        ("00201206", "6", True),
        ("00080090", "*", False),
        ("00081030", "MRI", False),
    ],
)
def test_matching(key, wanted, expected):
    assert matches(HEADER, key, wanted) is expected


@given(st.dates(), st.dates(), st.dates())
def test_date_ranges_are_closed(day, one, other):
    low, high = sorted((one, other))
    header = {"00080020": {"vr": "DA", "Value": [day.strftime("%Y%m%d").rjust(8, "0")]}}
    wanted = "-".join(each.strftime("%Y%m%d").rjust(8, "0") for each in (low, high))
    assert matches(header, "00080020", wanted) == (low <= day <= high)


def test_a_query_is_understood():
    query = parse_query(
        [
            ("PatientID", "P1"),
            ("0020000d", "1.2"),
            ("limit", "5"),
            ("AccessionNumber", ""),
            ("includefield", "StudyDescription,00081032"),
            ("fuzzymatching", "true"),
        ]
    )
    assert query.keys == (("00100020", "P1"), ("0020000D", "1.2"))
    assert query.include == {"00081030", "00081032"}
    assert (query.offset, query.limit) == (0, 5)


@pytest.mark.parametrize(
    ("name", "value"), [("Nonsense", "1"), ("limit", "-1"), ("offset", "x"), ("limit", "³")]
)
def test_a_bad_query_is_refused(name, value):
    with pytest.raises(BadQuery):
        parse_query([(name, value)])
