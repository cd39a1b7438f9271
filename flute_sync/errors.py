"""The error tree: what can go wrong, whether a retry helps, and what a person should do.

::

    FluteSyncError
    ├── TransientError          try again; the target or the network is at fault
    │   ├── fhir_errors         FhirUnavailable, FhirBusy, FhirConflict, FhirServerError
    │   ├── archive_errors      ArchiveUnavailable, ArchiveServerError, ArchiveStudyAbsent,
    │   │                       ArchiveIncomplete, ArchiveTooSlow, ArchiveQueryRefused
    │   ├── ledger_errors       LedgerUnavailable, LedgerBusy, LeaseLost
    │   ├── upload_errors       UploadInterrupted, UploadTooSlow, TooManyUploads
    │   ├── notice_errors       NoticeTooSlow
    │   ├── dimse_errors        StoreInterrupted, StoreTooSlow
    │   ├── auth_errors         TokenUnavailable
    │   ├── erase_errors        EraseInHand
    │   ├── fetch_errors        InstanceTruncated, AnswerMalformed
    │   ├── console_errors      OpenIdUnavailable
    │   └── command_errors      SpoolFailed, OutputFailed
    ├── PermanentError          this study, or this input, cannot go as it is
    │   ├── dicom_errors        HeaderError: a DICOM header that cannot be read
    │   ├── dimse_errors        ProtocolViolated, InstanceMismatch, SopClassMismatch,
    │   │                       InstanceUidInvalid, DataSetAbsent
    │   ├── patient_errors      IdentityError: which patient is meant is not certain
    │   ├── erase_errors        PatientErased, EraseUnknown, EraseAmbiguous, EraseUnconfirmed,
    │   │                       EraseUnfinished
    │   ├── fhir_errors         MappingError, FhirRejected, FhirAmbiguous,
    │   │                       FhirResultAmbiguous, FhirGone
    │   ├── archive_errors      ArchiveRefused, ArchiveAnswerTooLarge, ArchiveForeignInstance,
    │   │                       ArchiveContextRefused
    │   ├── ledger_errors       StudyUnknown, LedgerRefused
    │   ├── upload_errors       MultipartError, UploadTooLarge, UnsupportedMediaType,
    │   │                       StudyUidMismatch, RequestRefused
    │   ├── notice_errors       NoticeNotJson, NoticeMalformed, NoticeArchiveUnknown,
    │   │                       NoticeTooLarge, NoticeMediaType
    │   ├── fetch_errors        SelectorUnusable, StudyNotRetrievable, WrongInstance,
    │   │                       InstanceAbsent, CountMismatch, InstanceTooLarge, NotRendered
    │   ├── console_errors      SignInRefused, SignInLimited, RoleLacking, FormRefused,
    │   │                       PeerRefused, PageAbsent, SearchRefused, OpenIdRefused
    │   └── command_errors      InputUnreadable, InputMalformed, InputTooLarge, PatientsUnknown,
    │                           DemoFailed
    └── OperatorError           a person must change settings, credentials or the schema
        ├── settings_errors     ConfigurationError, SecretUnreadable, ListenerUnavailable,
        │                       PseudonymKeyUnusable
        ├── auth_errors         TokenRefused
        ├── console_errors      UsersUnusable
        ├── fhir_errors         FhirUnauthorized, FhirCapabilityMissing, FhirInstallRefused,
        │                       FhirInstallClash
        ├── archive_errors      ArchiveUnauthorized, ArchiveCapabilityMissing,
        │                       ArchiveAssociationRejected
        ├── command_errors      LibraryAbsent
        ├── criterion_errors    CriterionUnreadable, CriterionMalformed, CriterionFailed,
        │                       CriterionContradicts, CriterionSlow
        ├── erase_errors        AuditUnwritable
        ├── fetch_errors        EndpointUnknown, FolderUnusable, FolderBusy
        └── ledger_errors       LedgerSchemaError, LedgerTargetChanged, LedgerPseudonymsChanged,
                                LedgerAbsent, LedgerUnauthorized, LedgerCorrupt

Here are the trunk and its branches; the leaves grow in the modules named above, one for each thing
that can fail, and `error_tree.every_error` yields them all.

The first line of a class's docstring is its message, ``hint`` is what the operator should do, and
``code`` never changes once released. ``detail`` must never hold patient data: it is logged.
"""

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
