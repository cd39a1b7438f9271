"""The DICOM listener: associations are accepted here, and all that a site takes by DIMSE.

References
----------
PS3.8 9 (2026b).
"""

import logging
import socket
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import timedelta
from socketserver import BaseServer
from typing import Any, Final, cast

from pynetdicom import _config
from pynetdicom.ae import ApplicationEntity
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.transport import AssociationServer, RequestHandler, ThreadedAssociationServer

from flute_sync import __version__
from flute_sync.events import Event, fields
from flute_sync.settings_errors import ListenerUnavailable
from flute_sync.sources.dimse_incoming import IncomingAssociation
from flute_sync.sources.dimse_peer import keep_alive
from flute_sync.sources.dimse_policy import Handler, Policy, Service
from flute_sync.sources.dimse_provider import BoundedSocket
from flute_sync.sources.store_session import SOURCE, StoreSession, printable_ae_title
from flute_sync.sources.store_settings import StoreScpSettings
from flute_sync.sources.store_sink import Caller, Sink

__all__ = ["Acceptor", "Handler", "Service"]

log = logging.getLogger(__name__)

IMPLEMENTATION_CLASS_UID: Final = "2.25.72134450950427956004645975984008629431"
_BEAT: Final = timedelta(seconds=0.5)
_STALE: Final = timedelta(seconds=10)
_LAST_WORDS: Final = timedelta(seconds=3)
_PAUSE: Final = timedelta(seconds=0.1)
_SPARE_CONNECTIONS: Final = 16


class Acceptor:
    """Listens for associations until told to stop.

    Parameters
    ----------
    sink
        Takes the instances that are sent by C-STORE.
    services
        Others that are served on the same address.
    count
        Told the status of each C-STORE answer.
    """

    def __init__(
        self,
        settings: StoreScpSettings,
        sink: Sink,
        services: Sequence[Service] = (),
        count: Callable[[int], None] = lambda _status: None,
    ) -> None:
        _silence()
        self.settings = settings
        self.policy = Policy(settings, services, sink.acceptable)
        self._sink = sink
        self._services = tuple(services)
        self._count = count
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        self._open: set[IncomingAssociation] = set()
        self._stopping = threading.Event()
        self._server: _Server | None = None
        self._thread = threading.Thread(target=self._serve, name="dimse", daemon=True)
        self.beaten = time.monotonic()

    def start(self) -> None:
        """Return when associations are taken.

        Raises
        ------
        ListenerUnavailable
            When the address cannot be taken.
        SecretUnreadable
            When a certificate or its key cannot be used.
        """
        self.reload()
        settings = self.settings
        handlers = [
            (handler.event, _guarded(handler.function))
            for service in self._services
            for handler in service.handlers
        ]
        try:
            self._server = _Server(self, _entity(settings), handlers)
        except OSError as error:
            where = f"store_scp: {settings.host}:{settings.port}"
            raise ListenerUnavailable(f"{where}: {error.strerror}") from None
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return 0 if self._server is None else int(self._server.server_address[1])

    def alive(self) -> bool:
        """Tell whether associations are still taken."""
        is_fresh = time.monotonic() - self.beaten < _STALE.total_seconds()
        return self._thread.is_alive() and is_fresh

    def reload(self) -> None:
        """Read the certificates again; connections from now on see them.

        Raises
        ------
        SecretUnreadable
            When one cannot be used; the old ones stay.
        """
        if self.settings.tls is not None:
            self._tls = self.settings.tls.context()

    def stop(self, grace: timedelta) -> None:
        """Take no more associations; end each after the message in hand, or break it off."""
        self._stopping.set()
        if self._server is None:
            return
        self._server.shutdown()
        self._thread.join(_LAST_WORDS.total_seconds())
        deadline = time.monotonic() + grace.total_seconds()
        while (left := self._members()) and time.monotonic() < deadline:
            for association in left:
                association.stop()
            time.sleep(_PAUSE.total_seconds())
        for association in self._members():
            association.cut()

    # -- what associations ask -------------------------------------------------------------------

    def is_stopping(self) -> bool:
        """Tell whether associations should end."""
        return self._stopping.is_set()

    def session(self, caller: Caller) -> StoreSession:
        """Open what takes the instances of an association."""
        return StoreSession(self._sink, caller, self._count)

    def admit(self, association: IncomingAssociation, request: A_ASSOCIATE) -> bool:
        """Count an association in, or log why it is rejected and say so to the sender."""
        with self._lock:
            rejection = self.policy.rejection(request, len(self._open))
            if rejection is None:
                self._open.add(association)
                return True
        log.warning(
            "an association was rejected",
            extra=fields(
                Event.ASSOCIATION_REJECTED,
                source=SOURCE,
                calling_ae_title=printable_ae_title(str(request.calling_ae_title)),
                reason=rejection.words,
            ),
        )
        association.acse.send_reject(rejection.result, rejection.source, rejection.diagnostic)
        return False

    def leave(self, association: IncomingAssociation) -> None:
        """Count an association out."""
        with self._lock:
            self._open.discard(association)
        if self._server is not None:
            self._server.ended()

    def secured(self, connection: socket.socket) -> socket.socket:
        """Return the connection with TLS, where that is set.

        Raises
        ------
        OSError
            When the handshake fails or takes too long.
        """
        connection.settimeout(self.settings.acse_timeout.total_seconds())
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(connection)
        return connection if self._tls is None else self._tls.wrap_socket(connection, True)

    def _members(self) -> list[IncomingAssociation]:
        with self._lock:
            return list(self._open)

    def _serve(self) -> None:
        if self._server is not None:
            self._server.serve_forever(_BEAT.total_seconds())


class _Server(ThreadedAssociationServer):
    """pynetdicom's server, whose accepting thread waits for nobody."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, acceptor: Acceptor, entity: ApplicationEntity, handlers: list[Any]) -> None:
        self.acceptor = acceptor
        self._connections = 0
        self._counting = threading.Lock()
        settings = acceptor.settings
        super().__init__(
            entity,
            (settings.host, settings.port),
            settings.ae_title,
            [],
            evt_handlers=handlers,
            request_handler=_Connection,
        )

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take a connection; TLS begins in a thread of its own."""
        try:
            return cast("socket.socket", self.socket).accept()
        except OSError:
            time.sleep(_PAUSE.total_seconds())  # out of files: ask again, but not at once
            raise

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Drop connections beyond what associations need."""
        most = _most_connections(self.acceptor.settings)
        with self._counting:
            if self._connections >= most:
                return False
            self._connections += 1
        return True

    def ended(self) -> None:
        """Count a connection out."""
        with self._counting:
            self._connections -= 1

    def service_actions(self) -> None:
        """Say that the thread is alive."""
        self.acceptor.beaten = time.monotonic()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection ended before it was an association."""
        self.ended()
        error = sys.exception()
        if isinstance(error, ssl.SSLError):
            log.warning(
                "a connection failed before it was an association",
                extra=fields(
                    Event.ASSOCIATION_REJECTED,
                    source=SOURCE,
                    reason=f"TLS: {error.reason or 'broken off'}",
                ),
            )

    def shutdown(self) -> None:
        """Stop listening."""
        BaseServer.shutdown(self)
        self.server_close()


class _Connection(RequestHandler):
    """Makes an association of a connection."""

    def handle(self) -> None:
        """Shake hands and start the association."""
        server = cast("_Server", self.server)
        self.request = server.acceptor.secured(self.request)
        self._create_association().start()

    def _create_association(self) -> IncomingAssociation:
        server, entity = cast("_Server", self.server), self.ae
        association = IncomingAssociation(entity, server.acceptor)
        association._server = cast("AssociationServer", server)
        association.name = "dimse-association"
        association.set_socket(BoundedSocket(association, client_socket=self.request))
        acceptor = association.acceptor
        acceptor.maximum_length = entity.maximum_pdu_size
        acceptor.ae_title = server.ae_title
        acceptor.address_info = self.local
        acceptor.implementation_class_uid = entity.implementation_class_uid
        acceptor.implementation_version_name = entity.implementation_version_name
        association.requestor.address_info = self.remote
        for event, bound in server._handlers.items():
            if event.is_intervention and bound:
                association.bind(event, *cast("tuple[Any, Any]", bound))
        return association


def _most_connections(settings: StoreScpSettings) -> int:
    return 2 * settings.max_associations + _SPARE_CONNECTIONS


def _entity(settings: StoreScpSettings) -> ApplicationEntity:
    entity = ApplicationEntity(settings.ae_title)
    entity.maximum_associations = _most_connections(settings)  # the policy counts, not pynetdicom
    entity.maximum_pdu_size = settings.max_pdu_bytes
    entity.acse_timeout = settings.acse_timeout.total_seconds()
    entity.network_timeout = settings.idle_timeout.total_seconds()
    entity.dimse_timeout = settings.dimse_timeout.total_seconds()
    entity.implementation_class_uid = IMPLEMENTATION_CLASS_UID
    entity.implementation_version_name = f"FLUTE_SYNC_{__version__}"[:16]
    return entity


def _guarded(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Let nothing be lost that a handler raises: pynetdicom answers it, we tell of it."""

    def call(event: Any) -> Any:
        try:
            return function(event)
        except Exception:
            log.exception("A DIMSE service failed.")
            raise

    return call


def _silence() -> None:
    """Let pynetdicom log nothing, and pydicom not warn: they print what senders sent."""
    warnings.filterwarnings("ignore", module=r"(pydicom|pynetdicom)(\.|$)")
    _config.LOG_HANDLER_LEVEL = "none"
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
