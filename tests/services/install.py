"""Install the real services that the tests use, and build those that are built here.

Debian packages are installed where this runs as root or sudo asks for no password; elsewhere it
says what to install. No service is left running: the tests start their own.

Run it as ``python -m tests.services.install``; with ``--class-archive`` the FHIR server also gets
an archive of its classes, worth it where the tests run often.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.services import criteria_engines, fhir_server_build
from tests.services.missing import REQUIREMENTS, missing, must_be_complete

POLICY = Path("/usr/sbin/policy-rc.d")
NO_SERVICE_STARTS = "#!/bin/sh\nexit 101\n"  # invoke-rc.d(8): 101 is "action forbidden by policy"
UNITS = {"orthanc": "orthanc.service", "postgresql": "postgresql.service"}


def main(arguments: list[str]) -> int:
    """Install what is missing; 1 where that leaves something missing and CI is set."""
    absent = [one for one in REQUIREMENTS if one.packages and not one.present()]
    if absent:
        packages = sorted({package for one in absent for package in one.packages})
        privilege = _privilege()
        if privilege is None:
            print(f"Not allowed to install packages. Run: apt-get install {' '.join(packages)}")
        else:
            _apt_install(privilege, packages)
            for one in absent:
                _leave_stopped(privilege, UNITS.get(one.name))
    _install_criteria_engines()
    _build_fhir_server("--class-archive" in arguments)
    still = [
        f"missing {one.name}: {missing(one.name)}" for one in REQUIREMENTS if missing(one.name)
    ]
    print("\n".join(still) or "All services of the tests are here.")
    return 1 if still and must_be_complete() else 0


def _privilege() -> list[str] | None:
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return []
    sudo = ["sudo", "--non-interactive"]
    asked = shutil.which("sudo") and subprocess.run([*sudo, "true"], check=False).returncode == 0
    return sudo if asked else None


def _apt_install(privilege: list[str], packages: list[str]) -> None:
    ours = not POLICY.exists()
    if ours:
        tee = [*privilege, "tee", str(POLICY)]
        subprocess.run(
            tee, input=NO_SERVICE_STARTS, text=True, stdout=subprocess.DEVNULL, check=True
        )
        subprocess.run([*privilege, "chmod", "755", str(POLICY)], check=True)
    apt = [*privilege, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "--yes"]
    try:
        subprocess.run([*apt, "update"], check=True)
        subprocess.run(
            [*apt, "install", "--no-upgrade", "--no-install-recommends", *packages], check=True
        )
    finally:
        if ours:
            subprocess.run([*privilege, "rm", str(POLICY)], check=True)


def _leave_stopped(privilege: list[str], unit: str | None) -> None:
    if unit and Path("/run/systemd/system").exists():
        subprocess.run([*privilege, "systemctl", "disable", "--now", unit], check=True)


def _install_criteria_engines() -> None:
    if missing("node") or missing("java") or missing("maven"):
        return
    if not criteria_engines.present():
        print("Installing engines of FHIRPath and CQL.", flush=True)
        criteria_engines.install()


def _build_fhir_server(with_class_archive: bool) -> None:
    if missing("java") or missing("maven"):
        return
    if not fhir_server_build.jar().exists():
        print("Building the FHIR server: minutes the first time, for its libraries.", flush=True)
        fhir_server_build.build()
    if with_class_archive and not fhir_server_build.class_archive().exists():
        fhir_server_build.archive_classes()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
