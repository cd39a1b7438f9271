"""The archives of a site as they are read and listed: by DICOMweb, or by C-FIND."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from flute_sync.daemon.archive_entries import ArchiveEntry
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.find_archive import FindArchive
from flute_sync.sources.find_client import FindClient
from flute_sync.sources.find_listing import FindListing
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.listing import Listing
from flute_sync.sources.qido_listing import QidoListing
from flute_sync.sources.reading import ArchiveReader


@dataclass(frozen=True)
class Access:
    """One archive, open.

    Parameters
    ----------
    find
        Its C-FIND, where it is polled or read by it.
    """

    entry: ArchiveEntry
    reader: ArchiveReader
    listing: Listing
    find: FindClient | None = None


def access(
    entries: Iterable[ArchiveEntry], header: HeaderSettings, opened: ExitStack
) -> dict[str, Access]:
    """Open archives, by name and in their order.

    Parameters
    ----------
    opened
        Closes them.
    """
    return {entry.name: _access(entry, header, opened) for entry in entries}


def _access(entry: ArchiveEntry, header: HeaderSettings, opened: ExitStack) -> Access:
    find = None
    if entry.find_scu is not None and (entry.find_scu.enabled or entry.is_read_by_find):
        find = FindClient(entry.find_scu, header)
    if find is not None and entry.is_read_by_find:
        return Access(entry, FindArchive(entry, find), FindListing(find), find)
    archive = Archive(entry)
    opened.callback(archive.close)
    return Access(entry, archive, QidoListing(archive), find)
