"""The indexes of which the databases have words of their own.

Only what compares the tables with a database needs them: SQLAlchemy loads each database's dialect
to understand them, of which a site needs one.
"""

from sqlalchemy import Column, Index, text

from flute_sync.ledger.schema import metadata as metadata
from flute_sync.ledger.tables import WAITS_FOR_PATIENT, study, study_archive


def _partial(name: str, column: Column[object], where: str) -> None:
    """Index the rows of which something is true."""
    Index(name, column, sqlite_where=text(where), postgresql_where=text(where))


_partial("ix_study_due", study.c.next_attempt_at, "next_attempt_at IS NOT NULL")
_partial("ix_study_waiting_for", study.c.waiting_for, "waiting_for IS NOT NULL")
_partial("ix_study_identity", study.c.identity, "identity IS NOT NULL")
_partial("ix_study_patient", study.c.patient_reference, "patient_reference IS NOT NULL")
_partial(
    "ix_study_unsynced",
    study.c.unsynced_since,
    f"unsynced_since IS NOT NULL AND NOT ({WAITS_FOR_PATIENT})",
)
_partial("ix_study_archive_absent", study_archive.c.archive_id, "absences > 0")
