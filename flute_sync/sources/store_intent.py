"""The intent of an association whose instances go on to the archive.

It is committed before the first instance of a study can be complete there, and kept for a few
seconds for those that follow; what becomes of an instance is told at once. Where that is not
known, the intent turns into notices and the archive is read.
"""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.intake import Delivery, Intake, IntentId, Received, Refused
from flute_sync.sources.store_session import SOURCE
from flute_sync.sources.stow_intents import LENT_FOR
from flute_sync.study import StudyInstanceUID

log = logging.getLogger(__name__)


class AssociationIntent:
    """Which studies one association is about to change in the archive.

    Parameters
    ----------
    calling_ae_title
        Who sends.
    kept_for
        How old an intent may become before another takes its place.
    """

    def __init__(
        self,
        intake: Intake,
        archive: str,
        calling_ae_title: str | None,
        clock: Callable[[], datetime],
        kept_for: timedelta = LENT_FOR,
    ) -> None:
        self._intake = intake
        self._archive = archive
        self._calling_ae_title = calling_ae_title
        self._clock = clock
        self._kept_for = kept_for
        self._open: IntentId | None = None
        self._studies: set[StudyInstanceUID] = set()
        self._since = clock()

    def cover(self, study: StudyInstanceUID) -> None:
        """Commit that an instance of a study is about to be completed towards the archive.

        Raises
        ------
        LedgerUnavailable, LedgerBusy
            When that is not committed.
        """
        if self._open is not None and self._is_old():
            self.close()
        if self._open is None:
            self._since = self._clock()
            self._open = self._intake.intend(SOURCE, self._archive, (study,))
            self._studies = {study}
        elif study not in self._studies:
            try:
                self._intake.extend(self._open, (study,))
            except FluteSyncError:
                self.abandon()
                raise
            self._studies.add(study)

    def deliver(self, received: Received) -> None:
        """Commit what the archive stored.

        Raises
        ------
        LedgerUnavailable, LedgerBusy
            When nothing was committed; the archive is read instead, once the ledger can.
        """
        closes = self._open if self._is_old() else None
        try:
            self._deliver(received=(received,), under=self._open, closes=closes)
        except FluteSyncError:
            self.abandon()
            raise
        if closes is not None:
            self._open = None

    def refuse(self, refused: Refused) -> None:
        """Commit that an instance was kept from the archive."""
        self._deliver(refused=(refused,))

    def abandon(self) -> None:
        """Let the archive be read: what it stored is not known."""
        intent, self._open = self._open, None
        if intent is not None:
            # Where this fails the intent runs out, which has the same effect.
            self._try(lambda: self._intake.abandon(intent))

    def close(self) -> None:
        """End the intent: what became of all its instances is committed."""
        intent, self._open = self._open, None
        if intent is not None:
            self._try(lambda: self._deliver(closes=intent))

    def _deliver(
        self,
        *,
        received: tuple[Received, ...] = (),
        refused: tuple[Refused, ...] = (),
        under: IntentId | None = None,
        closes: IntentId | None = None,
    ) -> None:
        self._intake.deliver(
            Delivery(
                source=SOURCE,
                archive=self._archive,
                at=self._clock(),
                received=received,
                refused=refused,
                under=under,
                closes=closes,
                calling_ae_title=self._calling_ae_title,
            )
        )

    def _is_old(self) -> bool:
        # A clock that was set back says nothing of the lease.
        return not timedelta() <= self._clock() - self._since < self._kept_for

    @staticmethod
    def _try(work: Callable[[], None]) -> None:
        try:
            work()
        except FluteSyncError as error:
            log.warning(
                "an intent cannot be ended: its study will be read when the intent runs out",
                extra=fields(Event.LEDGER_FAILED, source=SOURCE, code=error.code, hint=error.hint),
            )
