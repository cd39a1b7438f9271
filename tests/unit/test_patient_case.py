"""What a patient's studies may take while studies of another patient still have it."""

from flute_sync.daemon.patient_case import PatientCase
from flute_sync.fhir.candidates import Evidence
from flute_sync.ledger import HeldLink, LinkedStudy, LinkRow, PatientLinks
from flute_sync.study import StudyInstanceUID
from flute_sync.supporting_info import LinkSettings
from flute_sync.task import State
from tests.histories import PATIENT, Resource, family_history, patient, psa, study, uid

EARLY, LATE = study("early", "2024-01-10"), study("late", "2025-03-10")
VALUES = psa("value", "2025-03-01"), family_history("father")
PSA, FATHER = "Observation/value", "FamilyMemberHistory/father"
ELSEWHERE = StudyInstanceUID("1.2.3.4")


def judged(own: Resource, other: Resource, *rows: LinkRow) -> PatientCase:
    """Judge two studies; the other one is on the server, and has some rows."""
    name = uid(own["id"])
    known = [
        LinkedStudy(StudyInstanceUID(name), State.IN_PROGRESS, None, ()),
        LinkedStudy(StudyInstanceUID(uid(other["id"])), State.COMPLETED, other["id"], rows),
    ]
    resources = {f"{one['resourceType']}/{one['id']}": one for one in (*VALUES, other)}
    return PatientCase(
        Evidence(patient(), {PATIENT}, resources),
        PatientLinks(0, {one.study_instance_uid: one for one in known}),
        LinkSettings(),
        "https://fhir.example/base",
        name,
        own,
    )


def taken(rows: tuple[LinkRow, ...]) -> set[str]:
    return {row.reference for row in rows if row.taken}


def test_what_another_patients_study_has_is_refused_until_it_gives_it_up() -> None:
    case, late = judged(LATE, EARLY), uid("late")
    assert case.gained(late) == {PSA, FATHER}
    assert taken(case.rows(late)) == {PSA, FATHER}
    rows = case.rows(late, [HeldLink(PSA, ELSEWHERE, "9")])
    assert taken(rows) == {FATHER}
    (row,) = [row for row in rows if row.reference == PSA]
    assert not row.ours
    assert row.reason.endswith("; it waits until ImagingStudy/9 gives it up")
    assert row.rule == "time/psa-before"
    (row, *_) = [row for row in case.rows(late, [HeldLink(PSA, ELSEWHERE, None)]) if not row.taken]
    assert row.reason.endswith("; it waits until another study gives it up")


def test_in_the_end_it_counts_as_taken() -> None:
    case, late = judged(LATE, EARLY), uid("late")
    assert taken(case.rows(late, in_the_end=True)) == {PSA, FATHER}


def test_who_has_it_already_keeps_it() -> None:
    """A family history is of several studies: who gains it waits, who has it does not lose it."""
    early, late = uid("early"), uid("late")
    had = [row for row in judged(EARLY, LATE).rows(early) if row.reference == FATHER]
    case = judged(LATE, EARLY, *had)
    assert case.gained(early) == set()
    assert case.gains == {PSA, FATHER}
    held = [HeldLink(FATHER, ELSEWHERE, "9")]
    assert taken(case.rows(late, held)) == {PSA}
    assert taken(case.rows(early, held)) == {FATHER}


def test_a_study_that_is_known_to_wait_is_not_judged_again_for_it() -> None:
    """Two studies that wait for ever would wake each other for ever."""
    early, late = uid("early"), uid("late")
    held = [HeldLink(PSA, ELSEWHERE, "9"), HeldLink(FATHER, ELSEWHERE, "9")]
    waits = judged(LATE, EARLY).rows(late, held)
    case = judged(EARLY, LATE, *waits)
    assert case.gains == {PSA, FATHER}
    assert case.changed(held) == []
    assert case.changed() == [late]
    assert taken(case.rows(early, held)) == set()
