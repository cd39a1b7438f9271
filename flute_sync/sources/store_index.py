"""C-STORE in mode ``index``: headers are recorded, pixels dropped as they come."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from flute_sync.dicom_errors import HeaderError
from flute_sync.dimse_errors import InstanceMismatch
from flute_sync.erase_errors import PatientErased
from flute_sync.intake import Delivery, Intake, Received, Refused
from flute_sync.sources.header import HeaderParser, HeaderReader
from flute_sync.sources.store_session import SOURCE
from flute_sync.sources.store_sink import Caller, Context, StoreCommand
from flute_sync.sources.stow_parts import refused

_SUCCESS: Final = 0x0000


class IndexSink:
    """Records the header of each instance, and nothing else of it.

    Parameters
    ----------
    archive
        The name of the archive that holds what is sent to us.
    final
        That archive cannot be asked: what comes last counts.
    """

    def __init__(
        self,
        intake: Intake,
        headers: HeaderReader,
        archive: str,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        *,
        final: bool = False,
    ) -> None:
        self.headers = headers
        self._intake = intake
        self._archive = archive
        self._clock = clock
        self._final = final

    def acceptable(self, proposed: Sequence[Context]) -> Sequence[Context]:
        """Take every context: pixels are never decoded."""
        return proposed

    def open(self, caller: Caller) -> "IndexDoor":
        """Open a door for an association."""
        return IndexDoor(self, caller)

    def deliver(
        self,
        caller: Caller,
        received: tuple[Received, ...] = (),
        refusals: tuple[Refused, ...] = (),
    ) -> None:
        """Commit one instance, or that it was refused.

        Raises
        ------
        PatientErased
            Nothing of its study, or of its patient, is taken any more.
        LedgerUnavailable, LedgerBusy
            When nothing was committed.
        """
        erased = self._intake.deliver(
            Delivery(
                source=SOURCE,
                archive=self._archive,
                at=self._clock(),
                received=received,
                refused=refusals,
                calling_ae_title=caller.calling_ae_title or None,
                final=self._final,
            )
        )
        if erased and received:
            raise PatientErased()


class IndexDoor:
    """Records what one association sends."""

    def __init__(self, sink: IndexSink, caller: Caller) -> None:
        self._sink = sink
        self._caller = caller

    def begin(self, command: StoreCommand) -> "IndexedInstance":
        """Start with an instance."""
        parser = self._sink.headers.parser(command.transfer_syntax)
        return IndexedInstance(self._sink, self._caller, command, parser)

    def close(self) -> None:
        """Nothing is held."""


class IndexedInstance:
    """One instance on its way; of it only the header's beginning is held."""

    def __init__(
        self, sink: IndexSink, caller: Caller, command: StoreCommand, parser: HeaderParser
    ) -> None:
        self._sink = sink
        self._caller = caller
        self._command = command
        self._parser = parser

    def feed(self, data: bytes) -> bool:
        """Take the next piece; those after the header are needless."""
        return self._parser.feed(data)

    def finish(self) -> int:
        """Commit the header.

        Raises
        ------
        HeaderError, InstanceMismatch
            Of the instance.
        PatientErased
            Nothing of it is taken any more.
        LedgerUnavailable, LedgerBusy
            When nothing was committed.
        """
        try:
            received = self._received()
        except (HeaderError, InstanceMismatch) as error:
            if refusals := refused(error):
                self._sink.deliver(self._caller, refusals=refusals)
            raise
        self._sink.deliver(self._caller, (received,))
        return _SUCCESS

    def abandon(self) -> None:
        """Nothing was recorded."""

    def _received(self) -> Received:
        received = self._parser.finish()
        instance = received.instance
        stated = instance.header.sop_class_uid, instance.sop_instance_uid
        if stated != (self._command.sop_class_uid, self._command.sop_instance_uid):
            raise InstanceMismatch(study_instance_uid=received.study_instance_uid)
        return received
