"""Under which pseudonyms a ledger's studies were written, and from which kind of sources.

What was written under one key, or with names, does not go with what is written under another: a
node that was run in one way does not start in another. The key is not kept, only what tells it.
"""

import json
from collections.abc import Mapping
from typing import Final

from sqlalchemy import Connection, delete, insert, select, update

from flute_sync.ledger.database import Database, one_at_a_time
from flute_sync.ledger.tables import regime, study
from flute_sync.ledger_errors import LedgerPseudonymsChanged

ANY: Final = "any"
"""Of a ledger that was filled before sources were told apart."""


class Regime:
    """The part of the ledger that knows it; of one process, for any thread.

    Every method raises what those of `Ledger` raise where the database does not do its part.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def bind(self, seal: Mapping[str, str], sources: str | None) -> str | None:
        """Say how this process replaces identifiers; needed before anything is written.

        Parameters
        ----------
        seal
            How identifiers and dates are replaced, by what may differ; empty: not at all.
        sources
            The kind of sources that the settings state; None: the first study decides.

        Returns
        -------
        The kind in force; None where nothing decided it yet.

        Raises
        ------
        LedgerPseudonymsChanged
            Studies are known that were taken in another way.
        """
        return self._database.transact(lambda c: _bind(c, seal, sources))

    def look(self, seal: Mapping[str, str], sources: str | None) -> str | None:
        """Return the kind that `bind` would, and raise what it would; nothing is changed."""
        with self._database.read() as connection:
            return _agreed(connection, seal, sources)[0]

    def decide(self, seal: Mapping[str, str], sources: str) -> str:
        """Let a study that is about to be written decide the kind of sources, where none is yet.

        Returns the kind in force; from now on it stays, as all else does.

        Raises
        ------
        LedgerPseudonymsChanged
            Another process bound the ledger in another way before there were studies.
        """
        return self._database.transact(lambda c: _decide(c, seal, sources))


def _bind(connection: Connection, seal: Mapping[str, str], sources: str | None) -> str | None:
    one_at_a_time(connection, regime)
    in_force, is_kept = _agreed(connection, seal, sources)
    if not is_kept:
        connection.execute(delete(regime))
        sealed = json.dumps(dict(seal), sort_keys=True)
        connection.execute(insert(regime).values(single=True, sources=in_force, seal=sealed))
    elif sources is not None:
        connection.execute(update(regime).values(sources=sources))
    return in_force


def _agreed(
    connection: Connection, seal: Mapping[str, str], sources: str | None
) -> tuple[str | None, bool]:
    """Return the kind in force, and whether the ledger keeps what it was bound to."""
    row = connection.execute(select(regime)).one_or_none()
    is_new = connection.execute(select(study.c.id).limit(1)).first() is None
    if row is None or is_new:
        if row is None and not is_new and seal:
            # It took studies before this was kept; who waits for a Patient may have made him.
            raise LedgerPseudonymsChanged("it took studies without pseudonyms")
        return sources, False
    _refuse(json.loads(row.seal), seal)
    if sources is None or sources == row.sources:
        return (None if row.sources is None else str(row.sources)), True
    if row.sources not in (None, ANY):
        raise LedgerPseudonymsChanged(f"its sources are {row.sources}, not {sources}")
    return sources, True


def _refuse(was: Mapping[str, str], seal: Mapping[str, str]) -> None:
    names = sorted(one for one in was.keys() | seal.keys() if was.get(one) != seal.get(one))
    if not names:
        return
    if not was or not seal:
        raise LedgerPseudonymsChanged(f"with{'out' if was else ''} pseudonyms now, unlike before")
    raise LedgerPseudonymsChanged(f"another {', '.join(names)}")


def _decide(connection: Connection, seal: Mapping[str, str], sources: str) -> str:
    one_at_a_time(connection, regime)
    connection.execute(update(regime).where(regime.c.sources.is_(None)).values(sources=sources))
    row = connection.execute(select(regime)).one()
    _refuse(json.loads(row.seal), seal)
    return str(row.sources)
