"""C-STORE as SCU of data sets that are encoded already: they pass through as they come.

The data set goes straight to the socket, fragment by fragment, so that memory stays flat and no
byte is touched.

References
----------
PS3.4 B, PS3.7 9.3.1 and PS3.8 9.3 (2026b).
"""

import time
from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

from flute_sync.archive_errors import (
    ArchiveContextRefused,
    ArchiveServerError,
    ArchiveTooSlow,
    ArchiveUnavailable,
)
from flute_sync.sources.dimse_connection import COMMAND, LAST, Connection, encoded_command, numbers
from flute_sync.sources.dimse_peer import DimsePeerSettings
from flute_sync.sources.store_sink import Context, StoreCommand

MOST_CONTEXTS: Final = 128
_MOST_SENT_BYTES: Final = 128 << 10
_LARGEST_COMMAND_BYTES: Final = 64 << 10
_US: Final = Struct("<H")
_C_STORE_RQ, _C_STORE_RSP = 0x0001, 0x8001


class StoreAssociation(Connection):
    """One association with a PACS; see `Connection`.

    Each context is proposed with its one transfer syntax.
    """

    def __init__(self, settings: DimsePeerSettings, contexts: Sequence[Context]) -> None:
        proposed = list(dict.fromkeys(contexts))[:MOST_CONTEXTS]
        pairs = [(one.abstract_syntax, [one.transfer_syntax]) for one in proposed]
        super().__init__(settings, pairs, _MOST_SENT_BYTES)
        self._accepted = {
            context: context_id
            for context_id, context in zip(range(1, 256, 2), proposed, strict=False)
            if self._agreed.get(context_id) == context.transfer_syntax
        }
        self._context_id = 0
        self._message_id = 0
        self._out = b""
        self._data = bytearray()

    def takes(self, context: Context) -> bool:
        """Tell whether the PACS accepted a context."""
        return context in self._accepted

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
        request = _store_request(self._message_id, command)
        self._out = b"".join(self._parts(self._context_id, request, COMMAND))
        self._data.clear()

    def send(self, data: bytes) -> None:
        """Pass a part of the data set on; what does not fill a PDU waits."""
        self._data += data
        while len(self._data) > self._room:
            self._write(self._data[: self._room], 0)
            del self._data[: self._room]

    def finish(self) -> int:
        """End the data set, and return the status that the PACS answers."""
        self._write(self._data, LAST)
        self._data.clear()
        try:
            return self._status_in(numbers(self._answer()))
        except ArchiveTooSlow as error:  # which speaks of queries
            raise ArchiveUnavailable("no answer in time") from error

    def _answer(self) -> bytes:
        command = b""
        for control, part in self._fragments(time.monotonic() + self._silence):
            if not control & COMMAND:
                raise ArchiveServerError("it answers with data where none belong")
            command += part
            if len(command) > _LARGEST_COMMAND_BYTES:
                raise ArchiveServerError("its answer does not end")
            if control & LAST:
                break
        return command

    def _write(self, part: bytes | bytearray, control: int) -> None:
        # The command goes with the first of the data: one packet for a small instance.
        out, self._out = self._out, b""
        self._send(out + self._part(self._context_id, part, control))

    def _status_in(self, command: Mapping[int, int]) -> int:
        if command.get(0x0100) != _C_STORE_RSP or command.get(0x0120) != self._message_id:
            raise ArchiveServerError("it answers something else than what it was asked")
        status = command.get(0x0900)
        if status is None:
            raise ArchiveServerError("it answers without a status")
        return status


def _store_request(message_id: int, command: StoreCommand) -> bytes:
    elements = {
        0x0002: _padded(command.sop_class_uid, b"\0"),
        0x0100: _US.pack(_C_STORE_RQ),
        0x0110: _US.pack(message_id),
        0x0700: _US.pack(command.priority),
        0x0800: _US.pack(0x0001),
        0x1000: _padded(command.sop_instance_uid, b"\0"),
    }
    if command.move_originator_ae_title is not None:
        elements[0x1030] = _padded(command.move_originator_ae_title, b" ")
    if command.move_originator_message_id is not None:
        elements[0x1031] = _US.pack(command.move_originator_message_id)
    return encoded_command(elements)


def _padded(text: str, pad: bytes) -> bytes:
    value = text.encode("ascii", "replace")
    return value + pad * (len(value) % 2)
