"""The sources that ask: which pollers watch an archive."""

from collections.abc import Iterator
from contextlib import ExitStack
from zoneinfo import ZoneInfo

from flute_sync.daemon.archive_access import Access
from flute_sync.intake import Intake
from flute_sync.sources.change_feed import ChangeFeedPoller
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.orthanc_changes import OrthancChangesPoller
from flute_sync.sources.poller import Poller
from flute_sync.sources.qido_rs import QidoRsPoller
from flute_sync.sources.sweep import Sweep


def pollers(
    access: Access, intake: Intake, zone: ZoneInfo | None, opened: ExitStack
) -> Iterator[Poller]:
    """Make the pollers of one archive.

    Parameters
    ----------
    zone
        The site's, for an archive without one of its own.
    opened
        Closes what they hold open.
    """
    entry = access.entry
    zone = entry.zone or zone
    if entry.qido_rs is not None and entry.qido_rs.enabled:
        yield QidoRsPoller(entry.qido_rs, _web(access, opened), intake, zone)
    if entry.find_scu is not None and entry.find_scu.enabled and access.find is not None:
        # As in `archive_access`, what few sites need is loaded there alone.
        from flute_sync.sources.find_scu import FindScuPoller  # noqa: PLC0415

        yield FindScuPoller(entry.find_scu, entry.name, access.find, intake, zone)
    sweep: Sweep | None = None
    if entry.sweep is not None:
        sweep = Sweep(entry.sweep, access.listing, entry.name, intake, zone)
        yield sweep
    if entry.orthanc_changes is not None and entry.orthanc_changes.enabled:
        changes = OrthancChangesPoller(
            entry.orthanc_changes, entry.name, intake, removed=sweep.ask if sweep else None
        )
        opened.callback(changes.close)
        yield changes
    if entry.change_feed is not None and entry.change_feed.enabled:
        feed = ChangeFeedPoller(entry.change_feed, entry.dicomweb_url, entry.name, entry, intake)
        opened.callback(feed.close)
        yield feed


def _web(access: Access, opened: ExitStack) -> Archive:
    """Return the archive's DICOMweb, where it is read in another way too."""
    if isinstance(access.reader, Archive):
        return access.reader
    archive = Archive(access.entry)
    opened.callback(archive.close)
    return archive
