"""What is logged of people at the pages: that, when and what, under a mark instead of a name."""

import hashlib
import hmac
import logging

from flute_sync.daemon.config import Config
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.transport.secret import read_secret

log = logging.getLogger(__name__)


def key_of(config: Config) -> bytes:
    """Return the key of the marks: ``log.key_file``, or else one that follows from the site.

    Raises
    ------
    SecretUnreadable
    """
    if config.log.key_file is not None:
        return read_secret(config.log.key_file).encode()
    return config.identifier_system.encode()


class Audit:
    """Writes the events of the pages.

    Parameters
    ----------
    key
        Makes marks of names, the same for the same name.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def mark(self, name: str) -> str:
        """Return the mark of a name: 12 hexadecimal digits of HMAC-SHA256."""
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()[:12]

    def signed_in(self, name: str) -> None:
        """Somebody signed in."""
        log.info("A person signed in.", extra=fields(Event.CONSOLE_SIGNED_IN, user=self.mark(name)))

    def signed_out(self, name: str) -> None:
        """Somebody signed out."""
        log.info(
            "A person signed out.", extra=fields(Event.CONSOLE_SIGNED_OUT, user=self.mark(name))
        )

    def refused(self, error: FluteSyncError, name: str | None = None) -> None:
        """Somebody was not admitted."""
        user = None if name is None else self.mark(name)
        log.warning(error.sentence, extra=fields(Event.CONSOLE_REFUSED, code=error.code, user=user))

    def failed(self, error: FluteSyncError) -> None:
        """A page, or a picture, could not be shown."""
        log.warning(error.sentence, extra=fields(Event.CONSOLE_FAILED, code=error.code))

    def listed(self, name: str, studies: int) -> None:
        """Somebody looked at a list of studies."""
        extra = fields(Event.CONSOLE_LISTED, user=self.mark(name), studies=studies)
        log.info("A person looked at a list of studies.", extra=extra)

    def looked(self, name: str, study_instance_uid: str | None, resource_id: str) -> None:
        """Somebody looked at a study."""
        extra = fields(
            Event.CONSOLE_LOOKED,
            user=self.mark(name),
            study_instance_uid=study_instance_uid,
            reference=None if study_instance_uid else f"ImagingStudy/{resource_id}",
        )
        log.info("A person looked at a study.", extra=extra)
