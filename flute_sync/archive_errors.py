"""What can go wrong with the archive."""

from flute_sync.errors import OperatorError, PermanentError, TransientError


class ArchiveUnavailable(TransientError):
    """The archive does not answer."""

    code = "ARCHIVE-UNAVAILABLE"
    hint = "Start the archive or mend the network; nothing acknowledged is lost."


class ArchiveTooSlow(ArchiveUnavailable):
    """The archive does not answer a query in time."""

    code = "ARCHIVE-TOO-SLOW"
    hint = "Raise find_scu.answer_timeout; the next poll asks for fewer days at once by itself."


class ArchiveServerError(TransientError):
    """The archive failed on this request, or answered what the standard does not allow."""

    code = "ARCHIVE-SERVER-ERROR"
    hint = "Look into the archive's own log at this time; flute-sync tries again by itself."


class ArchiveQueryRefused(ArchiveServerError):
    """The archive refuses a query, or ends it before its last answer.

    Parameters
    ----------
    status
        The DIMSE status of its answer.
    """

    code = "ARCHIVE-QUERY"
    hint = "Look into the archive's log; if it limits its answers, set find_scu.max_answers."

    def __init__(self, status: int) -> None:
        super().__init__(f"C-FIND status {status:04X}H")
        self.status = status


class ArchiveStudyAbsent(TransientError):
    """The archive does not hold the study it spoke of."""

    code = "ARCHIVE-STUDY-ABSENT"
    hint = "Nothing to do if the study was deleted; otherwise check the archive's permissions."


class ArchiveManyAbsent(OperatorError):
    """The archive misses so many studies at once that none of it is believed."""

    code = "ARCHIVE-MANY-ABSENT"
    hint = "Mend the archive; if they were deleted: `flute-sync removals --confirm ARCHIVE`."


class ArchiveIncomplete(TransientError):
    """The archive shows fewer instances of the study than it accepted."""

    code = "ARCHIVE-INCOMPLETE"
    hint = "Nothing to do: the archive is asked again until it has indexed them."


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


class ArchiveUnauthorized(OperatorError):
    """The archive refuses our credentials."""

    code = "ARCHIVE-UNAUTHORIZED"
    hint = "Renew the credentials in [archive.auth]; work goes on by itself."


class ArchiveCapabilityMissing(OperatorError):
    """The archive lacks a service that the settings use."""

    code = "ARCHIVE-CAPABILITY"
    hint = "Enable DICOMweb, or C-FIND, on the archive, or change the sources in the settings."


class ArchiveContextRefused(PermanentError):
    """The PACS does not take this SOP class in this transfer syntax."""

    code = "ARCHIVE-SOP-CLASS"
    hint = "Let the sender use a transfer syntax that the PACS takes, or enable the class there."
    dimse_status = 0x0122  # SOP class not supported, PS3.7 annex C


class ArchiveAssociationRejected(ArchiveUnauthorized):
    """The PACS rejects our association."""

    code = "ARCHIVE-ASSOCIATION"
    hint = "Compare AE titles and addresses with those that the PACS knows of us."
