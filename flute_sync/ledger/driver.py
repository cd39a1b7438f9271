"""The driver's own cursor, for the statements that run with each delivery.

A statement costs SQLAlchemy thirty times what it costs SQLite; a delivery of 100 instances takes
eight of them. Statements are in SQLite's words: ``?`` is a value, ``IN (?)`` takes a list.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection

Row = tuple[Any, ...]

_LIST: Final = "IN (?)"
_LOCK: Final = "SELECT pg_advisory_xact_lock(1, hashtext(?))"


class Driver:
    """Runs plain statements within the transaction of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._is_sqlite = connection.dialect.name == "sqlite"
        self._cursor: Any = connection.connection.cursor()
        self.for_update = "" if self._is_sqlite else " FOR UPDATE"

    def rows(self, statement: str, *values: object) -> list[Row]:
        """Return what a query finds; a list is for an ``IN (?)``."""
        self._execute(statement, values)
        found: list[Row] = self._cursor.fetchall()
        return found

    def lock(self, names: Iterable[str]) -> None:
        """Let only this transaction do what others lock these names for.

        SQLite's writers are alone anyway.
        """
        if not self._is_sqlite:
            self.run(_LOCK, [(name,) for name in sorted(set(names))])

    def run(self, statement: str, rows: Sequence[Sequence[object]]) -> None:
        """Run one statement for many rows of values, or for none."""
        if rows:
            text = statement if self._is_sqlite else _translated(statement)
            self._cursor.executemany(text, rows)

    def changed(self, statement: str, *values: object) -> int:
        """Run one statement, and return how many rows it changed; a list is for an ``IN (?)``."""
        self._execute(statement, values)
        return int(self._cursor.rowcount)

    def _execute(self, statement: str, values: Sequence[object]) -> None:
        if self._is_sqlite:
            sizes = tuple(len(value) for value in values if isinstance(value, list))
            self._cursor.execute(_expanded(statement, sizes), _flat(values))
        else:
            self._cursor.execute(_translated(statement), values)

    def agree(self, on: int, *, alone: bool = False) -> None:
        """Wait until nobody works against this transaction, which lasts to its end.

        SQLite's writers are alone anyway.

        Parameters
        ----------
        on
            A number that stands for what is agreed.
        alone
            Whether nobody else may agree on it meanwhile.
        """
        if not self._is_sqlite:
            lock = "pg_advisory_xact_lock" + ("" if alone else "_shared")
            self._cursor.execute(f"SELECT {lock}(%s)", (on,))


def _flat(values: Iterable[object]) -> list[object]:
    flat: list[object] = []
    for value in values:
        if isinstance(value, list):
            flat += value
        else:
            flat.append(value)
    return flat


@lru_cache(maxsize=1024)
def _expanded(statement: str, sizes: tuple[int, ...]) -> str:
    head, *tails = statement.split(_LIST)
    lists = (f"IN ({', '.join('?' * size)})" for size in sizes)
    return head + "".join(marks + tail for marks, tail in zip(lists, tails, strict=True))


@lru_cache(maxsize=256)
def _translated(statement: str) -> str:
    return statement.replace(_LIST, "= ANY(%s)").replace("?", "%s")
