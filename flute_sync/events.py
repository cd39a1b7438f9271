"""Names of log events, and the only fields a log line may carry.

A log line is an event name with fields and one sentence. Fields are an allow-list, so that no
patient data can slip into a log by a careless call: `fields` refuses what is not listed.
"""

from enum import StrEnum
from typing import Final


class Event(StrEnum):
    """What happened, in names that monitors may rely on."""

    DAEMON_STARTING = "daemon.starting"
    DAEMON_READY = "daemon.ready"
    DAEMON_RELOADED = "daemon.reloaded"
    DAEMON_STOPPING = "daemon.stopping"
    DAEMON_STOPPED = "daemon.stopped"
    DAEMON_FAILED = "daemon.failed"
    SETTINGS_WARNING = "settings.warning"
    STUDY_RECEIVED = "study.received"
    STUDY_NOTICED = "study.noticed"
    STUDY_SYNCED = "study.synced"
    STUDY_UNCHANGED = "study.unchanged"
    STUDY_ON_HOLD = "study.on_hold"
    STUDY_RETRY = "study.retry"
    STUDY_OUT_OF_SCOPE = "study.out_of_scope"
    STUDY_REPLAYED = "study.replayed"
    STUDY_REMARK = "study.remark"
    UPLOAD_ACCEPTED = "upload.accepted"
    UPLOAD_REFUSED = "upload.refused"
    UPLOAD_INTERRUPTED = "upload.interrupted"
    SOURCE_FAILED = "source.failed"
    SOURCE_RECOVERED = "source.recovered"
    SOURCE_RESET = "source.reset"
    TARGET_PAUSED = "target.paused"
    TARGET_RESUMED = "target.resumed"
    FHIR_DUPLICATE_REMOVED = "fhir.duplicate_removed"
    FHIR_ADOPTED = "fhir.adopted"
    FHIR_ENDPOINT_WRITTEN = "fhir.endpoint_written"
    PATIENT_ARRIVED = "patient.arrived"
    LEDGER_UPGRADED = "ledger.upgraded"
    LEDGER_FAILED = "ledger.failed"
    INTENT_RECOVERED = "intent.recovered"
    HTTP_REFUSED = "http.refused"
    LIBRARY_ERROR = "library.error"


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
