"""Notifications and steps as pynetdicom sends them, over the network."""

import logging
import threading
from collections.abc import Iterator

import pytest
from pydicom.tag import Tag

from flute_sync.intake import Notice, StepStatus
from flute_sync.ledger_errors import LedgerUnavailable
from flute_sync.sources.dimse_acceptor import Acceptor
from flute_sync.sources.dimse_services import NormalizedServices
from flute_sync.sources.header_settings import HeaderSettings
from flute_sync.sources.ian import InstanceAvailability
from flute_sync.sources.mpps import PerformedSteps
from tests.dimse import listening
from tests.dimse_requests import (
    IAN,
    MPPS,
    SYNTAXES,
    associated,
    available,
    becomes,
    notification,
    step,
)
from tests.intake import MemoryIntake

STUDY = "1.2.840.1"
ARCHIVES = {"pacs": frozenset({"PACS"}), "old": frozenset({"OLD"})}


@pytest.fixture
def intake() -> MemoryIntake:
    return MemoryIntake()


@pytest.fixture
def acceptor(intake: MemoryIntake) -> Iterator[Acceptor]:
    header = HeaderSettings()
    services = NormalizedServices(
        [
            InstanceAvailability(intake, ARCHIVES, header),
            PerformedSteps(intake, "pacs", ["pacs"], header),
        ]
    )
    with listening(intake, (services,)) as running:
        yield running


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_notification(acceptor: Acceptor, intake: MemoryIntake, syntax: str) -> None:
    with associated(acceptor.port, IAN, syntax) as association:
        for _ in range(2):
            told = notification(STUDY, [available("1.1"), available("1.2", "UNAVAILABLE")])
            status, _ = association.send_n_create(told, IAN, "1.2.3.4")
            assert status.Status == 0
    assert [(one.archive, one.noticed[0].notice) for one in intake.deliveries] == [
        ("pacs", Notice.CHANGED)
    ] * 2


def test_a_notification_without_a_uid_of_its_own(acceptor: Acceptor, intake: MemoryIntake) -> None:
    with associated(acceptor.port, IAN) as association:
        told = notification(STUDY, [available("1.1")])
        status, _ = association.send_n_create(told, IAN, None)
        assert status.Status == 0
    assert intake.noticed


def test_what_is_wrong_with_a_notification_is_said(
    acceptor: Acceptor, intake: MemoryIntake, caplog: pytest.LogCaptureFixture
) -> None:
    missing = notification(STUDY, [available("1.1")])
    del missing.StudyInstanceUID
    wrong = notification(STUDY, [available("1.1", "NOWHERE")])
    with associated(acceptor.port, IAN) as association:
        for told, expected in ((missing, 0x0120), (wrong, 0x0106)):
            status, _ = association.send_n_create(told, IAN, "1.2.3.4")
            assert status.Status == expected
            assert status.ErrorComment.startswith("DIMSE-ATTRIBUTE-")
        intake.failure = LedgerUnavailable()
        status, _ = association.send_n_create(
            notification(STUDY, [available("1.1")]), IAN, "1.2.3.4"
        )
        assert status.Status == 0x0110
    assert not intake.deliveries
    assert "NOWHERE" not in caplog.text


def test_a_step_from_its_beginning_to_its_end(acceptor: Acceptor, intake: MemoryIntake) -> None:
    with associated(acceptor.port, MPPS) as association:
        status, _ = association.send_n_set(becomes("COMPLETED"), MPPS, "1.2.3")
        assert status.Status == 0x0112
        status, _ = association.send_n_create(step(STUDY), MPPS, "1.2.3")
        assert status.Status == 0
        status, _ = association.send_n_create(step(STUDY), MPPS, "1.2.3")
        assert status.Status == 0x0111
        status, _ = association.send_n_set(becomes("COMPLETED", "1.2.9"), MPPS, "1.2.3")
        assert status.Status == 0
        status, _ = association.send_n_set(becomes("DISCONTINUED"), MPPS, "1.2.3")
        assert (status.Status, status.ErrorID) == (0x0110, 0xA710)
    (found,) = intake.performed_step("1.2.3")
    assert found.status is StepStatus.COMPLETED


def test_no_patient_is_in_the_log(acceptor: Acceptor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with associated(acceptor.port, MPPS) as association:
        association.send_n_create(step(STUDY), MPPS, "1.2.3")
        association.send_n_create(step(STUDY, status="EVA"), MPPS, "1.2.4")
    ours = [record for record in caplog.records if record.name.startswith("flute_sync")]
    assert ours
    for record in ours:
        said = f"{record.getMessage()} {record.__dict__}"
        assert not any(word in said for word in ("Eva", "EVA", "PX7", "19700102", "A0"))


def test_operations_that_are_not_served(acceptor: Acceptor) -> None:
    with associated(acceptor.port, MPPS) as association:
        status, _ = association.send_n_get([Tag(0x0040_0252)], MPPS, "1.2.3")
        assert status.Status != 0
    with associated(acceptor.port, IAN) as association:
        status, _ = association.send_n_set(becomes("COMPLETED"), IAN, "1.2.3")
        assert status.get("Status") != 0  # nor any: the association is ended


def test_many_modalities_at_once(acceptor: Acceptor, intake: MemoryIntake) -> None:
    statuses = []

    def perform(number: int) -> None:
        with associated(acceptor.port, MPPS) as association:
            for word in ("COMPLETED", "COMPLETED"):
                association.send_n_create(step(f"1.9.{number}"), MPPS, f"1.8.{number}")
                status, _ = association.send_n_set(becomes(word), MPPS, f"1.8.{number}")
                statuses.append(status.Status)

    threads = [threading.Thread(target=perform, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [0] * 8 + [0x0110] * 8
