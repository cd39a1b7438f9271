"""C-STORE in mode ``forward``: instances go on to the archive as they come.

Nothing of an instance is sent on before its header is known, and its end waits until the intent
for its study is committed. Success is said when the archive said so and it is recorded.

References
----------
PS3.4 B.2 (2026b).
"""

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

from flute_sync.dicom_errors import HeaderError, HeaderTooLarge
from flute_sync.dimse_errors import InstanceMismatch
from flute_sync.intake import Intake, Received, Refused
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.store_intent import AssociationIntent
from flute_sync.sources.store_sink import Caller, Context, StoreCommand, is_stored
from flute_sync.study import StudyInstanceUID

_LARGEST_HELD_BYTES: Final = 16 << 20


class Outlets(Protocol):
    """Makes ways to the archive."""

    def acceptable(self, proposed: Sequence[Context]) -> Collection[Context]:
        """Return which contexts the archive takes, as far as it can be asked."""

    def __call__(self, caller: Caller, /) -> "Outlet":
        """Make the way of an association; asks nobody."""


class Outlet(Protocol):
    """The way to the archive of one association; one instance at a time.

    Every method but `cancel` and `close` raises a `FluteSyncError` when the archive cannot go on.
    """

    def begin(self, command: StoreCommand) -> None:
        """Begin with an instance, where the archive can be reached and takes its kind."""

    def send(self, data: bytes) -> None:
        """Send the next piece of the encoded data set."""

    def finish(self, received: Received) -> int:
        """Complete the instance and return the archive's status.

        An error means that nobody knows whether the instance was stored.
        """

    def cancel(self) -> None:
        """Break the instance off, so that the archive does not store it."""

    def close(self) -> None:
        """End the way."""


class ForwardSink:
    """Sends each instance on, and records what the archive took.

    Parameters
    ----------
    archive
        The name of the archive behind.
    outlets
        Make the way to it for an association.
    """

    def __init__(
        self,
        intake: Intake,
        headers: HeaderReader,
        archive: str,
        outlets: Outlets,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._intake = intake
        self._headers = headers
        self._archive = archive
        self._outlets = outlets
        self._clock = clock

    def acceptable(self, proposed: Sequence[Context]) -> Collection[Context]:
        """Take what the archive takes."""
        return self._outlets.acceptable(proposed)

    def open(self, caller: Caller) -> "ForwardDoor":
        """Open a door for an association."""
        intent = AssociationIntent(
            self._intake, self._archive, caller.calling_ae_title or None, self._clock
        )
        return ForwardDoor(self._headers, self._outlets(caller), intent)


class ForwardDoor:
    """Sends on what one association brings."""

    def __init__(self, headers: HeaderReader, outlet: Outlet, intent: AssociationIntent) -> None:
        self._headers = headers
        self._outlet = outlet
        self._intent = intent

    def begin(self, command: StoreCommand) -> "ForwardedInstance":
        """Start with an instance."""
        return ForwardedInstance(command, self._headers, self._outlet, self._intent)

    def close(self) -> None:
        """End the way to the archive, and the intent."""
        self._outlet.close()
        self._intent.close()


class ForwardedInstance:
    """One instance on its way; in memory is what comes before its header is known."""

    def __init__(
        self,
        command: StoreCommand,
        headers: HeaderReader,
        outlet: Outlet,
        intent: AssociationIntent,
    ) -> None:
        self._command = command
        self._parser = headers.parser(command.transfer_syntax)
        self._outlet = outlet
        self._intent = intent
        self._received: Received | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0

    def feed(self, data: bytes) -> None:
        """Send the next piece on, or keep it until the header is known.

        Raises
        ------
        FluteSyncError
            When the instance or the archive is at fault, or the intent is not committed.
        """
        if self._received is not None:
            self._send(data)
            return
        self._held.append(data)
        self._held_bytes += len(data)
        if self._parser.feed(data):
            self._start()
        elif self._held_bytes > _LARGEST_HELD_BYTES:
            raise HeaderTooLarge("its header does not end")

    def finish(self) -> int:
        """Complete the instance; what the archive took is committed before success is said.

        Raises
        ------
        FluteSyncError
            When the instance, the archive or the ledger is at fault.
        """
        received = self._received or self._start()
        try:
            status = self._outlet.finish(received)
        except BaseException:
            self._intent.abandon()
            raise
        if is_stored(status):
            self._intent.deliver(received)
        return status

    def abandon(self) -> None:
        """Break the instance off: the sender went away."""
        if self._received is not None:
            self._outlet.cancel()

    def _start(self) -> Received:
        """Read the header, and send on what was held for it."""
        received = self._header()
        self._outlet.begin(self._command)
        try:
            self._intent.cover(received.study_instance_uid)
        except BaseException:
            self._outlet.cancel()
            raise
        self._received = received
        held, self._held = self._held, []
        for data in held:
            self._send(data)
        return received

    def _send(self, data: bytes) -> None:
        try:
            self._outlet.send(data)
        except BaseException:
            self._outlet.cancel()
            raise

    def _header(self) -> Received:
        try:
            received = self._parser.finish()
        except HeaderError as error:
            if error.study_instance_uid is not None:
                study = StudyInstanceUID(error.study_instance_uid)
                self._intent.refuse(Refused(study, error.code, error.tag))
            raise
        instance = received.instance
        stated = instance.header.sop_class_uid, instance.sop_instance_uid
        if stated != (self._command.sop_class_uid, self._command.sop_instance_uid):
            raise InstanceMismatch(study_instance_uid=received.study_instance_uid)
        return received
