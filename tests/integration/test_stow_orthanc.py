"""The service between clients we did not write and a real Orthanc."""

import io
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from flute_sync.sources.archive_settings import ArchiveSettings
from tests.services.orthanc import Orthanc
from tests.stow import FakeIntake, dicom, multipart, post, serving, sop_uids, talk, uid


@pytest.fixture
def archive(orthanc: Orthanc) -> ArchiveSettings:
    return ArchiveSettings(dicomweb_url=orthanc.dicomweb_url)


@pytest.fixture
def intake() -> FakeIntake:
    return FakeIntake()


@pytest.fixture
def url(intake: FakeIntake, archive: ArchiveSettings) -> Iterator[str]:
    with serving(intake, archive) as address:
        yield address


@pytest.fixture
def study() -> str:
    """A study of this test's own."""
    return str(pydicom.uid.generate_uid())


def held(archive: ArchiveSettings, study: str) -> set[str]:
    """What Orthanc holds of a study."""
    answer = httpx.get(f"{archive.dicomweb_url}/studies/{uid(study)}/instances", timeout=60)
    return {one["00080018"]["Value"][0] for one in answer.json()} if answer.content else set()


def test_what_orthanc_stores_is_recorded(
    url: str, intake: FakeIntake, archive: ArchiveSettings, study: str
) -> None:
    files = [dicom(study, instance=number) for number in range(12)]
    answer = post(url, files)
    assert answer.status_code == 200
    assert set(sop_uids(intake.received)) == held(archive, study)
    assert len(intake.received) == 12
    urls = [
        item["00081190"]["Value"][0] for item in orjson.loads(answer.content)["00081199"]["Value"]
    ]
    assert all(one.startswith(f"{url}/studies/{uid(study)}/series/") for one in urls)
    assert httpx.get(
        urls[0], headers={"Accept": "multipart/related; type=application/dicom"}, timeout=60
    )


def test_a_good_and_a_bad_part(
    url: str, intake: FakeIntake, archive: ArchiveSettings, study: str
) -> None:
    answer = post(url, [b"garbage", dicom(study)])
    assert answer.status_code == 202
    assert sop_uids(intake.received) == list(held(archive, study))
    read = Dataset.from_json(answer.text)
    assert len(read.ReferencedSOPSequence) == len(read.FailedSOPSequence) == 1


def test_duplicates_are_recorded_as_what_they_are(
    url: str, intake: FakeIntake, archive: ArchiveSettings, study: str
) -> None:
    for _ in range(2):
        assert post(url, [dicom(study), dicom(study)]).status_code == 200
    assert len(held(archive, study)) == 1
    assert [len(delivery.received) for delivery in intake.deliveries] == [1, 1]


def test_orthanc_refuses_another_study_than_the_address(
    url: str, intake: FakeIntake, archive: ArchiveSettings, study: str
) -> None:
    answer = post(url, [dicom(study)], study="1.2.3")
    assert answer.status_code == 409
    (failed,) = Dataset.from_json(answer.text).FailedSOPSequence
    assert failed.FailureReason == 0x0110
    assert held(archive, study) == set()
    assert intake.received == []
    assert intake.names == ["intend", "deliver"]


def test_the_answer_in_xml(url: str, study: str) -> None:
    answer = post(url, [dicom(study)], Accept="application/dicom+xml")
    assert answer.status_code == 200
    assert b'keyword="ReferencedSOPSequence"' in answer.content


def test_a_client_we_did_not_write_stores_finds_and_gets(
    url: str, intake: FakeIntake, study: str
) -> None:
    path = get_testdata_file("MR_small.dcm")
    assert isinstance(path, str)
    dataset = pydicom.dcmread(path)
    dataset.StudyInstanceUID = uid(study)
    # Orthanc renders by the instance's UID alone, and other tests store this file too.
    dataset.SeriesInstanceUID = pydicom.uid.generate_uid()
    dataset.SOPInstanceUID = pydicom.uid.generate_uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    client = DICOMwebClient(url, chunk_size=4096)
    stored = client.store_instances([dataset])
    assert stored.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == dataset.SOPInstanceUID
    assert sop_uids(intake.received) == [dataset.SOPInstanceUID]
    (found,) = client.search_for_studies(search_filters={"StudyInstanceUID": uid(study)})
    assert found["0020000D"]["Value"] == [uid(study)]
    assert found["00081190"]["Value"][0].startswith(f"{url}/studies/")
    (metadata,) = client.retrieve_study_metadata(uid(study))
    assert metadata["00080018"]["Value"] == [dataset.SOPInstanceUID]
    (got,) = client.retrieve_study(uid(study))
    assert got.PixelData == dataset.PixelData
    rendered = client.retrieve_instance_rendered(
        uid(study), dataset.SeriesInstanceUID, dataset.SOPInstanceUID, media_types=("image/png",)
    )
    assert rendered.startswith(b"\x89PNG")


def test_bulk_data_addresses_lead_back(url: str, archive: ArchiveSettings, study: str) -> None:
    post(url, [dicom(study)])
    through = httpx.get(f"{url}/studies/{uid(study)}/metadata", timeout=60)
    straight = httpx.get(f"{archive.dicomweb_url}/studies/{uid(study)}/metadata", timeout=60)
    assert archive.dicomweb_url in straight.text
    assert through.text == straight.text.replace(archive.dicomweb_url, url)


def test_queries_with_characters_that_orthanc_wants_raw(url: str, study: str) -> None:
    post(url, [dicom(study)])
    base = f"{url}/studies?StudyInstanceUID={uid(study)}"
    for more in ("PatientName=Exam*^Ad*", "StudyDate=20240101-20240103", "ModalitiesInStudy=MR"):
        with talk(url) as client:
            path = base[base.index("/dicom-web") :]
            client.sendall(
                f"GET {path}&{more} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".encode()
            )
            answer = b""
            while got := client.recv(65536):
                answer += got
        assert uid(study).encode() in answer, more


def test_an_archive_with_a_password(
    new_orthanc: Callable[..., Orthanc], intake: FakeIntake, study: str, tmp_path: Path
) -> None:
    server = new_orthanc(credentials=("flute", "s3cret"))
    password = tmp_path / "password"
    password.write_text("s3cret")
    right = {"method": "basic", "user": "flute", "password_file": str(password)}
    archive = ArchiveSettings.model_validate({"dicomweb_url": server.dicomweb_url, "auth": right})
    with serving(intake, archive) as url:
        assert post(url, [dicom(study)]).status_code == 200
        assert httpx.get(f"{url}/studies", timeout=60).status_code == 200
        password.write_text("wrong")
        refused = post(url, [dicom(study)])
        assert refused.status_code == 503
        assert "ARCHIVE-UNAUTHORIZED" in refused.text
        assert "www-authenticate" not in refused.headers
        assert httpx.get(f"{url}/studies", timeout=60).status_code == 503
    server.stop()
    assert intake.names == ["intend", "deliver", "abandon"]


def test_orthanc_is_killed_during_an_upload_and_comes_back(
    new_orthanc: Callable[..., Orthanc], intake: FakeIntake, study: str
) -> None:
    server = new_orthanc()
    archive = ArchiveSettings(dicomweb_url=server.dicomweb_url)
    files = [dicom(study, instance=number, pixels=os.urandom(400_000)) for number in range(6)]
    with serving(intake, archive) as url:
        killed = threading.Event()

        def body() -> Iterator[bytes]:
            yield multipart(files)[:1_500_000]
            server.stop()
            killed.set()
            yield multipart(files)[1_500_000:]

        headers = {
            "Content-Type": 'multipart/related; type="application/dicom"; boundary=a-boundary'
        }
        answer = httpx.post(f"{url}/studies", content=body(), headers=headers, timeout=60)
        assert killed.is_set()
        assert answer.status_code == 503
        assert intake.names == ["intend", "abandon"]
        down = post(url, files)
        assert down.status_code == 503
        assert intake.names == ["intend", "abandon"]
        server.start()
        assert post(url, files).status_code == 200
        assert set(sop_uids(intake.received)) == held(archive, study)
        server.stop()


def test_an_encapsulated_and_a_deflated_object_arrive_as_they_were_sent(
    url: str, intake: FakeIntake, archive: ArchiveSettings
) -> None:
    files = []
    for name in ("JPEG2000.dcm", "image_dfl.dcm", "MR_small_bigendian.dcm"):
        path = get_testdata_file(name)
        assert isinstance(path, str)
        files.append(Path(path).read_bytes())
    base = archive.dicomweb_url.removesuffix("/dicom-web")

    def places(file: bytes) -> list[str]:
        sop_uid = pydicom.dcmread(io.BytesIO(file)).SOPInstanceUID
        found = httpx.post(f"{base}/tools/lookup", content=sop_uid, timeout=60).json()
        return [f"{base}{one['Path']}" for one in found]

    for place in {place for file in files for place in places(file)}:
        httpx.delete(place, timeout=60)  # what another test sent: Orthanc would keep that
    assert post(url, files).status_code == 200
    assert len(intake.received) == len(files)
    for file in files:
        assert file in [httpx.get(f"{place}/file", timeout=60).content for place in places(file)]
