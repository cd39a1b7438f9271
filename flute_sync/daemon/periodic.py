"""A step that is repeated: pollers, watches, housekeeping.

A failure is said once, not once a second; the wait doubles while it lasts; the recovery is said.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from flute_sync.daemon.supervisor import Pulse
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields

log = logging.getLogger(__name__)

LONGEST_WAIT = timedelta(minutes=1)


@dataclass
class Periodic:
    """Calls ``step(now, stop)`` every ``interval`` until told to stop.

    Parameters
    ----------
    name
        Under which name failures and recoveries are logged.
    interval
        Asked before each wait, so that a reload takes effect.
    step
        One round of the work; it asks ``stop()`` between requests.
    archive
        Whom it asks, where it is one of the archives.
    longest_wait
        To which the wait grows while it fails; never below the interval.
    """

    name: str
    interval: Callable[[], timedelta]
    step: Callable[[datetime, Callable[[], bool]], None]
    archive: str | None = None
    longest_wait: timedelta = LONGEST_WAIT
    _failures: int = 0
    _failing_code: str | None = None

    def run(self, pulse: Pulse) -> None:
        """Repeat until the pulse says stop."""
        while not pulse.stopping:
            pulse.beat()
            if pulse.wait(self._once(pulse.asked)):
                return

    def _once(self, stop: Callable[[], bool]) -> timedelta:
        try:
            self.step(datetime.now(UTC), stop)
        except FluteSyncError as error:
            self._failures += 1
            self._say_failed(error)
            interval = self.interval()
            longest = max(interval, self.longest_wait)
            wait = min(
                max(interval, timedelta(seconds=1)) * (1 << min(self._failures, 16)), longest
            )
            return max(wait, error.retry_after or timedelta())
        if self._failures:
            log.info(
                "The source answers again.",
                extra=fields(
                    Event.SOURCE_RECOVERED,
                    source=self.name,
                    archive=self.archive,
                    attempt=self._failures,
                ),
            )
        self._failures, self._failing_code = 0, None
        return self.interval()

    def _say_failed(self, error: FluteSyncError) -> None:
        if error.code == self._failing_code:
            return
        self._failing_code = error.code
        log.warning(
            error.sentence,
            extra=fields(
                Event.SOURCE_FAILED,
                source=self.name,
                archive=self.archive,
                code=error.code,
                hint=error.hint,
            ),
        )
