"""The sandbox's archive with hostile senders, and over a restart."""

import io
from pathlib import Path

import httpx
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from flute_sync.sandbox.archive.store import CANNOT_UNDERSTAND, Store
from flute_sync.sandbox.server import Sandbox
from flute_sync.sandbox.studies import SyntheticPatient, part10, prostate_trus
from tests.contract.dicomweb import RELATED, multipart

UPLOAD = {"Content-Type": RELATED}


def one_object(**elements: object) -> Dataset:
    dataset = next(prostate_trus(SyntheticPatient(), size=8, frames=1, cores=0))
    dataset.SOPInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "archive" / "incoming").iterdir())


@pytest.mark.parametrize("cut", [1, 40, 200, 2000])
def test_a_body_cut_short_is_refused(archive, cut):
    body = multipart([part10(one_object()), part10(one_object())]).rstrip()
    response = archive.post("/dicom-web/studies", content=body[:-cut], headers=UPLOAD)
    assert response.status_code == 400


@pytest.mark.parametrize(
    "body",
    [b"", b"--", b"no multipart at all", b"--flute-sync-contract--\r\n", b"\r\n" * 1000],
)
def test_a_body_without_parts_is_refused(archive, body):
    response = archive.post("/dicom-web/studies", content=body, headers=UPLOAD)
    assert response.status_code == 400


def test_a_boundary_too_long_is_refused(archive):
    headers = {"Content-Type": f'multipart/related; type="application/dicom"; boundary={"x" * 300}'}
    assert archive.post("/dicom-web/studies", content=b"x", headers=headers).status_code == 400


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_an_object_that_cannot_be_placed_is_refused(tmp_path, missing):
    dataset = dcmread(io.BytesIO(part10(one_object())))
    del dataset[missing]
    store = Store(tmp_path)
    incoming = store.new_file()
    dataset.save_as(incoming)
    assert store.add(incoming, None).failure_reason == CANNOT_UNDERSTAND
    assert not incoming.exists()
    store.close()


def test_uids_cannot_lead_out_of_the_archive(archive):
    dataset = one_object()
    raw = part10(dataset)
    evil = b"../../../../etc/passwd".ljust(len(dataset.SeriesInstanceUID), b"/")
    response = archive.post(
        "/dicom-web/studies",
        content=multipart([raw.replace(dataset.SeriesInstanceUID.encode(), evil)]),
        headers=UPLOAD,
    )
    assert response.status_code == 400
    assert "00081199" in response.json()
    assert archive.get("/dicom-web/studies/..%2F..%2Fetc/metadata").status_code == 404


def test_malformed_values_do_not_lose_the_object(archive):
    dataset = one_object()
    raw = part10(dataset).replace(b"19510412", b"not date")
    response = archive.post("/dicom-web/studies", content=multipart([raw]), headers=UPLOAD)
    assert response.status_code == 200
    (header,) = archive.get(f"/dicom-web/studies/{dataset.StudyInstanceUID}/metadata").json()
    assert header["00080018"]["Value"] == [dataset.SOPInstanceUID]


def test_text_that_is_not_latin_survives(archive):
    dataset = one_object(PatientName="Sørensen^Łukasz=李^明", PatientID="X1")
    archive.post("/dicom-web/studies", content=multipart([part10(dataset)]), headers=UPLOAD)
    (found,) = archive.get("/dicom-web/studies", params={"PatientID": "X1"}).json()
    assert found["00100010"]["Value"] == [{"Alphabetic": "Sørensen^Łukasz", "Ideographic": "李^明"}]


def test_one_study_under_two_patients_is_two_rows(archive):
    study = generate_uid()
    for patient_id in ("X2", "X3"):
        dataset = one_object(StudyInstanceUID=study, PatientID=patient_id)
        archive.post("/dicom-web/studies", content=multipart([part10(dataset)]), headers=UPLOAD)
    found = archive.get("/dicom-web/studies", params={"StudyInstanceUID": study}).json()
    assert sorted(one["00100020"]["Value"][0] for one in found) == ["X2", "X3"]
    assert len(archive.get(f"/dicom-web/studies/{study}/metadata").json()) == 2


def test_what_has_no_pixels_has_no_picture(archive):
    dataset = one_object()
    del dataset.PixelData
    archive.post("/dicom-web/studies", content=multipart([part10(dataset)]), headers=UPLOAD)
    path = f"/dicom-web/studies/{dataset.StudyInstanceUID}"
    assert archive.get(f"{path}/rendered").status_code == 406
    assert archive.get(f"{path}/rendered", headers={"Accept": "video/mp4"}).status_code == 406


def test_a_thumbnail_is_small(archive):
    dataset = next(prostate_trus(SyntheticPatient(), seed=9, size=300, frames=1, cores=0))
    archive.post("/dicom-web/studies", content=multipart([part10(dataset)]), headers=UPLOAD)
    path = f"/dicom-web/studies/{dataset.StudyInstanceUID}"
    small, large = (archive.get(f"{path}/{tail}").content for tail in ("thumbnail", "rendered"))
    assert 0 < len(small) < len(large)


def test_what_was_half_sent_leaves_no_file(tmp_path):
    with Sandbox(tmp_path) as running:
        url, body = f"{running.dicomweb_url}/studies", multipart([part10(one_object())] * 3)
        for sent in (body[:500], body[: len(body) // 2], body[:-30], b"junk"):
            assert httpx.post(url, content=sent, headers=UPLOAD).status_code == 400
        assert leftovers(tmp_path) == []


def test_objects_and_feed_outlive_a_restart(tmp_path):
    dataset = one_object()
    with Sandbox(tmp_path) as first:
        url = f"{first.dicomweb_url}/studies"
        httpx.post(url, content=multipart([part10(dataset)]), headers=UPLOAD)
        before = httpx.get(f"{first.archive_url}/changes").json()["Changes"]
    (tmp_path / "archive" / "incoming" / "half").write_bytes(b"sent")
    with Sandbox(tmp_path) as second:
        path = f"{second.dicomweb_url}/studies/{dataset.StudyInstanceUID}"
        assert httpx.get(f"{path}/metadata").status_code == 200
        after = httpx.get(f"{second.archive_url}/changes").json()["Changes"]
        assert after[: len(before)] == before
        assert leftovers(tmp_path) == []
