"""Intents of uploads: committed before the archive can store anything, and never forgotten.

An intent costs a commit, and many senders make a request of each instance. So an intent is lent
for a few seconds to the next upload of its study. One upload holds it at a time: what becomes of
that upload is told at once and concerns no other. Lending ends long before the intent's lease
does, even where this process was stopped meanwhile.
"""

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.intake import IntentId, Noticed, Received, Refused
from flute_sync.sources.stow_ledger import SOURCE, LedgerDoor
from flute_sync.study import StudyInstanceUID

log = logging.getLogger(__name__)

LENT_FOR: Final = timedelta(seconds=5)
"""Much less than the least lease there may be."""


class OpenIntent(NamedTuple):
    """A committed intent of one study."""

    id: IntentId
    study: StudyInstanceUID
    since: datetime


class Intents:
    """The intents that no upload holds at the moment; used in one event loop.

    Parameters
    ----------
    lent_for
        How old an intent may become before it is lent no more.
    """

    def __init__(self, door: LedgerDoor, lent_for: timedelta = LENT_FOR) -> None:
        self.door = door
        self._lent_for = lent_for
        self._idle: dict[StudyInstanceUID, list[OpenIntent]] = {}
        self._lends = True

    def borrow(self, study: StudyInstanceUID) -> OpenIntent | None:
        """Take an intent of a study, where one may be lent."""
        idle = self._idle.get(study, [])
        if idle and self._left(idle[-1]) > timedelta():
            return self._without(idle[-1])
        return None

    def lends(self, intent: OpenIntent) -> bool:
        """Tell whether an intent may be given back rather than ended."""
        return self._lends and self._left(intent) > timedelta()

    def give_back(self, intent: OpenIntent) -> None:
        """Keep an intent whose uploads are all recorded, and end it when its time is over."""
        self._idle.setdefault(intent.study, []).append(intent)
        seconds = self._left(intent).total_seconds()
        asyncio.get_running_loop().call_later(seconds, self._expire, intent)

    def close(self) -> None:
        """Begin to end what is not in use, and lend no more."""
        self._lends = False
        for intent in [one for idle in self._idle.values() for one in idle]:
            self._expire(intent)

    def _left(self, intent: OpenIntent) -> timedelta:
        # A clock that was set back says nothing of the lease.
        left = self._lent_for - (datetime.now(UTC) - intent.since)
        return left if left <= self._lent_for else timedelta()

    def _without(self, intent: OpenIntent) -> OpenIntent:
        idle = self._idle[intent.study]
        idle.remove(intent)
        if not idle:
            del self._idle[intent.study]
        return intent

    def _expire(self, intent: OpenIntent) -> None:
        if intent in self._idle.get(intent.study, ()):
            self.door.in_background(self._end(self._without(intent)))

    async def _end(self, intent: OpenIntent) -> None:
        try:
            await self.door.deliver((), closes=intent.id)
        except FluteSyncError as error:
            log.warning(
                "an intent cannot be ended: its study will be read when the intent runs out",
                extra=fields(Event.LEDGER_FAILED, source=SOURCE, code=error.code, hint=error.hint),
            )


class UploadIntent:
    """Which studies one upload is about to change in the archive."""

    def __init__(self, intents: Intents) -> None:
        self._intents = intents
        self._door = intents.door
        self._open: OpenIntent | None = None
        self._studies: set[StudyInstanceUID] = set()
        self._commit: asyncio.Future[None] | None = None
        self._closed = False

    def begin(self, study: StudyInstanceUID) -> None:
        """Start to commit a study that is new to the upload."""
        if study in self._studies:
            return
        if not self._studies:
            self._open = self._intents.borrow(study)
        if self._studies or self._open is None:
            self._commit = self._door.run(lambda: self._cover(study))
        self._studies.add(study)

    def _cover(self, study: StudyInstanceUID) -> None:
        if self._open is None:
            since = datetime.now(UTC)
            self._open = OpenIntent(self._door.intend(study), study, since)
        else:
            self._door.extend(self._open.id, study)

    @property
    def pending(self) -> bool:
        """Whether a commit is under way."""
        return self._commit is not None and not self._commit.done()

    async def committed(self) -> None:
        """Wait until all studies named so far are committed.

        Raises
        ------
        LedgerUnavailable, LedgerBusy
            When the last one is not.
        """
        if self._commit is not None:
            await asyncio.shield(self._commit)
            self._commit = None

    async def close(
        self,
        received: tuple[Received, ...],
        noticed: tuple[Noticed, ...],
        refused: tuple[Refused, ...],
    ) -> None:
        """Commit what came of the upload; its intent ends with it, or is there for the next.

        Raises
        ------
        LedgerUnavailable, LedgerBusy
            When nothing was committed: the intent is still open.
        """
        held = self._open
        lent = held is not None and len(self._studies) == 1 and self._intents.lends(held)
        await self._door.deliver(
            received,
            noticed=noticed,
            refused=refused,
            under=held and held.id,
            closes=None if lent else held and held.id,
        )
        self._closed = True
        if lent and held is not None:
            self._intents.give_back(held)

    async def release(self) -> None:
        """Turn an intent that is still open into notices, even if the request is cancelled."""
        if not self._closed and (self._commit is not None or self._open is not None):
            self._closed = True
            await asyncio.shield(self._door.in_background(self._release()))

    async def _release(self) -> None:
        if self._commit is not None:
            with suppress(FluteSyncError):
                await self._commit
        if self._open is not None:
            await self._door.abandon(self._open.id)
