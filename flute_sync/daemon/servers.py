"""All that listens, as one: HTTP and DICOM associations."""

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from flute_sync.daemon.config import Config
from flute_sync.daemon.http_server import HttpServer
from flute_sync.daemon.stats import Stats
from flute_sync.intake import Intake

if TYPE_CHECKING:
    from flute_sync.daemon.associations import Associations


class Servers:
    """Starts and ends them together.

    Parameters
    ----------
    dimse
        None where no associations are taken.
    """

    def __init__(self, http: HttpServer, dimse: "Associations | None") -> None:
        self._http = http
        self._dimse = dimse

    def start(self) -> None:
        """Return when all take work.

        Raises
        ------
        ListenerUnavailable
            When an address cannot be taken.
        SecretUnreadable
            When a certificate or its key cannot be used.
        """
        if self._dimse is not None:
            self._dimse.start()
        self._http.start()

    def alive(self) -> bool:
        """Tell whether all run."""
        return self._http.alive() and (self._dimse is None or self._dimse.alive())

    def reload(self) -> None:
        """Read the certificates again.

        Raises
        ------
        SecretUnreadable
            When one cannot be used; the old one stays.
        """
        self._http.reload()
        if self._dimse is not None:
            self._dimse.reload()

    def stop(self, grace: timedelta) -> None:
        """Let what is in hand finish for a while, in all at once."""
        if self._dimse is None:
            self._http.stop(grace)
            return
        ending = threading.Thread(target=self._dimse.stop, args=(grace,), daemon=True)
        ending.start()
        self._http.stop(grace)
        ending.join()


def associations(config: Config, intake: Intake, stats: Stats) -> "Associations | None":
    """Make the listener for what comes by DIMSE, where the settings want one."""
    if not config.store_scp.enabled:
        return None
    # Few sites need DIMSE, and what it is made of takes a quarter of a start.
    from flute_sync.daemon.associations import Associations  # noqa: PLC0415

    return Associations(config, intake, stats)
