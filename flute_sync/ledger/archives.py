"""Archives by name. Their ids never change, so that a process may remember them."""

from dataclasses import dataclass, field

from sqlalchemy import Connection, func, insert, select

from flute_sync.ledger.database import Database, one_at_a_time
from flute_sync.ledger.tables import LARGEST_ARCHIVE_ID, archive
from flute_sync.settings_errors import ConfigurationError


@dataclass(slots=True)
class Archives:
    """The ids of archives, and which of them is believed first where several hold an instance."""

    database: Database
    order: tuple[str, ...] = ()
    _ids: dict[str, int] = field(default_factory=dict)

    def id_of(self, name: str) -> int:
        """Return an archive's id, made durable when it is new.

        Raises
        ------
        ConfigurationError
            When the ledger knows as many archives as it can.
        """
        known = self._ids.get(name)
        if known is None:
            known = self.database.transact(lambda connection: _find_or_add(connection, name))
            self._ids[name] = known
        return known


def _find_or_add(connection: Connection, name: str) -> int:
    one_at_a_time(connection, archive)
    query = select(archive.c.id).where(archive.c.name == name)
    found = connection.scalar(query)
    if found is not None:
        return int(found)
    newest = connection.execute(select(func.coalesce(func.max(archive.c.id), 0))).scalar_one()
    if newest >= LARGEST_ARCHIVE_ID:
        raise ConfigurationError(f"a ledger knows at most {LARGEST_ARCHIVE_ID} archives")
    connection.execute(insert(archive).values(id=newest + 1, name=name))
    return int(newest) + 1
