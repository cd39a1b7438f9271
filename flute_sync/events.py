"""Names of log events, and the only fields a log line may carry.

A log line is an event name with fields and one sentence. Fields are an allow-list, so that no
patient data can slip into a log by a careless call: `fields` refuses what is not listed.
"""

from enum import StrEnum
from typing import Final, Self


class Event(StrEnum):
    """What happened, in names that monitors may rely on, and what each means."""

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Self:
        """Make a member of which the name is the value."""
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member

    DAEMON_STARTING = "daemon.starting", "The service starts."
    DAEMON_READY = "daemon.ready", "The service can take work: ledger and listeners are up."
    DAEMON_RELOADED = "daemon.reloaded", "The settings were read again (SIGHUP)."
    DAEMON_STOPPING = (
        "daemon.stopping",
        "The service was told to stop and finishes what is in hand.",
    )
    DAEMON_STOPPED = "daemon.stopped", "The service has stopped; nothing is in hand."
    DAEMON_FAILED = (
        "daemon.failed",
        "A part of the service died or a defect was met; `error` says where.",
    )
    SETTINGS_WARNING = (
        "settings.warning",
        "A setting is doubtful, or needs a restart to take effect.",
    )
    STUDY_RECEIVED = "study.received", "Instances of a study were recorded."
    STUDY_NOTICED = "study.noticed", "Something was heard of a study; the archive will be read."
    STUDY_SYNCED = "study.synced", "The ImagingStudy was created or updated."
    STUDY_UNCHANGED = (
        "study.unchanged",
        "The ImagingStudy already said what is known; nothing was written.",
    )
    STUDY_ON_HOLD = "study.on_hold", "The study cannot go as it is; `code` says why."
    STUDY_RETRY = "study.retry", "The step failed for a temporary reason and is tried again."
    STUDY_OUT_OF_SCOPE = "study.out_of_scope", "The selection does not want the study."
    STUDY_ERASED = "study.erased", "News of erased studies, or of erased patients, was not taken."
    PATIENT_ERASED = (
        "patient.erased",
        "A patient was erased on request; `studies` of his, `failed` resources remain.",
    )
    PATIENT_ALLOWED = "patient.allowed", "An erased patient is taken again, on request."
    STUDY_REPLAYED = "study.replayed", "A person asked for another attempt."
    LINK_DECIDED = "link.decided", "A person decided on a link, or left it to the rules again."
    STUDY_REMARK = "study.remark", "Something in a header was left out or kept with a doubt."
    UPLOAD_ACCEPTED = (
        "upload.accepted",
        "A STOW-RS upload was answered with success, at least in part.",
    )
    UPLOAD_REFUSED = "upload.refused", "A STOW-RS upload was refused."
    UPLOAD_INTERRUPTED = (
        "upload.interrupted",
        "A STOW-RS upload ended before its answer; what was stored is looked up.",
    )
    ASSOCIATION_ACCEPTED = "association.accepted", "A DICOM association was accepted."
    ASSOCIATION_REJECTED = (
        "association.rejected",
        "A DICOM association was rejected, or its TLS handshake failed; `reason` says why.",
    )
    ASSOCIATION_ABORTED = (
        "association.aborted",
        "A DICOM association ended without a release, or could not be read; `reason` says how.",
    )
    STORE_ACCEPTED = (
        "store.accepted",
        "An association ended that stored instances by C-STORE; its counts.",
    )
    STORE_REFUSED = (
        "store.refused",
        "An instance sent by C-STORE was refused; said once for each reason and association.",
    )
    STORE_INTERRUPTED = (
        "store.interrupted",
        "A sender went away in the middle of an instance; nothing of it was recorded.",
    )
    NOTICE_TAKEN = (
        "notice.taken",
        "A pushed notice was recorded; `studies` of which it tells, `failed` elements of no use.",
    )
    NOTICE_REFUSED = "notice.refused", "A pushed notice was refused; `code` says why."
    COMMITMENT_REPORTED = (
        "commitment.reported",
        "A sender was told which `instances` the archive holds, and how many it does not.",
    )
    COMMITMENT_UNREPORTED = (
        "commitment.unreported",
        "A report on storage commitment could not be delivered.",
    )
    SOURCE_FAILED = "source.failed", "A source cannot be asked; said once until it recovers."
    SOURCE_RECOVERED = "source.recovered", "A source answers again."
    SOURCE_RESET = "source.reset", "A source's feed began anew; it is read from its beginning."
    SWEEP_FINISHED = "sweep.finished", "All that an archive lists was gone through."
    SWEEP_DOUBTFUL = (
        "sweep.doubtful",
        "An archive lists far less than it was known to hold; some removals are looked into.",
    )
    TARGET_PAUSED = "target.paused", "A server is down or refuses us; all work towards it waits."
    ARCHIVE_DOUBTED = (
        "archive.doubted",
        "An archive misses so many studies at once that none is believed to be gone.",
    )
    ARCHIVE_TRUSTED = "archive.trusted", "What an archive misses is believed again."
    TARGET_RESUMED = "target.resumed", "The server answers again."
    FHIR_DUPLICATE_REMOVED = "fhir.duplicate_removed", "A duplicate of our own making was deleted."
    FHIR_ADOPTED = "fhir.adopted", "An existing ImagingStudy of the study was taken over."
    FHIR_ENDPOINT_WRITTEN = (
        "fhir.endpoint_written",
        "An Endpoint was created, or follows a changed address.",
    )
    FHIR_SUBSCRIBED = (
        "fhir.subscribed",
        "Subscriptions were made, renewed or deleted on the FHIR server.",
    )
    PATIENT_ARRIVED = "patient.arrived", "A Patient for whom studies waited has arrived or changed."
    CLINICAL_CHANGED = (
        "clinical.changed",
        "Clinical data arrived, changed or are gone; `studies` of their patients are judged again.",
    )
    LINKS_SWEPT = (
        "links.swept",
        "The links of all patients were judged; `studies` differ, `failed` patients were not read.",
    )
    LINKS_UNREAD = (
        "links.unread",
        "The sweep could not judge the links of `failed` patients; `code` says why.",
    )
    LEDGER_UPGRADED = "ledger.upgraded", "The ledger's schema was migrated."
    LEDGER_FAILED = "ledger.failed", "The ledger cannot be read or written."
    INTENT_RECOVERED = "intent.recovered", "An upload that did not end is looked up in the archive."
    HTTP_REFUSED = "http.refused", "An HTTP request was refused: credentials, size or shape."
    CONSOLE_SIGNED_IN = "console.signed_in", "A person signed in to the console; `user` is a mark."
    CONSOLE_SIGNED_OUT = "console.signed_out", "A person signed out of the console."
    CONSOLE_REFUSED = (
        "console.refused",
        "A person was not admitted to the console's pages; `code` says why.",
    )
    CONSOLE_FAILED = "console.failed", "A page or a picture could not be shown; `code` says why."
    CONSOLE_LISTED = "console.listed", "A person looked at a list of so many studies."
    CONSOLE_LOOKED = "console.looked", "A person looked at the page of a study."
    LIBRARY_ERROR = "library.error", "A library reported an error; `error` says where."


FIELDS: Final = frozenset(
    {
        "study_instance_uid",
        "archive",
        "source",
        "code",
        "hint",
        "state",
        "reference",
        "version",
        "generation",
        "attempt",
        "next_attempt_at",
        "retry_after_seconds",
        "duration_seconds",
        "series",
        "instances",
        "studies",
        "parts",
        "failed",
        "bytes",
        "status",
        "requests",
        "lag_seconds",
        "setting",
        "listener",
        "worker",
        "signal",
        "error",
        "revision",
        "tag",
        "resource_type",
        "calling_ae_title",
        "reason",
        "user",
    }
)


def fields(event: Event, **values: object) -> dict[str, object]:
    """Return the ``extra`` of a log call: the event's name and its fields.

    Raises
    ------
    ValueError
        When a field is not on the allow-list.
    """
    unknown = values.keys() - FIELDS
    if unknown:
        raise ValueError(f"log fields not on the allow-list: {sorted(unknown)}")
    return {"event": event.value, "fields": values}
