"""Following what changes of one resource type, by `_lastUpdated` or by its history.

All times are the server's: `meta.lastUpdated` and the Date of its answers. A resource may become
visible a little after its own `lastUpdated`; a watch therefore looks back over an overlap, and
forgets nothing it has said within it.

References
----------
FHIR R4 search.html#lastUpdated, http.html#history
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from flute_sync.bundle import Resource, last_updated, version_of
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import Parameters

_PAGE: Final = 200
_MANY: Final = 20_000
"""Versions kept in mind within one look before those are dropped that the next one leaves out."""

Pages = Callable[[str], Iterator[list[Resource]]]
"""Yields what changed since an instant, page by page."""
Seen = dict[tuple[str, str | None], datetime]
"""Versions that were acted upon, and when they were written."""


@dataclass(frozen=True, slots=True)
class News:
    """Resources that arrived or changed, and where the watch stands after them."""

    resources: tuple[Resource, ...]
    cursor: str


@dataclass
class Watch:
    """Tells each version once; for one thread.

    Parameters
    ----------
    client
        Tells the time where the watch begins.
    pages
        How changes are asked for.
    overlap
        How far it looks back.
    seen
        What was acted upon; watches of one type may share it.
    """

    client: FhirClient
    pages: Pages
    overlap: timedelta
    seen: Seen = field(default_factory=dict)

    def look(self, cursor: str | None) -> Iterator[News]:
        """Yield what changed since the cursor, page by page; at least one value.

        Parameters
        ----------
        cursor
            Of the last `News` that was acted upon; None to begin now.
        """
        if cursor is None:
            yield News((), _text(self.client.server_time()))
            return
        reached = datetime.fromisoformat(cursor)
        since = reached - self.overlap
        self._forget(since)
        newest = reached
        for found in self.pages(_text(since)):
            fresh = {seen: one for one in found if (seen := _seen(one)) not in self.seen}
            times = {seen: last_updated(one) or reached for seen, one in fresh.items()}
            # A server that ignores the filter would tell everything each time.
            fresh = {seen: one for seen, one in fresh.items() if times[seen] >= since}
            newest = max([newest, *times.values()])
            # Where a server does not sort, what is older may still come: the end alone counts.
            yield News(tuple(fresh.values()), _text(reached))
            self.seen.update((seen, times[seen]) for seen in fresh)  # only now acted upon
            if len(self.seen) > _MANY:
                self._forget(newest - self.overlap)
        yield News((), _text(newest))

    def _forget(self, since: datetime) -> None:
        for seen in [seen for seen, at in self.seen.items() if at < since]:
            del self.seen[seen]


def updated(client: FhirClient, resource_type: str, parameters: Parameters) -> Pages:
    """Ask for what was updated, by a search that further parameters narrow."""

    def pages(since: str) -> Iterator[list[Resource]]:
        when = [("_lastUpdated", f"ge{since}"), ("_sort", "_lastUpdated"), ("_count", str(_PAGE))]
        return client.pages(resource_type, [*when, *parameters])

    return pages


def history(client: FhirClient, resource_type: str) -> Pages:
    """Ask for all versions of a type; a deletion is a resource of which only id and meta are left.

    What another watch of the type has said comes again here.
    """
    return lambda since: client.history(resource_type, [("_since", since), ("_count", str(_PAGE))])


def _seen(resource: Resource) -> tuple[str, str | None]:
    return str(resource["id"]), version_of(resource)


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
