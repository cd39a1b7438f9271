"""Rejection notes: instances taken back by a Key Object Selection, and the status they leave.

References
----------
IHE RAD TF-3 4.66 "Rejection Note Stored" (IOCM); PS3.16 CID 7011 (2026b); FHIR R4
valueset-imagingstudy-status.html.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from flute_sync.study import (
    Header,
    Instance,
    KeyObjects,
    Reference,
    Series,
    StepStatus,
    Study,
    identity_of,
    may_be_same,
)
from flute_sync.terminology import (
    INCORRECT_MODALITY_WORKLIST_ENTRY,
    KEY_OBJECT_SELECTION,
    REJECTED_FOR_PATIENT_SAFETY,
    REJECTED_FOR_QUALITY,
    RETENTION_EXPIRED,
)

_NEVER_TO_EXIST: Final = frozenset({REJECTED_FOR_PATIENT_SAFETY, INCORRECT_MODALITY_WORKLIST_ENTRY})
_TAKEN_BACK: Final = _NEVER_TO_EXIST | {REJECTED_FOR_QUALITY}
_TITLES: Final = _TAKEN_BACK | {RETENTION_EXPIRED}

_Reasons = Mapping[tuple[str, str], set[str]]


class Status(StrEnum):
    """``ImagingStudy.status``, a closed list."""

    REGISTERED = "registered"
    AVAILABLE = "available"
    CANCELLED = "cancelled"
    ENTERED_IN_ERROR = "entered-in-error"
    UNKNOWN = "unknown"


_WITHDRAWN: Final = frozenset({Status.UNKNOWN, Status.CANCELLED, Status.ENTERED_IN_ERROR})


@dataclass(frozen=True, slots=True)
class Standing:
    """What is left of a study after its rejection notes.

    Parameters
    ----------
    study
        The study without rejection notes and without what they took back.
    rejected, notes
        How many instances were taken back, and how many notes there are.
    retention_expired
        Every instance left was deleted because its time was up: the study took place, but no
        archive gives it any more.
    partly_expired
        Some were.
    reappeared
        Instances were accepted after all that there was had been withdrawn or was gone.
    withheld
        So they were, but the study stays in error: it was a danger to a patient.
    """

    study: Study
    status: Status
    rejected: int = 0
    notes: int = 0
    retention_expired: bool = False
    partly_expired: bool = False
    reappeared: bool = False
    withheld: bool = False


def rejection_title(header: Header) -> str | None:
    """Return the code by which a header takes instances back, or None for any other header."""
    if header.sop_class_uid != KEY_OBJECT_SELECTION or header.key_objects is None:
        return None
    return _title(header.key_objects)


def _title(note: KeyObjects) -> str | None:
    title = note.title
    return title.value if title and title.scheme == "DCM" and title.value in _TITLES else None


def notes_on_others(study: Study) -> tuple[KeyObjects, ...]:
    """Return what a study's rejection notes say of instances of other studies.

    A note belongs into the study of what it takes back, a copy into each where it speaks of
    several (PS3.3 C.17.6.2.1, Identical Documents Sequence, 2026b); not every system sends one.
    """
    found = []
    for header in _notes(study):
        note = header.key_objects
        if note is not None and (elsewhere := _elsewhere(note, study.study_instance_uid)):
            found.append(KeyObjects(note.title, elsewhere))
    return tuple(found)


def _notes(study: Study) -> dict[Header, str]:
    """Return a study's rejection notes; one of a patient of whom nothing else is takes nothing."""
    notes = {header: title for header in study.headers if (title := rejection_title(header))}
    others = {identity_of(header) for header in study.headers if header not in notes}
    return {
        header: title
        for header, title in notes.items()
        if (stated := identity_of(header)) is None
        or not others
        or any(may_be_same(stated, one) for one in others)
    }


def passes_over(study: Study) -> bool:
    """Tell whether it has a rejection note that takes nothing, since it names another patient."""
    return sum(1 for header in study.headers if rejection_title(header)) > len(_notes(study))


def _elsewhere(note: KeyObjects, study_instance_uid: str) -> tuple[Reference, ...]:
    return tuple(one for one in note.references if one.study_instance_uid != study_instance_uid)


def accepted(study: Study) -> Study:
    """Return the study that tells of whom it is: without what was taken back, if anything is left.

    A study that was recorded under a wrong worklist entry may hold the rejected instances of one
    patient beside the corrected ones of another.
    """
    state = standing(study)
    if not (state.rejected and state.study.headers):
        return study
    left = set(map(identity_of, state.study.headers))
    taken_back = set(map(identity_of, study.headers)) - left
    kept = {archive: ids - taken_back for archive, ids in study.patient_ids.items()}
    patients = {
        archive: frozenset(one for one in said if one.id not in taken_back)
        for archive, said in study.patients.items()
    }
    return replace(state.study, patient_ids=kept, patients=patients)


def standing(study: Study, before: str | None = None) -> Standing:
    """Apply rejection notes, a study's own and those in others that name it, and say its status.

    Notes are content like any other: the answer does not depend on when they came. An instance
    is taken back where study, series and SOP Instance UID all agree. Retention expiry takes
    nothing back, since `available` tells of association, not of access. A study whose instances
    are all known under others should never have existed under this UID.

    Parameters
    ----------
    before
        The status that the resource has now. A study that was in error because it was a danger
        to a patient does not come back by itself, as long as the note says so.
    """
    state = _standing(study)
    if state.status is not Status.AVAILABLE or before not in _WITHDRAWN:
        return state
    titles = {*_notes(study).values(), *map(_title, study.notes_elsewhere)}
    if before == Status.ENTERED_IN_ERROR and REJECTED_FOR_PATIENT_SAFETY in titles:
        return replace(state, status=Status.ENTERED_IN_ERROR, withheld=True)
    return replace(state, reappeared=True)


def _standing(study: Study) -> Standing:
    if study.moved:
        return Standing(study, Status.ENTERED_IN_ERROR)
    notes = _notes(study)
    if not notes and not any(map(_title, study.notes_elsewhere)):
        return Standing(study, _status_without_notes(study))
    reasons = _reasons(study, notes)
    accepted = tuple(kept for series in study.series if (kept := _without(series, notes, reasons)))
    left = replace(study, series=accepted)
    note_count = sum(study.headers[header] for header in notes)
    known, left_count = sum(map(_count, study.series)), sum(map(_count, accepted))
    expired = sum(_expired(series, reasons) for series in accepted)
    status = _status(left, left_count, study, notes, reasons)
    return Standing(
        left,
        status,
        rejected=known - left_count - note_count,
        notes=note_count,
        retention_expired=status is Status.AVAILABLE and expired == left_count,
        partly_expired=0 < expired < left_count,
    )


def _reasons(study: Study, notes: Mapping[Header, str]) -> _Reasons:
    reasons: dict[tuple[str, str], set[str]] = {}
    own = [(title, header.key_objects) for header, title in notes.items()]
    others = [(title, note) for note in study.notes_elsewhere if (title := _title(note))]
    for title, note in own + others:
        for reference in note.references if note else ():
            if reference.study_instance_uid == study.study_instance_uid:
                key = (reference.series_instance_uid, reference.sop_instance_uid)
                reasons.setdefault(key, set()).add(title)
    return reasons


def _without(series: Series, notes: Mapping[Header, str], reasons: _Reasons) -> Series | None:
    uid = series.series_instance_uid

    def stays(instance: Instance) -> bool:
        taken_back = reasons.get((uid, instance.sop_instance_uid), set()) & _TAKEN_BACK
        return not taken_back and instance.header not in notes

    if series.is_stated_only:
        named = sum(bool(titles & _TAKEN_BACK) for titles in _of_series(series, reasons))
        return None if 0 < (series.instance_count or 0) <= named else series
    kept = tuple(filter(stays, series.instances))
    gone = len(series.instances) - len(kept)
    if not gone:
        return series
    stated = None if series.instance_count is None else max(series.instance_count - gone, 0)
    return replace(series, instances=kept, instance_count=stated) if kept else None


def _count(series: Series) -> int:
    """Count instances; a series that is only stated has some, unless it says that it has none."""
    if series.is_stated_only:
        return 1 if series.instance_count is None else series.instance_count
    return len(series.instances)


def _of_series(series: Series, reasons: _Reasons) -> list[set[str]]:
    """Return what was said of each instance of a series that anything was said of."""
    uid = series.series_instance_uid
    return [titles for (of_series, _), titles in reasons.items() if of_series == uid]


def _expired(series: Series, reasons: _Reasons) -> int:
    if series.is_stated_only:
        expired = sum(RETENTION_EXPIRED in titles for titles in _of_series(series, reasons))
        return min(expired, _count(series))
    uid = series.series_instance_uid
    return sum(
        RETENTION_EXPIRED in reasons.get((uid, instance.sop_instance_uid), ())
        for instance in series.instances
    )


def _status(
    left: Study, left_count: int, study: Study, notes: Mapping[Header, str], reasons: _Reasons
) -> Status:
    if left_count:
        return Status.UNKNOWN if left.vanished else Status.AVAILABLE
    held = [
        reasons.get((uid, instance.sop_instance_uid), set()) & _TAKEN_BACK
        for uid, instance in study.instances()
        if instance.header not in notes
    ]
    for series in study.series:
        if series.is_stated_only and _count(series):
            held += [titles & _TAKEN_BACK for titles in _of_series(series, reasons)]
    if not held:  # the archive has already deleted what the notes speak of
        said = [*notes.values(), *filter(None, map(_title, study.notes_elsewhere))]
        held = [{title} for title in said]
        if all(titles == {RETENTION_EXPIRED} for titles in held):
            return Status.AVAILABLE
    if all(titles & _NEVER_TO_EXIST for titles in held):
        return Status.ENTERED_IN_ERROR
    return Status.CANCELLED


def _status_without_notes(study: Study) -> Status:
    if study.vanished:
        return Status.UNKNOWN
    if any(map(_count, study.series)) or study.instance_count:
        return Status.AVAILABLE
    # A step that is completed without images has them on their way.
    given_up = {step.status for step in study.steps} == {StepStatus.DISCONTINUED}
    return Status.CANCELLED if given_up else Status.REGISTERED
