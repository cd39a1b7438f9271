"""Erasing a patient: durable first that nothing is taken any more, then the servers, then our rows.

Killed at any point it is run again and goes on: what was about to be removed is in the ledger
before anything is, and what is gone already is no fault.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from flute_sync.daemon.audit import Audit
from flute_sync.daemon.erase_plan import Left, Plan, Planner
from flute_sync.erase_errors import EraseInHand, EraseUnfinished, EraseUnknown
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.fhir.past import expunge, past_of
from flute_sync.fhir.traces import Person
from flute_sync.fhir_errors import FhirCapabilityMissing
from flute_sync.ledger_errors import LedgerBusy, LedgerUnavailable

log = logging.getLogger(__name__)

LOOK: Final = timedelta(milliseconds=200)
LONGEST_WAIT: Final = timedelta(minutes=10)
"""How long steps in hand are waited for; none takes longer while servers answer."""

REFERRED: Final = "the server does not let it go: others refer to it, or it is refused"
HISTORY: Final = "deleted, but the server keeps {} versions: its administrator must remove them"
UNTOLD: Final = "deleted, but whether the server keeps versions of it is not told"
AGAIN: Final = "it came back meanwhile: run the same command again"
FILE: Final = "deleted rows may still stand in its files until it is written anew"
POSTGRESQL: Final = "deleted rows stand in its files until VACUUM, and in its WAL and backups"

Tell = Callable[[str], None]


@dataclass
class Result:
    """What came of it: ``deleted`` by resource type, ``remains`` for a person to see to."""

    studies: int = 0
    deleted: Counter[str] = field(default_factory=Counter)
    expunged: int = 0
    cleared: int = 0
    remains: list[Left] = field(default_factory=list)
    noted: list[Left] = field(default_factory=list)

    @property
    def counts(self) -> dict[str, Any]:
        """What was done, in numbers."""
        return {
            "ledger_studies": self.studies,
            "deleted": dict(sorted(self.deleted.items())),
            "expunged": self.expunged,
            "cleared": self.cleared,
            "remaining": len(self.remains),
        }


@dataclass(frozen=True)
class Eraser:
    """Erases patients, one at a time.

    Parameters
    ----------
    tell
        Told what is being done.
    """

    planner: Planner
    audit: Audit
    tell: Tell = lambda _words: None
    wait: Callable[[float], None] = time.sleep

    def erase(self, person: Person, why: str) -> Result:
        """Erase a patient.

        Raises
        ------
        AuditUnwritable
            Nothing was done.
        EraseInHand
            A step does not end; nothing is taken any more.
        FluteSyncError
            A server or the ledger does not do its part: to be run again.
        """
        plan = self.planner.plan(person)
        about = {"patient": self._mark(person), "why": why}
        self.audit.write("erase.begun", about | _planned(plan))
        result = Result()
        try:
            self._erase(plan, result)
        except FluteSyncError as error:
            self.audit.write("erase.interrupted", about | {"code": error.code} | result.counts)
            raise
        outcome = "remains" if result.remains else "complete"
        self.audit.write("erase.ended", about | {"outcome": outcome} | result.counts)
        log.info(
            "A patient was erased.",
            extra=fields(Event.PATIENT_ERASED, studies=result.studies, failed=len(result.remains)),
        )
        return result

    def _mark(self, person: Person) -> str:
        named = sorted(person.references) or sorted(map(str, person.keys))
        return self.planner.ledger.erasures.mark(named[0])

    def _erase(self, plan: Plan, result: Result) -> None:
        erasures = self.planner.ledger.erasures
        self.tell("from now on nothing of the patient is taken")
        number = erasures.begin(plan.marks, plan.references)
        self._quiet(plan)
        plan = self.planner.plan(plan.person, plan.uids)  # steps in hand may have written more
        erasures.begin(plan.marks, plan.references)
        self.tell("deleting on the FHIR server")
        kept = self._delete(plan, result)
        self.tell("deleting from the ledger")
        gone = [one for one in self.planner.earlier(plan.marks) if one not in kept]
        gone = self._absent(gone)
        result.studies = erasures.forget(number, plan.uids, plan.marks.references, gone)
        self.tell("removing what the FHIR server keeps of the past")
        self._expunge(gone, result)
        result.remains += plan.left
        result.noted += plan.referrers
        self._clean(result)
        self._look_again(plan, kept, result)
        erasures.finish(plan.marks, f"A patient was erased: {result.studies} studies.")

    def _quiet(self, plan: Plan) -> None:
        """Wait until nobody works on one of his studies; no step of them begins any more."""
        deadline = time.monotonic() + LONGEST_WAIT.total_seconds()
        held = self.planner.ledger.erasures.held
        while any(one.in_hand for one in held(plan.marks.references, (), plan.uids)):
            if time.monotonic() > deadline:
                raise EraseInHand()
            self.tell("waiting for a step in hand to end")
            self.wait(LOOK.total_seconds())

    def _delete(self, plan: Plan, result: Result) -> set[str]:
        """Delete on the FHIR server; return what it does not let go."""
        traces = self.planner.traces
        kept: set[str] = set()
        for resource, _ in plan.cleared:
            if traces.replace(resource):
                result.cleared += 1
        for group in plan.deleted:
            stays = traces.delete(group)
            kept.update(stays)
            result.deleted.update(one.partition("/")[0] for one in group if one not in stays)
            result.remains += [Left(one, REFERRED) for one in stays]
        return kept

    def _absent(self, references: list[str]) -> list[str]:
        """Return what is not there any more; what came to be of others meanwhile is let be."""
        there = [one for one in references if self.planner.traces.is_there(one)]
        self.planner.ledger.erasures.done_with(there)
        return [one for one in references if one not in there]

    def _expunge(self, gone: list[str], result: Result) -> None:
        fhir, erasures = self.planner.fhir, self.planner.ledger.erasures
        for reference in gone:
            try:
                if past_of(fhir, reference) is None or expunge(fhir, reference):
                    erasures.done_with([reference])
                    result.expunged += 1
                    continue
                past = past_of(fhir, reference)
            except FhirCapabilityMissing:
                result.remains.append(Left(reference, UNTOLD))
                continue
            versions = past.versions if past is not None else 0
            result.remains.append(Left(reference, HISTORY.format(versions)))

    def _look_again(self, plan: Plan, kept: set[str], result: Result) -> None:
        """Tell what is there again: a step that was stopped for long may have written late."""
        told = {one.what for one in result.remains} | kept
        for one in self.planner.plan(plan.person, plan.uids).references:
            if one not in told:
                result.remains.append(Left(one, AGAIN))

    def _clean(self, result: Result) -> None:
        self.tell("writing the ledger anew")
        try:
            if not self.planner.ledger.erasures.clean():
                result.noted.append(Left("the ledger", POSTGRESQL))
        except (LedgerBusy, LedgerUnavailable):
            result.remains.append(Left("the ledger", FILE))

    def allow_again(self, person: Person, why: str) -> int:
        """Take a patient again who consents again; return how many erasures that lifts.

        Raises
        ------
        EraseUnknown
            He was not erased.
        EraseUnfinished
            He is being erased.
        """
        erasures = self.planner.ledger.erasures
        found = erasures.of(self.planner.marks(person))
        if not found:
            raise EraseUnknown("he was not erased")
        if any(one.finished_at is None for one in found):
            raise EraseUnfinished()
        self.audit.write("erase.allowed", {"patient": self._mark(person), "why": why})
        erasures.lift([one.id for one in found])
        log.info("An erased patient is taken again.", extra=fields(Event.PATIENT_ALLOWED))
        return len(found)


def _planned(plan: Plan) -> dict[str, Any]:
    kinds = Counter(one.partition("/")[0] for one in plan.references)
    return {"studies": len(plan.uids), "planned": dict(sorted(kinds.items()))}
