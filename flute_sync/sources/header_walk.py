"""Walking over data elements: keeping the raw values of a few, stepping over all others.

The walker needs no more of the data at once than the element in hand, so that a header can be
read from a stream in pieces of any size. It never recurses and never decodes a value.

References
----------
PS3.5 7 and A (2026b), and 6.2.2 for UN of undefined length.
"""

from collections.abc import Callable, Iterator
from struct import Struct
from typing import Final, NamedTuple

from flute_sync.dicom_errors import HeaderError, HeaderTooLarge, HeaderTruncated
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.header_tags import SOP_CLASS_UID, WANTED_IN_ITEMS, tag_text

Data = bytes | bytearray


class Encoding(NamedTuple):
    """How elements are written: with or without their VR, least or most significant byte first."""

    implicit: bool = False
    little: bool = True


RawElement = tuple[bytes, bytes]
"""The VR as it is written, empty where it is not, and the value.

The value of a sequence of undefined length includes its delimiter.
"""

EXPLICIT_LITTLE: Final = Encoding()
IMPLICIT_LITTLE: Final = Encoding(implicit=True)
EXPLICIT_BIG: Final = Encoding(little=False)

NO_STOP: Final = 0xFFFE_0000
_ITEM: Final = 0xFFFE_E000
_ITEM_DELIMITATION: Final = 0xFFFE_E00D
_SEQUENCE_DELIMITATION: Final = 0xFFFE_E0DD
_UNDEFINED: Final = 0xFFFF_FFFF
_SMALL_BYTES: Final = 4096  # values up to this need no accounting: wanted ones are few
_LONG: Final = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_SHORT: Final = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_EXPLICIT: Final = {True: Struct("<HH2sH").unpack_from, False: Struct(">HH2sH").unpack_from}
_IMPLICIT: Final = {True: Struct("<HHL").unpack_from, False: Struct(">HHL").unpack_from}
_LENGTH: Final = {True: Struct("<L").unpack_from, False: Struct(">L").unpack_from}


def names_vr(vr: Data) -> bool:
    """Tell whether two bytes are two capital letters, as every VR is."""
    return len(vr) == 2 and 0x41 <= vr[0] <= 0x5A and 0x41 <= vr[1] <= 0x5A


def sniff(encoding: Encoding, data: Data, pos: int) -> Encoding:
    """Find out from the first element whether VRs are really left out as declared.

    Some writers declare one and write the other; a length can hardly look like a VR.
    """
    found = data[pos + 4 : pos + 6]
    return encoding if len(found) < 2 else encoding._replace(implicit=not names_vr(found))


def within(encoding: Encoding, vr: bytes) -> Encoding:
    """Tell how the items of a sequence are written: UN hides little endian, PS3.5 6.2.2."""
    return encoding._replace(little=True) if vr == b"UN" else encoding


def _long(data: Data, pos: int, vr: bytes, length: int, little: bool) -> tuple[bytes, int, int]:
    """Read on where the VR is not one with a length of two bytes; starts at 0 if data end."""
    if vr in _LONG:
        if len(data) - pos < 12:
            return vr, 0, 0
        return vr, pos + 12, _LENGTH[little](data, pos + 8)[0]
    if names_vr(vr):  # one that this module does not know: taken to have the old, short length
        return vr, pos + 8, length
    return b"", pos + 8, _LENGTH[little](data, pos + 4)[0]


def element_at(data: Data, pos: int, encoding: Encoding) -> tuple[int, bytes, int, int] | None:
    """Return tag, VR, where the value starts, and its length; None where the data end before."""
    if len(data) - pos < 8:
        return None
    group, element, length = _IMPLICIT[encoding.little](data, pos)
    if encoding.implicit or group == _ITEM >> 16:
        return group << 16 | element, b"", pos + 8, length
    vr, short = _EXPLICIT[encoding.little](data, pos)[2:]
    if vr in _SHORT:
        return group << 16 | element, vr, pos + 8, short
    vr, start, length = _long(data, pos, vr, short, encoding.little)
    return (group << 16 | element, vr, start, length) if start else None


class Walker:
    """Walks over one data set, or over one item of a sequence.

    Parameters
    ----------
    wanted
        Tags whose values are kept in ``elements``.
    stop
        The first tag not of interest: elements are in ascending order (PS3.5 7.1).
    item
        Whether an Item Delimitation Item ends the walk.
    stop_by_class
        Tells from the value of (0008,0016) the new ``stop``.
    """

    def __init__(
        self,
        encoding: Encoding,
        wanted: frozenset[int],
        settings: HeaderSettings,
        *,
        stop: int = NO_STOP,
        item: bool = False,
        stop_by_class: Callable[[bytes], int] | None = None,
    ) -> None:
        self.elements: dict[int, RawElement] = {}
        self.done = False
        self.need = 0
        self._encoding = encoding
        self._wanted = wanted
        self._settings = settings
        self._stop = stop
        self._item = item
        self._stop_by_class = stop_by_class
        self._tag = 0
        self._large_bytes = 0
        self._budget = iter(range(settings.max_elements))
        self._frames: list[tuple[bool, Encoding]] = []  # (in an item, or between items; encoding)
        self._captured: bytes | None = None  # VR of the wanted sequence that is open
        self._capture = bytearray()

    @property
    def large_bytes(self) -> int:
        """What the kept values take that are more than a few bytes."""
        return self._large_bytes

    def walk(self, data: Data, pos: int = 0) -> int:
        """Walk on from ``pos`` as far as the data goes or the walk is done.

        Returns
        -------
        int
            Where to go on; it may lie beyond the data, which then can be dropped. Going on makes
            sense once there are ``need`` bytes from there.

        Raises
        ------
        HeaderError
            When the bytes are no data elements, or too many.
        """
        self.need = 0
        while not self.done and not self.need:
            if self._frames:
                pos = self._inside(data, pos)
            elif self._encoding.implicit:
                pos = self._outside_implicit(data, pos)
            else:
                pos = self._outside_explicit(data, pos)
        return pos

    def finish(self, data: Data, pos: int) -> None:
        """State that there is no more data.

        Raises
        ------
        HeaderTruncated
            When that is in the middle of an element.
        """
        if self.done:
            return
        rest = data[pos:]
        if self._frames or pos > len(data) or len(rest) >= 8 or any(rest) or self._item:
            raise HeaderTruncated("is the last element there is", tag=tag_text(self._tag))

    def _outside_explicit(self, data: Data, pos: int) -> int:
        unpack = _EXPLICIT[self._encoding.little]
        wanted = self._wanted
        end = len(data)
        for _ in self._budget:
            if end - pos < 8:
                return self._starve(pos, 8)
            group, element, vr, length = unpack(data, pos)
            tag = group << 16 | element
            if tag >= self._stop:
                return self._stopped(tag, pos)
            if vr in _SHORT:
                start = pos + 8
            else:
                vr, start, length = _long(data, pos, vr, length, self._encoding.little)
                if not start:
                    return self._starve(pos, 12)
            self._tag = tag
            if tag in wanted or length == _UNDEFINED:
                pos = self._take(data, pos, vr, start, length)
                if self.need or self._frames:
                    return pos
            else:
                pos = start + length
        raise HeaderTooLarge("more elements than the settings allow", tag=tag_text(self._tag))

    def _outside_implicit(self, data: Data, pos: int) -> int:
        unpack = _IMPLICIT[self._encoding.little]
        wanted = self._wanted
        end = len(data)
        for _ in self._budget:
            if end - pos < 8:
                return self._starve(pos, 8)
            group, element, length = unpack(data, pos)
            tag = group << 16 | element
            if tag >= self._stop:
                return self._stopped(tag, pos)
            self._tag = tag
            start = pos + 8
            if tag in wanted or length == _UNDEFINED:
                pos = self._take(data, pos, b"", start, length)
                if self.need or self._frames:
                    return pos
            else:
                pos = start + length
        raise HeaderTooLarge("more elements than the settings allow", tag=tag_text(self._tag))

    def _stopped(self, tag: int, pos: int) -> int:
        if tag == _ITEM_DELIMITATION and self._item:
            pos += 8
        elif tag in (_ITEM, _ITEM_DELIMITATION, _SEQUENCE_DELIMITATION):
            raise HeaderError("stands where no sequence is open", tag=tag_text(tag))
        elif self._item:
            raise HeaderError("is no element of an item", tag=tag_text(tag))
        self.done = True
        return pos

    def _starve(self, pos: int, need: int) -> int:
        if self._large_bytes + need > self._settings.max_header_bytes + _SMALL_BYTES:
            raise HeaderTooLarge("larger than the settings allow", tag=tag_text(self._tag))
        self.need = need
        return pos

    def _take(self, data: Data, pos: int, vr: bytes, start: int, length: int) -> int:
        """Keep the element at ``pos``, or go into it where its length is undefined."""
        stop = start + length
        if stop <= len(data) and length <= _SMALL_BYTES and self._tag not in self.elements:
            self.elements[self._tag] = vr, bytes(data[start:stop])
            if self._tag == SOP_CLASS_UID and self._stop_by_class is not None:
                self._stop = self._stop_by_class(self.elements[self._tag][1])
            return stop
        if length == _UNDEFINED:
            self._captured = vr if self._tag in self._wanted else None
            self._push(False, within(self._encoding, vr))
            return start
        if stop > len(data):
            return self._starve(pos, stop - pos)
        self._keep_large(vr, bytes(data[start:stop]))
        return stop

    def _keep_large(self, vr: bytes, value: bytes) -> None:
        if self._tag in self.elements:
            raise HeaderError("stands there twice", tag=tag_text(self._tag))
        self._large_bytes += len(value)
        if self._large_bytes > self._settings.max_header_bytes:
            raise HeaderTooLarge("larger than the settings allow", tag=tag_text(self._tag))
        self.elements[self._tag] = vr, value

    # -- sequences of undefined length -----------------------------------------------------------

    def _inside(self, data: Data, pos: int) -> int:
        """Walk through an open sequence, to its end or that of the data."""
        begin = pos
        for _ in self._budget:
            in_item, encoding = self._frames[-1]
            if len(data) - pos < 8:
                pos = self._starve(pos, 8)
            elif in_item:
                pos = self._element(data, pos, encoding)
            else:
                pos = self._between_items(data, pos, encoding)
            if self.need or not self._frames:
                break
        else:
            raise HeaderTooLarge("more elements than the settings allow", tag=tag_text(self._tag))
        if self._captured is not None:
            self._capture_up_to(data[begin:pos])
        return pos

    def _capture_up_to(self, walked: Data) -> None:
        if self._large_bytes + len(self._capture) + len(walked) > self._settings.max_header_bytes:
            raise HeaderTooLarge("larger than the settings allow", tag=tag_text(self._tag))
        self._capture += walked
        if not self._frames and self._captured is not None:
            self._keep_large(self._captured, bytes(self._capture))
            self._captured = None
            self._capture.clear()

    def _between_items(self, data: Data, pos: int, encoding: Encoding) -> int:
        group, element, length = _IMPLICIT[encoding.little](data, pos)
        tag = group << 16 | element
        if tag == _SEQUENCE_DELIMITATION:
            self._frames.pop()
            return pos + 8
        if tag != _ITEM:
            raise HeaderError("holds something that is no item", tag=tag_text(self._tag))
        if length != _UNDEFINED:
            return self._over(data, pos, pos + 8 + length)
        if len(data) - pos < 16:  # an item of undefined length has at least its delimiter
            return self._starve(pos, 16)
        self._push(True, encoding if encoding.implicit else sniff(encoding, data, pos + 8))
        return pos + 8

    def _element(self, data: Data, pos: int, encoding: Encoding) -> int:
        """Step over, or into, one element of an open item."""
        group, element, length = _IMPLICIT[encoding.little](data, pos)
        if group == 0xFFFE:
            if element != _ITEM_DELIMITATION & 0xFFFF:
                raise HeaderError("has an item that does not end", tag=tag_text(self._tag))
            self._frames.pop()
            return pos + 8
        vr, start = b"", pos + 8
        if not encoding.implicit:
            vr, short = _EXPLICIT[encoding.little](data, pos)[2:]
            if vr in _SHORT:
                length = short
            else:
                vr, start, length = _long(data, pos, vr, short, encoding.little)
                if not start:
                    return self._starve(pos, 12)
        if length == _UNDEFINED:
            self._push(False, within(encoding, vr))
            return start
        return self._over(data, pos, start + length)

    def _over(self, data: Data, pos: int, stop: int) -> int:
        if self._captured is not None and stop > len(data):
            return self._starve(pos, stop - pos)
        return stop

    def _push(self, in_item: bool, encoding: Encoding) -> None:
        if len(self._frames) >= 2 * self._settings.max_depth:
            raise HeaderError("nested deeper than the settings allow", tag=tag_text(self._tag))
        self._frames.append((in_item, encoding))


def items_of(
    tag: int,
    sequence: RawElement,
    encoding: Encoding,
    settings: HeaderSettings,
    wanted: frozenset[int] = WANTED_IN_ITEMS,
) -> Iterator[tuple[dict[int, RawElement], Encoding]]:
    """Yield the wanted elements of each item of a sequence, and how the item is written.

    Raises
    ------
    HeaderError
        When the value is no sequence of items.
    """
    vr, data = sequence
    encoding = within(encoding, vr)
    pos = 0
    while pos < len(data):
        if len(data) - pos < 8:
            raise HeaderTruncated("ends within an item", tag=tag_text(tag))
        group, element, length = _IMPLICIT[encoding.little](data, pos)
        pos += 8
        if group << 16 | element == _SEQUENCE_DELIMITATION:
            return
        if group << 16 | element != _ITEM:
            raise HeaderError("holds something that is no item", tag=tag_text(tag))
        delimited = length == _UNDEFINED
        stop = len(data) if delimited else pos + length
        if stop > len(data):
            raise HeaderTruncated("ends within an item", tag=tag_text(tag))
        written = encoding if encoding.implicit else sniff(encoding, data[pos : pos + 6], 0)
        walker = Walker(written, wanted, settings, item=delimited)
        if delimited:
            pos = walker.walk(data, pos)
            walker.finish(data, pos)
        else:
            item = data[pos:stop]
            walker.finish(item, walker.walk(item))
            pos = stop
        yield walker.elements, written
