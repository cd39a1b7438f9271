"""What the contract suites run against: the sandbox, and the real servers it stands in for."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from flute_sync.fhir.client import FhirClient, FhirSettings
from flute_sync.sandbox.server import Sandbox
from tests.contract.dicomweb import Study, new_mpmri, store
from tests.contract.fhir_rest import create, new_patient
from tests.contract.ledger_site import Site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what the sandbox does not stand in for: it has no DIMSE services."""
    items[:] = [item for item in items if not _needs_dimse_of_the_sandbox(item)]


def _needs_dimse_of_the_sandbox(item: pytest.Item) -> bool:
    if not (isinstance(item, pytest.Function) and hasattr(item, "callspec")):
        return False
    chosen = item.callspec.params
    needs_dimse = "find_client" in item.fixturenames or chosen.get("source") == "find_scu"
    return needs_dimse and chosen.get("archive_url") == "sandbox"


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


@pytest.fixture(scope="session", params=["sandbox", "orthanc"])
def archive_url(request: pytest.FixtureRequest) -> Any:
    """The native base address of an archive; DICOMweb is below ``/dicom-web``."""
    server = request.getfixturevalue(request.param)
    return server.archive_url if isinstance(server, Sandbox) else server.base_url


@pytest.fixture(scope="session", params=["sandbox", "strict_sandbox", "hapi"])
def fhir_url(request: pytest.FixtureRequest) -> Any:
    """The base address of a FHIR server."""
    server = request.getfixturevalue(request.param)
    return server.fhir_url if isinstance(server, Sandbox) else server.base_url


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """The address of a database for a ledger, empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return request.getfixturevalue("postgresql").new_database()


@pytest.fixture
def site(ledger_url: str) -> Iterator[Site]:
    """A ledger with a clock that is set by hand."""
    made = Site(ledger_url)
    yield made
    made.close()


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


@pytest.fixture
def subject(patient: dict[str, Any]) -> str:
    """The reference of that patient."""
    return f"Patient/{patient['id']}"


@pytest.fixture
def client(fhir_url: str) -> Iterator[FhirClient]:
    """Our client of the server, which knows what that can."""
    with FhirClient(FhirSettings(base_url=fhir_url)) as made:
        made.capabilities()
        yield made
