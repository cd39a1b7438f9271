"""Protocol data units of an established association: cut from a stream, and written.

What is cut is handed on as it comes, so that memory does not grow with what a sender sends. Any
bytes are taken: they are fragments and signs, or the protocol is violated.

References
----------
PS3.8 9.3 and annex E (2026b).
"""

from collections.abc import Iterator
from enum import Enum
from struct import pack, unpack_from
from typing import Final, NamedTuple

from flute_sync.dimse_errors import ProtocolViolated

_P_DATA_TF: Final = 0x04
_UNRECOGNIZED_PDU: Final = 1
_UNEXPECTED_PDU: Final = 2
_INVALID_PARAMETER: Final = 6
_HEAD_BYTES: Final = 6  # of a PDU, and of a presentation data value
_SIGN_BYTES: Final = 4
_LEAST_PDV_BYTES: Final = 2  # context ID and message control header
_SERVICE_PROVIDER: Final = 2
_SMALLEST_PDU_BYTES: Final = 128

RELEASE_RP: Final = b"\x06\x00\x00\x00\x00\x04\x00\x00\x00\x00"


class Fragment(NamedTuple):
    """A piece of a message; ``is_last`` where it ends the command or the data set.

    ``data`` may be a view of a buffer that is used again: it holds until the next piece is asked
    for.
    """

    context_id: int
    is_command: bool
    is_last: bool
    data: bytes | memoryview


class Sign(Enum):
    """A PDU that carries no data."""

    RELEASE_RQ = 0x05
    RELEASE_RP = 0x06
    ABORT = 0x07


class PduReader:
    """Cuts what a sender sends after its association was accepted.

    Parameters
    ----------
    max_pdu_bytes
        What the sender was told: a longer P-DATA-TF is a violation.
    """

    def __init__(self, max_pdu_bytes: int) -> None:
        self._max_pdu_bytes = max_pdu_bytes
        self._held = b""
        self._sign: Sign | None = None
        self._pdu_left = 0
        self._pdv_left = 0
        self._context_id = 0
        self._is_command = False
        self._is_last = False

    def feed(self, data: bytes | memoryview) -> Iterator[Fragment | Sign]:
        """Yield what the next bytes bring; they must all be taken before the next call.

        Raises
        ------
        ProtocolViolated
            When they are not what PS3.8 allows here.
        """
        if self._held:
            data, self._held = self._held + data, b""
        pos, end = 0, len(data)
        while pos < end:
            if self._pdv_left:
                size = min(self._pdv_left, end - pos)
                self._pdv_left -= size
                is_last = self._is_last and not self._pdv_left
                piece = data[pos : pos + size]
                yield Fragment(self._context_id, self._is_command, is_last, piece)
                pos += size
                continue
            need = _SIGN_BYTES if self._sign is not None else _HEAD_BYTES
            if end - pos < need:
                self._held = bytes(data[pos:])
                return
            found = self._head(data, pos)
            pos += need
            if found is not None:
                yield found

    @property
    def is_between(self) -> bool:
        """Whether the last PDU has come to its end."""
        return not (self._held or self._pdu_left or self._pdv_left or self._sign)

    def _head(self, data: bytes | memoryview, pos: int) -> Fragment | Sign | None:
        """Read the head of what follows; a sign, or a fragment of no bytes, is whole with it."""
        if self._sign is not None:
            sign, self._sign = self._sign, None
            return sign
        if self._pdu_left:
            return self._pdv_head(data, pos)
        kind, length = unpack_from(">BxL", data, pos)
        if kind == _P_DATA_TF:
            if not _HEAD_BYTES <= length <= self._max_pdu_bytes:
                raise ProtocolViolated("the length of a P-DATA-TF", reason=_INVALID_PARAMETER)
            self._pdu_left = length
        elif kind in (1, 2, 3):
            raise ProtocolViolated("a PDU of the negotiation", reason=_UNEXPECTED_PDU)
        elif not Sign.RELEASE_RQ.value <= kind <= Sign.ABORT.value:
            raise ProtocolViolated("an unknown PDU", reason=_UNRECOGNIZED_PDU)
        elif length != _SIGN_BYTES:
            raise ProtocolViolated("the length of a PDU", reason=_INVALID_PARAMETER)
        else:
            self._sign = Sign(kind)
        return None

    def _pdv_head(self, data: bytes | memoryview, pos: int) -> Fragment | None:
        length, self._context_id, control = unpack_from(">LBB", data, pos)
        left = self._pdu_left - 4 - length
        if length < _LEAST_PDV_BYTES or (left and left < _HEAD_BYTES):
            raise ProtocolViolated("a presentation data value", reason=_INVALID_PARAMETER)
        self._pdu_left = left
        self._is_command, self._is_last = bool(control & 1), bool(control & 2)
        self._pdv_left = length - _LEAST_PDV_BYTES
        if self._pdv_left:
            return None
        return Fragment(self._context_id, self._is_command, self._is_last, b"")


def pieces(command: bytes, max_pdu_bytes: int) -> Iterator[bytes]:
    """Cut a command set into fragments, each with its message control header before it.

    Parameters
    ----------
    max_pdu_bytes
        What the peer said it takes; 0: any length (PS3.8 D.1.1).
    """
    most = max(max_pdu_bytes, _SMALLEST_PDU_BYTES) - _HEAD_BYTES if max_pdu_bytes else len(command)
    for start in range(0, len(command), most):
        is_last = start + most >= len(command)
        yield (b"\x03" if is_last else b"\x01") + command[start : start + most]


def p_data(context_id: int, command: bytes, max_pdu_bytes: int) -> bytes:
    """Write a command set without a data set as P-DATA-TF PDUs; see `pieces`."""
    pdus = []
    for piece in pieces(command, max_pdu_bytes):
        head = pack(">BxLLB", _P_DATA_TF, len(piece) + 5, len(piece) + 1, context_id)
        pdus.append(head + piece)
    return b"".join(pdus)


def abort(reason: int) -> bytes:
    """Write an A-ABORT of the service provider, PS3.8 9.3.8."""
    return pack(">BxLxxBB", Sign.ABORT.value, _SIGN_BYTES, _SERVICE_PROVIDER, reason)
