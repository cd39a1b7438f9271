"""A FHIR server as the people at a hospital write to it, and waiting until all is settled."""

import uuid
from dataclasses import replace
from datetime import date, datetime
from typing import Any

import httpx

from flute_sync.sandbox.clinical import flute_variables
from flute_sync.sandbox.studies import part10, prostate_mpmri
from flute_sync.terminology import FLUTE_SUPPORTING_INFO
from tests.acceptance.conftest import Upload, imaging_studies
from tests.acceptance.site import Site, eventually, store


class Clinic:
    """The FHIR server as the people at the hospital write to it."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url

    def create(self, resource: dict[str, Any]) -> str:
        kind = resource["resourceType"]
        answer = httpx.post(f"{self.base_url}/{kind}", json=resource, timeout=60)
        assert answer.status_code == 201, answer.text
        return f"{kind}/{answer.json()['id']}"

    def change(self, reference: str, **elements: Any) -> None:
        resource = httpx.get(f"{self.base_url}/{reference}", timeout=60).json() | elements
        answer = httpx.put(f"{self.base_url}/{reference}", json=resource, timeout=60)
        assert answer.status_code == 200, answer.text

    def variables(self, subject: str, upload: Upload, day: date) -> dict[str, str]:
        """Write one variable of each profile; return their references by the profile's name."""
        system = uuid.uuid4().urn
        return {
            one["meta"]["profile"][0].rpartition("/")[2].replace("-", "_"): self.create(one)
            for one in flute_variables(subject, system, upload.patient, day)
        }

    def psa(self, subject: str, day: date) -> str:
        (one,) = [
            one
            for one in flute_variables(subject, uuid.uuid4().urn, Upload().patient, day)
            if "valueQuantity" in one and one["valueQuantity"]["unit"] == "ng/mL"
        ]
        return self.create(one | {"effectiveDateTime": day.isoformat()})

    def study(self, uid: str) -> dict[str, Any]:
        (found,) = imaging_studies(self.base_url, uid)
        return found

    def links(self, uid: str) -> dict[str, str | None]:
        """Return what a study is linked to, with the words."""
        return {
            one["valueReference"]["reference"]: one["valueReference"].get("display")
            for one in self.study(uid).get("extension", [])
            if one["url"] == FLUTE_SUPPORTING_INFO
        }

    def faults(self, resource: dict[str, Any]) -> list[str]:
        """Return what the server's own validator finds wrong."""
        address = f"{self.base_url}/{resource['resourceType']}/$validate"
        issues = httpx.post(address, json=resource, timeout=300).json()["issue"]
        return [one["diagnostics"] for one in issues if one["severity"] in {"fatal", "error"}]

    def provenances(self, uid: str) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"{self.base_url}/Provenance",
            params={"target": f"ImagingStudy/{self.study(uid)['id']}"},
            headers={"Cache-Control": "no-cache"},
            timeout=60,
        )
        return [entry["resource"] for entry in answer.json().get("entry", [])]


def later_study(upload: Upload, when: datetime) -> Upload:
    """Return another MRI of the same patient."""
    seed = uuid.uuid4().int % 2**31
    datasets = list(
        prostate_mpmri(upload.patient, seed=seed, when=when, slices=1, size=16, dce_phases=1)
    )
    made = replace(upload, uid="", files=[])
    made.uid = str(datasets[0].StudyInstanceUID)
    made.files = [part10(one) for one in datasets]
    return made


def send(site: Site, upload: Upload) -> None:
    assert store(site.stow_url, upload.files).status_code == 200
    settled(site, upload.uid)


def settled(site: Site, uid: str) -> None:
    eventually(lambda: site.state(uid) == "completed", what="completed")


def again(site: Site, uid: str) -> None:
    """Let a study be judged again, and wait until nothing is left to do."""
    site.ask("retry", uid)
    everything_settled(site)


def everything_settled(site: Site) -> None:
    eventually(lambda: {*site.states().values()} == {"completed"}, what="all completed")
