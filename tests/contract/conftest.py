"""What the contract suites run against: the sandbox, and the real servers it stands in for."""

import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from tests.acceptance.site import eventually, free_port
from tests.contract.dicomweb import Study, new_mpmri, store
from tests.contract.fhir_rest import create, new_patient


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The sandbox, answering a stale If-Match as HAPI does."""
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="session")
def strict_sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The sandbox, answering a stale If-Match as FHIR says."""
    with Sandbox(tmp_path_factory.mktemp("sandbox"), stale_status=412) as running:
        yield running


@pytest.fixture(scope="session")
def orthanc_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Orthanc with DICOMweb."""
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    settings = {
        "StorageDirectory": str(folder / "db"),
        "IndexDirectory": str(folder / "db"),
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "HttpPort": port,
        "DicomServerEnabled": False,
        "StableAge": 1,
        "OverwriteInstances": False,
        "DefaultEncoding": "Utf8",
    }
    file = folder / "orthanc.json"
    file.write_text(json.dumps(settings))
    process = subprocess.Popen(
        ["Orthanc", str(file)], env={**os.environ, "TCP_NODELAY": "1"}, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: _answers(url + "/system"), within=20, what="Orthanc")
        yield url
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session", params=["sandbox", "orthanc"])
def archive_url(request: pytest.FixtureRequest) -> str:
    """The native base address of an archive; DICOMweb is below ``/dicom-web``."""
    if request.param == "sandbox":
        sandbox: Sandbox = request.getfixturevalue("sandbox")
        return sandbox.archive_url
    return str(request.getfixturevalue("orthanc_url"))


@pytest.fixture(scope="session", params=["sandbox", "strict sandbox", "hapi"])
def fhir_url(request: pytest.FixtureRequest) -> str:
    """The base address of a FHIR server."""
    if request.param == "hapi":
        return os.environ.get("HAPI_URL") or pytest.skip("HAPI_URL names no FHIR server")
    sandbox: Sandbox = request.getfixturevalue(request.param.replace(" ", "_"))
    return sandbox.fhir_url


@pytest.fixture(scope="module")
def fhir(fhir_url: str) -> Iterator[httpx.Client]:
    """A client of the server."""
    headers = {"Accept": "application/fhir+json", "Cache-Control": "no-cache"}
    with httpx.Client(base_url=fhir_url, timeout=60, headers=headers) as client:
        yield client


@pytest.fixture
def system() -> str:
    """An identifier system that no other test uses."""
    return f"urn:test:{uuid.uuid4().hex}"


@pytest.fixture
def patient(fhir: httpx.Client, system: str) -> Any:
    """A patient on the server, with value ``p1`` in the test's system."""
    return create(fhir, new_patient(system)).json()


@pytest.fixture(scope="module")
def web(archive_url: str) -> Iterator[httpx.Client]:
    """A client of the archive's DICOMweb services."""
    with httpx.Client(base_url=archive_url + "/dicom-web", timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def native(archive_url: str) -> Iterator[httpx.Client]:
    """A client of the archive's own services."""
    with httpx.Client(base_url=archive_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def mpmri(web: httpx.Client) -> Study:
    """A study that the archive holds; tests do not change it."""
    study = new_mpmri()
    assert store(web, study.parts).status_code == 200
    return study


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.ConnectError:
        return False
