"""pynetdicom's parts of an association, with limits, and with our C-STORE and C-ECHO among them.

They hand fragments of our contexts to the exchange, leave the socket to the lean data path where
that serves, and do not stumble over what a sender should not send.
"""

import logging
import select
import socket
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, cast

from pynetdicom.acse import ACSE
from pynetdicom.dimse import DIMSEServiceProvider, _QueueItem
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_P_ABORT, P_DATA
from pynetdicom.transport import AssociationSocket

from flute_sync.dimse_errors import ProtocolViolated, StoreInterrupted, StoreTooSlow
from flute_sync.sources.dimse_commands import LARGEST_COMMAND_BYTES, Command
from flute_sync.sources.dimse_exchange import Response
from flute_sync.sources.dimse_pdus import Fragment, Sign, pieces
from flute_sync.sources.dimse_requests import ASSOCIATE_RQ, readable
from flute_sync.sources.store_session import printable_ae_title
from flute_sync.sources.store_sink import Caller, Context

if TYPE_CHECKING:
    from flute_sync.sources.dimse_incoming import IncomingAssociation

log = logging.getLogger(__name__)

_RAREST_LOOK: Final = timedelta(milliseconds=100)
_LONGEST_COMMIT: Final = timedelta(minutes=1)
_LARGEST_REQUEST_BYTES: Final = 1 << 20
_LARGEST_OTHER_BYTES: Final = 16 << 20
_KNOWN_FIELDS: Final = frozenset(
    {0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150}
)


class Negotiation(ACSE):
    """Accepts or rejects as the policy says."""

    def negotiate_association(self) -> None:
        """Answer the request."""
        association = cast("IncomingAssociation", self.assoc)
        request = self.requestor.primitive
        if not isinstance(request, A_ASSOCIATE):
            association.kill()
            return
        if not association.house.admit(association, request):
            association.is_rejected = True
            association.kill()
            return
        # One without a transfer syntax cannot be accepted; pynetdicom would stumble over it.
        proposed = [
            one for one in request.presentation_context_definition_list if one.transfer_syntax
        ]
        request.presentation_context_definition_list = proposed
        self.acceptor.supported_contexts = association.house.policy.supported(proposed)
        super().negotiate_association()

    def send_accept(self) -> None:
        """Accept, when everything is ready for what may come at once."""
        association = cast("IncomingAssociation", self.assoc)
        policy = association.house.policy
        contexts = {
            cast("int", one.context_id): Context(
                str(one.abstract_syntax), str(one.transfer_syntax[0])
            )
            for one in association.accepted_contexts
            if policy.is_ours(str(one.abstract_syntax))
        }
        request = cast("A_ASSOCIATE", self.requestor.primitive)
        caller = Caller(
            printable_ae_title(str(request.calling_ae_title)),
            printable_ae_title(str(request.called_ae_title)),
            tuple(one for one in contexts.values() if policy.is_storage(one.abstract_syntax)),
        )
        association.accepted(caller, contexts)
        super().send_accept()


class Provider(DULServiceProvider):
    """pynetdicom's upper layer, which lets go of the socket where it is told to."""

    def __init__(self, association: "IncomingAssociation") -> None:
        super().__init__(association)
        self.daemon = True
        self._moved = time.monotonic()

    @property
    def patience(self) -> timedelta:
        """How long to wait before looking again whether there is anything to do.

        pynetdicom looks a thousand times a second, twice for each association, for as long as it is
        open. The longer nothing comes, the less often is often enough.
        """
        return min(timedelta(seconds=time.monotonic() - self._moved) / 10, _RAREST_LOOK)

    def run_reactor(self) -> None:
        """Run until killed; whatever a sender sends, the thread ends without a traceback."""
        association = cast("IncomingAssociation", self.assoc)
        try:
            super().run_reactor()
        except InvalidEventError:
            association.cut()  # what pynetdicom makes of a connection that closes early
        except Exception:  # noqa: BLE001  the boundary of a thread: what a sender sent is at fault
            association.failure = association.failure or ProtocolViolated("pynetdicom gave up")
            association.is_aborted = True
            association.cut()
        finally:
            self.to_user_queue.put(A_P_ABORT())  # wakes who still waits for a request

    def hand_over(self) -> None:
        """Return when the acceptance is sent and the thread has ended without reading on."""
        deadline = time.monotonic() + (self.assoc.acse_timeout or 0)
        while self.is_alive() and self.state_machine.current_state == "Sta3":
            if time.monotonic() > deadline:
                break
            time.sleep(self._run_loop_delay)
        self.end()

    def end(self) -> None:
        """End the thread."""
        self.kill_dul()
        if self.is_alive() and threading.current_thread() is not self:
            self.join(_LONGEST_COMMIT.total_seconds())

    def _decode_pdu(self, bytestream: bytearray) -> tuple[Any, str]:
        association = cast("IncomingAssociation", self.assoc)
        if bytestream[0] == ASSOCIATE_RQ:
            bytestream = bytearray(readable(bytes(bytestream)))
        elif bytestream[0] == Sign.RELEASE_RQ.value:
            association.is_leaving = True
            association.dimse.msg_queue.put((None, None))  # wakes who still waits for an answer
        try:
            return super()._decode_pdu(bytestream)
        except Exception:
            association.failure = ProtocolViolated("a PDU that cannot be read")
            raise

    def _is_transport_event(self) -> bool:
        association = cast("IncomingAssociation", self.assoc)
        state = self.state_machine.current_state
        if association.is_lean and state == "Sta6":
            return False
        if state == "Sta1" and self.event_queue.empty():
            self.kill_dul()  # it is over: pynetdicom would look on until somebody says so
            return False
        if super()._is_transport_event():
            self._moved = time.monotonic()
            return True
        if state == "Sta6" and self.event_queue.empty() and self.to_provider_queue.empty():
            cast("BoundedSocket", self.socket).wait(self.patience)
        return False


class Checkpoint(threading.Event):
    """Where pynetdicom's loop of an association rests.

    Who asks the sender has pynetdicom stop the loop here, and waits until it seems to stand. It
    need not: `Messages` leaves the answers to who asks. Once stopped, it might not seem so when
    the next one asks, for that sender's requests that are served meanwhile count as work.
    """

    def __init__(self, provider: Provider) -> None:
        super().__init__()
        self._provider = provider

    def wait(self, timeout: float | None = None) -> bool:
        """Return after a rest."""
        time.sleep(self._provider.patience.total_seconds())
        return True


class Messages(DIMSEServiceProvider):
    """pynetdicom's messages: those of contexts that are ours go to the exchange as they come."""

    def __init__(self, association: "IncomingAssociation") -> None:
        super().__init__(association)
        self._other = OtherMessage()

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the fragments of one PDU."""
        association = cast("IncomingAssociation", self.assoc)
        try:
            for context_id, data in primitive.presentation_data_value_list:
                self._take(association, context_id, bytes(data))
        except ProtocolViolated as violation:
            association.failure = violation
            self.dul.event_queue.put("Evt19")
        settings = association.house.settings
        is_idle = association.exchange.is_idle and self.message is None
        timeout = settings.idle_timeout if is_idle else settings.network_timeout
        self.dul._idle_timer.timeout = timeout.total_seconds()

    def get_msg(self, block: bool = False) -> _QueueItem:
        """Return the next message; what is asked while an answer is awaited is served meanwhile.

        Either side may have a request open, PS3.7 D.3.3.3 (2026b); pynetdicom would take that of
        the sender for its answer.
        """
        return self._answer() if block else self._request()

    def _request(self) -> _QueueItem:
        # The loop of the association may be on its way here although who asks believes it rests:
        # the message is the answer then.
        association = cast("IncomingAssociation", self.assoc)
        if not association.asking.acquire(blocking=False):
            return None, None
        try:
            return super().get_msg(block=False)
        finally:
            association.asking.release()

    def _answer(self) -> _QueueItem:
        association = cast("IncomingAssociation", self.assoc)
        deadline = time.monotonic() + (self.dimse_timeout or 0)
        while True:
            context_id, message = super().get_msg(block=not association.is_leaving)
            if message is None or context_id is None:
                return None, None
            if message.MessageIDBeingRespondedTo is not None:
                return context_id, message
            self.assoc._serve_request(message, context_id)
            if time.monotonic() > deadline:
                return None, None

    def _take(self, association: "IncomingAssociation", context_id: int, data: bytes) -> None:
        if not data:
            raise ProtocolViolated("a presentation data value")
        exchange = association.exchange
        if exchange.knows(context_id) and self.message is None:
            fragment = Fragment(context_id, bool(data[0] & 1), bool(data[0] & 2), data[1:])
            response = self._taken(association, fragment)
            if response is not None:
                self._send(response)
        elif exchange.is_idle and context_id in association._accepted_cx:
            self._other.check(data)
            super().receive_primitive(_p_data(context_id, data))
        else:
            raise ProtocolViolated("two messages mingle, or a context that was not accepted")

    def _taken(self, association: "IncomingAssociation", fragment: Fragment) -> Response | None:
        try:
            return association.exchange.take(fragment)
        except ProtocolViolated:
            raise
        except Exception:
            log.exception("An association failed.")
            association.failure = StoreInterrupted("a defect of ours")
            raise

    def _send(self, response: Response) -> None:
        for piece in pieces(response.command, self.assoc.requestor.maximum_length or 0):
            self.dul.send_pdu(_p_data(response.context_id, piece))


def _p_data(context_id: int, data: bytes) -> P_DATA:
    primitive = P_DATA()
    pair = [context_id, data]  # a list, whatever its type says
    primitive.presentation_data_value_list = [cast("tuple[int, bytes]", pair)]
    return primitive


class OtherMessage:
    """Looks at a message of another service before pynetdicom does.

    It would stumble over broken command sets, and hold data sets of any length.
    """

    def __init__(self) -> None:
        self._encoded = bytearray()
        self._data_bytes: int | None = None

    def check(self, data: bytes) -> None:
        """Look at the next fragment with its message control header.

        Raises
        ------
        ProtocolViolated
            When the association must be aborted.
        """
        is_command, is_last = bool(data[0] & 1), bool(data[0] & 2)
        if is_command is (self._data_bytes is not None):
            raise ProtocolViolated("a data set without a command, or two commands")
        if not is_command:
            self._data_bytes = (self._data_bytes or 0) + len(data)
            if self._data_bytes > _LARGEST_OTHER_BYTES:
                raise ProtocolViolated("a data set is too large")
            if is_last:
                self._data_bytes = None
            return
        self._encoded += data[1:]
        if len(self._encoded) > LARGEST_COMMAND_BYTES:
            raise ProtocolViolated("a command is too large")
        if is_last:
            command = Command(bytes(self._encoded))
            self._encoded.clear()
            if command.field & 0x7FFF not in _KNOWN_FIELDS:
                raise ProtocolViolated("an unknown command")
            self._data_bytes = 0 if command.has_data else None


class BoundedSocket(AssociationSocket):
    """pynetdicom's socket, with an end to what a PDU may bring and to how long it may take."""

    def wait(self, longest: timedelta) -> None:
        """Return when something has come, or after a while."""
        with suppress(OSError, ValueError):  # whoever reads it hears of it
            if self.socket is not None:
                select.select([self.socket], [], [], longest.total_seconds())

    def recv(self, nr_bytes: int) -> bytearray:
        """Receive so many bytes.

        Raises
        ------
        OSError
            When they are too many, do not come in time, or the connection breaks.
        """
        association = cast("IncomingAssociation", self.assoc)
        settings = association.house.settings
        is_open = association.session is not None
        most = settings.max_pdu_bytes if is_open else _LARGEST_REQUEST_BYTES
        if nr_bytes > most:
            association.failure = ProtocolViolated("the length of a PDU")
            raise OSError("too long a PDU")
        timeout = settings.network_timeout if is_open else settings.acse_timeout
        deadline = time.monotonic() + timeout.total_seconds()
        received = bytearray()
        while self.socket is not None and len(received) < nr_bytes:
            left = deadline - time.monotonic()
            if left <= 0:
                association.failure = StoreTooSlow()
                raise TimeoutError
            self.socket.settimeout(left)
            piece = self.socket.recv(nr_bytes - len(received))
            if not piece:
                break
            received += piece
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return received
