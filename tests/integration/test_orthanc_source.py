"""Following a real Orthanc through what happens to it: corrections, restarts, a new database."""

import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydicom import dcmread

from flute_sync.archive_errors import ArchiveUnauthorized, ArchiveUnavailable
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.orthanc_changes import OrthancChangesPoller
from flute_sync.sources.orthanc_settings import OrthancChangesSettings
from flute_sync.study import StudyInstanceUID
from flute_sync.transport.credentials import BasicAuth
from tests.contract.dicomweb import Study, new_trus
from tests.intake import MemoryIntake
from tests.services.orthanc import Orthanc


class Site:
    """An Orthanc, what follows it and what reads it."""

    def __init__(self, orthanc: Orthanc) -> None:
        self.orthanc = orthanc
        self.intake = MemoryIntake()
        self.feed = OrthancChangesPoller(
            OrthancChangesSettings(url=orthanc.base_url, start="now"), "pacs", self.intake
        )
        self.feed.step(datetime.now(UTC))  # what other tests stored is not ours
        self.archive = Archive(ArchiveSettings(dicomweb_url=orthanc.dicomweb_url))
        self.native = httpx.Client(base_url=orthanc.base_url, timeout=60)

    def store(self, parts: list[bytes]) -> None:
        for part in parts:
            self.native.post("/instances", content=part).raise_for_status()

    def heard(self) -> set[str]:
        self.feed.step(datetime.now(UTC))
        return set(self.intake.take())

    def read(self, study: Study):
        return self.archive.read(StudyInstanceUID(study.uid))

    def restart(self, *, wipe: bool = False) -> None:
        self.orthanc.stop()
        if wipe:
            shutil.rmtree(self.orthanc.directory / "storage")
        self.orthanc.start()

    def close(self) -> None:
        self.feed.close()
        self.archive.close()
        self.native.close()


@pytest.fixture(scope="module")
def overwriting(new_orthanc: Callable[..., Orthanc]) -> Orthanc:
    """An Orthanc as most sites run it, which replaces what is sent again."""
    return new_orthanc(overwrite_instances=True, stable_age=timedelta(seconds=5))


@pytest.fixture
def site(overwriting: Orthanc) -> Iterator[Site]:
    site = Site(overwriting)
    yield site
    site.close()


def test_an_instance_that_is_overwritten_is_noticed_and_read(site):
    study = new_trus()
    site.store(study.parts)
    assert site.heard() == {study.uid}
    before = site.archive.counts(StudyInstanceUID(study.uid))
    corrected = dcmread(io.BytesIO(study.parts[0]))
    corrected.SeriesDescription = "corrected"
    file = io.BytesIO()
    corrected.save_as(file)
    site.store([file.getvalue()])
    assert site.heard() == {study.uid}
    assert site.archive.counts(StudyInstanceUID(study.uid)) == before  # only the feed tells
    found = {one.instance.header.series.description for one in site.read(study).received}
    assert "corrected" in found


def test_a_patient_that_is_corrected_is_noticed_and_read(site):
    study = new_trus()
    site.store(study.parts)
    site.heard()
    (found,) = site.native.post("/tools/lookup", content=study.uid).json()
    patient = site.native.get(found["Path"]).json()["ParentPatient"]
    site.native.post(
        f"/patients/{patient}/modify",
        json={
            "Replace": {"PatientID": "CORRECTED"},
            "Keep": ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"],
            "KeepSource": False,
            "Force": True,
        },
    ).raise_for_status()
    assert site.heard() == {study.uid}
    read = site.read(study)
    assert {one.instance.header.patient.id.value for one in read.received} == {"CORRECTED"}


def test_a_study_under_two_patients_says_so(site):
    study = new_trus()
    site.store(study.parts)
    other = []
    for part in study.parts:
        dataset = dcmread(io.BytesIO(part))
        dataset.PatientID = "OTHER"
        file = io.BytesIO()
        dataset.save_as(file)
        other.append(file.getvalue())
    site.store(other)
    assert site.heard() == {study.uid}
    row = site.archive.counts(StudyInstanceUID(study.uid))
    assert len(row.attributes) == 2
    assert row.instance_count == 2 * len(study.parts)


def test_a_deleted_study_is_absent_and_the_feed_goes_on(site):
    kept, deleted, later = new_trus(), new_trus(), new_trus()
    site.store(kept.parts + deleted.parts)
    assert site.heard() == {kept.uid, deleted.uid}
    (found,) = site.native.post("/tools/lookup", content=deleted.uid).json()
    site.native.delete(found["Path"]).raise_for_status()
    assert site.heard() == set()
    assert site.read(deleted) is None
    site.store(later.parts)
    assert site.heard() == {later.uid}


def test_an_outage_is_said_and_what_came_before_and_after_it_is_noticed(site):
    before, after = new_trus(), new_trus()
    site.store(before.parts)
    site.orthanc.stop()
    with pytest.raises(ArchiveUnavailable):
        site.heard()
    with pytest.raises(ArchiveUnavailable):
        site.read(before)
    site.orthanc.start()
    site.store(after.parts)
    assert site.heard() == {before.uid, after.uid}


def test_a_replaced_database_is_read_from_the_start(site, caplog):
    studies = [new_trus(), new_trus()]
    for study in studies:
        site.store(study.parts)
    site.heard()
    site.restart(wipe=True)
    site.store(studies[1].parts)
    assert site.heard() == {studies[1].uid}
    assert [r.event for r in caplog.records if hasattr(r, "event")] == ["source.reset"]
    assert site.heard() == set()


def test_credentials_are_shown_and_their_refusal_is_said(new_orthanc, tmp_path):
    orthanc = new_orthanc(credentials=("flute", "right"))
    password = tmp_path / "password"

    def archive(word: str) -> Archive:
        password.write_text(word)
        auth = BasicAuth(method="basic", user="flute", password_file=str(password))
        return Archive(ArchiveSettings(dicomweb_url=orthanc.dicomweb_url, auth=auth))

    with closing(archive("right")) as right:
        assert right.probe().search
    with closing(archive("wrong")) as wrong, pytest.raises(ArchiveUnauthorized):
        wrong.probe()
