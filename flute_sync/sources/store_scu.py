"""C-STORE as SCU of data sets that are encoded already: they pass through as they come.

pynetdicom writes and reads the PDUs of the negotiation; the data set goes straight to the socket,
fragment by fragment, so that memory stays flat and no byte is touched.

References
----------
PS3.4 B, PS3.7 9.3.1 and PS3.8 9.3 (2026b).
"""

import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Final, Self

from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID
from pynetdicom.pdu import A_ASSOCIATE_AC, A_ASSOCIATE_RJ, A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import PresentationContext

from flute_sync.archive_errors import (
    ArchiveAssociationRejected,
    ArchiveContextRefused,
    ArchiveServerError,
    ArchiveUnavailable,
)
from flute_sync.sources.dimse_peer import DimsePeerSettings
from flute_sync.sources.store_sink import Context, StoreCommand

_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"
_LARGEST_SENT_BYTES: Final = 128 << 10
_LARGEST_READ_BYTES: Final = 64 << 10
MOST_CONTEXTS: Final = 128
_ASSOCIATE_AC, _ASSOCIATE_RJ, _P_DATA, _RELEASE_RQ, _RELEASE_RP, _ABORT = range(2, 8)
_ABORTED: Final = bytes((_ABORT, 0, 0, 0, 0, 4, 0, 0, 0, 0))
_RELEASE: Final = bytes((5, 0, 0, 0, 0, 4, 0, 0, 0, 0))
_PDU: Final = Struct(">BxL")
_P_DATA_HEAD: Final = Struct(">BxLLBB")
_PDV: Final = Struct(">LBB")
_ELEMENT: Final = Struct("<HHL")
_US: Final = Struct("<H")
_C_STORE_RSP: Final = 0x8001
_LAST, _COMMAND = 2, 1

_GARBLED: Final = (
    ArithmeticError, AttributeError, LookupError, NotImplementedError, StructError, TypeError,
    ValueError,
)  # fmt: skip
"""What pynetdicom raises for a PDU that is not one."""


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
        self._payload_bytes = (largest_bytes - _PDV.size) & ~1  # even, PS3.8 annex E
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
        tls = None if settings.tls is None else settings.tls.context()
        proposed = dict(zip(range(1, 2 * MOST_CONTEXTS, 2), dict.fromkeys(contexts), strict=False))
        try:
            sock = socket.create_connection(
                (settings.host, settings.port), settings.connect_timeout.total_seconds()
            )
        except OSError as error:
            raise ArchiveUnavailable("the PACS takes no connection") from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                sock = tls.wrap_socket(sock, server_hostname=settings.host)
            sock.sendall(_association_request(settings, proposed))
            accepted, largest_bytes = _accepted(proposed, *_read_pdu(sock))
            sock.settimeout(settings.answer_timeout.total_seconds())
        except (OSError, ValueError) as error:
            sock.close()
            raise ArchiveUnavailable("the PACS breaks the negotiation off") from error
        except BaseException:
            sock.close()
            raise
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
        self._out = self._pdu(_store_request(self._message_id, command), _COMMAND | _LAST)
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
            self._sock.sendall(_RELEASE)
            while _read_pdu(self._sock)[0] not in (_RELEASE_RP, _ABORT):
                pass
        except (OSError, ArchiveServerError):
            pass  # whatever is wrong with it, it is at its end
        self._sock.close()

    def abort(self) -> None:
        """Break the association off: what was begun is not to be stored."""
        try:
            self._sock.settimeout(1)
            self._sock.sendall(_ABORTED)
        except OSError:
            pass  # it is gone already
        self._sock.close()

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
                    return self._status_in(_elements(command))

    def _status_in(self, command: Mapping[int, int]) -> int:
        if command.get(0x0100) != _C_STORE_RSP or command.get(0x0120) != self._message_id:
            raise ArchiveServerError("the PACS answers something else than what it was asked")
        status = command.get(0x0900)
        if status is None:
            raise ArchiveServerError("the PACS answers without a status")
        return status


def _association_request(settings: DimsePeerSettings, proposed: Mapping[int, Context]) -> bytes:
    primitive = A_ASSOCIATE()
    primitive.application_context_name = _APPLICATION_CONTEXT
    primitive.calling_ae_title = settings.calling_ae_title
    primitive.called_ae_title = settings.ae_title
    primitive.presentation_context_definition_list = list(_proposals(proposed))
    length = MaximumLengthNotification()
    length.maximum_length_received = _LARGEST_READ_BYTES
    implementation = ImplementationClassUIDNotification()
    implementation.implementation_class_uid = PYNETDICOM_IMPLEMENTATION_UID
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    return pdu.encode()


def _proposals(proposed: Mapping[int, Context]) -> Iterable[PresentationContext]:
    for context_id, context in proposed.items():
        proposal = PresentationContext()
        proposal.context_id = context_id
        proposal.abstract_syntax = context.abstract_syntax
        proposal.transfer_syntax = [context.transfer_syntax]
        yield proposal


def _accepted(
    proposed: Mapping[int, Context], kind: int, body: bytes
) -> tuple[dict[Context, int], int]:
    """Read the answer to the proposal: what was accepted, and the largest PDU it takes."""
    pdu = _PDU.pack(kind, len(body)) + body
    try:
        if kind == _ASSOCIATE_RJ:
            rejection = A_ASSOCIATE_RJ()
            rejection.decode(pdu)
            transient = rejection.result == 2
            reason = f"source {rejection.source}, reason {rejection.reason_diagnostic}"
            raise (ArchiveUnavailable if transient else ArchiveAssociationRejected)(reason)
        if kind != _ASSOCIATE_AC:
            raise ArchiveUnavailable("the PACS aborts the negotiation")
        answer = A_ASSOCIATE_AC()
        answer.decode(pdu)
        taken = {
            item.context_id: str(item.transfer_syntax)
            for item in answer.presentation_context
            if item.result == 0
        }
        user_information = answer.user_information
        most = (user_information.maximum_length if user_information else None) or 0
    except _GARBLED as error:
        raise ArchiveServerError("the PACS's answer to the association is not one") from error
    accepted = {
        context: context_id
        for context_id, context in proposed.items()
        if taken.get(context_id) == context.transfer_syntax
    }
    return accepted, max(64, min(most or _LARGEST_SENT_BYTES, _LARGEST_SENT_BYTES))


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


def _pdvs(body: bytes) -> Iterable[tuple[int, bytes]]:
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


def _elements(command: bytes | bytearray) -> dict[int, int]:
    """Read the elements of a command set that are one US, by element number."""
    found = {}
    pos = 0
    while pos + _ELEMENT.size <= len(command):
        group, element, length = _ELEMENT.unpack_from(command, pos)
        pos += _ELEMENT.size
        if group == 0 and length == _US.size and pos + length <= len(command):
            found[element] = _US.unpack_from(command, pos)[0]
        pos += length
    return found


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
