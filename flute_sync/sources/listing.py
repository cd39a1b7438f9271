"""All studies that an archive holds, page by page: what import, sweep and reconcile go through."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import NamedTuple, Protocol

from flute_sync.sources.poller import Stop
from flute_sync.sources.search import StudyRow


@dataclass(frozen=True, slots=True)
class Choice:
    """Which studies are listed; everything where nothing is said.

    ``since`` and ``until`` are Study Dates, both included. ``modalities`` and ``patient_ids`` are
    alternatives: one of each is enough. A server may ignore a key, so that rows are compared again
    by who asked.
    """

    since: date | None = None
    until: date | None = None
    modalities: frozenset[str] = frozenset()
    patient_ids: tuple[str, ...] = ()


class Page(NamedTuple):
    """Some studies, and the text by which a later listing goes on after them."""

    rows: tuple[StudyRow, ...]
    resume: str


class Listing(Protocol):
    """Lists one archive."""

    def pages(
        self, choice: Choice, resume: str | None, now: datetime, stop: Stop
    ) -> Iterator[Page]:
        """Yield what is chosen, from where an earlier listing of the same choice stood.

        A study that is filed under several patients may come in several rows.

        Raises
        ------
        ArchiveUnavailable, ArchiveServerError, ArchiveUnauthorized, ArchiveCapabilityMissing
        """

    def count(self, choice: Choice, now: datetime) -> int | None:
        """Return how many studies there are, where that is told without listing them."""
