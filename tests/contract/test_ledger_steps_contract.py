"""Procedure steps in the ledger, in whatever order they are told."""

from itertools import permutations

import pytest

from flute_sync.events import Event
from flute_sync.intake import Delivery, Performed, StepStatus
from flute_sync.ledger_errors import LedgerRefused
from flute_sync.study import (
    Code,
    Header,
    PatientAttributes,
    PatientId,
    SeriesAttributes,
    Step,
    StudyAttributes,
    StudyInstanceUID,
)
from flute_sync.task import State
from tests.contract.ledger_site import OTHER, QUIET, STUDY, Site, left_out, received, synced

STEP = "1.2.9.1"
SOP_CLASS = "1.2.840.10008.3.1.2.3.3"
SAID = Header(
    SOP_CLASS,
    PatientAttributes(id=PatientId("P1"), name="Known^Name"),
    StudyAttributes(procedure_codes=(Code("RPID2235", "RADLEX"),), description="Prostate"),
    SeriesAttributes(modality="MR"),
)
BEGUN, ENDED, STOPPED = StepStatus.IN_PROGRESS, StepStatus.COMPLETED, StepStatus.DISCONTINUED


def tell(
    site: Site,
    status: StepStatus,
    said: Header = SAID,
    *,
    uid: str = STEP,
    study: StudyInstanceUID = STUDY,
    archive: str = "pacs",
    caller: str | None = "MR1",
) -> None:
    performed = (Performed(uid, study, status, said),)
    site.ledger.deliver(
        Delivery("mpps", archive, site.clock(), performed=performed, calling_ae_title=caller)
    )


def test_a_step_makes_a_study_known(site: Site) -> None:
    tell(site, BEGUN)
    assert site.ledger.next_due() == site.clock.now + QUIET
    claimed = site.claim()
    assert (claimed.reads_owed, claimed.absences) == ((), ())
    study = site.ledger.load(claimed)
    assert study.steps == (Step(STEP, BEGUN, SAID, "pacs"),)
    assert (study.series, study.vanished) == ((), False)
    assert study.calling_ae_titles == {"MR1"}
    assert set(study.evidence) == {SAID}
    assert site.ledger.performed_step(STEP) == (Performed(STEP, STUDY, BEGUN, SAID),)
    assert site.ledger.performed_step("1.2.9.2") == ()
    assert site.ledger.held("pacs", None, 10) == ()
    assert Event.STUDY_NOTICED in [entry.event for entry in site.view().events]


def test_the_same_again_changes_nothing(site: Site) -> None:
    tell(site, BEGUN)
    site.sync()
    before = site.unchanged()
    site.clock.pass_(QUIET)
    tell(site, BEGUN)
    assert site.unchanged() == before
    tell(site, ENDED)
    assert site.view().state == State.RECEIVED
    site.sync()
    before = site.unchanged()
    for status in (BEGUN, STOPPED, ENDED):
        tell(site, status)
    assert site.unchanged() == before


@pytest.mark.parametrize("order", list(permutations([BEGUN, STOPPED, ENDED])))
def test_the_furthest_status_stands_in_any_order(site: Site, order: tuple[StepStatus, ...]) -> None:
    for status in (*order, *order):
        tell(site, status)
        site.clock.pass_(QUIET)
    (step,) = site.ledger.load(site.claim()).steps
    assert step.status is ENDED


@pytest.mark.parametrize("late", [True, False])
def test_what_one_message_leaves_out_another_says(site: Site, late: bool) -> None:
    end = Header(SOP_CLASS, study=StudyAttributes(description="Prostate, repeated"))
    told = [(BEGUN, SAID), (ENDED, end)]
    for status, said in reversed(told) if late else told:
        tell(site, status, said)
        site.clock.pass_(QUIET)
    (step,) = site.ledger.load(site.claim()).steps
    assert step.status is ENDED
    assert (step.header.patient, step.header.series) == (SAID.patient, SAID.series)
    assert step.header.study.description == "Prostate, repeated"
    assert step.header.study.procedure_codes == SAID.study.procedure_codes


def test_a_step_in_progress_is_as_it_was_told_last(site: Site) -> None:
    tell(site, BEGUN)
    site.clock.pass_(QUIET)
    tell(site, BEGUN, Header(SOP_CLASS, series=SeriesAttributes(modality="CT")))
    (step,) = site.ledger.performed_step(STEP)
    assert (step.header.series.modality, step.header.patient) == ("CT", SAID.patient)


def test_one_step_may_be_of_several_studies(site: Site) -> None:
    both = tuple(Performed(STEP, study, BEGUN, SAID) for study in (OTHER, STUDY))
    site.ledger.deliver(Delivery("mpps", "pacs", site.clock(), performed=both))
    assert [one.study_instance_uid for one in site.ledger.performed_step(STEP)] == [STUDY, OTHER]
    tell(site, ENDED)
    assert [one.status for one in site.ledger.performed_step(STEP)] == [ENDED, BEGUN]


def test_several_steps_of_one_study_in_one_commit(site: Site) -> None:
    steps = tuple(Performed(f"1.2.9.{n}", STUDY, BEGUN, SAID) for n in (2, 1, 2))
    site.ledger.deliver(Delivery("mpps", "pacs", site.clock(), performed=steps))
    study = site.ledger.load(site.claim())
    assert [step.sop_instance_uid for step in study.steps] == ["1.2.9.1", "1.2.9.2"]


def test_images_and_steps_stand_side_by_side(site: Site) -> None:
    tell(site, BEGUN)
    site.deliver(received([1]))
    study = site.ledger.load(site.claim())
    assert len(study.steps) == len(study.series) == 1
    assert SAID not in study.evidence


def test_an_archive_that_never_had_it_misses_nothing(site: Site) -> None:
    tell(site, ENDED)
    site.notice()
    claimed = site.claim()
    site.snapshot(claimed, absent=True)
    assert not site.ledger.load(claimed).vanished
    site.ledger.settle(claimed, synced())
    site.deliver(received([1]))
    claimed = site.claim()
    site.snapshot(claimed, absent=True, believed=True)
    assert site.ledger.load(claimed).vanished


def test_out_of_scope_it_names_nobody_and_may_still_end(site: Site) -> None:
    tell(site, BEGUN)
    site.ledger.settle(site.claim(), left_out())
    assert site.view().is_pruned
    assert "Known" not in str(site.rows("SELECT text FROM procedure_step"))
    (step,) = site.ledger.performed_step(STEP)
    assert step.header == Header(
        SOP_CLASS,
        study=StudyAttributes(procedure_codes=SAID.study.procedure_codes),
        series=SAID.series,
    )
    tell(site, ENDED, step.header)
    assert site.ledger.performed_step(STEP) == (step._replace(status=ENDED),)
    assert site.view().state == State.RECEIVED


def test_a_person_may_say_that_the_archive_is_right(site: Site) -> None:
    tell(site, ENDED)
    site.deliver(received([1]))
    site.sync()
    site.execute("UPDATE study SET state = 'on-hold', unsynced_since = received_at")
    site.execute("UPDATE study SET code = 'PATIENT-STEP-CONFLICT'")
    site.ledger.replay(STUDY)
    claimed = site.claim()
    assert claimed.confirmed
    assert site.ledger.load(claimed).steps[0].header == SAID
    site.ledger.settle(claimed, synced())
    (step,) = site.ledger.performed_step(STEP)
    assert step.header.patient == PatientAttributes()


def test_a_step_of_unknown_characters_is_refused(site: Site) -> None:
    with pytest.raises(LedgerRefused):
        tell(site, BEGUN, uid="1" * 65 if site.url.startswith("sqlite") else "")
    assert site.rows("SELECT count(*) FROM study")[0][0] == 0


@pytest.mark.parametrize(
    "impossible",
    [
        "UPDATE procedure_step SET status = 'SCHEDULED'",
        "UPDATE procedure_step SET study_id = 99",
        "UPDATE procedure_step SET archive_id = 99",
        "UPDATE procedure_step SET sop_instance_uid = ''",
    ],
)
def test_the_database_refuses_the_impossible(site: Site, impossible: str) -> None:
    tell(site, BEGUN)
    database = site.ledger._database
    with pytest.raises(LedgerRefused), database.write() as connection:
        connection.exec_driver_sql(impossible)
