"""The step of a study on which archives and modalities disagree, against the sandbox's FHIR."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from flute_sync.intake import Noticed, Received, Stated, StepStatus
from flute_sync.sandbox.server import Sandbox
from flute_sync.sources.study_reading import Service
from flute_sync.study import (
    Code,
    Header,
    Issuer,
    KeyObjects,
    PatientAttributes,
    PatientId,
    Reference,
    StudyInstanceUID,
)
from flute_sync.task import State
from flute_sync.terminology import KEY_OBJECT_SELECTION, REJECTED_FOR_PATIENT_SAFETY
from tests.contract.fhir_rest import create, new_patient
from tests.contract.ledger_site import OTHER, STUDY, header, received
from tests.integration.two_archives import STEP, SYSTEM, Daemon, images, resource

BEGUN, ENDED, STOPPED = StepStatus.IN_PROGRESS, StepStatus.COMPLETED, StepStatus.DISCONTINUED


@pytest.fixture
def fhir(tmp_path: Path) -> Iterator[httpx.Client]:
    with (
        Sandbox(tmp_path) as sandbox,
        httpx.Client(base_url=sandbox.fhir_url, timeout=60) as client,
    ):
        create(client, new_patient(SYSTEM, "p1"))
        create(client, new_patient(SYSTEM, "p2"))
        yield client


@pytest.fixture
def daemon(tmp_path: Path, fhir: httpx.Client) -> Iterator[Daemon]:
    made = Daemon(tmp_path, str(fhir.base_url).rstrip("/"))
    yield made
    made.close()


def test_a_study_from_its_step_to_its_images(daemon: Daemon, fhir: httpx.Client) -> None:
    daemon.perform(BEGUN)
    assert daemon.work().startswith(State.COMPLETED)
    registered = resource(fhir)
    assert registered is not None
    assert registered["status"] == "registered"
    assert registered["modality"][0]["code"] == "MR"
    assert "endpoint" not in registered
    daemon.perform(STOPPED)
    daemon.work()
    assert (resource(fhir) or {})["status"] == "cancelled"
    daemon.first.received = images("p1")
    said = daemon.read(daemon.first)
    available = resource(fhir)
    assert available is not None
    assert (available["status"], available["numberOfInstances"]) == ("available", 2)
    assert available["id"] == registered["id"]
    assert "study-reappeared" in said


def test_a_completed_step_of_which_no_archive_knows_stays_registered(
    daemon: Daemon, fhir: httpx.Client
) -> None:
    daemon.perform(ENDED)
    assert daemon.read(daemon.first, daemon.second).startswith(State.COMPLETED)
    assert (resource(fhir) or {})["status"] == "registered"


def test_a_step_of_another_patient_holds_the_study_until_a_person_decides(
    daemon: Daemon, fhir: httpx.Client
) -> None:
    daemon.perform(ENDED, "p2")
    daemon.first.received = images("p1")
    assert "PATIENT-STEP-CONFLICT" in daemon.read(daemon.first)
    assert resource(fhir) is None
    daemon.ledger.replay(STUDY)
    assert daemon.work().startswith(State.COMPLETED)
    assert (resource(fhir) or {})["status"] == "available"
    daemon.first.received = images("p1", numbers=range(1, 4))
    assert daemon.read(daemon.first).startswith(State.COMPLETED)


def test_a_step_that_names_nobody_waits_for_images(daemon: Daemon, fhir: httpx.Client) -> None:
    daemon.perform(BEGUN, None)
    assert daemon.work().startswith(State.CANCELLED)
    assert resource(fhir) is None
    daemon.first.received = images("p1")
    daemon.read(daemon.first)
    assert (resource(fhir) or {})["status"] == "available"


def test_a_step_of_an_unwanted_modality_stays_out(tmp_path: Path, fhir: httpx.Client) -> None:
    daemon = Daemon(tmp_path, str(fhir.base_url).rstrip("/"), modalities=["MR"])
    daemon.perform(BEGUN, modality="CT")
    assert "another modality" in daemon.work()
    (step,) = daemon.ledger.performed_step(STEP)
    assert step.header.patient == PatientAttributes()
    daemon.deliver(performed=(step._replace(status=ENDED),))
    assert "another modality" in daemon.work()
    assert resource(fhir) is None
    daemon.close()


@pytest.mark.parametrize("order", ["12", "21", "1212", "2121", "1221"])
def test_archives_with_two_patients_are_never_written(
    daemon: Daemon, fhir: httpx.Client, order: str
) -> None:
    daemon.first.received, daemon.second.received = images("p1"), images("p2")
    shelves = {"1": daemon.first, "2": daemon.second}
    daemon.deliver("first", noticed=(Noticed(STUDY),))
    daemon.deliver("second", noticed=(Noticed(STUDY),))
    assert "PATIENT-CONFLICT" in daemon.work()
    assert "PATIENT-CONFLICT" in daemon.read(*(shelves[one] for one in order))
    assert resource(fhir) is None
    daemon.second.received = images("p1")
    assert daemon.read(daemon.second).startswith(State.COMPLETED)


@pytest.mark.parametrize("order", ["12", "21"])
def test_who_came_first_stays_when_another_archive_contradicts(
    daemon: Daemon, fhir: httpx.Client, order: str
) -> None:
    """What is in FHIR stays as it is: no identity flips by what was read last."""
    daemon.first.received, daemon.second.received = images("p1"), images("p2")
    shelves = {"1": daemon.first, "2": daemon.second}
    for one in order[0], order[1], order[0], order[1]:
        daemon.read(shelves[one])
    written = resource(fhir)
    assert written is not None
    assert written["meta"]["versionId"] == "1"
    assert daemon.ledger.study_view(STUDY).code == "PATIENT-CONFLICT"


def test_headers_that_differ_are_not_written_to_and_fro(daemon: Daemon, fhir: httpx.Client) -> None:
    daemon.first.received = images("p1", "as the first says it")
    daemon.second.received = images("p1", "as the second says it")
    daemon.read(daemon.second, daemon.first)
    once = resource(fhir)
    assert once is not None
    assert once["series"][0]["description"] == "as the first says it"
    assert len(once["endpoint"]) == 4
    for order in ((daemon.second, daemon.first), (daemon.first, daemon.second)) * 2:
        daemon.read(*order)
    assert resource(fhir) == once
    daemon.first.received = images("p1", "as the first says it", range(1, 2))
    daemon.read(daemon.first)
    assert daemon.ledger.next_due() is None
    both = resource(fhir)
    assert both is not None
    assert both["numberOfInstances"] == 2
    daemon.read(daemon.second, daemon.first)
    assert resource(fhir) == both


def test_series_without_instances_are_written_and_replaced(
    daemon: Daemon, fhir: httpx.Client
) -> None:
    told = images("p1")
    series = told[0].series_instance_uid
    said = replace(told[0].instance.header, sop_class_uid="")
    daemon.first.received, daemon.first.stated = (), (Stated(STUDY, series, said, 20),)
    assert "series-without-instances" in daemon.read(daemon.first)
    once = resource(fhir)
    assert once is not None
    assert "instance" not in once["series"][0]
    assert (once["status"], once["numberOfInstances"]) == ("available", 20)
    daemon.read(daemon.first)
    assert resource(fhir) == once
    daemon.first.received, daemon.first.stated = told, ()
    daemon.read(daemon.first)
    after = resource(fhir)
    assert after is not None
    assert len(after["series"][0]["instance"]) == 2
    assert after["numberOfInstances"] == 2


@pytest.mark.parametrize("service", ["c-find", "qido-rs", "wado-rs"])
def test_an_issuer_that_a_search_leaves_out_stays_stated(
    daemon: Daemon, fhir: httpx.Client, service: Service
) -> None:
    """The number of another issuer must not become one of the archive's own."""
    foreign = PatientAttributes(id=PatientId("p1", Issuer("ELSEWHERE")))
    daemon.deliver(received=received([1, 2], said=replace(header(""), patient=foreign)))
    assert "PATIENT-ISSUER-UNKNOWN" in daemon.work()
    daemon.first.received, daemon.first.service = images("p1"), service
    said = daemon.read(daemon.first, daemon.first)
    assert ("PATIENT-ISSUER-UNKNOWN" in said) is (service != "wado-rs")
    assert (resource(fhir) is None) is (service != "wado-rs")


def test_what_came_to_us_is_not_lost_where_its_archive_does_not_find_it_yet(
    daemon: Daemon, fhir: httpx.Client
) -> None:
    """A router may send to us first, and what notices changes may be faster than the archive."""
    daemon.deliver(received=images("p1"), noticed=(Noticed(STUDY),))
    assert "ARCHIVE-STUDY-ABSENT" in daemon.work()
    assert daemon.ledger.study_view(STUDY).instances == 2
    daemon.first.received = images("p1")
    assert daemon.read(daemon.first).startswith(State.COMPLETED)
    assert (resource(fhir) or {})["status"] == "available"


@pytest.mark.parametrize("systems", [{}, {"second": "urn:test:other"}])
def test_the_numbers_of_an_archive_that_left_are_not_taken_for_anothers(
    tmp_path: Path, fhir: httpx.Client, systems: dict[str, str]
) -> None:
    """Where each archive numbers by itself, whose numbers these were is not known any more."""
    daemon = Daemon(tmp_path, str(fhir.base_url).rstrip("/"), systems)
    daemon.deliver("before", received=images("p1"))
    said = daemon.work()
    assert ("PATIENT-SYSTEM-UNKNOWN" in said, resource(fhir) is None) == (bool(systems),) * 2
    daemon.close()


# -- what a person decides, and what a note may take back -----------------------------------------


@pytest.mark.parametrize("asked", ["step", "patient"])
def test_a_person_confirms_whom_the_study_was_held_for_and_nobody_else(
    daemon: Daemon, fhir: httpx.Client, asked: str
) -> None:
    create(fhir, new_patient(SYSTEM, "p3"))
    daemon.first.received = images("p1")
    daemon.read(daemon.first)
    before = resource(fhir)
    if asked == "step":
        daemon.perform(ENDED, "p2")
        assert "PATIENT-STEP-CONFLICT" in daemon.work()
    else:
        daemon.first.received = images("p2")
        assert "PATIENT-CHANGED" in daemon.read(daemon.first)
    daemon.first.received = images("p3")
    daemon.ledger.replay(STUDY)
    assert daemon.work().startswith(State.ON_HOLD)
    assert resource(fhir) == before
    daemon.ledger.replay(STUDY)
    assert daemon.work().startswith(State.COMPLETED)
    assert "moved to another Patient" in (daemon.ledger.study_view(STUDY).sentence or "")


def _note(patient: str, study: StudyInstanceUID, rejected: tuple[Received, ...]) -> Received:
    (note,) = received([90], study=study)
    said = Header(
        KEY_OBJECT_SELECTION,
        PatientAttributes(id=PatientId(patient)),
        key_objects=KeyObjects(
            Code(REJECTED_FOR_PATIENT_SAFETY, "DCM"),
            tuple(
                Reference(one.study_instance_uid, one.series_instance_uid, uid)
                for one in rejected
                for uid in [one.instance.sop_instance_uid]
            ),
        ),
    )
    return note._replace(instance=note.instance._replace(header=said))


@pytest.mark.parametrize(("patient", "status"), [("p1", "entered-in-error"), ("p2", "available")])
def test_a_note_in_a_study_of_another_patient_takes_nothing_back(
    daemon: Daemon, fhir: httpx.Client, patient: str, status: str
) -> None:
    daemon.first.received = images("p1")
    daemon.read(daemon.first)
    daemon.deliver(received=(_note(patient, OTHER, images("p1")),))
    daemon.work()
    assert (resource(fhir) or {})["status"] == status


def test_a_note_of_somebody_else_in_a_study_is_a_contradiction(
    daemon: Daemon, fhir: httpx.Client
) -> None:
    daemon.first.received = images("p1")
    daemon.read(daemon.first)
    before = resource(fhir)
    daemon.first.received += (_note("p2", STUDY, images("p1")[:1]),)
    assert "PATIENT-CONFLICT" in daemon.read(daemon.first)
    assert resource(fhir) == before
