"""A DICOM association that we request, for one thread: messages over one blocking socket.

What the peer sends is bounded in size and time, whatever it is. pynetdicom's own associations have
two threads each that look for work a thousand times a second, and spend milliseconds on a message.

References
----------
PS3.7 6.3 and E, PS3.8 9.3 and PS3.15 B.12 (2026b).
"""

import contextlib
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from struct import Struct
from typing import Final, NamedTuple, Self

from flute_sync.archive_errors import ArchiveServerError, ArchiveTooSlow, ArchiveUnavailable
from flute_sync.sources.dimse_negotiation import (
    Context,
    Proposals,
    association_request,
    negotiated,
)
from flute_sync.sources.dimse_peer import DimsePeerSettings, keep_alive

_P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(4, 8)
_PDU: Final = Struct(">BxL")
_PDV: Final = Struct(">LBB")
_ELEMENT: Final = Struct("<HHL")
_US: Final = Struct("<H")
_COMMAND, _LAST = 1, 2
_NO_DATA_SET: Final = 0x0101
_DATA_SET_TYPE: Final = 0x0800
_LARGEST_COMMAND_BYTES: Final = 16 << 10
_LARGEST_PDU_BYTES: Final = 64 << 10
_LEAST_PDU_BYTES: Final = 128
_READ_AT_ONCE_BYTES: Final = 64 << 10
_GOODBYE: Final = timedelta(seconds=5)
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


class Message(NamedTuple):
    """A DIMSE message: the elements of its command that are one US, by number; its data set."""

    command: Mapping[int, int]
    data: bytes | None


class DimseAssociation:
    """One association.

    Every method but `alive`, `release` and `abort` raises `ArchiveUnavailable` when the association
    is at its end, and `ArchiveServerError` when the peer does not speak DICOM.
    """

    def __init__(self, sock: socket.socket, silence: timedelta) -> None:
        self.accepted: Mapping[str, Context] = {}
        self._socket = sock
        self._silence = silence.total_seconds()
        self._largest_sent_bytes = _LARGEST_PDU_BYTES
        self._buffer = bytearray()

    @classmethod
    def open(
        cls, settings: DimsePeerSettings, proposals: Proposals, *, as_scp: bool = False
    ) -> Self:
        """Call a peer and negotiate, as SCU or as SCP.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError
            When it cannot be reached, is busy or does not speak DICOM.
        ArchiveAssociationRejected
            When it does not want us.
        ConfigurationError, SecretUnreadable
            When our certificates cannot be used.
        """
        sock = connected(settings)
        try:
            association = cls(sock, settings.connect_timeout)
            association._negotiate(settings, proposals, as_scp=as_scp)
        except BaseException:
            sock.close()
            raise
        association._silence = settings.answer_timeout.total_seconds()
        return association

    def alive(self) -> bool:
        """Tell whether the peer has neither ended the association nor sent anything unasked."""
        try:
            self._socket.settimeout(0)
            return not self._buffer and self._socket.recv(1) is None
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False

    def send(self, context_id: int, command: bytes, data: bytes | None = None) -> None:
        """Send a message whole."""
        self._send(
            b"".join(
                _PDU.pack(_P_DATA, len(part) + _PDV.size)
                + _PDV.pack(len(part) + 2, context_id, control)
                + part
                for part, control in self._parts(command, data)
            )
        )

    def receive(self, deadline: float, largest_bytes: int) -> Message:
        """Take the next message.

        Parameters
        ----------
        deadline
            Monotonic seconds at which it must be there, however steadily it comes.
        largest_bytes
            Of its data set.
        """
        data = bytearray()
        command: dict[int, int] | None = None
        for control, part in self._fragments(deadline):
            if bool(control & _COMMAND) is (command is not None):
                raise ArchiveServerError("its messages are mixed up")
            data += part
            if len(data) > (_LARGEST_COMMAND_BYTES if command is None else largest_bytes):
                raise ArchiveServerError("its message is larger than the settings allow")
            if not control & _LAST:
                continue
            if command is not None:
                return Message(command, bytes(data))
            command = numbers(data)
            data.clear()
            if command.get(_DATA_SET_TYPE, _NO_DATA_SET) == _NO_DATA_SET:
                return Message(command, None)
        raise ArchiveServerError("its message does not end")

    def release(self) -> None:
        """End the association in good order, as far as the peer lets us."""
        deadline = time.monotonic() + _GOODBYE.total_seconds()
        with contextlib.suppress(ArchiveUnavailable, ArchiveServerError):  # its end in any case
            self._send(_PDU.pack(_RELEASE_RQ, 4) + bytes(4))
            while self._pdu(deadline)[0] not in (_RELEASE_RP, _ABORT):
                pass
        self._socket.close()

    def abort(self) -> None:
        """Break the association off."""
        with contextlib.suppress(ArchiveUnavailable):
            self._send(_PDU.pack(_ABORT, 4) + bytes(4))
        self._socket.close()

    def _negotiate(
        self, settings: DimsePeerSettings, proposals: Proposals, *, as_scp: bool
    ) -> None:
        proposed = proposals.items()
        self._send(association_request(settings, proposed, _LARGEST_PDU_BYTES, as_scp=as_scp))
        try:
            answer = self._pdu(time.monotonic() + self._silence)
        except ArchiveTooSlow as error:
            raise ArchiveUnavailable("no association in time") from error
        self.accepted, stated = negotiated(*answer, proposals)
        most = min(stated or _LARGEST_PDU_BYTES, _LARGEST_PDU_BYTES)
        self._largest_sent_bytes = max(_LEAST_PDU_BYTES, most)

    # -- PDUs ------------------------------------------------------------------------------------

    def _parts(self, command: bytes, data: bytes | None) -> Iterator[tuple[bytes, int]]:
        room = self._largest_sent_bytes - _PDV.size
        for whole, flag in ((command, _COMMAND), (data, 0)):
            if whole is None:
                continue
            for start in range(0, len(whole) or 1, room):
                is_last = start + room >= len(whole)
                yield whole[start : start + room], flag | (_LAST if is_last else 0)

    def _fragments(self, deadline: float) -> Iterator[tuple[int, bytes]]:
        """Yield control header and bytes of each presentation data value, PS3.8 9.3.5 and E.2."""
        while True:
            kind, body = self._pdu(deadline)
            if kind == _ABORT:
                raise ArchiveUnavailable("it aborted the association")
            if kind == _RELEASE_RQ:
                raise ArchiveUnavailable("it ended the association")
            pos = 0
            while pos < len(body):
                length, control = _pdv(kind, body, pos)
                yield control, body[pos + _PDV.size : pos + 4 + length]
                pos += 4 + length

    def _send(self, data: bytes) -> None:
        try:
            self._socket.settimeout(self._silence)
            self._socket.sendall(data)
        except (OSError, ValueError) as error:
            raise ArchiveUnavailable("it does not take what it is sent") from error

    def _pdu(self, deadline: float) -> tuple[int, bytes]:
        kind, length = _PDU.unpack(self._read(_PDU.size, deadline))
        if length > _LARGEST_PDU_BYTES + _PDV.size:
            raise ArchiveServerError("it sends more at once than was agreed, or no DICOM")
        return kind, self._read(length, deadline)

    def _read(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ArchiveTooSlow("it does not end")
            try:
                self._socket.settimeout(min(left, self._silence))
                chunk = self._socket.recv(_READ_AT_ONCE_BYTES)
                # A peer that leaves Nagle's algorithm on waits for our acknowledgement.
                if _QUICKACK is not None:
                    self._socket.setsockopt(socket.IPPROTO_TCP, _QUICKACK, 1)
            except TimeoutError as error:
                raise ArchiveTooSlow from error
            except (OSError, ValueError) as error:
                raise ArchiveUnavailable("the connection broke") from error
            if not chunk:
                raise ArchiveUnavailable("it closed the connection")
            self._buffer += chunk
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data


def encoded_command(elements: Mapping[int, bytes]) -> bytes:
    """Write a command set: values by element number, in ascending order (PS3.7 6.3.1)."""
    body = b"".join(_command_element(*element) for element in elements.items())
    return _command_element(0x0000, len(body).to_bytes(4, "little")) + body


def _command_element(number: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, number, len(value)) + value


def connected(settings: DimsePeerSettings) -> socket.socket:
    """Connect to a peer, with TLS where that is set.

    Raises
    ------
    ArchiveUnavailable
        When it cannot be reached.
    ConfigurationError, SecretUnreadable
        When our certificates cannot be used.
    """
    tls = None if settings.tls is None else settings.tls.context()
    timeout = settings.connect_timeout.total_seconds()
    sock = None
    try:
        sock = socket.create_connection((settings.host, settings.port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock)
        return sock if tls is None else tls.wrap_socket(sock, server_hostname=settings.host)
    except (OSError, ValueError) as error:
        if sock is not None:
            sock.close()
        raise ArchiveUnavailable(_what_failed(error)) from error


def _what_failed(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not accepted (X.509 error {error.verify_code})"
    if isinstance(error, ssl.SSLError):
        return "TLS failed"
    if isinstance(error, TimeoutError):
        return "no connection in time"
    if isinstance(error, OSError) and error.strerror:
        return f"no connection ({error.strerror})"
    return "no connection"


def _pdv(kind: int, body: bytes, pos: int) -> tuple[int, int]:
    if kind != _P_DATA:
        raise ArchiveServerError("it does not speak DICOM")
    if len(body) - pos >= _PDV.size:
        length, _, control = _PDV.unpack_from(body, pos)
        if length >= 2 and pos + 4 + length <= len(body):
            return length, control
    raise ArchiveServerError("its message is cut off")


def numbers(command: bytes | bytearray) -> dict[int, int]:
    """Read the elements of a command set that are one US, by element number."""
    found = {}
    pos = 0
    while pos + _ELEMENT.size <= len(command):
        group, number, length = _ELEMENT.unpack_from(command, pos)
        pos += _ELEMENT.size
        if group == 0 and length == _US.size and pos + length <= len(command):
            found[number] = _US.unpack_from(command, pos)[0]
        pos += length
    return found
