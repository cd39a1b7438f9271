"""Erasing a patient from the ledger, on SQLite and PostgreSQL."""

import threading
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flute_sync.erase_errors import PatientErased
from flute_sync.events import Event
from flute_sync.intake import Cursor, Delivery, Noticed, Performed, Refused, StepStatus
from flute_sync.ledger import LinkRow, PatientMarks, Settlement
from flute_sync.ledger.columns import pack_uid
from flute_sync.ledger_errors import LeaseLost, LedgerBusy, StudyUnknown
from flute_sync.study import (
    Code,
    Header,
    KeyObjects,
    PatientAttributes,
    PatientId,
    Reference,
    SeriesInstanceUID,
    SOPInstanceUID,
    StudyInstanceUID,
)
from flute_sync.task import State, TaskEvent
from tests.contract.ledger_site import HEADER, OTHER, STUDY, Site, held, received, synced

PERSON = "P-4711-withdrawn"
NAME = "Erased^Emil"
MINE = StudyInstanceUID("1.2.826.4711.1")
LATER = StudyInstanceUID("1.2.826.4711.2")
SAID = replace(HEADER, patient=PatientAttributes(id=PatientId(PERSON), name=NAME))
PATIENT = "Patient/withdrawn-17"
SIGNS = (".4711.", "P-4711", "is-4711", "Observation/4711")
"""No hash can look like these."""
MARKS = PatientMarks(
    references=frozenset({PATIENT}),
    keys=frozenset({f"urn:x|{PERSON}"}),
    stated=frozenset({PatientId(PERSON)}),
    studies=frozenset({MINE}),
)


def deliver(site: Site, study: StudyInstanceUID = MINE, said: Header = SAID) -> frozenset[str]:
    items = received([1, 2], study=study, said=said)
    return site.ledger.deliver(Delivery("stow_rs", "pacs", site.clock(), items))


def fill(site: Site) -> None:
    """Let every table hold something of the patient, and the most of somebody else."""
    site.deliver(received([1, 2]))
    site.sync()
    deliver(site)
    step = Performed("1.2.826.4711.9", MINE, StepStatus.IN_PROGRESS, SAID)
    site.deliver(performed=(step,), refused=(Refused(MINE, "DICOM-UID-MISSING"),))
    claimed = site.claim()
    link = LinkRow("Observation/4711", "PSA", "rule", "certain", "since", taken=True, ours=True)
    site.ledger.links.plan(claimed, [link])
    said = (
        Reference(LATER, SeriesInstanceUID("1.2.826.4711.3"), SOPInstanceUID("1.2.826.4711.4")),
    )
    site.ledger.keep_notes(claimed, [KeyObjects(Code("113001", "DCM"), said)])
    written = synced("is-4711", identity="all", keys=("k-4711", "k-4712"))
    site.ledger.settle(claimed, replace(written, patient_reference=PATIENT))
    site.ledger.links.decide(MINE, "Observation/4711", "remove", f"{NAME} says so")
    site.ledger.links.judge_again([PATIENT])
    site.ledger.deliver(
        Delivery("stow_rs", "pacs", site.clock(), refused=(Refused(LATER, "DICOM-UID-MISSING"),))
    )
    site.ledger.set_cursor(Cursor("qido_rs sweep", "pacs", f"2026-11-22 {MINE}"))
    site.ledger.intend("stow_rs", "pacs", [MINE])
    site.clock.pass_(timedelta(minutes=5))


def erase(site: Site) -> int:
    erasures = site.ledger.erasures
    number = erasures.begin(MARKS, ["ImagingStudy/is-4711"])
    uids = {MINE, LATER} | {one.study_instance_uid for one in erasures.held([PATIENT], [])}
    erasures.forget(number, uids, [PATIENT], ["Observation/4711"])
    erasures.done_with(["ImagingStudy/is-4711"])
    erasures.finish(MARKS, "A patient was erased: 1 study.")
    return number


def everything(site: Site) -> str:
    tables = site.rows(
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if site.url.startswith("sqlite")
        else "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    return "\n".join(str(site.rows(f"SELECT * FROM {table}")) for (table,) in tables)


def test_nothing_of_the_patient_is_left_and_nothing_of_others_goes(site: Site) -> None:
    fill(site)
    before = site.view(STUDY)
    assert all(one in everything(site) for one in SIGNS)
    number = erase(site)
    left = everything(site)
    for marker in (*SIGNS, NAME, "withdrawn", "Emil"):
        assert marker not in left
    assert site.view(STUDY) == before
    with pytest.raises(StudyUnknown):
        site.view(MINE)
    (erasure,) = site.ledger.erasures.of(PatientMarks(keys=MARKS.keys))
    assert (erasure.id, erasure.items) == (number, ())
    assert erasure.finished_at is not None


def test_his_studies_are_found_by_each_of_several_numbers(site: Site) -> None:
    fill(site)
    for key in ("all", "k-4711", "k-4712"):
        (found,) = site.ledger.erasures.held([], [key])
        assert found.study_instance_uid == MINE
    erase(site)
    assert site.rows("SELECT * FROM identity_key") == []


def test_whose_name_only_begins_alike_is_not_forgotten(site: Site) -> None:
    alike = StudyInstanceUID(f"{LATER}1")
    site.ledger.deliver(
        Delivery("stow_rs", "pacs", site.clock(), refused=(Refused(alike, "DICOM-UID-MISSING"),))
    )
    kept = {"a": f"on {MINE}.5", "b": f"on 3.{MINE}", "c": f"at {PATIENT}0", "d": f"{PATIENT}.x"}
    for source, value in kept.items():
        site.ledger.set_cursor(Cursor(source, "pacs", value))
    gone = {"e": f'["{MINE}", 5]', "f": f"{MINE}.", "g": f"r4/{PATIENT}", "h": f"{PATIENT} 3"}
    for source, value in gone.items():
        site.ledger.set_cursor(Cursor(source, "pacs", value))
    erase(site)
    assert {one: site.ledger.cursor(one, "pacs") for one in kept} == kept
    assert {site.ledger.cursor(one, "pacs") for one in gone} == {None}
    sentences = [text for (text,) in site.rows("SELECT sentence FROM event")]
    assert [one for one in sentences if alike in one]


def test_what_headers_state_counts_as_long_as_they_are_read_alike(site: Site) -> None:
    erase(site)
    deliver(site, MINE)
    erasures = site.ledger.erasures
    erasures.read_as("in another way")
    assert deliver(site, MINE) == {MINE}  # the study itself stays erased
    other = StudyInstanceUID("1.2.826.4711.8")
    assert deliver(site, other) == frozenset()
    erasures.read_as("")
    assert deliver(site, other) == {other}


def test_the_choice_of_an_import_is_forgotten_wherever_it_stands(site: Site) -> None:
    for value in ("", "2026-11-22 40"):
        site.ledger.set_cursor(Cursor("import 0011223344556677", "pacs", value))
        erase(site)
        assert site.ledger.cursor("import 0011223344556677", "pacs") is None


def test_the_database_file_keeps_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    site = Site(f"sqlite:///{path}")
    fill(site)
    packed = pack_uid(f"{MINE}.1.1")
    markers = (PERSON, NAME, MINE, LATER, "withdrawn-17", "is-4711", "Observation/4711")
    said = [*(one.encode() for one in markers), packed]
    assert [one for one in said if one in raw(path)] == said
    erase(site)
    assert site.ledger.erasures.clean()
    assert [one for one in said if one in raw(path)] == []
    assert HEADER.patient.name is not None
    assert HEADER.patient.name.encode() in raw(path)  # somebody else's: the scan does see names
    site.close()


def raw(path: Path) -> bytes:
    return b"".join(one.read_bytes() for one in sorted(path.parent.glob(f"{path.name}*")))


def test_nothing_of_an_erased_study_is_taken_again(site: Site) -> None:
    fill(site)
    erase(site)
    before = everything(site)
    assert deliver(site, said=HEADER) == {MINE}  # by its UID, whomever it names now
    for more in (
        {"noticed": (Noticed(MINE),)},
        {"performed": (Performed("1.2.826.4711.9", MINE, StepStatus.IN_PROGRESS, SAID),)},
        {"refused": (Refused(MINE, "DICOM-UID-MISSING"),)},
    ):
        assert site.ledger.deliver(Delivery("x", "pacs", site.clock(), **more)) == {MINE}
    intent = site.ledger.intend("stow_rs", "pacs", [MINE])
    site.ledger.extend(intent, [MINE])
    assert not any(one in everything(site) for one in SIGNS)
    site.ledger.abandon(intent)
    assert not any(one in everything(site) for one in SIGNS)
    assert everything(site).count("study.received") == before.count("study.received")


def test_a_new_study_of_an_erased_patient_is_not_taken_and_others_in_its_group_are(
    site: Site,
) -> None:
    site.ledger.erasures.begin(MARKS, [])
    items = (*received([1], study=LATER, said=SAID), *received([1], study=OTHER))
    assert site.ledger.deliver(Delivery("stow_rs", "pacs", site.clock(), items)) == {LATER}
    assert site.view(OTHER).instances == 1
    # Its UID is known from now on, also to those who tell nothing else.
    assert site.ledger.deliver(
        Delivery("qido_rs", "pacs", site.clock(), noticed=(Noticed(LATER),))
    ) == {LATER}
    assert not any(one in everything(site) for one in SIGNS)


def test_what_an_archive_tells_of_an_erased_patient_is_not_kept(site: Site) -> None:
    site.notice(study=LATER)
    site.ledger.erasures.begin(MARKS, [])
    claimed = site.claim()
    with pytest.raises(PatientErased):
        site.snapshot(claimed, received([1], study=LATER, said=SAID))
    assert NAME not in everything(site)
    assert site.ledger.erasures.studies([LATER, OTHER]) == {LATER}
    gone = Settlement(TaskEvent.LEAVE_OUT, "It is gone.", Event.STUDY_ERASED, erase=True)
    assert site.ledger.settle(claimed, gone) is State.CANCELLED
    assert not any(one in everything(site) for one in SIGNS)


def test_a_study_in_hand_is_waited_for_and_then_goes(site: Site) -> None:
    deliver(site)
    claimed = site.claim()
    erasures = site.ledger.erasures
    number = erasures.begin(MARKS, [])
    (found,) = erasures.held([], [], [MINE])
    assert found.in_hand
    with pytest.raises(LedgerBusy):
        erasures.forget(number, [MINE], [PATIENT])
    site.ledger.settle(claimed, held())
    assert not erasures.held([], [], [MINE])[0].in_hand
    assert erasures.forget(number, [MINE], [PATIENT]) == 1
    assert erasures.forget(number, [MINE], [PATIENT]) == 0  # again: nothing more


def test_a_worker_that_was_killed_is_not_waited_for(site: Site) -> None:
    deliver(site)
    claimed = site.claim()
    number = site.ledger.erasures.begin(MARKS, [])
    site.clock.pass_(timedelta(minutes=1))
    assert site.ledger.erasures.forget(number, [MINE], [PATIENT]) == 1
    with pytest.raises(LeaseLost):
        site.ledger.settle(claimed, synced())


def test_his_studies_are_found_by_whatever_they_are_known_by(site: Site) -> None:
    deliver(site)
    site.ledger.settle(site.claim(), held(waiting_for="key-1"))
    site.deliver(received([1], study=OTHER))
    site.ledger.settle(site.claim(), synced("8", identity="key-2"))
    erasures = site.ledger.erasures

    def found(*asked: Any) -> set[str]:
        return {one.study_instance_uid for one in erasures.held(*asked)}

    assert found([], ["key-1"]) == {MINE}
    assert found([], ["key-2"]) == {OTHER}
    assert found(["Patient/1"], []) == {OTHER}
    assert found(["Patient/2"], ["key-3"]) == set()
    assert erasures.naming(PERSON) == {MINE: {("pacs", PatientId(PERSON))}}
    assert erasures.naming("P-4711") == {}
    assert erasures.naming('%"_!') == {}


def test_an_erasure_begun_again_is_the_same(site: Site) -> None:
    erasures = site.ledger.erasures
    first = erasures.begin(MARKS, ["ImagingStudy/1"])
    again = erasures.begin(replace(MARKS, studies=frozenset({LATER})), ["ImagingStudy/2"])
    assert first == again
    (one,) = erasures.of(PatientMarks(references=MARKS.references))
    assert one.items == ("ImagingStudy/1", "ImagingStudy/2")
    assert one.finished_at is None
    assert erasures.studies([MINE, LATER, OTHER]) == {MINE, LATER}
    assert erasures.covers(PatientMarks(stated=MARKS.stated))
    assert not erasures.covers(PatientMarks(keys=frozenset({"urn:y|" + PERSON})))


def test_a_patient_who_consents_again_is_taken_again(site: Site) -> None:
    number = site.ledger.erasures.begin(MARKS, [])
    deliver(site, LATER)
    site.ledger.erasures.lift([number])
    assert site.ledger.erasures.of(MARKS) == []
    assert deliver(site) == deliver(site, LATER) == frozenset()
    assert site.view(LATER).instances == site.view(MINE).instances == 2


def test_marks_mean_nothing_in_another_ledger(site: Site, tmp_path: Path) -> None:
    another = Site(f"sqlite:///{tmp_path}/another.db")
    assert site.ledger.erasures.mark(PATIENT) != another.ledger.erasures.mark(PATIENT)
    assert site.open().erasures.mark(PATIENT) == site.ledger.erasures.mark(PATIENT)
    another.close()


def test_what_arrives_while_a_patient_is_erased_is_not_left_behind(site: Site) -> None:
    """Many senders, one erasure: in the end nothing of him is there, whoever came first."""
    stop = threading.Event()
    site.open()
    senders = [site.open() for _ in range(3)]

    def send(number: int) -> None:
        while not stop.is_set():
            items = received([number], study=MINE, said=SAID)
            senders[number].deliver(Delivery("stow_rs", "pacs", site.clock(), items))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    while not site.rows("SELECT 1 FROM study"):
        pass
    number = site.ledger.erasures.begin(MARKS, [])
    site.ledger.erasures.forget(number, [MINE], [PATIENT])
    stop.set()
    for thread in threads:
        thread.join()
    assert site.rows("SELECT 1 FROM study") == []
