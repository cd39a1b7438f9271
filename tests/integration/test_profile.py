"""A FHIR server's own validator on what the mapping makes, against the FLUTE profile."""

from typing import Any

import httpx
import pytest

from flute_sync.imaging_study import map_study
from flute_sync.terminology import EU_IMAGING_STUDY, FLUTE_IMAGING_STUDY
from tests.services.hapi import Hapi
from tests.studies import golden_cases


@pytest.fixture(scope="module")
def targets(hapi: Hapi) -> None:
    """What the golden resources refer to."""
    archive = {
        "status": "active",
        "connectionType": {
            "system": "http://terminology.hl7.org/CodeSystem/endpoint-connection-type",
            "code": "dicom-wado-rs",
        },
        "payloadType": [{"text": "DICOM WADO-RS"}],
        "address": "https://pacs.example.org/dicom-web",
    }
    _put(hapi, "Patient/patient-001", {})
    for name in ("wado", "qido", "vna-wado"):
        _put(hapi, f"Endpoint/{name}", archive)


@pytest.mark.usefixtures("targets")
@pytest.mark.parametrize("name", golden_cases())
def test_a_server_finds_no_error(hapi: Hapi, name: str) -> None:
    resource = map_study(*golden_cases()[name]).resource
    profiles = resource["meta"]["profile"]
    profiles[:] = [profile for profile in profiles if profile != EU_IMAGING_STUDY]  # not loaded
    answer = httpx.post(
        f"{hapi.base_url}/ImagingStudy/$validate",
        params={"profile": FLUTE_IMAGING_STUDY},
        json=resource,
        timeout=300,
    )
    issues = answer.json()["issue"]
    assert [one for one in issues if one["severity"] in {"fatal", "error"}] == []


def _put(hapi: Hapi, path: str, elements: dict[str, Any]) -> None:
    kind, name = path.split("/")
    body = {"resourceType": kind, "id": name, **elements}
    httpx.put(f"{hapi.base_url}/{path}", json=body, timeout=60).raise_for_status()
