"""Rows of links, of people's decisions on them, and the epochs of patients.

A patient's epoch is raised by whatever may change the judgement of another of his studies. A step
that began in an earlier epoch is taken again after it ends, so that two studies that are written at
once do not miss each other, nor clinical data that came meanwhile.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

from sqlalchemy import Connection, Row, select

from flute_sync.ledger.columns import from_stored
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.rows import chunks
from flute_sync.ledger.tables import study
from flute_sync.ledger.values import LinkDecision, LinkedStudy, LinkNews, LinkRow, PatientLinks
from flute_sync.ledger.work import make_ready, wake
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State, TaskEvent

_STUDIES: Final = (
    "SELECT study.id, study_instance_uid, state, resource_id FROM study"
    " LEFT JOIN fhir_study ON fhir_study.study_id = study.id"
)
_OF_PATIENT: Final = (
    f"{_STUDIES} WHERE patient_reference IN (?) OR study_instance_uid IN (?) ORDER BY study.id"
)
_ROWS: Final = (
    "SELECT study_id, reference, kind, rule, verdict, reason, waived, low, high, taken, ours"
    " FROM link WHERE study_id IN (?) ORDER BY study_id, kind, reference"
)
_DECISIONS: Final = (
    "SELECT study_instance_uid, reference, verb, why, at FROM link_decision AS said"
    " JOIN study ON study.id = said.study_id WHERE study.id IN (?) AND said.id ="
    " (SELECT max(id) FROM link_decision WHERE study_id = said.study_id"
    " AND reference = said.reference)"
    " AND verb <> 'release' ORDER BY said.id"
)
_HAS_ROWS: Final = "SELECT 1 FROM link WHERE study_id = ? LIMIT 1"
_ANYBODY_DECIDED: Final = "SELECT 1 FROM link_decision LIMIT 1"
_DECIDED: Final = (
    "SELECT 1 FROM link_decision AS said JOIN study ON study.id = said.study_id"
    " WHERE (patient_reference = ? OR study.id = ?) AND verb <> 'release' AND said.id ="
    " (SELECT max(id) FROM link_decision WHERE study_id = said.study_id"
    " AND reference = said.reference) LIMIT 1"
)
_EPOCH: Final = "SELECT epoch FROM link_epoch WHERE patient_reference = ?"
_NEW_EPOCH: Final = (
    "INSERT INTO link_epoch (patient_reference, epoch) VALUES (?, 0)"
    " ON CONFLICT (patient_reference) DO NOTHING"
)
_RAISE_EPOCH: Final = "UPDATE link_epoch SET epoch = epoch + 1 WHERE patient_reference = ?"
_FORGET: Final = "DELETE FROM link WHERE study_id = ?"
_FORGET_REFUSED: Final = "DELETE FROM link WHERE study_id = ? AND NOT ours"
_FORGET_WORDS: Final = "UPDATE link SET reason = '', low = NULL, high = NULL WHERE study_id = ?"
_KEEP: Final = (
    "INSERT INTO link (study_id, reference, kind, rule, verdict, reason, waived, low, high, taken,"
    " ours) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (study_id, reference) DO UPDATE"
    " SET kind = excluded.kind, rule = excluded.rule, verdict = excluded.verdict,"
    " reason = excluded.reason, waived = excluded.waived, low = excluded.low,"
    " high = excluded.high, taken = excluded.taken, ours = excluded.ours"
)


def of_patient(
    connection: Connection, references: Collection[str], uids: Collection[StudyInstanceUID]
) -> PatientLinks:
    """Return what is known of a patient's links.

    Parameters
    ----------
    references
        ``Patient/ID``, of whom others were merged into him too; the first one is himself.
    uids
        Studies that are his, whatever is known of them.
    """
    driver = Driver(connection)
    named = list(references)
    found = driver.rows(_OF_PATIENT, named, list(uids))
    rows = rows_of(driver, [one[0] for one in found])
    studies = {
        one[1]: LinkedStudy(one[1], State(one[2]), one[3], tuple(rows.get(one[0], ())))
        for one in found
    }
    epoch = driver.rows(_EPOCH, named[0]) if named else []
    decisions = decisions_of(driver, [one[0] for one in found])
    return PatientLinks(epoch[0][0] if epoch else 0, studies, tuple(decisions))


def concern(connection: Connection, study_id: int, patient_reference: str | None) -> bool:
    """Tell whether a study has rows, or a decision on a study of its patient is in force."""
    driver = Driver(connection)
    if driver.rows(_HAS_ROWS, study_id):
        return True
    if not driver.rows(_ANYBODY_DECIDED):
        return False
    return bool(driver.rows(_DECIDED, patient_reference, study_id))


def rows_of(driver: Driver, studies: Sequence[int]) -> dict[int, list[LinkRow]]:
    """Return what was judged of studies, by their ids."""
    found: dict[int, list[LinkRow]] = {}
    for part in chunks(studies):
        for of, reference, kind, rule, verdict, reason, waived, *rest in driver.rows(
            _ROWS, [*part]
        ):
            low, high, taken, ours = rest
            said = (reference, kind, rule, verdict, reason, _waived(waived), low, high)
            found.setdefault(of, []).append(LinkRow(*said, taken=bool(taken), ours=bool(ours)))
    return found


def decisions_of(driver: Driver, studies: Sequence[int]) -> list[LinkDecision]:
    """Return what people decided on studies and is in force, the oldest first."""
    return [
        LinkDecision(uid, reference, verb, why, from_stored(at))
        for part in chunks(studies)
        for uid, reference, verb, why, at in driver.rows(_DECISIONS, [*part])
    ]


def keep(driver: Driver, study_id: int, rows: Iterable[LinkRow]) -> None:
    """Keep rows; what else is known of the study stays."""
    driver.run(_KEEP, [_as_values(study_id, row) for row in rows])


def settle(connection: Connection, row: Row[Any], news: LinkNews | None, now: datetime) -> bool:
    """Keep what a step judged, and let be judged again whom it concerns.

    Parameters
    ----------
    row
        The study, locked.

    Returns whether the judgement still holds: nothing came meanwhile that could change it.
    """
    if news is None:
        return True
    driver = Driver(connection)
    driver.run(_FORGET, [(row.id,)])
    keep(driver, row.id, news.rows)
    if row.patient_reference not in (None, news.patient_reference):
        touch(connection, [row.patient_reference], now)
    if news.patient_reference is None:
        return True
    epoch = _locked_epoch(driver, news.patient_reference)
    if news.changed or news.others:
        driver.run(_RAISE_EPOCH, [(news.patient_reference,)])
    make_some_ready(connection, news.others, now)
    return epoch == news.epoch


def _locked_epoch(driver: Driver, patient_reference: str) -> int:
    driver.run(_NEW_EPOCH, [(patient_reference,)])
    ((epoch,),) = driver.rows(_EPOCH + driver.for_update, patient_reference)
    return int(epoch)


def touch(connection: Connection, references: Collection[str], now: datetime) -> int:
    """Let all studies of some patients be judged again; return how many are ready for that.

    A step that is in hand is taken again after it ends.
    """
    driver = Driver(connection)
    for reference in sorted(set(references)):
        driver.run(_NEW_EPOCH, [(reference,)])
        driver.run(_RAISE_EPOCH, [(reference,)])
    return wake(connection, references, now)


def make_some_ready(
    connection: Connection, uids: Collection[StudyInstanceUID], now: datetime
) -> int:
    """Make studies ready that rest; return how many did."""
    return sum(
        connection.execute(
            make_ready(TaskEvent.WAKE, now).where(study.c.study_instance_uid.in_(part))
        ).rowcount
        for part in chunks(sorted(set(uids)))
    )


def forget_people(connection: Connection, study_id: int) -> None:
    """Keep of a study's links only which are ours."""
    driver = Driver(connection)
    driver.run(_FORGET_REFUSED, [(study_id,)])
    driver.run(_FORGET_WORDS, [(study_id,)])


def study_id_of(connection: Connection, uid: StudyInstanceUID) -> int | None:
    """Return the id of a study that is known."""
    found: int | None = connection.scalar(
        select(study.c.id).where(study.c.study_instance_uid == uid)
    )
    return found


@lru_cache(maxsize=256)
def _waived(stored: str) -> tuple[str, ...]:
    return tuple(json.loads(stored))  # the same few rules of profiles, again and again


def _as_values(study_id: int, row: LinkRow) -> tuple[object, ...]:
    said = (row.reference, row.kind, row.rule, row.verdict, row.reason)
    return (study_id, *said, json.dumps(row.waived), row.low, row.high, row.taken, row.ours)
