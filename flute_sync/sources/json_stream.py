"""Reads a JSON array element by element, so that memory holds one of them and not the answer."""

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from flute_sync.archive_errors import ArchiveAnswerTooLarge, ArchiveServerError

_SPACE: Final = " \t\r\n"


def _constant(_: str) -> None:
    """Read NaN and Infinity, which JSON does not have, as no value."""


_DECODER: Final = json.JSONDecoder(parse_constant=_constant)


def objects(chunks: Iterable[bytes], largest: int) -> Iterator[dict[str, Any]]:
    """Yield the objects of an array, or the single object that stands in its place.

    Nothing at all is an empty array. Bytes that are not UTF-8 become U+FFFD.

    Parameters
    ----------
    chunks
        The text as it arrives, cut anywhere.
    largest
        How many characters one element may have.

    Raises
    ------
    ArchiveServerError
        When the text is not that, or ends early.
    ArchiveAnswerTooLarge
        When an element is too large.

    References
    ----------
    PS3.18 F.2 (2026b); RFC 8259.
    """
    text = _Text(chunks, largest)
    first = text.peek()
    if first == "{":
        yield text.read_object()
        return
    if not first:
        return
    if first != "[":
        raise ArchiveServerError("its answer is not JSON")
    if text.skip() == "]":
        return
    while text.peek() == "{":
        yield text.read_object()
        separator = text.peek()
        if separator == "]":
            return
        if separator != ",":
            break
        text.skip()
    raise ArchiveServerError("its JSON is damaged or ends early")


class _Text:
    def __init__(self, chunks: Iterable[bytes], largest: int) -> None:
        self._chunks = iter(chunks)
        self._largest = largest
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        self._text = ""
        self._at = 0

    def peek(self) -> str:
        """Return the next character that is not a space, or nothing at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow(1):
                return ""

    def skip(self) -> str:
        """Go past the character that was peeked at, and peek again."""
        self._at += 1
        return self.peek()

    def read_object(self) -> dict[str, Any]:
        while True:
            try:
                found, self._at = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError):
                # Cut off or damaged: only more text tells. Doubling it keeps the work linear.
                held = len(self._text) - self._at
                if held > self._largest:
                    raise ArchiveAnswerTooLarge("one element of its JSON") from None
                if not self._grow(2 * held):
                    raise ArchiveServerError("its JSON is damaged or ends early") from None
            else:
                if not isinstance(found, dict):
                    raise ArchiveServerError("its JSON is damaged or ends early")
                return found

    def _grow(self, wanted: int) -> bool:
        parts, held = [self._text[self._at :]], len(self._text) - self._at
        before = held
        for chunk in self._chunks:
            parts.append(self._decode(chunk))
            held += len(parts[-1])
            if held >= wanted:
                break
        self._text, self._at = "".join(parts), 0
        return held > before
