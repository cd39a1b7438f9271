"""Under which pseudonyms a ledger is written, and from which sources: on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from flute_sync.ledger_errors import LedgerPseudonymsChanged
from tests.contract.ledger_site import Site, received

KEYED = {"key": "k1", "system": "urn:p", "shift of dates": "none"}


def test_before_there_are_studies_everything_may_change(site: Site) -> None:
    regime = site.ledger.regime
    assert regime.bind({}, "identified") == "identified"
    assert regime.bind(KEYED, "pseudonymised") == "pseudonymised"
    assert regime.bind(KEYED, None) is None


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ({}, "without"),
        ({**KEYED, "key": "k2"}, "another key"),
        ({**KEYED, "system": "urn:q"}, "another system"),
        ({**KEYED, "shift of dates": "364"}, "another shift of dates"),
    ],
)
def test_afterwards_nothing_may(site: Site, now: dict[str, str], said: str) -> None:
    site.ledger.regime.bind(KEYED, None)
    site.deliver(received([1]))
    again = site.open().regime
    with pytest.raises(LedgerPseudonymsChanged) as raised:
        again.bind(now, None)
    assert said in raised.value.sentence
    assert again.bind(KEYED, None) is None


def test_pseudonyms_do_not_begin_where_there_were_none(site: Site) -> None:
    site.ledger.regime.bind({}, None)
    site.deliver(received([1]))
    with pytest.raises(LedgerPseudonymsChanged):
        site.open().regime.bind(KEYED, None)


def test_the_first_study_decides_and_settings_may_say_it_too(site: Site) -> None:
    regime = site.ledger.regime
    regime.bind({}, None)
    site.deliver(received([1]))
    assert regime.decide({}, "pseudonymised") == "pseudonymised"
    assert regime.decide({}, "identified") == "pseudonymised"
    again = site.open().regime
    assert again.bind({}, None) == "pseudonymised"
    assert again.bind({}, "pseudonymised") == "pseudonymised"
    with pytest.raises(LedgerPseudonymsChanged) as raised:
        again.bind({}, "identified")
    assert "pseudonymised, not identified" in raised.value.sentence


def test_who_only_looks_changes_nothing(site: Site) -> None:
    regime = site.ledger.regime
    assert regime.look(KEYED, "identified") == "identified"
    assert site.rows("SELECT * FROM regime") == []
    regime.bind(KEYED, None)
    kept = site.rows("SELECT * FROM regime")
    assert regime.look({}, "identified") == "identified"  # all may change yet
    site.deliver(received([1]))
    assert regime.look(KEYED, "identified") == "identified"
    with pytest.raises(LedgerPseudonymsChanged):
        regime.look({}, None)
    assert site.rows("SELECT * FROM regime") == kept


def test_of_two_that_decide_at_once_one_does(site: Site) -> None:
    one, other = site.ledger.regime, site.open().regime
    for regime in (one, other):
        regime.bind({}, None)
    site.deliver(received([1]))
    with ThreadPoolExecutor(2) as pool:
        tries = [
            pool.submit(one.decide, {}, "identified"),
            pool.submit(other.decide, {}, "pseudonymised"),
        ]
    assert len({each.result() for each in tries}) == 1


def test_who_bound_an_empty_ledger_otherwise_writes_nothing(site: Site) -> None:
    first, second = site.ledger.regime, site.open().regime
    first.bind(KEYED, None)
    second.bind({**KEYED, "key": "k2"}, None)
    site.deliver(received([1]))
    with pytest.raises(LedgerPseudonymsChanged):
        first.decide(KEYED, "identified")
    assert second.decide({**KEYED, "key": "k2"}, "identified") == "identified"
