"""What the ledger promises about links, on SQLite and PostgreSQL."""

from dataclasses import replace

import pytest

from flute_sync.ledger import Claim, LinkNews, LinkRow, Settlement
from flute_sync.ledger_errors import LeaseLost, LedgerRefused, LinkUndecided, StudyUnknown
from flute_sync.study import StudyInstanceUID
from flute_sync.task import State
from tests.contract.ledger_site import (
    OTHER,
    QUIET,
    STUDY,
    Site,
    held,
    left_out,
    received,
    synced,
)

PATIENT = "Patient/1"
TAKEN = LinkRow(
    "Observation/1",
    "PR_ProstateSpecificAntigen",
    "time/psa-before",
    "certain",
    "the closest before",
    ("decimals", "display"),
    "2024-02-20",
    "2024-02-20",
    taken=True,
    ours=True,
)
FOREIGN = LinkRow(
    "Procedure/2", "PR_Biopsy", "foreign", "certain", "another system linked it", taken=True
)
REFUSED = LinkRow("Observation/3", "PR_PIRADSScore", "time", "possible", "it has no date")


def linked(
    *rows: LinkRow,
    epoch: int = 0,
    changed: bool = False,
    others: tuple[StudyInstanceUID, ...] = (),
    **more: str,
) -> Settlement:
    news = LinkNews(PATIENT, epoch, rows, changed, others)
    return replace(synced(**more), links=news)


def both(site: Site) -> tuple[Claim, Claim]:
    site.deliver(received([1]))
    site.deliver(received([1], study=OTHER))
    site.clock.pass_(QUIET)
    first, second = site.claim("a"), site.claim("b")
    if first.study_instance_uid != STUDY:
        first, second = second, first
    return first, second


def state(site: Site, uid: StudyInstanceUID) -> str:
    return site.view(uid).state


def test_a_judgement_is_kept_whole_and_replaced_by_the_next(site: Site) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), linked(TAKEN, FOREIGN, REFUSED))
    view = site.ledger.links.view(STUDY)
    assert set(view.rows) == {TAKEN, FOREIGN, REFUSED}
    assert site.open().links.view(STUDY) == view
    site.deliver(received([2]))
    site.ledger.settle(site.claim(), linked(FOREIGN))
    assert site.ledger.links.view(STUDY).rows == (FOREIGN,)
    site.deliver(received([3]))
    site.sync()  # a step that judged no links
    assert site.ledger.links.view(STUDY).rows == (FOREIGN,)


def test_what_is_planned_is_ours_before_it_is_written(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim("dead")
    site.ledger.links.plan(claimed, [TAKEN])
    assert site.ledger.links.view(STUDY).rows == (TAKEN,)
    site.ledger.release("dead")
    with pytest.raises(LeaseLost):
        site.ledger.links.plan(claimed, [REFUSED])


def test_a_patient_has_his_studies_and_the_one_at_hand(site: Site) -> None:
    first, second = both(site)
    site.ledger.settle(first, linked(TAKEN))
    found = site.ledger.links.of_patient([PATIENT])
    assert set(found.studies) == {STUDY}
    assert found.studies[STUDY].rows == (TAKEN,)
    assert found.studies[STUDY].resource_id == "7"
    found = site.ledger.links.of_patient(["Patient/2", PATIENT], [OTHER])
    assert set(found.studies) == {STUDY, OTHER}
    assert found.studies[OTHER].resource_id is None
    assert set(site.ledger.links.of_patient([], [OTHER]).studies) == {OTHER}
    site.ledger.settle(second, synced("8"))
    assert site.ledger.links.patients("", 10) == [PATIENT]
    assert site.ledger.links.patients(PATIENT, 10) == []


def test_whom_links_concern_is_known_without_reading_all_of_a_patient(site: Site) -> None:
    first, second = both(site)
    book = site.ledger.links
    assert not book.concern(first, PATIENT)
    site.ledger.settle(first, linked(TAKEN))
    assert book.concern(first, None)
    assert not book.concern(second, PATIENT)
    book.decide(STUDY, "Observation/1", "add", "because")
    assert book.concern(second, PATIENT)
    assert not book.concern(second, "Patient/2")
    assert not book.concern(second, None)
    book.decide(STUDY, "Observation/1", "release", "done")
    assert not book.concern(second, PATIENT)


def test_a_step_that_began_before_another_one_was_written_is_taken_again(site: Site) -> None:
    first, second = both(site)
    assert site.ledger.settle(first, linked(TAKEN, changed=True)) is State.COMPLETED
    assert site.ledger.settle(second, linked(resource_id="8", changed=True)) is State.READY
    again = site.claim()
    assert again.study_instance_uid == OTHER
    epoch = site.ledger.links.of_patient([PATIENT]).epoch
    assert site.ledger.settle(again, linked(resource_id="8", epoch=epoch)) is State.COMPLETED
    assert site.ledger.links.of_patient([PATIENT]).epoch == epoch  # nothing changed


def test_a_study_of_which_something_else_is_true_now_is_made_ready(site: Site) -> None:
    first, second = both(site)
    site.ledger.settle(first, linked(TAKEN))
    site.ledger.settle(second, linked(resource_id="8", others=(STUDY,)))
    assert (state(site, STUDY), state(site, OTHER)) == ("ready", "completed")
    assert site.claim().study_instance_uid == STUDY


def test_clinical_news_let_be_judged_again_also_what_is_in_hand(site: Site) -> None:
    first, second = both(site)
    site.ledger.settle(first, linked(TAKEN))
    assert site.ledger.links.judge_again([PATIENT, "Patient/none"]) == 1
    assert site.ledger.settle(second, linked(resource_id="8")) is State.READY
    assert state(site, STUDY) == "ready"


def test_who_had_a_resource_is_known_by_its_reference(site: Site) -> None:
    first, second = both(site)
    site.ledger.settle(first, linked(TAKEN, REFUSED))
    site.ledger.settle(second, linked(REFUSED, resource_id="8"))
    book = site.ledger.links
    assert book.judged_for([REFUSED.reference, "Observation/none"]) == {PATIENT}
    assert book.judged_for([TAKEN.reference]) == {PATIENT}
    assert book.judged_for([FOREIGN.reference]) == frozenset()


def test_a_study_that_leaves_a_patient_lets_his_others_be_judged(site: Site) -> None:
    first, second = both(site)
    site.ledger.settle(first, linked(TAKEN))
    site.ledger.settle(second, linked(resource_id="8"))
    site.ledger.replay(OTHER)
    moved = LinkNews("Patient/2", 0, (), changed=True)
    settlement = replace(synced("8"), patient_reference="Patient/2", links=moved)
    site.ledger.settle(site.claim(), settlement)
    assert (state(site, STUDY), state(site, OTHER)) == ("ready", "completed")


def test_decisions_are_kept_in_order_and_the_last_one_on_a_pair_holds(site: Site) -> None:
    site.deliver(received([1]))
    site.sync()
    book = site.ledger.links
    book.decide(STUDY, "Observation/1", "add", "because")
    assert state(site, STUDY) == "ready"
    book.decide(STUDY, "Observation/2", "remove", "no")
    book.decide(STUDY, "Observation/1", "remove", "an error")
    decided = book.view(STUDY).decisions
    assert [(one.reference, one.verb, one.why) for one in decided] == [
        ("Observation/2", "remove", "no"),
        ("Observation/1", "remove", "an error"),
    ]
    assert book.of_patient([PATIENT]).decisions == decided
    book.decide(STUDY, "Observation/1", "release", "done")
    assert [one.reference for one in book.view(STUDY).decisions] == ["Observation/2"]
    with pytest.raises(LinkUndecided):
        book.decide(STUDY, "Observation/1", "release", "twice")
    with pytest.raises(StudyUnknown):
        book.decide(OTHER, "Observation/1", "add", "unknown")
    with pytest.raises(StudyUnknown):
        book.view(OTHER)
    assert site.rows("SELECT count(*) FROM link_decision")[0][0] == 4
    said = [one.sentence for one in site.view().events if one.event == "link.decided"]
    assert len(said) == 4
    assert not any("error" in one for one in said)  # the reason may name somebody


def test_a_decision_during_a_step_is_not_missed(site: Site) -> None:
    site.deliver(received([1]))
    claimed = site.claim()
    site.ledger.links.decide(STUDY, "Observation/1", "add", "because")
    assert site.ledger.settle(claimed, linked()) is State.RECEIVED


def test_a_held_study_is_tried_again_when_a_person_decides(site: Site) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), held("PATIENT-CHANGED"))
    site.ledger.links.decide(STUDY, "Observation/1", "add", "because")
    assert state(site, STUDY) == "ready"


def test_what_is_left_of_a_study_out_of_scope_says_only_which_links_are_ours(site: Site) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), linked(TAKEN, FOREIGN, REFUSED))
    site.deliver(received([2]))
    site.ledger.settle(site.claim(), left_out())
    (left,) = site.ledger.links.view(STUDY).rows
    assert left == TAKEN._replace(reason="", low=None, high=None)


@pytest.mark.parametrize(
    "impossible",
    [
        "UPDATE link SET verdict = 'perhaps'",
        "UPDATE link SET taken = (1 = 0)",
        "UPDATE link_decision SET verb = 'maybe'",
    ],
)
def test_the_database_refuses_the_impossible(site: Site, impossible: str) -> None:
    site.deliver(received([1]))
    site.ledger.settle(site.claim(), linked(TAKEN))
    site.ledger.links.decide(STUDY, "Observation/1", "add", "because")
    database = site.ledger._database
    with pytest.raises(LedgerRefused), database.write() as connection:
        connection.exec_driver_sql(impossible)
