"""Rows that are locked, changed in memory and written back by one statement for all of them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeVar

from flute_sync.completeness import StudySettings, due_at
from flute_sync.ledger.columns import (
    dump_identities,
    from_stored,
    maybe_from_stored,
    split_identities,
    to_stored,
)
from flute_sync.ledger.driver import Driver, Row
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State, TaskEvent, after

_T = TypeVar("_T")

CHUNK: Final = 500
"""Values in one statement; SQLite allows 32,766."""


def chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield parts small enough for one statement."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]


@dataclass(slots=True)
class StudyRow:
    """What news of a study needs to know and may change; the database's row is locked."""

    id: int
    study_instance_uid: StudyInstanceUID
    state: State
    generation: int
    received_at: datetime
    news_since: datetime | None
    unsynced_since: datetime | None
    next_attempt_at: datetime | None
    series_count: int
    instance_count: int
    last_series: int
    last_header: int
    calling_ae_titles: list[str]
    pruned: bool
    stated_series: int
    stated_instances: int
    is_new: bool = False
    has_news: bool = False

    @property
    def is_quiet(self) -> bool:
        """Nothing came since the last claim, this commit included."""
        return self.news_since is None or (self.is_new and not self.has_news)

    @property
    def next_generation(self) -> int:
        """The generation of news that is being recorded now."""
        return self.generation if self.has_news else self.generation + 1

    def news(self, at: datetime, settings: StudySettings, *, at_once: bool = False) -> None:
        """Take notice of a new fact; several in one commit raise the generation once.

        ``at_once``: no more is on its way.
        """
        if self.is_new and not self.has_news:
            self.received_at = self.news_since = self.unsynced_since = at
        self.generation = self.next_generation
        self.has_news = True
        self.received_at = max(self.received_at, at)
        self.news_since = min(self.news_since or at, at)
        self.unsynced_since = min(self.unsynced_since or at, at)
        self.state = after(self.state, TaskEvent.NEWS)
        if self.state is not State.IN_PROGRESS:
            due = due_at(self.news_since, self.received_at, settings)
            self.next_attempt_at = at if at_once else due


@dataclass(slots=True)
class ArchiveRow:
    """How one archive stands to one study."""

    study_id: int
    archive_id: int
    read_owed: int | None = None
    unverified: int | None = None
    series_count: int | None = None
    instance_count: int | None = None
    fingerprints: dict[str, str] = field(default_factory=dict)
    absent_since: datetime | None = None
    absences: int = 0
    patient_ids: frozenset[str] = frozenset()
    patients: frozenset[str] = frozenset()
    changed: bool = False


def lock_studies(
    driver: Driver, uids: Iterable[StudyInstanceUID], at: datetime
) -> dict[StudyInstanceUID, StudyRow]:
    """Lock the rows of studies, in one order for everybody; make those that are not there.

    A row that is made has generation 0: nothing is known of it yet.
    """
    wanted = sorted(set(uids))
    found = _select_studies(driver, wanted)
    absent = [uid for uid in wanted if uid not in found]
    if absent:
        since = to_stored(at)
        driver.run(_STUDY_INSERT, [(uid, since, since, since, since) for uid in absent])
        made = _select_studies(driver, absent)
        for row in made.values():
            row.is_new = row.generation == 0
        found |= made
    return found


def _select_studies(
    driver: Driver, uids: Sequence[StudyInstanceUID]
) -> dict[StudyInstanceUID, StudyRow]:
    return {
        row[1]: _as_study_row(row)
        for part in chunks(uids)
        for row in driver.rows(_STUDY_SELECT + driver.for_update, list(part))
    }


def _as_study_row(row: Row) -> StudyRow:
    *head, received_at, news, unsynced, due = row[:8]
    *counts, callers, pruned, stated_series, stated_instances = row[8:]
    return StudyRow(
        id=head[0],
        study_instance_uid=head[1],
        state=State(head[2]),
        generation=head[3],
        received_at=from_stored(received_at),
        news_since=maybe_from_stored(news),
        unsynced_since=maybe_from_stored(unsynced),
        next_attempt_at=maybe_from_stored(due),
        series_count=counts[0],
        instance_count=counts[1],
        last_series=counts[2],
        last_header=counts[3],
        calling_ae_titles=json.loads(callers),
        pruned=bool(pruned),
        stated_series=stated_series,
        stated_instances=stated_instances,
    )


def write_studies(driver: Driver, rows: Iterable[StudyRow]) -> None:
    """Write back the rows that have news; who has news waits for nothing."""
    driver.run(_STUDY_UPDATE, [_as_values(row) for row in rows if row.has_news])


def _as_values(row: StudyRow) -> Row:
    return (
        row.state.value,
        row.generation,
        to_stored(row.received_at),
        to_stored(row.news_since),
        to_stored(row.unsynced_since),
        to_stored(row.next_attempt_at),
        row.series_count,
        row.instance_count,
        row.last_series,
        row.last_header,
        json.dumps(row.calling_ae_titles),
        row.pruned,
        row.stated_series,
        row.stated_instances,
        row.id,
    )


def study_archives(driver: Driver, studies: Sequence[int]) -> dict[tuple[int, int], ArchiveRow]:
    """Return how archives stand to studies, by (study id, archive id)."""
    rows = (row for part in chunks(studies) for row in driver.rows(_ARCHIVE_SELECT, list(part)))
    return {(row[0], row[1]): _as_archive_row(row) for row in rows}


def _as_archive_row(row: Row) -> ArchiveRow:
    study_id, archive_id, owed, unverified, series, instances, prints, since, *rest = row
    absences, patient_ids, patients = rest
    return ArchiveRow(
        study_id,
        archive_id,
        read_owed=owed,
        unverified=unverified,
        series_count=series,
        instance_count=instances,
        fingerprints=json.loads(prints),
        absent_since=maybe_from_stored(since),
        absences=absences,
        patient_ids=split_identities(patient_ids),
        patients=split_identities(patients),
    )


def write_study_archives(driver: Driver, rows: Iterable[ArchiveRow]) -> None:
    """Write the rows that changed, whether they were there or not."""
    changed = [
        (
            row.study_id,
            row.archive_id,
            row.read_owed,
            row.unverified,
            row.series_count,
            row.instance_count,
            json.dumps(row.fingerprints),
            to_stored(row.absent_since),
            row.absences,
            dump_identities(row.patient_ids),
            dump_identities(row.patients),
        )
        for row in rows
        if row.changed
    ]
    driver.run(_ARCHIVE_UPSERT, changed)


_STUDY_SELECT: Final = (
    "SELECT id, study_instance_uid, state, generation, received_at, news_since, unsynced_since,"
    " next_attempt_at, series_count, instance_count, last_series, last_header,"
    " calling_ae_titles, pruned, stated_series, stated_instances FROM study"
    " WHERE study_instance_uid IN (?) ORDER BY id"
)
_STUDY_INSERT: Final = (
    "INSERT INTO study (study_instance_uid, received_at, news_since, unsynced_since,"
    " next_attempt_at, state, generation, attempts, series_count, instance_count, last_series,"
    " last_header, calling_ae_titles, pruned)"
    " VALUES (?, ?, ?, ?, ?, 'received', 0, 0, 0, 0, 0, 0, '[]', FALSE)"
    " ON CONFLICT (study_instance_uid) DO NOTHING"
)
_STUDY_UPDATE: Final = (
    "UPDATE study SET state = ?, generation = ?, received_at = ?, news_since = ?,"
    " unsynced_since = ?, next_attempt_at = ?, series_count = ?, instance_count = ?,"
    " last_series = ?, last_header = ?, calling_ae_titles = ?, pruned = ?, stated_series = ?,"
    " stated_instances = ?, waiting_for = NULL WHERE id = ?"
)
_ARCHIVE_SELECT: Final = (
    "SELECT study_id, archive_id, read_owed, unverified, series_count, instance_count,"
    " fingerprints, absent_since, absences, patient_ids, patients FROM study_archive"
    " WHERE study_id IN (?)"
)
_ARCHIVE_UPSERT: Final = (
    "INSERT INTO study_archive (study_id, archive_id, read_owed, unverified, series_count,"
    " instance_count, fingerprints, absent_since, absences, patient_ids, patients)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    " ON CONFLICT (study_id, archive_id) DO UPDATE SET read_owed = excluded.read_owed,"
    " unverified = excluded.unverified, series_count = excluded.series_count,"
    " instance_count = excluded.instance_count, fingerprints = excluded.fingerprints,"
    " absent_since = excluded.absent_since, absences = excluded.absences,"
    " patient_ids = excluded.patient_ids, patients = excluded.patients"
)
