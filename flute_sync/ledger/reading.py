"""Reading a study back as the frozen value it is."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import Connection

from flute_sync.ledger import stated, steps
from flute_sync.ledger.columns import load_header, load_identities, load_people, unpack_uid
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.notes import naming
from flute_sync.ledger.precedence import Precedence
from flute_sync.ledger_errors import StudyUnknown
from flute_sync.study import Instance, Series, SeriesInstanceUID, Study, StudyInstanceUID

_ID: Final = "SELECT id FROM study WHERE study_instance_uid = ?"
_STUDY: Final = "SELECT study_instance_uid, calling_ae_titles, last_header FROM study WHERE id = ?"
_ARCHIVES: Final = (
    "SELECT archive.id, archive.name, series_count, instance_count, absences, patient_ids, patients"
    " FROM study_archive JOIN archive ON archive.id = study_archive.archive_id WHERE study_id = ?"
)
_HEADERS: Final = "SELECT header, text FROM header WHERE study_id = ?"
_SERIES: Final = "SELECT series, series_instance_uid FROM series WHERE study_id = ?"
_INSTANCES: Final = (
    "SELECT sop_instance_uid, series, header, number, archives FROM instance WHERE study_id = ?"
    " ORDER BY sop_instance_uid"
)


def load_study(connection: Connection, study_id: int, order: Sequence[str] = ()) -> Study:
    """Return all that is known of a study, in an order that does not depend on how it came.

    Parameters
    ----------
    order
        The archives, the first to be believed first.
    """
    driver = Driver(connection)
    ((uid, callers, headers),) = driver.rows(_STUDY, study_id)
    archives = {row[0]: row[1:] for row in driver.rows(_ARCHIVES, study_id)}
    ranked = [one for one in Precedence(driver, order).ids() if one in archives]
    series = _series(driver, study_id, {one: archives[one][0] for one in ranked})
    performed = steps.of_study(driver, study_id)
    # Of a study that only a modality told of nothing can be missing.
    was_there = bool(headers) or not performed
    patient_ids = {name: load_identities(ids) for name, *_, ids, _ in archives.values()}
    return Study(
        study_instance_uid=StudyInstanceUID(uid),
        series=series,
        series_count=_most(count for _, count, *_ in archives.values()),
        instance_count=_most(count for _, _, count, *_ in archives.values()),
        archives=frozenset[str]().union(*(one.archives for one in series)),
        calling_ae_titles=frozenset(json.loads(callers)),
        vanished=was_there
        and bool(archives)
        and not series
        and all(one[3] for one in archives.values()),
        notes_elsewhere=naming(driver, uid, frozenset().union(*patient_ids.values())),
        steps=performed,
        patient_ids=patient_ids,
        patients={name: load_people(said) for name, *_, said in archives.values()},
    )


def find_study(connection: Connection, uid: StudyInstanceUID, order: Sequence[str] = ()) -> Study:
    """Return all that is known of a study.

    Raises
    ------
    StudyUnknown
    """
    found = Driver(connection).rows(_ID, uid)
    if not found:
        raise StudyUnknown(study_instance_uid=uid)
    return load_study(connection, found[0][0], order)


def _series(driver: Driver, study_id: int, names: dict[int, str]) -> tuple[Series, ...]:
    headers = {number: load_header(text) for number, text in driver.rows(_HEADERS, study_id)}
    members: defaultdict[int, list[Instance]] = defaultdict(list)
    holders: defaultdict[int, int] = defaultdict(int)
    for packed, series, header, number, held in driver.rows(_INSTANCES, study_id):
        members[series].append(Instance(unpack_uid(packed), number, headers[header]))
        holders[series] |= held
    said = stated.of_study(driver, study_id, headers, names)
    numbers = {uid: number for number, uid in driver.rows(_SERIES, study_id)}
    return tuple(
        _one_series(uid, members.get(numbers.get(uid, 0), []), archives, said.get(uid))
        for uid in sorted({*numbers, *said})
        for archives in [
            {name for one, name in names.items() if holders[numbers.get(uid, 0)] >> (one - 1) & 1}
        ]
    )


def _one_series(
    uid: str, members: list[Instance], archives: set[str], said: stated.Statement | None
) -> Series:
    series_uid = SeriesInstanceUID(uid)
    if said is None:
        return Series(series_uid, tuple(members), frozenset(archives))
    return Series(
        series_uid,
        tuple(members),
        said.archives | archives,
        stated=None if members else said.header,
        instance_count=said.instance_count,
    )


def _most(counts: Iterable[int | None]) -> int | None:
    return max((count for count in counts if count is not None), default=None)
