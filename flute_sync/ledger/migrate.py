"""The schema's revision: make it, check it, raise it."""

import logging
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from flute_sync.events import Event, fields
from flute_sync.ledger.columns import utc_now
from flute_sync.ledger.database import Database
from flute_sync.ledger.settings import LedgerSettings
from flute_sync.ledger.tables import event as event_table
from flute_sync.ledger_errors import LedgerAbsent, LedgerCorrupt, LedgerSchemaError

log = logging.getLogger(__name__)

_VERSIONS: Final = "alembic_version"
_ADVISORY_LOCK: Final = 0x464C555445  # any number that all our processes agree on


def scripts() -> Path:
    """Return the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(str(files("flute_sync")))
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


def prepare(database: Database, *, create: bool) -> None:
    """Check the revision; make the schema where there is none and ``create`` allows it.

    Raises
    ------
    LedgerAbsent, LedgerSchemaError, LedgerCorrupt
    """
    with database.read() as connection:
        found = _revision(connection)
    if found is None:
        if not create:
            raise LedgerAbsent("the database is empty")
        _raise_to_head(database)
        return
    head = _head()
    if found != head:
        raise LedgerSchemaError(f"it has {found}, this version needs {head}")


def upgrade(settings: LedgerSettings) -> str:
    """Raise an existing ledger to this version's schema and return the revision.

    Raises
    ------
    LedgerAbsent, LedgerCorrupt
    LedgerSchemaError
        When a newer version made it.
    """
    database = Database(settings, create=False)
    try:
        with database.read() as connection:
            found = _revision(connection)
        if found is None:
            raise LedgerAbsent("the database is empty")
        if found not in _revisions():
            raise LedgerSchemaError(f"{found} is from a newer flute-sync")
        _raise_to_head(database)
    finally:
        database.close()
    return _head()


def _raise_to_head(database: Database) -> None:
    """Upgrade in one transaction, which processes that start at once take in turn."""
    database.use_wal()
    with database.write() as connection:
        if not database.is_sqlite:
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_ADVISORY_LOCK})"))
        found = _revision(connection)
        if found == _head():
            return
        # Alembic is dear to load, and only few runs of few verbs need it.
        import_module("flute_sync.ledger.alembic_upgrade").run(connection, scripts())
        sentence = f"The ledger was raised to revision {_head()}."
        connection.execute(
            event_table.insert().values(
                at=utc_now(), event=Event.LEDGER_UPGRADED.value, sentence=sentence
            )
        )
    log.info(sentence, extra=fields(Event.LEDGER_UPGRADED, revision=_head()))


def _revision(connection: Connection) -> str | None:
    """Return the revision, or None of an empty database."""
    tables = set(inspect(connection).get_table_names())
    if not tables:
        return None
    if _VERSIONS not in tables:
        raise LedgerCorrupt("the database holds other tables")
    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found is None:
        raise LedgerCorrupt("the database has no schema revision")
    return str(found)


def _revisions() -> list[str]:
    """Return the revisions in their order; a file is named after the one it makes."""
    found = sorted(
        path.name.partition("_")[0] for path in (scripts() / "versions").glob("[0-9]*_*.py")
    )
    if not found:
        raise LedgerCorrupt(f"no migrations in {scripts()}")
    return found


def _head() -> str:
    return _revisions()[-1]
