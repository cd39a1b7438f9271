"""The archive's index: what is stored, and the feed of changes as Orthanc keeps it."""

import hashlib
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from flute_sync.sandbox.archive.headers import Header, Uids, text

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS study (
    id TEXT PRIMARY KEY, patient TEXT NOT NULL, uid TEXT NOT NULL, header BLOB NOT NULL,
    last_update TEXT NOT NULL, stable INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS study_uid ON study (uid);
CREATE TABLE IF NOT EXISTS series (
    id TEXT PRIMARY KEY, study TEXT NOT NULL REFERENCES study ON DELETE CASCADE,
    uid TEXT NOT NULL, header BLOB NOT NULL, modality TEXT NOT NULL, last_update TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS series_study ON series (study);
CREATE TABLE IF NOT EXISTS instance (
    id TEXT PRIMARY KEY, series TEXT NOT NULL REFERENCES series ON DELETE CASCADE,
    uid TEXT NOT NULL, header BLOB NOT NULL, transfer_syntax TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, received TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS instance_series ON instance (series);
CREATE TABLE IF NOT EXISTS change (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, level TEXT NOT NULL,
    id TEXT NOT NULL, at TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS change_id ON change (id);
"""
_SELECT: Final = {
    "study": """SELECT study.*,
        (SELECT count(*) FROM series WHERE series.study = study.id) AS series_count,
        (SELECT count(*) FROM instance JOIN series ON instance.series = series.id
            WHERE series.study = study.id) AS instance_count,
        (SELECT group_concat(DISTINCT modality) FROM series WHERE series.study = study.id)
            AS modalities, study.uid AS study_uid, study.uid AS path
        FROM study WHERE (:study IS NULL OR study.uid = :study) AND :series IS NULL
        AND :instance IS NULL ORDER BY study.rowid""",
    "series": """SELECT series.*, study.uid AS study_uid,
        (SELECT count(*) FROM instance WHERE instance.series = series.id) AS instance_count,
        study.uid || '/series/' || series.uid AS path
        FROM series JOIN study ON series.study = study.id
        WHERE (:study IS NULL OR study.uid = :study) AND (:series IS NULL OR series.uid = :series)
        AND :instance IS NULL ORDER BY series.rowid""",
    "instance": """SELECT instance.*, study.uid AS study_uid,
        study.uid || '/series/' || series.uid || '/instances/' || instance.uid AS path
        FROM instance JOIN series ON instance.series = series.id
        JOIN study ON series.study = study.id
        WHERE (:study IS NULL OR study.uid = :study) AND (:series IS NULL OR series.uid = :series)
        AND (:instance IS NULL OR instance.uid = :instance) ORDER BY instance.rowid""",
}


class Address(NamedTuple):
    """UIDs of a DICOMweb address; those not said select everything."""

    study: str | None = None
    series: str | None = None
    instance: str | None = None


class Index:
    """The SQLite index of the archive.

    Parameters
    ----------
    database
        The index file.
    stable_age
        How long a study must rest before the feed calls it stable.
    now
        The clock.
    """

    def __init__(self, database: Path, stable_age: timedelta, now: Callable[[], datetime]) -> None:
        self._stable_age = stable_age
        self._now = now
        self._lock = threading.RLock()
        self._db = sqlite3.connect(database, check_same_thread=False, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the index file."""
        with self._lock:
            self._db.close()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the archive for one write: a transaction and the only writer."""
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def add(self, header: Header, uids: Uids, transfer_syntax: str, size_bytes: int) -> str | None:
        """Index an object; to be called while ``writing``.

        Returns
        -------
        str or None
            The object's public id, None when it is known already: the first one stored stays.
        """
        patient, study, series, instance = _public_ids(text(header, "PatientID").strip(), uids)
        if self.rows("SELECT 1 FROM instance WHERE id = ?", instance):
            return None
        at, blob = self._now().isoformat(), orjson.dumps(header)
        known_patient = self.rows("SELECT 1 FROM study WHERE patient = ? LIMIT 1", patient)
        new_study = self._insert(
            "INSERT OR IGNORE INTO study VALUES (?, ?, ?, ?, ?, 0)",
            (study, patient, uids.study, blob, at),
        )
        new_series = self._insert(
            "INSERT OR IGNORE INTO series VALUES (?, ?, ?, ?, ?, ?)",
            (series, study, uids.series, blob, text(header, "Modality"), at),
        )
        self._insert(
            "INSERT INTO instance VALUES (?, ?, ?, ?, ?, ?, ?)",
            (instance, series, uids.instance, blob, transfer_syntax, size_bytes, at),
        )
        self._db.execute("UPDATE study SET last_update = ?, stable = 0 WHERE id = ?", (at, study))
        self._db.execute("UPDATE series SET last_update = ? WHERE id = ?", (at, series))
        self._note("NewInstance", "Instance", instance)
        if new_series:
            self._note("NewSeries", "Series", series)
        if new_study:
            self._note("NewStudy", "Study", study)
        if not known_patient:
            self._note("NewPatient", "Patient", patient)
        return instance

    def find(self, level: str, address: Address) -> list[sqlite3.Row]:
        """Return the rows of a level (study, series, instance) under an address, oldest first."""
        return self.rows(_SELECT[level], **address._asdict())

    def rows(self, query: str, *by_position: object, **by_name: object) -> list[sqlite3.Row]:
        """Run a query with parameters either by position or by name."""
        with self._lock:
            return self._db.execute(query, by_name or by_position).fetchall()

    def delete_study(self, study: str) -> list[str] | None:
        """Forget a study and its changes, as Orthanc does, without a trace in the feed.

        Returns
        -------
        list or None
            The ids of the instances that went, None when the study is unknown.
        """
        with self.writing():
            rows = self.rows("SELECT patient FROM study WHERE id = ?", study)
            if not rows:
                return None
            series = [r["id"] for r in self.rows("SELECT id FROM series WHERE study = ?", study)]
            instances = [
                row["id"]
                for one in series
                for row in self.rows("SELECT id FROM instance WHERE series = ?", one)
            ]
            self._db.execute("DELETE FROM study WHERE id = ?", (study,))
            gone = [study, *series, *instances]
            if not self.rows("SELECT 1 FROM study WHERE patient = ?", rows[0]["patient"]):
                gone.append(rows[0]["patient"])
            self._db.executemany("DELETE FROM change WHERE id = ?", [(one,) for one in gone])
            return instances

    def changes(self, since: int, limit: int) -> tuple[list[sqlite3.Row], bool]:
        """Return up to ``limit`` changes after ``since`` and whether these are the last ones."""
        self._settle()
        query = "SELECT * FROM change WHERE seq > ? ORDER BY seq LIMIT ?"
        found = self.rows(query, since, limit + 1)
        return found[:limit], len(found) <= limit

    def last_change(self) -> tuple[list[sqlite3.Row], int]:
        """Return the newest change, if the feed holds any, and the highest number ever given."""
        self._settle()
        highest = self.rows("SELECT seq FROM sqlite_sequence WHERE name = 'change'")
        newest = self.rows("SELECT * FROM change ORDER BY seq DESC LIMIT 1")
        return newest, highest[0]["seq"] if highest else 0

    def _settle(self) -> None:
        """Say of each study that has rested long enough that it is stable."""
        rested = (self._now() - self._stable_age).isoformat()
        with self.writing():
            query = "SELECT id, patient FROM study WHERE stable = 0 AND last_update <= ?"
            for row in self.rows(query, rested):
                self._db.execute("UPDATE study SET stable = 1 WHERE id = ?", (row["id"],))
                for one in self.rows("SELECT id FROM series WHERE study = ?", row["id"]):
                    self._note("StableSeries", "Series", one["id"])
                self._note("StableStudy", "Study", row["id"])
                self._note("StablePatient", "Patient", row["patient"])

    def _insert(self, statement: str, parameters: tuple[Any, ...]) -> bool:
        return self._db.execute(statement, parameters).rowcount == 1

    def _note(self, kind: str, level: str, public_id: str) -> None:
        at = self._now().strftime("%Y%m%dT%H%M%S")
        self._insert(
            "INSERT INTO change (type, level, id, at) VALUES (?, ?, ?, ?)",
            (kind, level, public_id, at),
        )


def _public_ids(patient_id: str, uids: Uids) -> tuple[str, ...]:
    """Hash the ids of patient, study, series and instance as Orthanc does."""
    path = [patient_id, uids.study, uids.series, uids.instance]
    return tuple(_hash("|".join(path[: depth + 1])) for depth in range(4))


def _hash(key: str) -> str:
    digest = hashlib.sha1(key.encode(), usedforsecurity=False).hexdigest()
    return "-".join(digest[start : start + 8] for start in range(0, 40, 8))
