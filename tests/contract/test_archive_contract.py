"""What flute-sync relies on in an archive: one suite for the sandbox and for Orthanc.

Where archives differ and PS3.18 (2026b) lets them, or where Orthanc is known to deviate, the
suites accept the set that flute-sync is written for, and say so.
"""

import pytest

from flute_sync.sandbox.studies import part10
from tests.contract.dicomweb import (
    BOUNDARY,
    RELATED,
    failed,
    find,
    last_change,
    multipart,
    native_id,
    new_trus,
    store,
    stored,
    value,
    values,
)

# -- STOW-RS -------------------------------------------------------------------------------------


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


# -- QIDO-RS -------------------------------------------------------------------------------------


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
