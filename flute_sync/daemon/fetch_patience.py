"""How patiently a fetch tries again: by the one policy of ``[retry]``, but not for ever.

A person waits for the end of a command, and the same command goes on where it stopped.
"""

import random
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event, Lock
from typing import Final, TypeVar

from flute_sync.archive_errors import ArchiveUnavailable
from flute_sync.errors import FluteSyncError, PermanentError, TransientError
from flute_sync.retry import RetrySettings, decide

_HOPELESS: Final = 20
"""So many requests in a row that failed for good, although a retry might have mended each."""

T = TypeVar("T")


class Ended(Exception):
    """The run ends here: for an error that meets all of it, or because it was told to stop."""

    def __init__(self, error: FluteSyncError | None) -> None:
        super().__init__()
        self.error = error


class Patience:
    """For several threads of one run.

    Parameters
    ----------
    attempts
        How often something is tried before its failure counts.
    """

    def __init__(self, retry: RetrySettings, attempts: int) -> None:
        self._retry, self._attempts = retry, attempts
        self._stop = Event()
        self._lock = Lock()
        self._hopeless = 0
        self.waiting_for: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the run was told to stop."""
        return self._stop.is_set()

    def stop(self) -> None:
        """End all waits, and what asks `check`."""
        self._stop.set()

    def check(self) -> None:
        """Go on, or raise `Ended` once the run was told to stop."""
        if self.is_over:
            raise Ended(None)

    def tried(self, act: Callable[[int], T], gained: Callable[[], int] = lambda: 0) -> T:
        """Do something, and again where it fails for a temporary reason.

        Parameters
        ----------
        act
            Is told how often it failed before.
        gained
            Rises with what came: who gets on has all attempts anew.

        Raises
        ------
        Ended
            The run is to stop; or no archive answers, or nothing succeeds any more.
        FluteSyncError
            What is left of the failure.
        """
        failures, before = 0, gained()
        while True:
            self.check()
            try:
                done = act(failures)
            except TransientError as error:
                if gained() > before:
                    failures, before = 0, gained()
                failures += 1
                if failures >= self._attempts:
                    self._give_up(error)
                    raise
                self._wait(error, failures)
            except PermanentError:
                self._hopeless = 0
                raise
            else:
                self._hopeless = 0
                return done

    def _give_up(self, error: TransientError) -> None:
        with self._lock:
            self._hopeless += 1
            is_hopeless = self._hopeless >= _HOPELESS
        if is_hopeless or isinstance(error, ArchiveUnavailable):
            raise Ended(error) from error

    def _wait(self, error: TransientError, failures: int) -> None:
        now = datetime.now(UTC)
        decision = decide(error, failures, now, self._retry, random.random())
        if decision.at is None:
            raise error
        self.waiting_for = error.sentence
        self._stop.wait((decision.at - now).total_seconds())
        self.waiting_for = None
