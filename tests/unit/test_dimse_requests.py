"""Association requests of any make are put so that pynetdicom reads them."""

from struct import pack

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.pdu import A_ASSOCIATE_RQ

from flute_sync.sources.dimse_requests import readable
from tests.dimse import CT, EXPLICIT, association_request


def item(kind: int, body: bytes) -> bytes:
    return pack(">BxH", kind, len(body)) + body


def request(called: bytes, calling: bytes, *items: bytes) -> bytes:
    body = pack(">HH", 1, 0) + called.ljust(16) + calling.ljust(16) + bytes(32) + b"".join(items)
    return pack(">BxL", 1, len(body)) + body


def test_a_proper_request_stays_as_it_is() -> None:
    encoded = association_request(((CT, EXPLICIT),))
    assert readable(encoded) == encoded


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (b"CT\0\0\0\0\0\0\0\0\0\0\0\0\0\0", b"CT"),
        (b"CT\0rest", b"CT"),
        (b"C\\T", b"C?T"),
        (b"C\xe9T\n", b"C?T?"),
        (b" CT", b"CT"),
    ],
)
def test_titles_become_titles(written: bytes, read: bytes) -> None:
    assert readable(request(written, written))[10:42] == read.ljust(16) * 2


def test_what_is_not_known_is_skipped() -> None:
    context, length = item(0x10, b"1.2"), item(0x51, pack(">L", 16384))
    user = item(0x50, length + item(0x99, b"abc"))
    encoded = readable(request(b"A", b"B", context, item(0x77, b"what"), user))
    assert encoded == request(b"A", b"B", context, item(0x50, length))
    A_ASSOCIATE_RQ().decode(encoded)


def test_wrong_lengths_stay() -> None:
    cut_off = request(b"A", b"B", item(0x10, b"1.2") + b"\x99\0\0\x09short")
    assert readable(cut_off) == cut_off


@given(st.binary(max_size=200), st.integers(0, 100))
def test_any_bytes_are_taken(items: bytes, cut: int) -> None:
    encoded = readable(request(b"A", b"B", items)[: -cut or None])
    assert readable(encoded) == encoded
