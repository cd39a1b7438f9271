"""Commits of notices, shared: what comes while one is under way goes into the next together.

A pusher may tell of each instance of a study. Notices of one study that wait for the same commit
are one notice, so that a flood costs requests and hardly any commits.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from flute_sync.intake import Delivery, Intake, Notice, Noticed
from flute_sync.study import StudyInstanceUID

Notices = Mapping[str, Mapping[StudyInstanceUID, Notice]]
"""By archive, what was told last of each study."""

_AT_ONCE: Final = 1000
"""How many notices a delivery holds: the ledger is locked no longer than that takes."""


class NoticeRounds:
    """Deliver notices from an event loop; used in one loop.

    Parameters
    ----------
    source
        The name under which they are delivered.
    """

    def __init__(self, intake: Intake, source: str) -> None:
        self._intake = intake
        self._source = source
        self._gathered: dict[str, dict[StudyInstanceUID, Notice]] | None = None
        self._round: asyncio.Task[None] | None = None

    async def commit(self, notices: Notices) -> None:
        """Return when the notices are committed.

        Raises
        ------
        LedgerUnavailable, LedgerBusy
            When not all of them are: they are to be told again.
        """
        if self._gathered is None or self._round is None:
            self._gathered = {}
            self._round = asyncio.create_task(self._carry_out(self._round))
            self._round.add_done_callback(_seen)
        for archive, studies in notices.items():
            self._gathered.setdefault(archive, {}).update(studies)
        await asyncio.shield(self._round)

    async def _carry_out(self, before: asyncio.Task[None] | None) -> None:
        if before is not None and not before.done():
            await asyncio.wait([before])
        notices, self._gathered = self._gathered or {}, None
        await asyncio.to_thread(self._deliver, notices)

    def _deliver(self, notices: Notices) -> None:
        for archive, studies in notices.items():
            noticed = [Noticed(uid, notice) for uid, notice in studies.items()]
            for first in range(0, len(noticed), _AT_ONCE):
                some = tuple(noticed[first : first + _AT_ONCE])
                self._intake.deliver(
                    Delivery(self._source, archive, datetime.now(UTC), noticed=some)
                )


def _seen(task: asyncio.Task[None]) -> None:
    """Look at what came of a round: all of its pushers may have hung up."""
    if not task.cancelled():
        task.exception()
