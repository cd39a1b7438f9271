"""Real servers as processes of a test: start, know when they can be used, stop."""

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

GUARD = Path(__file__).with_name("guard.py")
LOG_TAIL_CHARACTERS = 3000

PORTS = range(12_000, 32_000)
"""Below those that the system gives to clients and to whoever asks for any: such a port may be
somebody else's while the server that it was chosen for starts, or is down for a while."""
RESERVED = 100
_turns = itertools.count(random.randrange(len(PORTS)))
_reservations: deque[int] = deque()


class ServiceFailedError(Exception):
    """A server that a test needs did not start."""


class Process:
    """A guarded server process, its output in `log`."""

    def __init__(
        self, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                [sys.executable, "-S", str(GUARD), *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        assert self._guard.stdout is not None
        self.pid = int(self._guard.stdout.readline())

    def await_ready(self, ready: Callable[[], bool], within_seconds: float) -> None:
        """Return when `ready` says so.

        Raises
        ------
        ServiceFailedError
            The process ended first, or the time is over; the end of its log is in the text.
        """
        deadline = time.monotonic() + within_seconds
        while not ready():
            if self._guard.poll() is not None:
                raise ServiceFailedError(f"ended at once:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self.stop()
                raise ServiceFailedError(f"not ready in {within_seconds} s:\n{self._log_tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End the server and wait until it is gone."""
        for stream in (self._guard.stdin, self._guard.stdout):
            assert stream is not None
            stream.close()
        self._guard.wait()

    def kill(self) -> None:
        """End the server as a power cut would, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.stop()

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-LOG_TAIL_CHARACTERS:]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that no other test on this machine is given.

    A name in the system's memory, which ends with this process, says that it is ours; the latest
    of them are kept, so that files do not run out.
    """
    while True:
        port = PORTS[next(_turns) % len(PORTS)]
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as name:
            name.bind(f"\0flute-sync-test-port-{port}")
            socket.create_server(("127.0.0.1", port)).close()
            _reservations.append(name.detach())
            if len(_reservations) > RESERVED:
                os.close(_reservations.popleft())
            return port
