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

from flute_sync.arriving_text import ArrivingText
from flute_sync.command_errors import InputMalformed, InputTooLarge

LARGEST_RESOURCE_CHARACTERS: Final = 64 * 1024 * 1024
"""A resource beyond this is refused."""
_READ_BYTES: Final = 1024 * 1024


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
    if text.peek() != "{":
        raise InputMalformed("it is no JSON object with a resource")
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


def _decoded(file: BinaryIO) -> Iterator[str]:
    decode = codecs.getincrementaldecoder("utf-8-sig")("strict").decode
    try:
        while data := file.read(_READ_BYTES):
            yield decode(data)
        yield decode(b"", True)
    except UnicodeDecodeError:
        raise InputMalformed("it is not UTF-8") from None


class _Text(ArrivingText):
    def __init__(self, file: BinaryIO) -> None:
        super().__init__(_decoded(file))

    def malformed(self) -> InputMalformed:
        return InputMalformed("it is not JSON, or ends early")

    def expect(self, character: str) -> None:
        if self.peek() != character:
            raise self.malformed()
        self.at += 1

    def value(self) -> Any:
        if not self.peek():
            raise self.malformed()
        while True:
            try:
                found, end = DECODER.raw_decode(self.text, self.at)
            except RecursionError:
                raise InputMalformed("it is nested too deeply") from None
            except ValueError:
                # Cut off or damaged: only more text tells. Doubling it keeps the work linear.
                held = self.held
                if held > LARGEST_RESOURCE_CHARACTERS:
                    raise InputTooLarge("a resource in it") from None
                if not self.grow(2 * held):
                    raise self.malformed() from None
                continue
            if end == len(self.text) and self.grow(1):
                continue  # a number may go on
            self.at = end
            return found
