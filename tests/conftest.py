"""The real services of the tests, and what the run says of those it did not find."""

import collections
import os
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from selenium.webdriver import Chrome

from flute_sync.sandbox.server import Sandbox
from tests.services.chromium import chromium
from tests.services.dcmqrscp import Dcmqrscp
from tests.services.dcmtk import dcmtk as run_dcmtk
from tests.services.hapi import Hapi
from tests.services.missing import missing, must_be_complete
from tests.services.orthanc import Orthanc
from tests.services.postgres import Postgres
from tests.services.shared import shared
from tests.tap import Tap

# Two busy cores tell no time. Each run tries new examples; in CI what is tried is fixed, so that a
# change fails for what it did, and fewer do.
hypothesis.settings.register_profile(
    "flute-sync",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=must_be_complete(),
    max_examples=40 if must_be_complete() else 100,
)
hypothesis.settings.load_profile("flute-sync")

# A run in the background of a script ignores Ctrl-C, and so would every program that it starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The program is started hundreds of times: half of each start would be compiling anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# `httpx.get` reads all authorities that a file names, anew at each call: more than half of what the
# tests themselves take. Of a directory it reads those that are asked for. pip, which one test
# runs, needs the file.
if file := os.environ.pop("SSL_CERT_FILE", None):
    os.environ.setdefault("PIP_CERT", file)
os.environ.setdefault("SSL_CERT_DIR", ssl.get_default_verify_paths().openssl_capath)

MISSING = re.compile(r"missing (?P<service>[\w-]+): ")


@pytest.fixture(scope="session")
def run_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that all workers of this run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def criteria_engines_here() -> None:
    """Engines of FHIRPath and CQL are installed."""
    _require("criteria-engines")


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """An Orthanc of this worker; who stops it starts it again."""
    with _orthancs(tmp_path_factory) as start:
        yield start()


@pytest.fixture(scope="module")
def new_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Orthanc]]:
    """Start further Orthancs, which end with the module; the arguments are those of `Orthanc`."""
    with _orthancs(tmp_path_factory) as start:
        yield start


@contextmanager
def _orthancs(folders: pytest.TempPathFactory) -> Iterator[Callable[..., Orthanc]]:
    _require("orthanc")
    with ExitStack() as running:

        def start(**options: Any) -> Orthanc:
            server = Orthanc(folders.mktemp("orthanc"), **options)
            running.callback(server.kill)
            server.start()
            return server

        yield start


@pytest.fixture(scope="session")
def orthanc_python() -> None:
    """Orthanc's plugin for scripts in Python."""
    _require("orthanc-python")


@pytest.fixture(scope="session")
def hapi(run_directory: Path) -> Iterator[Hapi]:
    """HAPI as it comes, one for all workers: it is not to be stopped."""
    _require("fhir-server")
    with shared(run_directory / "hapi", lambda: Hapi(run_directory / "hapi")) as server:
        yield server


@pytest.fixture(scope="session")
def strict_hapi(run_directory: Path) -> Iterator[Hapi]:
    """HAPI that refuses what is invalid and answers 412 to a stale If-Match, for all workers."""
    _require("fhir-server")
    folder = run_directory / "strict-hapi"
    with shared(folder, lambda: Hapi(folder, validate=True, stale_if_match=412)) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(run_directory: Path) -> Iterator[Postgres]:
    """A PostgreSQL cluster for all workers: each test takes a `new_database`."""
    _require("postgresql")
    # Not below pytest's own directory, which is closed to the user that PostgreSQL runs as.
    directory = Path(tempfile.mkdtemp(prefix="flute-sync-postgresql-"))
    try:
        with shared(run_directory / "postgresql", lambda: Postgres(directory)) as server:
            yield server
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="session")
def dcmtk() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a tool of dcmtk: ``dcmtk("echoscu", host, port)``."""
    _require("dcmtk")
    return run_dcmtk


@pytest.fixture(scope="session")
def dcmqrscp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dcmqrscp]:
    """An archive of this worker that speaks DIMSE alone."""
    _require("dcmtk")
    server = Dcmqrscp(tmp_path_factory.mktemp("dcmqrscp"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def tap(sandbox: Sandbox) -> Iterator[Tap]:
    """Stands before the FHIR server of the sandbox that a test has."""
    with Tap(sandbox.fhir_url) as tap:
        yield tap


@pytest.fixture
def new_browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Chrome]]:
    """Start Chromiums; the arguments are those of `chromium`."""
    _require("chromium")
    with ExitStack() as running:

        def start(**options: Any) -> Chrome:
            browser = chromium(tmp_path_factory.mktemp("chromium"), **options)
            running.callback(browser.quit)
            return browser

        yield start


@pytest.fixture(scope="session")
def systemd() -> None:
    """The tools of systemd, which judge the unit."""
    _require("systemd")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests an absent service cost."""
    skipped: collections.Counter[str] = collections.Counter()
    for report in terminalreporter.stats.get("skipped", ()):
        found = MISSING.search(report.longrepr[2])
        if found:
            skipped[found["service"]] += 1
    for service, count in sorted(skipped.items()):
        terminalreporter.write_line(f"{count} skipped: missing {service} ({missing(service)})")


def _require(service: str) -> None:
    todo = missing(service)
    if todo is None:
        return
    reason = f"missing {service}: {todo}"
    if must_be_complete():
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
