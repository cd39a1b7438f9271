"""What an association sends on is recorded, or the archive is read: whatever fails, and when."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from flute_sync.archive_errors import ArchiveUnavailable
from flute_sync.errors import FluteSyncError
from flute_sync.intake import Delivery, IntentId, Received
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.store_forward import ForwardSink
from flute_sync.sources.store_sink import Caller, Context, StoreCommand
from flute_sync.study import StudyInstanceUID
from tests.dimse import EXPLICIT
from tests.forwarding import dataset_of
from tests.stow import MR, FakeIntake, dicom, uid

STUDIES = ("a", "b")
FILES = {study: dataset_of(dicom(study)) for study in STUDIES}


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Ledger(FakeIntake):
    """Keeps what intents are open, and what was made of the others."""

    def __init__(self) -> None:
        super().__init__()
        self.open: dict[IntentId, set[str]] = {}
        self.recorded: set[str] = set()
        self.to_be_read: set[str] = set()
        self.fails = False

    def _meets(self) -> None:
        if self.fails:
            raise LedgerUnavailable

    def intend(self, source: str, archive: str, studies: Iterable[StudyInstanceUID]) -> IntentId:
        self._meets()
        opened = super().intend(source, archive, studies)
        self.open[opened] = set(studies)
        return opened

    def extend(self, intent: IntentId, studies: Iterable[StudyInstanceUID]) -> None:
        self._meets()
        self.open[intent] |= set(studies)

    def abandon(self, intent: IntentId) -> None:
        # Failing or not, what is open without being renewed is read in the end.
        self.to_be_read |= self.open.pop(intent)
        self._meets()

    def deliver(self, delivery: Delivery) -> frozenset[StudyInstanceUID]:
        if delivery.closes is not None and self.fails:
            self.to_be_read |= self.open.pop(delivery.closes)
        self._meets()
        if delivery.received:
            assert delivery.under in self.open
        self.recorded |= {one.study_instance_uid for one in delivery.received}
        if delivery.closes is not None:
            del self.open[delivery.closes]
        return frozenset()


class Way:
    """A way to an archive that stores, refuses, is lost in the middle or after all was sent."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.fate = "stores"
        self.stored: list[str] = []

    def acceptable(self, proposed: Iterable[Context]) -> list[Context]:
        return list(proposed)

    def __call__(self, caller: Caller, /) -> "Way":
        return self

    def begin(self, command: StoreCommand) -> None:
        if self.fate == "is down":
            raise ArchiveUnavailable

    def send(self, data: bytes) -> None:
        if self.fate == "is lost":
            raise ArchiveUnavailable

    def finish(self, received: Received) -> int:
        if self.fate == "refuses":
            return 0xA700
        covered: set[str] = set().union(*self._ledger.open.values())
        assert received.study_instance_uid in covered
        self.stored.append(received.study_instance_uid)
        if self.fate == "is silent":
            raise ArchiveUnavailable
        return 0xB000 if self.fate == "warns" else 0

    def cancel(self) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""


FATES = st.sampled_from(["stores", "warns", "refuses", "is lost", "is silent", "is down", "leaves"])
STEP = st.tuples(st.sampled_from(STUDIES), FATES, st.booleans(), st.booleans(), st.integers(0, 7))


@given(st.lists(STEP, max_size=12))
def test_what_the_archive_stored_is_recorded_or_read(
    steps: list[tuple[str, str, bool, bool, int]],
) -> None:
    ledger, clock = Ledger(), Clock()
    way = Way(ledger)
    sink = ForwardSink(ledger, HeaderReader(), "pacs", way, clock)
    door = sink.open(Caller("SENDER", "OURS", (Context(MR, EXPLICIT),)))
    for study, fate, fails_before, fails_after, seconds in steps:
        way.fate, ledger.fails = fate, fails_before
        clock.now += timedelta(seconds=seconds)
        stored = len(way.stored)
        command = StoreCommand(MR, uid(study, "series", 1), MR, EXPLICIT)
        incoming = door.begin(command)
        try:
            incoming.feed(FILES[study])
            if fate == "leaves":
                incoming.abandon()
                continue
            ledger.fails = fails_after
            status = incoming.finish()
        except FluteSyncError:
            continue
        if status in (0, 0xB000):
            assert len(way.stored) == stored + 1
            assert uid(study) in ledger.recorded
    ledger.fails = False
    door.close()
    assert not ledger.open
    assert set(way.stored) <= ledger.recorded | ledger.to_be_read
