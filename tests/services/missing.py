"""Which real services the tests use, where they are, and how to get those that are not here."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.services import criteria_engines, fhir_server_build

ORTHANC_PLUGIN_DIRECTORIES = (
    Path("/usr/share/orthanc/plugins"),
    Path("/usr/lib/orthanc"),
    Path("/usr/local/share/orthanc/plugins"),
)


def orthanc_plugin(name: str) -> Path | None:
    """A plugin of Orthanc, ``"DicomWeb"`` or ``"Python"``."""
    file = f"libOrthanc{name}.so"
    candidates = (directory / file for directory in ORTHANC_PLUGIN_DIRECTORIES)
    return next((path for path in candidates if path.exists()), None)


def postgresql_tool(name: str) -> Path | None:
    """A server tool of PostgreSQL; Debian keeps them out of PATH, one directory per version."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"),
        key=lambda path: int(path.parts[-3]),
        reverse=True,
    )
    on_path = shutil.which(name)
    return found[0] if found else Path(on_path) if on_path else None


@dataclass(frozen=True)
class Requirement:
    """A service, the Debian packages that bring it, and whether it is here."""

    name: str
    packages: tuple[str, ...]
    present: Callable[[], bool]
    hint: str = ""


REQUIREMENTS = (
    Requirement(
        "orthanc",
        ("orthanc", "orthanc-dicomweb"),
        lambda: shutil.which("Orthanc") is not None and orthanc_plugin("DicomWeb") is not None,
    ),
    Requirement(
        "orthanc-python", ("orthanc-python",), lambda: orthanc_plugin("Python") is not None
    ),
    Requirement(
        "dcmtk",
        ("dcmtk",),
        lambda: all(shutil.which(tool) is not None for tool in ("storescu", "dcmqrscp")),
    ),
    Requirement("postgresql", ("postgresql",), lambda: postgresql_tool("initdb") is not None),
    Requirement(
        "chromium",
        ("chromium", "chromium-driver"),
        lambda: all(shutil.which(tool) is not None for tool in ("chromium", "chromedriver")),
    ),
    Requirement("systemd", ("systemd",), lambda: shutil.which("systemd-analyze") is not None),
    Requirement("java", ("default-jdk-headless",), lambda: shutil.which("javac") is not None),
    Requirement("maven", ("maven",), lambda: shutil.which("mvn") is not None),
    Requirement(
        "node",
        ("nodejs", "npm"),
        lambda: all(shutil.which(tool) is not None for tool in ("node", "npm")),
    ),
    Requirement(
        "criteria-engines",
        (),
        criteria_engines.present,
        "run: python -m tests.services.install",
    ),
    Requirement(
        "fhir-server",
        (),
        lambda: shutil.which("java") is not None and fhir_server_build.jar().exists(),
        "run: python -m tests.services.install",
    ),
)


def missing(name: str) -> str | None:
    """Say what to do to get the service `name`; None when it is here."""
    requirement = next(one for one in REQUIREMENTS if one.name == name)
    if requirement.present():
        return None
    return requirement.hint or "install " + " ".join(requirement.packages)


def must_be_complete() -> bool:
    """Whether an absent service is a failure: CI must not pass by skipping."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}
