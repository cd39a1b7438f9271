"""The wheel, installed in an environment that has never seen the repository, works."""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

import flute_sync
from tests.acceptance.site import Site
from tests.services.process import free_port

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", target, ROOT)
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command, installed from the lock and the wheel alone."""
    environment = tmp_path_factory.mktemp("clean") / "venv"
    _run(sys.executable, "-m", "venv", environment)
    pip = [environment / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "install"]
    _run(*pip, "--quiet", "--no-compile", "--require-hashes", "-r", ROOT / "requirements.lock")
    _run(*pip, "--quiet", "--no-deps", wheel)
    _run(environment / "bin" / "python", "-m", "pip", "check")
    return environment / "bin" / "flute-sync"


@pytest.fixture
def site(program: Path, tmp_path: Path) -> Iterator[Site]:
    """A site whose FHIR server is down: the installed program must bear that."""
    site = Site(tmp_path, f"http://127.0.0.1:{free_port()}/fhir", None)
    site.program = program
    site.settings["stow_rs"]["mode"] = "index"
    yield site
    site.close()


def test_the_wheel_holds_the_package_its_migrations_and_its_units(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    listing = _run("git", "ls-files", "flute_sync", "migrations", "systemd", directory=ROOT)
    data = f"flute_sync-{flute_sync.__version__}.data/data/share/flute-sync/"
    expected = {
        file.replace("migrations/", "flute_sync/migrations/", 1)
        if file.startswith("migrations/")
        else file.replace("systemd/", data + "systemd/", 1)
        if file.startswith("systemd/")
        else file
        for file in listing.splitlines()
        if (ROOT / file).exists()
    }
    assert expected - held == set()
    assert [file for file in held if file.startswith(("tests/", "bench/"))] == []


def test_it_tells_its_version(program: Path) -> None:
    assert flute_sync.__version__ in _run(program, "--version")


def test_it_converts_offline(program: Path, tmp_path: Path) -> None:
    resource = json.loads(_run(program, "convert", get_testdata_file("MR_small.dcm")))
    assert resource["resourceType"] == "ImagingStudy"


def test_it_makes_its_ledger_with_the_migrations_of_the_wheel(site: Site) -> None:
    assert site.run("ledger", "upgrade").returncode == 78, "there is no ledger yet"
    site.start()
    assert site.stop() == 0
    upgraded = site.run("ledger", "upgrade")
    assert upgraded.returncode == 0, upgraded.stderr
    assert site.ask("status")["counts"] is not None


def test_check_names_what_is_down(site: Site) -> None:
    checked = site.run("check")
    assert checked.returncode != 0
    assert "Traceback" not in checked.stdout + checked.stderr


def _run(*command: object, directory: Path = Path("/")) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
