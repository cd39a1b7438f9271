"""Multipart bodies, legal and not, cut anywhere."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flute_sync.sources.multipart import (
    MediaType,
    MultipartReader,
    PartEnd,
    PartHead,
    media_type,
)
from flute_sync.upload_errors import MultipartError

BCHARS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ'()+_,-./:=?"
boundaries = st.text(BCHARS + " ", max_size=69).flatmap(
    lambda start: st.sampled_from(BCHARS).map(lambda end: start + end)
)


def read(body: bytes, boundary: str, cuts: Iterable[int] = ()) -> list[tuple[dict, bytes]]:
    reader = MultipartReader(boundary)
    places = [0, *sorted(cuts), len(body)]
    parts: list[tuple[dict, bytes]] = []
    whole = 0
    for start, stop in pairwise(places):
        for piece in reader.feed(body[start:stop]):
            if isinstance(piece, PartHead):
                parts.append((dict(piece.headers), b""))
            elif isinstance(piece, PartEnd):
                whole += 1
            else:
                assert piece
                parts[-1] = (parts[-1][0], parts[-1][1] + piece)
    reader.close()
    assert whole == len(parts)
    return parts


def related(data: Sequence[bytes], boundary: str, padding: bytes = b"") -> bytes:
    delimiter = b"--" + boundary.encode()
    parts = b"".join(delimiter + padding + b"\r\nX: y\r\n\r\n" + one + b"\r\n" for one in data)
    return parts + delimiter + b"--" + padding


@st.composite
def uploads(draw: st.DrawFn) -> tuple[str, list[bytes], bytes, list[int]]:
    """A boundary, data that likes to look like it, the body, and where to cut it."""
    boundary = draw(boundaries)
    delimiter = b"\r\n--" + boundary.encode()
    lures = [b"\r\n", b"\r", b"--", delimiter[:-1], delimiter + b"x", delimiter + b"-x", b"\0"]
    data = draw(st.lists(st.lists(st.sampled_from(lures) | st.binary(max_size=9)).map(b"".join)))
    data = [one for one in data if (delimiter + b"--") not in one + b"\r\n"]
    preamble = draw(st.sampled_from([b"", b"\r\n", b"read me\r\n", b"--\r\n"]))
    epilogue = draw(st.sampled_from([b"", b"\r\n", b"\r\nbye", delimiter + b"\r\n"]))
    padding = draw(st.sampled_from([b"", b" ", b"\t  "]))
    body = preamble + related(data, boundary, padding) + epilogue
    cuts = draw(st.lists(st.integers(0, len(body)), max_size=12))
    return boundary, data, body, cuts


def legal(boundary: str, data: Sequence[bytes]) -> bool:
    """A boundary line must not be in the data: other tools would not find these parts either."""
    delimiter = b"\r\n--" + boundary.encode()
    for one in data:
        rest = b"\r\n" + one + delimiter
        while (found := rest.find(delimiter)) >= 0 and found + len(delimiter) < len(rest):
            rest = rest[found + len(delimiter) :]
            if rest.startswith(b"--") or rest.lstrip(b" \t").startswith(b"\r\n"):
                return False
    return True


@given(uploads())
@example(("b", [b"", b"\r\n"], related([b"", b"\r\n"], "b"), [8]))
def test_parts_come_out_as_they_went_in_wherever_the_body_is_cut(
    upload: tuple[str, list[bytes], bytes, list[int]],
) -> None:
    boundary, data, body, cuts = upload
    if legal(boundary, data):
        assert [one for _, one in read(body, boundary, cuts)] == data


def test_every_cut_of_an_awkward_body() -> None:
    body = (
        b"preamble\r\n--b \t\r\nContent-Type: a;\r\n  x=y\r\n\r\ndata\r\n--bx\r\n--b\r\n\r\nxx\r\n"
        b"\r\n--b\r\n\r\n--b\r\nA: b\r\n\r\n--b--\r\nepilogue\r\n--b\r\n"
    )
    expected = [
        ({b"content-type": b"a; x=y"}, b"data\r\n--bx"),
        ({}, b"xx\r\n"),
        ({}, b""),
        ({b"a": b"b"}, b""),
    ]
    assert read(body, "b", range(len(body))) == expected
    for first in range(len(body)):
        assert read(body, "b", [first, min(first + 3, len(body))]) == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b\r\n\r\ndata",
        b"--b\r\n\r\ndata\r\n--b",
        b"--b\r\n\r\ndata\r\n--b-",
        b"no delimiter at all",
        b"x--b\r\n\r\ndata\r\n--c--",
        b"--b\r\nnot a header\r\n\r\ndata\r\n--b--",
        b"--b\r\nA b: c\r\n\r\ndata\r\n--b--",
        b"--b\r\nA: c\nd\r\n\r\ndata\r\n--b--",
        b"--b\r\nA: " + b"x" * 20_000 + b"\r\n\r\ndata\r\n--b--",
        b"--b\r\nA: " + b"x" * 20_000,
    ],
)
def test_what_is_not_multipart_is_refused(body: bytes) -> None:
    with pytest.raises(MultipartError):
        read(body, "b")


@pytest.mark.parametrize("boundary", ["", " ", "x ", "é", "a\r\nb", "x" * 201])
def test_an_impossible_boundary_is_refused(boundary: str) -> None:
    with pytest.raises(MultipartError):
        MultipartReader(boundary)


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=5))
def test_hostile_bytes_raise_nothing_else(body: bytes, cuts: list[int]) -> None:
    body = b"--b\r\n" + body
    try:
        read(body, "b", [min(cut, len(body)) for cut in cuts])
    except MultipartError:
        return


def test_data_is_not_held_back() -> None:
    reader = MultipartReader("b")
    list(reader.feed(b"--b\r\n\r\n"))
    assert list(reader.feed(b"x" * 1000)) == [b"x" * 1000]
    assert list(reader.feed(b"y\r\n--")) == [b"y"]
    assert list(reader.feed(b"z")) == [b"\r\n--z"]


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"text/plain", MediaType("text/plain", {})),
        (b" Text/Plain ; ", MediaType("text/plain", {})),
        (b'a/b; x="1;2"; Y=z/z', MediaType("a/b", {"x": "1;2", "y": "z/z"})),
        (b'a/b;x="a\\"b\\\\"', MediaType("a/b", {"x": 'a"b\\'})),
        (b"a/b;;x=1;", MediaType("a/b", {"x": "1"})),
        (b"a/b; x = 1", MediaType("a/b", {"x": "1"})),
        (b"a/b; x=1; x=1", MediaType("a/b", {"x": "1"})),
        (b"a/b; x=1; x=2", None),
        (b"a/b, c/d", None),
        (b'a/b; x="1', None),
        (b"a", None),
        (b"", None),
    ],
)
def test_media_types(field: bytes, expected: MediaType | None) -> None:
    assert media_type(field) == expected


@given(st.text(BCHARS + ' "\\', min_size=1))
def test_a_quoted_parameter_says_what_it_says(value: str) -> None:
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    found = media_type(f'multipart/related; boundary="{quoted}"'.encode())
    assert found is not None
    assert found.parameters["boundary"] == value
