"""One watch on new and changed Patients, so that waiting studies need not poll."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from flute_sync.bundle import Resource
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.watch import Watch, updated
from flute_sync.patient import patient_keys, replaced_by

_OVERLAP: Final = timedelta(minutes=2)
_ELEMENTS: Final = ("_elements", "identifier,link,meta")


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
        self._watch = Watch(client, updated(client, "Patient", [_ELEMENTS]), overlap)

    def look(self, cursor: str | None) -> Iterator[Arrivals]:
        """Yield what arrived since the cursor, page by page; at least one value.

        Parameters
        ----------
        cursor
            Of the last `Arrivals` that was acted upon; None to begin now.
        """
        for news in self._watch.look(cursor):
            patients = news.resources
            yield Arrivals(patient_keys(patients), news.cursor, merged(patients))


def merged(patients: Iterable[Resource]) -> frozenset[str]:
    """Return the references of those who were replaced by another Patient."""
    return frozenset(f"Patient/{one['id']}" for one in patients if replaced_by(one))
