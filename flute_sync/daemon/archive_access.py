"""The archives of a site as they are read and listed: by DICOMweb, or by C-FIND."""

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flute_sync.daemon.archive_entries import ArchiveEntry
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.listing import Listing
from flute_sync.sources.qido_listing import QidoListing
from flute_sync.sources.reading import ArchiveReader

if TYPE_CHECKING:
    from flute_sync.sources.find_client import FindClient


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
    find: "FindClient | None" = None


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
    if entry.find_scu is not None and (entry.find_scu.enabled or entry.is_read_by_find):
        return _access_by_find(entry, entry.find_scu, header, opened)
    return _access_by_web(entry, opened)


def _access_by_find(
    entry: ArchiveEntry, settings: FindScuSettings, header: HeaderSettings, opened: ExitStack
) -> Access:
    # Few sites need DIMSE, and what it is made of takes a quarter of a start.
    from flute_sync.sources.find_archive import FindArchive  # noqa: PLC0415
    from flute_sync.sources.find_client import FindClient  # noqa: PLC0415
    from flute_sync.sources.find_listing import FindListing  # noqa: PLC0415

    find = FindClient(settings, header)
    if entry.is_read_by_find:
        return Access(entry, FindArchive(entry, find), FindListing(find), find)
    return replace(_access_by_web(entry, opened), find=find)


def _access_by_web(entry: ArchiveEntry, opened: ExitStack) -> Access:
    archive = Archive(entry)
    opened.callback(archive.close)
    return Access(entry, archive, QidoListing(archive))
