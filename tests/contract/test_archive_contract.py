"""What flute-sync relies on in an archive: one suite for the sandbox and for Orthanc.

Where archives differ and PS3.18 (2026b) lets them, or where Orthanc is known to deviate, the
suite accepts the set that flute-sync is written for, and says so.
"""

import io
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from flute_sync.sandbox.studies import SyntheticPatient, part10, prostate_mpmri, prostate_trus
from tests.acceptance.site import eventually
from tests.contract.dicomweb import (
    BOUNDARY,
    RELATED,
    failed,
    multipart,
    split_multipart,
    stored,
    value,
    values,
)


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


@pytest.fixture(scope="module")
def web(archive_url: str) -> Iterator[httpx.Client]:
    """A client of the archive's DICOMweb services."""
    with httpx.Client(base_url=archive_url + "/dicom-web", timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def native(archive_url: str) -> Iterator[httpx.Client]:
    """A client of the archive's own services."""
    with httpx.Client(base_url=archive_url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def mpmri(web: httpx.Client) -> Study:
    """A study that the archive holds; tests do not change it."""
    study = new_mpmri()
    assert store(web, study.parts).status_code == 200
    return study


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


# -- STOW-RS ---------------------------------------------------------------------------------


def test_stow_names_each_stored_object(web, mpmri):
    study = new_trus()
    response = store(web, study.parts)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/dicom+json")
    answer = response.json()
    assert stored(answer) == study.sop_uids
    assert not failed(answer)
    assert value(answer, "00081190").endswith(f"/dicom-web/studies/{study.uid}")
    for item in values(answer, "00081199"):
        assert value(item, "00081190").endswith("/instances/" + value(item, "00081155"))


def test_stow_takes_chunked_bodies(web):
    study = new_trus()
    body = multipart(study.parts)
    chunks = (body[start : start + 1000] for start in range(0, len(body), 1000))
    response = web.post("/studies", content=chunks, headers={"Content-Type": RELATED})
    assert response.status_code == 200
    assert stored(response.json()) == study.sop_uids


def test_stow_into_a_named_study(web):
    study = new_trus()
    response = store(web, study.parts, study.path)
    assert response.status_code == 200
    assert stored(response.json()) == study.sop_uids


def test_stow_refuses_objects_of_another_study(web):
    study, other = new_trus(), new_trus()
    response = store(web, study.parts, other.path)
    assert response.status_code == 409
    assert failed(response.json()) == dict.fromkeys(study.sop_uids, 0x0110)
    assert not stored(response.json())
    assert find(web, "/studies", f"StudyInstanceUID={study.uid}") == []


def test_stow_says_in_its_body_what_is_stored_when_a_part_is_not_dicom(web):
    """PS3.18 wants 202; Orthanc answers 400 although it stored the good part."""
    study = new_trus()
    response = store(web, [b"not DICOM at all", study.parts[0]])
    assert response.status_code in (202, 400)
    kept = study.datasets[0].SOPInstanceUID
    assert stored(response.json()) == {kept}
    (found,) = find(web, f"{study.path}/instances")
    assert value(found, "00080018") == kept


def test_stow_of_no_dicom_at_all_stores_nothing(web):
    response = store(web, [b"not DICOM at all"])
    assert response.status_code in (400, 409)
    assert not stored(response.json())


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/dicom", {415}),
        (f'multipart/related; type="image/jpeg"; boundary={BOUNDARY}', {415}),
        ('multipart/related; type="application/dicom"', {400, 415}),
    ],
)
def test_stow_refuses_other_media_types(web, content_type, status):
    study = new_trus()
    response = web.post(
        "/studies", content=multipart(study.parts), headers={"Content-Type": content_type}
    )
    assert response.status_code in status
    assert find(web, "/studies", f"StudyInstanceUID={study.uid}") == []


def test_a_duplicate_counts_as_stored_and_the_first_object_stays(web, native):
    study = new_trus()
    store(web, study.parts)
    before = last_change(native)
    for dataset in study.datasets:
        dataset.StudyDescription = "another description"
    response = store(web, [part10(dataset) for dataset in study.datasets])
    assert response.status_code == 200
    assert stored(response.json()) == study.sop_uids
    held = web.get(f"{study.path}/metadata").json()
    assert {value(one, "00081030") for one in held} == {"TRUS guided prostate biopsy"}
    ours = native_id(native, study)
    new = native.get("/changes", params={"since": before, "limit": 1000}).json()["Changes"]
    assert not [one for one in new if one["ID"] == ours and one["ChangeType"] == "NewStudy"]
    assert not [one for one in new if one["ChangeType"] == "NewInstance"]


# -- QIDO-RS ---------------------------------------------------------------------------------


def test_qido_describes_a_study(web, mpmri):
    first = mpmri.datasets[0]
    (found,) = find(web, "/studies", f"StudyInstanceUID={mpmri.uid}")
    assert value(found, "0020000D") == mpmri.uid
    assert value(found, "00080020") == "20240301"
    assert value(found, "00080030").startswith("091500")
    assert value(found, "00080050") == first.AccessionNumber
    assert value(found, "00100020") == first.PatientID
    assert value(found, "00100010") == {"Alphabetic": "Esempio^Primo"}
    assert value(found, "00100030") == "19510412"
    assert value(found, "00080201") == "+0100"
    assert values(found, "00080061") == ["MR"]
    assert value(found, "00201206") == len(mpmri.series_uids)
    assert value(found, "00201208") == len(mpmri.sop_uids)
    assert value(found, "00081190").endswith(f"/dicom-web/studies/{mpmri.uid}")


@pytest.mark.parametrize(
    "query",
    [
        "PatientID={0.PatientID}",
        "00100020={0.PatientID}",
        "AccessionNumber={0.AccessionNumber}&PatientID={0.PatientID}",
        "ModalitiesInStudy=MR&PatientID={0.PatientID}",
        "StudyInstanceUID=1.2.3,{0.StudyInstanceUID}",
        "PatientID={0.PatientID}&StudyDate=20240301",
        "PatientID={0.PatientID}&StudyDate=20240229-20240301",
        "PatientID={0.PatientID}&StudyDate=20240301-",
        "PatientID={0.PatientID}&StudyDate=-20240301",
        "PatientID={0.PatientID}&StudyDate=20240301&StudyTime=0900-0930",
        "PatientID={0.PatientID}&limit=5&offset=0",
    ],
)
def test_qido_finds_a_study(web, mpmri, query):
    found = find(web, "/studies", query.format(mpmri.datasets[0]))
    assert [value(one, "0020000D") for one in found] == [mpmri.uid]


@pytest.mark.parametrize(
    "query",
    [
        "StudyInstanceUID=1.2.3.4",
        "PatientID=P",
        "PatientID={0.PatientID}&ModalitiesInStudy=CT",
        "PatientID={0.PatientID}&StudyDate=20240302-",
        "PatientID={0.PatientID}&StudyDate=-20240229",
        "PatientID={0.PatientID}&AccessionNumber=none",
        "PatientID={0.PatientID}&limit=5&offset=1",
    ],
)
def test_qido_finds_nothing(web, mpmri, query):
    assert find(web, "/studies", query.format(mpmri.datasets[0])) == []


def test_qido_wildcard(web, mpmri):
    prefix = mpmri.datasets[0].PatientID[:-1]
    found = find(web, "/studies", f"PatientID={prefix}*")
    assert mpmri.uid in [value(one, "0020000D") for one in found]


def test_qido_pages_do_not_overlap(web, mpmri):
    paged = [
        value(one, "00080018")
        for offset in range(0, len(mpmri.sop_uids) + 5, 5)
        for one in find(web, f"{mpmri.path}/instances", f"limit=5&offset={offset}")
    ]
    assert len(paged) == len(mpmri.sop_uids)
    assert set(paged) == mpmri.sop_uids


def test_qido_returns_what_includefield_asks_for(web, mpmri):
    query = f"StudyInstanceUID={mpmri.uid}&includefield=StudyDescription"
    (found,) = find(web, "/studies", query)
    assert value(found, "00081030") == "MRI prostate multiparametric"


def test_qido_refuses_a_limit_that_is_no_number(web):
    assert web.get("/studies?limit=abc").status_code == 400


def test_qido_series_of_a_study(web, mpmri):
    found = find(web, f"{mpmri.path}/series")
    assert {value(one, "0020000E") for one in found} == mpmri.series_uids
    counted = {value(one, "0020000E"): value(one, "00201209") for one in found}
    for uid in mpmri.series_uids:
        held = [one for one in mpmri.datasets if one.SeriesInstanceUID == uid]
        assert counted[uid] == len(held)
    first = min(found, key=lambda one: value(one, "00200011"))
    assert value(first, "00080060") == "MR"
    assert value(first, "0008103E") == "t2_tse_axi"
    assert f"{mpmri.path}/series/" in value(first, "00081190")


def test_qido_series_and_instances_of_the_whole_archive(web, mpmri):
    one = mpmri.datasets[0]
    (series,) = find(web, "/series", f"SeriesInstanceUID={one.SeriesInstanceUID}")
    assert value(series, "0020000D") == mpmri.uid
    (instance,) = find(web, "/instances", f"SOPInstanceUID={one.SOPInstanceUID}")
    assert value(instance, "0020000E") == one.SeriesInstanceUID


def test_qido_instances_of_a_study_and_of_a_series(web, mpmri):
    found = find(web, f"{mpmri.path}/instances")
    assert {value(one, "00080018") for one in found} == mpmri.sop_uids
    assert {value(one, "00080016") for one in found} == {"1.2.840.10008.5.1.4.1.1.4"}
    series = mpmri.datasets[0].SeriesInstanceUID
    held = [one for one in mpmri.datasets if one.SeriesInstanceUID == series]
    found = find(web, f"{mpmri.path}/series/{series}/instances")
    assert sorted(value(one, "00200013") for one in found) == [one.InstanceNumber for one in held]


def test_qido_below_an_absent_study_finds_nothing(web):
    assert find(web, "/studies/1.2.3.4/series") == []
    assert find(web, "/studies/1.2.3.4/instances") == []


# -- WADO-RS ---------------------------------------------------------------------------------


def test_metadata_at_three_levels(web, mpmri):
    one = mpmri.datasets[0]
    series = f"{mpmri.path}/series/{one.SeriesInstanceUID}"
    in_series = {
        d.SOPInstanceUID for d in mpmri.datasets if d.SeriesInstanceUID == one.SeriesInstanceUID
    }
    for path, expected in (
        (mpmri.path, mpmri.sop_uids),
        (series, in_series),
        (mpmri.instance_path(0), {one.SOPInstanceUID}),
    ):
        response = web.get(f"{path}/metadata", headers={"Accept": "application/dicom+json"})
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("application/dicom+json")
        assert {value(header, "00080018") for header in response.json()} == expected


def test_metadata_says_what_the_object_says(web, mpmri):
    (header,) = web.get(f"{mpmri.instance_path(0)}/metadata").json()
    one = mpmri.datasets[0]
    assert value(header, "00080016") == one.SOPClassUID
    assert values(header, "00080008") == ["ORIGINAL", "PRIMARY", "M", "ND"]
    assert value(header, "00100010") == {"Alphabetic": "Esempio^Primo"}
    assert value(header, "00100021") == "SANDBOX"
    assert value(header, "00080201") == "+0100"
    assert value(header, "00200011") == 1
    assert value(header, "00180015") == "PROSTATE"
    assert value(value(header, "00082218"), "00080100") == "41216001"
    assert value(value(header, "00081032"), "00080104") == "MR Prostate"
    assert value(value(header, "00080051"), "00400032") == "1.3.6.1.4.1.99999.1"
    assert value(header, "00180050") == 3
    assert not [tag for tag in header if tag.startswith("0002")]
    assert "InlineBinary" not in header.get("7FE00010", {})


def test_metadata_carries_b_values(web, mpmri):
    headers = web.get(f"{mpmri.path}/metadata").json()
    assert {value(one, "00189087") for one in headers if "00189087" in one} == {50, 800}


@pytest.mark.parametrize("tail", ["", "/metadata", "/rendered"])
def test_an_absent_study_is_404(web, tail):
    assert web.get(f"/studies/1.2.3.4{tail}").status_code == 404


def test_objects_come_back_as_they_were_sent(web, mpmri):
    for path, expected in (
        (mpmri.path, len(mpmri.parts)),
        (f"{mpmri.path}/series/{mpmri.datasets[0].SeriesInstanceUID}", 2),
        (mpmri.instance_path(0), 1),
    ):
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        response = web.get(path, headers={"Accept": accept})
        assert response.status_code == 200
        parts = [dcmread(io.BytesIO(part)) for part in split_multipart(response)]
        assert len(parts) == expected
        sent = {one.SOPInstanceUID: one for one in mpmri.datasets}
        for part in parts:
            assert part.PixelData == sent[part.SOPInstanceUID].PixelData


def test_a_frame_is_its_pixels(web, mpmri):
    response = web.get(f"{mpmri.instance_path(0)}/frames/1")
    assert response.status_code == 200
    assert list(split_multipart(response)) == [mpmri.datasets[0].PixelData]


@pytest.mark.parametrize(("accept", "form"), [("image/jpeg", "JPEG"), ("image/png", "PNG")])
def test_pictures(web, mpmri, accept, form):
    series = f"{mpmri.path}/series/{mpmri.datasets[0].SeriesInstanceUID}"
    for path in (mpmri.path, series, mpmri.instance_path(0)):
        response = web.get(f"{path}/rendered", headers={"Accept": accept})
        assert response.status_code == 200
        assert response.headers["content-type"] == accept
        picture = Image.open(io.BytesIO(response.content))
        assert picture.format == form
        assert picture.size == (24, 24)
        shades = picture.convert("L").tobytes()
        assert min(shades) < 30
        assert max(shades) > 100


# -- changes and look-ups --------------------------------------------------------------------


def last_change(native: httpx.Client) -> Any:
    """Ask for the highest number ever given; ``?last`` names the newest change that is left."""
    return native.get("/changes", params={"since": 10**9, "limit": 1}).json()["Last"]


def native_id(native: httpx.Client, study: Study) -> Any:
    (found,) = native.post("/tools/lookup", content=study.uid).json()
    assert found["Type"] == "Study"
    assert found["Path"] == f"/studies/{found['ID']}"
    return found["ID"]


def test_changes_tell_of_a_new_study_and_then_that_it_is_stable(web, native):
    since = last_change(native)
    study = new_trus()
    store(web, study.parts)
    ours = native_id(native, study)

    def news():
        feed = native.get("/changes", params={"since": since, "limit": 1000}).json()
        assert feed["Done"]
        return feed["Changes"]

    kinds = [one["ChangeType"] for one in news() if one["ChangeType"].startswith("New")]
    assert kinds.count("NewInstance") == len(study.parts)
    assert kinds.count("NewSeries") == len(study.series_uids)
    assert kinds[0] == "NewInstance"
    (new,) = [one for one in news() if one["ChangeType"] == "NewStudy"]
    assert (new["ID"], new["ResourceType"], new["Path"]) == (ours, "Study", f"/studies/{ours}")
    assert re.fullmatch(r"\d{8}T\d{6}", new["Date"])

    def stable():
        return [one for one in news() if one["ChangeType"] == "StableStudy" and one["ID"] == ours]

    eventually(stable, within=15, what="a stable study")
    numbers = [one["Seq"] for one in news()]
    assert numbers == sorted(numbers)
    assert numbers[0] > since


def test_changes_come_in_pages(native, mpmri):
    seen, since, done = [], 0, False
    while not done:
        feed = native.get("/changes", params={"since": since, "limit": 7}).json()
        assert len(feed["Changes"]) <= 7
        seen += [one["Seq"] for one in feed["Changes"]]
        done, since = feed["Done"], feed["Last"]
        assert since == seen[-1]
    whole = native.get("/changes", params={"since": 0, "limit": 100000}).json()["Changes"]
    assert [one["Seq"] for one in whole[: len(seen)]] == seen


def test_the_newest_change(native, mpmri):
    feed = native.get("/changes?last").json()
    assert [one["Seq"] for one in feed["Changes"]] == [feed["Last"]]
    assert feed["Done"] is True


def test_changes_beyond_the_end_name_the_true_end(native, mpmri):
    last = last_change(native)
    feed = native.get("/changes", params={"since": last + 1000, "limit": 10}).json()
    assert feed["Changes"] == []
    assert feed["Done"] is True
    assert last <= feed["Last"] < last + 1000


def test_a_deleted_study_leaves_no_trace_but_the_numbers_go_on(web, native):
    study = new_trus()
    store(web, study.parts)
    ours, last = native_id(native, study), last_change(native)
    assert native.delete(f"/studies/{ours}").status_code == 200
    feed = native.get("/changes", params={"since": 0, "limit": 100000}).json()
    assert ours not in [one["ID"] for one in feed["Changes"]]
    assert last_change(native) == last
    (newest,) = native.get("/changes?last").json()["Changes"]
    assert newest["Seq"] < last
    assert native.get(f"/studies/{ours}").status_code == 404
    assert native.delete(f"/studies/{ours}").status_code == 404
    assert web.get(f"{study.path}/metadata").status_code == 404
    assert find(web, "/studies", f"StudyInstanceUID={study.uid}") == []
    assert native.post("/tools/lookup", content=study.uid).json() == []


def test_native_look_ups(native, mpmri):
    ours = native_id(native, mpmri)
    study = native.get(f"/studies/{ours}").json()
    assert study["ID"] == ours
    assert study["MainDicomTags"]["StudyInstanceUID"] == mpmri.uid
    assert study["PatientMainDicomTags"]["PatientID"] == mpmri.datasets[0].PatientID
    assert re.fullmatch(r"\d{8}T\d{6}", study["LastUpdate"])
    series = native.get(f"/studies/{ours}/series?expand").json()
    assert {one["MainDicomTags"]["SeriesInstanceUID"] for one in series} == mpmri.series_uids
    assert {one["ID"] for one in series} == set(study["Series"])
    assert sum(len(one["Instances"]) for one in series) == len(mpmri.sop_uids)
    instances = native.get(f"/studies/{ours}/instances?expand").json()
    assert {one["MainDicomTags"]["SOPInstanceUID"] for one in instances} == mpmri.sop_uids
    parent = native.get(f"/series/{instances[0]['ParentSeries']}").json()
    assert parent["ParentStudy"] == ours
    assert native.get(f"/instances/{instances[0]['ID']}").json()["ParentSeries"] == parent["ID"]
    counts = native.get(f"/studies/{ours}/statistics").json()
    assert counts["CountInstances"] == len(mpmri.sop_uids)
    assert ours in native.get("/studies").json()


def test_a_client_that_we_did_not_write(archive_url, web):
    study = new_trus()
    client = DICOMwebClient(archive_url + "/dicom-web")
    answer = client.store_instances([dcmread(io.BytesIO(part)) for part in study.parts])
    assert len(answer.ReferencedSOPSequence) == len(study.datasets)
    (found,) = client.search_for_studies(search_filters={"PatientID": study.datasets[0].PatientID})
    assert value(found, "0020000D") == study.uid
    assert len(client.retrieve_study_metadata(study.uid)) == len(study.datasets)
    series, instance = study.datasets[0].SeriesInstanceUID, study.datasets[0].SOPInstanceUID
    fetched = client.retrieve_instance(study.uid, series, instance)
    assert fetched.PixelData == study.datasets[0].PixelData
