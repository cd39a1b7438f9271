"""Deletions of which Orthanc's feed does not tell are found by its totals and its list."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest

from flute_sync.archive_errors import ArchiveCapabilityMissing, ArchiveServerError
from flute_sync.intake import Notice
from flute_sync.sources.orthanc_changes import OrthancChangesPoller
from flute_sync.sources.orthanc_settings import OrthancChangesSettings
from flute_sync.study import StudyInstanceUID
from tests.intake import MemoryIntake
from tests.unit.test_orthanc_changes import Orthanc, uid

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LATER = timedelta(minutes=5)


class Counting(Orthanc):
    """An Orthanc with totals and a list of studies; ``meanwhile`` happens while it counts."""

    totals: dict | None = None
    meanwhile: Callable[[], None] = staticmethod(lambda: None)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        params = request.url.params
        if request.url.path == "/statistics":
            self.asked.append("/statistics")
            counts = {
                "CountStudies": len({study for _, study in self.instances.values()}),
                "CountSeries": len({series for series, _ in self.instances.values()}),
                "CountInstances": len(self.instances),
            }
            self.meanwhile()
            return httpx.Response(200, content=orjson.dumps(self.totals or counts))
        if request.url.path == "/studies":
            ids = sorted({study for _, study in self.instances.values()})
            self.asked.append("/studies?expand" if "expand" in params else "/studies")
            if "expand" in params:
                since, limit = int(params["since"]), int(params["limit"])
                found: list = [
                    {"ID": one, "MainDicomTags": {"StudyInstanceUID": uid(one)}}
                    for one in ids[since : since + limit]
                ]
                return httpx.Response(200, content=orjson.dumps(found))
            return httpx.Response(200, content=orjson.dumps(ids))
        return super().__call__(request)

    def delete_instance(self, one: str) -> None:
        del self.instances[one]
        self.rows = [row for row in self.rows if row["ID"] != one]


class Site:
    def __init__(self) -> None:
        self.orthanc = Counting()
        self.intake = MemoryIntake()
        self.held: set[StudyInstanceUID] = set()
        self.intake.holdings["pacs"] = self.held
        self.swept = 0
        self.now = NOW
        self.restart()

    def restart(self) -> None:
        self.feed = OrthancChangesPoller(
            OrthancChangesSettings(),
            "pacs",
            self.intake,
            removed=self._removed,
            transport=httpx.MockTransport(self._answer),
        )

    def _removed(self) -> None:
        self.swept += 1

    def _answer(self, request: httpx.Request) -> httpx.Response:
        return self.orthanc(request)

    def store(self, number: int, *, instances: int = 2) -> None:
        for one in range(instances):
            self.orthanc.store(f"st{number}", f"se{number}", f"in{number}-{one}")
        self.held.add(StudyInstanceUID(uid(f"st{number}")))

    def gone(self, after: timedelta = LATER) -> list[str]:
        self.now += after
        self.feed.step(self.now)
        found = [
            str(one.study_instance_uid) for one in self.intake.noticed if one.notice is Notice.GONE
        ]
        self.intake.deliveries.clear()
        self.held -= set(map(StudyInstanceUID, found))
        return found


@pytest.fixture
def site() -> Site:
    site = Site()
    for number in range(20):
        site.store(number)
    assert site.gone() == []
    assert site.gone() == []
    return site


def test_a_study_that_is_deleted_is_noticed(site):
    site.orthanc.delete("st3")
    assert site.gone() == ["1.2.3"]
    assert (site.gone(), site.swept) == ([], 0)


def test_while_nothing_is_gone_only_totals_are_asked_for(site):
    site.orthanc.asked.clear()
    for _ in range(5):
        assert site.gone() == []
    assert site.orthanc.asked.count("/statistics") == 5
    assert not any(path.startswith("/studies") for path in site.orthanc.asked)


def test_and_that_at_its_interval(site):
    site.orthanc.asked.clear()
    for _ in range(10):
        assert site.gone(timedelta(seconds=2)) == []
    assert site.orthanc.asked.count("/statistics") == 0


def test_what_comes_meanwhile_hides_no_deletion(site):
    site.orthanc.delete("st3")
    site.store(30)
    assert site.gone() == ["1.2.3"]


def test_what_came_and_went_between_two_looks_is_not_gone(site):
    site.store(30)
    site.orthanc.delete("st30")
    site.held.discard(StudyInstanceUID("1.2.30"))
    assert (site.gone(), site.swept) == ([], 0)


def test_what_was_deleted_while_nobody_looked_is_noticed(site):
    site.orthanc.delete("st3")
    site.restart()
    assert site.gone() == []
    assert site.gone() == ["1.2.3"]


def test_an_instance_that_is_deleted_asks_for_a_sweep_once_a_day(site):
    site.orthanc.delete_instance("in4-1")
    assert (site.gone(), site.swept) == ([], 1)
    site.orthanc.delete_instance("in5-1")
    assert (site.gone(), site.swept) == ([], 1)
    site.orthanc.delete_instance("in6-1")
    assert (site.gone(timedelta(days=1)), site.swept) == ([], 2)


def test_one_that_is_deleted_while_the_service_is_down_too(site):
    site.store(30)
    site.gone(timedelta(seconds=2))  # read, but no look since
    site.orthanc.delete_instance("in4-1")
    site.restart()
    site.store(31)
    site.gone()
    assert (site.gone(), site.swept) == ([], 1)


def test_a_restart_alone_asks_for_no_sweep(site):
    site.store(30)
    site.gone(timedelta(seconds=2))
    site.restart()
    site.store(31)
    site.gone()
    assert (site.gone(), site.gone(), site.swept) == ([], [], 0)


def test_one_study_deleted_and_stored_anew_is_not_gone(site):
    site.orthanc.delete("st3")
    site.store(3)
    assert site.gone() == []


def test_a_busy_archive_is_looked_at_in_the_end(site):
    site.orthanc.delete("st3")
    site.orthanc.meanwhile = lambda: site.store(100 + len(site.held))
    found: list[str] = []
    for _ in range(12):
        found += site.gone(LATER if not found else timedelta(seconds=2))
    assert found == ["1.2.3"]


def test_a_change_of_a_deletion_is_looked_into_at_once(site):
    site.orthanc.delete("st3")
    site.orthanc._say("DeletedStudy", "Study", "st3")
    assert site.gone(timedelta(seconds=2)) == ["1.2.3"]


def test_a_list_that_lacks_most_is_doubted(site, caplog):
    for number in range(15):
        site.orthanc.delete(f"st{number}")
    assert len(site.gone()) == 15
    assert "sweep.doubtful" in [getattr(record, "event", "") for record in caplog.records]


def test_many_studies_are_learned_by_the_page():
    site = Site()
    for number in range(600):
        site.store(number, instances=1)
    site.gone()
    site.orthanc.asked.clear()
    assert site.gone() == []
    assert site.orthanc.asked.count("/studies?expand") == 2
    assert len(site.orthanc.asked) < 8
    site.orthanc.asked.clear()
    site.orthanc.delete("st77")
    assert site.gone() == ["1.2.77"]
    assert site.orthanc.asked.count("/studies?expand") == 0


@pytest.mark.parametrize("totals", [{"CountStudies": 1}, {"CountStudies": "x"}, {"Count": []}])
def test_statistics_without_counts_are_said(site, totals):
    site.orthanc.totals = totals
    with pytest.raises(ArchiveServerError):
        site.gone()


def test_a_proxy_that_hides_the_statistics_is_said_and_stops_nothing_else(site):
    shown = site.orthanc

    def hidden(request):
        return httpx.Response(404) if request.url.path == "/statistics" else shown(request)

    site.orthanc = hidden
    with pytest.raises(ArchiveCapabilityMissing):
        site.gone()
    shown.store("st30", "se30", "in30")
    for _ in range(3):
        site.now += LATER
        site.feed.step(site.now)
    assert set(site.intake.take()) == {"1.2.30"}
