"""Reading DICOM headers: from bytes, from a file, or from a stream as it comes.

Hundreds of instances of a series say the same but for a few elements. What they say is decoded
once, and they share one `study.Header`.

References
----------
PS3.10 7 and PS3.3 A.1 (2026b).
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from functools import lru_cache
from typing import BinaryIO, Final, NamedTuple

from flute_sync.dicom_errors import HeaderError
from flute_sync.intake import Received
from flute_sync.sources import header_tags as tags
from flute_sync.sources.header_attributes import read_header
from flute_sync.sources.header_decode import Decoder
from flute_sync.sources.header_diffusion import as_element, settle
from flute_sync.sources.header_elements import Elements
from flute_sync.sources.header_part10 import Part10Parser
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.header_walk import Encoding, RawElement
from flute_sync.study import (
    Header,
    Instance,
    Remark,
    SeriesInstanceUID,
    SOPInstanceUID,
    StudyInstanceUID,
)
from flute_sync.valuerep import Unusable, parse_date, parse_integer, uid_problem

__all__ = ["HeaderParser", "HeaderReader", "HeaderSettings"]

_FIRST_CHUNK_BYTES: Final = 16 * 1024
_CHUNK_BYTES: Final = 256 * 1024
_LARGEST_CACHED_BYTES: Final = 64 * 1024
_UID: Final = re.compile(rb"(?=[0-9.]{1,64}[\0 ]*\Z)((?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*))*)[\0 ]*")
_UID_VRS: Final = frozenset({b"UI", b""})
_NUMBER_VRS: Final = frozenset({b"IS", b""})
_ABSENT: Final = (b"", b"")
_NUMBER: Final = re.compile(rb" *(\d{1,9})[ \0]*")

RawElements = tuple[tuple[int, RawElement], ...]


class Shared(NamedTuple):
    """What a header says beside the instance's own UID and number."""

    study_instance_uid: str
    series_instance_uid: str
    header: Header


class HeaderReader:
    """Reads headers, and remembers the distinct ones. It may be used by several threads."""

    def __init__(self, settings: HeaderSettings | None = None) -> None:
        self._settings = settings or HeaderSettings()
        self._decode = lru_cache(maxsize=self._settings.cached_headers)(self._decode_once)
        self._remarked = lru_cache(maxsize=self._settings.cached_headers)(with_remarks)

    def parser(self, transfer_syntax_uid: str | None = None) -> "HeaderParser":
        """Return a parser for one instance that comes in pieces.

        Parameters
        ----------
        transfer_syntax_uid
            For a bare data set, as DIMSE carries it; None for a DICOM file.
        """
        return HeaderParser(self, Part10Parser(self._settings, transfer_syntax_uid))

    def read(self, data: bytes | BinaryIO, transfer_syntax_uid: str | None = None) -> Received:
        """Read the header of one instance, and no more of a file than that needs.

        Parameters
        ----------
        transfer_syntax_uid
            For a bare data set, as DIMSE carries it; None for a DICOM file.

        Raises
        ------
        HeaderError
            When it cannot be read; names the element and the reason.
        """
        parser = self.parser(transfer_syntax_uid)
        chunks = _slices(data) if isinstance(data, bytes) else _reads(data)
        for chunk in chunks:
            if parser.feed(chunk):
                break
        return parser.finish()

    def read_whole(self, data: bytes) -> Received:
        """Read the header of a DICOM file, and see that its last data element is whole.

        Raises
        ------
        HeaderTruncated
            When it is not.
        HeaderError
            As `read`.
        """
        parser = Part10Parser(self._settings)
        parser.feed(data)
        if not parser.done:
            parser.finish()
        parser.walk_on(data)
        return self.received(parser)

    def received(self, parser: Part10Parser) -> Received:
        """Decode the raw elements that a parser found.

        Raises
        ------
        HeaderError
            When a UID is absent or illegal, or a sequence is broken.
        """
        raw, encoding = parser.elements, parser.encoding
        settle(raw, encoding)
        if parser.b_values:
            raw[tags.DIFFUSION_B_VALUE] = as_element(parser.b_values, little=encoding.little)
        if parser.anatomy is not None:
            parser.anatomy.settle(raw)
        sop_instance_uid, number, remarks = self._own(raw, encoding)
        decode = self._decode if parser.large_bytes <= _LARGEST_CACHED_BYTES else self._decode_once
        study, series, header = decode(self._shared(raw), encoding)
        if remarks:
            header = self._remarked(header, remarks)
        return Received(
            StudyInstanceUID(study),
            SeriesInstanceUID(series),
            Instance(SOPInstanceUID(sop_instance_uid), number, header),
        )

    def _shared(self, raw: dict[int, RawElement]) -> RawElements:
        """Leave out what is the instance's own, also its moment where dates say enough."""
        shared = raw.copy()
        for tag in tags.OF_THE_INSTANCE:
            shared.pop(tag, None)
        known = self._settings.placeholder_dates
        if _dated(raw.get(tags.STUDY_DATE), known) and _dated(raw.get(tags.SERIES_DATE), known):
            for tag in tags.OF_THE_MOMENT:
                shared.pop(tag, None)
        return tuple(shared.items())

    def _decode_once(self, raw: RawElements, encoding: Encoding) -> Shared:
        return shared_part(Decoder(encoding, self._settings).decode(dict(raw)), self._settings)

    def _own(
        self, raw: dict[int, RawElement], encoding: Encoding
    ) -> tuple[str, int | None, frozenset[Remark]]:
        """Read what is the instance's own, without a detour where it is plain."""
        uid_vr, uid = raw.get(tags.SOP_INSTANCE_UID, _ABSENT)
        number_vr, number = raw.get(tags.INSTANCE_NUMBER, _ABSENT)
        plain_uid, plain_number = _UID.fullmatch(uid), _NUMBER.fullmatch(number)
        if plain_uid and plain_number and uid_vr in _UID_VRS and number_vr in _NUMBER_VRS:
            return plain_uid[1].decode(), int(plain_number[1]), frozenset()
        own = {tag: element for tag, element in raw.items() if tag in tags.OF_THE_INSTANCE}
        return own_part(Decoder(encoding, self._settings).decode(own))


class HeaderParser:
    """Takes one instance in pieces of any size.

    Its memory is bounded by the settings, whatever is fed; pieces after the header cost nothing.
    """

    def __init__(self, reader: HeaderReader, parser: Part10Parser) -> None:
        self._reader = reader
        self._parser = parser
        self._refusal: HeaderError | None = None

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes.

        Returns
        -------
        bool
            Whether further bytes are needless: the header is known, or refused.
        """
        if self._refusal is None and not self._parser.done:
            try:
                self._parser.feed(bytes(chunk))
            except HeaderError as refusal:
                self._refusal = refusal
        return self._refusal is not None or self._parser.done

    def finish(self) -> Received:
        """State that no more bytes come, and return what the header says.

        Raises
        ------
        HeaderError
            When it cannot be read; names the element and the reason, and the instance as far as
            that is known.
        """
        try:
            if self._refusal is not None:
                raise self._refusal
            if not self._parser.done:
                self._parser.finish()
            return self._reader.received(self._parser)
        except HeaderError as refusal:
            elements = self._parser.elements
            refusal.study_instance_uid = _plain_uid(elements, tags.STUDY_INSTANCE_UID)
            refusal.sop_class_uid = _plain_uid(elements, tags.SOP_CLASS_UID)
            refusal.sop_instance_uid = _plain_uid(elements, tags.SOP_INSTANCE_UID)
            raise


def shared_part(elements: Elements, settings: HeaderSettings) -> Shared:
    """Read what instances share.

    Raises
    ------
    HeaderError
        When a UID is absent or illegal.
    """
    study = elements.uid(tags.STUDY_INSTANCE_UID)
    series = elements.uid(tags.SERIES_INSTANCE_UID)
    return Shared(study, series, read_header(elements, settings))


def own_part(elements: Elements) -> tuple[str, int | None, frozenset[Remark]]:
    """Read what is the instance's own: UID and number, and remarks upon them.

    Raises
    ------
    HeaderError
        When the UID is absent or illegal.
    """
    uid = elements.uid(tags.SOP_INSTANCE_UID)
    number = elements.parsed(tags.INSTANCE_NUMBER, parse_integer)
    return uid, number, frozenset(elements.remarks)


def with_remarks(header: Header, remarks: Iterable[Remark]) -> Header:
    """Return the header with further remarks, in order."""
    every = {*header.remarks, *remarks}
    ordered = sorted(every, key=lambda remark: (remark.tag, remark.code))
    return replace(header, remarks=tuple(ordered))


@lru_cache(maxsize=4096)
def _dated(element: RawElement | None, placeholders: tuple[date, ...]) -> bool:
    if element is None or element[0] not in (b"DA", b""):
        return False
    try:
        return parse_date(element[1].decode("ascii"), placeholders) is not None
    except (Unusable, UnicodeDecodeError):
        return False


def _plain_uid(elements: dict[int, RawElement], tag: int) -> str | None:
    element = elements.get(tag)
    if element is None:
        return None
    uid = element[1].decode("ascii", "replace").rstrip(" \0")
    return None if uid_problem(uid) == "illegal" else uid


def _slices(data: bytes) -> Iterable[bytes]:
    yield data[:_FIRST_CHUNK_BYTES]
    for start in range(_FIRST_CHUNK_BYTES, len(data), _CHUNK_BYTES):
        yield data[start : start + _CHUNK_BYTES]


def _reads(stream: BinaryIO) -> Iterable[bytes]:
    chunk = stream.read(_FIRST_CHUNK_BYTES)
    while chunk:
        yield chunk
        chunk = stream.read(_CHUNK_BYTES)
