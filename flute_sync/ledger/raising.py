"""Looking again at studies because of what became known of another one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from flute_sync.completeness import StudySettings
from flute_sync.events import Event
from flute_sync.ledger import trail
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.rows import (
    chunks,
    lock_studies,
    study_archives,
    write_studies,
    write_study_archives,
)

_KNOWN: Final = "SELECT study_instance_uid FROM study WHERE study_instance_uid IN (?)"
_UIDS: Final = "SELECT study_instance_uid FROM study WHERE id IN (?)"


def uids_of(driver: Driver, ids: Sequence[int]) -> list[str]:
    """Return the Study Instance UIDs of studies."""
    return [uid for part in chunks(ids) for (uid,) in driver.rows(_UIDS, list(part))]


def look_again(
    driver: Driver,
    uids: Sequence[str],
    at: datetime,
    settings: StudySettings,
    sentence: str,
    events_kept: int,
) -> None:
    """Raise the studies that are known, and let all their archives be read again."""
    known = [uid for part in chunks(uids) for (uid,) in driver.rows(_KNOWN, list(part))]
    rows = list(lock_studies(driver, known, at).values()) if known else []
    for row in rows:
        row.news(at, settings)
        row.pruned = False
    generations = {row.id: row.generation for row in rows}
    archives = study_archives(driver, list(generations)).values()
    for archive in archives:
        archive.read_owed, archive.changed = generations[archive.study_id], True
    write_studies(driver, rows)
    write_study_archives(driver, archives)
    entries = [trail.Entry(row.id, at, Event.STUDY_REMARK, sentence) for row in rows]
    trail.append(driver, entries, kept=events_kept)
