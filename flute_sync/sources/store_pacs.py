"""The way onward by C-STORE: one association with the PACS for each association with a sender."""

import threading
import time
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Final

from flute_sync.errors import FluteSyncError
from flute_sync.intake import Received
from flute_sync.sources.dimse_peer import DimsePeerSettings
from flute_sync.sources.store_scu import MOST_CONTEXTS, StoreAssociation
from flute_sync.sources.store_sink import Caller, Context, StoreCommand

_VERIFICATION: Final = Context("1.2.840.10008.1.1", "1.2.840.10008.1.2")
_BELIEVED_FOR: Final = timedelta(minutes=5)
_MOST_ASKED: Final = 8 * MOST_CONTEXTS


def probe(settings: DimsePeerSettings) -> None:
    """Try whether a PACS accepts an association.

    Raises
    ------
    ArchiveUnavailable, ArchiveServerError, ArchiveAssociationRejected
        When it does not.
    ConfigurationError, SecretUnreadable
        When our certificates cannot be used.
    """
    StoreAssociation(settings, [_VERIFICATION]).release()


class PacsOutlets:
    """Makes ways to a PACS; knows for a while which contexts that takes."""

    def __init__(self, settings: DimsePeerSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._known: dict[Context, tuple[bool, float]] = {}

    def __call__(self, caller: Caller) -> "PacsOutlet":
        """Make the way for an association."""
        return PacsOutlet(self._settings, caller.contexts)

    def acceptable(self, proposed: Sequence[Context]) -> Collection[Context]:
        """Return what the PACS takes, so that a sender can choose another transfer syntax.

        Where it cannot be asked, everything may come: each instance is told that it is down.
        """
        now = time.monotonic()
        with self._lock:
            self._known = {one: known for one, known in self._known.items() if known[1] > now}
            taken = {one: is_taken for one, (is_taken, _) in self._known.items()}
        unknown = [one for one in dict.fromkeys(proposed) if one not in taken][:_MOST_ASKED]
        for start in range(0, len(unknown), MOST_CONTEXTS):
            contexts = unknown[start : start + MOST_CONTEXTS]
            try:
                association = StoreAssociation(self._settings, contexts)
            except FluteSyncError:
                return proposed
            taken |= {one: association.takes(one) for one in contexts}
            association.release()
        until = now + _BELIEVED_FOR.total_seconds()
        with self._lock:
            self._known |= {one: (taken[one], until) for one in unknown}
        return {one for one in proposed if taken.get(one)}


class PacsOutlet:
    """Sends instances to a PACS in the contexts in which they came.

    The association is opened with the first instance, and anew when the PACS has ended it.
    """

    def __init__(self, settings: DimsePeerSettings, contexts: Sequence[Context]) -> None:
        self._settings = settings
        self._contexts = contexts
        self._association: StoreAssociation | None = None

    def begin(self, command: StoreCommand) -> None:
        """Begin with an instance.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveAssociationRejected
            When there is no association.
        ArchiveContextRefused
            When the PACS does not take the SOP class so written.
        """
        if self._association is not None and not self._association.alive():
            self.cancel()
        if self._association is None:
            self._association = StoreAssociation(self._settings, self._contexts)
        self._association.begin(command)

    def send(self, data: bytes) -> None:
        """Send a piece of the data set."""
        self._current().send(data)

    def finish(self, _received: Received) -> int:
        """Complete the instance, and return the PACS's status."""
        try:
            return self._current().finish()
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Abort the association: a message on it cannot be taken back otherwise."""
        association, self._association = self._association, None
        if association is not None:
            association.abort()

    def close(self) -> None:
        """Release the association."""
        association, self._association = self._association, None
        if association is not None:
            association.release()

    def _current(self) -> StoreAssociation:
        if self._association is None:
            raise RuntimeError("no instance was begun")
        return self._association
