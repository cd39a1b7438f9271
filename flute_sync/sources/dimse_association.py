"""An association that we request for messages: each is sent whole, and taken whole.

References
----------
PS3.7 6.3 and E, PS3.8 9.3 (2026b).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from flute_sync.archive_errors import ArchiveServerError
from flute_sync.sources.dimse_connection import COMMAND, LAST, Connection, numbers
from flute_sync.sources.dimse_negotiation import Context, Proposals, negotiated
from flute_sync.sources.dimse_peer import DimsePeerSettings

_NO_DATA_SET: Final = 0x0101
_DATA_SET_TYPE: Final = 0x0800
_LARGEST_COMMAND_BYTES: Final = 16 << 10
_MOST_SENT_BYTES: Final = 64 << 10


class Message(NamedTuple):
    """A DIMSE message: the elements of its command that are one US, by number; its data set."""

    command: Mapping[int, int]
    data: bytes | None


class DimseAssociation(Connection):
    """One association, as SCU or as SCP; see `Connection`.

    ``accepted`` are its contexts by abstract syntax.
    """

    def __init__(
        self, settings: DimsePeerSettings, proposals: Proposals, *, as_scp: bool = False
    ) -> None:
        super().__init__(settings, proposals.items(), _MOST_SENT_BYTES, as_scp=as_scp)
        self.accepted: Mapping[str, Context] = negotiated(self._agreed, proposals)

    def send(self, context_id: int, command: bytes, data: bytes | None = None) -> None:
        """Send a message whole."""
        parts = [*self._parts(context_id, command, COMMAND)]
        if data is not None:
            parts += self._parts(context_id, data, 0)
        self._send(b"".join(parts))

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
            if bool(control & COMMAND) is (command is not None):
                raise ArchiveServerError("its messages are mixed up")
            data += part
            if len(data) > (_LARGEST_COMMAND_BYTES if command is None else largest_bytes):
                raise ArchiveServerError("its message is larger than the settings allow")
            if not control & LAST:
                continue
            if command is not None:
                return Message(command, bytes(data))
            command = numbers(data)
            data.clear()
            if command.get(_DATA_SET_TYPE, _NO_DATA_SET) == _NO_DATA_SET:
                return Message(command, None)
        raise ArchiveServerError("its message does not end")
