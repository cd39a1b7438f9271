"""What the demo does: a daemon of its own beside two servers, one patient, two studies.

Then what a researcher does: who meets the criterion, and the images of whom does.
"""

import io
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import orjson
from PIL import Image

from flute_sync.archive_errors import ArchiveServerError, ArchiveUnavailable
from flute_sync.command_errors import DemoFailed
from flute_sync.fhir_errors import FhirUnavailable
from flute_sync.sandbox.clinical import flute_bundle
from flute_sync.sandbox.studies import (
    DEFAULT_WHEN,
    SyntheticPatient,
    part10,
    prostate_mpmri,
    prostate_trus,
)

SYSTEM: Final = "urn:oid:2.25.170141183460469231731687303715884105727"
"""Identifier system of the demo's patient: an OID made from a UUID, so nobody else's."""

BIOPSY_AFTER: Final = timedelta(days=40)
QUIET: Final = timedelta(seconds=2)
PATIENCE: Final = timedelta(minutes=2)
BOUNDARY: Final = "flute-sync-demo"
INSTANCES_PER_REQUEST: Final = 40

_T = TypeVar("_T")


@dataclass(frozen=True)
class Scene:
    """Where the demo plays: two servers and a daemon with its folder."""

    folder: Path
    fhir_url: str
    dicomweb_url: str
    stow_port: int
    console_port: int

    @property
    def config(self) -> Path:
        """The daemon's settings file."""
        return self.folder / "site.toml"

    @property
    def stow_url(self) -> str:
        """Where DICOM is uploaded."""
        return f"http://127.0.0.1:{self.stow_port}/dicom-web"


@dataclass(frozen=True)
class Account:
    """What became of one study."""

    study_instance_uid: str
    resource: dict[str, Any]
    instance_urls: tuple[str, ...]
    rendered: bytes
    seconds: float
    ledger: dict[str, Any]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def scene(folder: Path, fhir_url: str, dicomweb_url: str) -> Scene:
    """Choose free ports and write the settings."""
    chosen = Scene(folder, fhir_url, dicomweb_url, _free_port(), _free_port())
    chosen.config.write_text(
        f"""[site]
timezone = "Europe/Rome"
system = "{SYSTEM}"

[fhir]
base_url = "{fhir_url}"

[archive]
dicomweb_url = "{dicomweb_url}"

[ledger]
url = "sqlite:///{folder / "ledger.db"}"

[stow_rs]
port = {chosen.stow_port}

[study]
quiet_period = "{int(QUIET.total_seconds())}s"

[patient]
systems = {{ "{SyntheticPatient().issuer}" = "{SYSTEM}" }}

[console]
port = {chosen.console_port}
""",
        encoding="utf-8",
    )
    return chosen


@contextmanager
def daemon(place: Scene) -> Iterator[None]:
    """Run ``flute-sync run`` as a process of its own, until the block ends."""
    log = (place.folder / "flute-sync.log").open("wb")
    command = [sys.executable, "-m", "flute_sync.console", "run", "--config", str(place.config)]
    with log, subprocess.Popen(command, stdout=log, stderr=log) as process:  # noqa: S603  our own
        try:
            _await(lambda: _ready(place, process), "the daemon to be ready")
            yield
        finally:
            process.terminate()
            process.wait(PATIENCE.total_seconds())


def _ready(place: Scene, process: subprocess.Popen[bytes]) -> bool:
    if process.poll() is not None:
        log = place.folder / "flute-sync.log"
        raise DemoFailed(f"the daemon ended: see {log}")
    try:
        url = f"http://127.0.0.1:{place.console_port}/ready"
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _await(condition: Callable[[], _T | None], what: str) -> _T:
    deadline = time.monotonic() + PATIENCE.total_seconds()
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.1)
    raise DemoFailed(f"waited {int(PATIENCE.total_seconds())} s for {what}")


def load_patient(place: Scene) -> str:
    """Put the FLUTE patient and his variables on the FHIR server; return his reference."""
    mri = DEFAULT_WHEN.date()
    bundle = flute_bundle(SyntheticPatient(), SYSTEM, mri, mri + BIOPSY_AFTER)
    try:
        answer = httpx.post(
            place.fhir_url,
            content=orjson.dumps(bundle),
            headers={"Content-Type": "application/fhir+json"},
            timeout=PATIENCE.total_seconds(),
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise FhirUnavailable(type(error).__name__) from error
    if answer.status_code != 200:
        raise DemoFailed(f"the FHIR server refused the demo's patient: {answer.status_code}")
    location: str = answer.json()["entry"][0]["response"]["location"]
    return "/".join(location.split("/_history")[0].split("/")[-2:])


def studies() -> Iterator[tuple[str, list[bytes]]]:
    """Yield an mpMRI and a TRUS study: what it is, and its DICOM files."""
    patient = SyntheticPatient()
    yield "prostate mpMRI", [part10(dataset) for dataset in prostate_mpmri(patient)]
    yield "transrectal ultrasound", [part10(dataset) for dataset in prostate_trus(patient)]


def upload(place: Scene, files: list[bytes]) -> str:
    """Upload a study by STOW-RS; return its Study Instance UID."""
    uid = ""
    for start in range(0, len(files), INSTANCES_PER_REQUEST):
        answer = _post(place, files[start : start + INSTANCES_PER_REQUEST])
        stored = answer.get("00081199", {}).get("Value", [])
        if not stored or answer.get("00081198", {}).get("Value"):
            raise ArchiveServerError("the archive did not store the demo's study")
        url: str = stored[0]["00081190"]["Value"][0]
        uid = url.split("/studies/")[1].split("/")[0]
    return uid


def _post(place: Scene, files: Iterable[bytes]) -> dict[str, Any]:
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    body = b"".join(head + file + b"\r\n" for file in files) + f"--{BOUNDARY}--\r\n".encode()
    kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
    try:
        answer = httpx.post(
            f"{place.stow_url}/studies",
            content=body,
            headers={"Content-Type": kind, "Accept": "application/dicom+json"},
            timeout=PATIENCE.total_seconds(),
            trust_env=False,
        )
        found: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ArchiveUnavailable(type(error).__name__) from error
    return found


def follow(place: Scene, uid: str, instances: int, began: float) -> Account:
    """Wait for all of the study on the FHIR server, and go from there to the pixels."""
    resource = _await(lambda: _find(place, uid, instances), "the ImagingStudy")
    seconds = time.monotonic() - began
    base = _address(place, resource)
    urls = tuple(_instance_urls(base, uid, resource))
    rendered = httpx.get(
        f"{urls[len(urls) // 3]}/rendered",
        headers={"Accept": "image/jpeg"},
        timeout=PATIENCE.total_seconds(),
        trust_env=False,
    )
    if rendered.status_code != 200:
        raise ArchiveServerError(f"no rendered image: HTTP {rendered.status_code}")
    row = _await(lambda: _ledger_row(place, uid), "the ledger to have it")
    return Account(uid, resource, urls, rendered.content, seconds, row)


def _find(place: Scene, uid: str, instances: int) -> dict[str, Any] | None:
    """Find the resource; an upload that pauses is there in part before it is whole."""
    answer = httpx.post(
        f"{place.fhir_url}/ImagingStudy/_search",
        data={"identifier": f"urn:dicom:uid|urn:oid:{uid}"},
        headers={"Cache-Control": "no-cache"},
        timeout=PATIENCE.total_seconds(),
        trust_env=False,
    )
    found: list[dict[str, Any]] = [one["resource"] for one in answer.json().get("entry", [])]
    return next((one for one in found if one.get("numberOfInstances") == instances), None)


def _address(place: Scene, resource: dict[str, Any]) -> str:
    reference = resource["endpoint"][0]["reference"]
    url, patience = f"{place.fhir_url}/{reference}", PATIENCE.total_seconds()
    return str(httpx.get(url, timeout=patience, trust_env=False).json()["address"])


def _instance_urls(base: str, uid: str, resource: dict[str, Any]) -> Iterator[str]:
    for series in resource["series"]:
        for instance in series["instance"]:
            yield f"{base}/studies/{uid}/series/{series['uid']}/instances/{instance['uid']}"


def _ledger_row(place: Scene, uid: str) -> dict[str, Any] | None:
    """Ask what the ledger has; a study that is looked at again is not completed meanwhile."""
    row: dict[str, Any] = orjson.loads(_asked(place, "study", uid, "--json"))
    return row if row["state"] == "completed" else None


def _asked(place: Scene, *words: str) -> bytes:
    """Run a verb as a person does."""
    command = [sys.executable, "-m", "flute_sync.console", *words, "--config", str(place.config)]
    done = subprocess.run(command, capture_output=True, check=False)  # noqa: S603  our own
    if done.returncode:
        raise DemoFailed(f"flute-sync {words[0]} ended with {done.returncode}")
    return done.stdout


def judged(place: Scene, patient: str) -> list[dict[str, Any]]:
    """Ask which biopsies of the patient meet the criterion."""
    chosen = place.folder / "patients.txt"
    chosen.write_text(f"{patient}\n", encoding="utf-8")
    told = _asked(place, "criteria", "--patients", str(chosen), "--json")
    (place.folder / "criteria.json").write_bytes(told)
    found: list[dict[str, Any]] = orjson.loads(told)["results"]
    return found


def fetched(place: Scene) -> list[Path]:
    """Fetch the images of the studies that the criterion includes; return the files."""
    images = place.folder / "images"
    _asked(place, "fetch", str(place.folder / "criteria.json"), "--out", str(images), "--json")
    return sorted(images.rglob("*.dcm"))


def picture(jpeg: bytes, columns: int = 56) -> list[str]:
    """Draw an image in characters, so that a terminal shows what was fetched."""
    with Image.open(io.BytesIO(jpeg)) as image:
        rows = max(1, columns * image.height // image.width // 2)
        small = image.convert("L").resize((columns, rows))
        pixels = small.tobytes()
    shades = " .:-=+*#%@"
    lines = (pixels[start : start + columns] for start in range(0, len(pixels), columns))
    return ["".join(shades[value * len(shades) // 256] for value in line) for line in lines]
