"""The intake as the event loop uses it: commits in threads, what fails is done later."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.intake import Delivery, Intake, IntentId, Noticed, Received, Refused
from flute_sync.study import StudyInstanceUID

log = logging.getLogger(__name__)

_T = TypeVar("_T")

SOURCE: Final = "stow_rs"
_FIRST_PAUSE: Final = timedelta(seconds=1)
_LONGEST_PAUSE: Final = timedelta(seconds=30)
_PATIENCE: Final = timedelta(seconds=5)


class LedgerDoor:
    """Deliver from an event loop without blocking it.

    Parameters
    ----------
    archive
        The name of the archive that holds what is received.
    threads
        How many commits may wait at once; the ledger groups them.
    final
        The archive cannot be asked: what comes last counts.
    """

    def __init__(self, intake: Intake, archive: str, threads: int, *, final: bool = False) -> None:
        self._intake = intake
        self.archive = archive
        self._final = final
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="stow-ledger")
        self._background: set[asyncio.Task[None]] = set()

    async def deliver(
        self,
        received: tuple[Received, ...],
        *,
        noticed: tuple[Noticed, ...] = (),
        refused: tuple[Refused, ...] = (),
        under: IntentId | None = None,
        closes: IntentId | None = None,
    ) -> frozenset[StudyInstanceUID]:
        """Commit news of instances; return the studies that were erased, of which nothing was.

        Raises
        ------
        LedgerUnavailable, LedgerBusy
            When nothing was committed.
        """
        delivery = Delivery(
            source=SOURCE,
            archive=self.archive,
            at=datetime.now(UTC),
            received=received,
            noticed=noticed,
            refused=refused,
            under=under,
            closes=closes,
            final=self._final,
        )
        return await asyncio.shield(self.run(lambda: self._intake.deliver(delivery)))

    def intend(self, study: StudyInstanceUID) -> IntentId:
        """Commit a new intent; blocks."""
        return self._intake.intend(SOURCE, self.archive, (study,))

    def extend(self, intent: IntentId, study: StudyInstanceUID) -> None:
        """Commit one study more; blocks."""
        self._intake.extend(intent, (study,))

    def run(self, commit: Callable[[], _T]) -> asyncio.Future[_T]:
        """Start a commit in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, commit)

    async def abandon(self, intent: IntentId) -> None:
        """Turn an intent into notices: now, or as soon as the ledger can."""
        try:
            await self.run(lambda: self._intake.abandon(intent))
        except FluteSyncError as error:
            log.warning(
                "an interrupted upload cannot be noted yet",
                extra=fields(Event.LEDGER_FAILED, source=SOURCE, code=error.code, hint=error.hint),
            )
            self.in_background(self._abandon_later(intent))

    async def _abandon_later(self, intent: IntentId) -> None:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause.total_seconds())
            with suppress(FluteSyncError):
                await self.run(lambda: self._intake.abandon(intent))
                return
            pause = min(pause * 2, _LONGEST_PAUSE)

    def in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Go on with something although the request it belongs to ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def close(self) -> None:
        """Wait a moment for what is under way; the next start recovers what is left."""
        if self._background:
            await asyncio.wait(self._background, timeout=_PATIENCE.total_seconds())
        for task in self._background:
            task.cancel()
        self._threads.shutdown(wait=False)
