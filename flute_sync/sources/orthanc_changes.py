"""Follows Orthanc's change feed: every stored instance is a change, noticed within seconds.

The feed names Orthanc's own ids. They are digests of the DICOM identifiers, so what an id stands
for never changes; it is looked up once per series and not once per instance. Only ``NewInstance``
and its like are news. ``Stable...`` says that nothing came for a while, which the quiet period
waits for in any case, and is said again after a late instance. A deletion leaves no trace in the
feed: `orthanc_removals` looks for it.

References
----------
https://orthanc.uclouvain.be/book/users/rest.html#tracking-changes; Orthanc 1.10.1 as measured.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

import httpx

from flute_sync.archive_errors import ArchiveCapabilityMissing, ArchiveRefused, ArchiveServerError
from flute_sync.events import Event, fields
from flute_sync.intake import Cursor, Delivery, Intake, Noticed
from flute_sync.sources.orthanc_ids import Change, OrthancIds
from flute_sync.sources.orthanc_removals import OrthancRemovals
from flute_sync.sources.orthanc_settings import OrthancChangesSettings
from flute_sync.sources.peer import Json, Peer
from flute_sync.sources.poller import Stop

log = logging.getLogger(__name__)

_NAME: Final = "orthanc_changes"
_PAGES_PER_STEP: Final = 20


class Page(NamedTuple):
    """One answer of the feed; ``last`` is the newest number that the feed ever gave out."""

    changes: tuple[Change, ...]
    done: bool
    last: int


class Position(NamedTuple):
    """The last change that was delivered, with the id it had: a check that the feed is the same."""

    seq: int
    orthanc_id: str = ""

    @classmethod
    def parse(cls, value: str) -> "Position":
        """Read a cursor."""
        seq, _, orthanc_id = value.partition(" ")
        return cls(int(seq), orthanc_id)

    def __str__(self) -> str:
        return f"{self.seq} {self.orthanc_id}".rstrip()


class OrthancChangesPoller:
    """Follows the feed of one Orthanc.

    Parameters
    ----------
    archive
        The name of the archive that this Orthanc is.
    removed
        Called when something is gone from within a study: a sweep finds it.
    transport
        Replaces the network.
    """

    def __init__(
        self,
        settings: OrthancChangesSettings,
        archive: str,
        intake: Intake,
        *,
        removed: Callable[[], None] | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._settings = settings
        self._archive = archive
        self._intake = intake
        self._peer = Peer(
            settings, settings.url, name=_NAME, accept="application/json", transport=transport
        )
        self._ids = OrthancIds(self._peer)
        self._removals = OrthancRemovals(
            self._peer,
            self._ids,
            intake,
            archive,
            _NAME,
            settings.removals,
            removed,
            settings.sweep.interval,
        )
        self._behind = False

    @property
    def name(self) -> str:
        """The source's name."""
        return _NAME

    @property
    def interval(self) -> timedelta:
        """How long to wait; zero while the feed holds more than one step takes."""
        return timedelta() if self._behind else self._settings.interval

    def close(self) -> None:
        """Close the connections."""
        self._peer.close()

    def step(self, now: datetime, stop: Stop = lambda: False) -> None:
        """Read on, a few pages at most, each delivered with its cursor; see `Poller.step`."""
        self._behind = False
        position = self._position(now)
        for _ in range(_PAGES_PER_STEP):
            page = self._next(position, now)
            if stop():
                return
            if not page.changes:
                break
            studies = self._ids.studies(page.changes, stop)
            if studies is None:
                return
            position = Position(page.changes[-1].seq, page.changes[-1].orthanc_id)
            dates = {change.seq: change.date for change in page.changes}
            noticed = (
                # The date too: a replaced database counts from one again.
                Noticed(uid, fingerprint=f"change {seq} {dates[seq]}")
                for uid, seq in studies.items()
            )
            self._deliver(position, now, *noticed)
            self._removals.count(page.changes)
            if page.done:
                break
        else:
            self._behind = True
            return
        self._removals.look(position.seq, now, stop)

    def _position(self, now: datetime) -> Position:
        said = self._intake.cursor(_NAME, self._archive)
        if said is not None:
            return Position.parse(said)
        if self._settings.start == "beginning":
            return Position(0)
        newest = self._page("/changes?last").changes
        position = Position(newest[-1].seq, newest[-1].orthanc_id) if newest else Position(0)
        self._deliver(position, now)
        return position

    def _next(self, position: Position, now: datetime) -> Page:
        """Return what follows a position; from the start where the database was replaced.

        The change at the position is asked for again: while it exists it must be the same.
        """
        since = max(position.seq - 1, 0)
        page = self._page(f"/changes?since={since}&limit={self._settings.page_size + 1}")
        again = [change for change in page.changes if change.seq <= position.seq]
        if page.last >= since and all(one.orthanc_id == position.orthanc_id for one in again):
            return page._replace(changes=page.changes[len(again) :])
        log.warning(
            "Orthanc's database was replaced; its change feed is read from the start.",
            extra=fields(Event.SOURCE_RESET, source=_NAME, archive=self._archive),
        )
        self._removals.forget()
        self._deliver(Position(0), now)
        return self._page(f"/changes?since=0&limit={self._settings.page_size}")

    def _deliver(self, position: Position, now: datetime, *noticed: Noticed) -> None:
        cursor = Cursor(_NAME, self._archive, str(position))
        self._intake.deliver(Delivery(_NAME, self._archive, now, noticed=noticed, cursor=cursor))

    def _page(self, path: str) -> Page:
        return _asked(self._peer, path)


def probe(settings: OrthancChangesSettings) -> None:
    """Ask for the newest change and deliver nothing.

    Raises
    ------
    ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized
        Of the archive.
    ArchiveCapabilityMissing
        There is no change feed at the address.
    """
    peer = Peer(settings, settings.url, name=_NAME, accept="application/json")
    try:
        _asked(peer, "/changes?last")
    finally:
        peer.close()


def _asked(peer: Peer, path: str) -> Page:
    try:
        return _parsed(peer.object(path))
    except ArchiveRefused as refusal:
        raise ArchiveCapabilityMissing(f"change feed, {refusal.detail}") from refusal


def _parsed(answer: Json) -> Page:
    try:
        changes = tuple(
            Change(
                _whole(row["Seq"]),
                str(row["ChangeType"]),
                str(row["ResourceType"]),
                str(row["ID"]),
                str(row.get("Date", "")),
            )
            for row in answer["Changes"]
        )
        page = Page(changes, bool(answer["Done"]), _whole(answer["Last"]))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ArchiveServerError(f"{_NAME}: its answer is not a change feed") from None
    if any(later.seq <= one.seq for one, later in pairwise(changes)):
        raise ArchiveServerError(f"{_NAME}: its changes are not in order")
    return page


def _whole(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("not a number of the feed")
    return value
