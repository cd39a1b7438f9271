"""What can go wrong with a request to us: uploads by STOW-RS, and other HTTP requests."""

from flute_sync.errors import PermanentError, TransientError


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
