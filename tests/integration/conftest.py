"""A daemon that links, against the sandbox's FHIR."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox
from tests.contract.fhir_rest import create, new_patient
from tests.linking import SYSTEM, Daemon, reference_of


@pytest.fixture
def fhir(tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        Sandbox(tmp_path / "sandbox") as sandbox,
        httpx.Client(base_url=sandbox.fhir_url, timeout=60) as client,
    ):
        yield client


@pytest.fixture
def patient(fhir: httpx.Client) -> str:
    return reference_of(create(fhir, new_patient(SYSTEM, "p1")))


@pytest.fixture
def daemon(tmp_path: Path, fhir: httpx.Client) -> Iterator[Daemon]:
    made = Daemon(tmp_path, fhir)
    yield made
    made.close()
