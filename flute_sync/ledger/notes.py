"""Rejection notes that one study keeps and that name instances of another.

References
----------
PS3.3 A.35.4 and C.17.6.2.1 (2026b); IHE RAD TF-3 4.66.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from sqlalchemy import Connection

from flute_sync.completeness import StudySettings
from flute_sync.ledger.columns import dump_identities, load_identities, split_identities
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.raising import look_again
from flute_sync.ledger.values import Claim
from flute_sync.ledger.work import lock_held
from flute_sync.study import Code, KeyObjects, PatientId, Reference, may_be_same

SCHEME: Final = "DCM"
_Row = tuple[str, str]
"""Named study and title."""

_OWN: Final = (
    "SELECT named_study_uid, title, instances, patient_ids FROM foreign_note WHERE study_id = ?"
)
_PATIENTS: Final = "SELECT patient_ids FROM study_archive WHERE study_id = ?"
_NAMING: Final = (
    "SELECT DISTINCT title, instances, patient_ids FROM foreign_note WHERE named_study_uid = ?"
    " ORDER BY title, instances, patient_ids"
)
_FORGET: Final = "DELETE FROM foreign_note WHERE study_id = ? AND named_study_uid = ? AND title = ?"
_KEEP: Final = (
    "INSERT INTO foreign_note (study_id, named_study_uid, title, instances, patient_ids)"
    " VALUES (?, ?, ?, ?, ?)"
)
_SENTENCE: Final = "A rejection note that another study keeps speaks of it, or does so no more."


def naming(
    driver: Driver, study_instance_uid: str, patients: Collection[PatientId | None]
) -> tuple[KeyObjects, ...]:
    """Return what notes of other studies say of this one; those of another patient do not count.

    Parameters
    ----------
    patients
        Whom this study names; nobody where nothing of it is known.
    """
    return tuple(
        KeyObjects(
            Code(title, SCHEME),
            tuple(
                Reference(study_instance_uid, series, instance)
                for series, instances in json.loads(named).items()
                for instance in instances
            ),
        )
        for title, named, stated in driver.rows(_NAMING, study_instance_uid)
        if not patients
        or any(may_be_same(one, own) for one in load_identities(stated) for own in patients)
    )


def keep(
    connection: Connection,
    claim: Claim,
    notes: Iterable[KeyObjects],
    now: datetime,
    settings: StudySettings,
    events_kept: int,
) -> int:
    """Replace what a study's notes say of others; raise those of whom that is news.

    Returns how many studies it is news for, known or not.

    Raises
    ------
    LeaseLost
    """
    lock_held(connection, claim)
    driver = Driver(connection)
    there = {row[:2]: row[2:] for row in map(tuple, driver.rows(_OWN, claim.study_id))}
    stated = [split_identities(ids) for (ids,) in driver.rows(_PATIENTS, claim.study_id)]
    patients = dump_identities(frozenset[str]().union(*stated))
    here = {key: (said, patients) for key, said in _by_study(notes).items()}
    gone = [key for key, said in there.items() if here.get(key) != said]
    new = [key for key, said in here.items() if there.get(key) != said]
    driver.run(_FORGET, [(claim.study_id, *key) for key in gone])
    driver.run(_KEEP, [(claim.study_id, *key, *here[key]) for key in new])
    named = sorted({uid for uid, _ in (*gone, *new)})
    look_again(driver, named, now, settings, _SENTENCE, events_kept)
    return len(named)


def without(note: KeyObjects, studies: Collection[str]) -> KeyObjects:
    """Return a note that says nothing of some studies."""
    kept = tuple(one for one in note.references if one.study_instance_uid not in studies)
    return replace(note, references=kept) if len(kept) < len(note.references) else note


def _by_study(notes: Iterable[KeyObjects]) -> dict[_Row, str]:
    found: dict[_Row, dict[str, set[str]]] = {}
    for note in notes:
        for one in note.references if note.title else ():
            if note.title and 0 < len(one.study_instance_uid) <= 64:
                series = found.setdefault((one.study_instance_uid, note.title.value), {})
                series.setdefault(one.series_instance_uid, set()).add(one.sop_instance_uid)
    return {
        key: json.dumps({uid: sorted(members) for uid, members in sorted(series.items())})
        for key, series in found.items()
    }
