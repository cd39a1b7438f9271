"""Lets studies be judged again when clinical data of their patients arrive, change or are gone.

Who is concerned are the patient whom a resource names, and those for whose studies it was judged
before: so a result that goes to another patient leaves the one who had it.
"""

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Event as Flag
from typing import Final

from flute_sync.daemon.pauses import FHIR_PAUSES, Pause
from flute_sync.daemon.stats import Stats
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.fhir.clinical_watch import ClinicalWatch, Touched
from flute_sync.fhir.patients import Patients
from flute_sync.intake import Cursor
from flute_sync.ledger import Ledger
from flute_sync.link_settings import LinkSettings

log = logging.getLogger(__name__)

TARGET: Final = "fhir"
HINTED: Final = timedelta(seconds=1)
"""How soon a hint is followed."""


@dataclass
class LinkAlarm:
    """Looks for changes of clinical data.

    Parameters
    ----------
    settings
        Asked anew, since a reload may change them.
    patients
        Follows who was merged into another.
    pause
        While the FHIR server is down nothing is asked.
    hint
        Set by whoever heard that something changed: it is looked at once.
    """

    ledger: Ledger
    watch: ClinicalWatch
    settings: Callable[[], LinkSettings]
    patients: Callable[[], Patients]
    pause: Pause
    stats: Stats
    hint: Flag = field(default_factory=Flag)
    _next: datetime | None = None

    @property
    def interval(self) -> timedelta:
        """How long to wait until the next step."""
        return min(self.settings().watch_interval, HINTED)

    def step(self, now: datetime, stop: Callable[[], bool]) -> None:
        """Look once, where it is time to.

        Raises
        ------
        FluteSyncError
            When the FHIR server or the ledger does not do its part; the next look makes up for it.
            What can be followed is followed all the same.
        """
        settings = self.settings()
        waits = self._next is not None and now < self._next and not self.hint.is_set()
        if waits or not settings.enabled or self.pause.remaining(now):
            return
        self.hint.clear()  # what is told from now on is looked at again
        trouble: FluteSyncError | None = None
        for feed in self.watch.feeds(histories=settings.watch_history):
            if stop():
                return
            try:
                self._follow(feed, stop)
            except FHIR_PAUSES:
                raise
            except FluteSyncError as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble
        self._next = now + settings.watch_interval
        self.stats.looked(now)

    def _follow(self, feed: str, stop: Callable[[], bool]) -> None:
        before = self.ledger.cursor(feed, TARGET)
        cursor = before
        for touched, reached in self.watch.look(feed, before):
            if touched:
                self._judge_again(touched, feed.partition("/")[2])
            if stop():
                return
            cursor = reached
        if cursor is not None and cursor != before:
            self.ledger.set_cursor(Cursor(feed, TARGET, cursor))

    def _judge_again(self, touched: Touched, resource_type: str) -> None:
        book = self.ledger.links
        concerned = book.judged_for(touched.resources) | touched.patients
        concerned |= self._of_others(touched)
        here = book.with_studies(concerned | touched.bystanders)
        strangers = touched.patients - here
        # Of whom nothing is written yet a step may be in hand that looked just before.
        concerned = here | strangers | self._survivors(strangers)
        if not concerned:
            return
        studies = book.judge_again(concerned)
        self.stats.clinical(resource_type, len(touched.resources) or len(touched.studies))
        if studies:
            log.info(
                "Clinical data changed; studies are judged again.",
                extra=fields(Event.CLINICAL_CHANGED, resource_type=resource_type, studies=studies),
            )

    def _of_others(self, touched: Touched) -> frozenset[str]:
        """Return whom ImagingStudies name that are not as we wrote them."""
        if not touched.studies:
            return frozenset()
        ours = self.ledger.links.written({one for one, _ in touched.studies})
        return frozenset(patient for study, patient in touched.studies.items() if study not in ours)

    def _survivors(self, references: Collection[str]) -> frozenset[str]:
        """Return into whom some patients were merged."""
        if not references:
            return frozenset()
        ids = [one.partition("/")[2] for one in sorted(self.watch.merged(references))]
        found = (self.patients().survivor(one) for one in ids)
        return frozenset(f"Patient/{one}" for one in found if one is not None)
