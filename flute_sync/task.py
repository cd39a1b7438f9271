"""State of the work on one study, in the words of FHIR R4 Task.status (valueset-task-status).

One table, ``(state, event) -> state``. What is not in the table is impossible, and the ledger
refuses it.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class State(StrEnum):
    """Where the work on a study stands."""

    RECEIVED = "received"  # facts arrived; waiting until the study is quiet
    READY = "ready"  # may be claimed
    IN_PROGRESS = "in-progress"  # a worker holds the lease
    ON_HOLD = "on-hold"  # cannot go as it is; a code and a hint say why
    FAILED = "failed"  # the last attempt failed for a temporary reason; it is tried again
    COMPLETED = "completed"  # FHIR says what the ledger knows
    CANCELLED = "cancelled"  # out of this site's scope


class TaskEvent(StrEnum):
    """What can happen to the work on a study."""

    NEWS = "news"  # new facts or a notice
    CLAIM = "claim"  # a worker took the lease
    HAND_BACK = "hand-back"  # the worker stopped, lost its lease, or the target is down
    SUPERSEDE = "supersede"  # the step ended, but news came meanwhile
    SYNC = "sync"  # FHIR now says what the ledger knows
    FAIL = "fail"
    HOLD = "hold"
    LEAVE_OUT = "leave-out"  # the selection does not want it
    REPLAY = "replay"  # a person asked for another attempt
    WAKE = "wake"  # what it waited for arrived
    REJUDGE = "rejudge"  # the rules changed


_S, _E = State, TaskEvent

TRANSITIONS: Final[Mapping[tuple[State, TaskEvent], State]] = MappingProxyType(
    {
        (_S.RECEIVED, _E.NEWS): _S.RECEIVED,
        (_S.RECEIVED, _E.CLAIM): _S.IN_PROGRESS,
        (_S.RECEIVED, _E.REPLAY): _S.READY,
        (_S.READY, _E.NEWS): _S.RECEIVED,
        (_S.READY, _E.CLAIM): _S.IN_PROGRESS,
        (_S.READY, _E.REPLAY): _S.READY,
        (_S.IN_PROGRESS, _E.NEWS): _S.IN_PROGRESS,
        (_S.IN_PROGRESS, _E.REPLAY): _S.IN_PROGRESS,
        (_S.IN_PROGRESS, _E.CLAIM): _S.IN_PROGRESS,  # takes over an expired lease
        (_S.IN_PROGRESS, _E.HAND_BACK): _S.READY,
        (_S.IN_PROGRESS, _E.SUPERSEDE): _S.RECEIVED,
        (_S.IN_PROGRESS, _E.SYNC): _S.COMPLETED,
        (_S.IN_PROGRESS, _E.FAIL): _S.FAILED,
        (_S.IN_PROGRESS, _E.HOLD): _S.ON_HOLD,
        (_S.IN_PROGRESS, _E.LEAVE_OUT): _S.CANCELLED,
        (_S.ON_HOLD, _E.NEWS): _S.RECEIVED,
        (_S.ON_HOLD, _E.REPLAY): _S.READY,
        (_S.ON_HOLD, _E.WAKE): _S.READY,
        (_S.ON_HOLD, _E.REJUDGE): _S.READY,
        (_S.FAILED, _E.NEWS): _S.RECEIVED,
        (_S.FAILED, _E.CLAIM): _S.IN_PROGRESS,
        (_S.FAILED, _E.REPLAY): _S.READY,
        (_S.FAILED, _E.REJUDGE): _S.FAILED,
        (_S.COMPLETED, _E.NEWS): _S.RECEIVED,
        (_S.COMPLETED, _E.REPLAY): _S.READY,
        (_S.COMPLETED, _E.WAKE): _S.READY,
        (_S.COMPLETED, _E.REJUDGE): _S.READY,
        (_S.CANCELLED, _E.NEWS): _S.RECEIVED,
        (_S.CANCELLED, _E.REPLAY): _S.READY,
        (_S.CANCELLED, _E.WAKE): _S.READY,
        (_S.CANCELLED, _E.REJUDGE): _S.READY,
    }
)

CLAIMABLE: Final = frozenset(state for state, event in TRANSITIONS if event is TaskEvent.CLAIM)
UNSYNCED: Final = frozenset({_S.RECEIVED, _S.READY, _S.IN_PROGRESS, _S.ON_HOLD, _S.FAILED})
"""States in which FHIR still owes something; what is out of scope owes nothing."""


def after(state: State, event: TaskEvent) -> State:
    """Return the state that follows.

    Raises
    ------
    ValueError
        When the event cannot happen in this state.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ValueError(f"{event} cannot happen to a study that is {state}") from None


def before(event: TaskEvent) -> Mapping[State, State]:
    """Return, for each state in which the event can happen, the state that follows."""
    return {state: to for (state, happened), to in TRANSITIONS.items() if happened is event}
