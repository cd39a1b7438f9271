"""What the ledger does with what an archive says it holds now, on SQLite and PostgreSQL."""

import time
from datetime import timedelta

import pytest

from flute_sync.archive_errors import ArchiveForeignInstance
from flute_sync.events import Event
from flute_sync.intake import Notice
from flute_sync.study import Study
from flute_sync.task import State
from tests.contract.ledger_site import (
    HEADER,
    OTHER,
    QUIET,
    STUDY,
    Site,
    header,
    received,
    synced,
)


def _numbers(study: Study) -> list[int]:
    return sorted(instance.number or 0 for _, instance in study.instances())


def test_it_replaces_what_the_archive_held(site: Site) -> None:
    site.deliver(received([1, 2]) + received([9], series=2))
    site.notice("x")
    claimed = site.claim()
    changed = header("changed")
    site.snapshot(claimed, received([2, 3], said=changed), series_count=1, instance_count=2)
    study = site.ledger.load(claimed)
    assert _numbers(study) == [2, 3]
    assert set(study.headers) == {changed}
    assert [series.series_instance_uid for series in study.series] == ["1.2.3.1"]
    assert (study.series_count, study.instance_count) == (1, 2)
    for table in ("series", "header"):
        assert site.rows(f"SELECT count(*) FROM {table}")[0][0] == 1
    assert (site.view().series, site.view().instances) == (1, 2)


def test_it_does_not_supersede_the_step(site: Site) -> None:
    site.notice("x")
    claimed = site.claim()
    site.snapshot(claimed, received([1, 2, 3]))
    assert site.ledger.settle(claimed, synced()) is State.COMPLETED
    site.deliver(received([1, 2, 3]))
    assert site.view().state == State.COMPLETED


def test_what_came_during_the_read_stays(site: Site) -> None:
    site.deliver(received([1, 2]))
    claimed = site.claim()
    site.deliver(received([3]))
    site.snapshot(claimed, received([1]))
    assert _numbers(site.ledger.load(claimed)) == [1, 3]
    assert site.ledger.settle(claimed, synced()) is State.RECEIVED


def test_what_came_again_during_the_read_stays(site: Site) -> None:
    """The archive deleted it, the read began, it was sent again: it is there."""
    site.deliver(received([1, 2]))
    claimed = site.claim()
    site.deliver(received([2]))
    site.snapshot(claimed, received([1]))
    assert _numbers(site.ledger.load(claimed)) == [1, 2]
    assert site.ledger.settle(claimed, synced()) is State.COMPLETED


def test_what_differs_from_what_came_during_the_read_is_read_again(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    site.deliver(received([2], said=header("sent")))
    site.snapshot(claimed, received([1, 2]))
    site.ledger.settle(claimed, synced())
    assert site.claim().reads_owed == ("pacs",)


def test_what_another_archive_holds_stays(site: Site) -> None:
    site.deliver(received([1, 2]))
    site.deliver(received([2, 3]), archive="copy")
    claimed = site.claim()
    site.snapshot(claimed, ())
    study = site.ledger.load(claimed)
    assert _numbers(study) == [2, 3]
    assert study.archives == {"copy"}


def test_a_read_that_is_owed_is_settled_by_it(site: Site) -> None:
    site.notice("x")
    site.notice("x", archive="copy")
    claimed = site.claim()
    assert claimed.reads_owed == ("pacs", "copy")
    site.snapshot(claimed, received([1]))
    site.ledger.release("worker")
    assert site.claim().reads_owed == ("copy",)


def test_a_notice_during_the_read_owes_another(site: Site) -> None:
    site.notice("x")
    claimed = site.claim()
    site.notice("y")
    site.snapshot(claimed, received([1]))
    assert site.ledger.settle(claimed, synced()) is State.RECEIVED
    assert site.claim().reads_owed == ("pacs",)


def test_absence_is_counted_until_something_is_there(site: Site) -> None:
    site.deliver(received([1]))
    first = site.clock.now + QUIET
    for times in (1, 2):
        claimed = site.claim()
        site.snapshot(claimed, absent=True)
        study = site.ledger.load(claimed)
        assert (_numbers(study), study.vanished) == ([1], False)
        site.ledger.release("worker")
        (absence,) = site.claim().absences
        assert (absence.archive, absence.since, absence.confirmations) == ("pacs", first, times)
        site.ledger.release("worker")
        site.clock.pass_(timedelta(minutes=1))
    site.deliver(received([1]))
    claimed = site.claim()
    assert claimed.reads_owed == ("pacs",)
    site.snapshot(claimed, received([1]))
    site.ledger.release("worker")
    assert site.claim().absences == ()


def test_an_absence_that_is_believed_takes_what_the_archive_held(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    site.snapshot(claimed, absent=True)
    site.snapshot(claimed, absent=True, believed=True)
    study = site.ledger.load(claimed)
    assert (study.series, study.vanished) == ((), True)
    site.ledger.release("worker")
    (absence,) = site.claim().absences
    assert absence.confirmations == 1


def test_what_is_named_again_after_an_absence_is_news(site: Site) -> None:
    site.notice("2 series")
    claimed = site.claim()
    site.snapshot(claimed, received([1]))
    site.ledger.settle(claimed, synced())
    site.notice("gone", notice=Notice.GONE)
    claimed = site.claim()
    site.snapshot(claimed, absent=True)
    site.snapshot(claimed, absent=True, believed=True)
    site.ledger.settle(claimed, synced())
    site.notice("2 series")
    assert site.claim().reads_owed == ("pacs",)


def test_absent_from_one_of_two_archives_has_not_vanished(site: Site) -> None:
    site.deliver(received([1]))
    site.deliver(received([1]), archive="copy")
    claimed = site.claim()
    site.snapshot(claimed, absent=True)
    assert site.ledger.load(claimed).archives == {"copy", "pacs"}
    site.snapshot(claimed, absent=True, believed=True)
    study = site.ledger.load(claimed)
    assert not study.vanished
    assert study.archives == {"copy"}


def test_absent_while_something_arrives_is_asked_again(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    site.deliver(received([2]))
    site.snapshot(claimed, absent=True)
    assert _numbers(site.ledger.load(claimed)) == [1, 2]
    site.ledger.settle(claimed, synced())
    again = site.claim()
    assert (again.reads_owed, again.absences) == (("pacs",), ())


def test_a_uid_listed_twice_keeps_the_first_series_and_says_so(site: Site) -> None:
    site.notice("x")
    (first,), (second,) = received([1]), received([1], series=2)
    claimed = site.claim()
    site.snapshot(claimed, (second._replace(instance=first.instance), first))
    (series,) = site.ledger.load(claimed).series
    assert series.series_instance_uid == "1.2.3.1"
    assert Event.STUDY_REMARK in [entry.event for entry in site.view().events]


def test_another_study_is_refused(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    with pytest.raises(ArchiveForeignInstance):
        site.snapshot(claimed, received([1], study=OTHER))
    assert _numbers(site.ledger.load(claimed)) == [1]


def test_forwarded_instances_are_unverified_until_compared(site: Site) -> None:
    intent = site.ledger.intend("stow_rs", "pacs", [STUDY])
    site.deliver(received([1]), under=intent)
    site.deliver(received([1]), archive="copy")
    claimed = site.claim()
    assert claimed.unverified == ("pacs",)
    site.ledger.verified(claimed, "pacs", 1, 1, "1/1")
    site.ledger.settle(claimed, synced())
    before = site.unchanged()
    site.notice("1/1")
    assert site.unchanged() == before
    site.deliver(received([1]), under=site.ledger.intend("stow_rs", "pacs", [STUDY]))
    assert site.view().state == State.COMPLETED
    site.deliver(received([2]), under=site.ledger.intend("stow_rs", "pacs", [STUDY]))
    claimed = site.claim()
    assert claimed.unverified == ("pacs",)
    assert site.ledger.load(claimed).instance_count == 1


def test_comparing_does_not_cover_what_came_later(site: Site) -> None:
    site.deliver(received([1]), under=site.ledger.intend("stow_rs", "pacs", [STUDY]))
    claimed = site.claim()
    site.deliver(received([2]), under=site.ledger.intend("stow_rs", "pacs", [STUDY]))
    site.ledger.verified(claimed, "pacs", 1, 1)
    site.ledger.settle(claimed, synced())
    assert site.claim().unverified == ("pacs",)


def test_five_thousand_instances_in_well_under_a_second(site: Site) -> None:
    items = tuple(item for series in range(10) for item in received(range(500), series=series))
    site.notice("x")
    claimed = site.claim()
    spent = []
    for _ in range(2):
        begun = time.thread_time()
        site.snapshot(claimed, items)
        spent.append(time.thread_time() - begun)
    begun = time.thread_time()
    study = site.ledger.load(claimed)
    spent.append(time.thread_time() - begun)
    assert len(list(study.instances())) == 5000
    assert set(study.headers) == {HEADER}
    assert max(spent) < 1.0, spent
