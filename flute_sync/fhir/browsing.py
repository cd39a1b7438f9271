"""ImagingStudies as a person searches them: page by page, read only.

References
----------
FHIR R4 search.html, imagingstudy.html#search
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final

from flute_sync.bundle import Resource
from flute_sync.console_errors import PageAbsent, SearchRefused
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.queries import (
    Page,
    Parameters,
    escaped,
    has_id,
    is_reference,
    study_search,
    token,
)
from flute_sync.fhir_errors import FhirGone
from flute_sync.identity import PatientKey
from flute_sync.terminology import DCM
from flute_sync.valuerep import ILLEGAL, uid_problem

_MODALITY: Final = re.compile(r"[A-Z0-9_]{1,16}")
_PER_PAGE: Final = 25
_MOST_PATIENTS: Final = 50
_SHOWN: Final = (
    "identifier,status,modality,subject,started,description,numberOfSeries,numberOfInstances,"
    "extension"
)


@dataclass(frozen=True, slots=True)
class StudyCriteria:
    """What a person searches for; what is empty does not matter.

    ``patient`` is ``Patient/ID``, an identifier, or ``system|identifier``. ``since`` and ``until``
    are days.
    """

    patient: str = ""
    uid: str = ""
    modality: str = ""
    since: str = ""
    until: str = ""


class StudyBrowser:
    """Searches and reads ImagingStudies; raises as `FhirClient`.

    Parameters
    ----------
    client
        One with short timeouts: a person waits.
    known_as
        By what the server may be asked for a patient, of an identifier's system, which may be
        empty, and its value; None: by these.
    """

    def __init__(
        self,
        client: FhirClient,
        known_as: Callable[[str, str], Iterable[PatientKey]] | None = None,
    ) -> None:
        self._client = client
        self._known_as = known_as

    def find(self, criteria: StudyCriteria, next_url: str | None = None) -> Page:
        """Return one page, the latest studies first.

        Raises
        ------
        SearchRefused
            It cannot be searched for.
        """
        if next_url is not None:
            return self._client.page("ImagingStudy", [], next_url=next_url)
        asked = [*_plain(criteria)]
        if criteria.patient:
            patients = self._patients(criteria.patient)
            if not patients:
                return Page([], None)
            asked.append(("patient", ",".join(patients)))
        shown = [("_sort", "-started"), ("_count", str(_PER_PAGE)), ("_elements", _SHOWN)]
        return self._client.page("ImagingStudy", [*asked, *shown])

    def read(self, resource_id: str) -> Resource:
        """Return an ImagingStudy.

        Raises
        ------
        PageAbsent
            There is none under this id, or no more.
        """
        if not has_id({"id": resource_id}):
            raise PageAbsent()
        try:
            found = self._client.read("ImagingStudy", resource_id)
        except FhirGone:
            raise PageAbsent("the ImagingStudy was deleted") from None
        if found is None:
            raise PageAbsent()
        return found

    def _patients(self, said: str) -> list[str]:
        if is_reference(said, "Patient"):
            return [said]
        identifier = self._identifier(said)
        if not identifier:
            return []
        criteria = [("identifier", identifier), ("_count", str(_MOST_PATIENTS))]
        found = self._client.page("Patient", [*criteria, ("_elements", "identifier")])
        return [f"Patient/{one['id']}" for one in found.matches[:_MOST_PATIENTS]]

    def _identifier(self, said: str) -> str:
        """Return the search by an identifier; empty where nobody can have it."""
        system, bar, value = (one.strip() for one in said.rpartition("|"))
        if not (system or value):
            raise SearchRefused("not an identifier")
        if self._known_as is not None:
            return ",".join(token(one.system, one.value) for one in self._known_as(system, value))
        return token(system, value) if bar else escaped(value)


def _plain(criteria: StudyCriteria) -> Parameters:
    asked: Parameters = []
    if criteria.uid:
        # A root and a suffix (PS3.5 9.1): a number of a patient, typed here, is told to nobody.
        if uid_problem(criteria.uid) == ILLEGAL or "." not in criteria.uid:
            raise SearchRefused("not a Study Instance UID")
        asked += study_search(criteria.uid)
    if criteria.modality:
        if not _MODALITY.fullmatch(criteria.modality):
            raise SearchRefused("not a modality, such as MR")
        asked.append(("modality", token(DCM, criteria.modality)))
    for prefix, day in (("ge", criteria.since), ("le", criteria.until)):
        if day:
            asked.append(("started", f"{prefix}{_day(day)}"))
    return asked


def _day(text: str) -> str:
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise SearchRefused("not a day, such as 2024-03-01") from None
