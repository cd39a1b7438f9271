"""The FHIR server a ledger was written for: there is one, and it is never guessed."""

from sqlalchemy import Connection, delete, insert, select, update

from flute_sync.ledger.database import one_at_a_time
from flute_sync.ledger.tables import fhir_study, fhir_target
from flute_sync.ledger_errors import LedgerTargetChanged


def bind(connection: Connection, base_url: str) -> int:
    """Return the id of this target; it may replace another that nothing was written to.

    Raises
    ------
    LedgerTargetChanged
        When resources on another server are known.
    """
    base_url = base_url.rstrip("/")
    one_at_a_time(connection, fhir_target)
    row = connection.execute(select(fhir_target)).one_or_none()
    if row is not None and row.base_url == base_url:
        return int(row.id)
    if row is not None:
        if connection.execute(select(fhir_study.c.study_id).limit(1)).first() is not None:
            raise LedgerTargetChanged(f"{row.base_url}, not {base_url}")
        connection.execute(delete(fhir_target))
    bound = insert(fhir_target).values(base_url=base_url, single=True).returning(fhir_target.c.id)
    return int(connection.execute(bound).scalar_one())


def touch(connection: Connection) -> None:
    """Write and take it back, to know whether anything can be written.

    SQLite writes no page to which the same is written at once.
    """
    base_url = connection.execute(select(fhir_target.c.base_url)).scalar_one_or_none()
    for written in ("", base_url) if base_url is not None else ():
        connection.execute(update(fhir_target).values(base_url=written))
