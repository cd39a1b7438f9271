"""The first filling: an archive is listed, and what is news is worked on until all is settled.

The list is pulled no further than the workers follow. Where an import stands is kept in the
ledger, behind studies that are settled: one that was killed goes on there, and looks again at
those it had in hand.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import orjson

from flute_sync.archive_errors import ArchiveServerError
from flute_sync.daemon.backlog import Backlog, patiently
from flute_sync.daemon.politeness import Rate, Window
from flute_sync.daemon.supervisor import Pulse
from flute_sync.daemon.tally import Tally
from flute_sync.daemon.workshop import Workshop
from flute_sync.errors import FluteSyncError, TransientError
from flute_sync.intake import Cursor, Delivery, Noticed
from flute_sync.ledger import Standing
from flute_sync.sources.listing import Choice, Listing, Page
from flute_sync.sources.poller import batches
from flute_sync.sources.search import StudyRow
from flute_sync.study import StudyInstanceUID

SOURCE: Final = "import"
BATCH: Final = 64
"""Studies that are noticed at once."""
LOOK: Final = timedelta(milliseconds=200)
"""How often it is seen what has been settled."""
TRIES: Final = 8
"""How often in a row an archive may fail on the same page before the import gives up."""
LONGEST_WAIT: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an import is. ``total`` is not known of every archive."""

    archive: str
    settled: int
    total: int | None
    waiting_for: str | None = None


@dataclass(frozen=True)
class Plan:
    """What to import, and how politely."""

    choice: Choice
    archives: tuple[str, ...]
    rate: Rate | None = None
    window: Window | None = None
    restart: bool = False

    @property
    def said(self) -> str:
        """What tells this choice from others."""
        chosen = self.choice
        said = [
            str(chosen.since),
            str(chosen.until),
            sorted(chosen.modalities),
            sorted(chosen.patient_ids),
        ]
        return f"{SOURCE} {orjson.dumps(said).decode()}"


@dataclass
class Report:
    """How an import ended.

    ``resumed``: it went on where an earlier one had stopped. ``unlisted``: the archives that could
    not be listed to their end, and why. ``error``: what ended all of it.
    """

    tally: Tally = field(default_factory=Tally)
    resumed: bool = False
    unlisted: dict[str, FluteSyncError] = field(default_factory=dict)
    finished: bool = False
    error: FluteSyncError | None = None

    @property
    def cause(self) -> FluteSyncError | None:
        """Why it did not come to its end, where something failed."""
        return self.error or next(iter(self.unlisted.values()), None)


class Import:
    """One import; `run` is a part of a `Workshop`.

    Parameters
    ----------
    listing
        Makes the list of one archive.
    tell
        Told of each progress.
    """

    def __init__(
        self,
        shop: Workshop,
        plan: Plan,
        listing: Callable[[str], Listing],
        tell: Callable[[Progress], None],
    ) -> None:
        self._shop = shop
        self._plan = plan
        self._listing = listing
        self._tell = tell
        self._earlier = Tally()
        self._one: _OneArchive | None = None
        self._resumed = False
        self._unlisted: dict[str, FluteSyncError] = {}

    def run(self, pulse: Pulse) -> None:
        """Import one archive after the other; one that cannot be listed keeps nobody from the next.

        Raises
        ------
        FluteSyncError
            The ledger cannot be used.
        """
        for name in self._plan.archives:
            self._one = _OneArchive(self._shop, self._plan, name, self._listing(name), self._tell)
            self._one.run(pulse)
            self._resumed |= self._one.resumed
            self._earlier.add(self._one.tally)
            if self._one.error is not None:
                self._unlisted[name] = self._one.error
            self._one = None
            if pulse.stopping:
                return

    def count(self, pulse: Pulse) -> None:
        """Count what there is, where the archive does not tell: a part of its own, beside `run`.

        It takes one request for some hundred studies. An archive that fails is not counted.
        """
        counted: set[str] = set()
        while not pulse.wait(LOOK):
            one = self._one
            if one is not None and one.name not in counted and one.total is None:
                counted.add(one.name)
                with contextlib.suppress(FluteSyncError):
                    one.total = self._counted(one, pulse)

    def _counted(self, one: "_OneArchive", pulse: Pulse) -> int | None:
        window, count = self._plan.window, 0
        listing, now = self._listing(one.name), datetime.now(UTC)
        for page in listing.pages(self._plan.choice, one.began, now, pulse.asked):
            count += len(page.rows)
            closed = window.wait(datetime.now(UTC)) if window is not None else timedelta()
            if pulse.wait(closed):
                return None
        return count

    @property
    def report(self) -> Report:
        """What came of it so far."""
        report = Report(Tally(), self._resumed, self._unlisted)
        report.tally.add(self._earlier)
        if self._one is not None:
            report.tally.add(self._one.tally)
            report.resumed |= self._one.resumed
        return report


@dataclass
class _Share:
    """The studies of one page: how many are not settled, and what became of the others."""

    resume: str
    tally: Tally = field(default_factory=Tally)
    waiting: int = 0
    is_whole: bool = False


@dataclass
class Patience:
    """How often in a row a list failed at one place; a list that never came is not waited for."""

    failures: int = 0
    was_reached: bool = False

    def got(self, page: Page, resume: str | None) -> None:
        """Take note of a page of a list that went on at ``resume``.

        A list goes on a little before where it stopped: that alone is no progress.
        """
        self.was_reached = True
        if page.resume != resume:
            self.failures = 0

    def is_over(self, error: TransientError) -> bool:
        """Take note of a failure; tell whether it is of no use to wait."""
        self.failures += 1
        given_up = isinstance(error, ArchiveServerError) and self.failures >= TRIES
        return given_up or not self.was_reached


class _OneArchive:
    def __init__(
        self,
        shop: Workshop,
        plan: Plan,
        name: str,
        listing: Listing,
        tell: Callable[[Progress], None],
    ) -> None:
        self._shop, self._plan, self.name = shop, plan, name
        self._listing, self._tell = listing, tell
        self._ledger = shop.ledger
        # A keyed hash: the choice may name patients, and nobody shall test a guess elsewhere.
        self._source = f"{SOURCE} {shop.ledger.erasures.mark(plan.said)}"
        self._backlog = Backlog(shop.ledger, self._on_settled)
        self._done = Tally()
        self._shares: deque[_Share] = deque()
        self._share_of: dict[StudyInstanceUID, _Share] = {}
        self._resume: str | None = None
        self.total: int | None = None
        self.began: str | None = None
        """Where in the list this run began."""
        self.resumed = False
        self.error: FluteSyncError | None = None
        """Why the archive could not be listed to its end."""

    @property
    def tally(self) -> Tally:
        """Everything counted so far."""
        counted = Tally()
        for one in (self._done, *(share.tally for share in self._shares)):
            counted.add(one)
        return counted

    def run(self, pulse: Pulse) -> None:
        """List, notice, wait."""
        self._go_on()
        for page in self._pages(pulse):
            self._take(page, pulse)
            if pulse.stopping:
                break
        if self.error is not None:
            return
        self._wait(pulse, lambda _now: timedelta() if not len(self._backlog) else LOOK)
        if not pulse.stopping:
            patiently(pulse, partial(self._keep, ""))

    # -- where it stands ---------------------------------------------------------------------

    def _go_on(self) -> None:
        kept = None if self._plan.restart else self._ledger.cursor(self._source, self.name)
        if kept:
            self._resume, self.began, self.resumed = kept, kept, True

    def _keep(self, value: str) -> None:
        self._ledger.set_cursor(Cursor(self._source, self.name, value))

    def _advance(self) -> None:
        """Move the cursor behind all pages of which every study is settled."""
        resume = None
        while self._shares and self._shares[0].is_whole and not self._shares[0].waiting:
            share = self._shares.popleft()
            self._done.add(share.tally)
            resume = share.resume
        if resume is not None:
            self._keep(resume)

    # -- the list ----------------------------------------------------------------------------

    def _pages(self, pulse: Pulse) -> Iterator[Page]:
        """List the archive, and wait for it where it is down."""
        choice, patience = self._plan.choice, Patience()
        while not pulse.stopping:
            now = datetime.now(UTC)
            try:
                self.total = self.total or self._listing.count(choice, now)
                for page in self._listing.pages(choice, self._resume, now, pulse.asked):
                    patience.got(page, self._resume)
                    yield page
                    self._resume = page.resume
                return
            except FluteSyncError as error:
                if not isinstance(error, TransientError) or patience.is_over(error):
                    self.error = error
                    return
                self._pause(error, patience.failures, pulse)

    def _pause(self, error: FluteSyncError, failures: int, pulse: Pulse) -> None:
        wait = min(timedelta(seconds=1) * (1 << failures), LONGEST_WAIT)
        until = datetime.now(UTC) + max(wait, error.retry_after or timedelta())
        reason = f"{self.name}: {error.code}: {error.sentence}"
        self._wait(pulse, lambda now: until - now, lambda _now: reason)

    # -- the work ----------------------------------------------------------------------------

    def _take(self, page: Page, pulse: Pulse) -> None:
        share = _Share(page.resume)
        self._shares.append(share)
        rate = self._plan.rate
        size = BATCH if rate is None else min(BATCH, rate.most_at_once)
        for rows in batches(page.rows, size):
            self._wait(pulse, self._hindrance, self._reason)
            if pulse.stopping:
                return
            if rows:
                patiently(pulse, partial(self._notice, rows, share))
        share.is_whole = True
        patiently(pulse, self._advance)

    def _hindrance(self, now: datetime) -> timedelta:
        """Return how long to wait before the next studies may be noticed."""
        window, rate = self._plan.window, self._plan.rate
        if window is not None and (closed := window.wait(now)):
            return closed
        pauses = (self._shop.fhir_pause, *self._shop.archive_pauses)
        concerned = [pause for pause in pauses if pause.target in ("fhir", self.name)]
        paused: timedelta = max(pause.remaining(now) for pause in concerned)
        if paused or self._backlog.is_full:
            return max(paused, LOOK)
        return rate.wait(now) if rate is not None else timedelta()

    def _reason(self, now: datetime) -> str | None:
        window = self._plan.window
        if window is not None and window.wait(now) and not len(self._backlog):
            return f"{window}, the hours of this import"
        return self._shop.waiting_for(now)

    def _notice(self, rows: tuple[StudyRow, ...], share: _Share) -> None:
        rows = tuple(row for row in rows if row.study_instance_uid not in self._backlog)
        uids = [row.study_instance_uid for row in rows]
        before = self._ledger.standings(uids)
        noticed = tuple(
            Noticed(row.study_instance_uid, fingerprint=row.fingerprint) for row in rows
        )
        now = datetime.now(UTC)
        self._ledger.deliver(Delivery(SOURCE, self.name, now, noticed=noticed, at_once=True))
        new = 0
        for uid, standing in self._ledger.standings(uids).items():
            was = before.get(uid)
            is_new = was is None or was.generation != standing.generation
            new += is_new
            share.tally.listed += 1
            share.tally.new += is_new
            if standing.is_settled and not is_new:
                share.tally.count(standing, worked_on=False)
            else:
                share.waiting += 1
                self._share_of[uid] = share
                self._backlog.add([uid])
        if self._plan.rate is not None:
            self._plan.rate.spend(new, now)

    def _on_settled(self, uid: StudyInstanceUID, standing: Standing) -> None:
        share = self._share_of.pop(uid)
        share.waiting -= 1
        share.tally.count(standing, worked_on=True)

    # -- waiting -----------------------------------------------------------------------------

    def _wait(
        self,
        pulse: Pulse,
        left: Callable[[datetime], timedelta],
        reason: Callable[[datetime], str | None] | None = None,
    ) -> None:
        """Wait until nothing is left to wait for, and see meanwhile what has been settled."""
        reason = reason or self._shop.waiting_for
        while not pulse.stopping:
            patiently(pulse, self._look)
            now = datetime.now(UTC)
            wait = left(now)
            settled = self.tally.settled
            self._tell(Progress(self.name, settled, self.total, reason(now) if wait else None))
            if wait <= timedelta():
                return
            pulse.wait(min(wait, LOOK if len(self._backlog) else timedelta(seconds=1)))

    def _look(self) -> None:
        self._backlog.look()
        self._advance()
