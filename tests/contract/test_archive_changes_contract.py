"""The change feed and the look-ups that flute-sync relies on, of the sandbox and of Orthanc."""

import io
import re

from dicomweb_client.api import DICOMwebClient
from pydicom import dcmread

from tests.acceptance.site import eventually
from tests.contract.dicomweb import find, last_change, native_id, new_trus, store, value


def _stable(native, since):
    feed = native.get("/changes", params={"since": since, "limit": 1000}).json()
    return {one["ID"] for one in feed["Changes"] if one["ChangeType"] == "StableStudy"}


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

    eventually(lambda: ours in _stable(native, since), what="a stable study")
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
    study, since = new_trus(), last_change(native)
    store(web, study.parts)
    ours = native_id(native, study)
    # It is the newest: once it is stable, nothing of older studies comes in between any more.
    eventually(lambda: ours in _stable(native, since), what="a stable study")
    before = last_change(native)
    assert native.delete(f"/studies/{ours}").status_code == 200
    feed = native.get("/changes", params={"since": 0, "limit": 100000}).json()
    assert ours not in [one["ID"] for one in feed["Changes"]]
    assert last_change(native) >= before
    (newest,) = native.get("/changes?last").json()["Changes"]
    assert newest["Seq"] < before
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
