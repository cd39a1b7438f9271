"""Performed procedure steps: what modalities say that they do for a study.

Deliveries come in any order and more than once. The furthest status stands, so that a late
IN PROGRESS does not undo a final one, and what one message leaves out another may say.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from flute_sync.intake import Performed
from flute_sync.ledger.columns import HeaderStore, from_stored, load_header, to_stored
from flute_sync.ledger.driver import Driver, Row
from flute_sync.ledger.rows import chunks
from flute_sync.study import (
    EXTRACTION_VERSION,
    Header,
    SeriesAttributes,
    Step,
    StepStatus,
    StudyAttributes,
    StudyInstanceUID,
)

_RANK: Final = {
    StepStatus.IN_PROGRESS: 0,
    StepStatus.DISCONTINUED: 1,
    StepStatus.COMPLETED: 2,
}
_COLUMNS: Final = "sop_instance_uid, study_id, archive_id, status, told_at, text"
_KNOWN: Final = f"SELECT {_COLUMNS} FROM procedure_step WHERE sop_instance_uid IN (?)"  # noqa: S608
_UPSERT: Final = (
    f"INSERT INTO procedure_step ({_COLUMNS}, extraction_version)"  # noqa: S608
    " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (sop_instance_uid, study_id) DO UPDATE SET"
    " status = excluded.status, told_at = excluded.told_at, text = excluded.text,"
    " extraction_version = excluded.extraction_version"
)
_TOLD: Final = (
    "SELECT sop_instance_uid, study_instance_uid, status, text FROM procedure_step"
    " JOIN study ON study.id = study_id WHERE sop_instance_uid = ? ORDER BY study_instance_uid"
)
_OF_STUDY: Final = (
    "SELECT sop_instance_uid, status, text, archive.name FROM procedure_step"
    " JOIN archive ON archive.id = archive_id WHERE study_id = ? ORDER BY sop_instance_uid"
)
_TEXTS: Final = "SELECT sop_instance_uid, text FROM procedure_step WHERE study_id = ?"
_SET_TEXT: Final = "UPDATE procedure_step SET text = ? WHERE sop_instance_uid = ? AND study_id = ?"
_Key = tuple[str, int]
"""SOP Instance UID of the step, number of the study."""


@dataclass(frozen=True, slots=True)
class Told:
    """A step of a study as it stands, and for which archive it was told first."""

    archive_id: int
    status: StepStatus
    told_at: datetime
    header: Header

    def with_more(self, other: "Told") -> "Told":
        """Return what both say: of two, the one further on counts, else the later."""

        def rank(one: Told) -> tuple[int, datetime, str]:
            return _RANK[one.status], one.told_at, repr(one.header)

        less, more = sorted((self, other), key=rank)
        header = _filled(more.header, less.header)
        return replace(self, status=more.status, told_at=more.told_at, header=header)


def _filled(one: Any, other: Any) -> Any:
    """Return a value whose empty fields are taken from another."""
    values = {}
    for each in fields(one):
        own, others = getattr(one, each.name), getattr(other, each.name)
        if is_dataclass(own) and each.name in ("patient", "study", "series"):
            values[each.name] = _filled(own, others)
        elif own in (None, ()):
            values[each.name] = others
    return replace(one, **values)


@dataclass(slots=True)
class Steps:
    """The steps that one transaction is told of, by their UIDs and studies."""

    driver: Driver
    headers: HeaderStore
    _known: dict[_Key, Told]
    _changed: set[_Key]

    @classmethod
    def look_up(cls, driver: Driver, headers: HeaderStore, uids: Iterable[str]) -> "Steps":
        """Find which of the steps are known."""
        rows = (
            row for part in chunks(sorted(set(uids))) for row in driver.rows(_KNOWN, list(part))
        )
        return cls(driver, headers, {row[:2]: _as_told(row) for row in rows}, set())

    def take(self, study_id: int, archive_id: int, at: datetime, said: Performed) -> bool:
        """Take what is said of a step, and return whether it is news."""
        key = said.sop_instance_uid, study_id
        told = Told(archive_id, StepStatus(said.status), at, said.header)
        known = self._known.get(key)
        stands = self._known[key] = told if known is None else known.with_more(told)
        if known is not None and (known.status, known.header) == (stands.status, stands.header):
            return False
        self._changed.add(key)
        return True

    def write(self) -> None:
        """Write what is new or changed."""
        rows = [(*key, *self._as_row(self._known[key])) for key in sorted(self._changed)]
        self.driver.run(_UPSERT, rows)

    def _as_row(self, step: Told) -> Row:
        text = self.headers.store(step.header).text
        at = to_stored(step.told_at)
        return step.archive_id, step.status.value, at, text, EXTRACTION_VERSION


def _as_told(row: Row) -> Told:
    archive_id, status, told_at, text = row[2:]
    return Told(archive_id, StepStatus(status), from_stored(told_at), load_header(text))


def performed_step(connection: Connection, sop_instance_uid: str) -> tuple[Performed, ...]:
    """Return a step as it stands, for each study that it is of; none where none was told."""
    return tuple(
        Performed(uid, StudyInstanceUID(study), StepStatus(status), load_header(text))
        for uid, study, status, text in Driver(connection).rows(_TOLD, sop_instance_uid)
    )


def of_study(driver: Driver, study_id: int) -> tuple[Step, ...]:
    """Return the steps of a study by their UIDs."""
    return tuple(
        Step(uid, StepStatus(status), load_header(text), archive)
        for uid, status, text, archive in driver.rows(_OF_STUDY, study_id)
    )


def forget_people(connection: Connection, study_id: int) -> None:
    """Drop all that names somebody; the step stays, for more may be said of it.

    Modality and procedure stay with it: by them a study is judged.
    """
    driver, headers = Driver(connection), HeaderStore()
    kept = [
        (headers.store(_impersonal(load_header(text))).text, uid, study_id)
        for uid, text in driver.rows(_TEXTS, study_id)
    ]
    driver.run(_SET_TEXT, kept)


def _impersonal(header: Header) -> Header:
    return Header(
        header.sop_class_uid,
        study=StudyAttributes(procedure_codes=header.study.procedure_codes),
        series=SeriesAttributes(modality=header.series.modality),
    )
