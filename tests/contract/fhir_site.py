"""What the FHIR client's tests write: one study of one patient, as a mapping would make it."""

import uuid
from typing import Any

from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.fhir.imaging_studies import ImagingStudies, Written
from flute_sync.identity import Demographics, Identity, PatientKey, PatientSettings

Resource = dict[str, Any]
SOURCE = "http://pacs.example/dicom-web"
MR = "urn:oid:1.2.840.10008.5.1.4.1.1.4"
DCM = "http://dicom.nema.org/resources/ontology/DCM"


def new_uid() -> str:
    return f"2.25.{uuid.uuid4().int}"


def series(uid: str, *, instances: int = 2, **elements: Any) -> Resource:
    return {
        "uid": uid,
        "number": 1,
        "modality": {"system": DCM, "code": "MR"},
        "numberOfInstances": instances,
        "instance": [
            {
                "uid": f"{uid}.{number}",
                "sopClass": {"system": "urn:ietf:rfc:3986", "code": MR},
                "number": number,
            }
            for number in range(1, instances + 1)
        ],
        **elements,
    }


def ours(uid: str, subject: Resource | None = None, **elements: Any) -> Resource:
    """What flute-sync states of a study."""
    return {
        "resourceType": "ImagingStudy",
        "meta": {"source": SOURCE},
        "identifier": [
            {"use": "official", "system": "urn:dicom:uid", "value": f"urn:oid:{uid}"},
            {"value": uid},
        ],
        "status": "available",
        "modality": [{"system": DCM, "code": "MR"}],
        "subject": subject
        or {"type": "Patient", "identifier": {"system": "urn:x:y", "value": "p"}},
        "started": "2025-03-04",
        "numberOfSeries": 1,
        "numberOfInstances": 2,
        "series": [series(f"{uid}.1")],
        **elements,
    }


class Counted:
    """A client that counts its requests and its writes."""

    def __init__(self, base_url: str, **settings: Any) -> None:
        self.interactions: list[str] = []
        self.client = FhirClient(
            FhirSettings(base_url=base_url, **settings),
            on_request=lambda interaction, _status: self.interactions.append(interaction),
        )
        self.studies = ImagingStudies(self.client)

    def sync(self, uid: str, resource: Resource, row: Written | None = None) -> Written:
        """One step as the pipeline takes it."""
        known = row.resource_id if row else None
        self.interactions.clear()
        found = self.studies.find(uid, known_id=known, patients=[("urn:x:y", "p")])
        return self.studies.write(
            uid,
            resource,
            found.study,
            last_digest=row.digest if row else None,
            known_id=known,
        )


def identity(key: PatientKey, **demographics: Any) -> Identity:
    return Identity(key, Demographics(**demographics))


LOOKUP = PatientSettings()
LOGICAL = PatientSettings(policy="logical")
CREATE = PatientSettings(policy="create")
