"""Small DICOMweb client of the tests: builds and takes apart what goes over the wire."""

import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from pydicom.dataset import Dataset

from flute_sync.sandbox.studies import SyntheticPatient, part10, prostate_mpmri, prostate_trus

BOUNDARY = "flute-sync-contract"
RELATED = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
Header = dict[str, Any]


def multipart(parts: Sequence[bytes]) -> bytes:
    """Build a multipart/related body."""
    head = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + f"--{BOUNDARY}--\r\n".encode()


def split_multipart(response: httpx.Response) -> Iterator[bytes]:
    """Yield the parts of a multipart answer."""
    found = re.search(r'boundary="?([^";]+)', response.headers["content-type"])
    assert found, response.headers["content-type"]
    delimiter = b"--" + found[1].encode()
    for part in response.content.split(delimiter)[1:-1]:
        yield part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def values(header: Header, tag: str) -> list[Any]:
    """Return the values of an element, none where it is absent or empty."""
    return list(header.get(tag, {}).get("Value", []))


def value(header: Header, tag: str) -> Any:
    """Return the only value of an element."""
    (only,) = values(header, tag)
    return only


def stored(answer: Header) -> set[str]:
    """Return the SOP UIDs that a STOW-RS answer calls stored."""
    return {value(item, "00081155") for item in values(answer, "00081199")}


def failed(answer: Header) -> dict[str, int]:
    """Return the SOP UIDs that a STOW-RS answer calls failed, with the reasons."""
    return {value(item, "00081155"): value(item, "00081197") for item in values(answer, "00081198")}


class Study:
    """A study of a patient of its own, so that tests can share an archive."""

    def __init__(self, datasets: list[Dataset]) -> None:
        self.datasets = datasets
        self.parts = [part10(dataset) for dataset in datasets]
        self.uid = datasets[0].StudyInstanceUID
        self.sop_uids = {dataset.SOPInstanceUID for dataset in datasets}
        self.series_uids = {dataset.SeriesInstanceUID for dataset in datasets}

    @property
    def path(self) -> str:
        return f"/studies/{self.uid}"

    def instance_path(self, index: int) -> str:
        dataset = self.datasets[index]
        series = f"{self.path}/series/{dataset.SeriesInstanceUID}"
        return f"{series}/instances/{dataset.SOPInstanceUID}"


def new_mpmri(**options) -> Study:
    """Make a small study that no archive has seen."""
    key = uuid.uuid4()
    patient = SyntheticPatient(patient_id=f"P{key.hex[:12].upper()}")
    small = {"slices": 2, "size": 24, "b_values": (50, 800), "dce_phases": 2, **options}
    return Study(list(prostate_mpmri(patient, seed=key.int >> 96, **small)))


def new_trus() -> Study:
    key = uuid.uuid4()
    patient = SyntheticPatient(patient_id=f"P{key.hex[:12].upper()}")
    return Study(list(prostate_trus(patient, seed=key.int >> 96, frames=3, cores=2, size=24)))


def store(web: httpx.Client, parts: list[bytes], path: str = "/studies") -> httpx.Response:
    return web.post(path, content=multipart(parts), headers={"Content-Type": RELATED})


def find(web: httpx.Client, path: str, query: str = "") -> Any:
    """Search with a query sent as it stands: Orthanc 1.10 does not decode percent signs."""
    response = web.get(httpx.URL(f"{web.base_url}{path.lstrip('/')}", query=query.encode()))
    if response.status_code == 204:
        return []
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/dicom+json")
    return response.json()


def last_change(native: httpx.Client) -> Any:
    """Ask for the highest number ever given; ``?last`` names the newest change that is left."""
    return native.get("/changes", params={"since": 10**9, "limit": 1}).json()["Last"]


def native_id(native: httpx.Client, study: Study) -> Any:
    (found,) = native.post("/tools/lookup", content=study.uid).json()
    assert found["Type"] == "Study"
    assert found["Path"] == f"/studies/{found['ID']}"
    return found["ID"]
