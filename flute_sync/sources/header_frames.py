"""The b-values and the anatomy of an enhanced image, from its functional groups as they come in.

A header is otherwise known before the functional groups, which hold some hundred elements for
each frame. They are stepped through once, element by element and without regard to nesting, and
nothing of them is kept but those: the memory does not depend on the number of frames.

References
----------
PS3.3 C.7.6.16 and C.8.13.5.9, PS3.5 7.5 (2026b).
"""

from struct import Struct
from typing import Final

from flute_sync.sources import header_tags as tags
from flute_sync.sources.header_anatomy import (
    FRAME_ANATOMY_SEQUENCE,
    LARGEST_VALUE_BYTES,
    FrameAnatomy,
)
from flute_sync.sources.header_diffusion import (
    FUNCTIONAL_GROUPS,
    MOST_B_VALUES,
    MR_DIFFUSION_SEQUENCE,
    usable,
)
from flute_sync.sources.header_walk import Data, Encoding, element_at

_DELIMITERS: Final = 0xFFFE
_UNDEFINED: Final = 0xFFFF_FFFF
_PIXELS: Final = 0x7FE0_0000
_SEQUENCES: Final = frozenset(
    {
        *FUNCTIONAL_GROUPS,
        MR_DIFFUSION_SEQUENCE,
        FRAME_ANATOMY_SEQUENCE,
        tags.ANATOMIC_REGION_SEQUENCE,
    }
)
_DOUBLE: Final = {True: Struct("<d").unpack_from, False: Struct(">d").unpack_from}


class FrameScanner:
    """Steps through the functional groups, which are of no interest beyond what is sought.

    Whatever cannot be read ends it: a header never fails for its frames.

    Parameters
    ----------
    max_elements
        Most elements stepped over.
    b_values
        Whether b-values are sought.
    anatomy
        What takes the frames' anatomy, where that is sought.
    """

    def __init__(
        self,
        encoding: Encoding,
        max_elements: int,
        *,
        b_values: bool,
        anatomy: FrameAnatomy | None,
    ) -> None:
        self.done = False
        self.b_values: set[float] = set()
        self.anatomy = anatomy
        self._seeks_b_values = b_values
        self._encoding = encoding
        self._budget = max_elements
        self._in_frames = False

    def scan(self, data: Data, pos: int) -> int:
        """Step on from ``pos``, to the pixels or to the end of the data.

        Returns
        -------
        int
            Where to go on; it may lie beyond the data.
        """
        while not self.done:
            found = element_at(data, pos, self._encoding)
            if found is None:
                break
            tag, vr, start, length = found
            self._in_frames |= tag in FUNCTIONAL_GROUPS
            if self._in_frames and self._wants(tag, length):
                if len(data) - start < length:
                    break
                self._take(tag, data[start : start + length])
            self._budget -= 1
            self.done = self._ends(tag, vr, length)
            pos = start if self._opens(tag, vr, length) else start + length
        return pos

    def _ends(self, tag: int, vr: bytes, length: int) -> bool:
        foreign = length == _UNDEFINED and vr not in (b"SQ", b"") and tag >> 16 != _DELIMITERS
        beyond = tag >= _PIXELS and tag >> 16 != _DELIMITERS
        if beyond or foreign or self._budget <= 0 or len(self.b_values) >= MOST_B_VALUES:
            return True
        return not self._seeks_b_values and (self.anatomy is None or self.anatomy.done)

    @staticmethod
    def _opens(tag: int, vr: bytes, length: int) -> bool:
        return tag >> 16 == _DELIMITERS or vr == b"SQ" or length == _UNDEFINED or tag in _SEQUENCES

    def _wants(self, tag: int, length: int) -> bool:
        if tag == tags.DIFFUSION_B_VALUE:
            return self._seeks_b_values and length == 8
        anatomy = self.anatomy
        if anatomy is None or anatomy.done:
            return False
        return anatomy.wants(tag) and length <= LARGEST_VALUE_BYTES

    def _take(self, tag: int, value: Data) -> None:
        if tag != tags.DIFFUSION_B_VALUE:
            if self.anatomy is not None:
                self.anatomy.take(tag, bytes(value))
        elif usable(b_value := _DOUBLE[self._encoding.little](value, 0)[0]):
            self.b_values.add(b_value)
