"""A daemon without an archive, one step at a time, and what a clinic writes to its FHIR server."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from flute_sync.daemon.config import Config
from flute_sync.daemon.pauses import ArchivePauses
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.fhir.client import FhirClient
from flute_sync.intake import Delivery
from flute_sync.ledger import Claim, Ledger, LinkRow
from flute_sync.study import (
    PatientAttributes,
    PatientId,
    StudyAttributes,
    StudyInstanceUID,
)
from flute_sync.terminology import FLUTE_SUPPORTING_INFO
from flute_sync.valuerep import Moment
from tests.contract.fhir_rest import JSON, create, new_observation
from tests.contract.ledger_site import HEADER, received

SYSTEM = "urn:test:patients"
MRI = date(2024, 3, 1)
PSA = {"valueQuantity": {"value": 4.5, "unit": "ng/mL"}}
SCORE = {
    "code": {"coding": [{"system": "http://snomed.info/sct", "code": "719178004"}]},
    "valueInteger": 4,
}
THIRD = StudyInstanceUID("1.2.5")


class Daemon:
    """Ledger and pipeline of a daemon without an archive, one step at a time."""

    def __init__(
        self,
        folder: Path,
        fhir: httpx.Client,
        *,
        provenance: bool = False,
        id_strategy: str = "server",
        **links: Any,
    ) -> None:
        self.provenance, self.id_strategy = provenance, id_strategy
        self.base_url = str(fhir.base_url).rstrip("/")
        self.fhir = fhir
        self.path = folder / "ledger.db"
        self.client = FhirClient(self.configured().fhir)
        self.client.capabilities()
        config = self.configured(**links)
        self.ledger = Ledger.open(config.ledger, config.study, create=True)
        self.ledger.bind_target(self.base_url)
        self.follow(**links)

    def configured(self, **links: Any) -> Config:
        return Config.model_validate(
            {
                "fhir": {"base_url": self.base_url, "provenance": self.provenance},
                "imaging_study": {"id_strategy": self.id_strategy},
                "ledger": {"url": f"sqlite:///{self.path}"},
                "stow_rs": {"mode": "index"},
                "study": {"quiet_period": "0s"},
                "patient": {"default_system": SYSTEM},
                "links": links,
            }
        )

    def follow(self, **links: Any) -> None:
        """Take over settings, as a reload does."""
        config = self.configured(**links)
        self.pipeline = Pipeline.build(config, self.ledger, self.client, {}, ArchivePauses([]))
        self.ledger.rejudge(self.pipeline.rules)

    def deliver(self, uid: StudyInstanceUID, day: date = MRI, patient: str = "p1") -> None:
        said = replace(
            HEADER,
            patient=PatientAttributes(id=PatientId(patient)),
            study=StudyAttributes(started=Moment(day)),
            series=replace(HEADER.series, body_part="PROSTATE"),
        )
        self.ledger.deliver(
            Delivery("test", "a", datetime.now(UTC), received([1], study=uid, said=said))
        )

    def claim(self, owner: str = "test") -> Claim:
        claimed = self.ledger.claim(owner)
        assert claimed is not None
        return claimed

    def work(self) -> None:
        """Do all that is due."""
        for _ in range(60):
            claimed = self.ledger.claim("test")
            if claimed is None:
                return
            self.ledger.settle(claimed, self.pipeline.step(claimed))
        raise AssertionError("the work never ends")

    def resource(self, uid: StudyInstanceUID) -> dict[str, Any]:
        found = self.fhir.get(
            "/ImagingStudy", params={"identifier": f"urn:dicom:uid|urn:oid:{uid}"}
        )
        (entry,) = found.json()["entry"]
        resource: dict[str, Any] = entry["resource"]
        return resource

    def links(self, uid: StudyInstanceUID) -> set[str]:
        return {
            one["valueReference"]["reference"]
            for one in self.resource(uid).get("extension", [])
            if one["url"] == FLUTE_SUPPORTING_INFO
        }

    def row(self, uid: StudyInstanceUID, reference: str) -> LinkRow:
        (row,) = [one for one in self.ledger.links.view(uid).rows if one.reference == reference]
        return row

    def versions(self) -> dict[str, str]:
        found = self.fhir.get("/ImagingStudy").json()["entry"]
        return {one["resource"]["id"]: one["resource"]["meta"]["versionId"] for one in found}

    def close(self) -> None:
        self.client.close()
        self.ledger.close()


def reference_of(answer: httpx.Response) -> str:
    made = answer.json()
    return f"{made['resourceType']}/{made['id']}"


def observe(fhir: httpx.Client, patient: str, day: date, **elements: Any) -> str:
    made = new_observation(patient)
    return reference_of(create(fhir, {**made, "effectiveDateTime": day.isoformat(), **elements}))


def put(fhir: httpx.Client, reference: str, **elements: Any) -> None:
    changed = fhir.get(f"/{reference}").json() | elements
    assert fhir.put(f"/{reference}", json=changed, headers=JSON).status_code == 200


def days(count: int) -> timedelta:
    return timedelta(days=count)
