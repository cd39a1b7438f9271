"""How UIDs, times and headers are stored."""

import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.dialects import sqlite

from flute_sync.dicom_errors import HeaderError, HeaderUidInvalid
from flute_sync.ledger.columns import HeaderStore, UtcTime, load_header, pack_uid, unpack_uid
from flute_sync.ledger_errors import LedgerCorrupt
from flute_sync.study import Code, Header, Plane, SeriesAttributes, StudyAttributes

DIALECT = sqlite.dialect()
NO_DOT = re.compile(r"(?<![0-9])\.|\.$")
UIDS = st.text("0123456789.", min_size=1, max_size=64).map(lambda uid: NO_DOT.sub("0", uid))


@given(UIDS)
def test_a_packed_uid_is_unpacked(uid: str) -> None:
    packed = pack_uid(uid)
    assert unpack_uid(packed) == uid
    assert len(packed) == (len(uid) + 1) // 2


@given(UIDS, UIDS)
def test_two_uids_are_packed_apart(first: str, second: str) -> None:
    assert (pack_uid(first) == pack_uid(second)) == (first == second)


@pytest.mark.parametrize(
    "uid", ["", "1.2a", "1.2f", "A", "1 2", "1.2\n", "1.²", "1." * 32 + "1", "...", "\u0661.2"]
)
def test_what_is_no_uid_is_refused(uid: str) -> None:
    with pytest.raises(HeaderUidInvalid):
        pack_uid(uid)


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])))
def test_times_are_kept_to_the_microsecond(time: datetime) -> None:
    column = UtcTime()
    stored = column.process_bind_param(time, DIALECT)
    assert column.process_result_value(stored, DIALECT) == time


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(TypeError):
        UtcTime().process_bind_param(datetime(2026, 1, 1), DIALECT)  # noqa: DTZ001


HEADERS = st.builds(
    Header,
    sop_class_uid=st.just("1.2"),
    study=st.builds(
        StudyAttributes,
        description=st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        procedure_codes=st.lists(st.builds(Code, st.text("ab"), st.text("cd"))).map(tuple),
    ),
    series=st.builds(
        SeriesAttributes,
        number=st.none() | st.integers(-(2**31), 2**31),
        diffusion_b_value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        diffusion_b_values=st.lists(st.floats(0, 3000), max_size=3).map(tuple),
        plane=st.none() | st.sampled_from(Plane),
        image_type=st.lists(st.text("XY")).map(tuple),
    ),
)


@given(HEADERS)
def test_a_stored_header_is_loaded(header: Header) -> None:
    assert load_header(HeaderStore().store(header).text) == header


def test_a_header_of_an_earlier_extraction_is_loaded() -> None:
    text = '{"sop_class_uid":"1.2","series":{"modality":"MR","diffusion_b_value":800.0}}'
    earlier = SeriesAttributes(modality="MR", diffusion_b_value=800.0)
    assert load_header(text) == Header("1.2", series=earlier)


@given(HEADERS, HEADERS)
def test_equal_headers_have_one_digest(first: Header, second: Header) -> None:
    store = HeaderStore()
    assert (store.store(first).digest == store.store(second).digest) == (first == second)


def test_a_header_that_json_cannot_carry_is_refused() -> None:
    with pytest.raises(HeaderError):
        HeaderStore().store(Header("1.2", title="\udcff"))


def test_a_damaged_header_is_said() -> None:
    with pytest.raises(LedgerCorrupt):
        load_header('{"sop_class_uid": 1')


def test_many_headers_are_forgotten_again() -> None:
    store = HeaderStore()
    headers = [Header(f"1.2.{number}") for number in range(5000)]
    digests = {store.store(header).digest for header in headers}
    assert len(digests) == 5000
    assert len(store._known) <= 1024
