"""What can be wrong with a notice that is pushed to the webhook."""

from flute_sync.errors import PermanentError, TransientError


class NoticeTooSlow(TransientError):
    """The pusher took too long to send its notice."""

    code = "NOTICE-TOO-SLOW"
    hint = "Look at the network, or raise webhook.body_timeout."
    http_status = 408


class NoticeNotJson(PermanentError):
    """The body is not JSON."""

    code = "NOTICE-JSON"
    hint = "Send one of the shapes of docs/webhook.md, in UTF-8."
    http_status = 400


class NoticeMalformed(PermanentError):
    """The body tells of no study."""

    code = "NOTICE-MALFORMED"
    hint = "Send one of the shapes of docs/webhook.md."
    http_status = 422


class NoticeArchiveUnknown(PermanentError):
    """The notice is about an archive that the settings do not name."""

    code = "NOTICE-ARCHIVE"
    hint = "Send the name that the archive has in the settings, or none for every archive."
    http_status = 422


class NoticeTooLarge(PermanentError):
    """The notice is larger than the settings allow."""

    code = "NOTICE-TOO-LARGE"
    hint = "Send less at once, or raise webhook.max_body_bytes or webhook.max_notices."
    http_status = 413


class NoticeMediaType(PermanentError):
    """The notice is not labelled as JSON, or it is compressed."""

    code = "NOTICE-MEDIA-TYPE"
    hint = "Send Content-Type: application/json, without Content-Encoding."
    http_status = 415
