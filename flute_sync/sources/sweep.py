"""Goes through all that an archive lists, slowly and at the hours that it likes.

What the faster sources cannot see is found here: a study sent long after its Study Date or without
one, a change while we were down, a study that is gone. The ledger knows by the fingerprint what is
no news. That a study is gone is a hint: only reads confirm it.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from flute_sync.events import Event, fields
from flute_sync.intake import Cursor, Delivery, Intake, Notice, Noticed
from flute_sync.sources.listing import Choice, Listing, Page
from flute_sync.sources.poller import Stop
from flute_sync.sources.presence import Digests, held, not_listed
from flute_sync.sources.sweep_settings import SweepSettings
from flute_sync.study import StudyInstanceUID

log = logging.getLogger(__name__)

_NAME: Final = "sweep"
_LOOK: Final = timedelta(minutes=1)
_EVERYTHING: Final = Choice()
_GONE_BATCH: Final = 100
_LONG_AGO: Final = datetime(2000, 1, 1, tzinfo=UTC)
_DONE: Final = "done"
_AGAIN: Final = "again"


@dataclass(slots=True)
class _Round:
    """One sweep.

    ``before`` is what the archive was believed to hold when it began. It is not ``whole`` after a
    restart, when what was listed before is not known any more, so that nothing is concluded from
    what was not.
    """

    started_at: datetime
    before: Digests
    resume: str | None = None
    whole: bool = True
    listed: Digests = field(default_factory=Digests)
    pages: Iterator[Page] | None = None
    gone: list[StudyInstanceUID] | None = None


class Sweep:
    """Sweeps one archive; each step takes one page.

    Parameters
    ----------
    archive
        Its name.
    zone
        Of the hours of ``window``; UTC where none is given.
    """

    def __init__(
        self,
        settings: SweepSettings,
        listing: Listing,
        archive: str,
        intake: Intake,
        zone: ZoneInfo | None = None,
    ) -> None:
        self._settings = settings
        self._listing = listing
        self._archive = archive
        self._intake = intake
        self._zone = zone
        self._round: _Round | None = None
        self._due: datetime | None = None
        self._asked = False
        self._wait = timedelta()

    @property
    def name(self) -> str:
        """The source's name."""
        return _NAME

    @property
    def interval(self) -> timedelta:
        """How long to wait until the next page, or until it may be time for the next sweep."""
        return self._wait

    def ask(self) -> None:
        """Begin as soon as the window allows: something may be gone. From any thread."""
        self._asked = True

    def step(self, now: datetime, stop: Stop = lambda: False) -> None:
        """Go one page further; see `Poller.step`."""
        self._wait = min(_LOOK, self._settings.interval)
        if not self._settings.is_open(now.astimezone(self._zone or UTC).time()):
            if self._round is not None:
                self._round.pages = None  # nothing stays open over the day
            return
        if self._round is None:
            self._round = self._begin(now, stop)
        if self._round is None or stop():
            return
        if self._round.gone is not None:
            self._deliver_gone(self._round, now)
            return
        page = self._next(self._round, now, stop)
        if page is not None:
            self._take(self._round, page, now)
        elif not stop():
            self._conclude(self._round, now)

    def _begin(self, now: datetime, stop: Stop) -> _Round | None:
        """Begin a sweep that is due, or go on with the one that a restart interrupted."""
        if self._due is None and not self._asked:
            said = self._intake.cursor(_NAME, self._archive)
            started, _, resume = (said or f"{_LONG_AGO.isoformat()} {_DONE}").partition(" ")
            began = datetime.fromisoformat(started)
            if resume not in (_DONE, _AGAIN):
                return _Round(began, self._before(stop), resume or None, whole=False)
            self._due = _due(began, self._settings) if resume == _DONE else now
        if not self._asked and (self._due is None or now < self._due):
            return None
        self._asked = False
        return _Round(now, self._before(stop))

    def _before(self, stop: Stop) -> Digests:
        return Digests(held(self._intake, self._archive, stop))

    def _next(self, sweep: _Round, now: datetime, stop: Stop) -> Page | None:
        if sweep.pages is None:
            sweep.pages = self._listing.pages(_EVERYTHING, sweep.resume, now, stop)
        pages, sweep.pages = sweep.pages, None  # one that failed cannot go on
        page = next(pages, None)
        sweep.pages = pages
        return page

    def _take(self, sweep: _Round, page: Page, now: datetime) -> None:
        rows = page.rows
        noticed = tuple(
            Noticed(row.study_instance_uid, fingerprint=row.fingerprint)
            for row in rows
            # Who did not want a sweep may not want what was never heard of.
            if self._settings.enabled or row.study_instance_uid in sweep.before
        )
        self._deliver(now, f"{sweep.started_at.isoformat()} {page.resume}", noticed)
        sweep.resume = page.resume
        for row in rows:
            sweep.listed.add(row.study_instance_uid)
        self._wait = timedelta(seconds=len(rows) / self._settings.rate)

    def _conclude(self, sweep: _Round, now: datetime) -> None:
        """Judge what was not listed; after a restart go through everything once more instead."""
        sweep.pages = None
        self._wait = timedelta()
        if not sweep.whole:
            self._end(sweep, now, _AGAIN)
            self._due = now
            return
        sweep.gone = not_listed(self._intake, self._archive, _NAME, sweep.before, sweep.listed)
        log.info(
            "The archive was gone through.",
            extra=fields(
                Event.SWEEP_FINISHED,
                source=_NAME,
                archive=self._archive,
                studies=len(sweep.listed),
                duration_seconds=round((now - sweep.started_at).total_seconds(), 1),
            ),
        )
        self._deliver_gone(sweep, now)

    def _deliver_gone(self, sweep: _Round, now: datetime) -> None:
        gone = sweep.gone or []
        size = max(min(_GONE_BATCH, int(self._settings.rate)), 1)
        some, rest = gone[:size], gone[size:]
        noticed = tuple(Noticed(uid, Notice.GONE) for uid in some)
        if rest:
            self._deliver(now, f"{sweep.started_at.isoformat()} {sweep.resume or ''}", noticed)
        else:
            self._end(sweep, now, _DONE, noticed)
        sweep.gone = rest
        self._wait = timedelta(seconds=len(some) / self._settings.rate)

    def _end(
        self, sweep: _Round, now: datetime, state: str, noticed: tuple[Noticed, ...] = ()
    ) -> None:
        self._deliver(now, f"{sweep.started_at.isoformat()} {state}", noticed)
        self._due = _due(sweep.started_at, self._settings)
        self._round = None

    def _deliver(self, now: datetime, place: str, noticed: tuple[Noticed, ...]) -> None:
        cursor = Cursor(_NAME, self._archive, place)
        self._intake.deliver(Delivery(_NAME, self._archive, now, noticed=noticed, cursor=cursor))


def _due(started_at: datetime, settings: SweepSettings) -> datetime:
    """Return when the next sweep begins by itself."""
    never = datetime.max.replace(tzinfo=UTC)
    return started_at + settings.interval if settings.enabled else never
