"""Resources with all their versions in SQLite, and the index of values they are found by."""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from flute_sync.sandbox.fhir_server.installed import check_parameter, installed
from flute_sync.sandbox.fhir_server.outcome import FhirError
from flute_sync.sandbox.fhir_server.parameters import (
    PARAMETERS,
    Installed,
    Kind,
    Resource,
    entries,
)

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS resource (
    rid INTEGER PRIMARY KEY, type TEXT NOT NULL, id TEXT NOT NULL,
    version INTEGER NOT NULL, deleted INTEGER NOT NULL, UNIQUE (type, id));
CREATE TABLE IF NOT EXISTS version (
    rid INTEGER NOT NULL, version INTEGER NOT NULL, method TEXT NOT NULL, at TEXT NOT NULL,
    body BLOB, PRIMARY KEY (rid, version)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS entry (
    rid INTEGER NOT NULL, type TEXT NOT NULL, parameter TEXT NOT NULL,
    system TEXT NOT NULL, value TEXT NOT NULL, low TEXT NOT NULL, high TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS entry_value ON entry (type, parameter, value, system);
CREATE INDEX IF NOT EXISTS entry_date ON entry (type, parameter, low) WHERE low <> '';
CREATE INDEX IF NOT EXISTS entry_rid ON entry (rid, parameter);
CREATE INDEX IF NOT EXISTS entry_target ON entry (system, value) WHERE value <> '';
"""
_FIRST_ID: Final = 1000
_SEARCH_PARAMETER: Final = "SearchParameter"
_REFERENCES: Final = sorted(
    {
        name
        for known in PARAMETERS.values()
        for name, one in known.items()
        if one.kind is Kind.REFERENCE
    }
)
"""Only these keep their targets from being deleted: not those that clients install."""
_IS_REFERENCE: Final = f"parameter IN ({', '.join('?' * len(_REFERENCES))})"
_TARGETS: Final = f"SELECT DISTINCT system, value FROM entry WHERE rid = ? AND {_IS_REFERENCE}"  # noqa: S608
_REFERRERS: Final = f"""SELECT 1 FROM entry
    WHERE system = ? AND value = ? AND value <> '' AND {_IS_REFERENCE} LIMIT 1"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of a resource; ``body`` is None for a deletion."""

    type: str
    id: str
    version: int
    method: str
    at: str
    body: bytes | None

    @property
    def etag(self) -> str:
        """The version as a weak ETag."""
        return f'W/"{self.version}"'

    @property
    def path(self) -> str:
        """Type and id."""
        return f"{self.type}/{self.id}"

    @property
    def resource(self) -> Resource:
        """The body, parsed."""
        parsed: Resource = orjson.loads(self.body or b"{}")
        return parsed


class ResourceStore:
    """The resources.

    Parameters
    ----------
    database
        A file, or ``:memory:``.
    now
        The clock.
    """

    def __init__(
        self, database: str = ":memory:", now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._now = now
        self._lock = threading.RLock()
        self._written: set[int] = set()
        self._db = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)
        self.installed: Installed = {}
        """Search parameters that clients installed."""
        self._learn_parameters()

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the server for one interaction: all of it happens, or nothing.

        Raises
        ------
        FhirError
            At the end, when a reference is left without its target.
        """
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            self._written = set()
            try:
                yield
                self._check_references()
            except BaseException:
                self._db.execute("ROLLBACK")
                self._learn_parameters()
                raise
            self._db.execute("COMMIT")

    def new_id(self) -> str:
        """Give an id that no resource has, nor was given before in this interaction."""
        self._db.execute(
            "INSERT INTO resource SELECT coalesce(max(rid), ?) + 1, '', coalesce(max(rid), ?) + 1,"
            " 0, 1 FROM resource",
            (_FIRST_ID - 1, _FIRST_ID - 1),
        )
        found = self._db.execute("SELECT max(rid) AS rid FROM resource").fetchone()
        return str(found["rid"])

    def read(self, resource_type: str, resource_id: str) -> Stored | None:
        """Return the current version, which may be a deletion, or None."""
        found = self._versions(resource_type, resource_id, "version.version = resource.version")
        return found[0] if found else None

    def history(self, resource_type: str, resource_id: str) -> list[Stored]:
        """Return all versions, newest first."""
        return self._versions(resource_type, resource_id, "TRUE")

    def type_history(
        self, resource_type: str, since: datetime, count: int, offset: int
    ) -> list[Stored]:
        """Return versions of a type that were written since then, newest first."""
        at = since.astimezone(UTC).isoformat(timespec="milliseconds")
        rows = self._db.execute(
            "SELECT resource.type, resource.id, version.* FROM resource JOIN version USING (rid)"
            " WHERE type = ? AND at >= ? ORDER BY at DESC, rid DESC, version.version DESC"
            " LIMIT ? OFFSET ?",
            (resource_type, at, count, offset),
        )
        return [_stored(row) for row in rows]

    def select(self, query: str, values: Sequence[Any]) -> list[int]:
        """Return the row ids that a query selects."""
        return [row["rid"] for row in self._db.execute(query, values)]

    def load(self, rids: Sequence[int]) -> list[Stored]:
        """Return the current versions of rows, in their order, deleted ones left out."""
        found = []
        for rid in rids:
            row = self._db.execute(
                "SELECT resource.type, resource.id, version.* FROM resource JOIN version"
                " USING (rid, version) WHERE rid = ? AND NOT deleted",
                (rid,),
            ).fetchone()
            if row is not None:
                found.append(_stored(row))
        return found

    def write(self, resource: Resource, resource_id: str, method: str) -> Stored:
        """Write the next version of a resource under this id, and index it."""
        kind = resource["resourceType"]
        if kind == _SEARCH_PARAMETER:
            check_parameter(resource)
        rid, version = self._next(kind, resource_id)
        at = self._now().isoformat(timespec="milliseconds")
        meta = {**resource.get("meta", {}), "versionId": str(version), "lastUpdated": at}
        written = {"resourceType": kind, "id": resource_id, "meta": meta}
        written |= {key: value for key, value in resource.items() if key not in written}
        stored = Stored(kind, resource_id, version, method, at, orjson.dumps(written))
        self._keep(rid, stored)
        self._index(rid, written)
        return stored

    def delete(self, resource_type: str, resource_id: str) -> Stored:
        """Write a deletion as the next version."""
        rid, version = self._next(resource_type, resource_id)
        at = self._now().isoformat(timespec="milliseconds")
        stored = Stored(resource_type, resource_id, version, "DELETE", at, None)
        self._keep(rid, stored)
        return stored

    def expunge(self, resource_type: str, resource_id: str, *, wholly: bool) -> int:
        """Remove the versions before the current one, or all; return how many.

        The row of a resource stays, so that its id is never given again.
        """
        row = self._db.execute(
            "SELECT rid, version FROM resource WHERE type = ? AND id = ?",
            (resource_type, resource_id),
        ).fetchone()
        last = row["version"] + 1 if wholly else row["version"]
        done = self._db.execute(
            "DELETE FROM version WHERE rid = ? AND version < ?", (row["rid"], last)
        )
        return done.rowcount

    def reindex(self, resource_type: str) -> None:
        """Index all resources of a type by the parameters that there are now."""
        rids = self.select(
            "SELECT rid FROM resource WHERE type = ? AND NOT deleted", [resource_type]
        )
        for rid in rids:
            (stored,) = self.load([rid])
            self._db.execute("DELETE FROM entry WHERE rid = ?", (rid,))
            self._index(rid, stored.resource)

    def _index(self, rid: int, resource: Resource) -> None:
        kind = resource["resourceType"]
        self._db.executemany(
            "INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?, ?)",
            [(rid, kind, *entry) for entry in entries(resource, self.installed)],
        )

    def _learn_parameters(self) -> None:
        rids = self.select("SELECT rid FROM resource WHERE type = ?", [_SEARCH_PARAMETER])
        self.installed = installed(one.resource for one in self.load(rids))

    def _next(self, resource_type: str, resource_id: str) -> tuple[int, int]:
        """Find or make the row of a resource; give its row id and its next version."""
        reserved = "UPDATE resource SET type = ? WHERE type = '' AND id = ?"
        self._db.execute(reserved, (resource_type, resource_id))
        row = self._db.execute(
            "INSERT INTO resource (type, id, version, deleted) VALUES (?, ?, 0, 1)"
            " ON CONFLICT DO UPDATE SET version = version RETURNING rid, version",
            (resource_type, resource_id),
        ).fetchone()
        return row["rid"], row["version"] + 1

    def _keep(self, rid: int, stored: Stored) -> None:
        self._db.execute(
            "UPDATE resource SET version = ?, deleted = ? WHERE rid = ?",
            (stored.version, stored.body is None, rid),
        )
        self._db.execute(
            "INSERT INTO version VALUES (?, ?, ?, ?, ?)",
            (rid, stored.version, stored.method, stored.at, stored.body),
        )
        self._db.execute("DELETE FROM entry WHERE rid = ?", (rid,))
        self._written.add(rid)
        if stored.type == _SEARCH_PARAMETER:
            self._learn_parameters()

    def _versions(self, resource_type: str, resource_id: str, which: str) -> list[Stored]:
        rows = self._db.execute(
            "SELECT resource.type, resource.id, version.* FROM resource JOIN version USING (rid)"  # noqa: S608
            f" WHERE type = ? AND id = ? AND {which} ORDER BY version.version DESC",
            (resource_type, resource_id),
        )
        return [_stored(row) for row in rows]

    def _check_references(self) -> None:
        """Refuse what the interaction would leave pointing at nothing, as HAPI does."""
        for rid in self._written:
            row = self._db.execute("SELECT * FROM resource WHERE rid = ?", (rid,)).fetchone()
            if row["deleted"]:
                self._check_unreferenced(row["type"], row["id"])
            else:
                self._check_targets(rid)

    def _check_targets(self, rid: int) -> None:
        for entry in self._db.execute(_TARGETS, (rid, *_REFERENCES)).fetchall():
            if not entry["system"]:
                raise FhirError(400, "invalid", "a reference is not of the form Type/id")
            target = self.read(entry["system"], entry["value"])
            if target is None or target.body is None:
                raise FhirError(400, "not-found", "a referenced resource does not exist")

    def _check_unreferenced(self, resource_type: str, resource_id: str) -> None:
        if self._db.execute(_REFERRERS, (resource_type, resource_id, *_REFERENCES)).fetchone():
            raise FhirError(409, "conflict", "another resource refers to this one")


def _stored(row: sqlite3.Row) -> Stored:
    return Stored(row["type"], row["id"], row["version"], row["method"], row["at"], row["body"])
