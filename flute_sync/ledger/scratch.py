"""A place to sort more than memory holds: it is on disk, and gone when it is closed."""

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import groupby
from types import TracebackType
from typing import Any, Final, Self

import orjson

from flute_sync.ledger.failures import translated

_TABLE: Final = "CREATE TABLE fact (key TEXT NOT NULL, kind TEXT NOT NULL, value BLOB NOT NULL)"
_PUT: Final = "INSERT INTO fact VALUES (?, ?, ?)"
_SORTED: Final = "SELECT key, kind, value FROM fact ORDER BY key, kind, rowid"

Fact = tuple[str, Any]
"""What kind of fact it is, and its value."""


class Scratch:
    """Facts by key; for one thread.

    SQLite keeps what does not fit into its cache in a file without a name, which nobody else can
    open.
    """

    def __enter__(self) -> Self:
        with translated(sqlite3.Error):
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            self._database.execute(_TABLE)
            self._database.execute("BEGIN")
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._database.close()

    def put(self, kind: str, facts: Iterable[tuple[str, Any]]) -> None:
        """Keep facts of one kind: of each its key and a value that JSON can say."""
        with translated(sqlite3.Error):
            self._database.executemany(
                _PUT, ((key, kind, orjson.dumps(value)) for key, value in facts)
            )

    def keys(self) -> int:
        """Return how many keys there are."""
        with translated(sqlite3.Error):
            ((count,),) = self._database.execute("SELECT count(DISTINCT key) FROM fact")
            return int(count)

    def by_key(self) -> Iterator[tuple[str, list[Fact]]]:
        """Yield each key, in ascending order, with all that was put under it."""
        with translated(sqlite3.Error):
            rows = self._database.execute(_SORTED)
            for key, found in groupby(rows, key=lambda row: row[0]):
                yield key, [(kind, orjson.loads(value)) for _, kind, value in found]
