"""What the ledger promises to those who deliver, on SQLite and PostgreSQL."""

from datetime import timedelta

import pytest

from flute_sync.dicom_errors import HeaderUidInvalid
from flute_sync.events import Event
from flute_sync.intake import Cursor, Notice, Received, Refused
from flute_sync.ledger import Settlement
from flute_sync.study import Instance, SOPInstanceUID
from flute_sync.task import State
from tests.contract.ledger_site import (
    HEADER,
    LONGEST,
    OTHER,
    QUIET,
    SECOND,
    STUDY,
    Site,
    header,
    held,
    received,
    synced,
)


def test_what_was_delivered_is_loaded(site: Site) -> None:
    site.deliver(received([1, 2]) + received([1], series=2), calling_ae_title="MR1")
    study = site.ledger.load(site.claim())
    assert site.ledger.study(STUDY) == study
    assert study.study_instance_uid == STUDY
    assert [series.series_instance_uid for series in study.series] == ["1.2.3.1", "1.2.3.2"]
    assert sorted((i.sop_instance_uid, i.number) for _, i in study.instances()) == [
        ("1.2.3.1.1", 1),
        ("1.2.3.1.2", 2),
        ("1.2.3.2.1", 1),
    ]
    assert set(study.headers) == {HEADER}
    assert study.archives == study.series[0].archives == {"pacs"}
    assert study.calling_ae_titles == {"MR1"}
    assert not study.vanished
    view = site.view()
    assert (view.series, view.instances) == (2, 3)


@pytest.mark.parametrize("settlement", [None, synced(), held()])
@pytest.mark.parametrize("is_claimed", [False, True])
def test_repetition_changes_nothing(
    site: Site, settlement: Settlement | None, is_claimed: bool
) -> None:
    said = received([1, 2, 3]) + received([1], series=2, said=header("other"))
    site.deliver(said, calling_ae_title="MR1")
    if is_claimed or settlement:
        claimed = site.claim()
        if settlement:
            site.ledger.settle(claimed, settlement)
    before = site.unchanged()
    site.clock.pass_(SECOND)
    site.deliver(said, calling_ae_title="MR1")
    site.deliver(said[:1])
    assert site.unchanged() == before


def test_each_new_fact_raises_the_generation(site: Site) -> None:
    generations = []
    for number in (1, 2, 2, 3):
        site.deliver(received([number]))
        generations += [row.generation for row in site.rows("SELECT generation FROM study")]
    assert generations == [1, 2, 2, 3]


def test_due_after_the_quiet_period_and_not_after_the_longest_wait(site: Site) -> None:
    begun = site.clock.now
    site.deliver(received([1]))
    assert site.ledger.next_due() == begun + QUIET
    site.clock.pass_(QUIET / 2)
    site.deliver(received([2]))
    assert site.ledger.next_due() == begun + QUIET * 1.5
    for number in range(3, 200):
        site.clock.pass_(QUIET / 2)
        if site.clock.now >= begun + LONGEST:
            break
        site.deliver(received([number]))
    assert site.ledger.next_due() == begun + LONGEST
    assert site.ledger.claim("worker") is not None


def test_not_claimed_before_it_is_quiet(site: Site) -> None:
    site.deliver(received([1]))
    site.clock.pass_(QUIET - timedelta(microseconds=1))
    assert site.ledger.claim("worker") is None
    site.clock.pass_(timedelta(microseconds=1))
    assert site.ledger.claim("worker") is not None


def test_news_of_a_study_on_hold_waits_for_quiet_again(site: Site) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), held())
    site.clock.pass_(timedelta(days=3))
    site.deliver(received([2]))
    assert site.ledger.next_due() == site.clock.now + QUIET
    assert site.view().unsynced_since == site.clock.now - timedelta(days=3) - QUIET


def test_other_values_of_a_known_instance_are_not_taken_but_read(site: Site) -> None:
    site.deliver(received([1, 2]))
    site.sync()
    site.deliver(received([1], said=header("changed")))
    assert site.view().state == State.RECEIVED
    claimed = site.claim()
    assert claimed.reads_owed == ("pacs",)
    assert set(site.ledger.load(claimed).headers) == {HEADER}
    assert site.rows("SELECT count(*) FROM header")[0][0] == 1


def test_another_number_of_a_known_instance_is_not_taken_but_read(site: Site) -> None:
    site.deliver(received([1]))
    uid = received([1])[0].instance.sop_instance_uid
    site.deliver((received([1])[0]._replace(instance=Instance(uid, 9, HEADER)),))
    claimed = site.claim()
    assert claimed.reads_owed == ("pacs",)
    assert [i.number for _, i in site.ledger.load(claimed).instances()] == [1]


def test_an_instance_under_another_series_keeps_the_first(site: Site) -> None:
    (first,) = received([1])
    site.deliver((first,))
    (elsewhere,) = received([1], series=2)
    site.deliver((elsewhere._replace(instance=first.instance),))
    claimed = site.claim()
    assert claimed.reads_owed == ("pacs",)
    study = site.ledger.load(claimed)
    assert [series.series_instance_uid for series in study.series] == ["1.2.3.1"]
    assert site.view().series == 1
    assert Event.STUDY_REMARK in [entry.event for entry in site.view().events]


def test_a_series_that_arrives_in_another_study_sends_us_back_to_the_first(site: Site) -> None:
    items = received([1, 2])
    site.deliver(items)
    site.sync()
    site.deliver(tuple(item._replace(study_instance_uid=OTHER) for item in items))
    assert site.view().state == State.RECEIVED
    claimed = [site.claim("a"), site.claim("b")]
    assert {c.study_instance_uid: c.reads_owed for c in claimed} == {STUDY: ("pacs",), OTHER: ()}


def test_the_same_sop_uid_in_two_studies_is_two_instances(site: Site) -> None:
    (item,) = received([1])
    (other,) = received([1], study=OTHER)
    site.deliver((item, other._replace(instance=item.instance)))
    assert site.ledger.status(site.clock.now).instances == 2


def test_a_second_archive_is_a_new_fact(site: Site) -> None:
    site.deliver(received([1]))
    site.deliver(received([1]), archive="copy")
    claimed = site.claim()
    assert claimed.generation == 2
    assert site.ledger.load(claimed).archives == {"copy", "pacs"}


def test_a_new_caller_is_a_new_fact(site: Site) -> None:
    site.deliver(received([1]), calling_ae_title="MR1")
    site.sync()
    site.deliver(received([1]), calling_ae_title="ROUTER")
    assert site.ledger.load(site.claim()).calling_ae_titles == {"MR1", "ROUTER"}


def test_callers_are_bounded(site: Site) -> None:
    for number in range(100):
        site.deliver(received([1]), calling_ae_title=f"AE{number}")
    assert len(site.ledger.load(site.claim()).calling_ae_titles) == 64


def test_a_notice_owes_a_read(site: Site) -> None:
    site.notice("5/120")
    claimed = site.claim()
    assert claimed.reads_owed == ("pacs",)
    assert site.ledger.load(claimed).series == ()


def test_a_notice_with_the_fingerprint_we_hold_is_no_news(site: Site) -> None:
    site.notice("5/120")
    before = site.unchanged()
    site.clock.pass_(SECOND)
    site.notice("5/120")
    assert site.unchanged() == before
    site.notice("5/121")
    assert site.unchanged() != before


def test_the_fingerprint_our_read_saw_is_known_to_every_source(site: Site) -> None:
    site.notice("5/120")
    claimed = site.claim()
    site.snapshot(claimed, received([1]), fingerprint="5/121")
    site.ledger.settle(claimed, synced())
    before = site.unchanged()
    site.notice("5/121", source="orthanc_changes")
    assert site.unchanged() == before


def test_two_sources_with_their_own_fingerprints_do_not_wake_each_other(site: Site) -> None:
    for _ in range(2):
        site.notice("changes:88", source="orthanc_changes")
        site.notice("qido:5/120", source="qido_rs")
    assert site.rows("SELECT generation FROM study")[0].generation == 2


def test_a_notice_without_fingerprint_is_always_news(site: Site) -> None:
    site.notice("5/120")
    site.notice()
    site.notice("5/120")
    assert site.rows("SELECT generation FROM study")[0].generation == 3


def test_gone_is_news_until_the_archive_confirmed_it(site: Site) -> None:
    site.deliver(received([1]))
    site.sync()
    site.notice(notice=Notice.GONE)
    claimed = site.claim()
    assert claimed.reads_owed == ("pacs",)
    site.snapshot(claimed, absent=True)
    site.ledger.settle(claimed, synced(version_id="2"))
    before = site.unchanged()
    site.notice(notice=Notice.GONE)
    assert site.unchanged() == before


def test_a_cursor_moves_with_the_facts_or_alone(site: Site) -> None:
    assert site.ledger.cursor("qido_rs", "pacs") is None
    site.deliver(received([1]), cursor=Cursor("qido_rs", "pacs", "17"))
    assert site.ledger.cursor("qido_rs", "pacs") == "17"
    site.ledger.set_cursor(Cursor("qido_rs", "pacs", "18"))
    assert site.ledger.cursor("qido_rs", "pacs") == "18"
    assert site.ledger.cursor("orthanc_changes", "pacs") is None


def test_a_delivery_is_committed_whole_or_not_at_all(site: Site) -> None:
    site.deliver(received([1]))
    before = site.unchanged()
    broken = Received(STUDY, received([1])[0].series_instance_uid, _instance("not-a-uid"))
    with pytest.raises(HeaderUidInvalid):
        site.deliver((*received([2]), broken), cursor=Cursor("qido_rs", "pacs", "9"))
    assert site.unchanged() == before
    assert site.ledger.cursor("qido_rs", "pacs") is None


def _instance(uid: str) -> Instance:
    return Instance(SOPInstanceUID(uid), 1, HEADER)


def test_refusals_are_in_the_trail(site: Site) -> None:
    site.deliver(
        received([1]),
        refused=(Refused(STUDY, "DICOM-UID-MISSING", "(0008,0018)"),) * 2 + (Refused(OTHER, "X"),),
    )
    refusals = [entry for entry in site.view().events if entry.event == Event.UPLOAD_REFUSED]
    assert [(entry.code, entry.sentence) for entry in refusals] == [
        ("DICOM-UID-MISSING", "2 instances of 1.2.3 were refused ((0008,0018)).")
    ]
    assert site.rows("SELECT count(*) FROM event WHERE study_id IS NULL AND code = 'X'")[0][0] == 1


def test_the_trail_is_bounded(site: Site) -> None:
    ledger = site.open(events_per_study=10)
    for number in range(30):
        site.deliver(received([number]), refused=(Refused(OTHER, f"CODE{number}"),))
        ledger.settle(site.claim(), synced(version_id=str(number)))
    assert len(site.view().events) == 10
    assert site.view().events[-1].event == Event.STUDY_SYNCED
    others = site.rows("SELECT code FROM event WHERE study_id IS NULL AND code IS NOT NULL")
    assert "CODE29" in {row.code for row in others}
    assert len(others) <= 10


def test_a_large_delivery_of_many_series(site: Site) -> None:
    items = tuple(item for series in range(700) for item in received([1, 2], series=series))
    site.deliver(items)
    site.deliver(items)
    assert (site.view().series, site.view().instances) == (700, 1400)
    assert len(list(site.ledger.load(site.claim()).instances())) == 1400
