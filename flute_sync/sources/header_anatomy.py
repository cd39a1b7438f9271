"""The part of the body that the frames of a multi-frame image show, where nothing else says it.

Enhanced images need not state it for the series: it stands in their functional groups. What all
frames share becomes the elements of a plain image, (0008,2218) and (0020,0062), before anything is
decoded, so that nobody else needs to know.

References
----------
PS3.3 C.7.6.16.2.8 "Frame Anatomy Macro" and 8.8 (2026b).
"""

from collections.abc import Mapping
from struct import pack
from typing import Any, Final

from flute_sync.sources import header_tags as tags
from flute_sync.sources.header_diffusion import FUNCTIONAL_GROUPS, element_values
from flute_sync.sources.header_walk import RawElement

Json = Mapping[str, object]

FRAME_ANATOMY_SEQUENCE: Final = 0x0020_9071
LARGEST_VALUE_BYTES: Final = 4096
_SHARED, _PER_FRAME = FUNCTIONAL_GROUPS
_FRAME_LATERALITY: Final = 0x0020_9072
_ITEM: Final = 0xFFFE_E000
_CODE: Final = frozenset(
    {
        tags.CODE_VALUE,
        tags.CODING_SCHEME_DESIGNATOR,
        tags.CODE_MEANING,
        tags.CODING_SCHEME_UID,
        tags.LONG_CODE_VALUE,
        tags.URN_CODE_VALUE,
    }
)
_CODE_KEYS: Final = {f"{tag:08X}": tag for tag in sorted(_CODE)}
_IN_CODE: Final = range(tags.CODE_VALUE, tags.URN_CODE_VALUE + 1)
_BESIDE_CODE: Final = range(tags.URN_CODE_VALUE + 1, 0x0008_2300)
"""Equivalent codes, modifiers and structures: they hold codes too, and are not the region."""
_REGION: Final = (tags.ANATOMIC_REGION_SEQUENCE, tags.BODY_PART_EXAMINED)
_SIDE: Final = (tags.LATERALITY, tags.IMAGE_LATERALITY)
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_KINDS: Final = "2.1 2.2 4.1 4.2 4.3 4.4 6.2 12.1.1 12.2.1 13.1.1 13.1.2 13.1.3 128.1 130"
_WITH_FRAME_ANATOMY: Final = frozenset(_STORAGE + kind for kind in _KINDS.split(" "))
"""Enhanced CT, MR, US, XA, XRF and PET, breast tomosynthesis, and what was converted to them."""


def is_sought(sop_class_uid: str, raw: Mapping[int, RawElement]) -> bool:
    """Tell whether functional groups may say what the header does not."""
    return sop_class_uid in _WITH_FRAME_ANATOMY and not (
        _states(raw, *_REGION) and _states(raw, *_SIDE)
    )


def _states(raw: Mapping[int, RawElement], *either: int) -> bool:
    return any(tag in raw and raw[tag][1].strip(b" \0") for tag in either)


class FrameAnatomy:
    """Takes the Frame Anatomy that all frames share from the elements that are stepped over."""

    def __init__(self) -> None:
        self.done = False
        self._found: dict[int, bytes] = {}
        self._inside = False
        self._in_region = False

    def wants(self, tag: int) -> bool:
        """Note where the next element stands, and tell whether its value is wanted."""
        if tag == FRAME_ANATOMY_SEQUENCE:
            self._inside = True
        elif tag == _PER_FRAME:
            self.done = True
        elif self._inside:
            return self._wants_inside(tag)
        return False

    def _wants_inside(self, tag: int) -> bool:
        if tag == tags.ANATOMIC_REGION_SEQUENCE:
            self._in_region = True
        elif tag in _BESIDE_CODE:
            self._in_region = False
        elif tag not in _IN_CODE and tag != _FRAME_LATERALITY and tag < _ITEM:
            self.done = True
        code = self._in_region and tag in _CODE
        return not self.done and (code or tag == _FRAME_LATERALITY)

    def take(self, tag: int, value: bytes) -> None:
        """Keep the first value of an element."""
        if value.strip(b" \0"):
            self._found.setdefault(tag, value)

    def settle(self, raw: dict[int, RawElement]) -> None:
        """Put what was found where plain images have it, unless something stands there."""
        code = {tag: value for tag, value in sorted(self._found.items()) if tag in _CODE}
        if code and not _states(raw, *_REGION):
            raw[tags.ANATOMIC_REGION_SEQUENCE] = b"UN", _sequence(code)
        side = self._found.get(_FRAME_LATERALITY)
        if side and not _states(raw, *_SIDE):
            raw[tags.IMAGE_LATERALITY] = b"CS", side


def _sequence(elements: Mapping[int, bytes]) -> bytes:
    """Write a sequence of one item as UN hides it: in implicit little endian (PS3.5 6.2.2)."""
    item = b"".join(
        pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value for tag, value in elements.items()
    )
    return pack("<HHL", _ITEM >> 16, _ITEM & 0xFFFF, len(item)) + item


def settle_json(row: Json, instance: Json) -> dict[str, Any]:
    """Return (0008,2218) and (0020,0062) of an instance that states them for its frames alone.

    Parameters
    ----------
    row
        What the header states, in the JSON model, with names in capitals.
    instance
        The instance's metadata, which hold its functional groups; names may be in small letters.
    """
    sop_class_uid = next(iter(_values(row, tags.SOP_CLASS_UID)), None)
    if str(sop_class_uid).strip() not in _WITH_FRAME_ANATOMY:
        return {}
    anatomy = _first_item(_first_item(_in_capitals(instance), _SHARED), FRAME_ANATOMY_SEQUENCE)
    region = _first_item(anatomy, tags.ANATOMIC_REGION_SEQUENCE)
    code = {key: region[key] for key, tag in _CODE_KEYS.items() if any(_values(region, tag))}
    side = _values(anatomy, _FRAME_LATERALITY)
    settled: dict[str, Any] = {}
    if code and not any(any(_values(row, tag)) for tag in _REGION):
        settled[f"{tags.ANATOMIC_REGION_SEQUENCE:08X}"] = {"vr": "SQ", "Value": [code]}
    if any(side) and not any(any(_values(row, tag)) for tag in _SIDE):
        settled[f"{tags.IMAGE_LATERALITY:08X}"] = {"vr": "CS", "Value": side}
    return settled


def _values(row: Json, tag: int) -> list[Any]:
    return element_values(row.get(f"{tag:08X}"))


def _first_item(row: Json, tag: int) -> Json:
    items = (item for item in _values(row, tag) if isinstance(item, Mapping))
    return _in_capitals(next(items, {}))


def _in_capitals(row: Json) -> Json:
    return {str(key).upper(): value for key, value in row.items()}
