"""Hostile and broken headers: a typed refusal every time, and never much memory or time."""

import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import repeat
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import uid

from flute_sync.dicom_errors import HeaderError, HeaderTooLarge
from flute_sync.sources.header import HeaderReader, HeaderSettings
from flute_sync.sources.header_part10 import Part10Parser
from tests.headers import element, example, part10, pieces, real_files

READER = HeaderReader()
DATA = part10(example())
EXPECTED = READER.read(DATA)
SMALL = [path for path in real_files() if path.stat().st_size < 40_000]
ITEM = b"\xfe\xff\x00\xe0"
UNDEFINED = b"\xff\xff\xff\xff"


def meta(transfer_syntax_uid: str) -> bytes:
    value = transfer_syntax_uid.encode()
    return bytes(128) + b"DICM" + element(0x0002_0010, "UI", value + b"\0" * (len(value) % 2))


EXPLICIT = meta(uid.ExplicitVRLittleEndian)
DEFLATED = meta(uid.DeflatedExplicitVRLittleEndian)


def deflated(data: bytes) -> bytes:
    squeeze = zlib.compressobj(9, wbits=-15)
    return DEFLATED + squeeze.compress(data) + squeeze.flush()


# -- cut off -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "syntax",
    [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian],
)
def test_cut_off_anywhere(syntax: uid.UID):
    data = part10(example(), syntax)
    last_uid = data.index(b"1.2.3.1\0", data.index(b"1.2.3\0") + 1)
    for size in range(len(data)):
        try:
            received = READER.read(data[:size])
        except HeaderError as refusal:
            code = refusal.code
            assert code in {"DICOM-UNREADABLE", "DICOM-TRUNCATED", "DICOM-UID-MISSING"}
        else:  # cut off between two elements, which nobody can see
            assert size > last_uid
            assert received[:2] == EXPECTED[:2]


@given(st.binary(max_size=300))
@settings(max_examples=300)
def test_any_bytes(data: bytes):
    for whole in (data, EXPLICIT + data, DEFLATED + data, meta("1.2.840.10008.1.2") + data):
        with suppress(HeaderError):
            READER.read(whole)
    for syntax in ("1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99", "ü"):
        with suppress(HeaderError):
            READER.read(data, syntax)


@pytest.mark.parametrize("path", SMALL, ids=[path.name for path in SMALL])
@settings(max_examples=6)
@given(draw=st.data())
def test_real_files_with_changed_bytes(path: Path, draw: st.DataObject):
    data = bytearray(path.read_bytes()[:8192])
    changes = draw.draw(
        st.lists(st.tuples(st.integers(0, len(data) - 1), st.binary(max_size=8)), max_size=12)
    )
    for at, raw in changes:
        data[at : at + len(raw)] = raw
    with suppress(HeaderError):
        READER.read(bytes(data))


# -- too much ------------------------------------------------------------------------------------


def test_deflate_bomb():
    bomb = deflated(element(0x0009_1001, "UN", bytes(30_000_000)))
    assert len(bomb) < 50_000
    with pytest.raises(HeaderTooLarge):
        READER.read(bomb)
    assert _peak_bytes(bomb) < 2_000_000


def _peak_bytes(data: bytes) -> int:
    tracemalloc.start()
    with suppress(HeaderError):
        READER.read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_a_deflated_file_is_inflated_no_further_than_needed():
    header = DATA[144 + int.from_bytes(DATA[140:144], "little") :]
    bomb = deflated(header + element(0x7FE0_0010, "OW", bytes(30_000_000)))
    assert READER.read(bomb) == EXPECTED


@pytest.mark.timeout(120)
@pytest.mark.parametrize("size", [1000, 65_536, 10_000_000])
def test_what_stands_behind_deflated_data_without_images_is_passed_over(size: int):
    """More of it than is inflated at once, and something behind its end."""
    header = DATA[144 + int.from_bytes(DATA[140:144], "little") :]
    noise = element(0x0009_1001, "UN", bytes(_noise(100_000)))
    data = deflated(noise + header) + bytes(8)
    parser = Part10Parser(HeaderSettings())
    for start in range(0, len(data), size):
        parser.feed(data[start : start + size])
    parser.finish()
    assert READER.read(data) == READER.read(deflated(noise + header))


def _noise(count: int) -> Iterator[int]:
    """Yield bytes that deflate little."""
    value = 1
    for _ in range(count):
        value = value * 75 % 65_537
        yield value & 0xFF


def nested(depth: int, tag: bytes, *, undefined: bool) -> bytes:
    """Nest sequences of one tag; the innermost is empty."""
    if undefined:
        return (tag + b"SQ\0\0" + UNDEFINED + ITEM + UNDEFINED) * depth
    inner = b""
    for _ in range(depth):
        item = ITEM + len(inner).to_bytes(4, "little") + inner
        inner = tag + b"SQ\0\0" + len(item).to_bytes(4, "little") + item
    return inner


@pytest.mark.parametrize(
    ("tag", "undefined"),
    [(b"\x09\x00\x01\x10", True), (b"\x32\x00\x64\x10", True), (b"\x32\x00\x64\x10", False)],
)
def test_deep_nesting(tag: bytes, undefined: bool):
    data = part10(example(RequestAttributesSequence=None))
    at = data.index(b"\x38\x00\x10\x00LO")
    with pytest.raises(HeaderError, match="nested deeper"):
        READER.read(data[:at] + nested(3000, tag, undefined=undefined) + data[at:])


def test_deep_nesting_that_nobody_looks_into():
    at = DATA.index(b"\x10\x00\x10\x00PN")
    private = nested(3000, b"\x09\x00\x01\x10", undefined=False)
    assert READER.read(DATA[:at] + private + DATA[at:]) == EXPECTED


def test_elements_without_end():
    data = EXPLICIT + element(0x0009_1001, "LO", b"") * 40
    with pytest.raises(HeaderTooLarge):
        HeaderReader(HeaderSettings(max_elements=30)).read(data)
    nested_elements = EXPLICIT + b"\x09\0\1\x10SQ\0\0" + UNDEFINED + (ITEM + bytes(4)) * 40
    with pytest.raises(HeaderTooLarge):
        HeaderReader(HeaderSettings(max_elements=30)).read(nested_elements)


def test_wanted_values_are_bounded():
    reader = HeaderReader(HeaderSettings(max_header_bytes=100_000))
    huge = b"\x08\0\x32\x10SQ\0\0" + (10**9).to_bytes(4, "little")
    for chunk in (1000, 10**6):
        parser = reader.parser()
        fed = 0
        for piece in pieces(EXPLICIT + huge + bytes(10**6), repeat(chunk)):
            fed += len(piece)
            if parser.feed(piece):
                break
        assert fed <= max(chunk, 101_000)
        with pytest.raises(HeaderTooLarge):
            parser.finish()
    endless = b"\x08\0\x32\x10SQ\0\0" + UNDEFINED + (ITEM + b"\x10\x27\0\0" + bytes(10_000)) * 20
    with pytest.raises(HeaderTooLarge):
        reader.read(EXPLICIT + endless)


def test_a_huge_private_value_is_skipped_without_being_kept():
    at = DATA.index(b"\x10\x00\x10\x00PN")
    blob = b"\x09\0\1\x10UN\0\0" + (64 * 1024 * 1024).to_bytes(4, "little")
    parser = HeaderReader(HeaderSettings(max_header_bytes=100_000)).parser()
    assert not parser.feed(DATA[:at] + blob)
    for _ in range(64):
        assert not parser.feed(bytes(1024 * 1024))
    assert parser.feed(DATA[at:] + element(0x7FE0_0010, "OW", b"")) is True
    assert parser.finish() == EXPECTED


def test_long_text_is_left_out():
    data = DATA.replace(
        element(0x0008_1030, "LO", b"MRI prostate"), element(0x0008_1030, "UC", b"x" * 20_000)
    )
    found = READER.read(data).instance.header
    assert found.study.description is None
    assert [(r.code, r.tag) for r in found.remarks] == [("value-too-long", "(0008,1030)")]


# -- wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (element(0x0008_0060, "CS", b"CT"), "twice"),
        (b"\x09\0\1\x10UN\0\0" + (10**6).to_bytes(4, "little"), "(0009,1001)"),
        (b"\x09\0\1\x10SQ\0\0" + UNDEFINED + b"\x08\0\x60\0CS\2\0MR", "(0009,1001) holds"),
        (b"\x09\0\1\x10SQ\0\0" + UNDEFINED + ITEM + UNDEFINED + ITEM + bytes(12), "does not end"),
        (b"\xfe\xff\xdd\xe0\0\0\0\0", "(FFFE,E0DD)"),
        (b"\xfe\xff\x0d\xe0\0\0\0\0", "(FFFE,E00D)"),
        (b"\x09\0\1\x10OB\0\0" + UNDEFINED, "(0009,1001)"),
        (element(0x0032_1064, "SQ", b"no item at all"), "(0032,1064) holds something"),
        (element(0x0032_1064, "SQ", ITEM + b"\xff\0\0\0"), "(0032,1064) ends within"),
        (element(0x0032_1064, "SQ", ITEM + b"\xff"), "(0032,1064) ends within"),
        (element(0x0032_1064, "SQ", ITEM + UNDEFINED + element(0x0008_0100, "SH", b"")), "0100)"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(wrong: bytes, said: str):
    data = part10(example(RequestAttributesSequence=None))
    at = data.index(b"\x38\x00\x10\x00LO")
    with pytest.raises(HeaderError) as refusal:
        READER.read(data[:at] + wrong + data[at:])
    assert said in refusal.value.sentence
    assert refusal.value.tag is not None
    assert refusal.value.study_instance_uid == "1.2.3"
    assert refusal.value.sop_instance_uid == "1.2.3.1.1.7"


@pytest.mark.parametrize("data", [b"", b"DICM", b"GIF89a" * 40, bytes(132), b"{}", bytes(10_000)])
def test_what_is_not_dicom(data: bytes):
    with pytest.raises(HeaderError) as refusal:
        READER.read(data)
    assert "not DICOM" in refusal.value.sentence


# -- pieces --------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(
    st.sampled_from(
        [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.DeflatedExplicitVRLittleEndian]
    ),
    st.lists(st.integers(1, 400), min_size=1),
)
def test_pieces_make_no_difference(syntax: uid.UID, sizes: list[int]):
    parser = READER.parser()
    for piece in pieces(part10(example(), syntax), iter(sizes)):
        parser.feed(piece)
    assert parser.finish() == EXPECTED


def test_a_value_in_single_bytes_costs_no_more_than_its_length():
    items = (ITEM + b"\x08\0\0\0" + element(0x0008_0100, "SH", b"")) * 1
    codes = b"\x08\0\x32\x10SQ\0\0" + (len(items) * 12_000).to_bytes(4, "little") + items * 12_000
    data = EXPLICIT + codes
    started = process_time()
    parser = READER.parser()
    for at in range(len(data)):
        parser.feed(data[at : at + 1])
    assert process_time() - started < 5


def test_the_parser_takes_no_more_after_the_header():
    parser = READER.parser()
    assert parser.feed(DATA + element(0x7FE0_0010, "OW", bytes(10)))
    assert parser.feed(b"anything")
    assert parser.finish() == parser.finish() == EXPECTED


def test_a_refusal_stays():
    parser = READER.parser()
    assert parser.feed(bytes(1000))
    assert parser.feed(DATA)
    for _ in range(2):
        with pytest.raises(HeaderError, match="not DICOM"):
            parser.finish()


def test_only_the_header_of_a_file_is_read():
    stream = BytesIO(DATA + element(0x7FE0_0010, "OW", bytes(10_000_000)))
    assert READER.read(stream) == EXPECTED
    assert stream.tell() < 1_000_000
