"""The lean data path: an established association served from its socket in one loop.

pynetdicom negotiates; its own data path costs several milliseconds an instance and holds each
instance whole.

References
----------
PS3.8 9.2 (2026b): state 6 of the upper layer, and what leads out of it.
"""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from flute_sync.dimse_errors import ProtocolViolated, StoreInterrupted, StoreTooSlow
from flute_sync.errors import FluteSyncError
from flute_sync.sources import dimse_pdus as pdus
from flute_sync.sources.dimse_exchange import Exchange
from flute_sync.sources.dimse_pdus import PduReader, Sign

_AT_ONCE_BYTES: Final = 128 * 1024
_QUICK_BYTES: Final = 64 * 1024
_REASON_NOT_SPECIFIED: Final = 0
_LAST_WORDS: Final = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much and how long: of our own side, and ``peer_pdu_bytes`` as the peer said."""

    max_pdu_bytes: int
    peer_pdu_bytes: int
    idle_timeout: timedelta
    network_timeout: timedelta
    acse_timeout: timedelta


class LeanAssociation:
    """Serves one association.

    Parameters
    ----------
    connection
        The socket, with or without TLS; whoever made it closes it.
    is_stopping
        Asked between messages: True when the association should end.
    """

    def __init__(
        self,
        connection: socket.socket,
        exchange: Exchange,
        limits: Limits,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._connection = connection
        self._exchange = exchange
        self._limits = limits
        self._is_stopping = is_stopping
        self._reader = PduReader(limits.max_pdu_bytes)
        self._buffer = memoryview(bytearray(_AT_ONCE_BYTES))

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return self._exchange.is_idle and self._reader.is_between

    def serve(self) -> FluteSyncError | None:
        """Serve until the association ends; return why, or None when the sender released it."""
        error: FluteSyncError | None = None
        try:
            while not self._take(self._receive()):
                pass
            return None
        except ProtocolViolated as violation:
            error = violation
            self._abort(violation.reason)
        except StoreTooSlow as slow:
            error = slow
            self._abort(_REASON_NOT_SPECIFIED)
        except StoreInterrupted as interrupted:
            error = interrupted
            if self._is_stopping():
                self._abort(_REASON_NOT_SPECIFIED)
        except OSError as broken:
            error = StoreInterrupted(broken.strerror or "the connection broke")
        if not self._exchange.is_idle:
            self._exchange.interrupt(error)
        return error

    def stop(self) -> None:
        """End as soon as nothing is on its way; called from another thread."""
        if self.is_idle:
            # Of an SSLSocket the method itself would drop TLS.
            with suppress(OSError):
                socket.socket.shutdown(self._connection, socket.SHUT_RD)

    def _receive(self) -> memoryview:
        limits, is_idle = self._limits, self.is_idle
        if is_idle and self._is_stopping():
            raise StoreInterrupted("this service stops")
        longest = limits.idle_timeout if is_idle else limits.network_timeout
        self._connection.settimeout(longest.total_seconds())
        try:
            size = self._connection.recv_into(self._buffer)
        except TimeoutError:
            raise StoreTooSlow from None
        if not size:
            raise StoreInterrupted("the connection was closed")
        if size < _QUICK_BYTES:
            # A sender with Nagle's algorithm waits for this before it sends its last piece.
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        return self._buffer[:size]

    def _take(self, data: memoryview) -> bool:
        """Take what came; return whether the association was released."""
        for found in self._reader.feed(data):
            if isinstance(found, Sign):
                return self._obey(found)
            response = self._exchange.take(found)
            if response is not None:
                self._send(pdus.p_data(*response, self._limits.peer_pdu_bytes))
        return False

    def _obey(self, sign: Sign) -> bool:
        if sign is Sign.ABORT:
            raise StoreInterrupted("the sender aborted")
        if sign is Sign.RELEASE_RP or not self._exchange.is_idle:
            raise ProtocolViolated("a release in the middle of a message", reason=2)
        self._send(pdus.RELEASE_RP)
        self._await_close(self._limits.acse_timeout)
        return True

    def _send(self, data: bytes) -> None:
        self._connection.settimeout(self._limits.network_timeout.total_seconds())
        self._connection.sendall(data)

    def _abort(self, reason: int) -> None:
        """Say that it is over, as far as anybody listens; the reason is told by the caller."""
        try:
            self._connection.settimeout(_LAST_WORDS.total_seconds())
            self._connection.sendall(pdus.abort(reason))
            self._await_close(_LAST_WORDS)
        except OSError:
            return

    def _await_close(self, longest: timedelta) -> None:
        """Let the sender close: closing over unread data would take back what was sent."""
        deadline = time.monotonic() + longest.total_seconds()
        try:
            while (left := deadline - time.monotonic()) > 0:
                self._connection.settimeout(left)
                if not self._connection.recv_into(self._buffer):
                    return
        except OSError:
            return
