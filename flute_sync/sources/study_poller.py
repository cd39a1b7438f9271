"""What the pollers of a study search share: a window of days, and what was seen in it.

The window is one of Study Date: a study without one, or sent long after its date, is not found.
A study that was deleted is not seen, so these sources never tell of removals. The sweep does.
"""

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from flute_sync.events import Event, fields
from flute_sync.intake import Cursor, Delivery, Intake, Noticed
from flute_sync.sources.poller import Stop, batches
from flute_sync.sources.poller_settings import StudyPollerSettings
from flute_sync.sources.search import Sighting, fingerprint
from flute_sync.study import StudyInstanceUID

log = logging.getLogger(__name__)

_DAY: Final = timedelta(days=1)

Look = Callable[[date, datetime, Stop], Iterator[list[Sighting]]]
"""Yields part by part what is seen from a day on; a study may be seen several times.

Raises `Stopped` where it was told so.
"""


class Stopped(Exception):
    """It was told to stop in the middle of a look."""


class StudyPoller:
    """Polls one archive.

    Parameters
    ----------
    name
        The source's, which its cursor is kept under.
    zone
        The site's: Study Date is a local date.
    """

    def __init__(
        self,
        name: str,
        settings: StudyPollerSettings,
        archive: str,
        intake: Intake,
        zone: ZoneInfo | None,
        look: Look,
    ) -> None:
        self._name = name
        self._settings = settings
        self._archive_name = archive
        self._intake = intake
        self._zone = zone
        self._look = look
        self._unusable = 0

    @property
    def name(self) -> str:
        """The source's name."""
        return self._name

    @property
    def interval(self) -> timedelta:
        """How long to wait between polls."""
        return self._settings.interval

    def step(self, now: datetime, stop: Stop = lambda: False) -> None:
        """Ask for all studies of the window and deliver what was seen; see `Poller.step`.

        The ledger knows by the fingerprint what is no news, so a server that ignores the window
        does no harm. The cursor, the time of this poll, moves only when all was delivered.
        """
        seen = self._seen(now, stop)
        if seen is None:
            return
        noticed = (
            Noticed(StudyInstanceUID(uid), fingerprint=fingerprint(digests))
            for uid, digests in seen.items()
        )
        parts = list(batches(noticed, self._settings.batch_size))
        cursor = Cursor(self._name, self._archive_name, now.astimezone(UTC).isoformat())
        for number, part in enumerate(parts, start=1):
            last = cursor if number == len(parts) else None
            self._intake.deliver(
                Delivery(self._name, self._archive_name, now, noticed=part, cursor=last)
            )
            if stop():
                return

    def _seen(self, now: datetime, stop: Stop) -> dict[str, list[str]] | None:
        """Collect the digests of each study's rows; None when told to stop.

        All pages first: a study may have several rows, and its fingerprint is made of all.
        """
        seen: dict[str, list[str]] = {}
        unusable = 0
        try:
            for page in self._look(self._since(now), now, stop):
                for uid, digest in page:
                    if uid is None:
                        unusable += 1
                    else:
                        seen.setdefault(uid, []).append(digest)
                if stop():
                    return None
        except Stopped:
            return None
        self._remark(unusable)
        return seen

    def _since(self, now: datetime) -> date:
        said = self._intake.cursor(self._name, self._archive_name)
        last = min(now, datetime.fromisoformat(said)) if said else now
        # A day more: without a zone "today" is not certain, nor are the clocks of modalities.
        return (last.astimezone(self._zone or UTC) - self._settings.lookback - _DAY).date()

    def _remark(self, unusable: int) -> None:
        if unusable and unusable != self._unusable:
            log.warning(
                "The archive's study search returns studies without a usable UID.",
                extra=fields(
                    Event.STUDY_REMARK,
                    source=self._name,
                    archive=self._archive_name,
                    studies=unusable,
                    tag="(0020,000D)",
                ),
            )
        self._unusable = unusable
