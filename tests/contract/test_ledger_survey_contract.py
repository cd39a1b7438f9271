"""What the ledger says of many studies at once, on SQLite and PostgreSQL."""

from datetime import timedelta

from flute_sync.events import Event
from flute_sync.ledger import Scratch, Settlement, Standing
from flute_sync.reconciliation import Held, Known
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State, TaskEvent
from tests.contract.ledger_site import OTHER, QUIET, STUDY, Site, failed, held, received, synced


def test_how_studies_stand(site: Site) -> None:
    site.notice("a")
    site.notice("a", study=OTHER)
    known = site.ledger.standings([STUDY, OTHER, StudyInstanceUID("9.9")])
    due = site.clock() + QUIET
    fresh = Standing(State.RECEIVED, None, 1, 0, due, None)
    assert known == {STUDY: fresh, OTHER: fresh}
    assert not fresh.is_settled
    first = site.claim()
    assert site.ledger.standings([STUDY, OTHER], at_rest=True) == {}
    site.ledger.settle(first, synced())
    assert set(site.ledger.standings([STUDY, OTHER], at_rest=True)) == {STUDY}
    site.ledger.settle(site.claim(), held())
    known = site.ledger.standings([STUDY, OTHER])
    assert known[STUDY] == Standing(State.COMPLETED, None, 1, 0, None, was_written=True)
    assert known[OTHER] == Standing(State.ON_HOLD, "PATIENT-ABSENT", 1, 0, None, None)
    assert known[STUDY].is_settled
    assert known[OTHER].is_settled
    site.notice("b")
    unchanged = Settlement(TaskEvent.SYNC, "As it was.", Event.STUDY_UNCHANGED)
    site.ledger.settle(site.claim(), unchanged)
    assert site.ledger.standings([STUDY])[STUDY].was_written is False
    site.notice("c")
    site.ledger.settle(site.claim(), failed(site.clock() + timedelta(seconds=1)))
    assert site.ledger.standings([STUDY], at_rest=True)[STUDY].attempts == 1
    assert site.ledger.standings([]) == {}


def test_the_census_counts_everybody_once(site: Site) -> None:
    uids = [StudyInstanceUID(f"1.2.{number}") for number in range(7)]
    for uid in uids:
        site.notice("a", study=uid)
    claimed = site.claim()
    site.snapshot(
        claimed, received([1, 2], study=uids[0]), series_count=1, instance_count=2, fingerprint="x"
    )
    site.ledger.settle(claimed, synced())
    counted, after = [], 0
    while True:
        some, after = site.ledger.census(after, 3)
        if not some:
            break
        counted += some
    assert sorted(one.study_instance_uid for one in counted) == uids
    (first,) = site.ledger.known([uids[0]])
    assert first == next(one for one in counted if one.study_instance_uid == uids[0])
    assert first == Known(
        uids[0],
        State.COMPLETED,
        None,
        1,
        2,
        "7",
        "1",
        "Patient/1",
        {"pacs": Held(1, 2, "x", is_absent=False)},
    )


def test_the_scratch_sorts_what_it_is_given() -> None:
    with Scratch() as scratch:
        scratch.put("b", ((f"1.{number % 500}", [number]) for number in range(1000)))
        scratch.put("a", [("1.7", {"x": None})])
        found = dict(scratch.by_key())
    assert list(found) == sorted(f"1.{number}" for number in range(500))
    assert found["1.7"] == [("a", {"x": None}), ("b", [7]), ("b", [507])]
