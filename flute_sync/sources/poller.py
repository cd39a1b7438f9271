"""What the two pollers have in common: a step that a thread of the daemon repeats."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Protocol, TypeVar

_T = TypeVar("_T")

Stop = Callable[[], bool]
"""Asked between requests: True when the step should end. It may also serve as heartbeat."""


class Poller(Protocol):
    """Asks an archive what is new and delivers it."""

    @property
    def name(self) -> str:
        """The source's name, which its cursor is kept under."""

    @property
    def interval(self) -> timedelta:
        """How long to wait until the next step; zero while there is more to read."""

    def step(self, now: datetime, stop: Stop = lambda: False) -> None:
        """Ask once, deliver what is new and move the cursor in the same commit.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveRefused
            Of the archive.
        LedgerUnavailable, LedgerBusy
            Of the intake. Whatever is raised, the next step does what this one could not.
        """


def batches(values: Iterable[_T], size: int) -> Iterator[tuple[_T, ...]]:
    """Cut values into tuples of at most ``size``; none at all is one empty tuple."""
    iterator = iter(values)
    batch = tuple(islice(iterator, size))
    yield batch
    while batch := tuple(islice(iterator, size)):
        yield batch
