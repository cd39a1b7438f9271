"""Links that move to another patient: the study that loses one is written before another gains it.

A judgement sees the studies of one patient. Of those of others the ledger is asked: a link is
theirs until a step of theirs ended without it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from sqlalchemy import Connection

from flute_sync.ledger.driver import Driver
from flute_sync.ledger.links import keep, make_some_ready
from flute_sync.ledger.rows import chunks
from flute_sync.ledger.values import HeldLink, LinkNews, LinkRow
from flute_sync.study import StudyInstanceUID

# What is out of scope stays as it is; what was never written and rests has nothing to give up.
_HELD: Final = (
    "SELECT reference, study_instance_uid, resource_id FROM link"
    " JOIN study ON study.id = link.study_id"
    " LEFT JOIN fhir_study ON fhir_study.study_id = study.id"
    " WHERE ours AND state <> 'cancelled' AND (resource_id IS NOT NULL OR state <> 'on-hold')"
)
_HELD_BY_OTHERS: Final = f"{_HELD} AND reference IN (?) AND study.id <> ? ORDER BY study.id"
_HELD_BY: Final = f"{_HELD} AND study.id = ?"
# The studies of its own patient were judged together with it.
_WAITING: Final = (
    "SELECT DISTINCT of.study_instance_uid FROM link JOIN study AS of ON of.id = link.study_id"
    " JOIN study AS giving ON giving.id <> of.id"
    " WHERE reference IN (?) AND NOT taken AND giving.id = ?"
    " AND (giving.patient_reference IS NULL OR giving.patient_reference <> of.patient_reference)"
)


def take(
    driver: Driver,
    study_id: int,
    rows: Collection[LinkRow],
    gains: Collection[str],
    beside: Collection[StudyInstanceUID],
) -> tuple[HeldLink, ...]:
    """Keep which links are going to be ours, and return those that other studies have.

    Parameters
    ----------
    gains
        Further links to ask for.
    beside
        Studies that were judged together with this one.
    """
    references = {row.reference for row in rows}
    driver.lock(references)
    held = tuple(
        one
        for one in _held_by_others(driver, study_id, references.union(gains))
        if one.study_instance_uid not in beside
    )
    taken = {one.reference for one in held}
    keep(driver, study_id, [row for row in rows if row.reference not in taken])
    return held


@dataclass(frozen=True, slots=True)
class Move:
    """What the end of a step means for links that move between patients.

    Whoever takes, awaits or gives up a link locks it: of two steps that end at once, the later one
    sees what the earlier one did.

    Parameters
    ----------
    had
        What the study had when its step ended.
    is_over
        Whether something that the step could not have was given up since.
    """

    connection: Connection
    study_id: int
    had: frozenset[str]
    is_over: bool

    @classmethod
    def begin(cls, connection: Connection, study_id: int, news: LinkNews | None) -> Self:
        """Look before the judgement is kept."""
        driver = Driver(connection)
        awaited = frozenset(news.awaited) if news is not None else frozenset()
        had = _held_by(driver, study_id)
        references = {one.reference for one in awaited}
        driver.lock(references | had)
        is_over = not awaited <= {*_held_by_others(driver, study_id, references)}
        return cls(connection, study_id, had, is_over)

    def end(self, now: datetime) -> None:
        """Let studies of other patients be judged again that could not have what is given up."""
        if not self.had:
            return
        driver = Driver(self.connection)
        given_up = self.had - _held_by(driver, self.study_id)
        waiting = [
            uid
            for part in chunks(sorted(given_up))
            for (uid,) in driver.rows(_WAITING, [*part], self.study_id)
        ]
        make_some_ready(self.connection, waiting, now)


def _held_by_others(driver: Driver, study_id: int, references: Iterable[str]) -> list[HeldLink]:
    return [
        HeldLink(*one)
        for part in chunks(sorted(set(references)))
        for one in driver.rows(_HELD_BY_OTHERS, [*part], study_id)
    ]


def _held_by(driver: Driver, study_id: int) -> frozenset[str]:
    return frozenset(reference for reference, *_ in driver.rows(_HELD_BY, study_id))
