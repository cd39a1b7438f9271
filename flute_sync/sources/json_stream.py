"""Reads a JSON array element by element, so that memory holds one of them and not the answer."""

import codecs
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from flute_sync.archive_errors import ArchiveAnswerTooLarge, ArchiveServerError
from flute_sync.arriving_text import ArrivingText


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
