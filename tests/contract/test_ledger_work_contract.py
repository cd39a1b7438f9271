"""What the ledger promises to workers, on SQLite and PostgreSQL."""

from datetime import timedelta

import pytest

from flute_sync.events import Event
from flute_sync.ledger import WAITING_FOR_PATIENT, FhirRow, Settlement
from flute_sync.ledger_errors import LeaseLost, LedgerTargetChanged, StudyUnknown
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State, TaskEvent
from tests.contract.ledger_site import (
    LONGEST,
    OTHER,
    QUIET,
    SECOND,
    STUDY,
    TARGET,
    Site,
    failed,
    held,
    left_out,
    received,
    synced,
)

LEASE = timedelta(seconds=20)


def test_one_study_has_one_holder(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim("a")
    assert (claimed.study_instance_uid, claimed.owner, claimed.generation) == (STUDY, "a", 1)
    assert site.ledger.claim("b") is None
    assert site.open().claim("c") is None


def test_the_study_that_is_due_longest_comes_first(site: Site) -> None:
    site.deliver(received([1], study=OTHER))
    site.clock.pass_(SECOND)
    site.deliver(received([1]))
    site.clock.pass_(QUIET)
    assert [site.claim(owner).study_instance_uid for owner in "ab"] == [OTHER, STUDY]


def test_a_lease_that_ends_is_taken_over(site: Site) -> None:
    site.deliver(received([1]))
    dead = site.claim("dead")
    site.clock.pass_(LEASE - SECOND)
    assert site.ledger.claim("alive") is None
    site.clock.pass_(SECOND)
    taken = site.open().claim("alive")
    assert taken is not None
    assert taken.study_id == dead.study_id
    with pytest.raises(LeaseLost):
        site.ledger.settle(dead, synced())
    with pytest.raises(LeaseLost):
        site.snapshot(dead, received([1]))
    with pytest.raises(LeaseLost):
        site.ledger.verified(dead, "pacs", 1, 1)
    assert site.ledger.settle(taken, synced()) is State.COMPLETED


def test_a_renewed_lease_is_kept(site: Site) -> None:
    site.deliver(received([1]))
    site.claim("worker")
    for _ in range(5):
        site.clock.pass_(LEASE - SECOND)
        assert site.ledger.renew("worker") == 1
        assert site.ledger.claim("other") is None
    assert site.ledger.renew("other") == 0
    assert site.view().lease_until == site.clock.now + LEASE


def test_released_studies_are_ready_at_once(site: Site) -> None:
    site.deliver(received([1]) + received([1], study=OTHER))
    first, second = site.claim("going"), site.claim("staying")
    site.ledger.release("going")
    again = site.ledger.claim("other")
    assert again is not None
    assert again.study_id == first.study_id
    assert site.ledger.settle(second, synced()) is State.COMPLETED


def test_settled_as_written(site: Site) -> None:
    site.deliver(received([1]))
    assert site.sync(resource_id="abc", version_id="3", rules="r1") is State.COMPLETED
    view = site.view()
    assert (view.state, view.fhir_reference, view.fhir_version) == (
        "completed",
        "ImagingStudy/abc",
        "3",
    )
    assert view.patient_reference == "Patient/1"
    assert view.unsynced_since is None
    assert (view.events[-1].event, view.events[-1].sentence) == (
        Event.STUDY_SYNCED,
        "It was written.",
    )
    site.deliver(received([2]))
    claimed = site.claim()
    assert claimed.fhir == FhirRow("abc", "3", "digest")
    assert claimed.patient_reference == "Patient/1"
    assert claimed.rules == "r1"


def test_news_during_the_step_supersedes_it_and_keeps_what_was_written(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    site.clock.pass_(SECOND)
    news_at = site.clock.now
    site.deliver(received([2]))
    assert site.view().state == State.IN_PROGRESS
    site.clock.pass_(SECOND)
    assert site.ledger.settle(claimed, synced(resource_id="9")) is State.RECEIVED
    view = site.view()
    assert view.fhir_reference == "ImagingStudy/9"
    assert view.next_attempt_at == news_at + QUIET
    assert view.unsynced_since == news_at
    again = site.claim()
    assert again.generation == 2
    assert again.fhir is not None
    assert again.patient_reference == "Patient/1"


def test_news_during_many_steps_waits_no_longer_than_the_longest_wait(site: Site) -> None:
    site.deliver(received([0]))
    claimed = site.claim()
    begun = site.clock.now
    for number in range(1, 200):
        site.deliver(received([number]))
        site.clock.pass_(LONGEST / 100)
    site.ledger.settle(claimed, synced())
    assert site.ledger.next_due() == begun + LONGEST


def test_a_failure_is_tried_again_when_it_says(site: Site) -> None:
    site.deliver(received([1]))
    for attempt in range(1, 4):
        claimed = site.claim()
        assert claimed.attempts == attempt - 1
        at = site.clock.now + timedelta(seconds=2**attempt)
        assert site.ledger.settle(claimed, failed(at)) is State.FAILED
        assert site.ledger.next_due() == at
    assert (site.view().code, site.view().attempts) == ("FHIR-BUSY", 3)
    assert site.view().hint is not None
    site.sync()
    assert (site.view().code, site.view().attempts) == (None, 0)


def test_handing_back_leaves_the_attempts(site: Site) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), failed(site.clock.now + SECOND))
    later = site.clock.now + timedelta(minutes=1)
    back = Settlement(
        TaskEvent.HAND_BACK, "FHIR is down.", Event.TARGET_PAUSED, next_attempt_at=later
    )
    assert site.ledger.settle(site.claim(), back) is State.READY
    assert (site.view().attempts, site.view().next_attempt_at) == (1, later)


def test_on_hold_is_left_alone_until_news(site: Site) -> None:
    site.deliver(received([1]))
    assert site.ledger.settle(site.claim(), held("PATIENT-CONFLICT")) is State.ON_HOLD
    assert site.ledger.next_due() is None
    site.deliver(received([2]))
    assert site.view().state == State.RECEIVED


def test_who_waits_for_a_patient_is_woken_by_it_alone(site: Site) -> None:
    site.deliver(received([1]) + received([1], study=OTHER))
    for key in ("urn:a|1", "urn:a|2"):
        site.ledger.settle(site.claim(), held(waiting_for=key))
    status = site.ledger.status(site.clock.now)
    assert status.counts[WAITING_FOR_PATIENT] == 2
    assert status.counts[State.ON_HOLD] == 0
    assert status.oldest_unsynced is None
    assert site.view().state == State.ON_HOLD
    assert site.ledger.wake_patients(["urn:a|2", "urn:a|3"]) == 1
    assert site.ledger.claim("worker") is not None
    assert site.ledger.claim("worker") is None
    assert site.ledger.wake_patients([f"urn:b|{number}" for number in range(40_000)]) == 0


def test_a_study_whose_subject_is_logical_is_woken_by_its_patient(site: Site) -> None:
    site.deliver(received([1]))
    site.sync(waiting_for="key")
    assert site.ledger.status(site.clock.now).counts[WAITING_FOR_PATIENT] == 0
    assert site.ledger.wake_patients(["other"]) == 0
    assert site.ledger.wake_patients(["key"]) == 1


def test_a_study_of_several_numbers_is_woken_by_each_of_them(site: Site) -> None:
    site.deliver(received([1]))
    for number in ("a", "b", "c"):
        site.ledger.settle(
            site.claim(), held("PATIENT-CONFLICT", waiting_for="all", keys=("a", "b", "c"))
        )
        assert site.ledger.wake_patients(["other"]) == 0
        assert site.ledger.wake_patients([number]) == 1
    site.sync(identity="all", keys=("a", "b"))
    assert site.ledger.wake_patients(["a", "b"]) == 0  # it waits for nobody
    for number, woken in (("a", 1), ("b", 1), ("c", 0)):
        assert site.ledger.wake_identified([number]) == woken
        if woken:
            site.ledger.settle(site.claim(), failed(site.clock()))  # which names nobody
            site.sync(identity="all", keys=("a", "b"))


def test_a_study_that_one_number_names_again_is_not_known_by_the_others(site: Site) -> None:
    site.deliver(received([1]))
    site.sync(identity="all", keys=("a", "b"))
    site.deliver(received([2]))
    site.sync(identity="a")
    assert site.ledger.wake_identified(["b", "all"]) == 0
    assert site.ledger.wake_identified(["a"]) == 1
    assert site.ledger.erasures.held([], ["b"]) == []


def test_a_study_is_woken_by_the_reference_of_its_patient(site: Site) -> None:
    site.deliver(received([1]))
    site.sync()
    assert site.ledger.wake_patients(["Patient/2"]) == 0
    assert site.ledger.wake_patients(["Patient/1"]) == 1


def test_other_rules_judge_again(site: Site) -> None:
    site.deliver(received([1]) + received([1], study=OTHER))
    site.ledger.settle(site.claim(), synced(rules="r1"))
    site.ledger.settle(site.claim(), left_out(rules="r2", prune=False))
    assert site.ledger.rejudge("r2") == 1
    assert site.ledger.claim("worker") is not None
    assert site.ledger.claim("worker") is None
    assert site.ledger.status(site.clock.now).counts[State.CANCELLED] == 1


def test_a_first_step_in_hand_is_judged_again_by_the_new_rules(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    site.ledger.rejudge("r2")
    assert site.ledger.settle(claimed, synced(rules="r1")) is State.RECEIVED


def test_a_step_in_hand_is_judged_again_by_the_new_rules(site: Site) -> None:
    site.deliver(received([1]))
    site.sync(rules="r1")
    site.deliver(received([2]))
    claimed = site.claim()
    site.ledger.rejudge("r2")
    assert site.ledger.settle(claimed, synced(rules="r1")) is State.RECEIVED
    assert site.claim().rules == "r1"


def test_a_pruned_study_keeps_no_patient_data_but_its_mapping(site: Site) -> None:
    site.deliver(received([1, 2]))
    site.sync()
    site.deliver(received([3]))
    assert site.ledger.settle(site.claim(), left_out()) is State.CANCELLED
    for table in ("instance", "series", "header"):
        assert site.rows(f"SELECT count(*) FROM {table}")[0][0] == 0
    view = site.view()
    assert (view.is_pruned, view.series, view.instances) == (True, 0, 0)
    assert (view.patient_reference, view.fhir_reference) == (None, "ImagingStudy/7")
    dump = "".join(str(site.rows(f"SELECT * FROM {table}")) for table in ("study", "event"))
    assert "Known" not in dump
    assert "P1" not in dump


def test_news_of_a_pruned_study_reads_it_whole(site: Site) -> None:
    site.deliver(received([1]))
    site.deliver(received([2]), archive="copy")
    site.ledger.settle(site.claim(), left_out())
    site.deliver(received([3]))
    claimed = site.claim()
    assert claimed.reads_owed == ("pacs", "copy")
    assert site.ledger.load(claimed).archives == {"pacs"}


@pytest.mark.parametrize("rejudged", [True, False])
def test_a_pruned_study_that_is_looked_at_again_is_read(site: Site, rejudged: bool) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), left_out(rules="r1"))
    if rejudged:
        assert site.ledger.rejudge("r2") == 1
    else:
        site.ledger.replay(STUDY)
    claimed = site.claim()
    assert claimed.reads_owed == ("pacs",)
    site.snapshot(claimed, received([1]))
    assert site.ledger.settle(claimed, synced(rules="r2")) is State.COMPLETED
    assert not site.view().is_pruned


@pytest.mark.parametrize(
    "settlement",
    [synced(), held(), held(waiting_for="urn:a|1"), left_out(prune=False)],
    ids=lambda settlement: f"{settlement.event}-{settlement.waiting_for}",
)
def test_a_person_may_ask_for_another_attempt(site: Site, settlement: Settlement) -> None:
    """It decides nothing that the person was not asked: another patient would need that."""
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), settlement)
    site.ledger.replay(STUDY)
    claimed = site.ledger.claim("worker")
    assert claimed is not None
    assert not claimed.confirmed
    assert claimed.reads_owed == ("pacs",)


@pytest.mark.parametrize("code", ["PATIENT-CHANGED", "FHIR-GONE"])
def test_asking_confirms_what_the_study_is_held_for(site: Site, code: str) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), held(code))
    site.ledger.replay(STUDY)
    claimed = site.ledger.claim("worker")
    assert claimed is not None
    assert claimed.confirmed
    site.ledger.settle(claimed, failed(site.clock.now + SECOND))
    site.ledger.replay(STUDY)
    assert site.claim("worker").confirmed
    site.ledger.release("worker")
    site.sync()
    site.deliver(received([2]))
    assert not site.claim().confirmed


@pytest.mark.parametrize("is_during_the_step", [True, False])
def test_news_of_a_held_study_do_not_undo_whom_a_person_confirms(
    site: Site, is_during_the_step: bool
) -> None:
    """An archive tells of a correction more than once, also after the study was held for it."""
    site.deliver(received([1]))
    claimed = site.claim("worker")
    if is_during_the_step:
        site.deliver(received([2]))
    site.ledger.settle(claimed, held("PATIENT-CHANGED", waiting_for="urn:a|1"))
    site.deliver(received([3]))
    site.ledger.replay(STUDY)
    asked = site.claim("worker")
    assert (asked.confirmed, asked.confirmed_identity) == (True, "urn:a|1")
    site.ledger.settle(asked, synced())
    site.ledger.replay(STUDY)
    assert site.claim("worker").confirmed_identity is None


def test_what_a_person_was_not_told_is_not_confirmed(site: Site) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), held("PATIENT-CHANGED", waiting_for="urn:a|1"))
    site.deliver(received([2]))
    claimed = site.claim("worker")
    site.ledger.replay(STUDY)
    site.ledger.settle(claimed, held("PATIENT-CHANGED", waiting_for="urn:a|2"))
    assert site.claim("worker").confirmed_identity == "urn:a|1"


def test_asking_during_a_step_is_not_lost(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    site.ledger.replay(STUDY)
    assert site.ledger.settle(claimed, synced()) is State.RECEIVED
    assert site.claim().reads_owed == ("pacs",)


def test_asking_brings_a_failed_study_forward(site: Site) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), failed(site.clock.now + LONGEST))
    site.ledger.replay(STUDY)
    assert site.ledger.claim("worker") is not None


def test_an_unknown_study_is_said_to_be_unknown(site: Site) -> None:
    with pytest.raises(StudyUnknown):
        site.ledger.replay(StudyInstanceUID("9.9"))
    with pytest.raises(StudyUnknown):
        site.view(StudyInstanceUID("9.9"))
    with pytest.raises(StudyUnknown):
        site.ledger.study(StudyInstanceUID("9.9"))


def test_a_change_of_another_process_is_seen_at_once(site: Site) -> None:
    site.deliver(received([1]))
    site.sync()
    site.open().replay(STUDY)
    assert site.ledger.claim("worker") is not None


def test_what_was_written_for_one_server_is_not_used_for_another(site: Site) -> None:
    site.ledger.bind_target("http://old.example/fhir")
    site.ledger.bind_target(TARGET + "/")
    site.deliver(received([1]))
    site.sync()
    with pytest.raises(LedgerTargetChanged) as raised:
        site.ledger.bind_target("http://new.example/fhir")
    assert raised.value.hint
    site.ledger.bind_target(TARGET)


def test_a_process_bound_to_a_replaced_server_cannot_settle(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    site.open().bind_target("http://new.example/fhir")
    with pytest.raises(LedgerTargetChanged):
        site.ledger.settle(claimed, synced())
    assert site.rows("SELECT count(*) FROM fhir_study")[0][0] == 0


def test_the_oldest_unsynced_study_is_the_lag(site: Site) -> None:
    assert site.ledger.status(site.clock.now).oldest_unsynced is None
    site.deliver(received([1]))
    site.clock.pass_(timedelta(minutes=5))
    site.deliver(received([1], study=OTHER))
    assert site.ledger.status(site.clock.now).oldest_unsynced == timedelta(minutes=5)
    site.sync()
    assert site.ledger.status(site.clock.now).oldest_unsynced == timedelta(0)
