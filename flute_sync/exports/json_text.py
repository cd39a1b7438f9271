"""Reads JSON texts with resources, one after another, so that memory holds one entry at a time.

References
----------
FHIR R4 bundle.html; RFC 8259.
"""

import codecs
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, BinaryIO, Final

from flute_sync.command_errors import InputMalformed, InputTooLarge

LARGEST_RESOURCE_CHARACTERS: Final = 64 * 1024 * 1024
"""A resource beyond this is refused."""
_READ_BYTES: Final = 1024 * 1024
_SPACE: Final = " \t\r\n"


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _integer(digits: str) -> int | str:
    return int(digits) if len(digits) < 19 else digits


# Decimals keep their digits: an age of 54.50 is more exact than one of 54.5.
DECODER: Final = json.JSONDecoder(parse_float=Decimal, parse_int=_integer, parse_constant=_refuse)


def texts(file: BinaryIO) -> Iterator[Iterator[dict[str, Any]]]:
    """Yield the objects of a file, each as the entries that it has, and then the rest of it.

    Parameters
    ----------
    file
        Bundles, or resources of other kinds, one after another; each is to be read to its end
        before the next is asked for.

    Raises
    ------
    InputMalformed
        It is not JSON in UTF-8, or no object.
    InputTooLarge
        A resource is too large.
    """
    text = _Text(file)
    while text.peek():
        yield _object(text)


def _object(text: "_Text") -> Iterator[dict[str, Any]]:
    """Yield ``{"entry": one}`` of each entry, then all other members together."""
    rest: dict[str, Any] = {}
    text.expect("{")
    if text.peek() != "}":
        while True:
            name = text.value()
            if not isinstance(name, str):
                raise text.malformed()
            text.expect(":")
            if name == "entry" and text.peek() == "[":
                yield from ({"entry": one} for one in _members(text))
            else:
                rest[name] = text.value()
            if text.peek() != ",":
                break
            text.expect(",")
    text.expect("}")
    yield rest


def _members(text: "_Text") -> Iterator[Any]:
    text.expect("[")
    if text.peek() != "]":
        while True:
            yield text.value()
            if text.peek() != ",":
                break
            text.expect(",")
    text.expect("]")


class _Text:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")("strict").decode
        self._text = ""
        self._at = 0
        self._is_ended = False

    def malformed(self) -> InputMalformed:
        return InputMalformed("it is not JSON, or ends early")

    def peek(self) -> str:
        """Return the next character that is not a space, or nothing at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._grow(1):
                return ""

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise self.malformed()
        self._at += 1

    def value(self) -> Any:
        if not self.peek():
            raise self.malformed()
        while True:
            try:
                found, end = DECODER.raw_decode(self._text, self._at)
            except RecursionError:
                raise InputMalformed("it is nested too deeply") from None
            except ValueError:
                # Cut off or damaged: only more text tells. Doubling it keeps the work linear.
                held = len(self._text) - self._at
                if held > LARGEST_RESOURCE_CHARACTERS:
                    raise InputTooLarge("a resource in it") from None
                if not self._grow(2 * held):
                    raise self.malformed() from None
                continue
            if end == len(self._text) and self._grow(1):
                continue  # a number may go on
            self._at = end
            return found

    def _grow(self, wanted: int) -> bool:
        parts, held = [self._text[self._at :]], len(self._text) - self._at
        before = held
        while held < max(wanted, before + 1) and not self._is_ended:
            data = self._file.read(_READ_BYTES)
            self._is_ended = not data
            try:
                parts.append(self._decode(data, self._is_ended))
            except UnicodeDecodeError:
                raise InputMalformed("it is not UTF-8") from None
            held += len(parts[-1])
        self._text, self._at = "".join(parts), 0
        return held > before
