"""The workers: claim a study, take its one step, settle it, say what was decided.

Idle workers queue behind one scout that watches the ledger, so that an idle daemon asks it a few
times a second whatever the number of workers.
"""

import itertools
import logging
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from flute_sync.daemon.outcomes import defect, failed, handed_back, hold
from flute_sync.daemon.pauses import ARCHIVE_PAUSES, FHIR_PAUSES, ArchivePauses, Pause
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.daemon.stats import Stats
from flute_sync.daemon.supervisor import Pulse, whereabouts
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.ledger import Claim, Ledger, Settlement
from flute_sync.ledger_errors import LeaseLost
from flute_sync.retry import decide
from flute_sync.task import TaskEvent

log = logging.getLogger(__name__)

POLL = timedelta(milliseconds=400)
"""How soon a change made by another process is seen."""

SHORTEST_NAP = timedelta(milliseconds=5)
LONGEST_NAP = timedelta(seconds=1)


def _this_process() -> str:
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@dataclass
class Workers:
    """Shared by all worker threads of this process.

    Parameters
    ----------
    owner
        The name of this process. Each claim has an owner of its own: what nobody has in hand any
        more, because it could not be settled, must not be renewed with the others.
    pipeline
        Asked before each step, so that a reload takes effect.
    """

    ledger: Ledger
    pipeline: Callable[[], Pipeline]
    fhir_pause: Pause
    archive_pauses: ArchivePauses
    stats: Stats
    owner: str = field(default_factory=_this_process)
    sentence: str = "Nothing to do."
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    _scout: threading.Lock = field(default_factory=threading.Lock)
    _ledger_pause: Pause = field(default_factory=lambda: Pause("ledger"))
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _in_hand: set[str] = field(default_factory=set)

    def run(self, pulse: Pulse) -> None:
        """Work until the pulse says stop."""
        while not pulse.stopping:
            claim = self._next(pulse)
            if claim is not None:
                self._in_hand.add(claim.owner)
                try:
                    self._work(claim)
                finally:
                    self._in_hand.discard(claim.owner)
            pulse.beat()

    def renew(self) -> None:
        """Prolong the leases of the studies in hand.

        Raises
        ------
        FluteSyncError
            When the ledger does not do its part.
        """
        for owner in list(self._in_hand):
            self.ledger.renew(owner)

    def release(self) -> None:
        """Hand back the studies in hand.

        Raises
        ------
        FluteSyncError
            When the ledger does not do its part; the leases run out by themselves.
        """
        for owner in list(self._in_hand):
            self.ledger.release(owner)

    def _next(self, pulse: Pulse) -> Claim | None:
        """Wait, as the one scout, until a study may be worked on."""
        while not self._scout.acquire(timeout=1.0):
            pulse.beat()
            if pulse.stopping:
                return None
        try:
            claim = None
            while claim is None and not pulse.stopping:
                claim, wait = self._look(self.clock())
                if claim is None:
                    pulse.wait(wait)
            return claim
        finally:
            self._scout.release()

    def _look(self, now: datetime) -> tuple[Claim | None, timedelta]:
        """Claim a study that is due, or tell how long to wait before looking again."""
        paused = max(self.fhir_pause.remaining(now), self._ledger_pause.remaining(now))
        if paused:
            return None, min(paused, LONGEST_NAP)
        claim = None
        try:
            due = self.ledger.next_due()
            if due is not None and due <= now:
                claim = self.ledger.claim(f"{self.owner}/{next(self._numbers)}")
        except FluteSyncError as error:
            self._ledger_pause.begin(error, now)
            return None, SHORTEST_NAP
        self._ledger_pause.end()
        return claim, POLL if due is None else min(POLL, max(due - now, SHORTEST_NAP))

    def _work(self, claim: Claim) -> None:
        began = time.monotonic()
        try:
            settlement = self.pipeline().step(claim)
        except FluteSyncError as error:
            settlement = self._failed(claim, error)
        except Exception as error:  # noqa: BLE001  a defect must hold one study, not all of them
            log.error(
                "A defect of flute-sync stopped the step of one study.",
                extra=fields(
                    Event.DAEMON_FAILED,
                    study_instance_uid=claim.study_instance_uid,
                    error=whereabouts(error),
                ),
            )
            settlement = defect(error)
        else:
            if settlement.event is TaskEvent.SYNC:
                self.fhir_pause.end()
        self._settle(claim, settlement, time.monotonic() - began)

    def _failed(self, claim: Claim, error: FluteSyncError) -> Settlement:
        now = self.clock()
        if isinstance(error, FHIR_PAUSES):
            return handed_back(error, self.fhir_pause.begin(error, now))
        if isinstance(error, ARCHIVE_PAUSES):
            return handed_back(error, self.archive_pauses.until(now))
        decision = decide(
            error,
            claim.attempts + 1,
            now,
            self.pipeline().retry,
            random.random(),
        )
        if decision.at is None:
            return hold(error)
        return failed(error, decision.at)

    def _settle(self, claim: Claim, settlement: Settlement, seconds: float) -> None:
        try:
            state = self.ledger.settle(claim, settlement)
        except FluteSyncError as error:
            # The lease runs out and the study is taken up again; every step may be repeated.
            log.warning(
                error.sentence,
                extra=fields(
                    Event.LEDGER_FAILED,
                    study_instance_uid=claim.study_instance_uid,
                    code=error.code,
                    hint=error.hint,
                ),
            )
            if not isinstance(error, LeaseLost):
                self._ledger_pause.begin(error, self.clock())
            return
        self.sentence = settlement.sentence
        self.stats.step(settlement.log_event, seconds)
        log.log(
            logging.WARNING if settlement.code else logging.INFO,
            settlement.sentence,
            extra=fields(
                settlement.log_event,
                study_instance_uid=None if settlement.erase else claim.study_instance_uid,
                state=state.value,
                code=settlement.code,
                next_attempt_at=settlement.next_attempt_at,
                duration_seconds=seconds,
                reference=f"ImagingStudy/{settlement.fhir.resource_id}"
                if settlement.fhir
                else None,
                version=settlement.fhir.version_id if settlement.fhir else None,
                attempt=claim.attempts + 1,
            ),
        )
