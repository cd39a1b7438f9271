"""What a person or a monitor asks: one read model for status, study and metrics."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, func, select, text

from flute_sync.error_tree import every_error
from flute_sync.ledger.tables import (
    WAITS_FOR_PATIENT,
    archive,
    event,
    fhir_study,
    study,
    study_archive,
)
from flute_sync.ledger_errors import StudyUnknown
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State

WAITING_FOR_PATIENT: Final = "waiting-for-patient"
"""Counted apart from the other studies on hold: nothing is wrong with these."""

MOST_EVENTS: Final = 1000


@dataclass(frozen=True, slots=True)
class Status:
    """How the work stands.

    ``counts`` has every state and `WAITING_FOR_PATIENT`. ``oldest_unsynced`` is the age of the
    oldest fact that FHIR still owes; studies that only wait for a Patient do not count, since
    one absent Patient would hide every other delay. ``series`` and ``instances`` are what the
    ledger holds in all.
    """

    counts: dict[str, int]
    oldest_unsynced: timedelta | None
    series: int
    instances: int


@dataclass(frozen=True, slots=True)
class EventView:
    """One entry of the audit trail."""

    at: datetime
    event: str
    sentence: str
    code: str | None


@dataclass(frozen=True, slots=True)
class ArchiveView:
    """How an archive stands to a study: what it counts, and what is still owed to it."""

    name: str
    series: int | None
    instances: int | None
    is_read_owed: bool
    is_unverified: bool
    absent_since: datetime | None


@dataclass(frozen=True, slots=True)
class StudyView:
    """One study as the ledger sees it; ``events`` are oldest first.

    ``hint`` says what a person should do
    about ``code``. ``lease_until`` is set while a worker holds it, ``next_attempt_at`` while none
    does and it will be tried by itself.
    """

    study_instance_uid: StudyInstanceUID
    state: str
    code: str | None
    sentence: str | None
    hint: str | None
    fhir_reference: str | None
    fhir_version: str | None
    patient_reference: str | None
    series: int
    instances: int
    attempts: int
    received_at: datetime
    unsynced_since: datetime | None
    next_attempt_at: datetime | None
    lease_owner: str | None
    lease_until: datetime | None
    is_pruned: bool
    calling_ae_titles: tuple[str, ...]
    archives: tuple[ArchiveView, ...]
    events: tuple[EventView, ...]


def status(connection: Connection, now: datetime) -> Status:
    """Count studies, series and instances from an index, without touching the big table."""
    counts = {state.value: 0 for state in State}
    series = instances = 0
    totals = select(
        study.c.state,
        func.count(),
        func.sum(study.c.series_count + study.c.stated_series),
        func.sum(study.c.instance_count + study.c.stated_instances),
    ).group_by(study.c.state)
    for state, studies, of_series, of_instances in connection.execute(totals):
        counts[state] = studies
        series += int(of_series)
        instances += int(of_instances)
    waiting = connection.execute(
        select(func.count()).select_from(study).where(text(WAITS_FOR_PATIENT))
    ).scalar_one()
    counts[State.ON_HOLD.value] -= waiting
    counts[WAITING_FOR_PATIENT] = waiting
    return Status(counts, _oldest_unsynced(connection, now), series, instances)


def _oldest_unsynced(connection: Connection, now: datetime) -> timedelta | None:
    since = connection.execute(
        select(func.min(study.c.unsynced_since)).where(
            study.c.unsynced_since.is_not(None), text(f"NOT ({WAITS_FOR_PATIENT})")
        )
    ).scalar_one()
    return None if since is None else max(now - since, timedelta())


def study_view(connection: Connection, uid: StudyInstanceUID) -> StudyView:
    """Return one study with its trail.

    Raises
    ------
    StudyUnknown
    """
    row = connection.execute(
        select(study, fhir_study.c.resource_id, fhir_study.c.version_id)
        .join(fhir_study, fhir_study.c.study_id == study.c.id, isouter=True)
        .where(study.c.study_instance_uid == uid)
    ).one_or_none()
    if row is None:
        raise StudyUnknown(study_instance_uid=uid)
    is_held = row.state == State.IN_PROGRESS
    return StudyView(
        study_instance_uid=row.study_instance_uid,
        state=row.state,
        code=row.code,
        sentence=row.sentence,
        hint=_hint(row.code),
        fhir_reference=None if row.resource_id is None else f"ImagingStudy/{row.resource_id}",
        fhir_version=row.version_id,
        patient_reference=row.patient_reference,
        series=row.series_count + row.stated_series,
        instances=row.instance_count + row.stated_instances,
        attempts=row.attempts,
        received_at=row.received_at,
        unsynced_since=row.unsynced_since,
        next_attempt_at=None if is_held else row.next_attempt_at,
        lease_owner=row.lease_owner,
        lease_until=row.next_attempt_at if is_held else None,
        is_pruned=row.pruned,
        calling_ae_titles=tuple(row.calling_ae_titles),
        archives=_archives(connection, row.id),
        events=_events(connection, row.id),
    )


def _archives(connection: Connection, study_id: int) -> tuple[ArchiveView, ...]:
    rows = connection.execute(
        select(study_archive, archive.c.name)
        .join(archive, archive.c.id == study_archive.c.archive_id)
        .where(study_archive.c.study_id == study_id)
        .order_by(archive.c.id)
    )
    return tuple(
        ArchiveView(
            name=row.name,
            series=row.series_count,
            instances=row.instance_count,
            is_read_owed=row.read_owed is not None,
            is_unverified=row.unverified is not None,
            absent_since=row.absent_since,
        )
        for row in rows
    )


def _events(connection: Connection, study_id: int) -> tuple[EventView, ...]:
    newest = connection.execute(
        select(event.c.at, event.c.event, event.c.sentence, event.c.code)
        .where(event.c.study_id == study_id)
        .order_by(event.c.id.desc())
        .limit(MOST_EVENTS)
    ).all()
    return tuple(EventView(*row) for row in reversed(newest))


def _hint(code: str | None) -> str | None:
    return next((error.hint for error in every_error() if error.code == code), None)
