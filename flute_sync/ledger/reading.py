"""Reading a study back as the frozen value it is."""

import json
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection

from flute_sync.ledger.columns import load_header, unpack_uid
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.notes import naming
from flute_sync.study import Instance, Series, SeriesInstanceUID, Study, StudyInstanceUID

_STUDY: Final = "SELECT study_instance_uid, calling_ae_titles FROM study WHERE id = ?"
_ARCHIVES: Final = (
    "SELECT archive.id, archive.name, series_count, instance_count, absences FROM study_archive"
    " JOIN archive ON archive.id = study_archive.archive_id WHERE study_id = ?"
)
_HEADERS: Final = "SELECT header, text FROM header WHERE study_id = ?"
_SERIES: Final = (
    "SELECT series, series_instance_uid FROM series WHERE study_id = ? ORDER BY series_instance_uid"
)
_INSTANCES: Final = (
    "SELECT sop_instance_uid, series, header, number, archives FROM instance WHERE study_id = ?"
    " ORDER BY sop_instance_uid"
)


def load_study(connection: Connection, study_id: int) -> Study:
    """Return all that is known of a study, in an order that does not depend on how it came."""
    driver = Driver(connection)
    ((uid, callers),) = driver.rows(_STUDY, study_id)
    archives = driver.rows(_ARCHIVES, study_id)
    names = {1 << (archive_id - 1): name for archive_id, name, *_ in archives}
    series = _series(driver, study_id, names)
    return Study(
        study_instance_uid=StudyInstanceUID(uid),
        series=series,
        series_count=_most(count for _, _, count, _, _ in archives),
        instance_count=_most(count for _, _, _, count, _ in archives),
        archives=frozenset[str]().union(*(one.archives for one in series)),
        calling_ae_titles=frozenset(json.loads(callers)),
        vanished=bool(archives) and not series and all(absences for *_, absences in archives),
        notes_elsewhere=naming(driver, uid),
    )


def _series(driver: Driver, study_id: int, names: dict[int, str]) -> tuple[Series, ...]:
    headers = {number: load_header(text) for number, text in driver.rows(_HEADERS, study_id)}
    members: defaultdict[int, list[Instance]] = defaultdict(list)
    holders: defaultdict[int, int] = defaultdict(int)
    for packed, series, header, number, held in driver.rows(_INSTANCES, study_id):
        members[series].append(Instance(unpack_uid(packed), number, headers[header]))
        holders[series] |= held
    return tuple(
        Series(
            SeriesInstanceUID(uid),
            tuple(members[number]),
            frozenset(name for bit, name in names.items() if holders[number] & bit),
        )
        for number, uid in driver.rows(_SERIES, study_id)
    )


def _most(counts: Iterable[int | None]) -> int | None:
    return max((count for count in counts if count is not None), default=None)
