"""What archives are believed to hold, and when a study is due at once."""

import time
from datetime import timedelta

from flute_sync.study import StudyInstanceUID
from tests.contract.ledger_site import (
    LONGEST,
    OTHER,
    QUIET,
    SECOND,
    STUDY,
    Site,
    left_out,
    received,
    synced,
)


def test_what_was_received_is_held_by_its_archive(site: Site) -> None:
    site.deliver(received([1]))
    site.deliver(received([1], study=OTHER), archive="copy")
    assert site.ledger.held("pacs", None, 10) == (STUDY,)
    assert site.ledger.held("copy", None, 10) == (OTHER,)
    assert site.ledger.held("unheard of", None, 10) == ()


def test_a_notice_alone_says_of_nothing_that_it_is_held(site: Site) -> None:
    site.notice("x")
    assert site.ledger.held("pacs", None, 10) == ()
    site.snapshot(site.claim(), received([1]))
    assert site.ledger.held("pacs", None, 10) == (STUDY,)


def test_what_is_known_to_be_absent_is_not_held(site: Site) -> None:
    site.deliver(received([1]))
    site.deliver(received([1]), archive="copy")
    site.snapshot(site.claim(), absent=True)
    assert site.ledger.held("pacs", None, 10) == ()
    assert site.ledger.held("copy", None, 10) == (STUDY,)


def test_what_is_out_of_scope_is_held_all_the_same(site: Site) -> None:
    site.notice("x")
    claimed = site.claim()
    site.snapshot(claimed, received([1, 2]), instance_count=2)
    site.ledger.settle(claimed, left_out())
    assert site.view().is_pruned
    assert site.ledger.held("pacs", None, 10) == (STUDY,)


def test_pages_are_in_the_order_of_their_uids(site: Site) -> None:
    uids = [StudyInstanceUID(uid) for uid in ("1.2.10", "1.2.2", "1.22", "1.2.3.4", "1.2.30", "2")]
    for uid in uids:
        site.deliver(received([1], study=uid))
    pages, after = [], None
    while page := site.ledger.held("pacs", after, 4):
        pages.append(page)
        after = page[-1]
    if site.url.startswith("postgresql"):  # whatever the database's own order is
        collation = (
            "SELECT collation_name FROM information_schema.columns WHERE table_name = 'study'"
        )
        assert ("C",) in [tuple(row) for row in site.rows(collation)]
    assert [len(page) for page in pages] == [4, 2]
    assert [uid for page in pages for uid in page] == sorted(uids)


def test_a_page_of_many_is_found_by_an_index(site: Site) -> None:
    """No page may cost what a walk over everything costs."""
    studies = [StudyInstanceUID(f"1.2.{number}") for number in range(3_000)]
    for start in range(0, len(studies), 500):
        items = tuple(received([1], study=uid)[0] for uid in studies[start : start + 500])
        site.deliver(items, archive="pacs")
    begun = time.thread_time()
    assert len(site.ledger.held("pacs", None, len(studies))) == len(studies)
    whole = time.thread_time() - begun
    begun = time.thread_time()
    for _ in range(10):
        assert len(site.ledger.held("pacs", StudyInstanceUID("1.2.5"), 10)) == 10
    assert time.thread_time() - begun < 10 * whole


def test_what_is_due_at_once_waits_for_nothing_more(site: Site) -> None:
    site.deliver(received([1]), at_once=True)
    assert site.ledger.next_due() == site.clock.now
    claimed = site.claim()
    assert site.ledger.settle(claimed, synced()) == "completed"


def test_news_after_what_was_due_at_once_waits_as_ever(site: Site) -> None:
    begun = site.clock.now
    site.deliver(received([1]), at_once=True)
    site.clock.pass_(SECOND)
    site.deliver(received([2]))
    assert site.ledger.next_due() == begun + SECOND + QUIET
    for number in range(3, 6):
        site.clock.pass_(LONGEST / 4)
        site.deliver(received([number]))
    site.clock.pass_(timedelta(minutes=4))
    site.deliver(received([9]))
    assert site.ledger.next_due() == begun + LONGEST


def test_what_was_not_quiet_is_due_when_no_more_is_on_its_way(site: Site) -> None:
    site.deliver(received([1]))
    site.clock.pass_(SECOND)
    site.deliver(received([2]), at_once=True)
    assert site.ledger.next_due() == site.clock.now
