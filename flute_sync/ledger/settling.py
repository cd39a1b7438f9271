"""The end of a step: what it came to, and what follows from it."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, select, update

from flute_sync.completeness import StudySettings, due_at
from flute_sync.ledger import links, trail
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.forgetting import forget_ids
from flute_sync.ledger.link_moves import Move
from flute_sync.ledger.pruning import prune
from flute_sync.ledger.steps import forget_people
from flute_sync.ledger.tables import fhir_target, study
from flute_sync.ledger.values import Claim, FhirRow, Settlement
from flute_sync.ledger.work import CONFIRMABLE, lock_held
from flute_sync.ledger_errors import LedgerTargetChanged
from flute_sync.task import State, TaskEvent, after

_WAITING: Final = (State.ON_HOLD, State.CANCELLED, State.COMPLETED)
_SETTLE: Final = update(study).where(study.c.id == bindparam("of"))
_FORGET_KEYS: Final = "DELETE FROM identity_key WHERE study_id = ?"
_ADD_KEY: Final = "INSERT INTO identity_key (study_id, key) VALUES (?, ?)"
_BOUND: Final = select(fhir_target.c.id)
_KEEP: Final = (
    "INSERT INTO fhir_study (study_id, target_id, resource_id, version_id, digest)"
    " VALUES (?, ?, ?, ?, ?) ON CONFLICT (study_id) DO UPDATE SET target_id = excluded.target_id,"
    " resource_id = excluded.resource_id, version_id = excluded.version_id,"
    " digest = excluded.digest"
)


@dataclass(frozen=True, slots=True)
class Settler:
    """Ends steps.

    Parameters
    ----------
    target_id
        The FHIR server this process writes to; None before one is bound.
    """

    connection: Connection
    settings: StudySettings
    now: datetime
    target_id: int | None
    events_kept: int

    def settle(self, claimed: Claim, settlement: Settlement) -> State:
        """End a step and return the state that follows."""
        row = lock_held(self.connection, claimed)
        if settlement.erase:
            return self._erase(row)
        superseded = row.generation != claimed.generation
        move = Move.begin(self.connection, row.id, settlement.links)
        if not links.settle(self.connection, row, settlement.links, self.now) or move.is_over:
            settlement = replace(settlement, event=TaskEvent.HAND_BACK, next_attempt_at=None)
        event = TaskEvent.SUPERSEDE if superseded else settlement.event
        state = after(State(row.state), event)
        confirmed = _confirmed(row.confirmed, claimed, settlement.event)
        values = {
            "of": row.id,
            "state": state.value,
            "lease_owner": None,
            "attempts": _attempts(row.attempts, settlement.event),
            "confirmed": confirmed,
            "confirmed_identity": _held_for(row, settlement, confirmed),
            "next_attempt_at": self._next_attempt(row, state, settlement),
            "unsynced_since": _unsynced(row, state, settlement.event),
            "news_since": row.news_since if superseded else None,
            "code": settlement.code,
            "sentence": settlement.sentence,
            "waiting_for": settlement.waiting_for if state in _WAITING else None,
            "patient_reference": settlement.patient_reference or row.patient_reference,
            "rules": settlement.rules or row.rules,
            "identity": settlement.identity or row.identity,
        }
        self.connection.execute(_SETTLE, values)
        if settlement.identity or settlement.waiting_for:
            self._keep_keys(row.id, settlement.keys)
        if settlement.fhir is not None:
            self._keep_fhir(row.id, settlement.fhir)
        if settlement.prune and not superseded:
            prune(self.connection, row.id)
        has_content = bool(row.instance_count or row.stated_series)
        if claimed.confirmed and event is TaskEvent.SYNC and has_content:
            forget_people(self.connection, row.id)  # a person said that the archive is right
        move.end(self.now)
        entry = trail.Entry(
            row.id, self.now, settlement.log_event, settlement.sentence, settlement.code
        )
        trail.append(Driver(self.connection), [entry], kept=self.events_kept)
        return state

    def _erase(self, row: Row[Any]) -> State:
        """Leave nothing of a study of an erased patient but that it is not taken again."""
        forget_ids(Driver(self.connection), [row.id])
        return State.CANCELLED

    def _next_attempt(self, row: Row[Any], state: State, settlement: Settlement) -> datetime | None:
        if state is State.RECEIVED:
            return due_at(row.news_since or row.received_at, row.received_at, self.settings)
        if state in (State.READY, State.FAILED):
            return settlement.next_attempt_at or self.now
        return None

    def _keep_keys(self, study_id: int, keys: tuple[str, ...]) -> None:
        driver = Driver(self.connection)
        driver.run(_FORGET_KEYS, [(study_id,)])
        driver.run(_ADD_KEY, [(study_id, key) for key in sorted(set(keys))])

    def _keep_fhir(self, study_id: int, row: FhirRow) -> None:
        bound = self.connection.scalar(_BOUND)
        if bound is None or bound != self.target_id:
            raise LedgerTargetChanged("another process bound it to another server")
        values = (study_id, bound, row.resource_id, row.version_id, row.digest)
        Driver(self.connection).run(_KEEP, [values])


def _attempts(attempts: int, event: TaskEvent) -> int:
    match event:
        case TaskEvent.FAIL:
            return attempts + 1
        case TaskEvent.HAND_BACK:
            return attempts
        case _:
            return 0


def _confirmed(confirmed: int | None, claimed: Claim, event: TaskEvent) -> int | None:
    """Forget a person's confirmation once a step that knew of it came to a conclusion."""
    concluded = event not in (TaskEvent.FAIL, TaskEvent.HAND_BACK)
    if confirmed is None or (concluded and confirmed <= claimed.generation):
        return None
    return confirmed


def _held_for(row: Row[Any], settlement: Settlement, confirmed: int | None) -> str | None:
    """Return the key of the Patient whom a person confirms by asking again, or has confirmed.

    It outlives news of the study, which end the waiting for a Patient: a confirmation that comes
    while the study is read anew means whom its last hold named.
    """
    goes_on = settlement.event in (TaskEvent.FAIL, TaskEvent.HAND_BACK)
    if confirmed is not None or goes_on:
        held_for: str | None = row.confirmed_identity
        return held_for
    return settlement.waiting_for if settlement.code in CONFIRMABLE else None


def _unsynced(row: Row[Any], state: State, event: TaskEvent) -> datetime | None:
    """Say since when FHIR lacks something; after a write that came too early, since the news."""
    since: datetime | None = row.unsynced_since
    if state in (State.COMPLETED, State.CANCELLED):
        since = None
    elif state is State.RECEIVED and event in (TaskEvent.SYNC, TaskEvent.LEAVE_OUT):
        since = row.news_since or row.received_at
    return since
