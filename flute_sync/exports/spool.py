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
from typing import Final, NamedTuple

import orjson

from flute_sync.command_errors import InputMalformed, SpoolFailed
from flute_sync.criteria_evidence import LOGICAL, History, Piece, history, is_judged
from flute_sync.fhir_elements import Resource
from flute_sync.link_case import moment, newest

Row = tuple[str, str, str | None, bytes]
"""Patient, name, another name that its Bundle gives it, and the resource as JSON."""
_LONGEST_CHAIN: Final = 16
_FETCH: Final = 2000
_CACHE_BYTES: Final = 32 * 1024 * 1024


class Person(NamedTuple):
    """A patient, and what was spooled of him."""

    patient: str
    rows: list[Row]


def row(piece: Piece, alias: str | None = None) -> Row:
    """Return a piece as it is spooled.

    Raises
    ------
    InputMalformed
        It holds text that is no Unicode.
    """
    try:
        (piece.patient + piece.name).encode()
        numbers = _number if piece.whole else _digits
        return piece.patient, piece.name, alias, orjson.dumps(piece.resource, default=numbers)
    except (UnicodeEncodeError, TypeError):
        raise InputMalformed("text in it is no Unicode") from None


def _digits(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


def _number(value: object) -> orjson.Fragment:
    return orjson.Fragment(_digits(value))


def history_of(person: Person) -> History:
    """Return what a person's rows say."""
    patient, rows = person
    pieces = [Piece(patient, name, orjson.loads(body)) for _, name, _, body in rows]
    return history(patient, pieces, {alias: name for _, name, alias, _ in rows if alias})


class Spool:
    """A file in the folder for temporary files, open while the ``with`` block lasts.

    ``pieces`` is how many there are; ``nameless`` how many studies and biopsies named their
    patient by an identifier that is of no Patient, or of several: known once all were yielded.
    Every method raises `SpoolFailed` where the disk does not serve.
    """

    def __enter__(self) -> "Spool":
        self.pieces = self.nameless = 0
        self._is_settled = False
        try:
            with tempfile.TemporaryDirectory(prefix="flute-sync-") as folder:
                self._db = sqlite3.connect(f"{folder}/spool.db", isolation_level=None)
                # Without a journal SQLite opens no further file by the name that is gone soon.
                self._db.execute("PRAGMA journal_mode = OFF")
                self._db.execute("PRAGMA synchronous = OFF")
                self._db.execute(f"PRAGMA cache_size = -{_CACHE_BYTES // 1024}")
                self._db.execute(
                    "CREATE TABLE piece (patient TEXT, name TEXT, alias TEXT, resource BLOB)"
                )
                self._db.execute(
                    "CREATE TABLE alias (other TEXT, name TEXT, PRIMARY KEY (other, name))"
                    " WITHOUT ROWID"
                )
                self._db.execute("CREATE TABLE deleted (name TEXT, at TEXT)")
            self._db.execute("BEGIN")
        except (OSError, sqlite3.Error) as error:
            raise SpoolFailed(type(error).__name__) from error
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def add(
        self,
        rows: Collection[Row],
        aliases: Iterable[tuple[str, str]] = (),
        deleted: Iterable[tuple[str, str]] = (),
    ) -> None:
        """Add pieces, other names of patients, and what was deleted with when."""
        self.pieces += len(rows)
        try:
            self._db.executemany("INSERT INTO piece VALUES (?, ?, ?, ?)", rows)
            self._db.executemany("INSERT OR IGNORE INTO alias VALUES (?, ?)", aliases)
            self._db.executemany("INSERT INTO deleted VALUES (?, ?)", deleted)
        except sqlite3.Error as error:
            raise SpoolFailed(type(error).__name__) from error

    def name(self, other: str) -> str:
        """Return the last of the names that follow each other from this one; of a circle, it."""
        last = other
        for _ in range(_LONGEST_CHAIN):
            found = self._db.execute(
                "SELECT MAX(name), COUNT(*) FROM alias WHERE other = ?", [last]
            )
            name, count = found.fetchone()
            if name is None or name == last or (count > 1 and last.startswith(LOGICAL)):
                return last
            last = name
        return other

    def settle(self) -> None:
        """Find out who is whom, and which copies count, once all was added.

        Raises
        ------
        InputMalformed
            Two copies of a resource differ, and nothing says which is the newer.
        """
        if self._is_settled:
            return
        self._is_settled = True
        try:
            self._db.execute("CREATE INDEX by_patient ON piece (patient)")
            self._rename()
            self._drop_deleted()
            self._keep_newest()
        except sqlite3.Error as error:
            raise SpoolFailed(type(error).__name__) from error

    def people(self, chosen: Collection[str] | None = None) -> Iterator[Person]:
        """Yield all patients, or those chosen, in the order of their names, each once.

        Raises
        ------
        InputMalformed
            As `settle`, unless that was done.
        """
        self.settle()
        try:
            wanted = None if chosen is None else {self.name(one) for one in chosen}
            for person in self._in_order():
                if person.patient.startswith(LOGICAL):
                    self.nameless += sum(is_judged(orjson.loads(one[-1])) for one in person.rows)
                elif wanted is None or person.patient in wanted:
                    yield person
        except sqlite3.Error as error:
            raise SpoolFailed(type(error).__name__) from error

    def _in_order(self) -> Iterator[Person]:
        found = self._db.execute("SELECT * FROM piece ORDER BY patient, name, rowid")
        found.arraysize = _FETCH
        for patient, rows in groupby(found, key=lambda one: one[0]):
            yield Person(patient, list(rows))

    def _rename(self) -> None:
        """Give each piece the last name of its patient; of an identifier, if it is of one alone."""
        chained = "SELECT other, name FROM alias WHERE name IN (SELECT other FROM alias)"
        found = [
            (other, name, None if self.name(other) == other else self.name(name))
            for other, name in self._db.execute(chained).fetchall()
        ]
        self._db.executemany(
            "DELETE FROM alias WHERE other = ? AND name = ?", [one[:2] for one in found]
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO alias VALUES (?, ?)",
            [(other, last) for other, _, last in found if last is not None],
        )
        self._db.execute(
            "UPDATE piece SET patient = found.name FROM"
            " (SELECT other, MAX(name) AS name FROM alias GROUP BY other"
            "  HAVING COUNT(*) = 1 OR SUBSTR(other, 1, ?) <> ?) AS found"
            " WHERE piece.patient = found.other",
            [len(LOGICAL), LOGICAL],
        )

    def _drop_deleted(self) -> None:
        """Drop what was deleted, unless it was written again later."""
        deleted = self._db.execute("SELECT name, MAX(at) FROM deleted GROUP BY name").fetchall()
        for name, at in deleted:
            when = moment(at)
            copies = [(newest(one)[1], row) for _, one, row in self._copies(name)]
            self._drop([row for updated, row in copies if not (when and updated > when)])

    def _keep_newest(self) -> None:
        """Keep the newest copy of each resource, also if an older one is of another patient."""
        self._db.execute(
            "CREATE TABLE twice AS SELECT name FROM piece GROUP BY name HAVING COUNT(*) > 1"
        )
        for (name,) in self._db.execute("SELECT name FROM twice"):
            copies = self._copies(name)
            last = max(newest(one) for _, one, _ in copies)
            self._drop([row for _, one, row in copies if newest(one) < last])
            known: dict[str, Resource] = {}
            for patient, one, _ in copies:
                if newest(one) == last and known.setdefault(patient, one) != one:
                    raise InputMalformed(
                        f"two copies of one {one['resourceType']} differ, and neither "
                        "meta.versionId nor meta.lastUpdated says which is the newer"
                    )

    def _copies(self, name: str) -> list[tuple[str, Resource, int]]:
        """Return patient, resource and row of each copy."""
        self._db.execute("CREATE INDEX IF NOT EXISTS by_name ON piece (name)")
        query = "SELECT patient, resource, rowid FROM piece WHERE name = ?"
        found = self._db.execute(query, [name])
        return [(patient, orjson.loads(body), row) for patient, body, row in found]

    def _drop(self, rows: Iterable[int]) -> None:
        self._db.executemany("DELETE FROM piece WHERE rowid = ?", [[row] for row in rows])
