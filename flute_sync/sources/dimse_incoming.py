"""pynetdicom's association as acceptor, with limits; C-STORE and C-ECHO are ours on it.

Where all accepted contexts are for storage or verification, and the settings say ``lean``, the
socket is taken over once the association is accepted. Otherwise pynetdicom reads the network, and
the fragments of those contexts are taken from it.
"""

import logging
import socket
import threading
import time
from typing import Final, Protocol, cast

from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
from pynetdicom.pdu_primitives import A_ASSOCIATE, A_P_ABORT, P_DATA
from pynetdicom.transport import AssociationSocket

from flute_sync.dimse_errors import ProtocolViolated, StoreInterrupted, StoreTooSlow
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.sources.dimse_commands import LARGEST_COMMAND_BYTES, Command
from flute_sync.sources.dimse_exchange import Exchange, Response
from flute_sync.sources.dimse_lean import LeanAssociation, Limits
from flute_sync.sources.dimse_pdus import Fragment, pieces
from flute_sync.sources.dimse_policy import Policy
from flute_sync.sources.store_session import SOURCE, StoreSession, printable_ae_title
from flute_sync.sources.store_settings import StoreScpSettings
from flute_sync.sources.store_sink import Caller, Context

log = logging.getLogger(__name__)

_LARGEST_REQUEST_BYTES: Final = 1 << 20
_LARGEST_OTHER_BYTES: Final = 16 << 20
_KNOWN_FIELDS: Final = frozenset(
    {0x0001, 0x0010, 0x0020, 0x0021, 0x0030, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150}
)


class House(Protocol):
    """What an association is given by whoever accepts it."""

    settings: StoreScpSettings
    policy: Policy

    def admit(self, association: "IncomingAssociation", request: A_ASSOCIATE) -> bool:
        """Count an association in, or log why it is rejected and say so to the sender."""

    def leave(self, association: "IncomingAssociation") -> None:
        """Count an association out."""

    def session(self, caller: Caller) -> StoreSession:
        """Open what takes its instances."""

    def is_stopping(self) -> bool:
        """Tell whether associations should end."""


class IncomingAssociation(Association):
    """An association that somebody asks us for."""

    def __init__(self, entity: ApplicationEntity, house: House) -> None:
        super().__init__(entity, "acceptor")
        self.house = house
        self.acse = Negotiation(self)
        self.dul = Provider(self)
        self.dimse = Messages(self)
        self.acse_timeout = entity.acse_timeout
        self.network_timeout = entity.network_timeout
        self.is_lean = False
        self.session: StoreSession | None = None
        self.exchange = Exchange({}, None)
        self.failure: FluteSyncError | None = None
        self._served: LeanAssociation | None = None

    def accepted(self, caller: Caller, contexts: dict[int, Context]) -> None:
        """Open what takes the messages, before the sender learns that it may send."""
        self.session = self.house.session(caller)
        self.exchange = Exchange(contexts, self.session)
        is_ours = len(contexts) == len(self.accepted_contexts)
        self.is_lean = is_ours and self.house.settings.data_path == "lean"
        log.info(
            "an association was accepted",
            extra=fields(
                Event.ASSOCIATION_ACCEPTED,
                source=SOURCE,
                calling_ae_title=caller.calling_ae_title,
            ),
        )

    def run_reactor(self) -> None:
        """Live from the request to the end."""
        try:
            super().run_reactor()
        except Exception:
            log.exception("An association failed.")
            self.failure = StoreInterrupted("a defect of ours")
            self.is_aborted = True
        finally:
            self._end()

    def stop(self) -> None:
        """End as soon as nothing is on its way; from another thread, and without waiting."""
        if self._served is not None:
            self._served.stop()
        elif not self.is_lean and self.exchange.is_idle:
            threading.Thread(target=self.abort, daemon=True).start()

    def cut(self) -> None:
        """End at once."""
        connection = self._connection
        if connection is not None:
            try:
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                return

    @property
    def _connection(self) -> socket.socket | None:
        return None if self.dul.socket is None else self.dul.socket.socket

    def _run_reactor(self) -> None:
        if not self.is_lean:
            super()._run_reactor()
            return
        cast("Provider", self.dul).hand_over()
        connection = self._connection
        if connection is not None:
            self._served = LeanAssociation(
                connection, self.exchange, self._limits(), self.house.is_stopping
            )
            self.failure = self._served.serve()
        self.is_released = self.failure is None
        self.is_aborted = not self.is_released
        self.kill()

    def _limits(self) -> Limits:
        settings = self.house.settings
        return Limits(
            max_pdu_bytes=settings.max_pdu_bytes,
            peer_pdu_bytes=self.requestor.maximum_length or 0,
            idle_timeout=settings.idle_timeout,
            network_timeout=settings.network_timeout,
            acse_timeout=settings.acse_timeout,
        )

    def _end(self) -> None:
        cast("Provider", self.dul).end()
        if not self.exchange.is_idle:
            self.exchange.interrupt(self.failure or StoreInterrupted())
        if self.session is not None:
            self._tell()
            self.session.close()
        self.house.leave(self)

    def _tell(self) -> None:
        if self.is_released or self.session is None:
            return
        failure = self.failure or StoreInterrupted("the sender aborted or went away")
        log.warning(
            "an association ended without a release",
            extra=fields(
                Event.ASSOCIATION_ABORTED,
                source=SOURCE,
                calling_ae_title=self.session.caller.calling_ae_title,
                code=failure.code,
                reason=failure.detail or failure.message(),
            ),
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
        proposed = request.presentation_context_definition_list
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

    def __init__(self, association: IncomingAssociation) -> None:
        super().__init__(association)
        self.daemon = True

    def run_reactor(self) -> None:
        """Run until killed; whatever a sender sends, the thread ends without a traceback."""
        association = cast("IncomingAssociation", self.assoc)
        try:
            super().run_reactor()
        except InvalidEventError:
            association.cut()  # what pynetdicom makes of a connection that closes early
        except Exception:
            log.exception("pynetdicom failed.")
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
            self.join(1)

    def _is_transport_event(self) -> bool:
        association = cast("IncomingAssociation", self.assoc)
        state = self.state_machine.current_state
        if association.is_lean and state == "Sta6":
            return False
        if state == "Sta1" and self.event_queue.empty():
            self.kill_dul()  # it is over: pynetdicom would look on until somebody says so
            return False
        return super()._is_transport_event()


class Messages(DIMSEServiceProvider):
    """pynetdicom's messages: those of contexts that are ours go to the exchange as they come."""

    def __init__(self, association: IncomingAssociation) -> None:
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

    def _take(self, association: IncomingAssociation, context_id: int, data: bytes) -> None:
        if not data:
            raise ProtocolViolated("a presentation data value")
        exchange = association.exchange
        if exchange.knows(context_id) and self.message is None:
            fragment = Fragment(context_id, bool(data[0] & 1), bool(data[0] & 2), data[1:])
            response = exchange.take(fragment)
            if response is not None:
                self._send(response)
        elif exchange.is_idle and context_id in association._accepted_cx:
            self._other.check(data)
            super().receive_primitive(_p_data(context_id, data))
        else:
            raise ProtocolViolated("two messages mingle, or a context that was not accepted")

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
