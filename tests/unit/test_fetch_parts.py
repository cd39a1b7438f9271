"""What comes is judged as it comes: whole files pass, cut ones do not, wherever they are cut."""

import hashlib
import io
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.daemon.fetch_parts import HELD_BYTES, IncomingInstance, IncomingPicture
from flute_sync.dicom_errors import HeaderError
from flute_sync.fetch_errors import InstanceTooLarge, InstanceTruncated
from flute_sync.sandbox.studies import SyntheticPatient, part10, prostate_mpmri
from flute_sync.sources.header import HeaderReader
from tests.headers import real_files

WHOLE = part10(next(prostate_mpmri(SyntheticPatient(), slices=1, size=16)))
LARGEST = 1 << 30
FILES = real_files()
UNFINISHED = {
    "rtplan_truncated.dcm",
    "MR_truncated.dcm",
    "emri_small_jpeg_2k_lossless_too_short.dcm",
}


class File(io.BytesIO):
    """Where it is written to; what was written can be read after it was closed."""

    def close(self) -> None:
        self.seek(0)

    def drop(self) -> None:
        self.truncate(0)


def incoming(
    data: bytes, *sizes: int, stated: int | None = None, held_bytes: int = HELD_BYTES
) -> IncomingInstance[File]:
    """Feed data in pieces of these sizes, the last one over and over."""
    one = IncomingInstance(File, LARGEST, stated, HeaderReader(), held_bytes)
    left = list(sizes) or [len(data) or 1]
    position = 0
    while position < len(data):
        size = left.pop(0) if len(left) > 1 else left[0]
        one.feed(data[position : position + size])
        position += size
    return one


@pytest.mark.parametrize("held_bytes", [0, 1500, HELD_BYTES])
@pytest.mark.parametrize("path", FILES, ids=[path.name for path in FILES])
def test_real_files_are_whole(path: Path, held_bytes: int) -> None:
    data = path.read_bytes()
    try:
        expected = HeaderReader().read(data)
    except HeaderError:
        return  # nothing that an archive would take
    if path.name in UNFINISHED:
        with pytest.raises(InstanceTruncated):
            incoming(data, 1000, held_bytes=held_bytes).received()
        return
    one = incoming(data, 1000, held_bytes=held_bytes)
    assert one.received() == expected
    assert one.written().read() == data
    assert one.sha256 == hashlib.sha256(data).hexdigest()


@given(
    st.integers(1, len(WHOLE) - 1),
    st.lists(st.integers(1, 700), min_size=1, max_size=4),
    st.sampled_from([0, 300, HELD_BYTES]),
)
def test_in_whatever_pieces_a_file_is_whole_or_not(
    cut: int, sizes: list[int], held_bytes: int
) -> None:
    assert incoming(WHOLE, *sizes, held_bytes=held_bytes).received()
    try:
        incoming(WHOLE[:cut], *sizes, held_bytes=held_bytes).received()
    except (InstanceTruncated, HeaderError):
        return
    # What is cut exactly between two elements is a whole file, though not the one that was sent.
    last = pydicom.dcmread(io.BytesIO(WHOLE[:cut]), force=True)
    again = io.BytesIO()
    last.save_as(again, enforce_file_format=False)
    assert len(again.getvalue()) == cut


def test_as_many_bytes_as_announced() -> None:
    assert incoming(WHOLE, stated=len(WHOLE)).received()
    with pytest.raises(InstanceTruncated):
        incoming(WHOLE, stated=len(WHOLE) + 1).received()
    with pytest.raises(InstanceTruncated):
        incoming(b"").received()


def test_no_more_than_the_settings_allow() -> None:
    with pytest.raises(InstanceTooLarge):
        IncomingInstance(File, 10, None, HeaderReader()).feed(bytes(11))


@pytest.mark.parametrize(
    ("essence", "data", "whole"),
    [
        ("image/jpeg", b"\xff\xd8\xff\xe0" + bytes(50) + b"\xff\xd9", True),
        ("image/jpeg", b"\xff\xd8\xff\xe0" + bytes(50), False),
        ("image/jpeg", b"<html></html>", False),
        ("image/png", b"\x89PNG\r\n\x1a\n" + bytes(50) + b"IEND\xaeB`\x82", True),
        ("image/png", b"\x89PNG\r\n\x1a\n" + bytes(50), False),
        ("image/png", b"", False),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_picture_has_a_begin_and_an_end(
    essence: str, data: bytes, whole: bool, size: int
) -> None:
    one = IncomingPicture(File, LARGEST, essence)
    for position in range(0, len(data), size):
        one.feed(data[position : position + size])
    if whole:
        one.end()
    else:
        with pytest.raises(InstanceTruncated):
            one.end()
