"""The sources that ask: which pollers watch an archive."""

from collections.abc import Iterator
from contextlib import ExitStack
from zoneinfo import ZoneInfo

from flute_sync.daemon.archive_entries import ArchiveEntry
from flute_sync.intake import Intake
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.orthanc_changes import OrthancChangesPoller
from flute_sync.sources.poller import Poller
from flute_sync.sources.qido_rs import QidoRsPoller


def pollers(
    entry: ArchiveEntry, archive: Archive, intake: Intake, zone: ZoneInfo | None, opened: ExitStack
) -> Iterator[Poller]:
    """Make the pollers of one archive.

    Parameters
    ----------
    zone
        The site's, for an archive without one of its own.
    opened
        Closes what they hold open.
    """
    if entry.qido_rs is not None and entry.qido_rs.enabled:
        yield QidoRsPoller(entry.qido_rs, archive, intake, entry.zone or zone)
    if entry.orthanc_changes is not None and entry.orthanc_changes.enabled:
        changes = OrthancChangesPoller(entry.orthanc_changes, entry.name, intake)
        opened.callback(changes.close)
        yield changes
