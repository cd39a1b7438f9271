"""DIMSE command sets: read from a request, written for its response.

References
----------
PS3.7 6.3, 9.3 and annex E (2026b): implicit VR little endian, group 0000 alone.
"""

from struct import pack, unpack_from
from typing import Final

from flute_sync.dimse_errors import ProtocolViolated
from flute_sync.valuerep import uid_problem

C_STORE_RQ: Final = 0x0001
C_ECHO_RQ: Final = 0x0030
C_CANCEL_RQ: Final = 0x0FFF
_RESPONSE: Final = 0x8000

_AFFECTED_SOP_CLASS_UID: Final = 0x0002
_COMMAND_FIELD: Final = 0x0100
_MESSAGE_ID: Final = 0x0110
_MESSAGE_ID_BEING_RESPONDED_TO: Final = 0x0120
_PRIORITY: Final = 0x0700
_COMMAND_DATA_SET_TYPE: Final = 0x0800
_STATUS: Final = 0x0900
_ERROR_COMMENT: Final = 0x0902
_AFFECTED_SOP_INSTANCE_UID: Final = 0x1000
_MOVE_ORIGINATOR_AE_TITLE: Final = 0x1030
_MOVE_ORIGINATOR_MESSAGE_ID: Final = 0x1031
_NO_DATA_SET: Final = 0x0101

LARGEST_COMMAND_BYTES: Final = 64 * 1024


class Command:
    """A command set that was received.

    Parameters
    ----------
    encoded
        All its fragments.

    Raises
    ------
    ProtocolViolated
        When it is none, or lacks what every message has.
    """

    def __init__(self, encoded: bytes) -> None:
        self._elements = _elements(encoded)
        self.field = self._required(_COMMAND_FIELD)
        self.has_data = self._required(_COMMAND_DATA_SET_TYPE) != _NO_DATA_SET
        self.message_id = 0
        if self.is_request:
            self.message_id = self._required(_MESSAGE_ID)
        self.sop_class_uid = self._text(_AFFECTED_SOP_CLASS_UID)
        self.sop_instance_uid = self._text(_AFFECTED_SOP_INSTANCE_UID)

    @property
    def is_request(self) -> bool:
        """Whether the message asks for an operation that has a response."""
        return not self.field & _RESPONSE and self.field != C_CANCEL_RQ

    @property
    def priority(self) -> int:
        """Priority (0000,0700): 0 is medium."""
        return self._number(_PRIORITY) or 0

    @property
    def move_originator_ae_title(self) -> str | None:
        """(0000,1030), where a C-MOVE is behind the request."""
        return self._text(_MOVE_ORIGINATOR_AE_TITLE) or None

    @property
    def move_originator_message_id(self) -> int | None:
        """(0000,1031), where a C-MOVE is behind the request."""
        return self._number(_MOVE_ORIGINATOR_MESSAGE_ID)

    def response(self, status: int, comment: str = "") -> bytes:
        """Write the response to this request; UIDs are repeated where they are UIDs."""
        elements = [
            *_uid(_AFFECTED_SOP_CLASS_UID, self.sop_class_uid),
            _us(_COMMAND_FIELD, self.field | _RESPONSE),
            _us(_MESSAGE_ID_BEING_RESPONDED_TO, self.message_id),
            _us(_COMMAND_DATA_SET_TYPE, _NO_DATA_SET),
            _us(_STATUS, status),
        ]
        if comment:
            elements.append(_element(_ERROR_COMMENT, _even(comment.encode("ascii", "replace"))))
        elements += _uid(_AFFECTED_SOP_INSTANCE_UID, self.sop_instance_uid)
        body = b"".join(elements)
        return _element(0x0000, pack("<L", len(body))) + body

    def _required(self, element: int) -> int:
        value = self._number(element)
        if value is None:
            raise ProtocolViolated(f"a command lacks (0000,{element:04X})")
        return value

    def _number(self, element: int) -> int | None:
        value = self._elements.get(element, b"")
        return int.from_bytes(value, "little") if len(value) == 2 else None

    def _text(self, element: int) -> str:
        return self._elements.get(element, b"").decode("ascii", "replace").strip(" \0")


def _elements(encoded: bytes) -> dict[int, bytes]:
    found = {}
    pos, end = 0, len(encoded)
    while pos < end:
        if end - pos < 8:
            raise ProtocolViolated("a command ends in the middle of an element")
        group, element, length = unpack_from("<HHL", encoded, pos)
        pos += 8
        if group or length > end - pos:
            raise ProtocolViolated("a command is not made of elements of group 0000")
        found[element] = encoded[pos : pos + length]
        pos += length
    return found


def _element(element: int, value: bytes) -> bytes:
    return pack("<HHL", 0, element, len(value)) + value


def _us(element: int, value: int) -> bytes:
    return pack("<HHLH", 0, element, 2, value)


def _uid(element: int, uid: str) -> list[bytes]:
    if uid_problem(uid) == "illegal":
        return []
    return [_element(element, _even(uid.encode(), b"\0"))]


def _even(value: bytes, pad: bytes = b" ") -> bytes:
    return value + pad if len(value) % 2 else value
