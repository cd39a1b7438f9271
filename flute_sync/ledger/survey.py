"""Many studies at a glance: what import waits for, and what reconcile compares."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection

from flute_sync.events import Event
from flute_sync.ledger.columns import maybe_from_stored
from flute_sync.ledger.driver import Driver, Row
from flute_sync.ledger.record import OWN_READ
from flute_sync.ledger.rows import chunks
from flute_sync.reconciliation import Held as Held
from flute_sync.reconciliation import Known as Known
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State

SETTLED: Final = frozenset({State.COMPLETED, State.ON_HOLD, State.CANCELLED})
"""Nothing more happens to such a study by itself."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the work on one study stands.

    ``generation`` is raised by each new fact. ``was_written`` tells whether the last look at FHIR
    led to a write; None where there was none yet.
    """

    state: State
    code: str | None
    generation: int
    attempts: int
    next_attempt_at: datetime | None
    was_written: bool | None

    @property
    def is_settled(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in SETTLED


_STANDINGS: Final = (
    "SELECT study_instance_uid, state, code, generation, attempts, next_attempt_at,"
    " (SELECT event.event FROM event WHERE event.study_id = study.id"
    " AND event.event IN ('study.synced', 'study.unchanged') ORDER BY event.id DESC LIMIT 1)"
    " FROM study WHERE study_instance_uid IN (?)"
)
_AT_REST: Final = f"{_STANDINGS} AND state NOT IN ('received', 'ready', 'in-progress')"
_KNOWN: Final = (
    "SELECT study.id, study_instance_uid, state, code, series_count + stated_series,"
    " instance_count + stated_instances,"
    " resource_id, version_id, patient_reference FROM study"
    " LEFT JOIN fhir_study ON fhir_study.study_id = study.id"
)
_ARCHIVES: Final = (
    "SELECT study_id, archive.name, series_count, instance_count, fingerprints, absences"
    " FROM study_archive JOIN archive ON archive.id = study_archive.archive_id"
    " WHERE study_id IN (?)"
)


def standings(
    connection: Connection, uids: Collection[StudyInstanceUID], *, at_rest: bool = False
) -> dict[StudyInstanceUID, Standing]:
    """Return how these studies stand; those that are not known are left out.

    Parameters
    ----------
    at_rest
        Whether to leave out those, too, of which a step is to come or in hand.
    """
    driver, statement = Driver(connection), _AT_REST if at_rest else _STANDINGS
    return {
        row[0]: Standing(
            State(row[1]),
            row[2],
            row[3],
            row[4],
            maybe_from_stored(row[5]),
            None if row[6] is None else row[6] == Event.STUDY_SYNCED.value,
        )
        for part in chunks(sorted(uids))
        for row in driver.rows(statement, list(part))
    }


def census(connection: Connection, after: int, limit: int) -> tuple[list[Known], int]:
    """Return some studies in the order of their ids, and the last of these ids.

    Parameters
    ----------
    after
        The id that the last call returned; 0 to begin.
    """
    driver = Driver(connection)
    statement = f"{_KNOWN} WHERE study.id > ? ORDER BY study.id LIMIT ?"
    rows = driver.rows(statement, after, limit)
    return _known(driver, rows), rows[-1][0] if rows else after


def known(connection: Connection, uids: Sequence[StudyInstanceUID]) -> list[Known]:
    """Return these studies; those that are not known are left out."""
    driver = Driver(connection)
    statement = f"{_KNOWN} WHERE study_instance_uid IN (?)"
    return _known(driver, [row for part in chunks(uids) for row in driver.rows(statement, [*part])])


def _known(driver: Driver, rows: Sequence[Row]) -> list[Known]:
    archives: dict[int, dict[str, Held]] = {row[0]: {} for row in rows}
    for part in chunks(list(archives)):
        for study_id, name, series, instances, prints, absences in driver.rows(_ARCHIVES, [*part]):
            said: dict[str, Any] = json.loads(prints)
            archives[study_id][name] = Held(series, instances, said.get(OWN_READ), absences > 0)
    return [_as_known(row, archives[row[0]]) for row in rows]


def _as_known(row: Row, archives: dict[str, Held]) -> Known:
    _, uid, state, code, series, instances, resource_id, version_id, patient = row
    return Known(
        study_instance_uid=uid,
        state=State(state),
        code=code,
        series=series,
        instances=instances,
        resource_id=resource_id,
        version_id=version_id,
        patient_reference=patient,
        archives=archives,
    )
