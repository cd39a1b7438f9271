"""Group commit: who waits, who leads, and what one bad job does to the others."""

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from flute_sync.dicom_errors import HeaderError
from flute_sync.ledger.commit import GroupCommit
from flute_sync.ledger_errors import LedgerBusy, LedgerUnavailable

NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Store:
    """A database that can be slow, full, or refuse one job."""

    def __init__(self) -> None:
        self.groups: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.failure: Exception | None = None

    def __call__(self, jobs: Sequence[str]) -> Sequence[str | LedgerUnavailable]:
        self.entered.set()
        assert self.open.wait(60)
        if self.failure is not None:
            raise self.failure
        if "poison" in jobs:
            raise HeaderError("poison")
        self.groups.append(list(jobs))
        return [LedgerUnavailable("its own") if job == "late" else job.upper() for job in jobs]


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def group(store: Store) -> GroupCommit[str, str]:
    return GroupCommit(store, lambda: NOW)


def _together(
    store: Store, group: GroupCommit[str, str], jobs: Sequence[str], weight: int = 1
) -> dict[str, object]:
    """Submit one job, and the others while it is being committed; return what each got."""
    got: dict[str, object] = {}

    def submit(job: str) -> None:
        try:
            got[job] = group.submit(job, weight)
        except Exception as error:  # noqa: BLE001  it is looked at by the test
            got[job] = error

    store.open.clear()
    store.entered.clear()
    first = threading.Thread(target=submit, args=("first",))
    first.start()
    assert store.entered.wait(60)
    threads = [threading.Thread(target=submit, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    while len(group._waiting) < len(jobs):
        threading.Event().wait(0.001)
    store.open.set()
    for thread in (first, *threads):
        thread.join(60)
        assert not thread.is_alive()
    return got


def test_alone(store: Store, group: GroupCommit[str, str]) -> None:
    assert group.submit("a", 1) == "A"
    assert store.groups == [["a"]]


def test_who_asks_during_a_commit_is_committed_together(
    store: Store, group: GroupCommit[str, str]
) -> None:
    got = _together(store, group, ["a", "b", "c"])
    assert got == {"first": "FIRST", "a": "A", "b": "B", "c": "C"}
    assert [sorted(jobs) for jobs in store.groups] == [["first"], ["a", "b", "c"]]


def test_a_group_is_not_heavier_than_it_may_be(store: Store, group: GroupCommit[str, str]) -> None:
    _together(store, group, list("abcd"), weight=2000)
    assert max(len(jobs) for jobs in store.groups) == 2


def test_a_bad_job_fails_alone(store: Store, group: GroupCommit[str, str]) -> None:
    got = _together(store, group, ["a", "poison", "b"])
    assert isinstance(got.pop("poison"), HeaderError)
    assert got == {"first": "FIRST", "a": "A", "b": "B"}


def test_a_result_that_is_an_error_is_raised(store: Store, group: GroupCommit[str, str]) -> None:
    got = _together(store, group, ["a", "late"])
    assert isinstance(got.pop("late"), LedgerUnavailable)
    assert got == {"first": "FIRST", "a": "A"}


def test_a_commit_that_fails_for_a_while_fails_its_group_and_no_other(
    store: Store, group: GroupCommit[str, str]
) -> None:
    store.failure = LedgerBusy("locked")
    got = _together(store, group, ["a", "b"])
    assert {type(error) for error in got.values()} == {LedgerBusy}
    assert len(set(map(id, got.values()))) == 3
    store.failure = None
    assert group.submit("c", 1) == "C"


def test_a_leader_that_is_interrupted_leaves_nobody_waiting(
    store: Store, group: GroupCommit[str, str]
) -> None:
    def interrupted(_: Sequence[str]) -> Sequence[str]:
        raise KeyboardInterrupt

    group.commit = interrupted
    with pytest.raises(KeyboardInterrupt):
        group.submit("a", 1)
    group.commit = store
    assert group.submit("b", 1) == "B"


def test_a_commit_that_hangs_can_be_seen(store: Store) -> None:
    times = [NOW]
    group = GroupCommit(store, lambda: times[0])
    assert group.led_for() == timedelta()
    store.open.clear()
    sender = threading.Thread(target=group.submit, args=("a", 1))
    sender.start()
    assert store.entered.wait(60)
    times[0] = NOW + timedelta(minutes=3)
    assert group.led_for() == timedelta(minutes=3)
    store.open.set()
    sender.join(60)
    assert group.led_for() == timedelta()


def test_closed_takes_no_more(group: GroupCommit[str, str]) -> None:
    group.close()
    with pytest.raises(LedgerUnavailable):
        group.submit("a", 1)
