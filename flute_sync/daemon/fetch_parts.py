"""One instance or picture on its way to disk: hashed and judged as it comes.

What is small is held until it is whole, so that it is read once, and what is not wanted never
reaches the disk; what is larger goes to a file as it comes. Memory has a bound either way.
"""

import hashlib
from collections.abc import Callable
from typing import Final, Generic, Protocol, Self, TypeVar

from flute_sync.dicom_errors import HeaderError, HeaderTruncated
from flute_sync.fetch_errors import InstanceTooLarge, InstanceTruncated
from flute_sync.intake import Received
from flute_sync.sources.header import HeaderParser, HeaderReader
from flute_sync.sources.header_part10 import TO_THE_END, Part10Parser

_PICTURES: Final = {
    "image/jpeg": (b"\xff\xd8\xff", b"\xff\xd9"),
    "image/png": (b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"),
}
_EDGE_BYTES: Final = 16
HELD_BYTES: Final = 4 << 20


class Sink(Protocol):
    """Where bytes are written to; see `fetch_folder.Writing`."""

    def write(self, data: bytes) -> object: ...
    def close(self) -> None: ...
    def drop(self) -> None: ...


S = TypeVar("S", bound=Sink)


class Incoming(Generic[S]):
    """Bytes that go to a file and into a checksum; a ``with`` block drops what is not handed on.

    Parameters
    ----------
    open_file
        Gives a file once one is needed.
    stated_bytes
        How many there are to be, where that was said.
    held_bytes
        How many are held before they go to a file.
    """

    def __init__(
        self,
        open_file: Callable[[], S],
        largest_bytes: int,
        stated_bytes: int | None,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._open_file = open_file
        self._largest, self._stated, self._most_held = largest_bytes, stated_bytes, held_bytes
        self._digest = hashlib.sha256()
        self._held: list[bytes] = []
        self._file: S | None = None
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.drop()

    @property
    def sha256(self) -> str:
        """The checksum of what was written."""
        return self._digest.hexdigest()

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises
        ------
        InstanceTooLarge
            The settings do not allow so many.
        FolderUnusable
            They cannot be written.
        """
        self.size_bytes += len(data)
        if self.size_bytes > self._largest:
            raise InstanceTooLarge("larger than fetch.max_instance_bytes")
        self._held.append(data)
        if self.size_bytes > self._most_held:
            held = self._taken()
            self._look(held)
            self._write(held)

    def end(self) -> None:
        """State that no more bytes come.

        Raises
        ------
        InstanceTruncated
            Other than as many came as were stated, or none.
        """
        if not self.size_bytes or self._stated not in (None, self.size_bytes):
            raise InstanceTruncated("other than as many bytes came as were announced")

    def written(self) -> S:
        """Return the file with all of it, which is another's from now on."""
        file = self._write(self._taken())
        file.close()
        self._file = None
        return file

    def _taken(self) -> bytes:
        """Take what is held."""
        held, self._held = self._held, []
        return held[0] if len(held) == 1 else b"".join(held)

    def _write(self, data: bytes) -> S:
        if self._file is None:
            self._file = self._open_file()
        self._digest.update(data)
        self._file.write(data)
        return self._file

    def _look(self, data: bytes) -> None:
        """See bytes that go to the file before all have come."""


class IncomingInstance(Incoming[S]):
    """A DICOM file: its header is read, and its elements are counted to its end."""

    def __init__(
        self,
        open_file: Callable[[], S],
        largest_bytes: int,
        stated_bytes: int | None,
        reader: HeaderReader,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        super().__init__(open_file, largest_bytes, stated_bytes, held_bytes)
        self._reader = reader
        self._header: HeaderParser | None = None
        self._walk: Part10Parser | None = None

    def received(self) -> Received:
        """State that it has ended, and return what its header says.

        Raises
        ------
        InstanceTruncated
            Its last data element is not whole.
        HeaderError
            Its header cannot be read.
        """
        self.end()
        try:
            if self._header is None:
                self._held = [self._taken()]
                return self._reader.read_whole(self._held[0])
            self._finish_walk()
        except HeaderTruncated as error:
            raise InstanceTruncated("its last data element is not whole") from error
        return self._header.finish()

    def _look(self, data: bytes) -> None:
        if self._header is None:
            self._header = self._reader.parser()
            self._walk = Part10Parser(TO_THE_END, whole=True)
        self._header.feed(data)
        if self._walk is not None:
            try:
                self._walk.feed(data)
            except HeaderError:
                self._walk = None  # odd, but not cut off: the archive has it no other way

    def _finish_walk(self) -> None:
        try:
            if self._walk is not None:
                self._walk.finish()
        except HeaderTruncated:
            raise
        except HeaderError:
            return


class IncomingPicture(Incoming[S]):
    """A JPEG or PNG: its first and last bytes are looked at."""

    def __init__(self, open_file: Callable[[], S], largest_bytes: int, essence: str) -> None:
        super().__init__(open_file, largest_bytes, None)
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
