"""ImagingStudies as an index: which ones are meant, and what their Endpoints say.

References
----------
FHIR R4 search.html, references.html#contained
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from flute_sync.bundle import Resource
from flute_sync.fetch_errors import SelectorUnusable
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.endpoints import ENDPOINT
from flute_sync.fhir.imaging_studies import IMAGING_STUDY
from flute_sync.fhir.queries import Parameters, reference_id, study_search
from flute_sync.fhir_elements import members
from flute_sync.fhir_errors import FhirGone, FhirRejected
from flute_sync.ownership import bears_uid
from flute_sync.retrieval import WantedStudy, wanted_study

_PAGE: Final = "500"
_SHAPE: Final = frozenset(
    {"_elements", "_summary", "_format", "_pretty", "_include", "_revinclude", "_total"}
)
"""How a search is answered, which decides nothing about what it finds."""


class Retrievable:
    """Looks at one FHIR server and writes nothing; for one thread."""

    def __init__(self, client: FhirClient) -> None:
        self._client = client
        self._endpoints: dict[str, Resource | None] = {}

    def query(self, query: str) -> list[str]:
        """Return the ids of the ImagingStudies that a search finds.

        All of them are found before anything is fetched, which may take longer than a server keeps
        the pages of a search.

        Raises
        ------
        SelectorUnusable
            It is no search, or the server refuses it.
        """
        try:
            stated = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        except ValueError:
            raise SelectorUnusable("what follows ? is not a query") from None
        if "_count" in dict(stated):
            raise SelectorUnusable("_count is of a page: all that a search finds is fetched")
        asked = [one for one in stated if one[0].partition(":")[0] not in _SHAPE]
        parameters: Parameters = [*asked, ("_elements", "identifier"), ("_count", _PAGE)]
        try:
            pages = self._client.pages(IMAGING_STUDY, parameters)
            found = [str(one["id"]) for page in pages for one in page]
        except FhirRejected as error:
            raise SelectorUnusable("the FHIR server refuses the query") from error
        return list(dict.fromkeys(found))

    def of_uid(self, study_instance_uid: str) -> list[str]:
        """Return the ids of the ImagingStudies of a study."""
        found = self._client.search(IMAGING_STUDY, study_search(study_instance_uid))
        return [str(one["id"]) for one in found if bears_uid(one, study_instance_uid)]

    def local_id(self, reference: str) -> str | None:
        """Return the id of an ImagingStudy on this server from a reference to it."""
        return reference_id(reference, IMAGING_STUDY, self._client.base_url)

    def study(self, resource_id: str) -> WantedStudy | None:
        """Read an ImagingStudy; None where there is none of this id.

        Raises
        ------
        StudyNotRetrievable
            It does not say how its images are retrieved.
        """
        try:
            resource = self._client.read(IMAGING_STUDY, resource_id)
        except FhirGone:
            return None
        if resource is None:
            return None
        return wanted_study(
            resource,
            lambda references: self._found(resource, references),
            self._client.base_url,
        )

    def _found(self, resource: Resource, references: Sequence[object]) -> list[Resource]:
        return [one for one in self._each(resource, references) if one is not None]

    def _each(self, resource: Resource, references: Sequence[object]) -> Iterator[Resource | None]:
        for one in members(list(references)):
            stated = one.get("reference")
            if isinstance(stated, str) and stated.startswith("#"):
                yield _contained(resource, stated[1:])
            elif (found := reference_id(stated, ENDPOINT, self._client.base_url)) is not None:
                if found not in self._endpoints:
                    self._endpoints[found] = self._read(found)
                yield self._endpoints[found]

    def _read(self, endpoint_id: str) -> Resource | None:
        try:
            return self._client.read(ENDPOINT, endpoint_id)
        except FhirGone:
            return None


def _contained(resource: Resource, name: str) -> Resource | None:
    for one in members(resource.get("contained")):
        if one.get("id") == name and one.get("resourceType") == ENDPOINT:
            found: dict[str, Any] = dict(one)
            return found
    return None
