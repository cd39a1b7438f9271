"""Wakes the studies that wait for a Patient, or for one to join the Group: one watch for all."""

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from flute_sync.daemon.pauses import Pause
from flute_sync.daemon.subject import Subjects, wake_key
from flute_sync.events import Event, fields
from flute_sync.fhir.patient_watch import PatientWatch
from flute_sync.intake import Cursor
from flute_sync.ledger import Ledger

log = logging.getLogger(__name__)

SOURCE: Final = "patient_watch"
TARGET: Final = "fhir"
GROUP_SOURCE: Final = "group_watch"
GROUP_INTERVAL: Final = timedelta(minutes=1)
REPEAT: Final = timedelta(minutes=1)
"""How long a Patient that arrived goes on waking: a step may have looked just before it came and
begin to wait just after."""


@dataclass
class PatientAlarm:
    """Looks for new and changed Patients; wakes who waits for them or was found by their number.

    A merge that is undone leaves no link to follow: only the number in the images tells.

    Parameters
    ----------
    pause
        While the FHIR server is down nothing is asked.
    system
        The site's own identifier system, as for `wake_key`; asked anew, since a reload may change
        it.
    """

    ledger: Ledger
    watch: PatientWatch
    pause: Pause
    system: Callable[[], str]
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
        # Who is written already is woken at once and at the end, once for each change.
        changed = {key for key, at in self._recent.items() if now - at >= REPEAT}
        self._recent = {key: at for key, at in self._recent.items() if key not in changed}
        before = self.ledger.cursor(SOURCE, TARGET)
        cursor = before
        for arrivals in self.watch.look(before):
            system = self.system()
            keys = {wake_key(key, system) for key in arrivals.keys}
            changed |= keys
            self._recent.update(dict.fromkeys((*keys, *arrivals.merged), now))
            cursor = arrivals.cursor
            if stop():
                return
        woken = self.ledger.wake_patients(self._recent.keys()) if self._recent else 0
        woken += self.ledger.wake_identified(changed) if changed else 0
        if cursor is not None and cursor != before:
            self.ledger.set_cursor(Cursor(SOURCE, TARGET, cursor))
        if woken:
            log.info(
                "Patients arrived or changed for whom studies waited.",
                extra=fields(Event.PATIENT_ARRIVED, studies=woken),
            )


@dataclass
class GroupAlarm:
    """Looks whether the Group of ``select.patients`` changed, and lets be judged whom it concerns.

    Parameters
    ----------
    system
        The site's own identifier system, as for `wake_key`.
    """

    ledger: Ledger
    subjects: Callable[[], Subjects]
    pause: Pause
    system: Callable[[], str]
    _members: frozenset[str] | None = None

    def step(self, now: datetime, _stop: Callable[[], bool]) -> None:
        """Look once.

        Raises
        ------
        FluteSyncError
            When the FHIR server or the ledger does not do its part.
        """
        subjects = self.subjects()
        group = subjects.select.patients
        if self.pause.remaining(now) or not group.startswith("Group/"):
            return
        members = subjects.members()
        listed = "\n".join([group, *sorted(members)])
        seen = hashlib.blake2b(listed.encode(), digest_size=16).hexdigest()
        before = self.ledger.cursor(GROUP_SOURCE, TARGET)
        if seen != before:
            if before is not None:
                self._judge_again(subjects, members)
            self.ledger.set_cursor(Cursor(GROUP_SOURCE, TARGET, seen))
        self._members = members

    def _judge_again(self, subjects: Subjects, members: frozenset[str]) -> None:
        if self._members is None:  # it changed while nobody looked: who came is not known
            judged = self.ledger.rejudge("")
        else:
            found = subjects.patients.identifiers(members - self._members)
            keys = {wake_key(key, self.system()) for key in found}
            judged = self.ledger.wake_patients(keys | (self._members - members))
        log.info(
            "The members of the Group changed; studies are judged again.",
            extra=fields(Event.PATIENT_ARRIVED, studies=judged),
        )
