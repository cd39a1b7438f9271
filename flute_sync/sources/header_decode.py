"""Raw elements to text: value representations, character sets, sequences.

References
----------
PS3.5 6.2 and 7.5 (2026b).
"""

from collections.abc import Mapping
from struct import calcsize, iter_unpack
from typing import Final

from flute_sync.dicom_errors import HeaderError
from flute_sync.sources import header_tags as tags
from flute_sync.sources.header_elements import (
    CHARACTER_SET_UNKNOWN,
    TEXT_UNDECODABLE,
    VALUE_TOO_LONG,
    WRONG_TYPE,
    Elements,
)
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.header_text import CharacterSet, character_set
from flute_sync.sources.header_walk import Encoding, RawElement, items_of

SINGLE: Final = frozenset({"LT", "ST", "UR", "UT"})
_CODED: Final = frozenset({"AE", "AS", "CS", "DA", "DS", "DT", "IS", "TM", "UI", "UR"})
_TEXT_VRS: Final = frozenset(b"AE AS CS DA DS DT IS LO LT PN SH ST TM UC UI UN UR UT".split())
_FLOAT_VRS: Final = frozenset({b"", b"FD", b"FL", b"UN"})
LONGEST_VALUE: Final = 16 * 1024
_ASCII: Final = CharacterSet(("ascii",))


class Decoder:
    """Decodes the elements of one data set.

    Parameters
    ----------
    encoding
        How the data set is written.
    vrs
        The value representations of the elements.
    wanted_in_items
        What is kept of an item of a sequence, at any depth.
    """

    def __init__(
        self,
        encoding: Encoding,
        settings: HeaderSettings,
        vrs: Mapping[int, str] = tags.VR,
        wanted_in_items: frozenset[int] = tags.WANTED_IN_ITEMS,
    ) -> None:
        self._encoding = encoding
        self._settings = settings
        self._vrs = vrs
        self._wanted_in_items = wanted_in_items

    def decode(self, raw: Mapping[int, RawElement]) -> Elements:
        """Decode a data set and the items of its sequences.

        Raises
        ------
        HeaderError
            When a sequence is broken.
        """
        default = character_set(tuple(self._settings.default_character_set.split("\\")))
        return self._decode(raw, Elements(), default or _ASCII, self._encoding, 0)

    def _decode(
        self,
        raw: Mapping[int, RawElement],
        into: Elements,
        inherited: CharacterSet,
        encoding: Encoding,
        depth: int,
    ) -> Elements:
        charset = self._character_set(raw, into) or inherited
        for tag, element in raw.items():
            if self._vrs[tag] == "SQ":
                self._sequence(tag, element, into, charset, encoding, depth)
            elif not element[1]:
                into.empty.add(tag)
            elif tag != tags.SPECIFIC_CHARACTER_SET:
                self._value(tag, element, into, charset, encoding)
        return into

    @staticmethod
    def _character_set(raw: Mapping[int, RawElement], into: Elements) -> CharacterSet | None:
        stated = raw.get(tags.SPECIFIC_CHARACTER_SET)
        if stated is None or not stated[1].strip(b" \0"):
            return None
        terms = stated[1].decode("ascii", "replace").rstrip(" \0").split("\\")
        found = character_set(tuple(terms)) if len(terms) <= 16 else None
        if found is None:
            into.remark(tags.SPECIFIC_CHARACTER_SET, CHARACTER_SET_UNKNOWN)
        return found

    def _value(
        self,
        tag: int,
        element: RawElement,
        into: Elements,
        charset: CharacterSet,
        encoding: Encoding,
    ) -> None:
        vr = self._vrs[tag]
        written, value = element
        if len(value) > LONGEST_VALUE:
            into.spoil(tag, VALUE_TOO_LONG)
        elif vr == "FD" and written in _FLOAT_VRS:
            _floats(tag, element, into, encoding)
        elif written and written not in _TEXT_VRS:
            into.spoil(tag, WRONG_TYPE)
        else:
            charset = _ASCII if vr in _CODED else charset
            text, whole = charset.decode(value, name=vr == "PN")
            if not whole:
                into.remark(tag, TEXT_UNDECODABLE)
            text = text.rstrip(" \0")
            into.values[tag] = (text,) if vr in SINGLE else tuple(text.split("\\"))

    def _sequence(
        self,
        tag: int,
        element: RawElement,
        into: Elements,
        charset: CharacterSet,
        encoding: Encoding,
        depth: int,
    ) -> None:
        if element[0] not in (b"", b"SQ", b"UN"):
            into.spoil(tag, WRONG_TYPE)
            return
        if depth >= self._settings.max_depth:
            raise HeaderError("nested deeper than the settings allow", tag=tags.tag_text(tag))
        items = items_of(tag, element, encoding, self._settings, self._wanted_in_items)
        into.items[tag] = tuple(
            self._decode(raw, Elements(remarks=into.remarks), charset, written, depth + 1)
            for raw, written in items
        )


def _floats(tag: int, element: RawElement, into: Elements, encoding: Encoding) -> None:
    vr, value = element
    code = "f" if vr == b"FL" else "d"
    if len(value) % calcsize(code):
        into.spoil(tag, WRONG_TYPE)
        return
    order = "<" if encoding.little or vr == b"UN" else ">"
    into.values[tag] = tuple(repr(number) for (number,) in iter_unpack(order + code, value))
