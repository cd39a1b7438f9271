"""What can go wrong with the archive."""

from flute_sync.errors import OperatorError, PermanentError, TransientError


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
    hint = "Enable DICOMweb on the archive, or change the sources in the settings."
