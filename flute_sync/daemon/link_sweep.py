"""Judges the links of all patients, slowly and at night; lets those be written that differ.

What no watch can see is found here: a deletion where the server tells no history, a link that
somebody took from a study, whatever was missed. The ledger remembers how far it came.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from flute_sync.daemon.linking import Difference, Linker
from flute_sync.daemon.pauses import FHIR_PAUSES, Pause
from flute_sync.daemon.stats import Stats
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.hours import is_open, opened
from flute_sync.intake import Cursor
from flute_sync.ledger import Ledger
from flute_sync.ledger_errors import LedgerBusy, LedgerCorrupt, LedgerUnavailable
from flute_sync.link_settings import LinkSettings

log = logging.getLogger(__name__)

SOURCE: Final = "link_sweep"
TARGET: Final = "fhir"
LOOK: Final = timedelta(minutes=1)
PORTION: Final = 100
_AHEAD: Final = 2
_DONE: Final = "done"
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_STOPPING: Final = (*FHIR_PAUSES, LedgerBusy, LedgerCorrupt, LedgerUnavailable)
"""What is not the fault of one patient."""


@dataclass(frozen=True, slots=True)
class Review:
    """One patient, judged: which of his studies differ, or why he could not be."""

    patient: str
    differences: tuple[Difference, ...] = ()
    error: FluteSyncError | None = None


def review(linker: Linker, patients: Iterable[str], at_once: int) -> Iterator[Review]:
    """Judge the links of patients, several at once; yield them in the order given.

    Nothing is written. The FHIR server is asked ahead, but not far: whoever takes the results
    slowly is not overrun.

    Parameters
    ----------
    patients
        ``Patient/ID``.

    Raises
    ------
    FluteSyncError
        When the FHIR server is down or refuses us, or the ledger does not do its part.
    """
    waiting: deque[tuple[str, Future[list[Difference]]]] = deque()
    with ThreadPoolExecutor(at_once, thread_name_prefix=SOURCE) as pool:
        try:
            for patient in patients:
                waiting.append((patient, pool.submit(linker.review, patient)))
                if len(waiting) >= at_once * _AHEAD:
                    yield _reviewed(*waiting.popleft())
            while waiting:
                yield _reviewed(*waiting.popleft())
        finally:
            for _, one in waiting:
                one.cancel()


def _reviewed(patient: str, judged: Future[list[Difference]]) -> Review:
    try:
        return Review(patient, tuple(judged.result()))
    except _STOPPING:
        raise
    except FluteSyncError as error:
        return Review(patient, error=error)


@dataclass(frozen=True, slots=True)
class _Round:
    """A sweep: when it began, after whom it goes on, and what it came to so far."""

    started_at: datetime
    after: str = ""
    studies: int = 0
    failed: int = 0

    @classmethod
    def read(cls, cursor: str | None) -> "_Round":
        """Read what `written` wrote; nothing is a sweep of long ago that has ended."""
        if cursor is None:
            return cls(_LONG_AGO, _DONE)
        started, studies, failed, after = cursor.split(" ", 3)
        return cls(datetime.fromisoformat(started), after, int(studies), int(failed))

    @property
    def written(self) -> Cursor:
        """How the ledger remembers it."""
        counts = f"{self.studies} {self.failed}"
        return Cursor(SOURCE, TARGET, f"{self.started_at.isoformat()} {counts} {self.after}")


@dataclass
class LinkSweep:
    """Sweeps; each step takes some patients.

    Parameters
    ----------
    linker, settings
        Asked anew, since a reload may change them.
    zone
        Of ``links.sweep_hours``; UTC where none is given.
    pause
        While the FHIR server is down nothing is asked.
    """

    ledger: Ledger
    linker: Callable[[], Linker]
    settings: Callable[[], LinkSettings]
    zone: Callable[[], ZoneInfo | None]
    pause: Pause
    stats: Stats
    interval: timedelta = timedelta()
    """How long to wait until the next step."""

    def step(self, now: datetime, stop: Callable[[], bool]) -> None:
        """Go some patients further, where a sweep is due or in hand.

        Raises
        ------
        FluteSyncError
            When the FHIR server or the ledger does not do its part; the next step does what this
            one could not.
        """
        self.interval = LOOK
        settings = self.settings()
        local = now.astimezone(self.zone() or UTC)
        idle = not (settings.enabled and settings.sweep) or self.pause.remaining(now) > timedelta()
        if idle or not is_open(settings.sweep_hours, local.time()):
            return
        sweep = _Round.read(self.ledger.cursor(SOURCE, TARGET))
        if sweep.after == _DONE:
            if sweep.started_at >= opened(settings.sweep_hours, local):
                return
            sweep = _Round(now)
        patients = self.ledger.links.patients(sweep.after, PORTION)
        if patients:
            self._go_on(sweep, patients, settings, stop)
        else:
            self._end(sweep, now)

    def _go_on(
        self,
        sweep: _Round,
        patients: list[str],
        settings: LinkSettings,
        stop: Callable[[], bool],
    ) -> None:
        began, begun = time.monotonic(), sweep
        failures: list[FluteSyncError] = []
        try:
            for reviewed in review(self.linker(), patients, settings.sweep_requests):
                sweep = self._take(sweep, reviewed)
                if reviewed.error is not None:
                    failures.append(reviewed.error)
                if stop():
                    break
            if len(failures) == len(patients) > 1:
                sweep = begun
                raise failures[-1]  # it is not the patients who are at fault
        finally:
            self.ledger.set_cursor(sweep.written)
        self._say(failures)
        least = len(patients) / settings.sweep_rate
        self.interval = timedelta(seconds=max(0.0, least - (time.monotonic() - began)))

    def _say(self, failures: list[FluteSyncError]) -> None:
        for error in {one.code: one for one in failures}.values():
            log.warning(
                error.sentence,
                extra=fields(
                    Event.LINKS_UNREAD,
                    source=SOURCE,
                    code=error.code,
                    hint=error.hint,
                    failed=sum(one.code == error.code for one in failures),
                ),
            )

    def _take(self, sweep: _Round, reviewed: Review) -> _Round:
        if reviewed.error is not None:
            self.stats.patient_swept("failed")
        elif reviewed.differences:
            self.stats.patient_swept("differs")
            self.ledger.links.judge_again([reviewed.patient])
        else:
            self.stats.patient_swept("same")
        return replace(
            sweep,
            after=reviewed.patient,
            studies=sweep.studies + len(reviewed.differences),
            failed=sweep.failed + int(reviewed.error is not None),
        )

    def _end(self, sweep: _Round, now: datetime) -> None:
        self.ledger.set_cursor(replace(sweep, after=_DONE).written)
        self.stats.sweep_ended(now)
        log.info(
            "The links of all patients were judged.",
            extra=fields(
                Event.LINKS_SWEPT,
                source=SOURCE,
                studies=sweep.studies,
                failed=sweep.failed,
                duration_seconds=round((now - sweep.started_at).total_seconds(), 1),
            ),
        )
