"""C-STORE as SCU of data sets that are encoded already: they pass through as they come.

The data set goes straight to the socket, fragment by fragment, so that memory stays flat and no
byte is touched.

References
----------
PS3.4 B, PS3.7 9.3.1 and PS3.8 9.3 (2026b).
"""

import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from struct import Struct
from typing import Final, Self

from flute_sync.archive_errors import (
    ArchiveContextRefused,
    ArchiveServerError,
    ArchiveUnavailable,
)
from flute_sync.sources.dimse_association import connected, numbers
from flute_sync.sources.dimse_negotiation import acceptance, association_request
from flute_sync.sources.dimse_peer import DimsePeerSettings
from flute_sync.sources.store_sink import Context, StoreCommand

_LARGEST_SENT_BYTES: Final = 128 << 10
_LEAST_SENT_BYTES: Final = 128
_LARGEST_READ_BYTES: Final = 64 << 10
MOST_CONTEXTS: Final = 128
_GOODBYE: Final = timedelta(seconds=5)
_P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(4, 8)
_ABORTED: Final = bytes((_ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0))
_RELEASE: Final = bytes((_RELEASE_RQ, 0, 0, 0, 0, 4, 0, 0, 0, 0))
_PDU: Final = Struct(">BxL")
_P_DATA_HEAD: Final = Struct(">BxLLBB")
_PDV: Final = Struct(">LBB")
_ELEMENT: Final = Struct("<HHL")
_US: Final = Struct("<H")
_C_STORE_RSP: Final = 0x8001
_LAST, _COMMAND = 2, 1


class StoreAssociation:
    """One association with a PACS; used by one thread at a time.

    Every method but `alive` and `abort` raises `ArchiveUnavailable` or `ArchiveServerError` when
    the association is at its end.
    """

    def __init__(
        self, sock: socket.socket, accepted: Mapping[Context, int], largest_bytes: int
    ) -> None:
        self._sock = sock
        self._accepted = accepted
        most = min(largest_bytes or _LARGEST_SENT_BYTES, _LARGEST_SENT_BYTES)
        self._payload_bytes = (max(most, _LEAST_SENT_BYTES) - _PDV.size) & ~1  # even, PS3.8 annex E
        self._context_id = 0
        self._message_id = 0
        self._out = b""
        self._data = bytearray()

    @classmethod
    def open(cls, settings: DimsePeerSettings, contexts: Sequence[Context]) -> Self:
        """Call a PACS and negotiate; each context is proposed with its one transfer syntax.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError
            When it cannot be reached or does not speak DICOM.
        ArchiveAssociationRejected
            When it does not want us.
        ConfigurationError, SecretUnreadable
            When our certificates cannot be used.
        """
        proposed = list(dict.fromkeys(contexts))[:MOST_CONTEXTS]
        sock = connected(settings)
        try:
            pairs = [(one.abstract_syntax, [one.transfer_syntax]) for one in proposed]
            sock.sendall(association_request(settings, pairs, _LARGEST_READ_BYTES))
            answered, largest_bytes = acceptance(*_read_pdu(sock))
            sock.settimeout(settings.answer_timeout.total_seconds())
        except OSError as error:
            sock.close()
            raise ArchiveUnavailable("the PACS breaks the negotiation off") from error
        except BaseException:
            sock.close()
            raise
        accepted = {
            context: context_id
            for context_id, context in zip(range(1, 256, 2), proposed, strict=False)
            if answered.get(context_id) == context.transfer_syntax
        }
        return cls(sock, accepted, largest_bytes)

    def takes(self, context: Context) -> bool:
        """Tell whether the PACS accepted a context."""
        return context in self._accepted

    def alive(self) -> bool:
        """Tell whether the PACS has neither ended the association nor sent anything unasked."""
        timeout = self._sock.gettimeout()
        try:
            self._sock.settimeout(0)
            self._sock.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            self._sock.settimeout(timeout)
            return True
        except OSError:
            pass
        return False

    def begin(self, command: StoreCommand) -> None:
        """Begin to store an instance; nothing is sent yet.

        Raises
        ------
        ArchiveContextRefused
            When the PACS did not accept the context.
        """
        context = Context(command.abstract_syntax, command.transfer_syntax)
        if context not in self._accepted:
            raise ArchiveContextRefused
        self._context_id = self._accepted[context]
        self._message_id = self._message_id % 0xFFFF + 1
        self._out = b"".join(self._command(_store_request(self._message_id, command)))
        self._data.clear()

    def send(self, data: bytes) -> None:
        """Pass a part of the data set on; what does not fill a PDU waits."""
        self._data += data
        while len(self._data) > self._payload_bytes:
            self._write(self._pdu(self._data[: self._payload_bytes], 0))
            del self._data[: self._payload_bytes]

    def finish(self) -> int:
        """End the data set, and return the status that the PACS answers."""
        self._write(self._pdu(self._data, _LAST))
        self._data.clear()
        try:
            return self._status()
        except OSError as error:
            raise ArchiveUnavailable("the PACS does not answer") from error

    def release(self) -> None:
        """End the association in good order, as far as the PACS lets us."""
        try:
            self._sock.settimeout(_GOODBYE.total_seconds())
            self._sock.sendall(_RELEASE)
            while _read_pdu(self._sock)[0] not in (_RELEASE_RP, _ABORT):
                pass
        except (OSError, ArchiveServerError):
            pass  # whatever is wrong with it, it is at its end
        self._sock.close()

    def abort(self) -> None:
        """Break the association off: what was begun is not to be stored."""
        try:
            self._sock.settimeout(_GOODBYE.total_seconds())
            self._sock.sendall(_ABORTED)
        except OSError:
            pass  # it is gone already
        self._sock.close()

    def _command(self, encoded: bytes) -> Iterator[bytes]:
        for start in range(0, len(encoded), self._payload_bytes):
            end = start + self._payload_bytes
            control = _COMMAND | (_LAST if end >= len(encoded) else 0)
            yield self._pdu(encoded[start:end], control)

    def _pdu(self, data: bytes | bytearray, control: int) -> bytes:
        size = len(data)
        head = _P_DATA_HEAD.pack(_P_DATA, size + _PDV.size, size + 2, self._context_id, control)
        return head + data

    def _write(self, pdu: bytes) -> None:
        # The command goes with the first of the data: one packet for a small instance.
        out, self._out = self._out, b""
        try:
            self._sock.sendall(out + pdu)
        except OSError as error:
            raise ArchiveUnavailable("the PACS does not take what it is sent") from error

    def _status(self) -> int:
        command = bytearray()
        while True:
            kind, body = _read_pdu(self._sock)
            if kind != _P_DATA:
                raise ArchiveUnavailable("the PACS ended the association instead of an answer")
            for control, data in _pdvs(body):
                if not control & _COMMAND:
                    raise ArchiveServerError("the PACS answers with data where none belong")
                command += data
                if len(command) > _LARGEST_READ_BYTES:
                    raise ArchiveServerError("the PACS's answer does not end")
                if control & _LAST:
                    return self._status_in(numbers(command))

    def _status_in(self, command: Mapping[int, int]) -> int:
        if command.get(0x0100) != _C_STORE_RSP or command.get(0x0120) != self._message_id:
            raise ArchiveServerError("the PACS answers something else than what it was asked")
        status = command.get(0x0900)
        if status is None:
            raise ArchiveServerError("the PACS answers without a status")
        return status


def _read_pdu(sock: socket.socket) -> tuple[int, bytes]:
    kind, length = _PDU.unpack(_read(sock, _PDU.size))
    if length > _LARGEST_READ_BYTES + _PDV.size:
        raise ArchiveServerError("the PACS sends more at once than was agreed")
    return kind, _read(sock, length)


def _read(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionResetError
        data += piece
    return bytes(data)


def _pdvs(body: bytes) -> Iterator[tuple[int, bytes]]:
    pos = 0
    while pos < len(body):
        if len(body) - pos < _PDV.size:
            raise ArchiveServerError("the PACS's answer is cut off")
        length, _, control = _PDV.unpack_from(body, pos)
        end = pos + 4 + length
        if length < 2 or end > len(body):
            raise ArchiveServerError("the PACS's answer is cut off")
        yield control, body[pos + _PDV.size : end]
        pos = end


def _store_request(message_id: int, command: StoreCommand) -> bytes:
    elements = [
        _element(0x0002, _padded(command.sop_class_uid, b"\0")),
        _element(0x0100, _US.pack(0x0001)),
        _element(0x0110, _US.pack(message_id)),
        _element(0x0700, _US.pack(command.priority)),
        _element(0x0800, _US.pack(0x0001)),
        _element(0x1000, _padded(command.sop_instance_uid, b"\0")),
    ]
    if command.move_originator_ae_title is not None:
        elements.append(_element(0x1030, _padded(command.move_originator_ae_title, b" ")))
    if command.move_originator_message_id is not None:
        elements.append(_element(0x1031, _US.pack(command.move_originator_message_id)))
    body = b"".join(elements)
    return _element(0x0000, len(body).to_bytes(4, "little")) + body


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value


def _padded(text: str, pad: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + pad * (len(value) % 2)
