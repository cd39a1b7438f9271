"""Studies that a command noticed and waits for: few at a time, whoever works on them."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, TypeVar

from flute_sync.daemon.supervisor import Pulse
from flute_sync.ledger import Ledger, Standing
from flute_sync.ledger_errors import LedgerBusy, LedgerUnavailable
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State

MOST: Final = 256
"""How far a command runs ahead of the workers: enough that none of them ever waits for it."""

ATTEMPTS: Final = 3
"""Failures in a row after which a study counts as failed; it is still tried again later."""
SOON: Final = timedelta(seconds=30)
"""A failed study that is tried again later than that is not waited for."""

_T = TypeVar("_T")


class Backlog:
    """What is not settled yet, bounded by `MOST`.

    Parameters
    ----------
    settled
        Told of each study that is over, once, with how it stands then.
    """

    def __init__(
        self, ledger: Ledger, settled: Callable[[StudyInstanceUID, Standing], None]
    ) -> None:
        self._ledger = ledger
        self._settled = settled
        self._waiting: set[StudyInstanceUID] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, uid: StudyInstanceUID) -> bool:
        return uid in self._waiting

    @property
    def is_full(self) -> bool:
        """Whether no more should be added."""
        return len(self._waiting) >= MOST

    def add(self, uids: Iterable[StudyInstanceUID]) -> None:
        """Wait for studies."""
        self._waiting.update(uids)

    def look(self) -> None:
        """See what has been settled.

        Raises
        ------
        LedgerUnavailable, LedgerBusy
        """
        if not self._waiting:
            return
        now = datetime.now(UTC)
        for uid, standing in self._ledger.standings(self._waiting, at_rest=True).items():
            if is_over(standing, now):
                self._waiting.discard(uid)
                self._settled(uid, standing)


def is_over(standing: Standing, now: datetime) -> bool:
    """Tell whether a study needs no more waiting for."""
    if standing.state is not State.FAILED:
        return standing.is_settled
    next_attempt = standing.next_attempt_at or now
    return standing.attempts >= ATTEMPTS or next_attempt - now > SOON


def patiently(pulse: Pulse, work: Callable[[], _T]) -> _T | None:
    """Do what the ledger may be too busy for; None when told to stop before it was done."""
    while True:
        try:
            return work()
        except (LedgerBusy, LedgerUnavailable):
            if pulse.wait(timedelta(seconds=1)):
                return None
