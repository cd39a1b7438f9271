"""What archives hold no more: how many studies at once, and whether they are known elsewhere."""

from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from flute_sync.archive_errors import ArchiveManyAbsent
from flute_sync.ledger.columns import maybe_from_stored, to_stored
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.values import Missing

# Whatever their last step met: an archive that was down meanwhile is not to be believed sooner.
# What is believed to be gone from an archive is not known of it any more.
_MISSING: Final = (
    "SELECT count(*), min(absent_since) FROM study_archive JOIN study ON study.id = study_id"
    " WHERE archive_id = ? AND absences > 0 AND absent_since > ? AND unsynced_since IS NOT NULL"
    " AND (EXISTS (SELECT 1 FROM instance WHERE study_id = study.id AND (archives & ?) <> 0)"
    " OR EXISTS (SELECT 1 FROM stated_series AS said WHERE said.study_id = study.id"
    " AND said.archive_id = study_archive.archive_id))"
)
_NOT_BELIEVED: Final = (
    "SELECT study.id FROM study_archive JOIN study ON study.id = study_id"
    " WHERE archive_id = ? AND absences > 0 AND state = 'failed' AND code IN (?)"
)
_DUE: Final = "UPDATE study SET next_attempt_at = ? WHERE id = ? AND state = 'failed'"
_HELD: Final = "SELECT count(*) FROM study_archive WHERE archive_id = ? AND absences = 0"
_LEFT_BEHIND: Final = (
    "SELECT count(*) FROM instance AS own WHERE own.study_id = ? AND NOT EXISTS ("
    "SELECT 1 FROM series AS here"
    " JOIN series AS there ON there.series_instance_uid = here.series_instance_uid"
    " AND there.study_id <> here.study_id"
    " JOIN instance AS moved ON moved.study_id = there.study_id AND moved.series = there.series"
    " AND moved.sop_instance_uid = own.sop_instance_uid"
    " WHERE here.study_id = own.study_id AND here.series = own.series"
    " AND NOT EXISTS (SELECT 1 FROM study_archive WHERE study_archive.study_id = there.study_id"
    " AND absences > 0))"
)
_ANY: Final = "SELECT 1 FROM instance WHERE study_id = ? LIMIT 1"


def missing(connection: Connection, archive_id: int, after: datetime) -> Missing:
    """Count the studies that an archive is missing and that are not believed to be gone yet.

    Parameters
    ----------
    after
        Only those that were missed later than this.
    """
    driver = Driver(connection)
    bit = 1 << (archive_id - 1)
    ((count, since),) = driver.rows(_MISSING, archive_id, to_stored(after), bit)
    ((held,),) = driver.rows(_HELD, archive_id)
    return Missing(held, count, maybe_from_stored(since))


def has_moved(connection: Connection, study_id: int) -> bool:
    """Tell whether every instance of a study is known under another study that is there.

    A series that is moved keeps its UID; an instance counts as moved with its series alone.
    """
    driver = Driver(connection)
    ((left_behind,),) = driver.rows(_LEFT_BEHIND, study_id)
    return not left_behind and bool(driver.rows(_ANY, study_id))


def look_now(connection: Connection, archive_id: int, now: datetime) -> int:
    """Let the studies be looked for at once about which an archive was not believed."""
    driver = Driver(connection)
    found = driver.rows(_NOT_BELIEVED, archive_id, [ArchiveManyAbsent.code])
    driver.run(_DUE, [(to_stored(now), study_id) for (study_id,) in found])
    return len(found)
