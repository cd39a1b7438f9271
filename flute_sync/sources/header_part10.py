"""Finding the data set in a DICOM file as it comes in: preamble, meta group, transfer syntax.

References
----------
PS3.10 7 and PS3.5 10 and A (2026b).
"""

import zlib
from collections.abc import Mapping
from struct import unpack_from
from typing import Final

from flute_sync.dicom_errors import HeaderError, HeaderTooLarge, HeaderTruncated
from flute_sync.sources import header_tags as tags
from flute_sync.sources.header_anatomy import FrameAnatomy, is_sought
from flute_sync.sources.header_diffusion import (
    LAST_PRIVATE_TAG,
    MR_IMAGE,
    PRIVATE_TAGS,
    is_diffusion,
)
from flute_sync.sources.header_frames import FrameScanner
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.header_walk import (
    EXPLICIT_BIG,
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    Data,
    RawElement,
    Walker,
    names_vr,
    sniff,
)

_KEY_OBJECT_SELECTION: Final = b"1.2.840.10008.5.1.4.1.1.88.59"
_STOPS: Final = (
    (_KEY_OBJECT_SELECTION, tags.CURRENT_REQUESTED_PROCEDURE_EVIDENCE_SEQUENCE),
    (b"1.2.840.10008.5.1.4.1.1.88.", tags.CONCEPT_NAME_CODE_SEQUENCE),
    (b"1.2.840.10008.5.1.4.1.1.104.", tags.DOCUMENT_TITLE),
    (b"1.2.840.10008.5.1.4.1.1.11.", tags.CONTENT_LABEL),
    (b"", tags.REASON_FOR_REQUESTED_PROCEDURE_CODE_SEQUENCE),
)
_WANTED: Final = tags.WANTED | PRIVATE_TAGS
_FUNCTIONAL_GROUPS: Final = 0x5200_9229
_TRANSFER_SYNTAX_UID: Final = 0x0002_0010
_DATA_SET: Final = 0x0003_0000
_ENCODINGS: Final = {
    b"1.2.840.10008.1.2": IMPLICIT_LITTLE,
    b"1.2.840.10008.1.2.2": EXPLICIT_BIG,
    b"1.2.840.113619.5.2": IMPLICIT_LITTLE,  # GE's, whose pixels alone are big endian
}
_DEFLATED: Final = frozenset(
    {
        b"1.2.840.10008.1.2.1.99",
        b"1.2.840.10008.1.2.4.95",
        b"1.2.840.10008.1.2.4.205",
    }
)
_PREAMBLE_BYTES: Final = 132
_INFLATED_AT_ONCE_BYTES: Final = 16 * 1024
TO_THE_END: Final = HeaderSettings(max_header_bytes=1 << 40, max_elements=100_000_000)
"""Bounds of a walk over a whole file, which keeps nothing."""


class Part10Parser:
    """Takes a DICOM file in pieces of any size until all wanted elements are in hand.

    Parameters
    ----------
    transfer_syntax_uid
        How a bare data set is written, that comes without preamble and meta group; None for a
        file.
    whole
        Walk to the end and keep nothing: whether the data set is whole is all that is asked.
    """

    def __init__(
        self,
        settings: HeaderSettings,
        transfer_syntax_uid: str | None = None,
        *,
        whole: bool = False,
    ) -> None:
        self.done = False
        self.encoding = EXPLICIT_LITTLE
        self._settings = settings
        self._whole = whole
        self._data: Data = b""
        self._pos = 0
        self._ended = False
        self._inflater: zlib._Decompress | None = None
        self._inflated_bytes = 0
        self._meta: Walker | None = None
        self._walker: Walker | None = None
        self._frames: FrameScanner | None = None
        self._stopped_at: int | None = None
        self._step = self._preamble
        if transfer_syntax_uid is not None:
            self._expect(transfer_syntax_uid.encode("ascii", "replace"))

    @property
    def elements(self) -> dict[int, RawElement]:
        """The wanted elements found so far."""
        return {} if self._walker is None else self._walker.elements

    @property
    def b_values(self) -> tuple[float, ...]:
        """What the frames of a diffusion image state, in ascending order."""
        return () if self._frames is None else tuple(sorted(self._frames.b_values))

    @property
    def anatomy(self) -> FrameAnatomy | None:
        """What the frames say of the part of the body that they show; None where not asked."""
        return None if self._frames is None else self._frames.anatomy

    @property
    def large_bytes(self) -> int:
        """What of ``elements`` is large."""
        return 0 if self._walker is None else self._walker.large_bytes

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises
        ------
        HeaderError
            When they cannot be read.
        """
        if self._inflater is not None:
            self._inflate(chunk)
        else:
            self._advance(chunk)

    def finish(self) -> None:
        """State that there are no more bytes.

        Raises
        ------
        HeaderError
            When those that came are not a whole header.
        """
        self._ended = True
        self._advance(b"")
        if self.done:
            return
        if self._inflater is not None and not self._inflater.eof:
            raise HeaderTruncated("the deflated data have no end")
        if self._walker is None:
            raise HeaderTruncated("there is no data set")
        self._walker.finish(self._data, self._pos)

    def walk_on(self, data: bytes) -> None:
        """Walk from where the header ends to the end of the file, all of which was fed at once.

        Raises
        ------
        HeaderTruncated
            When its last data element is not whole. What is odd in another way is let pass.
        """
        try:
            if self._inflater is not None:
                whole = Part10Parser(TO_THE_END, whole=True)
                whole.feed(data)
                whole.finish()
            elif self._stopped_at is not None:
                rest = Walker(self.encoding, frozenset(), TO_THE_END)
                rest.finish(data, rest.walk(data, self._stopped_at))
        except HeaderTruncated:
            raise
        except HeaderError:
            return

    def _advance(self, chunk: bytes) -> None:
        """Put new bytes behind those that are left, and go on with them."""
        left = len(self._data) - self._pos
        if left <= 0:
            self._data, self._pos = chunk[-left:] if left else chunk, max(0, -left - len(chunk))
        else:
            if not isinstance(self._data, bytearray):
                self._data = bytearray(self._data)
            if self._pos:
                del self._data[: self._pos]
                self._pos = 0
            self._data += chunk
        while not self.done and self._step():
            pass

    def _has(self, size: int) -> bool:
        return self._ended or len(self._data) - self._pos >= size

    # -- steps: each returns whether the next one can begin --------------------------------------

    def _preamble(self) -> bool:
        if not self._has(_PREAMBLE_BYTES):
            return False
        if self._data[128:132] == b"DICM":
            self._pos = _PREAMBLE_BYTES
        elif not _may_begin(self._data[:6]):
            raise HeaderError("it is not DICOM: no prefix, and no data element where one should be")
        self._step = self._meta_group
        return True

    def _meta_group(self) -> bool:
        if self._meta is None:
            wanted = frozenset({_TRANSFER_SYNTAX_UID})
            self._meta = Walker(EXPLICIT_LITTLE, wanted, self._settings, stop=_DATA_SET)
        if not self._walk(self._meta):
            return False
        stated = self._meta.elements.get(_TRANSFER_SYNTAX_UID)
        self._expect(stated[1].rstrip(b" \0") if stated else b"")
        return True

    def _expect(self, transfer_syntax_uid: bytes) -> None:
        self.encoding = _ENCODINGS.get(transfer_syntax_uid, EXPLICIT_LITTLE)
        self._step = self._first_element if transfer_syntax_uid else self._undeclared
        if transfer_syntax_uid in _DEFLATED:
            deflated = bytes(self._data[self._pos :])
            self._data, self._pos = b"", 0
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            self._inflate(deflated)

    def _undeclared(self) -> bool:
        """Find out how a data set is written that nobody says it of."""
        if not self._has(6):
            return False
        begin = self._data[self._pos : self._pos + 6]
        if len(begin) == 6 and not names_vr(begin[4:6]):
            self.encoding = IMPLICIT_LITTLE
        elif len(begin) == 6 and unpack_from("<H", begin)[0] >= 0x0400:
            self.encoding = EXPLICIT_BIG
        self._step = self._first_element
        return True

    def _first_element(self) -> bool:
        if not self._has(6):
            return False
        self.encoding = sniff(self.encoding, self._data[self._pos : self._pos + 6], 0)
        self._walker = (
            Walker(self.encoding, frozenset(), self._settings)
            if self._whole
            else Walker(
                self.encoding,
                _WANTED,
                self._settings,
                stop=_FUNCTIONAL_GROUPS,
                stop_by_class=_stop_by_class,
            )
        )
        self._step = self._data_set
        return True

    def _data_set(self) -> bool:
        if self._walker is None or not self._walk(self._walker):
            return False
        self._stopped_at = self._pos
        self._frames = self._sought_in_frames(self._walker.elements)
        if self._frames is not None:
            self._step = self._functional_groups
            return True
        self._conclude()
        return False

    def _sought_in_frames(self, elements: Mapping[int, RawElement]) -> FrameScanner | None:
        """Return what steps through the functional groups, None where they can say nothing."""
        if self._whole:
            return None
        b_values = _states_b_values_in_frames(elements)
        anatomy = is_sought(_text(elements, tags.SOP_CLASS_UID), elements)
        if not (b_values or anatomy):
            return None
        return FrameScanner(
            self.encoding,
            self._settings.max_elements,
            b_values=b_values,
            anatomy=FrameAnatomy() if anatomy else None,
        )

    def _functional_groups(self) -> bool:
        if self._frames is not None:
            self._pos = self._frames.scan(self._data, self._pos)
            if self._frames.done:
                self._conclude()
        return False

    def _conclude(self) -> None:
        self.done = True
        self._data, self._pos = b"", 0

    def _walk(self, walker: Walker) -> bool:
        if len(self._data) - self._pos >= walker.need:
            self._pos = walker.walk(self._data, self._pos)
        return walker.done

    def _inflate(self, chunk: bytes) -> None:
        if self._inflater is None:
            return
        inflated = b""
        # What stands behind the end is none of it, and would never be used up.
        while not (self.done or self._inflater.eof) and (
            chunk or len(inflated) == _INFLATED_AT_ONCE_BYTES
        ):
            try:
                inflated = self._inflater.decompress(chunk, _INFLATED_AT_ONCE_BYTES)
            except zlib.error as error:
                raise HeaderError("the deflated data are broken") from error
            self._inflated_bytes += len(inflated)
            if self._inflated_bytes > self._settings.max_header_bytes:
                if self._frames is not None:
                    self._conclude()
                    return
                raise HeaderTooLarge("inflated, it is larger than the settings allow")
            chunk = self._inflater.unconsumed_tail
            self._advance(inflated)


def _may_begin(begin: Data) -> bool:
    """Tell whether a file without preamble can begin like this: group 0002 or 0008."""
    if len(begin) < 6:
        return False
    little, big = unpack_from("<H", begin)[0], unpack_from(">H", begin)[0]
    return little in (0x0002, 0x0008) or (big == 0x0008 and names_vr(begin[4:6]))


def _states_b_values_in_frames(elements: Mapping[int, RawElement]) -> bool:
    if tags.DIFFUSION_B_VALUE in elements:
        return False
    sop_class_uid, image_type, contrast = (
        _text(elements, tag)
        for tag in (tags.SOP_CLASS_UID, tags.IMAGE_TYPE, tags.ACQUISITION_CONTRAST)
    )
    return is_diffusion(sop_class_uid, image_type.split("\\"), contrast)


def _text(elements: Mapping[int, RawElement], tag: int) -> str:
    return elements.get(tag, (b"", b""))[1].decode("ascii", "replace").strip(" \0")


def _stop_by_class(sop_class_uid: bytes) -> int:
    """Tell from the SOP class where the elements of interest end."""
    if sop_class_uid.rstrip(b" \0") == MR_IMAGE.encode():
        return 1 + LAST_PRIVATE_TAG
    return 1 + next(last for prefix, last in _STOPS if sop_class_uid.startswith(prefix))
