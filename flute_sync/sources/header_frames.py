"""The b-values of an Enhanced MR image, from its functional groups as they come in.

A header is otherwise known before the functional groups, which hold some hundred elements for
each frame. They are stepped through once, element by element and without regard to nesting, and
nothing of them is kept but the b-values: the memory does not depend on the number of frames.

References
----------
PS3.3 C.7.6.16 and C.8.13.5.9, PS3.5 7.5 (2026b).
"""

from struct import Struct
from typing import Final

from flute_sync.sources import header_tags as tags
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
_SEQUENCES: Final = frozenset({*FUNCTIONAL_GROUPS, MR_DIFFUSION_SEQUENCE})
_DOUBLE: Final = {True: Struct("<d").unpack_from, False: Struct(">d").unpack_from}


class FrameScanner:
    """Steps through the functional groups, which are of no interest beyond their b-values.

    Whatever cannot be read ends it: a header never fails for its frames.

    Parameters
    ----------
    max_elements
        Most elements stepped over.
    """

    def __init__(self, encoding: Encoding, max_elements: int) -> None:
        self.done = False
        self.b_values: set[float] = set()
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
            if self._in_frames and tag == tags.DIFFUSION_B_VALUE and length == 8:
                if len(data) - start < length:
                    break
                self._take(_DOUBLE[self._encoding.little](data, start)[0])
            self._budget -= 1
            self.done = self._ends(tag, vr, length)
            pos = start if self._opens(tag, vr, length) else start + length
        return pos

    def _ends(self, tag: int, vr: bytes, length: int) -> bool:
        foreign = length == _UNDEFINED and vr not in (b"SQ", b"") and tag >> 16 != _DELIMITERS
        beyond = tag >= _PIXELS and tag >> 16 != _DELIMITERS
        return beyond or foreign or self._budget <= 0 or len(self.b_values) >= MOST_B_VALUES

    @staticmethod
    def _opens(tag: int, vr: bytes, length: int) -> bool:
        return tag >> 16 == _DELIMITERS or vr == b"SQ" or length == _UNDEFINED or tag in _SEQUENCES

    def _take(self, value: float) -> None:
        if usable(value):
            self.b_values.add(value)
