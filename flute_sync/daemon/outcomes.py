"""How a step can end, each with the one sentence that log, ledger and status repeat.

A sentence never holds patient data, nor the study's UID: the log may have to hide that.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from flute_sync.archive_errors import ArchiveManyAbsent, ArchiveStudyAbsent
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event
from flute_sync.fhir.imaging_studies import IMAGING_STUDY, Written
from flute_sync.imaging_study import Mapped
from flute_sync.ledger import FhirRow, Settlement
from flute_sync.patient import Subject
from flute_sync.study import Remark, Study
from flute_sync.task import TaskEvent

MOST_REMARKS: Final = 5
MOVES: Final = {
    "witnessed": "with Provenance",
    "unwitnessed": "without Provenance, which the server does not take",
}


def synced(
    study: Study,
    mapped: Mapped,
    written: Written,
    subject: Subject,
    remarks: Sequence[Remark] = (),
    links: int = 0,
) -> Settlement:
    """FHIR now says what the ledger knows; so many clinical variables are linked by us."""
    reference = f"{IMAGING_STUDY}/{written.resource_id}"
    verb = "Adopted" if written.adopted else written.outcome.capitalize()
    series, instances = len(study.series), sum(each.size for each in study.series)
    logical = "" if "reference" in subject.reference else ", subject logical"
    sentence = (
        f"{verb} {reference} version {written.version_id}: {mapped.resource['status']}, "
        f"{series} series, {instances} instances{logical}{_moved(written)}"
        f"{_linked(written, links)}"
        f"{_remarks(mapped, remarks)}."
    )
    unchanged = written.outcome == "unchanged"
    return Settlement(
        event=TaskEvent.SYNC,
        sentence=sentence,
        log_event=Event.STUDY_UNCHANGED if unchanged else Event.STUDY_SYNCED,
        fhir=FhirRow(written.resource_id, written.version_id, written.digest),
        patient_reference=subject.reference.get("reference"),
    )


def _moved(written: Written) -> str:
    if written.moved is None:
        return ""
    return f", moved to another Patient {MOVES[written.moved]}"


def _linked(written: Written, links: int) -> str:
    if not links and written.linked is None:
        return ""
    how = "" if written.linked is None else f" {MOVES[written.linked]}"
    return f", linked to {links} clinical variables{how}"


def _remarks(mapped: Mapped, remarks: Sequence[Remark]) -> str:
    said = [f"{remark.code} {remark.tag}" for remark in remarks]
    said += [f"{remark.code} {remark.tag} x{remark.count}" for remark in mapped.remarks]
    if not said:
        return ""
    more = f" and {len(said) - MOST_REMARKS} more" if len(said) > MOST_REMARKS else ""
    return f"; remarks: {', '.join(said[:MOST_REMARKS])}{more}"


def hold(error: FluteSyncError, waiting_for: str | None = None) -> Settlement:
    """The study cannot go as it is; a Patient with that key may mend it."""
    return Settlement(
        event=TaskEvent.HOLD,
        sentence=error.sentence + ".",
        log_event=Event.STUDY_ON_HOLD,
        code=error.code,
        waiting_for=waiting_for,
    )


def left_out(reason: str, *, prune: bool, waiting_for: str | None = None) -> Settlement:
    """The selection does not want the study; what names a patient goes where it can come again."""
    return Settlement(
        event=TaskEvent.LEAVE_OUT,
        sentence=f"Out of scope: {reason}.",
        log_event=Event.STUDY_OUT_OF_SCOPE,
        prune=prune,
        waiting_for=waiting_for,
    )


def vanishing(
    next_look: datetime, *, doubted: bool = False, written: Settlement | None = None
) -> Settlement:
    """An archive does not find what it held, which is not believed at once.

    Parameters
    ----------
    doubted
        The archive finds too little to be believed at all.
    written
        What was written meanwhile of a study that another archive still holds.
    """
    error = ArchiveManyAbsent() if doubted else ArchiveStudyAbsent()
    again = "it is looked for again before that is believed"
    return Settlement(
        event=TaskEvent.FAIL,
        sentence=f"{error.sentence}; {again}.",
        log_event=Event.STUDY_RETRY,
        code=error.code,
        next_attempt_at=next_look,
        fhir=written.fhir if written is not None else None,
        patient_reference=written.patient_reference if written is not None else None,
        identity=written.identity if written is not None else None,
        keys=written.keys if written is not None else (),
        links=written.links if written is not None else None,
    )


def withdrawn(status: str, written: Written | None, row: FhirRow) -> Settlement:
    """No archive holds the study any more, and FHIR says so.

    Parameters
    ----------
    written
        None where FHIR had said before what became of it, and that stays.
    """
    reference = f"{IMAGING_STUDY}/{row.resource_id}"
    changed = written is not None and written.outcome != "unchanged"
    said = f"version {row.version_id} says {status}" if changed else f"stays {status}"
    return Settlement(
        event=TaskEvent.SYNC,
        sentence=f"No archive holds it any more; {reference} {said}.",
        log_event=Event.STUDY_SYNCED if changed else Event.STUDY_UNCHANGED,
        fhir=row,
    )


def failed(error: FluteSyncError, next_attempt_at: datetime) -> Settlement:
    """A temporary failure of this study alone."""
    return Settlement(
        event=TaskEvent.FAIL,
        sentence=error.sentence + ".",
        log_event=Event.STUDY_RETRY,
        code=error.code,
        next_attempt_at=next_attempt_at,
    )


def handed_back(error: FluteSyncError, until: datetime) -> Settlement:
    """A target is down: no fault of the study, no attempt of its is spent."""
    return Settlement(
        event=TaskEvent.HAND_BACK,
        sentence=error.sentence + ".",
        log_event=Event.STUDY_RETRY,
        code=error.code,
        next_attempt_at=until,
    )


def forgotten() -> Settlement:
    """Nothing is kept of a study that was erased, or is of an erased patient."""
    return Settlement(
        event=TaskEvent.LEAVE_OUT,
        sentence="It is of an erased patient: nothing of it is kept, nor taken again.",
        log_event=Event.STUDY_ERASED,
        erase=True,
    )


def defect(error: Exception) -> Settlement:
    """A defect of ours met this study; it waits, the others go on."""
    return Settlement(
        event=TaskEvent.HOLD,
        sentence=f"{FluteSyncError.message()}: {type(error).__name__}.",
        log_event=Event.STUDY_ON_HOLD,
        code=FluteSyncError.code,
    )
