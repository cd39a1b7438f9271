"""An association that we request, for one thread: PDUs over one blocking socket.

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
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from struct import Struct
from typing import Final

from flute_sync.archive_errors import ArchiveServerError, ArchiveTooSlow, ArchiveUnavailable
from flute_sync.sources.dimse_negotiation import acceptance, association_request
from flute_sync.sources.dimse_peer import DimsePeerSettings, keep_alive

COMMAND, LAST = 1, 2
"""Of a message control header, PS3.8 E.2."""

_P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(4, 8)
_PDU: Final = Struct(">BxL")
_PDV: Final = Struct(">LBB")
_ELEMENT: Final = Struct("<HHL")
_US: Final = Struct("<H")
_LEAST_PDU_BYTES: Final = 128
_MOST_READ_BYTES: Final = 64 << 10  # at once, as the peer is told
_READ_AT_ONCE_BYTES: Final = 64 << 10
_GOODBYE: Final = timedelta(seconds=5)
_QUICKACK: Final = getattr(socket, "TCP_QUICKACK", None)


class Connection:
    """The connection of one association, which is requested when it is made.

    Every method but `alive`, `release` and `abort` raises `ArchiveUnavailable` when the association
    is at its end, and `ArchiveServerError` when the peer does not speak DICOM.

    Parameters
    ----------
    proposed
        The abstract syntax of each context, and its transfer syntaxes.
    most_bytes
        What we want to send at once; the peer may want less.
    as_scp
        Whether to propose that we are the SCP.

    Raises
    ------
    ArchiveUnavailable, ArchiveServerError
        When the peer cannot be reached, is busy or does not speak DICOM.
    ArchiveAssociationRejected
        When it does not want us.
    ConfigurationError, SecretUnreadable
        When our certificates cannot be used.
    """

    def __init__(
        self,
        settings: DimsePeerSettings,
        proposed: Iterable[tuple[str, Sequence[str]]],
        most_bytes: int,
        *,
        as_scp: bool = False,
    ) -> None:
        self._silence = settings.connect_timeout.total_seconds()
        self._buffer = bytearray()
        self._socket = _connected(settings)
        try:
            self._send(association_request(settings, proposed, _MOST_READ_BYTES, as_scp=as_scp))
            answer = self._pdu(time.monotonic() + self._silence)
            self._agreed, stated_bytes = acceptance(*answer)
        except ArchiveTooSlow as error:
            self._socket.close()
            raise ArchiveUnavailable("no association in time") from error
        except BaseException:
            self._socket.close()
            raise
        self._silence = settings.answer_timeout.total_seconds()
        most_bytes = max(_LEAST_PDU_BYTES, min(stated_bytes or most_bytes, most_bytes))
        self._room = (most_bytes - _PDV.size) & ~1  # fragments are even, PS3.8 E

    def alive(self) -> bool:
        """Tell whether the peer has neither ended the association nor sent anything unasked."""
        try:
            self._socket.settimeout(0)
            return not self._buffer and self._socket.recv(1) is None
        except (BlockingIOError, ssl.SSLWantReadError):
            return True
        except OSError:
            return False

    def release(self) -> None:
        """End the association in good order, as far as the peer lets us."""
        deadline = time.monotonic() + _GOODBYE.total_seconds()
        self._silence = _GOODBYE.total_seconds()
        with contextlib.suppress(ArchiveUnavailable, ArchiveServerError):  # its end in any case
            self._send(_PDU.pack(_RELEASE_RQ, 4) + bytes(4))
            while self._pdu(deadline)[0] not in (_RELEASE_RP, _ABORT):
                pass
        self._socket.close()

    def abort(self) -> None:
        """Break the association off: what was begun is not to be taken."""
        self._silence = _GOODBYE.total_seconds()
        with contextlib.suppress(ArchiveUnavailable):
            self._send(_PDU.pack(_ABORT, 4) + bytes(4))
        self._socket.close()

    def _parts(self, context_id: int, whole: bytes, flag: int) -> Iterator[bytes]:
        """Cut a command or a data set into P-DATA-TF PDUs."""
        for start in range(0, len(whole) or 1, self._room):
            part = whole[start : start + self._room]
            is_last = start + self._room >= len(whole)
            yield self._part(context_id, part, flag | (LAST if is_last else 0))

    def _part(self, context_id: int, part: bytes | bytearray, control: int) -> bytes:
        head = _PDU.pack(_P_DATA, len(part) + _PDV.size)
        return b"".join((head, _PDV.pack(len(part) + 2, context_id, control), part))

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
        if length > _MOST_READ_BYTES + _PDV.size:
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


def _connected(settings: DimsePeerSettings) -> socket.socket:
    """Connect to a peer, with TLS where that is set."""
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
