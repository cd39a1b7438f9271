"""C-STORE and C-ECHO: what the fragments of an association say, and what is answered.

One message is on its way at a time: asynchronous operations are not negotiated, and fragments of
two messages must not mingle (PS3.8 annex E.1).

References
----------
PS3.7 9.1.1, 9.1.5 and 9.3 (2026b).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from flute_sync.dimse_errors import ProtocolViolated
from flute_sync.errors import FluteSyncError
from flute_sync.sources.dimse_commands import (
    C_ECHO_RQ,
    C_STORE_RQ,
    LARGEST_COMMAND_BYTES,
    Command,
)
from flute_sync.sources.dimse_pdus import Fragment
from flute_sync.sources.store_session import Answer, StoreSession, Storing
from flute_sync.sources.store_sink import Context, StoreCommand

VERIFICATION: Final = "1.2.840.10008.1.1"
_UNRECOGNIZED_OPERATION: Final = 0x0211


class Response(NamedTuple):
    """A command set to send."""

    context_id: int
    command: bytes


class Exchange:
    """The messages of one association, or of those of its contexts that are ours.

    Parameters
    ----------
    contexts
        Accepted presentation contexts by their ID.
    """

    def __init__(self, contexts: Mapping[int, Context], session: StoreSession | None) -> None:
        self._contexts = contexts
        self._session = session
        self._context_id: int | None = None
        self._encoded = bytearray()
        self._command: Command | None = None
        self._storing: Storing | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no message is on its way."""
        return self._context_id is None

    def knows(self, context_id: int) -> bool:
        """Tell whether a presentation context is one of these."""
        return context_id in self._contexts

    def take(self, fragment: Fragment) -> Response | None:
        """Take the next fragment; return the response where it ends a request.

        Raises
        ------
        ProtocolViolated
            When the association must be aborted.
        """
        if self._context_id is None:
            if fragment.context_id not in self._contexts:
                raise ProtocolViolated("a presentation context that was not accepted")
            self._context_id = fragment.context_id
        elif fragment.context_id != self._context_id:
            raise ProtocolViolated("two messages mingle")
        if fragment.is_command is (self._command is not None):
            raise ProtocolViolated("a data set without a command, or two commands")
        if not fragment.is_command:
            if self._storing is not None and fragment.data:
                self._storing.feed(fragment.data)
            return self._end() if fragment.is_last else None
        self._encoded += fragment.data
        if len(self._encoded) > LARGEST_COMMAND_BYTES:
            raise ProtocolViolated("a command is too large")
        return self._begin(self._contexts[self._context_id]) if fragment.is_last else None

    def interrupt(self, error: FluteSyncError) -> None:
        """Forget the message on its way: the association has ended."""
        if self._storing is not None:
            self._storing.abandon(error)
        self._forget()

    def _begin(self, context: Context) -> Response | None:
        command = Command(bytes(self._encoded))
        if command.field & 0x8000:
            raise ProtocolViolated("a response to nothing that was asked")
        self._command = command
        is_store = command.field == C_STORE_RQ and context.abstract_syntax != VERIFICATION
        if is_store and self._session is not None:
            stated = StoreCommand(
                command.sop_class_uid,
                command.sop_instance_uid,
                *context,
                command.priority,
                command.move_originator_ae_title,
                command.move_originator_message_id,
            )
            self._storing = self._session.begin(stated, has_data=command.has_data)
        return None if command.has_data else self._end()

    def _end(self) -> Response | None:
        """Answer the message that is whole; a C-CANCEL has no answer."""
        context_id, command, storing = self._context_id, self._command, self._storing
        if context_id is None or command is None:
            return None
        answer = Answer(0 if command.field == C_ECHO_RQ else _UNRECOGNIZED_OPERATION)
        if storing is not None:
            answer = storing.finish()
        self._forget()
        if not command.is_request:
            return None
        return Response(context_id, command.response(*answer))

    def _forget(self) -> None:
        self._context_id = self._command = self._storing = None
        self._encoded.clear()
