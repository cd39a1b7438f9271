"""The change feed: nothing is missed, nothing is asked twice, a replaced database is noticed."""

from datetime import UTC, datetime, timedelta

import httpx
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flute_sync.archive_errors import (
    ArchiveCapabilityMissing,
    ArchiveServerError,
    ArchiveUnauthorized,
    ArchiveUnavailable,
)
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.orthanc_changes import OrthancChangesPoller
from flute_sync.sources.orthanc_settings import OrthancChangesSettings
from tests.intake import MemoryIntake

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class Orthanc:
    """Enough of Orthanc: resources by id, a feed that loses the rows of what is deleted."""

    def __init__(self) -> None:
        self.rows: list[dict] = []
        self.last = 0
        self.instances: dict[str, tuple[str, str]] = {}  # id -> (series, study)
        self.asked: list[str] = []
        self.status: int | None = None
        self.today = "20261122T120000"

    def store(self, study: str, series: str, instance: str) -> None:
        parents = set(self.instances.values())
        known = instance in self.instances
        self.rows = [row for row in self.rows if row["ID"] != instance or not known]
        self.instances[instance] = (series, study)
        self._say("NewInstance", "Instance", instance)
        if (series, study) not in parents:
            self._say("NewSeries", "Series", series)
        if study not in {parent for _, parent in parents}:
            self._say("NewStudy", "Study", study)
            self._say("NewPatient", "Patient", "patient")

    def stable(self, study: str) -> None:
        self._say("StableStudy", "Study", study)

    def delete(self, study: str) -> None:
        gone = {study} | {s for s, of in self.instances.values() if of == study}
        gone |= {one for one, (_, of) in self.instances.items() if of == study}
        self.rows = [row for row in self.rows if row["ID"] not in gone]
        self.instances = {one: at for one, at in self.instances.items() if at[1] != study}

    def _say(self, kind: str, resource: str, one: str) -> None:
        self.last += 1
        self.rows.append(
            {
                "Seq": self.last,
                "ChangeType": kind,
                "ResourceType": resource,
                "ID": one,
                "Date": self.today,
            }
        )

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url.path)
        if self.status is not None:
            return httpx.Response(self.status)
        found = self._answer(request)
        if found is None:
            return httpx.Response(404)
        return httpx.Response(200, content=orjson.dumps(found))

    def _answer(self, request: httpx.Request) -> dict | None:
        _, folder, *one = request.url.path.split("/")
        if folder == "changes":
            return self._changes(request.url.params)
        found: dict | None = getattr(self, f"_{folder}")(one[0])
        return found

    def _changes(self, params: httpx.QueryParams) -> dict:
        if "last" in params:
            return {"Changes": self.rows[-1:], "Done": True, "Last": self.last}
        after = [row for row in self.rows if row["Seq"] > int(params["since"])]
        page = after[: int(params["limit"])]
        last = page[-1]["Seq"] if page else self.last
        return {"Changes": page, "Done": len(page) == len(after), "Last": last}

    def _instances(self, one: str) -> dict | None:
        found = self.instances.get(one)
        return {"ParentSeries": found[0]} if found else None

    def _series(self, one: str) -> dict | None:
        own = [name for name, (series, _) in self.instances.items() if series == one]
        studies = [study for series, study in self.instances.values() if series == one]
        return {"ParentStudy": studies[0], "Instances": own} if own else None

    def _studies(self, one: str) -> dict | None:
        if all(study != one for _, study in self.instances.values()):
            return None
        return {"MainDicomTags": {"StudyInstanceUID": uid(one)}}


def uid(study: str) -> str:
    return "1.2." + study.removeprefix("st")


class Wire:
    """Leads to whichever server stands there now."""

    def __init__(self, server: Orthanc) -> None:
        self.server = server

    def __call__(self, request: httpx.Request) -> httpx.Response:
        return self.server(request)


def poller(server, intake, **options) -> OrthancChangesPoller:
    return OrthancChangesPoller(
        OrthancChangesSettings(**options), "pacs", intake, transport=httpx.MockTransport(server)
    )


@pytest.fixture
def orthanc() -> Orthanc:
    return Orthanc()


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def feed(orthanc, intake) -> OrthancChangesPoller:
    return poller(orthanc, intake)


def upload(orthanc, study, series=2, instances=3):
    for s in range(series):
        for i in range(instances):
            orthanc.store(study, f"{study}-se{s}", f"{study}-se{s}-in{i}")


def test_a_new_study_is_noticed_at_once_and_once(orthanc, intake, feed):
    upload(orthanc, "st1")
    feed.step(NOW)
    assert list(intake.take()) == [uid("st1")]
    feed.step(NOW)
    assert intake.deliveries == []


def test_stability_is_no_news(orthanc, intake, feed):
    upload(orthanc, "st1")
    feed.step(NOW)
    intake.take()
    orthanc.stable("st1")
    feed.step(NOW)
    assert intake.take() == {}
    assert intake.cursors["orthanc_changes", "pacs"].startswith(f"{orthanc.last} ")


def test_a_late_and_an_overwritten_instance_are_noticed_with_another_fingerprint(
    orthanc, intake, feed
):
    upload(orthanc, "st1")
    feed.step(NOW)
    first = intake.take()
    orthanc.store("st1", "st1-se0", "st1-se0-late")
    feed.step(NOW)
    second = intake.take()
    orthanc.store("st1", "st1-se0", "st1-se0-in0")
    feed.step(NOW)
    third = intake.take()
    assert list(first) == list(second) == list(third) == [uid("st1")]
    assert len({*first.values(), *second.values(), *third.values()}) == 3


def test_the_cost_is_by_series_and_not_by_instance(orthanc, intake, feed):
    upload(orthanc, "st1", series=2, instances=100)
    feed.step(NOW)
    assert len(orthanc.asked) == 1 + 2 + 1  # the feed, its series, its study
    orthanc.asked.clear()
    for i in range(100):
        orthanc.store("st1", "st1-se0", f"late{i}")
    feed.step(NOW)
    assert len(orthanc.asked) == 1 + 2  # the feed, one instance, its series with all the others
    assert list(intake.take()) == [uid("st1")]


def test_an_idle_feed_costs_one_request_and_no_commit(orthanc, intake, feed):
    upload(orthanc, "st1")
    feed.step(NOW)
    intake.take()
    orthanc.asked.clear()
    feed.step(NOW)
    assert orthanc.asked == ["/changes"]
    assert intake.deliveries == []


def test_what_is_gone_meanwhile_is_left_out(orthanc, intake, feed):
    upload(orthanc, "st1")
    upload(orthanc, "st2")
    rows = orthanc.rows
    orthanc.delete("st1")
    orthanc.rows = rows  # the feed was read before the deletion
    feed.step(NOW)
    assert list(intake.take()) == [uid("st2")]


def test_a_deletion_of_the_newest_is_not_taken_for_a_new_database(orthanc, intake, feed, caplog):
    upload(orthanc, "st1")
    upload(orthanc, "st2")
    feed.step(NOW)
    intake.take()
    orthanc.delete("st2")
    feed.step(NOW)
    assert (intake.take(), caplog.records) == ({}, [])
    upload(orthanc, "st3")
    feed.step(NOW)
    assert list(intake.take()) == [uid("st3")]


@pytest.mark.parametrize("refilled", [0, 1, 50])
def test_a_replaced_database_is_read_from_the_start(orthanc, intake, caplog, refilled):
    wire = Wire(orthanc)
    feed = poller(wire, intake)
    upload(orthanc, "st1")
    upload(orthanc, "st2")
    feed.step(NOW)
    intake.take()
    wire.server = Orthanc()
    for number in range(refilled):
        upload(wire.server, f"st9{number}", series=1, instances=1)
    feed.step(NOW)
    assert set(intake.take()) == {uid(f"st9{number}") for number in range(refilled)}
    assert [record.event for record in caplog.records] == ["source.reset"]
    feed.step(NOW)
    upload(wire.server, "st3")
    feed.step(NOW)
    assert set(intake.take()) == {uid("st3")}
    assert len(caplog.records) == 1


def test_the_same_number_in_a_replaced_database_is_other_news(orthanc, intake):
    wire = Wire(orthanc)
    feed = poller(wire, intake)
    upload(orthanc, "st1")
    upload(orthanc, "st2")
    feed.step(NOW)
    first = intake.take()
    wire.server = Orthanc()
    wire.server.today = "20261123T120000"
    upload(wire.server, "st1")
    feed.step(NOW)
    assert first[uid("st1")] != intake.take()[uid("st1")]


def test_a_feed_longer_than_a_step_is_read_on_without_waiting(orthanc, intake):
    for number in range(30):
        upload(orthanc, f"st{number}", series=1, instances=1)
    feed = poller(orthanc, intake, page_size=4)
    feed.step(NOW)
    assert feed.interval == timedelta()
    while feed.interval == timedelta():
        feed.step(NOW)
    assert feed.interval == timedelta(seconds=2)
    assert set(intake.take()) == {uid(f"st{number}") for number in range(30)}


def test_a_start_from_now_leaves_out_what_was_there_and_nothing_after(orthanc, intake):
    upload(orthanc, "st1")
    feed = poller(orthanc, intake, start="now")
    feed.step(NOW)
    assert intake.take() == {}
    upload(orthanc, "st2")
    again = poller(orthanc, intake, start="now")
    again.step(NOW)
    assert list(intake.take()) == [uid("st2")]


def test_what_could_not_be_committed_is_delivered_by_the_next_step(orthanc, intake, feed):
    upload(orthanc, "st1")
    intake.failure = LedgerUnavailable()
    with pytest.raises(LedgerUnavailable):
        feed.step(NOW)
    feed.step(NOW)
    assert list(intake.take()) == [uid("st1")]


def test_a_step_that_is_stopped_commits_nothing_half_done(orthanc, intake, feed):
    upload(orthanc, "st1")
    answers = iter([False, False, True])
    feed.step(NOW, lambda: next(answers, True))
    assert intake.deliveries == []
    feed.step(NOW)
    assert list(intake.take()) == [uid("st1")]


def test_one_study_uid_under_two_patients_is_one_notice(orthanc, intake, feed):
    orthanc.store("st1", "a", "a1")
    orthanc.store("st01", "b", "b1")
    orthanc._studies = lambda one: {"MainDicomTags": {"StudyInstanceUID": "1.2.1"}}
    feed.step(NOW)
    assert list(intake.take()) == ["1.2.1"]


@pytest.mark.parametrize("tags", [None, {}, {"StudyInstanceUID": "../x"}, {"StudyInstanceUID": 1}])
def test_a_study_without_a_usable_uid_is_remarked_once(orthanc, intake, feed, caplog, tags):
    orthanc._studies = lambda one: {"MainDicomTags": tags}
    upload(orthanc, "st1")
    feed.step(NOW)
    orthanc.store("st1", "st1-se0", "late")
    feed.step(NOW)
    assert intake.take() == {}
    assert [record.event for record in caplog.records] == ["study.remark"]


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Changes": [{}], "Done": True, "Last": 1},
        {"Changes": [], "Done": True, "Last": "x"},
        {"Changes": 7, "Done": True, "Last": 1},
        {
            "Changes": [
                {"Seq": seq, "ChangeType": "NewStudy", "ResourceType": "Study", "ID": "a"}
                for seq in (2, 1)
            ],
            "Done": True,
            "Last": 2,
        },
    ],
)
def test_another_shape_is_an_error(intake, answer):
    feed = poller(lambda _: httpx.Response(200, content=orjson.dumps(answer)), intake)
    with pytest.raises(ArchiveServerError):
        feed.step(NOW)
    assert intake.deliveries == []


def test_an_id_that_is_a_path_is_not_asked_for(orthanc, intake, feed):
    orthanc._say("NewSeries", "Series", "../tools/shutdown")
    with pytest.raises(ArchiveServerError):
        feed.step(NOW)
    assert orthanc.asked == ["/changes"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ArchiveUnauthorized),
        (404, ArchiveCapabilityMissing),
        (503, ArchiveUnavailable),
        (500, ArchiveServerError),
    ],
)
def test_failures_are_said_in_our_words(orthanc, feed, status, kind):
    orthanc.status = status
    with pytest.raises(kind):
        feed.step(NOW)


EVENTS = st.lists(
    st.tuples(st.sampled_from(["store", "delete", "step", "stable"]), st.integers(0, 3)),
    max_size=25,
)


@pytest.fixture(scope="module")
def shared() -> tuple[Wire, MemoryIntake, OrthancChangesPoller]:
    """One poller for all examples: opening a client reads all of the system's certificates."""
    wire, intake = Wire(Orthanc()), MemoryIntake()
    return wire, intake, poller(wire, intake, page_size=2)


def caught_up(feed):
    feed.step(NOW)
    while feed.interval == timedelta():
        feed.step(NOW)


@settings(deadline=None)
@given(events=EVENTS)
def test_every_study_that_changed_and_remains_is_noticed_after_its_last_change(shared, events):
    wire, intake, feed = shared
    orthanc = wire.server = Orthanc()
    intake.cursors.clear()
    intake.take()
    changed: set[str] = set()
    for count, (event, number) in enumerate(events):
        study = f"st{number}"
        if event == "store":
            orthanc.store(study, f"{study}-se{count % 2}", f"{study}-se{count % 2}-in{count}")
            changed.add(study)
        elif event == "delete":
            orthanc.delete(study)
            changed.discard(study)
        elif event == "stable":
            orthanc.stable(study)
        else:
            caught_up(feed)
            assert {uid(one) for one in changed} <= set(intake.take())
            changed.clear()
    caught_up(feed)
    assert {uid(one) for one in changed} <= set(intake.take())
