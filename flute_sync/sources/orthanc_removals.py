"""Whether something is gone from an Orthanc, whose feed does not tell of deletions.

Its totals are compared with those of before and what the feed brought since. Where studies lack,
its list of studies, which is cheap, is compared with what is held; where only series or instances
do, no cheap question tells of which study: a sweep is asked for.

References
----------
https://orthanc.uclouvain.be/book/faq/orthanc-ids.html; Orthanc 1.10.1 as measured.
"""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from flute_sync.archive_errors import ArchiveCapabilityMissing, ArchiveRefused, ArchiveServerError
from flute_sync.intake import Cursor, Delivery, Intake, Notice, Noticed
from flute_sync.sources.orthanc_ids import Change, OrthancIds
from flute_sync.sources.peer import Json, Peer
from flute_sync.sources.poller import Stop, batches
from flute_sync.sources.presence import Digests, held, not_listed

_TRIES: Final = 10
_TOTALS: Final = "orthanc_totals"
_PAGE: Final = 5000
_MOST_PAGES: Final = 200
_BATCH: Final = 500
_HIDDEN: Final = timedelta(days=1)


class Totals(NamedTuple):
    """How much an Orthanc holds."""

    studies: int = 0
    series: int = 0
    instances: int = 0

    def __add__(self, other: object) -> "Totals":
        if not isinstance(other, Totals):
            return NotImplemented
        return Totals(*(one + more for one, more in zip(self, other, strict=True)))


_COUNTS: Final = ("CountStudies", "CountSeries", "CountInstances")
_NEW: Final = {
    "NewStudy": Totals(studies=1),
    "NewSeries": Totals(series=1),
    "NewInstance": Totals(instances=1),
}


class OrthancRemovals:
    """Looks now and then; one for one feed.

    Parameters
    ----------
    interval
        How long between looks.
    removed
        Called where something is gone from within a study, once in ``patience`` at most:
        instances that are overwritten look the same.
    """

    def __init__(
        self,
        peer: Peer,
        ids: OrthancIds,
        intake: Intake,
        archive: str,
        source: str,
        interval: timedelta,
        removed: Callable[[], None] | None,
        patience: timedelta,
    ) -> None:
        self._peer = peer
        self._ids = ids
        self._intake = intake
        self._archive = archive
        self._source = source
        self._interval = interval
        self._removed = removed
        self._patience = patience
        self._expected: Totals | None = None
        self._next: datetime | None = None
        self._ask_from: datetime | None = None
        self._is_suspected = False
        self._is_known = self._has_listed = self._has_kept = False
        self._tries = 0

    def count(self, changes: Iterable[Change]) -> None:
        """Take note of what the feed told."""
        for change in changes:
            if self._expected is not None and change.kind in _NEW:
                self._expected += _NEW[change.kind]
            # No version logs it today; the order of a deletion and what followed is not certain.
            self._is_suspected |= change.kind.startswith("Deleted")

    def forget(self) -> None:
        """Expect nothing: the database is another one."""
        self._expected, self._is_known = None, True

    def look(self, seq: int, now: datetime, stop: Stop) -> None:
        """Look where it is time, with the feed read up to ``seq``, and deliver what seems gone."""
        if self._next is None:
            self._next = now + self._interval
        if now < self._next and not self._is_suspected:
            return
        if not self._is_known:
            self._expected, self._is_known = self._remembered(seq), True
        try:
            totals = self._totals()
        except ArchiveCapabilityMissing:
            self._next, self._is_suspected = now + _HIDDEN, False  # the feed itself goes on
            raise
        is_certain = not self._has_more(seq)  # else the totals may be of more than was read
        if not is_certain and self._tries < _TRIES:
            self._tries += 1
            return
        if self._compare(totals, now, stop):
            self._keep(totals if is_certain else None, seq, now)
            self._tries, self._is_suspected = 0, False
            self._next = now + self._interval

    def _compare(self, totals: Totals, now: datetime, stop: Stop) -> bool:
        """Deliver what seems gone; return False when told to stop."""
        expected = self._expected
        gone = 0
        lacks_studies = expected is None or totals.studies != expected.studies
        if lacks_studies or self._is_suspected or not self._has_listed:
            before = Digests(held(self._intake, self._archive, stop))
            listed = self._ids.listed(stop)
            if listed is None or stop():
                return False
            gone = self._deliver(before, listed, now)
            self._has_listed = True
        lacks = expected is not None and (
            totals.series < expected.series or totals.instances < expected.instances
        )
        may_ask = self._ask_from is None or now >= self._ask_from
        if self._removed and lacks and not gone and may_ask:
            self._ask_from = now + self._patience
            self._removed()
        return True

    def _keep(self, totals: Totals | None, seq: int, now: datetime) -> None:
        """Expect these totals from now on, also after a restart."""
        said = "" if totals is None else " ".join(map(str, (seq, *totals)))
        if totals != self._expected or not self._has_kept:
            cursor = Cursor(_TOTALS, self._archive, said)
            self._intake.deliver(Delivery(self._source, self._archive, now, cursor=cursor))
        self._expected, self._has_kept = totals, True

    def _remembered(self, seq: int) -> Totals | None:
        """Return what was expected before a restart, with what the feed brought since."""
        said = self._intake.cursor(_TOTALS, self._archive)
        if not said:
            return None
        since, *totals = map(int, said.split(" "))
        expected = Totals(*totals)
        for _ in range(_MOST_PAGES):
            if since >= seq:
                return expected
            rows = self._asked(f"/changes?since={since}&limit={_PAGE}").get("Changes")
            if not isinstance(rows, list) or not rows:
                return expected
            try:
                news = [_NEW.get(row["ChangeType"], Totals()) for row in rows if row["Seq"] <= seq]
                since = rows[-1]["Seq"]
            except (KeyError, TypeError):
                raise ArchiveServerError(f"{self._source}: its answer is no feed") from None
            expected = sum(news, expected)
        return None

    def _deliver(self, before: Digests, listed: Digests, now: datetime) -> int:
        gone = not_listed(self._intake, self._archive, self._source, before, listed)
        for some in batches((Noticed(uid, Notice.GONE) for uid in gone), _BATCH):
            if some:
                self._intake.deliver(Delivery(self._source, self._archive, now, noticed=some))
        return len(gone)

    def _has_more(self, seq: int) -> bool:
        return bool(self._asked(f"/changes?since={seq}&limit=1").get("Changes"))

    def _totals(self) -> Totals:
        found = self._asked("/statistics")
        try:
            return Totals(
                *(int(found[f"Count{kind}"]) for kind in ("Studies", "Series", "Instances"))
            )
        except (KeyError, TypeError, ValueError):
            raise ArchiveServerError(f"{self._source}: its statistics have no counts") from None

    def _asked(self, path: str) -> Json:
        try:
            return self._peer.object(path)
        except ArchiveRefused as refusal:
            raise ArchiveCapabilityMissing(f"statistics, {refusal.detail}") from refusal
