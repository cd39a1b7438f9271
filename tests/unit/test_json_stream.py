"""A JSON array read piece by piece is the array, however it is cut; damage is never silent."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flute_sync.archive_errors import ArchiveAnswerTooLarge, ArchiveServerError
from flute_sync.sources.json_stream import objects

MIB = 1 << 20
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=8), VALUES, max_size=4), max_size=6)


def cut(text: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(text), *(place % (len(text) + 1) for place in places)})
    return [text[start:end] for start, end in pairwise(edges)]


@given(OBJECTS, st.lists(st.integers(0, 10**6), max_size=20), st.booleans(), st.integers(0, 2))
def test_reads_what_was_written_however_it_is_cut(values, places, escaped, indent):
    written = json.dumps(values, ensure_ascii=escaped, indent=indent or None)
    encoded = written.encode("utf-8", "replace")
    expected = json.loads(encoded)
    assert list(objects(cut(encoded, places), MIB)) == expected


@given(OBJECTS, st.integers(1, 10**6), st.integers(1, 64))
def test_an_answer_that_ends_early_is_an_error(values, missing, size):
    whole = json.dumps(values).encode()
    short = whole[: max(1, len(whole) - missing)] if len(whole) > missing else whole[:1]
    with pytest.raises(ArchiveServerError):
        list(objects([short[at : at + size] for at in range(0, len(short), size)], MIB))


@given(OBJECTS, st.lists(st.integers(0, 10**6), max_size=20))
def test_a_large_answer_is_read_as_a_small_one(values, places):
    large = [{"long": "x" * MIB}, *values]
    assert list(objects(cut(json.dumps(large).encode(), places), 2 * MIB)) == large


def test_complete_objects_of_a_large_answer_come_before_its_end_is_known():
    long = "x" * MIB

    def chunks():
        yield b'[{"a": 1}, {"b": "' + long.encode() + b'"},'
        raise AssertionError("read further than needed")

    reading = objects(chunks(), 2 * MIB)
    assert [next(reading), next(reading)] == [{"a": 1}, {"b": long}]


@pytest.mark.parametrize("size", [1, MIB])
def test_an_answer_is_read_to_its_end_for_its_connection_is_used_again(size):
    pieces = iter([b'[{"a": "' + b"x" * size + b'"}', b"]", b"\n"])
    assert list(objects(pieces, 2 * MIB)) == [{"a": "x" * size}]
    assert next(pieces, None) is None


@pytest.mark.parametrize("body", [b"", b"  \n", b"[]", b"\xef\xbb\xbf[ ]"])
def test_nothing_is_an_empty_array(body):
    assert list(objects([body], MIB)) == []


def test_one_object_without_an_array_is_taken():
    assert list(objects([b'{"00080018": {}}'], MIB)) == [{"00080018": {}}]


def test_bytes_that_are_not_utf8_are_replaced():
    assert list(objects([b'[{"a": "J\xf6rg"}]'], MIB)) == [{"a": "J�rg"}]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>error</html>",
        b'"text"',
        b"[1]",
        b'["a"]',
        b"[{},]",
        b"[{} {}]",
        b"[,{}]",
        b'[{"a": 1}',
        b'[{"a": tru}]',
        b'[{"a": ' + b"9" * 5000 + b"}]",
        b"[" + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"]",
    ],
)
def test_anything_else_is_an_error(body):
    with pytest.raises(ArchiveServerError):
        list(objects([body], MIB))


def test_an_element_without_end_is_bounded():
    taken = 0

    def endless():
        nonlocal taken
        yield b'[{"a": "'
        while True:
            taken += 65536
            yield b"x" * 65536

    with pytest.raises(ArchiveAnswerTooLarge):
        list(objects(endless(), MIB))
    assert taken < 4 * MIB


def test_a_large_element_in_small_pieces_costs_no_square():
    pieces = [b'[{"a": [', *([b"1," * 512] * 2000), b"1]}]"]
    (found,) = objects(pieces, 8 * MIB)
    assert len(found["a"]) == 512 * 2000 + 1
