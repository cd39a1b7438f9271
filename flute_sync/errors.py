"""The error tree: what can go wrong, whether a retry helps, and what a person should do.

::

    FluteSyncError
    ├── TransientError          try again; the target or the network is at fault
    │   ├── FhirUnavailable, FhirBusy, FhirConflict
    │   ├── ArchiveUnavailable, ArchiveIncomplete, TokenUnavailable
    │   └── LedgerUnavailable, LedgerBusy, UploadInterrupted, UploadTooSlow, TooManyUploads
    ├── PermanentError          this study, or this input, cannot go as it is
    │   ├── HeaderError         a DICOM header that cannot be read
    │   ├── MultipartError, UploadTooLarge, UnsupportedMediaType, StudyUidMismatch
    │   ├── RequestRefused      an HTTP request that is not answered
    │   ├── ArchiveRefused, ArchiveAnswerTooLarge, ArchiveForeignInstance
    │   ├── IdentityError       which patient is meant is not certain
    │   ├── MappingError        the study cannot be said in FHIR
    │   └── FhirRejected, FhirAmbiguous, FhirGone
    └── OperatorError           a person must change settings, credentials or the schema
        ├── ConfigurationError, SecretUnreadable, TokenRefused
        ├── LedgerSchemaError, LedgerTargetChanged, LedgerCorrupt, LedgerAbsent
        ├── LedgerUnauthorized
        └── FhirUnauthorized, FhirCapabilityMissing, ArchiveUnauthorized, ListenerUnavailable

The first line of a class's docstring is its message, ``hint`` is what the operator should do, and
``code`` never changes once released. ``detail`` must never hold patient data: it is logged.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import ClassVar

EXIT_OK = 0
EXIT_TRANSIENT = 69  # sysexits EX_UNAVAILABLE: a service is unreachable
EXIT_DATA = 65  # EX_DATAERR: the input cannot be used
EXIT_SOFTWARE = 70  # EX_SOFTWARE: a defect of ours
EXIT_CONFIG = 78  # EX_CONFIG: a person must change something


class FluteSyncError(Exception):
    """An error of flute-sync.

    Parameters
    ----------
    detail
        What exactly, without patient data; shown after the message.
    study_instance_uid
        The study concerned, where one is.
    retry_after
        What the peer asked us to wait, where it did.
    """

    code: ClassVar[str] = "FLUTE-0"
    hint: ClassVar[str] = "Report this with the log lines around it."
    http_status: ClassVar[int] = 500
    dimse_status: ClassVar[int] = 0x0110  # Processing failure, PS3.7 C.5.1
    exit_code: ClassVar[int] = EXIT_SOFTWARE

    def __init__(
        self,
        detail: str = "",
        *,
        study_instance_uid: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        self.detail = detail
        self.study_instance_uid = study_instance_uid
        self.retry_after = retry_after
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """One sentence for log, ledger and status: the message and the detail."""
        message = self.message()
        return f"{message}: {self.detail}" if self.detail else message

    @classmethod
    def message(cls) -> str:
        """The first line of the class's docstring, without its full stop."""
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")


class TransientError(FluteSyncError):
    """A temporary failure; it is tried again."""

    code = "FLUTE-1"
    hint = "Nothing to do: flute-sync tries again by itself."
    http_status = 503
    dimse_status = 0xA700  # Refused: out of resources, PS3.4 B.2.3
    exit_code = EXIT_TRANSIENT


class PermanentError(FluteSyncError):
    """A failure that a retry does not mend."""

    code = "FLUTE-2"
    hint = "Correct the source and run `flute-sync retry UID`."
    http_status = 409
    dimse_status = 0xC000  # Error: cannot understand, PS3.4 B.2.3
    exit_code = EXIT_DATA


class OperatorError(FluteSyncError):
    """A failure that needs a person."""

    code = "FLUTE-3"
    hint = "Run `flute-sync check` and follow its hints."
    http_status = 503
    dimse_status = 0xA700
    exit_code = EXIT_CONFIG


# -- transient -------------------------------------------------------------------------------


class FhirUnavailable(TransientError):
    """The FHIR server does not answer."""

    code = "FHIR-UNAVAILABLE"
    hint = "Start the FHIR server or mend the network; all studies wait and go on by themselves."


class FhirBusy(TransientError):
    """The FHIR server asks to come back later."""

    code = "FHIR-BUSY"


class FhirConflict(TransientError):
    """The resource was changed by somebody else in the same moment."""

    code = "FHIR-CONFLICT"


class FhirServerError(TransientError):
    """The FHIR server failed on this request."""

    code = "FHIR-SERVER-ERROR"
    hint = "Look into the FHIR server's own log at this time; flute-sync tries again by itself."


class ArchiveUnavailable(TransientError):
    """The archive does not answer."""

    code = "ARCHIVE-UNAVAILABLE"
    hint = "Start the archive or mend the network; nothing acknowledged is lost."


class ArchiveServerError(TransientError):
    """The archive failed on this request, or answered what the standard does not allow."""

    code = "ARCHIVE-SERVER-ERROR"
    hint = "Look into the archive's own log at this time; flute-sync tries again by itself."


class ArchiveStudyAbsent(TransientError):
    """The archive does not hold the study it spoke of."""

    code = "ARCHIVE-STUDY-ABSENT"
    hint = "Nothing to do if the study was deleted; otherwise check the archive's permissions."


class TokenUnavailable(TransientError):
    """The token server does not answer."""

    code = "AUTH-UNAVAILABLE"
    hint = "Start the token server or mend the network; work goes on by itself."


class ArchiveIncomplete(TransientError):
    """The archive shows fewer instances of the study than it accepted."""

    code = "ARCHIVE-INCOMPLETE"
    hint = "Nothing to do: the archive is asked again until it has indexed them."


class LedgerUnavailable(TransientError):
    """The ledger cannot be written."""

    code = "LEDGER-UNAVAILABLE"
    hint = "Free disk space or start the database; senders get 503 meanwhile and lose nothing."


class LedgerBusy(TransientError):
    """The ledger is locked by another process."""

    code = "LEDGER-BUSY"


class LeaseLost(TransientError):
    """Another worker took the study over, or it changed during the step."""

    code = "LEDGER-LEASE-LOST"


class UploadInterrupted(TransientError):
    """The sender went away before its upload ended."""

    code = "STOW-INTERRUPTED"
    hint = "Look at the sender and the network between; what the archive stored is picked up."


class UploadTooSlow(TransientError):
    """The sender took too long."""

    code = "STOW-TOO-SLOW"
    hint = "Look at the network, or raise stow_rs.idle_timeout or stow_rs.longest_upload."
    http_status = 408


class TooManyUploads(TransientError):
    """More uploads at once than the settings allow."""

    code = "STOW-BUSY"
    hint = "The sender should come back later; raise stow_rs.max_uploads if the machine allows."


# -- permanent -------------------------------------------------------------------------------


class HeaderError(PermanentError):
    """The DICOM header cannot be read.

    Parameters
    ----------
    tag
        The data element at fault, as ``"(gggg,eeee)"``.
    sop_class_uid, sop_instance_uid
        The instance concerned, where the header said it before the fault.
    """

    code = "DICOM-UNREADABLE"
    hint = "Send the object again; if it stays so, the sender writes illegal DICOM."
    http_status = 409

    def __init__(
        self,
        detail: str = "",
        *,
        tag: str | None = None,
        study_instance_uid: str | None = None,
        sop_class_uid: str | None = None,
        sop_instance_uid: str | None = None,
    ) -> None:
        self.tag = tag
        self.sop_class_uid = sop_class_uid
        self.sop_instance_uid = sop_instance_uid
        stated = " ".join(part for part in (tag, detail) if part)
        super().__init__(stated, study_instance_uid=study_instance_uid)


class HeaderUidMissing(HeaderError):
    """The DICOM header lacks a UID without which the object cannot be placed."""

    code = "DICOM-UID-MISSING"


class HeaderUidInvalid(HeaderError):
    """The DICOM header has a UID that no DICOMweb address can carry."""

    code = "DICOM-UID-INVALID"


class HeaderTruncated(HeaderError):
    """The DICOM header ends in the middle of an element."""

    code = "DICOM-TRUNCATED"
    hint = "Send the object again; it was cut off on its way or on the sender's disk."


class HeaderTooLarge(HeaderError):
    """The DICOM header is larger than the settings allow."""

    code = "DICOM-HEADER-TOO-LARGE"


class MultipartError(PermanentError):
    """The body is not the multipart/related that its Content-Type says."""

    code = "STOW-MULTIPART"
    hint = "Mend the sender: PS3.18 10.5 asks for multipart/related with type and boundary."
    http_status = 400


class UploadTooLarge(PermanentError):
    """The upload is larger than the settings allow."""

    code = "STOW-TOO-LARGE"
    hint = "Send less at once, or raise stow_rs.max_request_bytes or stow_rs.max_part_bytes."
    http_status = 413


class UnsupportedMediaType(PermanentError):
    """The media type is not one this service takes."""

    code = "STOW-MEDIA-TYPE"
    hint = 'Send multipart/related; type="application/dicom".'
    http_status = 415


class StudyUidMismatch(PermanentError):
    """The instance belongs to another study than the one it was sent to."""

    code = "STOW-STUDY-MISMATCH"
    hint = "Send it to its own study, or to /studies without a UID."
    dimse_status = 0x0110  # Processing failure, PS3.18 I.2.2


class RequestRefused(PermanentError):
    """The request is not one this service answers."""

    code = "HTTP-REFUSED"
    hint = "docs/conformance.md lists what is answered."
    http_status = 400

    def __init__(self, detail: str = "", *, status: int = 400) -> None:
        super().__init__(detail)
        self.status = status


class ArchiveRefused(PermanentError):
    """The archive refuses the request.

    Parameters
    ----------
    status
        The HTTP status of its answer.
    """

    code = "ARCHIVE-REFUSED"
    hint = "Compare the archive's DICOMweb conformance statement with docs/archives.md."

    def __init__(
        self, detail: str = "", *, status: int = 400, study_instance_uid: str | None = None
    ) -> None:
        super().__init__(detail, study_instance_uid=study_instance_uid)
        self.status = status


class ArchiveAnswerTooLarge(PermanentError):
    """The archive's answer is larger than the settings allow."""

    code = "ARCHIVE-TOO-LARGE"
    hint = "Raise archive.max_answer_bytes or archive.max_instance_bytes if the study is real."


class ArchiveForeignInstance(PermanentError):
    """The archive returned instances of a study that was not asked for; they were left out."""

    code = "ARCHIVE-FOREIGN-INSTANCE"
    hint = "Report it to the archive's vendor: flute-sync never mixes studies."


class IdentityError(PermanentError):
    """Which patient is meant is not certain."""

    code = "PATIENT-UNCERTAIN"
    hint = "Correct the patient identifiers in the archive, then `flute-sync retry UID`."


class PatientIdMissing(IdentityError):
    """The study has no Patient ID."""

    code = "PATIENT-ID-MISSING"


class PatientIdUnusable(IdentityError):
    """A Patient ID, or who gave it out, is stated in a way that cannot be read."""

    code = "PATIENT-ID-UNUSABLE"
    hint = "Correct (0010,0020), (0010,0021) or (0010,0024) in the archive: one value, legal text."


class PatientIssuerUnknown(IdentityError):
    """The issuer of the Patient ID is not in patient.systems."""

    code = "PATIENT-ISSUER-UNKNOWN"
    hint = "Add the issuer to patient.systems; a foreign number must never match a local one."


class PatientSystemUnknown(IdentityError):
    """The Patient ID names no issuer and no patient.default_system is set."""

    code = "PATIENT-SYSTEM-UNKNOWN"
    hint = "Set patient.default_system to the identifier system of this archive."


class PatientConflict(IdentityError):
    """The instances of the study name more than one patient."""

    code = "PATIENT-CONFLICT"
    hint = "Correct the study in the archive; flute-sync never guesses which patient is right."


class PatientAbsent(IdentityError):
    """The FHIR server does not hold the patient yet."""

    code = "PATIENT-ABSENT"
    hint = "Create the Patient with this identifier; the study goes on by itself then."


class PatientAmbiguous(IdentityError):
    """More than one Patient has the identifier."""

    code = "PATIENT-AMBIGUOUS"
    hint = "Merge the Patients on the FHIR server (link replaced-by)."


class PatientContradicted(IdentityError):
    """Birth date or sex of the study and of the Patient contradict each other."""

    code = "PATIENT-CONTRADICTED"
    hint = "Find out which side is wrong and correct it there, then `flute-sync retry UID`."


class PatientInactive(IdentityError):
    """The Patient is inactive and no survivor can be reached."""

    code = "PATIENT-INACTIVE"
    hint = "Repair the Patient's replaced-by link on the FHIR server."


class PatientChanged(IdentityError):
    """The archive now names another patient for a study that is already in FHIR."""

    code = "PATIENT-CHANGED"
    hint = "Confirm the correction in the archive, then `flute-sync retry UID`."


class MappingError(PermanentError):
    """The study cannot be said as an ImagingStudyFlute."""

    code = "MAPPING-INVALID"
    hint = "Report this with the study's UID: nothing invalid was sent."


class FhirRejected(PermanentError):
    """The FHIR server refuses the resource."""

    code = "FHIR-REJECTED"
    hint = "Look into the FHIR server's log for the reason, then `flute-sync retry UID`."


class FhirAmbiguous(PermanentError):
    """The FHIR server holds more than one ImagingStudy of this study."""

    code = "FHIR-AMBIGUOUS"
    hint = "Remove the surplus ImagingStudy on the FHIR server, then `flute-sync retry UID`."


class FhirGone(PermanentError):
    """The resource was deleted on the FHIR server."""

    code = "FHIR-GONE"
    hint = "If the deletion was a mistake, `flute-sync retry UID` creates it anew."


class StudyUnknown(PermanentError):
    """The ledger does not know this study."""

    code = "STUDY-UNKNOWN"
    hint = "Check the UID; `flute-sync status` shows what is known."


class LedgerRefused(PermanentError):
    """The ledger refuses what cannot be."""

    code = "LEDGER-REFUSED"
    hint = "Report this with the study's UID: the values contradict what the ledger holds."


class InputUnreadable(PermanentError):
    """The input cannot be read."""

    code = "INPUT-UNREADABLE"
    hint = "Check the path and its permissions."


class DemoFailed(PermanentError):
    """The demo did not come to its end."""

    code = "DEMO-FAILED"
    hint = (
        "`flute-sync check` tells whether servers answer; its log says what went wrong."
    )
    exit_code = EXIT_SOFTWARE


# -- needs a person --------------------------------------------------------------------------


class ConfigurationError(OperatorError):
    """The settings are not valid."""

    code = "CONFIG-INVALID"
    hint = "Correct the setting named; docs/settings.md lists all of them."


class SecretUnreadable(OperatorError):
    """A secret cannot be read."""

    code = "CONFIG-SECRET"
    hint = "Name an absolute file readable by the service, or credential:NAME with LoadCredential."


class TokenRefused(OperatorError):
    """The token server refuses us."""

    code = "AUTH-REFUSED"
    hint = "Check client_id, secret or key, kid and scope with the token server's administrator."


class ListenerUnavailable(OperatorError):
    """An address to listen on cannot be taken."""

    code = "CONFIG-LISTENER"
    hint = "Another program uses the port, or the host is not one of this machine's."


class LedgerSchemaError(OperatorError):
    """The ledger has another schema revision than this version needs."""

    code = "LEDGER-SCHEMA"
    hint = "Stop the service and run `flute-sync ledger upgrade`."


class LedgerTargetChanged(OperatorError):
    """The ledger was written for another FHIR server."""

    code = "LEDGER-TARGET"
    hint = "Restore fhir.base_url, or start a new ledger for the new server."


class LedgerAbsent(OperatorError):
    """There is no ledger yet."""

    code = "LEDGER-ABSENT"
    hint = "`flute-sync run` and `flute-sync import` create it; check ledger.url otherwise."


class LedgerUnauthorized(OperatorError):
    """The ledger's database refuses our credentials or rights."""

    code = "LEDGER-UNAUTHORIZED"
    hint = "Correct user and ledger.password_file, and let the user own the database."


class LedgerCorrupt(OperatorError):
    """The ledger's database is damaged or not a ledger."""

    code = "LEDGER-CORRUPT"
    hint = "Restore the ledger from backup, or set it aside and import the archive anew."


class FhirUnauthorized(OperatorError):
    """The FHIR server refuses our credentials."""

    code = "FHIR-UNAUTHORIZED"
    hint = "Renew the credentials in [fhir.auth]; work goes on by itself."


class FhirCapabilityMissing(OperatorError):
    """The FHIR server lacks what flute-sync needs."""

    code = "FHIR-CAPABILITY"
    hint = "Use a FHIR R4 (4.0.1) server with create, update, search and transaction."


class ArchiveUnauthorized(OperatorError):
    """The archive refuses our credentials."""

    code = "ARCHIVE-UNAUTHORIZED"
    hint = "Renew the credentials in [archive.auth]; work goes on by itself."


class ArchiveCapabilityMissing(OperatorError):
    """The archive lacks a service that the settings use."""

    code = "ARCHIVE-CAPABILITY"
    hint = "Enable DICOMweb on the archive, or change the sources in the settings."


def every_error() -> Iterator[type[FluteSyncError]]:
    """Yield each class of the tree once, parents before children."""
    pending: list[type[FluteSyncError]] = [FluteSyncError]
    while pending:
        error = pending.pop(0)
        yield error
        pending.extend(error.__subclasses__())
