"""Rows that are locked, changed in memory and written back by one statement for all of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Row, Select, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from flute_sync.completeness import StudySettings, due_at
from flute_sync.ledger import tables
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

    def news(self, at: datetime, settings: StudySettings) -> None:
        """Take notice of a new fact; several in one commit raise the generation once."""
        if self.is_new and not self.has_news:
            self.received_at = self.news_since = self.unsynced_since = at
        self.generation = self.next_generation
        self.has_news = True
        self.received_at = max(self.received_at, at)
        self.news_since = min(self.news_since or at, at)
        self.unsynced_since = min(self.unsynced_since or at, at)
        self.state = after(self.state, TaskEvent.NEWS)
        if self.state is not State.IN_PROGRESS:
            self.next_attempt_at = due_at(self.news_since, self.received_at, settings)


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
    changed: bool = False


_STUDY: Final[Select[Any]] = (
    select(
        tables.study.c.id,
        tables.study.c.study_instance_uid,
        tables.study.c.state,
        tables.study.c.generation,
        tables.study.c.received_at,
        tables.study.c.news_since,
        tables.study.c.unsynced_since,
        tables.study.c.next_attempt_at,
        tables.study.c.series_count,
        tables.study.c.instance_count,
        tables.study.c.last_series,
        tables.study.c.last_header,
        tables.study.c.calling_ae_titles,
        tables.study.c.pruned,
    )
    .where(tables.study.c.study_instance_uid.in_(bindparam("uids", expanding=True)))
    .order_by(tables.study.c.id)
    .with_for_update()
)
_STUDY_INSERT: Final = {
    "sqlite": sqlite.insert(tables.study).on_conflict_do_nothing(),
    "postgresql": postgresql.insert(tables.study).on_conflict_do_nothing(),
}
_STUDY_UPDATE: Final = (
    update(tables.study)
    .where(tables.study.c.id == bindparam("of"))
    .values(
        {
            name: bindparam(name)
            for name in (
                "state",
                "generation",
                "received_at",
                "news_since",
                "unsynced_since",
                "next_attempt_at",
                "series_count",
                "instance_count",
                "last_series",
                "last_header",
                "calling_ae_titles",
                "pruned",
            )
        }
        | {"waiting_for": None}
    )
)


def lock_studies(
    connection: Connection, uids: Iterable[StudyInstanceUID], at: datetime
) -> dict[StudyInstanceUID, StudyRow]:
    """Lock the rows of studies, in one order for everybody; make those that are not there.

    A row that is made has generation 0: nothing is known of it yet.
    """
    wanted = sorted(set(uids))
    found = _select_studies(connection, wanted)
    absent = [uid for uid in wanted if uid not in found]
    if absent:
        connection.execute(
            _STUDY_INSERT[connection.dialect.name],
            [_blank(uid, at) for uid in absent],
        )
        made = _select_studies(connection, absent)
        for row in made.values():
            row.is_new = row.generation == 0
        found |= made
    return found


def _select_studies(
    connection: Connection, uids: Sequence[StudyInstanceUID]
) -> dict[StudyInstanceUID, StudyRow]:
    return {
        row.study_instance_uid: _as_study_row(row)
        for part in chunks(uids)
        for row in connection.execute(_STUDY, {"uids": part})
    }


def _as_study_row(row: Row[Any]) -> StudyRow:
    values: dict[str, Any] = {**row._mapping, "state": State(row.state)}
    return StudyRow(**values)


def _blank(uid: StudyInstanceUID, at: datetime) -> dict[str, object]:
    return {
        "study_instance_uid": uid,
        "state": State.RECEIVED.value,
        "generation": 0,
        "received_at": at,
        "news_since": at,
        "unsynced_since": at,
        "next_attempt_at": at,
        "attempts": 0,
        "series_count": 0,
        "instance_count": 0,
        "last_series": 0,
        "last_header": 0,
        "calling_ae_titles": [],
        "pruned": False,
    }


def write_studies(connection: Connection, rows: Iterable[StudyRow]) -> None:
    """Write back the rows that have news."""
    changed = [
        {
            "of": row.id,
            "state": row.state.value,
            "generation": row.generation,
            "received_at": row.received_at,
            "news_since": row.news_since,
            "unsynced_since": row.unsynced_since,
            "next_attempt_at": row.next_attempt_at,
            "series_count": row.series_count,
            "instance_count": row.instance_count,
            "last_series": row.last_series,
            "last_header": row.last_header,
            "calling_ae_titles": row.calling_ae_titles,
            "pruned": row.pruned,
        }
        for row in rows
        if row.has_news
    ]
    if changed:
        connection.execute(_STUDY_UPDATE, changed)


_ARCHIVES: Final = select(tables.study_archive).where(
    tables.study_archive.c.study_id.in_(bindparam("studies", expanding=True))
)


def study_archives(
    connection: Connection, studies: Sequence[int]
) -> dict[tuple[int, int], ArchiveRow]:
    """Return how archives stand to studies, by (study id, archive id)."""
    return {
        (row.study_id, row.archive_id): ArchiveRow(*row)
        for part in chunks(studies)
        for row in connection.execute(_ARCHIVES, {"studies": part})
    }


def write_study_archives(connection: Connection, rows: Iterable[ArchiveRow]) -> None:
    """Write the rows that changed, whether they were there or not."""
    changed = [
        {name: getattr(row, name) for name in _ARCHIVE_COLUMNS} for row in rows if row.changed
    ]
    if changed:
        connection.execute(_ARCHIVE_UPSERT[connection.dialect.name], changed)


_ARCHIVE_COLUMNS: Final = tuple(tables.study_archive.c.keys())
_ARCHIVE_KEY: Final = ("study_id", "archive_id")
_sqlite_upsert = sqlite.insert(tables.study_archive)
_postgresql_upsert = postgresql.insert(tables.study_archive)
_ARCHIVE_UPSERT: Final = {
    "sqlite": _sqlite_upsert.on_conflict_do_update(
        index_elements=_ARCHIVE_KEY,
        set_={n: _sqlite_upsert.excluded[n] for n in _ARCHIVE_COLUMNS if n not in _ARCHIVE_KEY},
    ),
    "postgresql": _postgresql_upsert.on_conflict_do_update(
        index_elements=_ARCHIVE_KEY,
        set_={n: _postgresql_upsert.excluded[n] for n in _ARCHIVE_COLUMNS if n not in _ARCHIVE_KEY},
    ),
}
