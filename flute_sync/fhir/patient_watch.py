"""One watch on new and changed Patients, so that waiting studies need not poll.

All times are the server's: `meta.lastUpdated` and the Date of its answers. A Patient may become
visible a little after its own `lastUpdated`; the watch therefore looks back over an overlap, and
forgets nothing it has said within it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from flute_sync.bundle import Resource, last_updated, version_of
from flute_sync.fhir.client import FhirClient
from flute_sync.patient import patient_keys, replaced_by

_OVERLAP: Final = timedelta(minutes=2)
_PAGE: Final = 200


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Keys of Patients that arrived or changed, and where the watch stands after them.

    ``merged`` are references of those who were replaced by another Patient.
    """

    keys: frozenset[str]
    cursor: str
    merged: frozenset[str] = frozenset()


class PatientWatch:
    """Asks for Patients by `_lastUpdated`; for one thread."""

    def __init__(self, client: FhirClient, overlap: timedelta = _OVERLAP) -> None:
        self._client = client
        self._overlap = overlap
        self._said: dict[tuple[str, str | None], datetime] = {}

    def look(self, cursor: str | None) -> Iterator[Arrivals]:
        """Yield what arrived since the cursor, page by page; at least one value.

        Parameters
        ----------
        cursor
            Of the last `Arrivals` that was acted upon; None to begin now.
        """
        if cursor is None:
            yield Arrivals(frozenset(), _text(self._client.server_time()))
            return
        reached = datetime.fromisoformat(cursor)
        since = reached - self._overlap
        self._said = {seen: at for seen, at in self._said.items() if at >= since}
        parameters = [
            ("_lastUpdated", f"ge{_text(since)}"),
            ("_sort", "_lastUpdated"),
            ("_elements", "identifier,link,meta"),
            ("_count", str(_PAGE)),
        ]
        newest = reached
        for patients in self._client.pages("Patient", parameters):
            fresh = {seen: one for one in patients if (seen := _seen(one)) not in self._said}
            times = {seen: last_updated(one) or reached for seen, one in fresh.items()}
            # A server that ignores the filter would wake everybody each time.
            fresh = {seen: one for seen, one in fresh.items() if times[seen] >= since}
            newest = max([newest, *times.values()])
            # Where a server does not sort, what is older may still come: the end alone counts.
            yield Arrivals(patient_keys(fresh.values()), _text(reached), _merged(fresh.values()))
            self._said |= times  # only now has it been acted upon
        yield Arrivals(frozenset(), _text(newest))


def _seen(patient: Resource) -> tuple[str, str | None]:
    return str(patient["id"]), version_of(patient)


def _merged(patients: Iterable[Resource]) -> frozenset[str]:
    return frozenset(f"Patient/{one['id']}" for one in patients if replaced_by(one))


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
