"""What of one study becomes known by another: notes, moves; and how much is missing at once."""

from datetime import timedelta

from flute_sync.study import Code, KeyObjects, Reference, StudyInstanceUID
from flute_sync.task import State
from tests.contract.ledger_site import (
    OTHER,
    SECOND,
    STUDY,
    Site,
    failed,
    held,
    left_out,
    received,
    synced,
)

THIRD = StudyInstanceUID("1.2.5")


def _note(*instances: str, study: str = OTHER, title: str = "113001") -> KeyObjects:
    said = tuple(Reference(study, f"{study}.1", instance) for instance in instances)
    return KeyObjects(Code(title, "DCM"), said)


def _known(site: Site, *studies: StudyInstanceUID) -> None:
    for study in studies:
        site.deliver(received([1], study=study))
        site.ledger.settle(site.claim(), synced(study))


def test_a_note_on_another_study_raises_it_and_is_loaded_with_it(site: Site) -> None:
    _known(site, OTHER)
    site.deliver(received([1]))
    claimed = site.claim()
    assert not claimed.has_notes
    assert site.ledger.keep_notes(claimed, [_note("1.9"), _note("1.8")]) == 1
    site.ledger.settle(claimed, synced("2"))
    raised = site.claim()
    assert raised.study_instance_uid == OTHER
    assert raised.reads_owed == ("pacs",)
    (note,) = site.ledger.load(raised).notes_elsewhere
    assert note == _note("1.8", "1.9")
    site.ledger.settle(raised, synced("3"))
    assert site.ledger.next_due() is None


def test_the_same_notes_again_raise_nobody(site: Site) -> None:
    _known(site, STUDY, OTHER)
    for expected in (1, 0):
        site.ledger.replay(STUDY)
        claimed = site.claim()
        assert claimed.has_notes is (expected == 0)
        assert site.ledger.keep_notes(claimed, [_note("1.9")]) == expected
        site.ledger.settle(claimed, synced(STUDY))
        if expected:
            site.ledger.settle(site.claim(), synced(OTHER))
    assert site.view(OTHER).state == State.COMPLETED


def test_a_note_that_is_removed_raises_whom_it_named(site: Site) -> None:
    _known(site, STUDY, OTHER)
    for notes in ([_note("1.9")], []):
        site.ledger.replay(STUDY)
        claimed = site.claim()
        site.ledger.keep_notes(claimed, notes)
        site.ledger.settle(claimed, synced(STUDY))
        raised = site.claim()
        assert raised.study_instance_uid == OTHER
        assert len(site.ledger.load(raised).notes_elsewhere) == len(notes)
        site.ledger.settle(raised, synced(OTHER))


def test_a_note_before_its_study_is_there_when_that_comes(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    site.ledger.keep_notes(claimed, [_note("1.9"), _note("1.9", study="9" * 65)])
    site.ledger.settle(claimed, synced())
    site.deliver(received([1], study=OTHER))
    assert site.ledger.load(site.claim()).notes_elsewhere == (_note("1.9"),)


def test_a_study_has_moved_when_all_of_it_is_known_elsewhere(site: Site) -> None:
    _known(site, STUDY)
    (one,), (two,) = received([1]), received([2])
    for number, item in enumerate((one, two)):
        site.deliver((two,)) if number == 0 else None
        site.notice(f"{number}", study=OTHER)
        while (claimed := site.claim()).study_instance_uid != OTHER:
            site.ledger.settle(claimed, synced(STUDY))
        taken = (one, two)[: number + 1]
        site.snapshot(claimed, tuple(i._replace(study_instance_uid=OTHER) for i in taken))
        site.ledger.settle(claimed, synced("2"))
        site.ledger.replay(STUDY)
        claimed = site.claim()
        assert claimed.study_instance_uid == STUDY
        assert site.ledger.has_moved(claimed) is (item is two)
        site.ledger.settle(claimed, synced(STUDY))


def test_a_read_that_finds_a_series_of_another_study_raises_that(site: Site) -> None:
    _known(site, STUDY)
    site.notice("x", study=OTHER)
    claimed = site.claim()
    moved = tuple(item._replace(study_instance_uid=OTHER) for item in received([1]))
    for _ in range(2):
        site.snapshot(claimed, moved)
    site.ledger.settle(claimed, synced("2"))
    raised = site.claim()
    assert (raised.study_instance_uid, raised.reads_owed) == (STUDY, ("pacs",))
    site.ledger.settle(raised, synced(STUDY))
    assert site.ledger.next_due() is None


def test_what_an_archive_misses_is_counted_until_it_is_believed(site: Site) -> None:
    _known(site, STUDY, OTHER, THIRD)
    began = site.clock.now
    for number in (1, 2):
        uid = (STUDY, OTHER)[number - 1]
        site.ledger.replay(uid)
        claimed = site.claim()
        site.snapshot(claimed, absent=True)
        absent = failed(site.clock.now + timedelta(days=1), code="ARCHIVE-STUDY-ABSENT")
        site.ledger.settle(claimed, absent)
        found = site.ledger.missing("pacs", began - SECOND)
        assert (found.held, found.missing) == (3 - number, number)
    assert found.since is not None
    assert site.ledger.missing("pacs", site.clock.now).missing == 0
    assert site.ledger.missing("copy", began - SECOND).held == 0
    claimed = site.claim()
    site.snapshot(claimed, absent=True, believed=True)
    site.ledger.settle(claimed, synced(claimed.study_instance_uid))
    assert site.ledger.missing("pacs", began - SECOND).missing == 1


def test_what_is_missing_stays_so_while_its_archive_or_fhir_is_down(site: Site) -> None:
    began = site.clock.now
    _known(site, STUDY, OTHER)
    for uid in (STUDY, OTHER):
        site.ledger.replay(uid)
        claimed = site.claim()
        site.snapshot(claimed, absent=True)
        absent = failed(site.clock.now + timedelta(hours=1), code="ARCHIVE-STUDY-ABSENT")
        site.ledger.settle(claimed, absent)
    site.clock.now += timedelta(hours=2)
    for code in ("ARCHIVE-UNAVAILABLE", "FHIR-UNAVAILABLE"):
        site.ledger.settle(site.claim(), failed(site.clock.now + timedelta(hours=1), code=code))
    assert site.ledger.missing("pacs", began - SECOND).missing == 2
    site.clock.now += timedelta(hours=2)
    claimed = site.claim()
    site.snapshot(claimed, absent=True, believed=True)
    site.ledger.settle(claimed, synced("1"))
    site.ledger.replay(claimed.study_instance_uid)  # judged again, it is gone still
    assert site.ledger.missing("pacs", began - SECOND).missing == 1


def test_who_was_found_by_a_number_is_woken_by_it(site: Site) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), synced(identity="k1"))
    assert site.ledger.wake_identified({"k2"}) == 0
    assert site.ledger.wake_identified({"k1", "k2"}) == 1
    claimed = site.claim()
    assert claimed.identity == "k1"
    site.ledger.settle(claimed, held())
    assert site.ledger.wake_identified({"k1"}) == 1
    claimed = site.claim()
    assert claimed.identity == "k1"
    site.ledger.settle(claimed, left_out())
    assert site.ledger.wake_identified({"k1"}) == 0


def test_what_was_doubted_is_looked_for_at_once_when_a_person_says_so(site: Site) -> None:
    _known(site, STUDY, OTHER)
    later = site.clock.now + timedelta(days=1)
    for uid, code in ((STUDY, "ARCHIVE-MANY-ABSENT"), (OTHER, "ARCHIVE-STUDY-ABSENT")):
        site.ledger.replay(uid)
        claimed = site.claim()
        site.snapshot(claimed, absent=True)
        site.ledger.settle(claimed, failed(later, code=code))
    assert site.ledger.next_due() == later
    assert site.ledger.look_for_missing("copy") == 0
    assert site.ledger.look_for_missing("pacs") == 1
    assert site.ledger.next_due() == site.clock.now
    assert site.claim().study_instance_uid == STUDY
