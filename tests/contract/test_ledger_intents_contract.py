"""What the ledger promises about uploads that may not end, on SQLite and PostgreSQL."""

from datetime import timedelta

import pytest

from flute_sync.events import Event
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.task import State
from tests.contract.ledger_site import OTHER, SECOND, STUDY, Site, received

LEASE = timedelta(seconds=20)


def _intents(site: Site) -> int:
    count: int = site.rows("SELECT count(*) FROM intent")[0][0]
    return count


def test_the_closing_delivery_ends_the_intent(site: Site) -> None:
    intent = site.ledger.intend("stow_rs", "pacs", [STUDY, OTHER])
    assert _intents(site) == 1
    site.deliver(received([1]), closes=intent)
    assert _intents(site) == 0
    site.clock.pass_(LEASE * 2)
    assert site.ledger.recover_intents() == 0
    assert site.ledger.status(site.clock.now).counts[State.RECEIVED] == 1


def test_an_intent_says_nothing_of_a_study_by_itself(site: Site) -> None:
    site.ledger.intend("stow_rs", "pacs", [STUDY])
    assert site.ledger.next_due() is None


def test_an_abandoned_intent_becomes_notices(site: Site) -> None:
    intent = site.ledger.intend("stow_rs", "pacs", [STUDY])
    site.ledger.extend(intent, [OTHER, STUDY])
    site.ledger.abandon(intent)
    assert _intents(site) == 0
    claimed = [site.claim("a"), site.claim("b")]
    assert {c.study_instance_uid: c.reads_owed for c in claimed} == {
        STUDY: ("pacs",),
        OTHER: ("pacs",),
    }
    assert Event.INTENT_RECOVERED in [entry.event for entry in site.view().events]


def test_an_abandoned_intent_wakes_a_study_that_was_done(site: Site) -> None:
    site.deliver(received([1]))
    site.sync()
    site.ledger.abandon(site.ledger.intend("stow_rs", "pacs", [STUDY]))
    assert site.view().state == State.RECEIVED


def test_the_intent_of_a_dead_process_is_recovered_when_its_lease_ends(site: Site) -> None:
    site.open().intend("stow_rs", "pacs", [STUDY])
    other = site.open()
    site.clock.pass_(LEASE - SECOND)
    assert other.recover_intents() == 0
    site.clock.pass_(SECOND)
    assert other.recover_intents() == 1
    assert other.recover_intents() == 0
    assert site.claim().reads_owed == ("pacs",)


def test_the_intent_of_a_living_process_stays(site: Site) -> None:
    intent = site.ledger.intend("stow_rs", "pacs", [STUDY])
    other = site.open()
    for _ in range(5):
        site.clock.pass_(LEASE - SECOND)
        assert site.ledger.recover_intents() == 0
        assert other.recover_intents() == 0
    site.deliver(received([1]), closes=intent)
    assert site.claim().reads_owed == ()


def test_a_process_that_was_not_heard_of_cannot_extend(site: Site) -> None:
    intent = site.ledger.intend("stow_rs", "pacs", [STUDY])
    site.clock.pass_(LEASE)
    site.open().recover_intents()
    with pytest.raises(LedgerUnavailable):
        site.ledger.extend(intent, [OTHER])


def test_closing_late_does_not_end_somebody_elses_intent(site: Site) -> None:
    intent = site.ledger.intend("stow_rs", "pacs", [STUDY])
    site.clock.pass_(LEASE)
    other = site.open()
    other.recover_intents()
    other.intend("stow_rs", "pacs", [OTHER])
    site.deliver(received([1]), closes=intent)
    assert _intents(site) == 1
