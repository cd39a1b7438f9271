"""Reads a JSON array: a small one at once, others so that memory holds one element of them."""

import codecs
import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

import orjson

from flute_sync.archive_errors import ArchiveAnswerTooLarge, ArchiveServerError
from flute_sync.arriving_text import ArrivingText


def _constant(_: str) -> None:
    """Read NaN and Infinity, which JSON does not have, as no value."""


_DECODER: Final = json.JSONDecoder(parse_constant=_constant)
_SMALL_BYTES: Final = 1 << 20


def objects(chunks: Iterable[bytes], largest: int) -> Iterator[dict[str, Any]]:
    """Return the objects of an array, or the single object that stands in its place, one by one.

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
    pieces = iter(chunks)
    text, is_whole = _begun(pieces, min(_SMALL_BYTES, largest))
    found = _at_once(text) if is_whole else None
    return iter(found) if found is not None else _one_by_one(chain([text], pieces), largest)


def _begun(pieces: Iterator[bytes], enough: int) -> tuple[bytes, bool]:
    """Return what comes first, and whether it is all."""
    held = bytearray()
    for piece in pieces:
        held += piece
        if len(held) > enough:
            return bytes(held), False
    return bytes(held), True


def _at_once(text: bytes) -> list[dict[str, Any]] | None:
    """Return the objects of an answer that is as it should be."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if isinstance(found, dict):
        return [found]
    if isinstance(found, list) and all(isinstance(one, dict) for one in found):
        return found
    return None


def _one_by_one(chunks: Iterable[bytes], largest: int) -> Iterator[dict[str, Any]]:
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
            text.grow(1)  # a connection can be used again once its answer was read to the end
            return
        if separator != ",":
            break
        text.skip()
    raise ArchiveServerError("its JSON is damaged or ends early")


class _Text(ArrivingText):
    def __init__(self, chunks: Iterable[bytes], largest: int) -> None:
        decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
        super().__init__(map(decode, chunks))
        self._largest = largest

    def skip(self) -> str:
        """Go past the character that was peeked at, and peek again."""
        self.at += 1
        return self.peek()

    def read_object(self) -> dict[str, Any]:
        while True:
            try:
                found, self.at = _DECODER.raw_decode(self.text, self.at)
            except (ValueError, RecursionError):
                # Cut off or damaged: only more text tells. Doubling it keeps the work linear.
                held = self.held
                if held > self._largest:
                    raise ArchiveAnswerTooLarge("one element of its JSON") from None
                if not self.grow(2 * held):
                    raise ArchiveServerError("its JSON is damaged or ends early") from None
            else:
                if not isinstance(found, dict):
                    raise ArchiveServerError("its JSON is damaged or ends early")
                return found
