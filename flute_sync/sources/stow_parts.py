"""The parts of an upload: is it one, whose is each part, and can its header be read."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Protocol

from flute_sync.dicom_errors import HeaderError
from flute_sync.errors import PermanentError
from flute_sync.intake import Received, Refused
from flute_sync.sources.http_messages import Request
from flute_sync.sources.multipart import MultipartReader, PartHead, media_type
from flute_sync.sources.stow_settings import StowRsSettings
from flute_sync.study import StudyInstanceUID
from flute_sync.upload_errors import MultipartError, UnsupportedMediaType, UploadTooLarge

_DICOM: Final = "application/dicom"
_PLAIN_ENCODINGS: Final = frozenset({b"", b"binary", b"8bit", b"7bit", b"identity"})


class HeaderParser(Protocol):
    """Reads one header from pieces."""

    def feed(self, chunk: bytes, /) -> bool:
        """Take a piece; True when the header is known and no more is needed."""

    def finish(self) -> Received:
        """Return what the header says."""


class Headers(Protocol):
    """Makes a parser for each part."""

    def parser(self) -> HeaderParser:
        """Return a parser for one object."""


def open_upload(request: Request, settings: StowRsSettings) -> MultipartReader:
    """Check what a request says of its body, and return the reader for it.

    The type parameter may be absent, as with many senders: this service takes one type only.

    Raises
    ------
    UnsupportedMediaType
        When the body is not multipart/related of application/dicom.
    MultipartError
        When the boundary is missing or not legal.
    UploadTooLarge
        When the body says that it is too long.

    References
    ----------
    PS3.18 10.5.1 and 8.6.1.2 (2026b)
    """
    content = media_type(request.headers.get(b"content-type", b""))
    if content is None or content.essence != "multipart/related":
        raise UnsupportedMediaType("the body is not multipart/related")
    if content.parameters.get("type", _DICOM).strip().lower() != _DICOM:
        raise UnsupportedMediaType("the body's parts are not application/dicom")
    if request.headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise UnsupportedMediaType("the body has a content encoding")
    if "boundary" not in content.parameters:
        raise MultipartError("the Content-Type has no boundary")
    if (request.content_length or 0) > settings.max_request_bytes:
        raise UploadTooLarge("the request is larger than stow_rs.max_request_bytes")
    return MultipartReader(content.parameters["boundary"])


class Part:
    """One part: its header is read from the first bytes, the rest is only counted.

    ``outcome`` is None until the header is known or refused; it is never None once the part is
    complete.
    """

    def __init__(self, head: PartHead, headers: Headers, settings: StowRsSettings) -> None:
        self.content_type = head.headers.get(b"content-type", _DICOM.encode())
        self.outcome: Received | PermanentError | None = _refusal(head, self.content_type)
        self._parser = headers.parser()
        self._largest_bytes = settings.max_part_bytes
        self._bytes = 0

    def feed(self, data: bytes) -> None:
        """Take some of the part's data.

        Raises
        ------
        UploadTooLarge
            When the part is too long.
        """
        self._bytes += len(data)
        if self._bytes > self._largest_bytes:
            raise UploadTooLarge("a part is larger than stow_rs.max_part_bytes")
        if self.outcome is None:
            try:
                if self._parser.feed(data):
                    self.outcome = self._parser.finish()
            except HeaderError as error:
                self.outcome = error

    def end(self) -> None:
        """Say that the part is complete."""
        if self.outcome is None:
            try:
                self.outcome = self._parser.finish()
            except HeaderError as error:
                self.outcome = error


def _refusal(head: PartHead, content_type: bytes) -> PermanentError | None:
    content = media_type(content_type)
    if content is None or content.essence != _DICOM:
        return UnsupportedMediaType("a part is not application/dicom")
    encoding = head.headers.get(b"content-transfer-encoding", b"").lower()
    if encoding not in _PLAIN_ENCODINGS:
        return UnsupportedMediaType("a part has a content transfer encoding")
    return None


class Parts:
    """All parts of one upload, one after the other."""

    def __init__(
        self, multipart: MultipartReader, headers: Headers, settings: StowRsSettings
    ) -> None:
        self._multipart = multipart
        self._headers = headers
        self._settings = settings
        self._part: Part | None = None
        self.count = 0

    def feed(self, chunk: bytes) -> Iterator[tuple[Part, bytes | None]]:
        """Yield data with the part it belongs to, and None instead when the part is complete.

        Raises
        ------
        MultipartError, UploadTooLarge
            The upload cannot go on.
        """
        for piece in self._multipart.feed(chunk):
            if isinstance(piece, PartHead):
                self.count += 1
                if self.count > self._settings.max_parts:
                    raise UploadTooLarge("the request has more parts than stow_rs.max_parts")
                self._part = Part(piece, self._headers, self._settings)
            elif self._part is not None and isinstance(piece, bytes):
                self._part.feed(piece)
                yield self._part, piece
            elif self._part is not None:
                self._part.end()
                yield self._part, None

    def close(self) -> None:
        """Say that the body has ended.

        Raises
        ------
        MultipartError
            When it is cut off, or had no parts.
        """
        self._multipart.close()
        if not self.count:
            raise MultipartError("the body has no parts")


@dataclass(slots=True)
class Tally:
    """What became of an upload's parts, for the log and for the ledger."""

    parts: int = 0
    failed: int = 0
    bytes: int = 0
    studies: set[StudyInstanceUID] = field(default_factory=set)


def refused(error: PermanentError) -> tuple[Refused, ...]:
    """Say of which study an unreadable object was, where its header tells that much."""
    if error.study_instance_uid is None:
        return ()
    tag = error.tag if isinstance(error, HeaderError) else None
    return (Refused(StudyInstanceUID(error.study_instance_uid), error.code, tag),)
