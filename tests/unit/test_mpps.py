"""Modality Performed Procedure Step: what a step says, and how it may change."""

from datetime import UTC, date, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from flute_sync.dimse_errors import (
    AttributeEmpty,
    AttributeInvalid,
    AttributeMissing,
    InstanceUidInvalid,
    StepDuplicate,
    StepEnded,
    StepUnknown,
)
from flute_sync.errors import FluteSyncError
from flute_sync.intake import StepStatus
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.mpps import PerformedSteps
from flute_sync.study import Accession, PatientId
from tests.dimse_requests import MPPS, SYNTAXES, becomes, request, step
from tests.intake import MemoryIntake

STEP, STUDY, OTHER = "1.2.3", "1.2.840.1", "1.2.840.2"
AT = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def steps(intake: MemoryIntake) -> PerformedSteps:
    return PerformedSteps(intake, "pacs", ["old", "pacs"], HeaderSettings(), lambda: AT)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_step_that_begins(steps: PerformedSteps, intake: MemoryIntake, syntax: str) -> None:
    steps.create(request(step(STUDY), STEP, syntax))
    (delivery,) = intake.deliveries
    assert (delivery.source, delivery.archive, delivery.at) == ("mpps", "pacs", AT)
    assert delivery.calling_ae_title == "SENDER"
    assert not delivery.noticed
    (performed,) = delivery.performed
    assert performed[:3] == (STEP, STUDY, StepStatus.IN_PROGRESS)
    header = performed.header
    assert header.sop_class_uid == MPPS
    assert header.patient.id == PatientId("PX7")
    assert (header.patient.name, header.patient.sex) == ("Müller^Eva", "F")
    assert header.patient.birth_date == date(1970, 1, 2)
    assert header.series.modality == "MR"
    assert header.study.accessions == (Accession("A0"),)
    started = header.study.started
    assert started is not None
    assert (started.date, started.time) == (date(2024, 1, 2), time(10, 11, 12))


def test_one_step_for_several_studies(steps: PerformedSteps, intake: MemoryIntake) -> None:
    steps.create(request(step(STUDY, OTHER, STUDY), STEP))
    (delivery,) = intake.deliveries
    found = {one.study_instance_uid: one.header.study.accessions for one in delivery.performed}
    assert found == {STUDY: (Accession("A0"), Accession("A2")), OTHER: (Accession("A1"),)}
    steps.change(request(becomes("DISCONTINUED"), STEP))
    ended = intake.deliveries[-1].performed
    assert {(one.study_instance_uid, one.status) for one in ended} == {
        (STUDY, StepStatus.DISCONTINUED),
        (OTHER, StepStatus.DISCONTINUED),
    }


def test_a_completed_step_lets_every_archive_be_read(
    steps: PerformedSteps, intake: MemoryIntake
) -> None:
    steps.create(request(step(STUDY), STEP))
    begun = intake.deliveries[-1].performed[0].header
    steps.change(request(becomes("COMPLETED", "1.2.9"), STEP))
    later = intake.deliveries[1:]
    assert [(one.archive, len(one.noticed), len(one.performed)) for one in later] == [
        ("old", 1, 0),
        ("pacs", 1, 1),
    ]
    (performed,) = later[-1].performed
    assert performed.status is StepStatus.COMPLETED
    assert performed.header == begun


def test_a_discontinued_step_is_only_looked_up_where_it_names_series(
    steps: PerformedSteps, intake: MemoryIntake
) -> None:
    for number, series in enumerate([(), ("1.2.9",)]):
        uid = f"{STEP}.{number}"
        steps.create(request(step(STUDY), uid))
        intake.deliveries[:-1] = []
        steps.change(request(becomes("DISCONTINUED", *series), uid))
        assert bool(intake.noticed) is bool(series)


def test_without_an_archive_nothing_is_to_be_read(intake: MemoryIntake) -> None:
    steps = PerformedSteps(intake, "pacs", (), HeaderSettings(), lambda: AT)
    steps.create(request(step(STUDY), STEP))
    steps.change(request(becomes("COMPLETED", "1.2.9"), STEP))
    assert [len(one.performed) for one in intake.deliveries] == [1, 1]
    assert not intake.noticed


@pytest.mark.parametrize("dataset", [Dataset(), becomes("IN PROGRESS")])
def test_a_step_that_goes_on_is_no_news(
    steps: PerformedSteps, intake: MemoryIntake, dataset: Dataset
) -> None:
    steps.create(request(step(STUDY), STEP))
    steps.change(request(dataset, STEP))
    assert len(intake.deliveries) == 1


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED"])
def test_a_step_ends_once(steps: PerformedSteps, status: str) -> None:
    steps.create(request(step(STUDY), STEP))
    steps.change(request(becomes(status), STEP))
    for again in ("COMPLETED", "DISCONTINUED", "IN PROGRESS"):
        with pytest.raises(StepEnded) as refusal:
            steps.change(request(becomes(again), STEP))
        assert (refusal.value.dimse_status, refusal.value.error_id) == (0x0110, 0xA710)


def test_a_step_is_created_once_and_before_it_changes(steps: PerformedSteps) -> None:
    with pytest.raises(StepUnknown) as unknown:
        steps.change(request(becomes("COMPLETED"), STEP))
    assert unknown.value.dimse_status == 0x0112
    steps.create(request(step(STUDY), STEP))
    with pytest.raises(StepDuplicate) as duplicate:
        steps.create(request(step(STUDY), STEP))
    assert duplicate.value.dimse_status == 0x0111


@pytest.mark.parametrize("status", ["COMPLETED", "DISCONTINUED", "DONE"])
def test_a_step_begins_in_progress(steps: PerformedSteps, status: str) -> None:
    with pytest.raises(AttributeInvalid) as refusal:
        steps.create(request(step(STUDY, status=status), STEP))
    assert refusal.value.dimse_status == 0x0106


def test_a_status_that_there_is_not(steps: PerformedSteps) -> None:
    steps.create(request(step(STUDY), STEP))
    with pytest.raises(AttributeInvalid):
        steps.change(request(becomes("DONE"), STEP))


@pytest.mark.parametrize(
    "keyword", ["PerformedProcedureStepStatus", "ScheduledStepAttributesSequence"]
)
def test_what_is_required(steps: PerformedSteps, keyword: str) -> None:
    dataset = step(STUDY)
    setattr(dataset, keyword, None)
    with pytest.raises(AttributeEmpty):
        steps.create(request(dataset, STEP))
    delattr(dataset, keyword)
    with pytest.raises(AttributeMissing):
        steps.create(request(dataset, STEP))


def test_a_study_without_uid(steps: PerformedSteps) -> None:
    dataset = step(STUDY, "")
    with pytest.raises(AttributeEmpty):
        steps.create(request(dataset, STEP))


@pytest.mark.parametrize("uid", ["", "1.2.x", "1" * 65])
def test_a_step_without_uid(steps: PerformedSteps, uid: str) -> None:
    for operation in (steps.create, steps.change):
        with pytest.raises(InstanceUidInvalid):
            operation(request(step(STUDY), uid))


def test_nothing_is_answered_before_the_commit(steps: PerformedSteps, intake: MemoryIntake) -> None:
    intake.failure = LedgerUnavailable()
    with pytest.raises(LedgerUnavailable):
        steps.create(request(step(STUDY), STEP))
    steps.create(request(step(STUDY), STEP))
    intake.failure = LedgerUnavailable()
    with pytest.raises(LedgerUnavailable):
        steps.change(request(becomes("COMPLETED"), STEP))
    steps.change(request(becomes("COMPLETED"), STEP))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_understood(data: bytes) -> None:
    steps = PerformedSteps(MemoryIntake(), "pacs", ["pacs"], HeaderSettings(), lambda: AT)
    with pytest.raises(FluteSyncError) as refusal:
        steps.create(request(data, STEP))
    assert refusal.value.dimse_status < 0xA000


@given(st.lists(st.sampled_from(["create", "COMPLETED", "DISCONTINUED", "IN PROGRESS"])))
def test_a_step_has_one_end_whatever_is_asked(asked: list[str]) -> None:
    intake = MemoryIntake()
    steps = PerformedSteps(intake, "pacs", ["pacs"], HeaderSettings(), lambda: AT)
    expected: StepStatus | None = None
    for word in asked:
        try:
            if word == "create":
                steps.create(request(step(STUDY), STEP))
                expected = StepStatus.IN_PROGRESS
            else:
                steps.change(request(becomes(word), STEP))
                expected = StepStatus(word)
        except (StepDuplicate, StepEnded, StepUnknown):
            continue
    found = intake.performed_step(STEP)
    assert (found[0].status if found else None) is expected
    ends = [
        one.status
        for delivery in intake.deliveries
        for one in delivery.performed
        if one.status is not StepStatus.IN_PROGRESS
    ]
    assert len(ends) <= 1
