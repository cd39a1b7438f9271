"""Tell systemd how the service is: READY, STATUS, WATCHDOG, RELOADING, STOPPING.

References
----------
sd_notify(3), systemd 252: one datagram of ``KEY=value`` lines to ``$NOTIFY_SOCKET``.
"""

import os
import socket
import time
from datetime import timedelta


class SystemdNotifier:
    """Speaks to the service manager, or to nobody where there is none.

    Parameters
    ----------
    address
        Path of the manager's socket; a leading ``@`` means the abstract namespace.
    """

    def __init__(self, address: str | None) -> None:
        self._address = "\0" + address[1:] if address and address.startswith("@") else address

    @classmethod
    def from_environment(cls) -> "SystemdNotifier":
        """Take the address from ``$NOTIFY_SOCKET``."""
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> None:
        """Say that start-up, or a reload, is finished."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        """Say one sentence about what the service does."""
        self._send(f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """Say that the settings are being read again; `ready` ends it."""
        microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send(f"RELOADING=1\nMONOTONIC_USEC={microseconds}")

    def stopping(self) -> None:
        """Say that the service is going down."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """Say that every thread is alive."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
            try:
                channel.sendto(message.encode(), self._address)
            except OSError:
                # The manager's socket is gone or full. Nothing here depends on being heard, and
                # a missed WATCHDOG is exactly what the manager acts on.
                return


def watchdog_interval() -> timedelta | None:
    """Return how often the manager wants to hear from this process, or None.

    Half of ``$WATCHDOG_USEC``, as sd_watchdog_enabled(3) advises.
    """
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID")
    if not microseconds.isdigit() or int(microseconds) == 0:
        return None
    if pid is not None and pid != str(os.getpid()):
        return None
    return timedelta(microseconds=int(microseconds) / 2)


def _line(text: str) -> str:
    return " ".join(text.split())
