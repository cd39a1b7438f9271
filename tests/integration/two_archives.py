"""Ledger and pipeline of a site with two archives, one step at a time."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from flute_sync.daemon.config import Config
from flute_sync.daemon.pauses import ArchivePauses
from flute_sync.daemon.pipeline import Pipeline
from flute_sync.fhir.client import FhirClient
from flute_sync.intake import Delivery, Noticed, Performed, Received, StepStatus
from flute_sync.ledger import Ledger
from flute_sync.study import Header, PatientAttributes, PatientId, SeriesAttributes
from tests.contract.ledger_site import STUDY, header, received
from tests.shelf import Shelf

SYSTEM = "urn:test:patients"
STEP = "1.2.9.1"
_ADDRESS = "https://{}.example/dicom-web"


class Daemon:
    """Ledger and pipeline of a daemon with two archives, one step at a time."""

    def __init__(
        self,
        folder: Path,
        fhir_url: str,
        systems: Mapping[str, str] = {},
        policy: str = "lookup",
        **select: Any,
    ) -> None:
        names = ("first", "second")
        self.config = Config.model_validate(
            {
                "fhir": {"base_url": fhir_url},
                "ledger": {"url": f"sqlite:///{folder / 'ledger.db'}"},
                "stow_rs": {"mode": "index"},
                "study": {"quiet_period": "0s"},
                "patient": {"default_system": SYSTEM, "policy": policy},
                "archives": [
                    {
                        "name": name,
                        "dicomweb_url": _ADDRESS.format(name),
                        "patient_default_system": systems.get(name),
                    }
                    for name in names
                ],
                "select": select,
            }
        )
        entries = self.config.every_archive
        self.ledger = Ledger.open(
            self.config.ledger, self.config.study, create=True, archives=names
        )
        self.ledger.bind_target(fhir_url)
        self.client = FhirClient(self.config.fhir)
        self.client.capabilities()
        self.first, self.second = shelves = [Shelf(entry) for entry in entries]
        archives = {shelf.name: shelf for shelf in shelves}
        pauses = ArchivePauses(list(archives))
        self.pipeline = Pipeline.build(self.config, self.ledger, self.client, archives, pauses)

    def deliver(self, archive: str = "first", **news: Any) -> None:
        self.ledger.deliver(Delivery("test", archive, datetime.now(UTC), **news))

    def deliver_all(self) -> None:
        """Let both archives be read in the next step."""
        for shelf in (self.first, self.second):
            self.deliver(shelf.name, noticed=(Noticed(STUDY),))

    def perform(self, status: StepStatus, patient: str | None = "p1", modality: str = "MR") -> None:
        said = Header(
            "1.2.840.10008.3.1.2.3.3",
            PatientAttributes(id=PatientId(patient) if patient else None),
            series=SeriesAttributes(modality=modality),
        )
        self.deliver(performed=(Performed(STEP, STUDY, status, said),))

    def work(self) -> str:
        """Do all that is due; return the state and sentence of the study."""
        for _ in range(10):
            claimed = self.ledger.claim("test")
            if claimed is None:
                break
            self.ledger.settle(claimed, self.pipeline.step(claimed))
        else:
            raise AssertionError("the work never ends")
        view = self.ledger.study_view(STUDY)
        return f"{view.state} {view.code or ''} {view.sentence}"

    def read(self, *shelves: Shelf) -> str:
        """Let archives be read in turn."""
        said = ""
        for shelf in shelves:
            self.deliver(shelf.name, noticed=(Noticed(STUDY),))
            said = self.work()
        return said

    def close(self) -> None:
        self.client.close()
        self.ledger.close()


def resource(fhir: httpx.Client) -> dict[str, Any] | None:
    found = fhir.get("/ImagingStudy", params={"identifier": f"urn:dicom:uid|urn:oid:{STUDY}"})
    entries = found.json().get("entry", [])
    assert len(entries) <= 1
    return entries[0]["resource"] if entries else None


def images(
    patient: str, said: str = "", numbers: range = range(1, 3), **about: Any
) -> tuple[Received, ...]:
    """Instances of the study; ``about`` is what their headers say of the patient besides."""
    named = replace(header(said), patient=PatientAttributes(id=PatientId(patient), **about))
    return received(numbers, said=named)
