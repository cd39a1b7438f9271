"""The transition table against a second list, written independently: every pair is covered."""

import itertools

import pytest

from flute_sync.task import CLAIMABLE, UNSYNCED, State, TaskEvent, after, before

# One row per state: which events are possible there, and where they lead.
EXPECTED = {
    "received": "news:received claim:in-progress replay:ready",
    "ready": "news:received claim:in-progress replay:ready",
    "in-progress": "news:in-progress replay:in-progress claim:in-progress hand-back:ready "
    "supersede:received sync:completed fail:failed hold:on-hold leave-out:cancelled",
    "on-hold": "news:received replay:ready wake:ready rejudge:ready",
    "failed": "news:received claim:in-progress replay:ready rejudge:failed",
    "completed": "news:received replay:ready wake:ready rejudge:ready",
    "cancelled": "news:received replay:ready wake:ready rejudge:ready",
}
PAIRS = {
    (State(state), TaskEvent(pair.split(":")[0])): State(pair.split(":")[1])
    for state, row in EXPECTED.items()
    for pair in row.split()
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, TaskEvent)))
def test_every_pair_of_state_and_event(state: State, event: TaskEvent) -> None:
    if (state, event) in PAIRS:
        assert after(state, event) is PAIRS[state, event]
    else:
        with pytest.raises(ValueError, match="cannot happen"):
            after(state, event)


def test_news_is_possible_in_every_state() -> None:
    assert set(before(TaskEvent.NEWS)) == set(State)


def test_a_person_can_replay_in_every_state() -> None:
    assert set(before(TaskEvent.REPLAY)) == set(State)


def test_what_is_owed() -> None:
    assert set(State) - {State.COMPLETED, State.CANCELLED} == UNSYNCED
    assert {State.RECEIVED, State.READY, State.FAILED, State.IN_PROGRESS} == CLAIMABLE
