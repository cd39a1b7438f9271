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
from flute_sync.sources.poller import Stop
from flute_sync.sources.search import Sighting
from flute_sync.sources.study_poller import StudyPoller, StudyPollerSettings


class QidoRsSettings(StudyPollerSettings):
    """``[qido_rs]``: polling the archive's study search."""


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

    def _sightings(self, since: date, now: datetime, _: Stop) -> Iterator[list[Sighting]]:
        try:
            yield from self._archive.search.sightings(f"StudyDate={since:%Y%m%d}-", now)
        except ArchiveRefused as refusal:
            raise ArchiveCapabilityMissing(f"study search, {refusal.detail}") from refusal
