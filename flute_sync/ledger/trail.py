"""The audit trail: events for people, bounded for each study."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Delete, bindparam, delete, insert, select

from flute_sync.events import Event
from flute_sync.ledger.tables import event


class Entry(NamedTuple):
    """One event; without a study where none is known."""

    study_id: int | None
    at: datetime
    event: Event
    sentence: str
    code: str | None = None


def append(connection: Connection, entries: Iterable[Entry], *, kept: int) -> None:
    """Append events; of a study that has more than ``kept``, the oldest are dropped."""
    rows = [
        {
            "study_id": entry.study_id,
            "at": entry.at,
            "event": entry.event.value,
            "sentence": entry.sentence,
            "code": entry.code,
        }
        for entry in entries
    ]
    if not rows:
        return
    connection.execute(_INSERT, rows)
    studies = {row["study_id"] for row in rows}
    if None in studies:
        connection.execute(_TRIM_OTHERS, {"kept": kept})
    of_studies = [{"of": study, "kept": kept} for study in studies if study is not None]
    if of_studies:
        connection.execute(_TRIM, of_studies)


def _trim(whose: ColumnElement[bool]) -> Delete:
    newest_dropped = (
        select(event.c.id)
        .where(whose)
        .order_by(event.c.id.desc())
        .limit(1)
        .offset(bindparam("kept"))
        .scalar_subquery()
    )
    return delete(event).where(whose, event.c.id <= newest_dropped)


_INSERT: Final = insert(event)
_TRIM: Final = _trim(event.c.study_id == bindparam("of"))
_TRIM_OTHERS: Final = _trim(event.c.study_id.is_(None))
