"""Rejection notes and the status they leave."""

from dataclasses import replace

import pytest

from flute_sync.imaging_study import ImagingStudySettings, map_study
from flute_sync.rejection import Status, accepted, notes_on_others, passes_over, standing
from flute_sync.study import Code, KeyObjects, PatientAttributes, PatientId, Reference
from tests.studies import (
    KO,
    MR,
    PATIENT,
    ROOT,
    context,
    header,
    mpmri,
    rejection_note,
    series_of,
    study_of,
    with_series,
)

QUALITY, SAFETY, WORKLIST, RETENTION, OF_INTEREST = "113001", "113037", "113038", "113039", "113000"
FULL = mpmri()
IMAGES = FULL.series[:4]


def status(*notes):
    return standing(with_series(FULL, *notes)).status


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (QUALITY, Status.CANCELLED),
        (SAFETY, Status.ENTERED_IN_ERROR),
        (WORKLIST, Status.ENTERED_IN_ERROR),
        (RETENTION, Status.AVAILABLE),
        (OF_INTEREST, Status.AVAILABLE),
    ],
)
def test_a_note_on_everything_decides_the_status(title, expected):
    assert status(rejection_note(title, FULL.series)) is expected


@pytest.mark.parametrize("title", [QUALITY, SAFETY, WORKLIST, RETENTION, OF_INTEREST])
def test_a_note_on_a_part_leaves_the_study_available(title):
    assert status(rejection_note(title, IMAGES)) is Status.AVAILABLE


def test_different_reasons_cancel():
    notes = rejection_note(QUALITY, IMAGES, 98), rejection_note(SAFETY, FULL.series[4:], 99)
    assert status(*notes) is Status.CANCELLED


def test_both_reasons_on_everything_are_an_error():
    notes = rejection_note(QUALITY, IMAGES, 98), rejection_note(SAFETY, FULL.series, 99)
    assert status(*notes) is Status.ENTERED_IN_ERROR


def test_what_was_taken_back_is_neither_listed_nor_counted():
    study = with_series(FULL, rejection_note(QUALITY, IMAGES[:2]))
    study = replace(study, series_count=7, instance_count=18)
    found = map_study(study, context(), ImagingStudySettings()).resource
    assert [one["number"] for one in found["series"]] == [3, 4, 9, 10]
    assert (found["numberOfSeries"], found["numberOfInstances"]) == (4, 11)


def test_one_rejected_instance_leaves_its_series():
    first = IMAGES[0]
    one = replace(first, instances=first.instances[:1])
    left = standing(with_series(FULL, rejection_note(QUALITY, [one]))).study
    assert left.series[0].instances == first.instances[1:]
    assert left.series[1] is FULL.series[1]


def test_a_note_is_never_listed_but_a_selection_of_interest_is():
    note = standing(with_series(FULL, rejection_note(RETENTION, IMAGES)))
    interest = standing(with_series(FULL, rejection_note(OF_INTEREST, IMAGES)))
    assert (len(note.study.series), note.notes) == (6, 1)
    assert (len(interest.study.series), interest.notes) == (7, 0)


def test_expired_retention_withdraws_the_address_but_not_the_study():
    study = with_series(FULL, rejection_note(RETENTION, FULL.series))
    found = map_study(study, context(), ImagingStudySettings()).resource
    assert found["status"] == "available"
    assert "endpoint" not in found
    assert [one["code"] for one in found["meta"]["tag"]] == ["retention-expired"]
    assert len(found["series"]) == 6


def test_retention_that_expired_in_part_keeps_the_address():
    study = with_series(FULL, rejection_note(RETENTION, IMAGES))
    mapped = map_study(study, context(), ImagingStudySettings())
    assert "endpoint" in mapped.resource
    assert "retention-expired-in-part" in {one.code for one in mapped.remarks}


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (QUALITY, Status.CANCELLED),
        (SAFETY, Status.ENTERED_IN_ERROR),
        (RETENTION, Status.AVAILABLE),
    ],
)
def test_a_note_outlives_what_it_rejects(title, expected):
    state = standing(study_of(rejection_note(title, IMAGES)))
    assert state.status is expected
    assert state.retention_expired is (title == RETENTION)


def test_new_instances_bring_a_rejected_study_back():
    study = with_series(FULL, rejection_note(WORKLIST, FULL.series), series_of(50, header(), 2))
    state = standing(study)
    assert state.status is Status.AVAILABLE
    assert [len(series.instances) for series in state.study.series] == [2]


def test_a_reference_must_name_study_series_and_instance():
    image = IMAGES[0].instances[0]
    own = IMAGES[0].series_instance_uid
    for study_uid, series_uid in (("1.2.3", own), (ROOT, "1.2.3")):
        objects = KeyObjects(
            Code(QUALITY, "DCM"), (Reference(study_uid, series_uid, image.sop_instance_uid),)
        )
        note = series_of(99, header(KO, key_objects=objects))
        assert standing(with_series(FULL, note)).rejected == 0


@pytest.mark.parametrize("scheme", ["99SITE", "SRT"])
def test_only_dicoms_own_titles_reject(scheme):
    objects = KeyObjects(Code(QUALITY, scheme), ())
    assert standing(study_of(series_of(1, header(KO, key_objects=objects)))).notes == 0
    elsewhere = header(MR, key_objects=KeyObjects(Code(QUALITY, "DCM"), ()))
    assert standing(study_of(series_of(1, elsewhere))).notes == 0


@pytest.mark.parametrize(
    ("study", "expected"),
    [
        (study_of(), Status.REGISTERED),
        (study_of(instance_count=0), Status.REGISTERED),
        (study_of(instance_count=3), Status.AVAILABLE),
        (study_of(vanished=True), Status.UNKNOWN),
        (FULL, Status.AVAILABLE),
        (replace(FULL, vanished=True), Status.UNKNOWN),
        (
            replace(with_series(FULL, rejection_note(QUALITY, FULL.series)), vanished=True),
            Status.CANCELLED,
        ),
        (
            replace(with_series(FULL, rejection_note(QUALITY, IMAGES)), vanished=True),
            Status.UNKNOWN,
        ),
    ],
)
def test_status_without_or_beside_notes(study, expected):
    assert standing(study).status is expected


def test_an_error_keeps_identity_and_subject_only():
    study = with_series(FULL, rejection_note(SAFETY, FULL.series))
    found = map_study(study, context(), ImagingStudySettings()).resource
    assert found.keys() == {"resourceType", "meta", "identifier", "status", "subject"}


def _elsewhere(title, series):
    """The rejection note of some series as another study keeps it."""
    (header,) = rejection_note(title, series).headers
    assert header.key_objects is not None
    return replace(FULL, notes_elsewhere=(header.key_objects,))


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (QUALITY, Status.CANCELLED),
        (SAFETY, Status.ENTERED_IN_ERROR),
        (WORKLIST, Status.ENTERED_IN_ERROR),
        (RETENTION, Status.AVAILABLE),
        (OF_INTEREST, Status.AVAILABLE),
    ],
)
def test_a_note_in_another_study_counts_as_one_of_its_own(title, expected):
    state = standing(_elsewhere(title, FULL.series))
    assert (state.status, state.notes) == (expected, 0)
    assert state.retention_expired is (title == RETENTION)
    in_part = standing(_elsewhere(title, IMAGES[:1]))
    assert in_part.status is Status.AVAILABLE
    assert len(in_part.study.series) == len(FULL.series) - (title in {QUALITY, SAFETY, WORKLIST})
    emptied = standing(replace(_elsewhere(title, FULL.series), series=(), vanished=True))
    assert emptied.status is (Status.UNKNOWN if title == OF_INTEREST else expected)


def test_what_a_note_says_of_other_studies_is_told():
    there = Reference("1.2.9", "1.2.9.1", "1.2.9.1.1")
    here = Reference(ROOT, IMAGES[0].series_instance_uid, "1.2.3")
    for title, expected in ((QUALITY, [(there,)]), (OF_INTEREST, [])):
        objects = KeyObjects(Code(title, "DCM"), (here, there))
        study = with_series(FULL, series_of(99, header(KO, key_objects=objects)))
        assert [note.references for note in notes_on_others(study)] == expected
    assert notes_on_others(with_series(FULL, rejection_note(QUALITY, IMAGES))) == ()


def test_a_study_that_moved_was_an_error():
    assert standing(replace(FULL, moved=True)).status is Status.ENTERED_IN_ERROR


def test_corrected_instances_tell_of_whom_a_study_is():
    """A wrong worklist entry: the images of one patient are rejected, another's are right."""
    other = header(patient=PatientAttributes(id=PatientId("OTHER")))
    corrected = replace(series_of(50, other, 2), archives=frozenset({"pacs"}))
    study = with_series(FULL, rejection_note(WORKLIST, FULL.series), corrected)
    named = frozenset({PATIENT.id, PatientId("OTHER")})
    elsewhere = frozenset({PatientId("THIRD")})
    told = accepted(replace(study, patient_ids={"pacs": named, "copy": elsewhere}))
    assert set(told.headers) == {other}
    assert told.patient_ids == {"pacs": {PatientId("OTHER")}, "copy": elsewhere}
    assert accepted(FULL) is FULL
    wholly = with_series(FULL, rejection_note(WORKLIST, FULL.series))
    assert accepted(wholly) is wholly


def test_a_note_that_names_another_patient_is_told_of():
    note = rejection_note(QUALITY, IMAGES)
    stranger = replace(PATIENT, id=PatientId("SOMEBODY-ELSE"))
    other = replace(note.instances[0].header, patient=stranger)
    passed = replace(note, instances=(note.instances[0]._replace(header=other),))
    assert not passes_over(FULL)
    assert not passes_over(with_series(FULL, note))
    assert passes_over(with_series(FULL, passed))
    assert passes_over(accepted(with_series(FULL, passed)))


def test_what_was_taken_back_says_nothing_of_birth_date_and_sex_either():
    wrong, right = PatientId("W"), PatientId("R")
    first = IMAGES[0]
    said = replace(first.instances[0].header, patient=PatientAttributes(wrong, sex="F"))
    mistaken = replace(first, instances=tuple(one._replace(header=said) for one in first.instances))
    note = rejection_note(WORKLIST, [first])
    note = replace(
        note,
        instances=tuple(
            one._replace(header=replace(one.header, patient=PatientAttributes(wrong)))
            for one in note.instances
        ),
    )
    others = tuple(
        replace(
            one,
            instances=tuple(
                each._replace(header=replace(each.header, patient=PatientAttributes(right)))
                for each in one.instances
            ),
        )
        for one in FULL.series[1:]
    )
    study = replace(
        FULL,
        series=(mistaken, *others, note),
        patient_ids={"pacs": frozenset({wrong, right})},
        patients={"pacs": frozenset({PatientAttributes(wrong, sex="F"), PatientAttributes(right)})},
    )
    left = accepted(study)
    assert left.patient_ids == {"pacs": {right}}
    assert left.patients == {"pacs": {PatientAttributes(right)}}
