"""All ImagingStudies and Endpoints of a site, page by page, cut down to what is compared.

References
----------
FHIR R4 search.html#elements, search.html#token
"""

from collections.abc import Collection, Iterator
from datetime import date
from typing import Any, Final

from flute_sync.bundle import Resource, version_of
from flute_sync.fhir.client import FhirClient
from flute_sync.fhir.endpoints import ENDPOINT
from flute_sync.fhir.imaging_studies import IMAGING_STUDY
from flute_sync.fhir.patients import PATIENT
from flute_sync.fhir.queries import Parameters, reference_id, study_search
from flute_sync.fhir_errors import FhirGone
from flute_sync.ownership import bears_uid, study_uid
from flute_sync.reconciliation import Said
from flute_sync.study import StudyInstanceUID
from flute_sync.terminology import DICOM_UID

_PAGE: Final = "250"
_ELEMENTS: Final = (
    "identifier,status,subject,started,endpoint,numberOfSeries,numberOfInstances,meta"
)
_OFF: Final = frozenset({"off", "entered-in-error"})


class Survey:
    """Looks at one FHIR server and writes nothing."""

    def __init__(self, client: FhirClient) -> None:
        self._client = client

    def studies(self) -> Iterator[list[tuple[StudyInstanceUID, Said]]]:
        """Yield the ImagingStudies that have a Study Instance UID, some at a time."""
        parameters: Parameters = [
            ("identifier", f"{DICOM_UID}|"),
            ("_elements", _ELEMENTS),
            ("_count", _PAGE),
        ]
        for page in self._client.pages(IMAGING_STUDY, parameters):
            yield [(uid, self._said(one)) for one in page if (uid := _uid(one)) is not None]

    def of_study(self, study_instance_uid: StudyInstanceUID) -> tuple[Said, ...]:
        """Return the ImagingStudies of one study."""
        found = self._client.search(IMAGING_STUDY, study_search(study_instance_uid))
        return tuple(self._said(one) for one in found if bears_uid(one, study_instance_uid))

    def endpoints(self, system: str) -> list[Resource]:
        """Return the Endpoints of a site that are in use."""
        found: list[Resource] = []
        for page in self._client.pages(ENDPOINT, [("identifier", f"{system}|"), ("_count", _PAGE)]):
            found += [one for one in page if one.get("status") not in _OFF]
        return found

    def is_there(self, endpoint_id: str) -> bool:
        """Tell whether an Endpoint exists."""
        try:
            return self._client.read(ENDPOINT, endpoint_id) is not None
        except FhirGone:
            return False

    def users(self, endpoint_id: str) -> Iterator[list[StudyInstanceUID | None]]:
        """Yield whose ImagingStudies refer to an Endpoint, some at a time."""
        parameters: Parameters = [
            ("endpoint", f"{ENDPOINT}/{endpoint_id}"),
            ("_elements", "identifier,meta"),
            ("_count", _PAGE),
        ]
        for page in self._client.pages(IMAGING_STUDY, parameters):
            yield [_uid(one) for one in page]

    def patients(self, ids: Collection[str]) -> dict[str, Resource]:
        """Return these Patients by id, as far as they exist."""
        if not ids:
            return {}
        parameters = [("_id", ",".join(sorted(ids))), ("_count", _PAGE)]
        found = self._client.search(PATIENT, parameters)
        return {str(one["id"]): one for one in found}

    def _said(self, study: Resource) -> Said:
        subject = study.get("subject")
        reference = subject.get("reference") if isinstance(subject, dict) else None
        patient = reference_id(reference, PATIENT, self._client.base_url)
        endpoints = study.get("endpoint")
        return Said(
            resource_id=str(study["id"]),
            version_id=version_of(study),
            status=_text(study.get("status")),
            subject=None if patient is None else f"{PATIENT}/{patient}",
            series=_count(study.get("numberOfSeries")),
            instances=_count(study.get("numberOfInstances")),
            started=_day(study.get("started")),
            endpoints=tuple(
                found
                for one in (endpoints if isinstance(endpoints, list) else [])
                if isinstance(one, dict)
                and (found := reference_id(one.get("reference"), ENDPOINT, self._client.base_url))
            ),
            source=_source(study.get("meta")),
        )


def identifier_values(resource: Resource) -> Iterator[str]:
    """Yield the values of a resource's identifiers, whatever their systems."""
    identifiers = resource.get("identifier")
    for one in identifiers if isinstance(identifiers, list) else []:
        if isinstance(one, dict) and isinstance(one.get("value"), str):
            yield one["value"]


def _uid(study: Resource) -> StudyInstanceUID | None:
    identifiers = study.get("identifier")
    for one in identifiers if isinstance(identifiers, list) else []:
        if isinstance(one, dict) and one.get("system") == DICOM_UID and (uid := study_uid(one)):
            return StudyInstanceUID(uid)
    return None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _day(value: Any) -> date | None:
    try:
        return date.fromisoformat(value[:10]) if isinstance(value, str) else None
    except ValueError:
        return None


def _source(meta: Any) -> str | None:
    # HAPI appends "#" and the id of the request that wrote the resource.
    source = meta.get("source") if isinstance(meta, dict) else None
    return source.partition("#")[0] if isinstance(source, str) else None
