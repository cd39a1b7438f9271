"""One instance or picture on its way to disk: written, hashed and judged as it comes."""

import hashlib
from typing import BinaryIO, Final

from flute_sync.dicom_errors import HeaderError, HeaderTruncated
from flute_sync.fetch_errors import InstanceTooLarge, InstanceTruncated
from flute_sync.intake import Received
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.header_part10 import Part10Parser
from flute_sync.sources.header_settings import HeaderSettings

_PICTURES: Final = {
    "image/jpeg": (b"\xff\xd8\xff", b"\xff\xd9"),
    "image/png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
}
_EDGE_BYTES: Final = 16


class Incoming:
    """Bytes that go to a file and into a checksum.

    Parameters
    ----------
    stated_bytes
        How many there are to be, where that was said.
    """

    def __init__(self, stream: BinaryIO, largest_bytes: int, stated_bytes: int | None) -> None:
        self._stream = stream
        self._largest = largest_bytes
        self._stated = stated_bytes
        self._digest = hashlib.sha256()
        self.size_bytes = 0

    @property
    def sha256(self) -> str:
        """The checksum of what came."""
        return self._digest.hexdigest()

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises
        ------
        InstanceTooLarge
            The settings do not allow so many.
        OSError
            They cannot be written.
        """
        self.size_bytes += len(data)
        if self.size_bytes > self._largest:
            raise InstanceTooLarge("larger than fetch.max_instance_bytes")
        self._digest.update(data)
        self._stream.write(data)

    def end(self) -> None:
        """State that no more bytes come.

        Raises
        ------
        InstanceTruncated
            Other than as many came as were stated, or none.
        """
        if not self.size_bytes or self._stated not in (None, self.size_bytes):
            raise InstanceTruncated("other than as many bytes came as were announced")


class IncomingInstance(Incoming):
    """A DICOM file: its header is read, and its elements are counted to its end.

    Raises
    ------
    InstanceTruncated
        When it ends: the last of its data elements is not whole.
    HeaderError
        When it ends: its header cannot be read.
    """

    def __init__(
        self,
        stream: BinaryIO,
        largest_bytes: int,
        stated_bytes: int | None,
        reader: HeaderReader,
    ) -> None:
        super().__init__(stream, largest_bytes, stated_bytes)
        self._header = reader.parser()
        self._is_known = False
        self._walk: Part10Parser | None = Part10Parser(_TO_THE_END, whole=True)

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        super().feed(data)
        if not self._is_known:
            self._is_known = self._header.feed(data)
        if self._walk is not None:
            try:
                self._walk.feed(data)
            except HeaderError:
                self._walk = None  # odd, but not cut off: the archive has it no other way

    def received(self) -> Received:
        """State that it has ended, and return what its header says."""
        self.end()
        try:
            if self._walk is not None:
                self._walk.finish()
        except HeaderTruncated as error:
            raise InstanceTruncated("its last data element is not whole") from error
        except HeaderError:
            pass
        return self._header.finish()


_TO_THE_END: Final = HeaderSettings(max_header_bytes=1 << 40, max_elements=100_000_000)


class IncomingPicture(Incoming):
    """A JPEG or PNG: its first and last bytes are looked at."""

    def __init__(self, stream: BinaryIO, largest_bytes: int, essence: str) -> None:
        super().__init__(stream, largest_bytes, None)
        self._begin, self._end = _PICTURES[essence]
        self._first = self._last = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        super().feed(data)
        if len(self._first) < _EDGE_BYTES:
            self._first += data[:_EDGE_BYTES]
        self._last = (self._last + data[-_EDGE_BYTES:])[-_EDGE_BYTES:]

    def end(self) -> None:
        """State that no more bytes come; raises `InstanceTruncated`."""
        super().end()
        if not (self._first.startswith(self._begin) and self._last.endswith(self._end)):
            raise InstanceTruncated("the picture has no end, or is none")
