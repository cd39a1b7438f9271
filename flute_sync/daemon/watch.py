"""Wakes the studies that wait for a Patient: one watch for all of them."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from flute_sync.daemon.pauses import Pause
from flute_sync.daemon.subject import wake_key
from flute_sync.events import Event, fields
from flute_sync.fhir.patient_watch import PatientWatch
from flute_sync.intake import Cursor
from flute_sync.ledger import Ledger

log = logging.getLogger(__name__)

SOURCE: Final = "patient_watch"
TARGET: Final = "fhir"
REPEAT: Final = timedelta(minutes=1)
"""How long a Patient that arrived goes on waking: a step may have looked just before it came and
begin to wait just after."""


@dataclass
class PatientAlarm:
    """Looks for new and changed Patients and wakes who waits for them.

    Parameters
    ----------
    pause
        While the FHIR server is down nothing is asked.
    system
        The site's own identifier system, as for `wake_key`.
    """

    ledger: Ledger
    watch: PatientWatch
    pause: Pause
    system: str
    _recent: dict[str, datetime] = field(default_factory=dict)

    def step(self, now: datetime, stop: Callable[[], bool]) -> None:
        """Look once.

        Raises
        ------
        FluteSyncError
            When the FHIR server or the ledger does not do its part; the next look makes up for it.
        """
        if self.pause.remaining(now):
            return
        self._recent = {key: at for key, at in self._recent.items() if now - at < REPEAT}
        before = self.ledger.cursor(SOURCE, TARGET)
        cursor = before
        for arrivals in self.watch.look(before):
            keys = (wake_key(key, self.system) for key in arrivals.keys)
            self._recent.update(dict.fromkeys(keys, now))
            cursor = arrivals.cursor
            if stop():
                return
        woken = self.ledger.wake_patients(self._recent.keys()) if self._recent else 0
        if cursor is not None and cursor != before:
            self.ledger.set_cursor(Cursor(SOURCE, TARGET, cursor))
        if woken:
            log.info(
                "Patients arrived or changed for whom studies waited.",
                extra=fields(Event.PATIENT_ARRIVED, studies=woken),
            )
