"""A sandbox for each test module."""

from collections.abc import Iterator

import httpx
import pytest

from flute_sync.sandbox.server import Sandbox


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


@pytest.fixture(scope="module")
def archive(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.archive_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def fhir(sandbox: Sandbox) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=sandbox.fhir_url, timeout=60) as client:
        yield client
