"""Answers of C-FIND become rows, whatever their character set, padding and order."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.sources.dicom_json import JsonReader, uid_in
from flute_sync.sources.find_rows import ASKED, REQUIRED, Level, identifier, row_of
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.study import Issuer, PatientId

DEFAULT = HeaderSettings()
PATIENT = 0x0010_0010
PATIENT_ID = 0x0010_0020
STUDY = 0x0020_000D


def element(tag: int, vr: str, value: bytes, *, implicit: bool = False) -> bytes:
    group, number = tag >> 16, tag & 0xFFFF
    if implicit:
        return pack("<HHL", group, number, len(value)) + value
    return pack("<HH2sH", group, number, vr.encode(), len(value)) + value


def row(*elements: bytes, implicit: bool = False, settings: HeaderSettings = DEFAULT):
    return row_of(b"".join(elements), implicit=implicit, settings=settings)


@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("level", list(Level))
def test_a_request_is_elements_in_order_that_can_be_read_again(implicit, level):
    match = {STUDY: "1.2.3", PATIENT_ID: "Ä 1"}
    written = identifier(level, ASKED[level], match, implicit=implicit)
    found = row(written, implicit=implicit)
    assert uid_in(found, STUDY) == "1.2.3"
    assert found["00100020"] == {"vr": "LO", "Value": ["Ä 1"]}
    assert len(written) % 2 == 0
    assert b"ISO_IR 192" in written
    assert b"ISO_IR" not in identifier(level, REQUIRED[level], {}, implicit=implicit)


@pytest.mark.parametrize(
    ("charset", "name", "text"),
    [
        (b"ISO_IR 100", "Müller^Änne".encode("latin-1"), "Müller^Änne"),
        (b"ISO_IR 192", "Łukasz^Żółw".encode(), "Łukasz^Żółw"),
        (b"ISO-IR 100", "Müller".encode("latin-1"), "Müller"),
        (b"\\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou"),
    ],
)
def test_a_name_is_read_by_its_character_set(charset, name, text):
    found = row(element(0x0008_0005, "CS", charset), element(PATIENT, "PN", name))
    (value,) = found["00100010"]["Value"]
    assert value["Alphabetic"] == text
    assert value.get("Ideographic") in (None, "山田^太郎")


def test_a_pacs_that_names_no_character_set_has_that_of_the_settings():
    settings = HeaderSettings(default_character_set="ISO_IR 100")
    found = row(element(PATIENT, "PN", b"M\xfcller"), settings=settings)
    assert found["00100010"]["Value"] == [{"Alphabetic": "Müller"}]


def test_bytes_without_a_meaning_do_no_harm():
    found = row(element(0x0008_0005, "CS", b"bogus "), element(PATIENT, "PN", b"M\xfcller"))
    assert found["00100010"]["Value"] == [{"Alphabetic": "M\ufffdller"}]


@pytest.mark.parametrize("uid", [b"1.2.3", b"1.2.3\0", b"1.2.3 ", b"1.2.3\0\0\0"])
def test_padding_is_no_part_of_a_uid(uid):
    assert uid_in(row(element(STUDY, "UI", uid)), STUDY) == "1.2.3"


def test_elements_may_come_in_any_order_and_in_the_other_encoding():
    both = [element(STUDY, "UI", b"1.2.3\0", implicit=True)]
    both.append(element(PATIENT_ID, "LO", b"P1", implicit=True))
    for elements in (both, both[::-1]):
        found = row(*elements, implicit=False)
        assert (uid_in(found, STUDY), found["00100020"]["Value"]) == ("1.2.3", ["P1"])


def test_what_was_read_of_a_truncated_answer_counts():
    found = row(element(PATIENT_ID, "LO", b"P1"), element(STUDY, "UI", b"1.2.3\0")[:-3])
    assert found == {"00100020": {"vr": "LO", "Value": ["P1"]}}


def test_an_issuer_that_cannot_be_read_is_not_the_same_as_none():
    uids = [
        element(tag, "UI", b"1.2.3\0") for tag in (0x0008_0016, 0x0008_0018, STUDY, 0x0020_000E)
    ]
    issuer = element(0x0010_0021, "LO", b"x" * 20_000)
    found = row(element(PATIENT_ID, "LO", b"P1"), issuer, *uids)
    header = JsonReader().received(found).instance.header
    assert header.patient.id != PatientId("P1")
    assert {remark.tag for remark in header.remarks} == {"(0010,0021)"}
    good = row(element(PATIENT_ID, "LO", b" P1 "), element(0x0010_0021, "LO", b"SITE"), *uids)
    assert JsonReader().received(good).instance.header.patient.id == PatientId("P1", Issuer("SITE"))


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes_are_a_row(data, implicit):
    assert isinstance(row(data, implicit=implicit), dict)
