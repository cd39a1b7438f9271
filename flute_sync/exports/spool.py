"""Pieces of many patients, put in order on disk: memory stays flat, however many there are.

The file holds patient data. It has no name once it is open, so that nobody else can read it and
nothing of it is left, however the process ends.
"""

import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator
from decimal import Decimal
from itertools import groupby
from types import TracebackType
from typing import Final

import orjson

from flute_sync.command_errors import InputMalformed, SpoolFailed
from flute_sync.criteria_evidence import History, Piece, history

Row = tuple[str, str, bytes]
"""Patient, name, and the resource as JSON."""
_LONGEST_CHAIN: Final = 16
_FETCH: Final = 2000


def row(piece: Piece) -> Row:
    """Return a piece as it is spooled.

    Raises
    ------
    InputMalformed
        It holds text that is no Unicode.
    """
    try:
        (piece.patient + piece.name).encode()
        numbers = _number if piece.whole else _digits
        return piece.patient, piece.name, orjson.dumps(piece.resource, default=numbers)
    except (UnicodeEncodeError, TypeError):
        raise InputMalformed("text in it is no Unicode") from None


def _digits(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


def _number(value: object) -> orjson.Fragment:
    return orjson.Fragment(_digits(value))


class Spool:
    """A file in the folder for temporary files, open while the ``with`` block lasts.

    Every method raises `SpoolFailed` where the disk does not serve.
    """

    def __enter__(self) -> "Spool":
        try:
            with tempfile.TemporaryDirectory(prefix="flute-sync-") as folder:
                self._db = sqlite3.connect(f"{folder}/spool.db", isolation_level=None)
                # Without a journal SQLite opens no further file by the name that is gone soon.
                self._db.execute("PRAGMA journal_mode = OFF")
                self._db.execute("PRAGMA synchronous = OFF")
                self._db.execute("CREATE TABLE piece (patient TEXT, name TEXT, resource BLOB)")
            self._db.execute("BEGIN")
        except (OSError, sqlite3.Error) as error:
            raise SpoolFailed(type(error).__name__) from error
        self._aliases: dict[str, str] = {}
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def add(self, rows: Iterable[Row], aliases: Iterable[tuple[str, str]] = ()) -> None:
        """Add pieces, and other names of patients and resources."""
        self._aliases.update(aliases)
        try:
            self._db.executemany("INSERT INTO piece VALUES (?, ?, ?)", rows)
        except sqlite3.Error as error:
            raise SpoolFailed(type(error).__name__) from error

    def name(self, other: str) -> str:
        """Return the last of the names that follow each other from this one."""
        for _ in range(_LONGEST_CHAIN):
            found = self._aliases.get(other)
            if found is None or found == other:
                break
            other = found
        return other

    def histories(self, chosen: Collection[str] | None = None) -> Iterator[History]:
        """Yield all patients, or those chosen, in the order of their names, each once."""
        try:
            yield from self._histories({self.name(one) for one in chosen} if chosen else chosen)
        except sqlite3.Error as error:
            raise SpoolFailed(type(error).__name__) from error

    def _histories(self, chosen: Collection[str] | None) -> Iterator[History]:
        self._db.execute("CREATE INDEX IF NOT EXISTS by_patient ON piece (patient)")
        renamed = [(self.name(one), one) for one in self._aliases]
        self._db.executemany("UPDATE piece SET patient = ? WHERE patient = ?", renamed)
        found = self._db.execute("SELECT * FROM piece ORDER BY patient, name, rowid")
        found.arraysize = _FETCH
        for patient, rows in groupby(found, key=lambda one: one[0]):
            if chosen is None or patient in chosen:
                pieces = (Piece(patient, name, orjson.loads(body)) for _, name, body in rows)
                yield history(patient, pieces, self._aliases)
