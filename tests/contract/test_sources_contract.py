"""The ways to hear of a study and to read it: whichever is used, the same is known at the end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.change_feed import ChangeFeedPoller
from flute_sync.sources.change_feed_settings import ChangeFeedSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.find_archive import FindArchive
from flute_sync.sources.find_client import FindClient
from flute_sync.sources.find_scu import FindScuPoller
from flute_sync.sources.find_settings import FindScuSettings
from flute_sync.sources.header import HeaderReader
from flute_sync.sources.orthanc_changes import OrthancChangesPoller
from flute_sync.sources.orthanc_settings import OrthancChangesSettings
from flute_sync.sources.poller import Poller, Stop
from flute_sync.sources.poller_settings import QidoRsSettings
from flute_sync.sources.qido_listing import QidoListing
from flute_sync.sources.qido_rs import QidoRsPoller
from flute_sync.sources.sweep import Sweep
from flute_sync.sources.sweep_settings import SweepSettings
from flute_sync.study import StudyInstanceUID
from tests.changes import ChangeFeed
from tests.contract.dicomweb import last_change, new_mpmri, new_trus, store
from tests.intake import MemoryIntake

SOURCES = ("qido_rs", "orthanc_changes", "find_scu", "sweep", "change_feed")
Source = Callable[[MemoryIntake], Poller]


class WholeSweep(Sweep):
    """Goes through all in one step."""

    def step(self, now: datetime, stop: Stop = lambda: False) -> None:
        self.ask()
        super().step(now, stop)
        while self.interval != timedelta(minutes=1):
            super().step(now, stop)


class Derived(ChangeFeed):
    """A DICOM change feed of an archive that has none, made from its own."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._native = httpx.Client(base_url=url, timeout=60)
        self._seq = last_change(self._native)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        asked = {"since": self._seq, "limit": 10_000}
        feed = self._native.get("/changes", params=asked).json()
        for change in feed["Changes"]:
            self._seq = change["Seq"]
            if change["ChangeType"] == "NewInstance":
                self.say(self._study(change["ID"]), sequence=self._seq)
        return super().__call__(request)

    def _study(self, instance: str) -> str:
        series = self._native.get(f"/instances/{instance}").json()["ParentSeries"]
        study = self._native.get(f"/series/{series}").json()["ParentStudy"]
        found = self._native.get(f"/studies/{study}").json()
        return str(found["MainDicomTags"]["StudyInstanceUID"])

    def close(self) -> None:
        self._native.close()


@pytest.fixture(scope="module")
def archive(archive_url: str) -> Iterator[Archive]:
    archive = Archive(ArchiveSettings(dicomweb_url=f"{archive_url}/dicom-web", page_size=7))
    yield archive
    archive.close()


@pytest.fixture
def find_client(orthanc) -> FindClient:
    """A client of the archive's DIMSE services."""
    lookback = timedelta(days=10_000)
    settings = FindScuSettings(port=orthanc.dicom_port, ae_title=orthanc.aet, lookback=lookback)
    return FindClient(settings)


@pytest.fixture(params=SOURCES)
def source(request, archive_url: str, archive: Archive) -> Iterator[Source]:
    """Make the poller anew, as after a restart; what it knows is in the intake."""
    opened = ExitStack()
    client = request.getfixturevalue("find_client") if request.param == "find_scu" else None

    def qido_rs(intake: MemoryIntake) -> Poller:
        settings = QidoRsSettings(lookback=timedelta(days=10_000))
        return QidoRsPoller(settings, archive, intake)

    def orthanc_changes(intake: MemoryIntake) -> Poller:
        settings = OrthancChangesSettings(url=archive_url, page_size=7)
        poller = OrthancChangesPoller(settings, archive.name, intake)
        opened.callback(poller.close)
        return poller

    def find_scu(intake: MemoryIntake) -> Poller:
        assert client is not None
        return FindScuPoller(client.settings, archive.name, client, intake)

    def sweep(intake: MemoryIntake) -> Poller:
        listed = Archive(ArchiveSettings(dicomweb_url=archive.settings.dicomweb_url))
        opened.callback(listed.close)
        settings = SweepSettings(enabled=True, rate=100_000)
        return WholeSweep(settings, QidoListing(listed), archive.name, intake)

    def change_feed(intake: MemoryIntake) -> Poller:
        poller = ChangeFeedPoller(
            ChangeFeedSettings(page_size=7),
            "http://double/dicom/v1",
            archive.name,
            archive.settings,
            intake,
            transport=httpx.MockTransport(derived),
        )
        opened.callback(poller.close)
        return poller

    made: dict[str, Source] = {
        "qido_rs": qido_rs,
        "orthanc_changes": orthanc_changes,
        "find_scu": find_scu,
        "sweep": sweep,
        "change_feed": change_feed,
    }
    derived = Derived(archive_url)
    opened.callback(derived.close)
    with opened:
        yield made[request.param]


def heard(poller: Poller, intake: MemoryIntake) -> dict[str, str | None]:
    """Step until nothing more is at hand; return what was noticed and with which fingerprint."""
    poller.step(datetime.now(UTC))
    while not poller.interval:
        poller.step(datetime.now(UTC))
    return intake.take()


def test_the_studies_that_came_are_noticed_and_told_apart_from_what_is_known(source, web):
    intake = MemoryIntake()
    known = heard(source(intake), intake)
    studies = [new_mpmri(), new_trus()]
    for study in studies:
        store(web, study.parts)
    found = heard(source(intake), intake)
    assert {uid for uid in found if known.get(uid) != found[uid]} == {s.uid for s in studies}


def test_a_late_instance_is_noticed_by_another_fingerprint_and_then_no_more(source, web):
    study, intake = new_trus(), MemoryIntake()
    store(web, study.parts[:-1])
    first = heard(source(intake), intake)[study.uid]
    store(web, study.parts[-1:])
    second = heard(source(intake), intake)[study.uid]
    third = heard(source(intake), intake).get(study.uid, second)
    assert first != second == third


def test_what_could_not_be_committed_is_noticed_again(source, web):
    study, intake = new_trus(), MemoryIntake()
    poller = source(intake)
    heard(poller, intake)
    store(web, study.parts)
    intake.failure = RuntimeError("killed before the commit")
    with pytest.raises(RuntimeError):
        heard(poller, intake)
    assert study.uid in heard(source(intake), intake)


@pytest.mark.parametrize("make", [new_mpmri, new_trus])
def test_metadata_says_what_the_files_say(archive, web, make):
    study = make()
    store(web, study.parts)
    found = archive.read(StudyInstanceUID(study.uid))
    assert found is not None
    reader = HeaderReader()
    assert sorted(found.received) == sorted(reader.read(part) for part in study.parts)
    assert (found.refused, found.service) == ((), "wado-rs")
    assert (found.series_count, found.instance_count) == (
        len(study.series_uids),
        len(study.sop_uids),
    )


def core(received):
    """What a search tells of an instance, too."""
    header = received.instance.header
    return (
        received[:2],
        received.instance[:2],
        header.sop_class_uid,
        header.patient,
        (header.study.started, header.study.description),
        (header.series.modality, header.series.number, header.series.description),
    )


@pytest.mark.parametrize("make", [new_mpmri, new_trus])
def test_a_search_finds_the_same_instances_and_what_it_says_of_them_is_the_same(
    archive, archive_url, web, make
):
    study = make()
    store(web, study.parts)
    uid = StudyInstanceUID(study.uid)
    settings = ArchiveSettings(dicomweb_url=archive.settings.dicomweb_url, metadata="qido-rs")
    searching = Archive(settings)
    found, whole = searching.read(uid), archive.read(uid)
    searching.close()
    assert found is not None
    assert whole is not None
    assert found.row == whole.row

    assert sorted(map(core, found.received)) == sorted(map(core, whole.received))


@pytest.mark.parametrize("make", [new_mpmri, new_trus])
def test_c_find_finds_the_same_instances_and_what_it_says_of_them_is_the_same(
    archive, find_client, web, make
):
    study = make()
    store(web, study.parts)
    uid = StudyInstanceUID(study.uid)
    asking = FindArchive(ArchiveSettings(metadata="c-find"), find_client)
    found, whole = asking.read(uid), archive.read(uid)
    assert found is not None
    assert (found.service, found.stated, found.refused) == ("c-find", (), ())
    assert (found.series_count, found.instance_count) == (
        whole.series_count,
        whole.instance_count,
    )
    assert sorted(map(core, found.received)) == sorted(map(core, whole.received))
    assert asking.read(StudyInstanceUID(make().uid)) is None


def test_the_poller_and_the_reader_agree_on_what_is_known(archive, web):
    study, intake = new_trus(), MemoryIntake()
    store(web, study.parts)
    poller = QidoRsPoller(QidoRsSettings(lookback=timedelta(days=10_000)), archive, intake)
    noticed = heard(poller, intake)[study.uid]
    uid = StudyInstanceUID(study.uid)
    found, row = archive.read(uid), archive.counts(uid)
    assert found is not None
    assert row is not None
    assert noticed == found.fingerprint == row.fingerprint


def test_a_study_that_the_archive_does_not_hold_is_absent(archive):
    absent = StudyInstanceUID(new_trus().uid)
    assert archive.read(absent) is None
    assert archive.counts(absent) is None


def test_the_archive_offers_what_is_needed(archive, mpmri):
    verdict = archive.probe()
    assert (verdict.search, verdict.metadata) == (True, True)
