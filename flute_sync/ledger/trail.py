"""The audit trail: events for people, bounded for each study."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final, NamedTuple

from flute_sync.events import Event
from flute_sync.ledger.columns import to_stored
from flute_sync.ledger.driver import Driver


class Entry(NamedTuple):
    """One event; without a study where none is known."""

    study_id: int | None
    at: datetime
    event: Event
    sentence: str
    code: str | None = None


def append(driver: Driver, entries: Iterable[Entry], *, kept: int) -> None:
    """Append events; of a study that has more than ``kept``, the oldest are dropped."""
    rows = [
        (entry.study_id, to_stored(entry.at), entry.event.value, entry.sentence, entry.code)
        for entry in entries
    ]
    driver.run(_INSERT, rows)
    studies = {study for study, *_ in rows}
    driver.run(_TRIM, [(study, study, kept) for study in studies if study is not None])
    if None in studies:
        driver.run(_TRIM_OTHERS, [(kept,)])


_INSERT: Final = "INSERT INTO event (study_id, at, event, sentence, code) VALUES (?, ?, ?, ?, ?)"
_TRIM: Final = (
    "DELETE FROM event WHERE study_id = ? AND id <="
    " (SELECT id FROM event WHERE study_id = ? ORDER BY id DESC LIMIT 1 OFFSET ?)"
)
_TRIM_OTHERS: Final = (
    "DELETE FROM event WHERE study_id IS NULL AND id <="
    " (SELECT id FROM event WHERE study_id IS NULL ORDER BY id DESC LIMIT 1 OFFSET ?)"
)
