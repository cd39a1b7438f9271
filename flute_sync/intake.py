"""What a source delivers, and the one thing it is delivered to.

A source either has instance headers in hand (`Received`) or only heard that a study may have
changed (`Noticed`). Facts and the source's cursor travel in one `Delivery` and are committed
together, so that a crash between them is not possible.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, NewType, Protocol

from flute_sync.study import Header, Instance, SeriesInstanceUID, StudyInstanceUID
from flute_sync.study import StepStatus as StepStatus

IntentId = NewType("IntentId", int)


class Received(NamedTuple):
    """One instance whose header is in hand, and which its archive is known to hold."""

    study_instance_uid: StudyInstanceUID
    series_instance_uid: SeriesInstanceUID
    instance: Instance


class Stated(NamedTuple):
    """A series of which its archive tells no instances: what it says of the series alone.

    ``header`` has no SOP class; ``instance_count`` is (0020,1209), where stated.
    """

    study_instance_uid: StudyInstanceUID
    series_instance_uid: SeriesInstanceUID
    header: Header
    instance_count: int | None = None


class Performed(NamedTuple):
    """A Modality Performed Procedure Step: what a modality says that it does for a study.

    ``sop_instance_uid`` is the step's own UID. ``header`` holds what the step says of patient and
    study; its SOP class is the step's.
    """

    sop_instance_uid: str
    study_instance_uid: StudyInstanceUID
    status: StepStatus
    header: Header


class Notice(StrEnum):
    """What a source heard of a study."""

    CHANGED = "changed"  # new, or other than before: read it
    GONE = "gone"  # the archive said that it deleted it: confirm, then judge


class Noticed(NamedTuple):
    """A study of which something was heard.

    ``fingerprint`` is whatever the source can compare cheaply (counts, an update time): a notice
    whose fingerprint the ledger already holds for this archive is no news and changes nothing.
    """

    study_instance_uid: StudyInstanceUID
    notice: Notice = Notice.CHANGED
    fingerprint: str | None = None


class Refused(NamedTuple):
    """An instance that could not be taken: the error's code and the tag, never the value."""

    study_instance_uid: StudyInstanceUID
    code: str
    tag: str | None = None


class Cursor(NamedTuple):
    """Where a source stands in an archive's feed; ``value`` is the source's own text."""

    source: str
    archive: str
    value: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """News of one source about one archive, committed whole.

    ``archive`` is the name of the archive that holds what is received. ``under`` is the intent
    under which an upload was forwarded to it, ``closes`` an intent that ends. ``calling_ae_title``
    is who sent it, where that is known. ``at_once``: no more of these studies is on its way, so
    that no quiet period needs to pass. ``final``: the archive cannot be asked, so that of an
    instance that comes again with other values what came last counts.
    """

    source: str
    archive: str
    at: datetime
    received: tuple[Received, ...] = ()
    noticed: tuple[Noticed, ...] = ()
    refused: tuple[Refused, ...] = ()
    cursor: Cursor | None = None
    under: IntentId | None = None
    closes: IntentId | None = None
    calling_ae_title: str | None = None
    performed: tuple[Performed, ...] = ()
    at_once: bool = False
    final: bool = False


class Intake(Protocol):
    """Where sources deliver. Every method returns only after a durable commit.

    Raises
    ------
    LedgerUnavailable, LedgerBusy
        When nothing was committed: the sender must not be told success.
    """

    def deliver(self, delivery: Delivery) -> frozenset[StudyInstanceUID]:
        """Commit a delivery.

        Returns the studies of which nothing was taken: they, or their patients, were erased.
        """

    def intend(self, source: str, archive: str, studies: Iterable[StudyInstanceUID]) -> IntentId:
        """Commit that something of these studies is about to be completed towards the archive."""

    def extend(self, intent: IntentId, studies: Iterable[StudyInstanceUID]) -> None:
        """Add studies to an open intent, before their first part is completed."""

    def abandon(self, intent: IntentId) -> None:
        """Turn an intent into notices: what the archive stored must be read from it."""

    def cursor(self, source: str, archive: str) -> str | None:
        """Return where this source stands, or None when it never ran."""

    def held(
        self, archive: str, after: StudyInstanceUID | None, limit: int
    ) -> tuple[StudyInstanceUID, ...]:
        """Return studies that an archive is believed to hold, in ascending order of their UIDs.

        ``after`` is the last UID of the page before, None for the first page; a page that is
        shorter than ``limit`` is the last.
        """

    def performed_step(self, sop_instance_uid: str) -> tuple[Performed, ...]:
        """Return a step as it stands, for each study that it is of; none where none was told."""
