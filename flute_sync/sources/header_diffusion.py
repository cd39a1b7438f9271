"""Diffusion b-values: where a header states them, and where vendors hide them.

What is found elsewhere becomes the standard's own element (0018,9087) before anything is decoded,
so that nobody else needs to know. A private element counts only under its private creator.

References
----------
PS3.3 C.8.13.5.9 (MR Diffusion) and PS3.5 7.8.1 (private blocks), 2026b. The private elements are
those of the conformance statements of Siemens, GE and Philips.
"""

from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterable, Iterator, Mapping
from math import isfinite
from struct import Struct
from typing import Any, Final, NamedTuple

from flute_sync.sources import header_tags as tags
from flute_sync.sources.header_walk import Encoding, RawElement

Json = Mapping[str, object]

MR_IMAGE: Final = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR: Final = frozenset(
    {
        "1.2.840.10008.5.1.4.1.1.4.1",  # Enhanced MR Image Storage
        "1.2.840.10008.5.1.4.1.1.4.3",  # Enhanced MR Color Image Storage
        "1.2.840.10008.5.1.4.1.1.4.4",  # Legacy Converted Enhanced MR Image Storage
    }
)
FUNCTIONAL_GROUPS: Final = (0x5200_9229, 0x5200_9230)
MR_DIFFUSION_SEQUENCE: Final = 0x0018_9117
LARGEST_B_VALUE: Final = 100_000.0
MOST_B_VALUES: Final = 256

_BLOCKS: Final = range(0x10, 0x20)
_DOUBLE: Final = {True: Struct("<d"), False: Struct(">d")}
_ABSENT: Final = (b"", b"")
_SINGLE: Final = {True: Struct("<f"), False: Struct(">f")}


class _Private(NamedTuple):
    """A private element: its group, its place in a block, and who reserved the block."""

    group: int
    element: int
    creator: str
    binary: bool = False


_PRIVATE: Final = (
    _Private(0x0019, 0x0C, "SIEMENS MR HEADER"),
    _Private(0x0043, 0x39, "GEMS_PARM_01"),
    _Private(0x2001, 0x03, "PHILIPS IMAGING DD 001", binary=True),
)


def _creator_and_value(private: _Private, block: int) -> tuple[int, int]:
    group = private.group << 16
    return group | block, group | block << 8 | private.element


PRIVATE_TAGS: Final = frozenset(
    tag for one in _PRIVATE for block in _BLOCKS for tag in _creator_and_value(one, block)
)
"""What is read of private blocks of MR images, creators and values."""
_PRIVATE_KEYS: Final = {f"{tag:08X}": tag for tag in PRIVATE_TAGS}
LAST_PRIVATE_TAG: Final = max(PRIVATE_TAGS)


def settle(raw: dict[int, RawElement], encoding: Encoding) -> None:
    """Put a b-value that stands in a private element where the standard has it; drop those."""
    private = {tag: raw.pop(tag) for tag in PRIVATE_TAGS & raw.keys()}
    if raw.get(tags.DIFFUSION_B_VALUE, _ABSENT)[1] or not private:
        return
    if _ascii(raw.get(tags.SOP_CLASS_UID, _ABSENT)[1]) != MR_IMAGE:
        return
    for one, value_tag in _found({tag: _ascii(value) for tag, (_, value) in private.items()}):
        vr, value = private[value_tag]
        b_value = _single(vr, value, encoding.little) if one.binary else _integer(_ascii(value))
        if b_value is not None:
            raw[tags.DIFFUSION_B_VALUE] = as_element((b_value,), little=encoding.little)
            return


def as_element(b_values: Iterable[float], *, little: bool) -> RawElement:
    """Write b-values as the element (0018,9087)."""
    return b"FD", b"".join(_DOUBLE[little].pack(value) for value in b_values)


def is_diffusion(sop_class_uid: str, image_type: Iterable[str], contrast: str) -> bool:
    """Tell whether the frames of an Enhanced MR image state b-values, by what stands before them.

    Only then are its functional groups read, which may be megabytes.
    """
    return sop_class_uid in ENHANCED_MR and (
        contrast == "DIFFUSION"
        or any(value.startswith(("DIFFUSION", "MIXED")) for value in image_type)
    )


def settle_json(row: Json) -> dict[str, Any] | None:
    """Return the element (0018,9087) for an instance that states its b-value elsewhere, else None.

    Parameters
    ----------
    row
        The instance's metadata in the JSON model, with names in capitals or not.
    """
    names = "".join(row)
    upper = row if names == names.upper() else {key.upper(): row[key] for key in row}
    if any(element_values(upper.get(f"{tags.DIFFUSION_B_VALUE:08X}"))):
        return None
    sop_class_uid = _first_text(upper, tags.SOP_CLASS_UID)
    if sop_class_uid == MR_IMAGE:
        found = list(_of_private(upper))
    elif is_diffusion(
        sop_class_uid,
        map(str, element_values(upper.get(f"{tags.IMAGE_TYPE:08X}"))),
        _first_text(upper, tags.ACQUISITION_CONTRAST),
    ):
        found = sorted(set(_of_frames(upper)))[:MOST_B_VALUES]
    else:
        return None
    return {"vr": "FD", "Value": found} if found else None


def _of_frames(row: Json) -> Iterator[float]:
    for groups in FUNCTIONAL_GROUPS:
        for group in _items(row, groups):
            for diffusion in _items(group, MR_DIFFUSION_SEQUENCE):
                for value in element_values(diffusion.get(f"{tags.DIFFUSION_B_VALUE:08X}")):
                    if usable(value):
                        yield float(value)


def usable(value: object) -> bool:
    """Tell whether a number can be a b-value."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and isfinite(value)
        and 0 <= value <= LARGEST_B_VALUE
    )


def _of_private(row: Json) -> Iterator[float]:
    stated = {_PRIVATE_KEYS[key]: row[key] for key in row.keys() & _PRIVATE_KEYS.keys()}
    if not stated:
        return
    for one, value_tag in _found({tag: _json_text(value) for tag, value in stated.items()}):
        element = stated[value_tag]
        if not one.binary:
            b_value = _integer(_json_text(element))
        else:
            values, inline = element_values(element), _inline(element)
            first = values[0] if values else None
            b_value = _single(b"UN", inline, little=True) if inline else _number(first)
        if b_value is not None:
            yield b_value
            return


def _found(texts: Mapping[int, str]) -> Iterator[tuple[_Private, int]]:
    """Yield the private values whose block the right creator reserved."""
    for one in _PRIVATE:
        for block in _BLOCKS:
            creator, value = _creator_and_value(one, block)
            if value in texts and texts.get(creator, "").upper() == one.creator:
                yield one, value


def _ascii(value: bytes) -> str:
    return value.decode("ascii", "replace").strip(" \0")


def _integer(text: str) -> float | None:
    """Read an IS; GE adds a multiple of 100,000 that says how the value came about."""
    first = text.split("\\", 1)[0].strip()
    if not first.isascii() or not first.isdecimal() or len(first) > 12:
        return None
    return float(int(first) % int(LARGEST_B_VALUE))


def _single(vr: bytes, value: bytes, little: bool) -> float | None:
    if len(value) != _SINGLE[True].size or vr not in (b"FL", b"UN", b""):
        return None
    return _number(_SINGLE[little or vr == b"UN"].unpack(value)[0])


def _number(value: object) -> float | None:
    return float(str(value)) if usable(value) else None


def element_values(element: object) -> list[Any]:
    """Return the values of an element in the JSON model; none of what is no such element."""
    values = element.get("Value") if isinstance(element, Mapping) else None
    return values if isinstance(values, list) else []


def _first_text(row: Json, tag: int) -> str:
    return str(next(iter(element_values(row.get(f"{tag:08X}"))), "")).strip(" \0")


def _items(row: Json, tag: int) -> Iterator[Json]:
    for item in element_values(row.get(f"{tag:08X}")):
        if isinstance(item, Mapping):
            yield item


def _inline(element: object) -> bytes:
    encoded = element.get("InlineBinary") if isinstance(element, Mapping) else None
    if not isinstance(encoded, str) or len(encoded) > 1024:
        return b""
    try:
        return b64decode(encoded, validate=True)
    except (NotBase64, ValueError):
        return b""


def _json_text(element: object) -> str:
    values = element_values(element)
    return str(values[0]).strip() if values else _ascii(_inline(element))
