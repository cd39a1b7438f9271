"""What a command does where the ledger is too busy for it."""

import threading
from datetime import timedelta

import pytest

from flute_sync.daemon.backlog import patiently
from flute_sync.daemon.supervisor import Pulse
from flute_sync.errors import FluteSyncError
from flute_sync.ledger_errors import LedgerBusy, LedgerCorrupt, LedgerUnavailable


class Impatient(Pulse):
    """Waits for nothing, and is told to stop when it has waited often enough."""

    def __init__(self, patience: int) -> None:
        super().__init__(threading.Event())
        self.waits = 0
        self._patience = patience

    def wait(self, duration: timedelta) -> bool:
        assert duration > timedelta()
        self.waits += 1
        return self.waits >= self._patience


class Busy:
    """Fails as often as it is told to, then works."""

    def __init__(self, *errors: type[FluteSyncError]) -> None:
        self._errors = list(errors)

    def __call__(self) -> str:
        if self._errors:
            raise self._errors.pop(0)
        return "done"


def test_it_is_tried_until_it_is_done() -> None:
    pulse = Impatient(9)
    assert patiently(pulse, Busy(LedgerBusy, LedgerUnavailable, LedgerBusy)) == "done"
    assert pulse.waits == 3


def test_it_is_left_when_told_to_stop() -> None:
    assert patiently(Impatient(2), Busy(*[LedgerBusy] * 5)) is None


def test_another_failure_is_told_at_once() -> None:
    pulse = Impatient(9)
    with pytest.raises(LedgerCorrupt):
        patiently(pulse, Busy(LedgerCorrupt))
    assert pulse.waits == 0
