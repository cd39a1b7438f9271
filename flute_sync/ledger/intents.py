"""Intents: what an upload is about to complete towards an archive, so that it is never forgotten.

An intent lives as long as its owner renews it. A closing delivery ends it: what the archive's
answer does not name as stored was not stored, so that the other studies of the intent need no
look; a source in doubt about one adds a notice for it. Otherwise the intent becomes notices.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, Select, bindparam, delete, insert, select, update

from flute_sync.intake import IntentId, Noticed
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.tables import archive, intent, intent_study
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.study import StudyInstanceUID

_STUDIES: Final = (
    "INSERT INTO intent_study (intent_id, study_instance_uid) VALUES (?, ?) ON CONFLICT DO NOTHING"
)
_INSERT: Final = insert(intent).returning(intent.c.id)
_EXTENSIBLE: Final = (
    update(intent)
    .where(intent.c.id == bindparam("of"), intent.c.owner == bindparam("by"))
    .values(owner=intent.c.owner)
)
_DELETE: Final = delete(intent).where(
    intent.c.id.in_(bindparam("ids", expanding=True)), intent.c.owner == bindparam("by")
)
_OPEN: Final = (
    select(intent.c.id, intent.c.source, archive.c.name, archive.c.id.label("archive_id"))
    .join(archive, archive.c.id == intent.c.archive_id)
    .with_for_update(of=intent, skip_locked=True)
)


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An intent that became notices."""

    id: IntentId
    source: str
    archive: str
    archive_id: int
    noticed: tuple[Noticed, ...]


def begin(
    connection: Connection,
    source: str,
    archive_id: int,
    owner: str,
    expires_at: datetime,
    studies: Iterable[StudyInstanceUID],
) -> IntentId:
    """Open an intent."""
    values = {
        "source": source,
        "archive_id": archive_id,
        "owner": owner,
        "expires_at": expires_at,
    }
    opened = IntentId(connection.execute(_INSERT, values).scalar_one())
    _add(connection, opened, studies)
    return opened


def extend(
    connection: Connection, opened: IntentId, owner: str, studies: Iterable[StudyInstanceUID]
) -> LedgerUnavailable | None:
    """Add studies to an open intent; return an error when it is open no more."""
    if not connection.execute(_EXTENSIBLE, {"of": opened, "by": owner}).rowcount:
        return LedgerUnavailable("the upload's intent has run out")
    _add(connection, opened, studies)
    return None


def _add(connection: Connection, opened: IntentId, studies: Iterable[StudyInstanceUID]) -> None:
    Driver(connection).run(_STUDIES, [(opened, uid) for uid in dict.fromkeys(studies)])


def close(connection: Connection, owner: str, closed: Collection[IntentId]) -> None:
    """End intents of this owner; one that has run out already became notices."""
    if closed:
        connection.execute(_DELETE, {"ids": list(closed), "by": owner})


def renew(
    connection: Connection, owner: str, held: Collection[IntentId], expires_at: datetime
) -> None:
    """Say that the uploads behind these intents still run."""
    if held:
        connection.execute(
            update(intent)
            .where(intent.c.owner == owner, intent.c.id.in_(held))
            .values(expires_at=expires_at)
        )


def take_abandoned(
    connection: Connection, owner: str, ids: Collection[IntentId]
) -> list[Abandoned]:
    """Remove intents of this owner and return what to look for."""
    return _take(connection, _OPEN.where(intent.c.owner == owner, intent.c.id.in_(ids)))


def take_expired(connection: Connection, now: datetime) -> list[Abandoned]:
    """Remove the intents whose owner is not heard of and return what to look for."""
    return _take(connection, _OPEN.where(intent.c.expires_at <= now))


def _take(connection: Connection, query: Select[tuple[int, str, str, int]]) -> list[Abandoned]:
    taken = []
    for row in connection.execute(query).all():
        studies = select(intent_study.c.study_instance_uid).where(
            intent_study.c.intent_id == row.id
        )
        noticed = tuple(Noticed(uid) for uid in connection.scalars(studies))
        taken.append(Abandoned(IntentId(row.id), row.source, row.name, row.archive_id, noticed))
    if taken:
        ids = [abandoned.id for abandoned in taken]
        connection.execute(delete(intent).where(intent.c.id.in_(ids)))
    return taken
