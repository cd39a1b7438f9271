"""The ledger as `flute_sync.intake.Intake`: what sources deliver, committed in groups."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, select

from flute_sync.completeness import StudySettings
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.intake import Cursor, Delivery, IntentId
from flute_sync.ledger import intents
from flute_sync.ledger.archives import Archives
from flute_sync.ledger.columns import HeaderStore
from flute_sync.ledger.commit import GroupCommit
from flute_sync.ledger.database import Database
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.marks import AGREEMENT, Marks
from flute_sync.ledger.record import Recorder, Told
from flute_sync.ledger.sieve import News, studies_of
from flute_sync.ledger.tables import archive, source_cursor
from flute_sync.ledger.work import judge_again
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.study import StudyInstanceUID

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Intend:
    source: str
    archive_id: int
    studies: tuple[StudyInstanceUID, ...]


@dataclass(frozen=True, slots=True)
class _Extend:
    intent: IntentId
    studies: tuple[StudyInstanceUID, ...]


@dataclass(frozen=True, slots=True)
class _Abandon:
    intent: IntentId


_Job = News | _Intend | _Extend | _Abandon
_Done = IntentId | frozenset[StudyInstanceUID] | None


@dataclass(slots=True)
class IntakeWriter:
    """Takes deliveries and intents of this process.

    Parameters
    ----------
    owner
        What no other process, before or after, has: its intents are recovered by it.
    """

    database: Database
    archives: Archives
    headers: HeaderStore
    settings: StudySettings
    events_kept: int
    owner: str
    lease: timedelta
    clock: Callable[[], datetime]
    marks: Marks
    _open: set[IntentId] = field(default_factory=set)
    _group: GroupCommit[_Job, _Done] = field(init=False)

    def __post_init__(self) -> None:
        self._group = GroupCommit(self._commit, self.clock)

    def deliver(self, delivery: Delivery) -> frozenset[StudyInstanceUID]:
        """Commit a delivery. An intent that it closes is given up even when this fails.

        Returns the studies of which nothing was taken, since they were erased.
        """
        if delivery.closes is not None:
            self._open.discard(delivery.closes)
        news = News(delivery, self.archives.id_of(delivery.archive))
        facts = len(delivery.received) + len(delivery.noticed) + len(delivery.performed)
        done = self._group.submit(news, 1 + facts)
        return done if isinstance(done, frozenset) else frozenset()

    def intend(self, source: str, archive: str, studies: Iterable[StudyInstanceUID]) -> IntentId:
        """Commit an intent; it lives until it is closed, abandoned, or this process dies."""
        job = _Intend(source, self.archives.id_of(archive), tuple(studies))
        opened = self._group.submit(job, 1 + len(job.studies))
        if not isinstance(opened, int):
            raise LedgerUnavailable("the intent was not opened")
        self._open.add(opened)
        return opened

    def extend(self, intent: IntentId, studies: Iterable[StudyInstanceUID]) -> None:
        """Commit more studies of an open intent."""
        job = _Extend(intent, tuple(studies))
        self._group.submit(job, 1 + len(job.studies))

    def abandon(self, intent: IntentId) -> None:
        """Turn an intent into notices, now or, when that fails, as soon as its lease ends."""
        self._open.discard(intent)
        self._group.submit(_Abandon(intent), 1)

    def recover(self) -> int:
        """Renew the intents of this process; turn those nobody renews into notices."""
        now = self.clock()
        held = list(self._open)

        def work(connection: Connection) -> int:
            intents.renew(connection, self.owner, held, now + self.lease)
            expired = intents.take_expired(connection, now)
            self._recorder(connection).record([_as_news(intent, now) for intent in expired])
            return len(expired)

        return self.database.transact(work)

    def close(self) -> None:
        """Finish what was begun and take no more."""
        self._group.close()

    @property
    def committing_for(self) -> timedelta:
        """How long the commit in hand has taken."""
        return self._group.led_for()

    def _recorder(self, connection: Connection) -> Recorder:
        return Recorder(
            Driver(connection),
            self.headers,
            self.settings,
            self.events_kept,
            self.marks,
            self.archives.order,
        )

    def _commit(self, jobs: Sequence[_Job]) -> Sequence[_Done | FluteSyncError]:
        done, told = self.database.transact(lambda connection: self._write(connection, jobs))
        for uid, entry in told:
            about = fields(entry.event, study_instance_uid=uid, code=entry.code)
            log.info(entry.sentence, extra=about)
        refused = {uid for job in done if isinstance(job, frozenset) for uid in job}
        if refused:
            about = fields(Event.STUDY_ERASED, studies=len(refused))
            log.info("News of erased studies was not taken.", extra=about)
        return done

    def _write(
        self, connection: Connection, jobs: Sequence[_Job]
    ) -> tuple[Sequence[_Done | FluteSyncError], list[Told]]:
        done: list[_Done | FluteSyncError] = [self._write_intent(connection, job) for job in jobs]
        news = [job for job in jobs if isinstance(job, News)]
        abandoned = [job.intent for job in jobs if isinstance(job, _Abandon)]
        if abandoned:
            taken = intents.take_abandoned(connection, self.owner, abandoned)
            news += [_as_news(intent, self.clock()) for intent in taken]
        recorder = self._recorder(connection)
        told = recorder.record(news) if news else []
        if erased := recorder.sifted.erased:
            done = [_refused(job, one, erased) for job, one in zip(jobs, done, strict=True)]
            # One that was written for somebody else is his now: that is for a person to see.
            judge_again(connection, recorder.sifted.newly, self.clock())
        closed = [item.delivery.closes for item in news if item.delivery.closes is not None]
        intents.close(connection, self.owner, closed)
        for item in news:
            if item.delivery.cursor is not None:
                write_cursor(connection, item.delivery.cursor, item.archive_id)
        return done, told

    def _write_intent(self, connection: Connection, job: _Job) -> _Done | FluteSyncError:
        if isinstance(job, _Intend):
            expires_at = self.clock() + self.lease
            studies = self._not_erased(connection, job.studies)
            return intents.begin(
                connection, job.source, job.archive_id, self.owner, expires_at, studies
            )
        if isinstance(job, _Extend):
            studies = self._not_erased(connection, job.studies)
            return intents.extend(connection, job.intent, self.owner, studies)
        return None

    def _not_erased(
        self, connection: Connection, studies: Sequence[StudyInstanceUID]
    ) -> list[StudyInstanceUID]:
        driver = Driver(connection)
        driver.agree(AGREEMENT)
        erased = self.marks.erased(driver, studies)
        return [uid for uid in studies if uid not in erased]


def _refused(
    job: _Job, done: _Done | FluteSyncError, erased: frozenset[StudyInstanceUID]
) -> _Done | FluteSyncError:
    return erased & studies_of(job.delivery) if isinstance(job, News) else done


def _as_news(intent: intents.Abandoned, at: datetime) -> News:
    delivery = Delivery(intent.source, intent.archive, at, noticed=intent.noticed)
    return News(delivery, intent.archive_id, Event.INTENT_RECOVERED)


def write_cursor(connection: Connection, cursor: Cursor, archive_id: int) -> None:
    """Write where a source stands."""
    Driver(connection).run(_CURSOR, [(cursor.source, archive_id, cursor.value)])


_CURSOR: Final = (
    "INSERT INTO source_cursor (source, archive_id, value) VALUES (?, ?, ?)"
    " ON CONFLICT (source, archive_id) DO UPDATE SET value = excluded.value"
)


def read_cursor(connection: Connection, source: str, archive_name: str) -> str | None:
    """Return where a source stands."""
    value: str | None = connection.scalar(
        select(source_cursor.c.value)
        .join(archive, archive.c.id == source_cursor.c.archive_id)
        .where(source_cursor.c.source == source, archive.c.name == archive_name)
    )
    return value
