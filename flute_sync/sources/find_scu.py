"""Asks a PACS at intervals by C-FIND which studies of the last days it holds, and how many parts.

References
----------
PS3.4 C.4.1 and C.6.2 (2026b).
"""

import logging
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from flute_sync.events import Event, fields
from flute_sync.intake import Intake
from flute_sync.sources import header_tags as tags
from flute_sync.sources.dicom_json import uid_in
from flute_sync.sources.find_client import FindClient
from flute_sync.sources.find_search import StudySearch, stamp_of
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.sources.find_windows import Found, Window, Windows
from flute_sync.sources.poller import Stop
from flute_sync.sources.search import Sighting, digest
from flute_sync.sources.study_poller import StudyPoller

log = logging.getLogger(__name__)

_NAME: Final = "find_scu"
_DAY: Final = timedelta(days=1)


class FindScuPoller(StudyPoller):
    """Polls one archive; see `StudyPoller`.

    Parameters
    ----------
    archive
        Its name.
    """

    def __init__(
        self,
        settings: FindScuSettings,
        archive: str,
        client: FindClient,
        intake: Intake,
        zone: ZoneInfo | None = None,
    ) -> None:
        super().__init__(_NAME, settings, archive, intake, zone, self._sightings)
        self._client = client
        self._windows = Windows(settings.max_answers)
        self._was_cut = False

    def _sightings(self, since: date, now: datetime, stop: Stop) -> Iterator[list[Sighting]]:
        is_cut = False
        tomorrow = (now + _DAY).date()
        with self._client.session() as session:
            search = StudySearch(session.answers, self._windows, stop)
            for found in _parts(search, since, tomorrow):
                is_cut |= found.cut
                yield [
                    Sighting(
                        uid_in(row, tags.STUDY_INSTANCE_UID), digest(row, now, stamp_of(row, now))
                    )
                    for row in found.rows
                ]
        if is_cut and not self._was_cut:
            log.warning(
                "The archive may hold more studies of a time than it tells; they are not seen.",
                extra=fields(Event.STUDY_REMARK, source=_NAME, archive=self._archive_name),
            )
        self._was_cut = is_cut


def _parts(search: StudySearch, since: date, tomorrow: date) -> Iterator[Found]:
    for found in search.through(since, tomorrow):
        yield found
        if found.unheeded and found.window.seconds is None:
            return
    # Clocks that are wrong by more than a day are worth a query, but none of their own trouble.
    yield search.beyond(Window(tomorrow + _DAY, None))._replace(cut=False)
