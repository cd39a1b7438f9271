"""Group commit: what several senders ask for at once becomes durable together.

There is no thread: of the callers who wait, one leads and commits for all who had asked by then.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Generic, TypeVar

from flute_sync.errors import FluteSyncError, TransientError
from flute_sync.ledger_errors import LedgerUnavailable

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

MOST_TOGETHER: Final = 5_000
"""Weight (instances) that one transaction takes; one job alone may be heavier."""


@dataclass(slots=True, eq=False)
class _Ticket(Generic[_Job, _Result]):
    job: _Job
    weight: int
    done: bool = False
    result: _Result | None = None
    error: BaseException | None = None

    def done_with(self, result: _Result | FluteSyncError) -> None:
        if isinstance(result, FluteSyncError):
            self.error = result
        else:
            self.result, self.error = result, None

    def settle(self) -> _Result:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # set whenever there is no error


@dataclass(slots=True)
class GroupCommit(Generic[_Job, _Result]):
    """Collects jobs and hands them, many at a time, to ``commit``.

    Parameters
    ----------
    commit
        Does a group of jobs in one transaction and returns their results, in order; a result
        that is an error concerns that job alone.
    clock
        Returns the time, aware.
    """

    commit: Callable[[Sequence[_Job]], Sequence[_Result | FluteSyncError]]
    clock: Callable[[], datetime]
    _turn: threading.Condition = field(default_factory=threading.Condition)
    _waiting: deque[_Ticket[_Job, _Result]] = field(default_factory=deque)
    _leading_since: datetime | None = None
    _closed: bool = False

    def submit(self, job: _Job, weight: int) -> _Result:
        """Return when the job is durable, or raise why it is not.

        Raises
        ------
        LedgerUnavailable, LedgerBusy, LedgerRefused, HeaderError
        """
        ticket: _Ticket[_Job, _Result] = _Ticket(job, weight)
        with self._turn:
            if self._closed:
                raise LedgerUnavailable("it is closed")
            self._waiting.append(ticket)
            while not ticket.done and self._leading_since is not None:
                self._turn.wait()
            if ticket.done:
                return ticket.settle()
            self._leading_since = self.clock()
            group = self._next_group(ticket)
        try:
            self._lead(group)
        finally:
            with self._turn:
                for member in group:
                    member.done = True
                self._leading_since = None
                self._turn.notify_all()
        return ticket.settle()

    def _next_group(self, leader: _Ticket[_Job, _Result]) -> list[_Ticket[_Job, _Result]]:
        self._waiting.remove(leader)
        group, weight = [leader], leader.weight
        while self._waiting and weight + self._waiting[0].weight <= MOST_TOGETHER:
            group.append(self._waiting.popleft())
            weight += group[-1].weight
        return group

    def _lead(self, group: Sequence[_Ticket[_Job, _Result]]) -> None:
        """Commit the group; a job that cannot be done does not take its neighbours with it."""
        for ticket in group:
            ticket.error = LedgerUnavailable("the commit was interrupted")
        try:
            results = self.commit([ticket.job for ticket in group])
        except TransientError as error:
            for ticket in group:
                ticket.error = type(error)(error.detail)
                ticket.error.__cause__ = error
        except Exception as error:  # noqa: BLE001  each job answers for itself, in its own thread
            self._lead_singly(group, error)
        else:
            for ticket, result in zip(group, results, strict=True):
                ticket.done_with(result)

    def _lead_singly(self, group: Sequence[_Ticket[_Job, _Result]], error: Exception) -> None:
        if len(group) == 1:
            group[0].error = error
            return
        for ticket in group:
            self._lead([ticket])

    def led_for(self) -> timedelta:
        """Return how long the commit in hand has taken; zero when there is none."""
        since = self._leading_since
        return timedelta() if since is None else self.clock() - since

    def close(self) -> None:
        """Refuse further jobs, and wait for those in hand."""
        with self._turn:
            self._closed = True
            while self._leading_since is not None or self._waiting:
                self._turn.wait()
