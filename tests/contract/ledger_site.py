"""A ledger for tests: a clock that is set by hand, and short words for what arrives."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import create_engine, text

from flute_sync.completeness import StudySettings
from flute_sync.events import Event
from flute_sync.intake import Delivery, Notice, Noticed, Received
from flute_sync.ledger import (
    Claim,
    FhirRow,
    Ledger,
    LedgerSettings,
    Settlement,
    Snapshot,
    StudyView,
)
from flute_sync.study import (
    Header,
    Instance,
    PatientAttributes,
    PatientId,
    SeriesAttributes,
    SeriesInstanceUID,
    SOPInstanceUID,
    StudyInstanceUID,
)
from flute_sync.task import State, TaskEvent

STUDY = StudyInstanceUID("1.2.3")
OTHER = StudyInstanceUID("1.2.4")
TARGET = "http://fhir.example/fhir"
QUIET = timedelta(seconds=10)
LONGEST = timedelta(minutes=15)
SECOND = timedelta(seconds=1)
HEADER = Header(
    "1.2.840.10008.5.1.4.1.1.4",
    PatientAttributes(id=PatientId("P1"), name="Known^Name"),
    series=SeriesAttributes(number=1, modality="MR"),
)


def header(description: str) -> Header:
    """Another header than `HEADER`."""
    return Header(
        HEADER.sop_class_uid,
        HEADER.patient,
        series=SeriesAttributes(number=1, modality="MR", description=description),
    )


def received(
    numbers: Iterable[int],
    *,
    study: StudyInstanceUID = STUDY,
    series: int = 1,
    said: Header = HEADER,
) -> tuple[Received, ...]:
    """Instances ``1.2.3.SERIES.NUMBER`` of a study's series ``1.2.3.SERIES``."""
    series_uid = SeriesInstanceUID(f"{study}.{series}")
    return tuple(
        Received(
            study,
            series_uid,
            Instance(SOPInstanceUID(f"{series_uid}.{number}"), number, said),
        )
        for number in numbers
    )


def synced(resource_id: str = "7", version_id: str = "1", **more: Any) -> Settlement:
    """A step that wrote the resource."""
    return Settlement(
        TaskEvent.SYNC,
        "It was written.",
        Event.STUDY_SYNCED,
        fhir=FhirRow(resource_id, version_id, "digest"),
        patient_reference="Patient/1",
        **more,
    )


def held(code: str = "PATIENT-ABSENT", **more: Any) -> Settlement:
    """A step that cannot go on."""
    return Settlement(TaskEvent.HOLD, "It waits.", Event.STUDY_ON_HOLD, code=code, **more)


def failed(at: datetime, code: str = "FHIR-BUSY") -> Settlement:
    """A step that failed for a while."""
    return Settlement(
        TaskEvent.FAIL, "It failed.", Event.STUDY_RETRY, code=code, next_attempt_at=at
    )


def left_out(*, rules: str = "r1", prune: bool = True, **more: Any) -> Settlement:
    """A step that found the study out of scope."""
    return Settlement(
        TaskEvent.LEAVE_OUT,
        "Not wanted.",
        Event.STUDY_OUT_OF_SCOPE,
        rules=rules,
        prune=prune,
        **more,
    )


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 22, 8, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, time: timedelta) -> None:
        """Let time pass."""
        self.now += time


@dataclass
class Site:
    """One ledger, its clock, and what sources and workers do with it."""

    url: str
    clock: Clock = field(default_factory=Clock)
    opened: list[Ledger] = field(default_factory=list)

    def open(self, *, create: bool = True, archives: Sequence[str] = (), **settings: Any) -> Ledger:
        """Open it as one more process would."""
        ledger = Ledger.open(
            LedgerSettings(url=self.url, **settings),
            StudySettings(quiet_period=QUIET, longest_wait=LONGEST),
            create=create,
            clock=self.clock,
            archives=archives,
        )
        ledger.bind_target(TARGET)
        self.opened.append(ledger)
        return ledger

    @property
    def ledger(self) -> Ledger:
        """The first process."""
        return self.opened[0] if self.opened else self.open()

    def deliver(self, items: tuple[Received, ...] = (), archive: str = "pacs", **more: Any) -> None:
        """Deliver instances."""
        self.ledger.deliver(Delivery("stow_rs", archive, self.clock(), items, **more))

    def notice(
        self,
        fingerprint: str | None = None,
        *,
        notice: Notice = Notice.CHANGED,
        source: str = "qido_rs",
        archive: str = "pacs",
        study: StudyInstanceUID = STUDY,
    ) -> None:
        """Deliver a notice."""
        noticed = (Noticed(study, notice, fingerprint),)
        self.ledger.deliver(Delivery(source, archive, self.clock(), noticed=noticed))

    def claim(self, owner: str = "worker") -> Claim:
        """Claim what becomes due next, waiting for it."""
        due = self.ledger.next_due()
        assert due is not None
        self.clock.now = max(self.clock.now, due)
        claimed = self.ledger.claim(owner)
        assert claimed is not None
        return claimed

    def sync(self, **more: Any) -> State:
        """Do the step of what becomes due next: all archives are read as far as owed, written."""
        claimed = self.claim()
        return self.ledger.settle(claimed, synced(**more))

    def snapshot(
        self, claimed: Claim, items: tuple[Received, ...] = (), archive: str = "pacs", **more: Any
    ) -> None:
        """Write what an archive holds."""
        taken = Snapshot(archive, self.clock(), claimed.generation, items, **more)
        self.ledger.snapshot(claimed, taken)

    def view(self, study: StudyInstanceUID = STUDY) -> StudyView:
        """Look at a study."""
        return self.ledger.study_view(study)

    def rows(self, query: str) -> list[Any]:
        """Ask the database itself."""
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                return list(connection.execute(text(query)))
        finally:
            engine.dispose()

    def execute(self, statement: str) -> None:
        """Change the database behind the ledger's back."""
        engine = create_engine(self.url)
        try:
            with engine.begin() as connection:
                connection.execute(text(statement))
        finally:
            engine.dispose()

    def unchanged(self) -> tuple[Any, ...]:
        """All that work on the study depends on, to be compared."""
        return (
            self.rows("SELECT * FROM study ORDER BY id"),
            self.rows("SELECT * FROM study_archive ORDER BY study_id, archive_id"),
            self.rows("SELECT count(*) FROM instance"),
            self.rows("SELECT count(*) FROM header"),
            self.rows("SELECT count(*) FROM event"),
        )

    def close(self) -> None:
        """End all processes."""
        for ledger in self.opened:
            ledger.close()
