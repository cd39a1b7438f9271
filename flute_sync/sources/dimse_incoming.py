"""pynetdicom's association as acceptor, with limits; C-STORE and C-ECHO are ours on it.

Where all accepted contexts are for storage or verification, and the settings say ``lean``, the
socket is taken over once the association is accepted. Otherwise pynetdicom reads the network, and
the fragments of those contexts are taken from it.
"""

import logging
import socket
import threading
from contextlib import suppress
from typing import Protocol, cast

from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.pdu_primitives import A_ASSOCIATE

from flute_sync.dimse_errors import StoreInterrupted
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.sources.dimse_exchange import Exchange
from flute_sync.sources.dimse_lean import LeanAssociation, Limits
from flute_sync.sources.dimse_policy import Policy
from flute_sync.sources.dimse_provider import Checkpoint, Messages, Negotiation, Provider
from flute_sync.sources.store_session import SOURCE, StoreSession
from flute_sync.sources.store_settings import StoreScpSettings
from flute_sync.sources.store_sink import Caller, Context

log = logging.getLogger(__name__)


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
        self.dul = provider = Provider(self)
        self._reactor_checkpoint = Checkpoint(provider)
        self.dimse = Messages(self)
        self.acse_timeout = entity.acse_timeout
        self.network_timeout = entity.network_timeout
        self.is_lean = False
        self.session: StoreSession | None = None
        self.exchange = Exchange({}, None)
        self.failure: FluteSyncError | None = None
        self.asking = threading.Lock()
        """Held by who asks the sender, or takes what the sender asks.

        pynetdicom does not tell one answer from another, nor an answer from a request.
        """
        self.is_leaving = False
        """Whether the sender asked for the release."""
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
            with suppress(OSError):
                socket.socket.shutdown(connection, socket.SHUT_RDWR)

    @property
    def _connection(self) -> socket.socket | None:
        return None if self.dul.socket is None else self.dul.socket.socket

    def _handle_no_response(self) -> None:
        if not self.is_leaving:  # else the loop answers the release: no abort
            super()._handle_no_response()

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
        connection = self._connection
        self.cut()
        try:
            cast("Provider", self.dul).end()
            if connection is not None:
                connection.close()
            if not self.exchange.is_idle:
                self.exchange.interrupt(self.failure or StoreInterrupted())
            self._tell()
            if self.session is not None:
                self.session.close()
        except Exception:
            log.exception("An association failed at its end.")
        finally:
            self.house.leave(self)

    def _tell(self) -> None:
        failure, session = self.failure, self.session
        if self.is_released or (session is None and failure is None):
            return
        failure = failure or StoreInterrupted("the sender aborted or went away")
        log.warning(
            "an association ended without a release",
            extra=fields(
                Event.ASSOCIATION_ABORTED,
                source=SOURCE,
                calling_ae_title=None if session is None else session.caller.calling_ae_title,
                code=failure.code,
                reason=failure.detail or failure.message(),
            ),
        )
