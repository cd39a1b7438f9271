"""What archives are believed to hold."""

from typing import Final

from sqlalchemy import Connection

from flute_sync.ledger.driver import Driver
from flute_sync.study import StudyInstanceUID

# The correlated subqueries keep both databases on the order of the UIDs' index. Where all that
# headers said was dropped, the archive's own count stands for the instances.
_ARCHIVE: Final = "SELECT id FROM archive WHERE name = ?"
_HELD: Final = (
    "SELECT study_instance_uid FROM study WHERE study_instance_uid > ? AND EXISTS ("
    "SELECT 1 FROM study_archive WHERE study_id = study.id AND archive_id = ? AND absences = 0"
    " AND (study.pruned AND study_archive.instance_count > 0 OR EXISTS ("
    "SELECT 1 FROM instance WHERE study_id = study.id AND (archives & ?) <> 0) OR EXISTS ("
    "SELECT 1 FROM stated_series AS said WHERE said.study_id = study.id"
    " AND said.archive_id = study_archive.archive_id)))"
    " ORDER BY study_instance_uid LIMIT ?"
)


def held(
    connection: Connection, archive: str, after: StudyInstanceUID | None, limit: int
) -> tuple[StudyInstanceUID, ...]:
    """Return studies that an archive is believed to hold, in ascending order of their UIDs."""
    driver = Driver(connection)
    return tuple(
        StudyInstanceUID(uid)
        for (archive_id,) in driver.rows(_ARCHIVE, archive)
        for (uid,) in driver.rows(_HELD, after or "", archive_id, 1 << (archive_id - 1), limit)
    )
