"""Follows the change feed of Microsoft's DICOM service and of what is shaped like it.

An entry tells of one instance: created, updated or deleted. Its study is read, whatever the
action: that one instance is deleted says nothing of the others.

Version 1 of the service pages by sequence: ``offset`` is the last number that was read and
``limit`` a number of sequences, so that an empty page may be a gap. Version 2 skips ``offset``
entries of a window of time. Numbers are given out before they are committed, so that one may
appear behind a later one: the newest entries are read once more each time.

References
----------
https://learn.microsoft.com/azure/healthcare-apis/dicom/change-feed-overview, versions 1 and 2.
"""

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx

from flute_sync.archive_errors import ArchiveCapabilityMissing, ArchiveRefused, ArchiveServerError
from flute_sync.events import Event, fields
from flute_sync.intake import Cursor, Delivery, Intake, Noticed
from flute_sync.sources.change_entries import KNOWN_ACTIONS, Entry, Position, parsed
from flute_sync.sources.change_feed_settings import ChangeFeedSettings
from flute_sync.sources.peer import Peer
from flute_sync.sources.peer_settings import PeerSettings
from flute_sync.sources.poller import Stop
from flute_sync.study import StudyInstanceUID

log = logging.getLogger(__name__)

_NAME: Final = "change_feed"
_DEEP: Final = 5000
_AGAIN: Final = 50
_AGAIN_FOR: Final = timedelta(minutes=2)
"""How far behind the newest entry a late one may appear, in numbers and in time."""
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_BY_TIME: Final = re.compile(r"/v([2-9]|[1-9]\d+)(\.\d+)?(/|$)")


class ChangeFeedPoller:
    """Follows the feed of one archive.

    Parameters
    ----------
    address
        The archive's ``dicomweb_url``.
    archive
        Its name.
    access
        How it is reached.
    transport
        Replaces the network.
    """

    def __init__(
        self,
        settings: ChangeFeedSettings,
        address: str,
        archive: str,
        access: PeerSettings,
        intake: Intake,
        *,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._archive = archive
        self._intake = intake
        self._peer = _peer(address, access, transport)
        paging = settings.paging
        self._by_time = paging == "time" or (paging == "auto" and bool(_BY_TIME.search(address)))
        self._read: dict[int, datetime] = {}
        self._is_behind = False
        self._remarked = False

    @property
    def name(self) -> str:
        """The source's name."""
        return _NAME

    @property
    def interval(self) -> timedelta:
        """How long to wait; zero after the feed began anew."""
        return timedelta() if self._is_behind else self._settings.interval

    def close(self) -> None:
        """Close the connections."""
        self._peer.close()

    def step(self, now: datetime, stop: Stop = lambda: False) -> None:
        """Read on to the end, each page delivered with its cursor; see `Poller.step`."""
        self._is_behind = False
        position = self._position(now)
        if position is None:
            return
        pages = self._window(position, now) if self._by_time else self._numbers(position, now)
        for page in pages:
            position = self._take(position, page, now)
            if stop():
                return

    def _position(self, now: datetime) -> Position | None:
        said = self._intake.cursor(_NAME, self._archive)
        if said is not None:
            return Position.parse(said)
        if self._settings.start == "beginning":
            return Position()
        newest = _latest(self._peer)
        self._deliver(Position() if newest is None else newest.position, now)
        return None

    def _numbers(self, position: Position, now: datetime) -> Iterator[list[Entry]]:
        """Read by sequence, over gaps, up to the newest."""
        offset = max(position.sequence - _AGAIN, 0)
        size = self._settings.page_size
        newest: int | None = None
        while True:
            page = self._page(f"offset={offset}&limit={size}")
            if page:
                if any(entry.contradicts(position) for entry in page):
                    self._reset(now)
                    return
                yield page
                position = position.after(page)
                last, offset = offset, max(entry.sequence for entry in page)
                if offset <= last:
                    raise ArchiveServerError(f"{_NAME}: its pages do not end")
                continue
            newest = self._newest(position, now) if newest is None else newest
            if newest is None or newest <= offset:
                return
            if offset > position.sequence:  # a gap, and nobody says how wide
                position = position._replace(sequence=offset)
                self._deliver(position, now)
            yield []
            offset += size

    def _newest(self, position: Position, now: datetime) -> int | None:
        """Return the newest number; None of a feed that began anew."""
        latest = _latest(self._peer)
        newest = latest.sequence if latest is not None else 0
        if newest >= position.sequence:
            return newest
        self._reset(now)
        return None

    def _window(self, position: Position, now: datetime) -> Iterator[list[Entry]]:
        """Read by time, up to the newest."""
        since = newest = position.at and position.at - _AGAIN_FOR
        offset = 0
        seen: set[int] = set()
        while True:
            window = f"startTime={since:%Y-%m-%dT%H:%M:%S}Z&" if since else ""
            page = self._page(f"{window}offset={offset}&limit={self._settings.page_size}")
            if not page:
                # The newest that was read is in the window: where it is not, it is no more.
                if not seen and since is not None:
                    self._reset(now)
                return
            if seen.issuperset(entry.sequence for entry in page):
                raise ArchiveServerError(f"{_NAME}: its pages do not end")
            yield page
            seen.update(entry.sequence for entry in page)
            offset += len(page)
            newest = max((entry.at for entry in page if entry.at), default=newest)
            if offset > _DEEP and newest and (not since or newest - since > 4 * _AGAIN_FOR):
                # The deeper the offset, the dearer for the server.
                since, offset, seen = newest - _AGAIN_FOR, 0, set()

    def _reset(self, now: datetime) -> None:
        log.warning(
            "The archive's change feed began anew; it is read from the start.",
            extra=fields(Event.SOURCE_RESET, source=_NAME, archive=self._archive),
        )
        self._read.clear()
        self._deliver(Position(), now)
        self._is_behind = True

    def _take(self, position: Position, page: list[Entry], now: datetime) -> Position:
        new = [entry for entry in page if self._read.get(entry.sequence) != (entry.at or _NEVER)]
        behind = position.after(page)
        studies: dict[StudyInstanceUID, Entry] = {}
        for entry in sorted(new, key=lambda entry: entry.sequence):
            if entry.study_instance_uid is not None:
                studies[entry.study_instance_uid] = entry
            if entry.study_instance_uid is None or entry.action not in KNOWN_ACTIONS:
                self._remark()
        noticed = (
            # The time too: a feed that began anew counts from one again.
            Noticed(uid, fingerprint=f"change {entry.position}")
            for uid, entry in studies.items()
        )
        if new:
            self._deliver(behind, now, *noticed)
        self._remember(new, behind)
        return behind

    def _remember(self, new: list[Entry], behind: Position) -> None:
        oldest = _NEVER if behind.at is None else behind.at - 2 * _AGAIN_FOR
        self._read |= {entry.sequence: entry.at or _NEVER for entry in new}
        self._read = {
            sequence: at
            for sequence, at in self._read.items()
            if sequence > behind.sequence - 2 * _AGAIN or (self._by_time and at >= oldest)
        }

    def _deliver(self, position: Position, now: datetime, *noticed: Noticed) -> None:
        cursor = Cursor(_NAME, self._archive, str(position))
        self._intake.deliver(Delivery(_NAME, self._archive, now, noticed=noticed, cursor=cursor))

    def _page(self, query: str) -> list[Entry]:
        return _asked(self._peer, f"/changefeed?{query}&includeMetadata=false")

    def _remark(self) -> None:
        if self._remarked:
            return
        self._remarked = True
        log.warning(
            "The change feed holds an action that is not known, or a study without a usable UID.",
            extra=fields(Event.STUDY_REMARK, source=_NAME, archive=self._archive),
        )


def probe(address: str, access: PeerSettings) -> None:
    """Ask for the newest change and deliver nothing.

    Raises
    ------
    ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized
        Of the archive.
    ArchiveCapabilityMissing
        There is no change feed at the address.
    """
    peer = _peer(address, access)
    try:
        _latest(peer)
    finally:
        peer.close()


def _peer(address: str, access: PeerSettings, transport: httpx.BaseTransport | None = None) -> Peer:
    return Peer(access, address, name=_NAME, accept="application/json", transport=transport)


def _latest(peer: Peer) -> Entry | None:
    """Return the newest entry; None of an empty feed."""
    return max(_asked(peer, "/changefeed/latest?includeMetadata=false"), default=None)


def _asked(peer: Peer, path: str) -> list[Entry]:
    try:
        return [parsed(row, _NAME) for row in peer.objects(path)]
    except ArchiveRefused as refusal:
        raise ArchiveCapabilityMissing(f"change feed, {refusal.detail}") from refusal
