"""Asks a QIDO-RS server at intervals which studies of the last days it holds, and how many parts.

References
----------
PS3.18 10.6 (2026b).
"""

from collections.abc import Iterator
from datetime import date, datetime
from zoneinfo import ZoneInfo

from flute_sync.archive_errors import ArchiveCapabilityMissing, ArchiveRefused
from flute_sync.intake import Intake
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.listing import Choice
from flute_sync.sources.poller import Stop
from flute_sync.sources.poller_settings import QidoRsSettings
from flute_sync.sources.qido_listing import TOO_MUCH, QidoListing
from flute_sync.sources.search import Sighting, hourly
from flute_sync.sources.study_poller import Stopped, StudyPoller


class QidoRsPoller(StudyPoller):
    """Polls one archive; see `StudyPoller`."""

    def __init__(
        self,
        settings: QidoRsSettings,
        archive: Archive,
        intake: Intake,
        zone: ZoneInfo | None = None,
    ) -> None:
        super().__init__("qido_rs", settings, archive.name, intake, zone, self._sightings)
        self._archive = archive
        self._in_parts = False

    def _sightings(self, since: date, now: datetime, stop: Stop) -> Iterator[list[Sighting]]:
        if not self._in_parts:
            try:
                yield from self._archive.search.sightings(f"StudyDate={since:%Y%m%d}-", now)
            except ArchiveRefused as refusal:
                if refusal.status not in TOO_MUCH:
                    raise ArchiveCapabilityMissing(f"study search, {refusal.detail}") from refusal
            else:
                return
        yield from self._by_windows(since, now, stop)
        self._in_parts = True

    def _by_windows(self, since: date, now: datetime, stop: Stop) -> Iterator[list[Sighting]]:
        """Ask a server that refuses large answers for a few days at a time."""
        listing = QidoListing(self._archive, hourly)
        for page in listing.pages(Choice(since=since), None, now, stop):
            yield [Sighting(row.study_instance_uid, row.fingerprint) for row in page.rows]
        if stop():
            raise Stopped
