"""What is deleted in a real Orthanc: a study, a series, an instance."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from flute_sync.intake import Notice
from flute_sync.sources.archive_settings import ArchiveSettings
from flute_sync.sources.dicomweb import Archive
from flute_sync.sources.orthanc_changes import OrthancChangesPoller
from flute_sync.sources.orthanc_settings import OrthancChangesSettings
from flute_sync.sources.qido_listing import QidoListing
from flute_sync.sources.sweep import Sweep
from flute_sync.sources.sweep_settings import SweepSettings
from flute_sync.study import StudyInstanceUID
from tests.contract.dicomweb import Study, new_trus
from tests.intake import MemoryIntake
from tests.services.orthanc import Orthanc

MINUTE = timedelta(minutes=1)


class Site:
    """An Orthanc, its feed, and the sweep that the feed asks for."""

    def __init__(self, orthanc: Orthanc) -> None:
        self.native = httpx.Client(base_url=orthanc.base_url, timeout=60)
        self.intake = MemoryIntake()
        self.archive = Archive(ArchiveSettings(dicomweb_url=orthanc.dicomweb_url, page_size=50))
        self.sweep = Sweep(
            SweepSettings(rate=100_000), QidoListing(self.archive), "pacs", self.intake
        )
        self.settings = OrthancChangesSettings(url=orthanc.base_url, removals=MINUTE)
        self.feed = self.follow()
        self.now = datetime.now(UTC)
        self.prints: dict[str, str | None] = {}
        self.held: set[StudyInstanceUID] = set()
        self.intake.holdings["pacs"] = self.held

    def follow(self) -> OrthancChangesPoller:
        return OrthancChangesPoller(self.settings, "pacs", self.intake, removed=self.sweep.ask)

    def restart(self) -> None:
        self.feed.close()
        self.feed = self.follow()

    def store(self, *studies: Study) -> None:
        for study in studies:
            for part in study.parts:
                self.native.post("/instances", content=part).raise_for_status()
            self.held.add(StudyInstanceUID(study.uid))

    def delete(self, level: str, uid: str) -> None:
        (found,) = self.native.post("/tools/lookup", content=uid).json()
        assert found["Type"] == level
        self.native.delete(found["Path"]).raise_for_status()

    def look(self, minutes: int = 1) -> None:
        self.now += minutes * MINUTE
        self.feed.step(self.now)
        self.sweep.step(self.now)
        while self.sweep.interval != MINUTE:
            self.sweep.step(self.now)

    def heard(self) -> tuple[set[str], set[str]]:
        """Look; return what seems gone, and what was told with another fingerprint by a sweep."""
        self.look()
        gone = {one.study_instance_uid for one in self.intake.noticed if one.notice is Notice.GONE}
        told = {
            str(one.study_instance_uid): one.fingerprint
            for delivery in self.intake.deliveries
            if delivery.source == "sweep"
            for one in delivery.noticed
            if one.notice is Notice.CHANGED
        }
        self.intake.deliveries.clear()
        self.held -= set(map(StudyInstanceUID, gone))
        changed = {uid for uid, print_ in told.items() if self.prints.get(uid) != print_}
        self.prints |= told
        return set(gone), set(changed)

    def close(self) -> None:
        self.feed.close()
        self.archive.close()
        self.native.close()


@pytest.fixture
def site(new_orthanc: Callable[..., Orthanc]) -> Iterator[Site]:
    site = Site(new_orthanc())
    yield site
    site.close()


def test_a_study_a_series_and_an_instance(site):
    studies = [new_trus() for _ in range(8)]
    site.store(*studies)
    site.look()
    site.sweep.ask()
    assert site.heard() == (set(), {study.uid for study in studies})
    assert site.heard() == (set(), set())

    site.delete("Study", studies[2].uid)
    assert site.heard() == ({studies[2].uid}, set())
    assert site.heard() == (set(), set())

    site.delete("Instance", studies[3].datasets[0].SOPInstanceUID)
    assert site.heard() == (set(), {studies[3].uid})

    site.now += timedelta(days=1)
    many = max(studies[4].datasets, key=lambda one: one.SeriesInstanceUID)
    site.delete("Series", many.SeriesInstanceUID)
    assert site.heard() == (set(), {studies[4].uid})
    assert site.heard() == (set(), set())


def test_what_is_deleted_while_the_service_is_down(site):
    studies = [new_trus() for _ in range(4)]
    site.store(*studies)
    site.look()
    site.sweep.ask()
    site.heard()
    site.delete("Study", studies[0].uid)
    site.restart()
    site.look()
    assert site.heard() == ({studies[0].uid}, set())
    site.delete("Instance", studies[1].datasets[0].SOPInstanceUID)
    site.restart()
    site.look()
    assert site.heard() == (set(), {studies[1].uid})


def test_a_study_that_is_deleted_while_another_comes(site):
    before, after = [new_trus() for _ in range(4)], new_trus()
    site.store(*before)
    site.look()
    site.look()
    site.delete("Study", before[1].uid)
    site.store(after)
    assert site.heard()[0] == {before[1].uid}


def test_what_was_stored_without_a_date_or_long_ago_is_found_by_a_sweep(site):
    undated, old = new_trus(), new_trus()
    for study, day in ((undated, ""), (old, "19510203")):
        for dataset in study.datasets:
            dataset.StudyDate = day
    site.store(Study(undated.datasets), Study(old.datasets))
    site.sweep.ask()
    assert site.heard() == (set(), {undated.uid, old.uid})
