"""A target that is down pauses all work towards it; it does not burn each study's attempts."""

import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from flute_sync.archive_errors import ArchiveUnauthorized, ArchiveUnavailable
from flute_sync.auth_errors import TokenRefused, TokenUnavailable
from flute_sync.errors import FluteSyncError
from flute_sync.events import Event, fields
from flute_sync.fhir_errors import (
    FhirBusy,
    FhirCapabilityMissing,
    FhirUnauthorized,
    FhirUnavailable,
)
from flute_sync.settings_errors import SecretUnreadable

log = logging.getLogger(__name__)

FIRST = timedelta(seconds=1)
LONGEST = timedelta(seconds=30)
FHIR_PAUSES = (
    FhirUnavailable,
    FhirBusy,
    FhirUnauthorized,
    FhirCapabilityMissing,
    SecretUnreadable,
    TokenRefused,
    TokenUnavailable,
)
ARCHIVE_PAUSES = (ArchiveUnavailable, ArchiveUnauthorized)


class Pause:
    """Whether a target may be asked, and when next.

    Parameters
    ----------
    target
        ``"fhir"`` or the archive's name, for the log.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._failures = 0
        self._since: datetime | None = None
        self._until: datetime | None = None
        self._error: FluteSyncError | None = None

    def remaining(self, now: datetime) -> timedelta:
        """Return how long to wait before asking; zero when the target may be asked."""
        with self._lock:
            if self._since is None or self._until is None:
                return timedelta()
            # A clock that was set back must not prolong a pause.
            return max(self._until - now, timedelta()) if now >= self._since else timedelta()

    def refuse(self, now: datetime) -> None:
        """Spare a target that is known to be down.

        Raises
        ------
        FluteSyncError
            What paused it, while the pause lasts.
        """
        error = self._error
        if error is not None and self.remaining(now):
            raise error.with_traceback(None)  # it is raised often: its trace must not grow

    @property
    def error(self) -> FluteSyncError | None:
        """Why the target is paused, or None while it is well."""
        return self._error

    def begin(self, error: FluteSyncError, now: datetime) -> datetime:
        """Pause the target, twice as long each time; return until when."""
        with self._lock:
            if (
                self._since is not None
                and self._until is not None
                and self._since <= now < self._until
            ):
                return self._until  # several workers met the same outage
            news = self._error is None or self._error.code != error.code
            self._error = error
            self._failures += 1
            self._since = now
            wait = min(FIRST * (1 << min(self._failures - 1, 8)), LONGEST)
            self._until = now + max(wait, error.retry_after or timedelta())
            until = self._until
        if news:
            log.warning(
                error.sentence,
                extra=fields(
                    Event.TARGET_PAUSED, archive=self.target, code=error.code, hint=error.hint
                ),
            )
        return until

    def end(self) -> None:
        """Say that the target answered."""
        if self._error is None:
            return
        with self._lock:
            was, self._error, self._until, self._failures = self._error, None, None, 0
        if was is not None:
            log.info(
                "The target answers again; work goes on.",
                extra=fields(Event.TARGET_RESUMED, archive=self.target),
            )


class ArchivePauses:
    """A pause for each archive: one that is down does not keep us from the others.

    Parameters
    ----------
    archives
        Their names.
    """

    def __init__(self, archives: Iterable[str]) -> None:
        self._pauses = {name: Pause(name) for name in archives}

    def __iter__(self) -> Iterator[Pause]:
        return iter(self._pauses.values())

    @contextmanager
    def asking(self, archive: str) -> Iterator[None]:
        """Ask an archive, unless it is known to be down, and note how it went.

        Raises
        ------
        FluteSyncError
            What paused it, while the pause lasts; or what the archive did now.
        """
        pause = self._pauses[archive]
        pause.refuse(datetime.now(UTC))
        try:
            yield
        except ARCHIVE_PAUSES as error:
            pause.begin(error, datetime.now(UTC))
            raise
        pause.end()

    def until(self, now: datetime) -> datetime:
        """Return when every archive may be asked."""
        return now + max((pause.remaining(now) for pause in self), default=timedelta())
