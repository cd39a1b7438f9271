"""Read multipart/related as it comes (RFC 2046 5.1, RFC 2387, PS3.18 8.6.1.2, 2026b).

`MultipartReader` cuts a stream into parts without holding any: what a part's data is goes out in
the pieces in which it came. Bytes that only look like a delimiter are data.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from flute_sync.upload_errors import MultipartError

_LARGEST_HEAD_BYTES: Final = 16384
_LARGEST_PADDING_BYTES: Final = 256
_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE: Final = re.compile(rb"[ \t]*(%s/%s)[ \t]*" % (_TOKEN, _TOKEN))
_PARAMETER: Final = re.compile(
    rb';[ \t]*(?:(%s)[ \t]*=[ \t]*(?:"((?:[^"\\\r\n]|\\[^\r\n])*)"|([^\s";,]+))[ \t]*)?' % _TOKEN
)
_FIELD: Final = re.compile(rb"(%s)[ \t]*:[ \t]*(.*?)[ \t]*" % _TOKEN, re.DOTALL)
_FOLD: Final = re.compile(rb"[ \t]*\r\n[ \t]+")
_QUOTED_PAIR: Final = re.compile(rb"\\(.)", re.DOTALL)
_BOUNDARY: Final = re.compile(rb"[ -~]{0,199}[!-~]")


@dataclass(frozen=True, slots=True)
class MediaType:
    """A Content-Type: the type in lower case, parameter names in lower case, values as given."""

    essence: str
    parameters: Mapping[str, str]


def media_type(field: bytes) -> MediaType | None:
    """Read a Content-Type, or None where it is not one (RFC 9110 8.3).

    Parameter values need not be quoted even where the standard asks for it, since
    ``type=application/dicom`` is what many senders write.
    """
    match = _MEDIA_TYPE.match(field)
    if match is None:
        return None
    parameters: dict[str, str] = {}
    position = match.end()
    while position < len(field):
        parameter = _PARAMETER.match(field, position)
        if parameter is None:
            return None
        position = parameter.end()
        name, quoted, plain = parameter.groups()
        if name is not None:
            value = plain if quoted is None else _QUOTED_PAIR.sub(rb"\1", quoted)
            if parameters.setdefault(name.decode().lower(), value.decode("latin-1")) != (
                value.decode("latin-1")
            ):
                return None
    return MediaType(match[1].decode().lower(), parameters)


@dataclass(frozen=True, slots=True)
class PartHead:
    """A part begins; header names are in lower case, folded values unfolded."""

    headers: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class PartEnd:
    """A part is complete: its delimiter was seen."""


PART_END: Final = PartEnd()
Piece = PartHead | bytes | PartEnd


class MultipartReader:
    """Cut a body into parts.

    Parameters
    ----------
    boundary
        As in the Content-Type, unquoted. Longer ones and other visible ASCII than RFC 2046 5.1.1
        has are taken too.

    Raises
    ------
    MultipartError
        When the boundary is not legal.
    """

    def __init__(self, boundary: str) -> None:
        try:
            encoded = boundary.encode("ascii")
        except UnicodeEncodeError:
            encoded = b""
        if not _BOUNDARY.fullmatch(encoded):
            raise MultipartError("the boundary is empty, too long or not ASCII")
        self._delimiter = b"\r\n--" + encoded
        # The first delimiter may stand at the very start, as if after a line of its own.
        self._rest = b"\r\n"
        self._read = self._preamble
        self.ended = False

    def feed(self, chunk: bytes) -> Iterator[Piece]:
        """Yield what a chunk holds; the iterator must be used up before the next chunk.

        Raises
        ------
        MultipartError
            When the bytes cannot be parts.
        """
        data = self._rest + chunk if self._rest else chunk
        self._rest = b""
        position = 0
        while position < len(data):
            reader = self._read
            pieces, position = reader(data, position)
            yield from pieces
            if position < len(data) and self._read == reader:
                self._rest = data[position:]
                return

    def close(self) -> None:
        """Say that the body has ended.

        Raises
        ------
        MultipartError
            When the closing delimiter was not seen: the body is cut off.
        """
        if not self.ended:
            raise MultipartError("the body ends before its closing delimiter")

    # Each reader returns pieces and where it stopped. Where it stops before the end and stays the
    # reader, it needs more bytes: the rest is read again with the next chunk.

    def _preamble(self, data: bytes, start: int) -> tuple[tuple[Piece, ...], int]:
        found, stop = self._delimited(data, start)
        if found:
            self._read = self._after_delimiter
        return (), stop

    def _data(self, data: bytes, start: int) -> tuple[tuple[Piece, ...], int]:
        found, stop = self._delimited(data, start)
        pieces: tuple[Piece, ...] = (data[start:stop],) if stop > start else ()
        if found:
            self._read = self._after_delimiter
            pieces += (PART_END,)
        return pieces, stop

    def _delimited(self, data: bytes, start: int) -> tuple[bool, int]:
        """Find a delimiter line; else where bytes begin that may become one."""
        search = start
        while (found := data.find(self._delimiter, search)) >= 0:
            verdict = _line_end(data, found + len(self._delimiter))
            if verdict is None:
                return False, found
            if verdict:
                return True, found
            search = found + 1
        return False, self._partial(data, search)

    def _partial(self, data: bytes, start: int) -> int:
        last = data.rfind(b"\r", max(start, len(data) - len(self._delimiter) + 1))
        if last >= 0 and self._delimiter.startswith(data[last:]):
            return last
        return len(data)

    def _after_delimiter(self, data: bytes, start: int) -> tuple[tuple[Piece, ...], int]:
        after = start + len(self._delimiter)
        if data.startswith(b"--", after):
            self.ended = True
            self._read = self._epilogue
            return (), len(data)
        self._read = self._head
        # The line's own CRLF is kept: a part without headers begins with the next one.
        return (), data.index(b"\r\n", after)

    def _head(self, data: bytes, start: int) -> tuple[tuple[Piece, ...], int]:
        end = data.find(b"\r\n\r\n", start)
        if (len(data) if end < 0 else end) - start > _LARGEST_HEAD_BYTES:
            raise MultipartError("the headers of a part are too long")
        if end < 0:
            return (), start
        self._read = self._blank_line
        return (PartHead(_fields(data[start + 2 : end])),), end + 2

    def _blank_line(self, data: bytes, start: int) -> tuple[tuple[Piece, ...], int]:
        # Its CRLF is that of the delimiter where the part is empty.
        candidate = data[start : start + len(self._delimiter)]
        verdict: bool | None = False
        if candidate == self._delimiter:
            verdict = _line_end(data, start + len(self._delimiter))
        elif self._delimiter.startswith(candidate):
            verdict = None
        if verdict is None:
            return (), start
        self._read = self._after_delimiter if verdict else self._data
        return ((PART_END,), start) if verdict else ((), start + 2)

    def _epilogue(self, data: bytes, start: int) -> tuple[tuple[Piece, ...], int]:
        return (), max(start, len(data))


def _line_end(data: bytes, position: int) -> bool | None:
    """Tell whether a delimiter ends here; None when it takes more bytes to tell."""
    tail = data[position : position + _LARGEST_PADDING_BYTES]
    if tail.startswith(b"--"):
        return True
    padding = tail.lstrip(b" \t")
    if padding.startswith(b"\r\n"):
        return True
    undecided = padding in (b"", b"\r") or tail == b"-"
    return None if undecided and len(tail) < _LARGEST_PADDING_BYTES else False


def _fields(block: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    if not block:
        return fields
    for line in _FOLD.sub(b" ", block).split(b"\r\n"):
        match = _FIELD.fullmatch(line)
        if match is None or b"\r" in line or b"\n" in line or b"\0" in line:
            raise MultipartError("a part's header is not one of RFC 2045")
        fields[match[1].lower()] = match[2]
    return fields
