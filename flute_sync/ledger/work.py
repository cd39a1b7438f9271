"""Work on one study at a time: claim, renew, hand back; wake what waits. `settling` ends it.

The states change by the table in `flute_sync.task`, also where one statement changes many rows.
"""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    Case,
    ColumnElement,
    Connection,
    Row,
    Update,
    and_,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    update,
)

from flute_sync.events import Event
from flute_sync.fhir_errors import FhirGone
from flute_sync.ledger import trail
from flute_sync.ledger.columns import UtcTime
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.rows import chunks
from flute_sync.ledger.tables import (
    archive,
    fhir_study,
    foreign_note,
    identity_key,
    study,
    study_archive,
)
from flute_sync.ledger.values import Absence, Claim, FhirRow
from flute_sync.ledger_errors import LeaseLost, StudyUnknown
from flute_sync.patient_errors import PatientChanged, PatientGone, PatientStepConflict
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State, TaskEvent, before

_HELD: Final = study.c.state == State.IN_PROGRESS.value
CONFIRMABLE: Final = frozenset(
    {PatientChanged.code, PatientGone.code, PatientStepConflict.code, FhirGone.code}
)
"""What a person confirms by asking for another attempt; other studies are only read anew."""
_NOT_WAITING: Final = {"lease_owner": None, "waiting_for": None}


def _next_state(event: TaskEvent) -> Case[str]:
    table = {state.value: to.value for state, to in before(event).items()}
    return case(table, value=study.c.state)


def _may(event: TaskEvent) -> ColumnElement[bool]:
    states = [state.value for state, to in before(event).items() if to is State.READY]
    return study.c.state.in_(states)


def make_ready(event: TaskEvent, now: datetime) -> Update:
    """What is ready may be claimed at once; FHIR owes it since now unless it did before."""
    return (
        update(study)
        .where(_may(event))
        .values(
            state=_next_state(event),
            next_attempt_at=now,
            unsynced_since=_since(study.c.unsynced_since, now),
            **_NOT_WAITING,
        )
    )


def _since(column: ColumnElement[datetime], now: datetime) -> ColumnElement[datetime]:
    return func.coalesce(column, literal(now, UtcTime()))


# -- claim ---------------------------------------------------------------------------------------


_NEXT_DUE: Final = select(func.min(study.c.next_attempt_at)).where(
    study.c.next_attempt_at.is_not(None)
)


def next_due(connection: Connection) -> datetime | None:
    """Return when the next study may be claimed, or a lease ends."""
    due: datetime | None = connection.scalar(_NEXT_DUE)
    return due


_CLAIM: Final = (
    update(study)
    .where(
        study.c.id
        == select(study.c.id)
        .where(study.c.next_attempt_at <= bindparam("now", type_=UtcTime()))
        .order_by(study.c.next_attempt_at)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    .values(
        state=_next_state(TaskEvent.CLAIM),
        lease_owner=bindparam("owner"),
        next_attempt_at=bindparam("until", type_=UtcTime()),
        news_since=None,
    )
    .returning(
        study,
        select(foreign_note.c.study_id)
        .where(foreign_note.c.study_id == study.c.id)
        .exists()
        .label("has_notes"),
    )
)
_STANDS: Final = (
    select(study_archive, archive.c.name)
    .join(archive, archive.c.id == study_archive.c.archive_id)
    .where(study_archive.c.study_id == bindparam("of"))
    .order_by(archive.c.id)
)
_WRITTEN: Final = select(
    fhir_study.c.resource_id, fhir_study.c.version_id, fhir_study.c.digest
).where(fhir_study.c.study_id == bindparam("of"))


def claim(connection: Connection, owner: str, now: datetime, lease: timedelta) -> Claim | None:
    """Take the study that is due longest; a lease that ended is as good as none."""
    values = {"now": now, "owner": owner, "until": now + lease}
    row = connection.execute(_CLAIM, values).one_or_none()
    return None if row is None else _as_claim(connection, row)


def _as_claim(connection: Connection, row: Row[Any]) -> Claim:
    stands = connection.execute(_STANDS, {"of": row.id}).all()
    written = connection.execute(_WRITTEN, {"of": row.id}).one_or_none()
    return Claim(
        study_id=row.id,
        study_instance_uid=row.study_instance_uid,
        owner=row.lease_owner,
        generation=row.generation,
        attempts=row.attempts,
        reads_owed=tuple(stand.name for stand in stands if stand.read_owed is not None),
        unverified=tuple(stand.name for stand in stands if stand.unverified is not None),
        absences=tuple(
            Absence(stand.name, stand.absent_since, stand.absences)
            for stand in stands
            if stand.absences
        ),
        fhir=None if written is None else FhirRow(*written),
        patient_reference=row.patient_reference,
        confirmed=row.confirmed is not None,
        received_at=row.received_at,
        first_fact_at=row.unsynced_since,
        rules=row.rules,
        identity=row.identity,
        has_notes=bool(row.has_notes),
        confirmed_identity=row.confirmed_identity,
    )


def renew(connection: Connection, owner: str, until: datetime) -> int:
    """Prolong all leases of an owner and return how many they are."""
    held = update(study).where(study.c.lease_owner == owner, _HELD).values(next_attempt_at=until)
    return connection.execute(held).rowcount


def release(connection: Connection, owner: str, now: datetime) -> int:
    """Hand back all that an owner holds and return how much it was."""
    back = make_ready(TaskEvent.HAND_BACK, now).where(study.c.lease_owner == owner)
    return connection.execute(back).rowcount


_HOLD: Final = select(study).where(study.c.id == bindparam("of")).with_for_update()


def lock_held(connection: Connection, claimed: Claim) -> Row[Any]:
    """Lock the study's row for its holder.

    Raises
    ------
    LeaseLost
        When somebody else holds it, or nobody.
    """
    row = connection.execute(_HOLD, {"of": claimed.study_id}).one_or_none()
    if row is None or row.lease_owner != claimed.owner:
        raise LeaseLost(study_instance_uid=claimed.study_instance_uid)
    return row


# -- wake ----------------------------------------------------------------------------------------


def wake(connection: Connection, keys: Collection[str], now: datetime) -> int:
    """Make ready what waits for one of these Patients, or is of one; return how many that are."""
    woken = 0
    for part in chunks(sorted(set(keys))):
        waiting = or_(study.c.waiting_for.in_(part), study.c.patient_reference.in_(part))
        woken += _wake(connection, waiting, now)
        for ids in _named_by(connection, part):
            several = and_(study.c.id.in_(ids), study.c.waiting_for.is_not(None))
            woken += _wake(connection, several, now)
    return woken


def _wake(connection: Connection, waiting: ColumnElement[bool], now: datetime) -> int:
    _owe_reads_of_pruned(connection, waiting)
    return connection.execute(make_ready(TaskEvent.WAKE, now).where(waiting)).rowcount


def wake_identified(connection: Connection, keys: Collection[str], now: datetime) -> int:
    """Make ready what was written by one of these identifiers; return how many that are."""
    return sum(
        connection.execute(make_ready(TaskEvent.WAKE, now).where(known, ~study.c.pruned)).rowcount
        for part in chunks(sorted(set(keys)))
        for known in (
            study.c.identity.in_(part),
            *(study.c.id.in_(ids) for ids in _named_by(connection, part)),
        )
    )


def _named_by(connection: Connection, keys: Sequence[str]) -> Iterator[Sequence[int]]:
    """Yield the ids of studies of which one of several identifiers is among these.

    They are looked up first: within the other conditions they would have all studies gone through.
    """
    named = select(identity_key.c.study_id).where(identity_key.c.key.in_(keys)).distinct()
    return chunks(connection.scalars(named).all())


def judge_again(connection: Connection, uids: Collection[StudyInstanceUID], now: datetime) -> None:
    """Make studies ready that rest; a step in hand is taken again after it ends."""
    for part in chunks(sorted(uids)):
        these = study.c.study_instance_uid.in_(part)
        connection.execute(update(study).where(these, _HELD).values(**raised(now)))
        connection.execute(make_ready(TaskEvent.WAKE, now).where(these))


def rejudge(connection: Connection, rules: str, now: datetime) -> int:
    """Make ready what other rules judged; a step in hand is taken again after it ends."""
    others = and_(study.c.rules.is_not(None), study.c.rules != rules)
    _owe_reads_of_pruned(connection, others)
    # What a step in hand goes by is not known before it ends, least of all at a first step.
    connection.execute(update(study).where(_HELD).values(**raised(now)))
    return connection.execute(make_ready(TaskEvent.REJUDGE, now).where(others)).rowcount


def _owe_reads_of_pruned(connection: Connection, chosen: ColumnElement[bool]) -> None:
    """Let the archives be read again for those of which only a minimal row is left."""
    pruned = select(study.c.id).where(chosen, study.c.pruned)
    connection.execute(
        update(study_archive)
        .where(study_archive.c.study_id.in_(pruned))
        .values(
            read_owed=select(study.c.generation)
            .where(study.c.id == study_archive.c.study_id)
            .scalar_subquery()
        )
    )


def raised(now: datetime) -> dict[str, object]:
    """What a new fact about a study changes of it."""
    return {
        "generation": study.c.generation + 1,
        "news_since": _since(study.c.news_since, now),
    }


def replay(connection: Connection, uid: StudyInstanceUID, now: datetime, events_kept: int) -> None:
    """Make a study ready because a person asks for it, and read its archives again.

    Where the study is held for a decision that only a person can take, this is the decision: on
    the Patient who was named then, and on no other.

    Raises
    ------
    StudyUnknown
    """
    row = connection.execute(
        select(study).where(study.c.study_instance_uid == uid).with_for_update()
    ).one_or_none()
    if row is None:
        raise StudyUnknown(study_instance_uid=uid)
    generation = row.generation + 1
    confirms = row.code in CONFIRMABLE or row.confirmed is not None
    connection.execute(
        update(study_archive).where(study_archive.c.study_id == row.id).values(read_owed=generation)
    )
    connection.execute(
        update(study)
        .where(study.c.id == row.id)
        .values(
            **raised(now),
            confirmed=generation if confirms else None,
            confirmed_identity=row.confirmed_identity if confirms else None,
        )
    )
    connection.execute(make_ready(TaskEvent.REPLAY, now).where(study.c.id == row.id, ~_HELD))
    sentence = "A person asked for another attempt."
    trail.append(
        Driver(connection),
        [trail.Entry(row.id, now, Event.STUDY_REPLAYED, sentence)],
        kept=events_kept,
    )
