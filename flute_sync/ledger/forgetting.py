"""Deleting all rows of studies: nothing of them is left, wherever it is kept."""

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final

from flute_sync.ledger.columns import to_stored
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.rows import chunks
from flute_sync.ledger_errors import LedgerBusy
from flute_sync.task import State

_LOCK: Final = (
    "SELECT id, study_instance_uid, state, next_attempt_at FROM study"
    " WHERE study_instance_uid IN (?) ORDER BY id"
)
_OF_STUDY: Final = (
    "instance",
    "stated_series",
    "series",
    "header",
    "procedure_step",
    "foreign_note",
    "study_archive",
    "identity_key",
    "link",
    "link_decision",
    "event",
    "fhir_study",
)
"""In this order: what refers to something goes before it."""
_DELETE: Final = tuple(f"DELETE FROM {table} WHERE study_id IN (?)" for table in _OF_STUDY)  # noqa: S608
_STUDY: Final = "DELETE FROM study WHERE id IN (?)"
_BY_UID: Final = (
    "DELETE FROM foreign_note WHERE named_study_uid IN (?)",
    "DELETE FROM intent_study WHERE study_instance_uid IN (?)",
)
_EVENTS: Final = (
    "SELECT DISTINCT sentence FROM event WHERE study_id IS NULL AND sentence LIKE ?",
    "DELETE FROM event WHERE study_id IS NULL AND sentence IN (?)",
)
_CURSORS: Final = (
    "SELECT DISTINCT value FROM source_cursor WHERE value LIKE ?",
    "DELETE FROM source_cursor WHERE value IN (?)",  # that source begins anew
)
_OF_PATIENT: Final = "DELETE FROM link_epoch WHERE patient_reference IN (?)"
_LINKED: Final = (
    "DELETE FROM link WHERE reference IN (?)",
    "DELETE FROM link_decision WHERE reference IN (?)",
)
_IMPORTS: Final = "DELETE FROM source_cursor WHERE source LIKE ?"


def forget(driver: Driver, uids: Collection[str], now: datetime) -> int:
    """Delete all rows of studies; return how many of these were known.

    Raises
    ------
    LedgerBusy
        A worker holds one of them.
    """
    count = 0
    for part in chunks(sorted(set(uids))):
        rows = driver.rows(_LOCK + driver.for_update, [*part])
        if any(
            state == State.IN_PROGRESS and until > (to_stored(now) or 0)
            for _, _, state, until in rows
        ):
            raise LedgerBusy("a worker holds a study that is being erased")
        forget_ids(driver, [row[0] for row in rows])
        count += len(rows)
        for statement in _BY_UID:
            driver.changed(statement, [*part])
        for uid in part:
            for statements in (_EVENTS, _CURSORS):
                _forget_saying(driver, statements, uid)
    return count


def _forget_saying(driver: Driver, statements: tuple[str, str], name: str) -> None:
    """Delete what names something, and not what names another whose name only begins alike."""
    found, delete = statements
    whole = re.compile(rf"(?<![\w.]){re.escape(name)}(?![.-]*\w)")
    said = [text for (text,) in driver.rows(found, f"%{name}%") if whole.search(text)]
    for part in chunks(said):
        driver.changed(delete, [*part])


def forget_ids(driver: Driver, ids: Sequence[int]) -> None:
    """Delete all rows of studies that are locked, and themselves."""
    if ids:
        for statement in (*_DELETE, _STUDY):
            driver.changed(statement, [*ids])


def forget_patient(driver: Driver, references: Collection[str], gone: Collection[str]) -> None:
    """Delete what else is kept of a patient, and of resources that are no more.

    Parameters
    ----------
    references
        ``Patient/ID``.
    gone
        ``Type/id``.
    """
    for part in chunks(sorted(set(references))):
        driver.changed(_OF_PATIENT, [*part])
    for reference in sorted(set(references)):
        _forget_saying(driver, _CURSORS, reference)
    for part in chunks(sorted(set(gone))):
        for statement in _LINKED:
            driver.changed(statement, [*part])
    driver.changed(_IMPORTS, "import %")  # what they chose may have been a patient
