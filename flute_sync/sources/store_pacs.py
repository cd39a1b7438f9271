"""The way onward by C-STORE: one association with the PACS for each association with a sender."""

from collections.abc import Callable, Sequence

from flute_sync.intake import Received
from flute_sync.sources.dimse_peer import DimsePeerSettings
from flute_sync.sources.store_scu import StoreAssociation
from flute_sync.sources.store_sink import Caller, Context, StoreCommand


class PacsOutlet:
    """Sends instances to a PACS in the contexts in which they came.

    The association is opened with the first instance, and anew when the PACS has ended it.
    """

    def __init__(self, settings: DimsePeerSettings, contexts: Sequence[Context]) -> None:
        self._settings = settings
        self._contexts = contexts
        self._association: StoreAssociation | None = None

    @classmethod
    def to(cls, settings: DimsePeerSettings) -> Callable[[Caller], "PacsOutlet"]:
        """Return what makes the way for each association."""
        return lambda caller: cls(settings, caller.contexts)

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
            self._association = StoreAssociation.open(self._settings, self._contexts)
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
